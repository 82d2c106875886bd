"""Activation functions."""

import triton
import triton.language as tl

from .arithmetic import clamp, minimum
from .circular import tanh
from .exponentials import exp, expm1, log, log1p
from .special import erf


@triton.jit
def sigmoid(x):
    e = exp(-tl.abs(x))
    return tl.where(x < 0.0, e, 1.0) / (1.0 + e)


@triton.jit
def logit(x):
    return log(x / (1.0 - x))


@triton.jit
def logsigmoid(x):
    return minimum(x, 0.0) - log1p(exp(-tl.abs(x)))


@triton.jit
def softplus(x, beta, threshold):
    return tl.where(x * beta > threshold, x, log1p(exp(x * beta)) / beta)


@triton.jit
def relu(x):
    return tl.where(x < 0.0, 0.0, x)


@triton.jit
def leaky_relu(x, slope):
    return tl.where(x > 0.0, x, x * slope)


@triton.jit
def elu(x, alpha):
    return tl.where(x <= 0.0, alpha * expm1(x), x)


@triton.jit
def celu(x, alpha):
    return tl.where(x <= 0.0, alpha * expm1(x / alpha), x)


@triton.jit
def selu(x):
    return 1.0507009873554805 * tl.where(x <= 0.0, 1.6732632423543772 * expm1(x), x)


@triton.jit
def gelu(x):
    return x * 0.5 * (1.0 + erf(x * 0.7071067811865476))


@triton.jit
def gelu_tanh(x):
    inner = 0.7978845608028654 * (x + 0.044715 * (x * x * x))
    return 0.5 * x * (1.0 + tanh(inner))


@triton.jit
def silu(x):
    return x / (1.0 + exp(-x))


@triton.jit
def mish(x):
    return x * tanh(softplus(x, 1.0, 20.0))


@triton.jit
def hardtanh(x, low, high):
    return clamp(x, low, high)


@triton.jit
def hardswish(x):
    return x * clamp(x + 3.0, 0.0, 6.0) / 6.0


@triton.jit
def hardsigmoid(x):
    return clamp(x + 3.0, 0.0, 6.0) / 6.0


@triton.jit
def softshrink(x, least):
    return tl.where(x != x, x, tl.where(x > least, x - least, tl.where(x < -least, x + least, 0.0)))


@triton.jit
def hardshrink(x, least):
    return tl.where((x >= -least) & (x <= least), 0.0, x)


@triton.jit
def threshold(x, level, value):
    return tl.where(x <= level, value, x)
