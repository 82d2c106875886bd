"""Circular and hyperbolic functions and their inverses; polynomials are for float32."""

import triton
import triton.language as tl

from .arithmetic import bits_of, copysign, isinf, sqrt
from .exponentials import exp, expm1, log1p


# x = n pi + r, or n pi / 2 + r, in three parts. From 2**23 on, where numbers are a radian apart, n has no room: NaN
@triton.jit
def sin_of_rest(x, n):  # sin(x - n pi)
    r = tl.fma(n, -1.50995790e-07, tl.fma(n, -3.14159250, x))
    z = r * r
    r = tl.fma(n, -1.07806051e-14, r)
    p = tl.fma(z, 2.60649563e-06, -0.000198099544)
    p = tl.fma(z, p, 0.00833307113)
    p = tl.fma(z, p, -0.166666597)
    return tl.fma(z * p, r, r)


@triton.jit
def sin(x):
    if x.dtype == tl.float64:
        y = tl.sin(x)
    else:
        a = tl.abs(x)
        counted = tl.fma(a, 0.318309886, 12582912.0)
        y = sin_of_rest(a, counted - 12582912.0)
        y = (bits_of(y) ^ (bits_of(counted) << 31) ^ (bits_of(x) & -0x80000000)).to(tl.float32, bitcast=True)
        y = tl.where(a < 8388608.0, y, float("nan"))
    return y


@triton.jit
def cos(x):  # sin(x + pi / 2): n is a half more than a whole number
    if x.dtype == tl.float64:
        y = tl.cos(x)
    else:
        counted = tl.fma(x, 0.318309886, -0.5) + 12582912.0
        y = sin_of_rest(x, (counted - 12582912.0) + 0.5)
        y = (bits_of(y) ^ (bits_of(counted + 1.0) << 31)).to(tl.float32, bitcast=True)
        y = tl.where(tl.abs(x) < 8388608.0, y, float("nan"))
    return y


@triton.jit
def tan(x):
    if x.dtype == tl.float64:
        y = tl.sin(x) / tl.cos(x)
    else:
        counted = tl.fma(x, 0.636619772, 12582912.0)
        n = counted - 12582912.0
        first = tl.fma(n, -1.57079625, x)
        r = tl.fma(n, -7.54978942e-08, first)
        z = r * r
        rest = tl.fma(n, -7.54978942e-08, first - r)
        p = tl.fma(z, 0.00444114069, -4.31318767e-05)
        p = tl.fma(z, p, 0.010941877)
        p = tl.fma(z, p, 0.0212404355)
        p = tl.fma(z, p, 0.0540682562)
        p = tl.fma(z, p, 0.13332586)
        p = tl.fma(z, p, 0.333333522)
        t = r + tl.fma(z, tl.fma(r, p, rest), n * -5.39030253e-15)
        y = tl.where((bits_of(counted) & 1) == 0, t, -1.0 / t)
        y = tl.where(tl.abs(x) < 4194304.0, y, float("nan"))
    return tl.where(x == 0.0, x, y)


@triton.jit
def sinc(x):
    t = x * 3.141592653589793
    return tl.where(x == 0.0, 1.0, sin(t) / t)


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
