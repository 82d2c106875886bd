"""Arithmetic, sizes and signs: rows of the table of operations that Triton has no symbol for, as torch computes them.

Numbers are float32 or float64, whichever a kernel computes in.
"""

import triton
import triton.language as tl


@triton.jit
def bits_of(x):
    return x.to(tl.int64 if x.dtype == tl.float64 else tl.int32, bitcast=True)


@triton.jit
def copysign(a, b):
    if a.dtype == tl.float64:
        y = tl.where(bits_of(b) < 0, -tl.abs(a), tl.abs(a))
    else:
        y = ((bits_of(a) & 0x7FFFFFFF) | (bits_of(b) & -0x80000000)).to(tl.float32, bitcast=True)
    return y


@triton.jit
def turned(a, b):  # b with the sign changed where a has one
    if b.dtype == tl.float64:
        y = tl.where(bits_of(a) < 0, -b, b)
    else:
        y = (bits_of(b) ^ (bits_of(a) & -0x80000000)).to(tl.float32, bitcast=True)
    return y


@triton.jit
def sign_times(a, b):  # 0 where a is 0 or NaN
    return tl.where(tl.abs(a) > 0.0, turned(a, b), 0.0)


@triton.jit
def sign(x):
    return tl.where(x > 0.0, 1.0, tl.where(x < 0.0, -1.0, 0.0)).to(x.dtype)


@triton.jit
def trunc(x):
    return tl.where(x < 0.0, tl.ceil(x), tl.floor(x))


@triton.jit
def round(x):  # adding and taking away what has no digits behind the point leaves the nearest whole number
    most = 4503599627370496.0 if x.dtype == tl.float64 else 8388608.0
    a = tl.abs(x)
    return tl.where(a < most, copysign((a + most) - most, x), x)


@triton.jit
def frac(x):
    return x - trunc(x)


@triton.jit
def maximum(a, b):
    return tl.maximum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def minimum(a, b):
    return tl.minimum(a, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def fmax(a, b):
    return tl.where((a >= b) | (b != b), a, b)


@triton.jit
def fmin(a, b):
    return tl.where((a <= b) | (b != b), a, b)


@triton.jit
def clamp(x, low, high):
    return minimum(maximum(x, low), high)


@triton.jit
def clamp_min(x, low):
    return maximum(x, low)


@triton.jit
def clamp_max(x, high):
    return minimum(x, high)


@triton.jit
def isnan(x):
    return x != x


@triton.jit
def isinf(x):
    return tl.abs(x) == float("inf")


@triton.jit
def isfinite(x):
    return tl.abs(x) < float("inf")


@triton.jit
def square(x):
    return x * x


@triton.jit
def reciprocal(x):
    return 1.0 / x


@triton.jit
def sqrt(x):
    return tl.sqrt(x) if x.dtype == tl.float64 else tl.sqrt_rn(x)


@triton.jit
def rsqrt(x):
    return 1.0 / sqrt(x) if x.dtype == tl.float64 else tl.rsqrt(x)


@triton.jit
def hypot(a, b):  # in float64 where float32 would overflow on the way; float64 is scaled
    if a.dtype == tl.float64:
        high, low = tl.maximum(tl.abs(a), tl.abs(b)), tl.minimum(tl.abs(a), tl.abs(b))
        ratio = tl.where(high == 0.0, 0.0, tl.where(low == high, 1.0, low / high))
        y = high * tl.sqrt(1.0 + ratio * ratio)
    else:
        p, q = a.to(tl.float64), b.to(tl.float64)
        y = tl.sqrt(p * p + q * q).to(tl.float32)
    y = tl.where((a != a) | (b != b), float("nan"), y)
    return tl.where(isinf(a) | isinf(b), float("inf"), y)


@triton.jit
def lerp(a, b, t):
    return tl.where(tl.abs(t) < 0.5, a + t * (b - a), b - (b - a) * (1.0 - t))


@triton.jit
def fmod(a, b):
    return a % b


@triton.jit
def trunc_divide(a, b):
    return trunc(a / b)


@triton.jit
def remainder(a, b):
    mod = fmod(a, b)
    return tl.where((mod != 0.0) & ((b < 0.0) != (mod < 0.0)), mod + b, mod)


@triton.jit
def floor_divide(a, b):
    mod = fmod(a, b)
    div = (a - mod) / b
    div = tl.where((mod != 0.0) & ((b < 0.0) != (mod < 0.0)), div - 1.0, div)
    whole = tl.floor(div)
    whole = tl.where(div - whole > 0.5, whole + 1.0, whole)
    whole = tl.where(div == 0.0, copysign(div * 0.0, a / b), whole)
    return tl.where(b == 0.0, a / b, whole)
