"""Special functions, which few maps use: computed in float64 and rounded to float32."""

import triton
import triton.language as tl

from .arithmetic import copysign, isinf, round
from .exponentials import log1p


@triton.jit
def erf(x):
    return tl.erf(x)


@triton.jit
def erfc(x):  # from 2 on, a continued fraction
    a = tl.abs(x.to(tl.float64))
    far = tl.maximum(a, 2.0)
    fraction = far
    for i in tl.static_range(40, 0, -1):
        fraction = far + 0.5 * i / fraction
    tail = tl.exp(-far * far) * 0.5641895835477563 / fraction
    y = tl.where(a < 2.0, 1.0 - tl.erf(a), tail)
    y = tl.where(x < 0.0, 2.0 - y, y)
    return tl.where(x != x, x, y.to(x.dtype))


@triton.jit
def erfinv(x):  # a first guess (Winitzki), then Newton's steps on erf
    a = x.to(tl.float64)
    u = log1p(-a * a)
    v = 4.330746750799873 + u * 0.5
    y = tl.sqrt(tl.sqrt(v * v - u * 6.802721088435375) - v)
    y = tl.where(a < 0.0, -y, y)
    for _ in tl.static_range(3):
        error = tl.erf(y) - a
        step = error / (1.1283791670955126 * tl.exp(-y * y))
        y = tl.where(error == 0.0, y, y - step / (1.0 + y * step))
    y = tl.where(tl.abs(a) == 1.0, a * float("inf"), tl.where(tl.abs(a) < 1.0, y, float("nan")))
    return tl.where(x == 0.0, x, y.to(x.dtype))


@triton.jit
def log_gamma_of(x):  # x > 0: Stirling's series from 10 on, the recurrence below
    product = x * 0.0 + 1.0
    for _ in tl.static_range(10):
        product = tl.where(x < 10.0, product * x, product)
        x = tl.where(x < 10.0, x + 1.0, x)
    z = 1.0 / (x * x)
    series = (1.0 / 12 - z * (1.0 / 360 - z * (1.0 / 1260 - z * (1.0 / 1680 - z / 1188)))) / x
    y = (x - 0.5) * tl.log(x) - x + 0.9189385332046727 + series - tl.log(product)
    return tl.where(x == float("inf"), x, y)


@triton.jit
def lgamma(x):
    a = x.to(tl.float64)
    below = a < 0.5
    y = log_gamma_of(tl.where(below, 1.0 - a, a))
    around = a - tl.floor(a)
    y = tl.where(below, 1.1447298858494002 - tl.log(tl.abs(tl.sin(3.141592653589793 * around))) - y, y)
    y = tl.where((a <= 0.0) & (around == 0.0), float("inf"), y)
    return tl.where(isinf(a), float("inf"), y).to(x.dtype)


@triton.jit
def digamma(x):
    a = x.to(tl.float64)
    below = a < 0.5
    z = tl.where(below, 1.0 - a, a)
    y = a * 0.0
    for _ in tl.static_range(10):
        y = tl.where(z < 10.0, y - 1.0 / z, y)
        z = tl.where(z < 10.0, z + 1.0, z)
    w = 1.0 / (z * z)
    y = tl.where(z == float("inf"), z, y + tl.log(z) - 0.5 / z
                 - w * (1.0 / 12 - w * (1.0 / 120 - w * (1.0 / 252 - w * (1.0 / 240 - w / 132)))))  # fmt: skip
    around = (a - tl.floor(a)) * 3.141592653589793
    y = tl.where(below, y - 3.141592653589793 * tl.cos(around) / tl.sin(around), y)
    y = tl.where((a < 0.0) & (a == tl.floor(a)), float("nan"), y)
    return tl.where(a == 0.0, copysign(a * 0.0 + float("inf"), -a), y).to(x.dtype)


@triton.jit
def polygamma(n, x):  # n >= 1 and whole: a sum of powers, and Euler and Maclaurin's for its tail
    a = x.to(tl.float64)
    s = n + 1.0
    total, z = a * 0.0, a
    for _ in tl.static_range(16):
        total += tl.exp2(-s * tl.log2(z))
        z += 1.0
    power = tl.exp2(-n * tl.log2(z))
    w = 1.0 / (z * z)
    series = s / 12.0 * w * (1.0 - (s + 1.0) * (s + 2.0) / 60.0 * w * (1.0 - (s + 3.0) * (s + 4.0) / 42.0 * w))
    total += power * (1.0 / n + 0.5 / z + series)
    factorial = tl.exp2(1.4426950408889634 * log_gamma_of(a * 0.0 + s))
    return (tl.where(round(n * 0.5) * 2.0 == n, -total, total) * factorial).to(x.dtype)
