"""Circular and hyperbolic functions and their inverses; polynomials are for float32."""

import triton
import triton.language as tl

from .arithmetic import bits_of, copysign, isinf, sqrt
from .exponentials import exp, expm1, log1p


@triton.jit
def sin(x):
    return tl.sin(x)


@triton.jit
def cos(x):
    return tl.cos(x)


@triton.jit
def tan(x):
    return tl.where(x == 0.0, x, tl.sin(x) / tl.cos(x))


@triton.jit
def sinc(x):
    t = x * 3.141592653589793
    return tl.where(x == 0.0, 1.0, tl.sin(t) / t)


@triton.jit
def atan_reduced(t):  # up to 1
    z = t * t
    p = tl.fma(z, 0.00289678201, -0.0162714031)
    p = tl.fma(z, p, 0.0430533662)
    p = tl.fma(z, p, -0.0753864646)
    p = tl.fma(z, p, 0.106595658)
    p = tl.fma(z, p, -0.142093986)
    p = tl.fma(z, p, 0.19993566)
    p = tl.fma(z, p, -0.333331436)
    return tl.fma(z * t, p, t)


@triton.jit
def atan(x):
    a = tl.abs(x)
    r = atan_reduced(tl.where(a > 1.0, 1.0 / a, a))
    return copysign(tl.where(a > 1.0, 1.57079637 + (-4.37113883e-8 - r), r), x)


@triton.jit
def atan2(y, x):
    a, b = tl.abs(x), tl.abs(y)
    low, high = tl.where(a < b, a, b), tl.where(a < b, b, a)
    t = tl.where(high == 0.0, 0.0, tl.where(low == float("inf"), 1.0, low / high))
    r = atan_reduced(t)
    r = tl.where(b > a, 1.57079637 + (-4.37113883e-8 - r), r)
    r = tl.where(bits_of(x) < 0, 3.14159274 + (-8.74227766e-8 - r), r)
    return copysign(tl.where((x != x) | (y != y), float("nan"), r), y)


@triton.jit
def asin_tail(t, z):  # t = sqrt(z) up to 1/2: asin(t) - t
    p = tl.fma(z, 0.0421625003, 0.0241787955)
    p = tl.fma(z, p, 0.0454714522)
    p = tl.fma(z, p, 0.0749527663)
    p = tl.fma(z, p, 0.166667536)
    return z * t * p


@triton.jit
def asin(x):
    a = tl.abs(x)
    z = tl.where(a > 0.5, (1.0 - a) * 0.5, a * a)
    t = tl.where(a > 0.5, sqrt(z), a)
    tail = asin_tail(t, z)
    outer = 1.57079637 - (2.0 * t - (-4.37113883e-8 - 2.0 * tail))
    return copysign(tl.where(a > 0.5, outer, t + tail), x)


@triton.jit
def acos(x):
    a = tl.abs(x)
    z = tl.where(a > 0.5, (1.0 - a) * 0.5, a * a)
    t = tl.where(a > 0.5, sqrt(z), a)
    tail = asin_tail(t, z)
    outer = 2.0 * (t + tail)
    inner = 1.57079637 - (copysign(t, x) - (-4.37113883e-8 - copysign(tail, x)))
    return tl.where(a > 0.5, tl.where(x > 0.0, outer, 3.14159274 + (-8.74227766e-8 - outer)), inner)


@triton.jit
def sinh(x):
    a = tl.abs(x)
    e = exp(a * 0.5)
    t = expm1(a)
    return copysign(tl.where(a < 1.0, 0.5 * (t + t / (t + 1.0)), (0.5 * e) * e - 0.5 / e / e), x)


@triton.jit
def cosh(x):
    e = exp(tl.abs(x) * 0.5)
    return (0.5 * e) * e + 0.5 / e / e


@triton.jit
def tanh(x):
    a = tl.abs(x)
    if x.dtype == tl.float64:
        t = expm1(2.0 * tl.minimum(a, 30.0))
        y = t / (t + 2.0)
    else:
        z = a * a
        p = tl.fma(z, 0.0032861, -0.01990838)
        p = tl.fma(z, p, 0.05361454)
        p = tl.fma(z, p, -0.1333003)
        p = tl.fma(z, p, 0.33333316)
        small = a - z * a * p
        y = tl.where(a < 0.625, small, 1.0 - 2.0 / (exp(2.0 * tl.minimum(a, 30.0)) + 1.0))
    return tl.where(x != x, x, copysign(y, x))


@triton.jit
def asinh(x):
    a = tl.abs(x.to(tl.float64))
    y = log1p(a + a * a / (1.0 + tl.sqrt(a * a + 1.0)))
    return copysign(tl.where(isinf(a), a, y).to(x.dtype), x)


@triton.jit
def acosh(x):
    t = x.to(tl.float64) - 1.0
    return tl.where(isinf(x) & (x > 0.0), x, log1p(t + tl.sqrt(2.0 * t + t * t)).to(x.dtype))


@triton.jit
def atanh(x):
    a = tl.abs(x.to(tl.float64))
    return copysign((0.5 * log1p(2.0 * a / (1.0 - a))).to(x.dtype), x)
