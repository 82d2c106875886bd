// How numbers lie in memory: float and double as they are, half precisions as 16 bits that are computed with in float.
#pragma once
#include "simd.hpp"

namespace anyconv {

struct Half { unsigned short bits; };
struct BFloat16 { unsigned short bits; };

union FloatBits { float value; unsigned bits; };
INLINE float widen(float a) { return a; }
INLINE double widen(double a) { return a; }
INLINE float widen(BFloat16 a) { FloatBits u; u.bits = unsigned(a.bits) << 16; return u.value; }
INLINE float widen(Half a) {
    FloatBits u;
    u.bits = unsigned(a.bits & 0x7fff) << 13;
    if (u.bits >= 0x0f800000u) u.bits += 0x70000000u;  // infinity and NaN keep the largest exponent
    else u.value *= 0x1p112f;                          // also the subnormal numbers
    u.bits |= unsigned(a.bits & 0x8000) << 16;
    return u.value;
}

template <class T> struct Narrow;  // rounded to nearest, ties to even
template <> struct Narrow<float> { INLINE static float of(float a) { return a; } };
template <> struct Narrow<double> { INLINE static double of(double a) { return a; } };
template <> struct Narrow<BFloat16> {
    INLINE static BFloat16 of(float a) {
        FloatBits u; u.value = a;
        unsigned rounded = (u.bits + 0x7fffu + ((u.bits >> 16) & 1)) >> 16;
        return {(unsigned short)(a != a ? 0x7fc0u | (u.bits >> 16) : rounded)};
    }
};
template <> struct Narrow<Half> {
    INLINE static Half of(float a) {
        FloatBits u, scaled;
        u.value = a;
        unsigned sign = (u.bits >> 16) & 0x8000, size = u.bits & 0x7fffffffu;
        if (size > 0x7f800000u) return {(unsigned short)(sign | 0x7e00u)};
        if (size >= 0x477ff000u) return {(unsigned short)(sign | 0x7c00u)};  // 65520 and more round to infinity
        if (size < 0x38800000u) {  // subnormal: let an addition round at the right bit
            u.bits = size;
            scaled.value = u.value + 0.5f;
            return {(unsigned short)(sign | (scaled.bits - 0x3f000000u))};
        }
        unsigned rounded = size + 0xfffu + ((size >> 13) & 1);
        return {(unsigned short)(sign | ((rounded - 0x38000000u) >> 13))};
    }
};

}  // namespace anyconv
