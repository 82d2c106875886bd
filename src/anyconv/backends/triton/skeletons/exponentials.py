"""Exponentials, logarithms and powers."""

import triton
import triton.language as tl

from .arithmetic import bits_of, isfinite, isinf, maximum, round


@triton.jit
def exp(x):  # 2 to the product with log2(e), and what its rounding lost
    if x.dtype == tl.float64:
        y = tl.exp(x)
    else:
        high = x * 1.4426950216293335
        low = tl.fma(x, 1.4426950216293335, -high) + x * 1.9259629911266175e-8
        y = tl.exp2(high)
        y = tl.where(tl.abs(x) < 128.0, tl.fma(y, low * 0.6931471824645996, y), y)
    return y


@triton.jit
def exp2(x):
    return tl.exp2(x)


@triton.jit
def log(x):
    return tl.log(x)


@triton.jit
def log2(x):
    return tl.log2(x)


@triton.jit
def log10(x):
    return (tl.log(x.to(tl.float64)) * 0.4342944819032518).to(x.dtype)


@triton.jit
def expm1(x):  # exp(x) - 1, times x over the logarithm of exp(x): their errors are the same (Kahan)
    u = exp(x)
    y = (u - 1.0) * (x / log(u))
    return tl.where(u == 1.0, x, tl.where((u - 1.0 == -1.0) | (u == float("inf")), u - 1.0, y))


@triton.jit
def log1p(x):  # the same trick
    u = 1.0 + x
    y = log(u) * (x / (u - 1.0))
    return tl.where((u == 1.0) | (u == float("inf")), x, tl.where(x == -1.0, float("-inf"), y))


@triton.jit
def logaddexp(a, b):
    high = maximum(a, b)
    y = high + log1p(exp(-tl.abs(a - b)))
    return tl.where(isinf(a) & (a == b), a, y)


@triton.jit
def logaddexp2(a, b):
    high = maximum(a, b)
    y = high + log1p(exp2(-tl.abs(a - b))) * 1.4426950408889634
    return tl.where(isinf(a) & (a == b), a, y)


@triton.jit
def xlogy(x, y):
    return tl.where(y != y, y, tl.where(x == 0.0, 0.0, x * log(y)))


@triton.jit
def xlog1py(x, y):
    return tl.where(y != y, y, tl.where(x == 0.0, 0.0, x * log1p(y)))


@triton.jit
def mantissa(x):
    if x.dtype == tl.float64:
        y = tl.where(tl.abs(x) < 2.2250738585072014e-308, x * 18014398509481984.0, x)
        m = ((bits_of(y) & ~0x7FF0000000000000) | 0x3FE0000000000000).to(tl.float64, bitcast=True)
    else:
        y = tl.where(tl.abs(x) < 1.1754943508222875e-38, x * 33554432.0, x)
        m = ((bits_of(y) & ~0x7F800000) | 0x3F000000).to(tl.float32, bitcast=True)
    return tl.where((x == 0.0) | (tl.abs(x) < float("inf")) == 0, x, tl.where(x == 0.0, x, m))


@triton.jit
def exponent(x):
    if x.dtype == tl.float64:
        small = tl.abs(x) < 2.2250738585072014e-308
        y = tl.where(small, x * 18014398509481984.0, x)
        e = ((bits_of(y) >> 52) & 0x7FF).to(tl.float64) - tl.where(small, 1076.0, 1022.0)
    else:
        small = tl.abs(x) < 1.1754943508222875e-38
        y = tl.where(small, x * 33554432.0, x)
        e = ((bits_of(y) >> 23) & 0xFF).to(tl.float32) - tl.where(small, 151.0, 126.0)
    return tl.where((x != 0.0) & isfinite(x), e, 0.0)


@triton.jit
def ldexp(x, n):
    return x * tl.exp2(n)


@triton.jit
def pow(x, y):
    a = tl.abs(x)
    if x.dtype == tl.float64:
        r = tl.exp2(y * tl.log2(a))
    else:  # the logarithm and its product with y in two parts each
        m = mantissa(a)
        half = m < 0.70710677
        e = exponent(a) - tl.where(half, 1.0, 0.0)
        f = tl.where(half, 2.0 * m, m) - 1.0
        d = 2.0 + f
        s = f / d
        rest = (tl.fma(-s, d, f) + s * ((d - 2.0) - f)) / d
        z = s * s
        tail = tl.fma(z, tl.fma(z, tl.fma(z, 0.41220912, 0.5770774), 0.9617967), 0.0) * s
        log_high = s * 2.885390043258667
        log_low = tl.fma(s, 2.885390043258667, -log_high) + (tail + (rest * 2.8853901 + s * 3.8519258e-8))
        high = e + log_high
        low = ((e - high) + log_high) + log_low
        p = y * high
        q = tl.fma(y, high, -p) + y * low
        r = tl.exp2(p)
        r = tl.where(tl.abs(p) < 160.0, tl.fma(r, q * 0.6931472, r), r)
    grows = (a > 1.0) == (y > 0.0)
    r = tl.where((a == 0.0) | isinf(a) | isinf(y), tl.where(grows, float("inf"), 0.0), r)
    whole = round(y) == y
    odd = whole & (round(y * 0.5) * 2.0 != y)
    negative = bits_of(x) < 0
    r = tl.where(negative & odd, -r, r)
    r = tl.where((x < 0.0) & (whole == 0) & (a != float("inf")), float("nan"), r)
    r = tl.where((x != x) | (y != y), float("nan"), r)
    r = tl.where((x == -1.0) & isinf(y), 1.0, r)
    return tl.where((y == 0.0) | (x == 1.0), 1.0, r)
