// Vectors: one text for AVX-512, AVX2, NEON and SSE, in the vector extensions that GCC and Clang share.
//
// F stands for a vector of float or of double, Mask<F> for its comparisons: all ones or all zeros in each lane.
// Nothing is contracted behind our back (-ffp-contract=off): a map has the same bits in every kernel that holds it.
#pragma once

#define INLINE inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))
#define ENTRY __attribute__((visibility("default")))
#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define UNROLL PRAGMA(unroll)
#else
#define UNROLL PRAGMA(GCC unroll 16)
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__) && defined(__FMA__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

namespace anyconv {

typedef __INT64_TYPE__ i64;
typedef float f32v __attribute__((vector_size(VECTOR_BYTES)));
typedef decltype(f32v{} < f32v{}) i32v;
typedef double f64v __attribute__((vector_size(VECTOR_BYTES)));
typedef decltype(f64v{} < f64v{}) i64v;

template <class F> struct Traits;
template <> struct Traits<f32v> {
    typedef float Real; typedef i32v Int; typedef int Bits;
    static constexpr int mantissa_bits = 23, bias = 127;
    static constexpr Bits sign = int(0x80000000u), fraction = 0x007fffff, half = 0x3f000000;
    static constexpr float smallest_normal = 0x1p-126f, whole = 0x1p23f;
};
template <> struct Traits<f64v> {
    typedef double Real; typedef i64v Int; typedef decltype(i64v{}[0] + 0) Bits;
    static constexpr int mantissa_bits = 52, bias = 1023;
    static constexpr Bits sign = Bits(0x8000000000000000ull), fraction = 0x000fffffffffffffll, half = 0x3fe0000000000000ll;
    static constexpr double smallest_normal = 0x1p-1022, whole = 0x1p52;
};
template <class F> using Real = typename Traits<F>::Real;
template <class F> using Mask = typename Traits<F>::Int;
template <class F> using Bits = typename Traits<F>::Bits;
template <class F> constexpr int lanes_of = sizeof(F) / sizeof(Real<F>);
template <class T> struct VectorOf;
template <> struct VectorOf<float> { typedef f32v type; };
template <> struct VectorOf<double> { typedef f64v type; };

// what only a vector type can name: loads and stores need no alignment
template <class F> struct Unaligned { F value; } __attribute__((packed, aligned(4), may_alias));
template <class F> INLINE F load(const Real<F>* p) { return ((const Unaligned<F>*)p)->value; }
template <class F> INLINE void store(Real<F>* p, F value) { ((Unaligned<F>*)p)->value = value; }
// the first `count` lanes, 0 < count <= all; what lies beyond is neither read nor written
template <class F> INLINE F load(const Real<F>* p, i64 count) {
    F a{};
    for (i64 i = 0; i < count; ++i) a[i] = p[i];
    return a;
}
template <class F> INLINE void store(Real<F>* p, F value, i64 count) {
    for (i64 i = 0; i < count; ++i) p[i] = value[i];
}
#if defined(__AVX512F__)
template <> INLINE f32v load<f32v>(const float* p, i64 count) {
    return __builtin_ia32_loadups512_mask(p, f32v{}, (unsigned short)(0xffffu >> (16 - count)));
}
template <> INLINE f64v load<f64v>(const double* p, i64 count) {
    return __builtin_ia32_loadupd512_mask(p, f64v{}, (unsigned char)(0xffu >> (8 - count)));
}
template <> INLINE void store<f32v>(float* p, f32v value, i64 count) {
    __builtin_ia32_storeups512_mask(p, value, (unsigned short)(0xffffu >> (16 - count)));
}
template <> INLINE void store<f64v>(double* p, f64v value, i64 count) {
    __builtin_ia32_storeupd512_mask(p, value, (unsigned char)(0xffu >> (8 - count)));
}
#endif
template <class F> INLINE F splat(Real<F> a) { return a - F{}; }  // not F{} + a: that would lose the sign of -0
template <class F> INLINE Mask<F> splat_mask(bool c) { return Mask<F>{} - Bits<F>(c); }
template <class F> INLINE Mask<F> bits(F a) { return (Mask<F>)a; }
INLINE f32v real(i32v b) { return (f32v)b; }
INLINE f64v real(i64v b) { return (f64v)b; }
template <class F> INLINE F select(Mask<F> c, F a, F b) { return c ? a : b; }
template <class M> INLINE bool any(M c) {
    Bits<decltype(real(c))> found = 0;
    for (unsigned i = 0; i < sizeof(M) / sizeof(found); ++i) found |= c[i];
    return found != 0;
}
template <class F> INLINE bool any_above(F a, Real<F> limit) { return any(a > limit); }
template <class F> INLINE bool all_inside(F a, Real<F> low, Real<F> high) { return !any(~((a > low) & (a < high))); }
#if defined(__AVX512F__)
#if !defined(__clang__)
INLINE bool any(i32v c) { return __builtin_ia32_ptestmd512(c, c, (unsigned short)-1) != 0; }
#endif
INLINE bool any_above(f32v a, float limit) {
    return __builtin_ia32_cmpps512_mask(a, splat<f32v>(limit), 14, (unsigned short)-1, 4) != 0;
}
INLINE bool all_inside(f32v a, float low, float high) {
    unsigned short above = __builtin_ia32_cmpps512_mask(a, splat<f32v>(low), 14, (unsigned short)-1, 4);
    return __builtin_ia32_cmpps512_mask(a, splat<f32v>(high), 1, above, 4) == (unsigned short)-1;
}
#elif VECTOR_BYTES == 32
typedef long long quads __attribute__((vector_size(VECTOR_BYTES)));  // the type that the builtin asks for
INLINE bool any(i32v c) { return !__builtin_ia32_ptestz256((quads)c, (quads)c); }
INLINE bool any(i64v c) { return !__builtin_ia32_ptestz256((quads)c, (quads)c); }
INLINE bool any_above(f32v a, float limit) { return __builtin_ia32_movmskps256((f32v)(a > limit)) != 0; }
INLINE bool all_inside(f32v a, float low, float high) {
    return __builtin_ia32_movmskps256((f32v)((a > low) & (a < high))) == 0xff;
}
#endif

// a * b + c, rounded once
#if defined(__clang__)
INLINE f32v fma(f32v a, f32v b, f32v c) { return __builtin_elementwise_fma(a, b, c); }
INLINE f64v fma(f64v a, f64v b, f64v c) { return __builtin_elementwise_fma(a, b, c); }
#elif VECTOR_BYTES == 64
INLINE f32v fma(f32v a, f32v b, f32v c) { return __builtin_ia32_vfmaddps512_mask(a, b, c, (unsigned short)-1, 4); }
INLINE f64v fma(f64v a, f64v b, f64v c) { return __builtin_ia32_vfmaddpd512_mask(a, b, c, (unsigned char)-1, 4); }
#elif VECTOR_BYTES == 32
INLINE f32v fma(f32v a, f32v b, f32v c) { return __builtin_ia32_vfmaddps256(a, b, c); }
INLINE f64v fma(f64v a, f64v b, f64v c) { return __builtin_ia32_vfmaddpd256(a, b, c); }
#elif defined(__FMA__)
INLINE f32v fma(f32v a, f32v b, f32v c) { return __builtin_ia32_vfmaddps(a, b, c); }
INLINE f64v fma(f64v a, f64v b, f64v c) { return __builtin_ia32_vfmaddpd(a, b, c); }
#elif defined(__aarch64__)
INLINE f32v fma(f32v a, f32v b, f32v c) { return (f32v)__builtin_aarch64_fmav4sf(a, b, c); }
INLINE f64v fma(f64v a, f64v b, f64v c) { return (f64v)__builtin_aarch64_fmav2df(a, b, c); }
#else  // SSE has none: a product of floats is exact in double; libm's fma for doubles
INLINE f32v fma(f32v a, f32v b, f32v c) {
    for (int i = 0; i < lanes_of<f32v>; ++i) a[i] = float(double(a[i]) * b[i] + c[i]);
    return a;
}
INLINE f64v fma(f64v a, f64v b, f64v c) {
    for (int i = 0; i < lanes_of<f64v>; ++i) a[i] = __builtin_fma(a[i], b[i], c[i]);
    return a;
}
#endif

// s + a and s - a, where there is a choice in the multiplier's units: the adders have the map to do
#if defined(__FMA__) || defined(__aarch64__)
template <class F> INLINE F factor(Real<F> a) {
    F value = splat<F>(a);
#if defined(__clang__) && defined(__FMA__)
    asm("" : "+v"(value));  // Clang may not know that it is 1: it would add
#endif
    return value;
}
template <class F> INLINE F accumulate(F s, F a) { return fma(a, factor<F>(1), s); }
template <class F> INLINE F deduct(F s, F a) { return fma(a, factor<F>(-1), s); }
#else
template <class F> INLINE F accumulate(F s, F a) { return s + a; }
template <class F> INLINE F deduct(F s, F a) { return s - a; }
#endif

#if defined(__clang__)
INLINE f32v sqrt(f32v a) { return __builtin_elementwise_sqrt(a); }
INLINE f64v sqrt(f64v a) { return __builtin_elementwise_sqrt(a); }
#elif VECTOR_BYTES == 64
INLINE f32v sqrt(f32v a) { return __builtin_ia32_sqrtps512_mask(a, a, (unsigned short)-1, 4); }
INLINE f64v sqrt(f64v a) { return __builtin_ia32_sqrtpd512_mask(a, a, (unsigned char)-1, 4); }
#elif VECTOR_BYTES == 32
INLINE f32v sqrt(f32v a) { return __builtin_ia32_sqrtps256(a); }
INLINE f64v sqrt(f64v a) { return __builtin_ia32_sqrtpd256(a); }
#else
INLINE f32v sqrt(f32v a) { for (int i = 0; i < lanes_of<f32v>; ++i) a[i] = __builtin_sqrtf(a[i]); return a; }
INLINE f64v sqrt(f64v a) { for (int i = 0; i < lanes_of<f64v>; ++i) a[i] = __builtin_sqrt(a[i]); return a; }
#endif

// a * 2^n for whole n of any size, rounded once

// sizes and signs
template <class F> INLINE F abs(F a) { return real(bits(a) & ~Traits<F>::sign); }
template <class F> INLINE F copysign(F a, F b) { return real((bits(a) & ~Traits<F>::sign) | (bits(b) & Traits<F>::sign)); }
template <class F> INLINE F sign(F a) { return select<F>(a < F{}, splat<F>(-1), select<F>(a > F{}, splat<F>(1), F{})); }
template <class F> INLINE Mask<F> isnan(F a) { return a != a; }
template <class F> INLINE Mask<F> isinf(F a) { return abs(a) == splat<F>(Real<F>(__builtin_inf())); }
template <class F> INLINE Mask<F> isfinite(F a) { return abs(a) < splat<F>(Real<F>(__builtin_inf())); }
// b where one of them is NaN: an instruction, which GCC does not find by itself
#if defined(__clang__) || !defined(__SSE2__)
template <class F> INLINE F greater(F a, F b) { return select<F>(a > b, a, b); }
template <class F> INLINE F lesser(F a, F b) { return select<F>(a < b, a, b); }
#elif VECTOR_BYTES == 64
INLINE f32v greater(f32v a, f32v b) { return __builtin_ia32_maxps512_mask(a, b, a, (unsigned short)-1, 4); }
INLINE f32v lesser(f32v a, f32v b) { return __builtin_ia32_minps512_mask(a, b, a, (unsigned short)-1, 4); }
INLINE f64v greater(f64v a, f64v b) { return __builtin_ia32_maxpd512_mask(a, b, a, (unsigned char)-1, 4); }
INLINE f64v lesser(f64v a, f64v b) { return __builtin_ia32_minpd512_mask(a, b, a, (unsigned char)-1, 4); }
#elif VECTOR_BYTES == 32
INLINE f32v greater(f32v a, f32v b) { return __builtin_ia32_maxps256(a, b); }
INLINE f32v lesser(f32v a, f32v b) { return __builtin_ia32_minps256(a, b); }
INLINE f64v greater(f64v a, f64v b) { return __builtin_ia32_maxpd256(a, b); }
INLINE f64v lesser(f64v a, f64v b) { return __builtin_ia32_minpd256(a, b); }
#else
INLINE f32v greater(f32v a, f32v b) { return __builtin_ia32_maxps(a, b); }
INLINE f32v lesser(f32v a, f32v b) { return __builtin_ia32_minps(a, b); }
INLINE f64v greater(f64v a, f64v b) { return __builtin_ia32_maxpd(a, b); }
INLINE f64v lesser(f64v a, f64v b) { return __builtin_ia32_minpd(a, b); }
#endif
// NaN where one of them is: what is NaN in a stays
template <class F> INLINE F maximum(F a, F b) { return select<F>(a != a, a, greater(a, b)); }
template <class F> INLINE F minimum(F a, F b) { return select<F>(a != a, a, lesser(a, b)); }
#if defined(__AVX512F__) && !defined(__clang__)
INLINE f32v maximum(f32v a, f32v b) {  // two instructions
    return __builtin_ia32_maxps512_mask(a, b, a, __builtin_ia32_cmpps512_mask(a, a, 7, -1, 4), 4);
}
INLINE f32v minimum(f32v a, f32v b) {
    return __builtin_ia32_minps512_mask(a, b, a, __builtin_ia32_cmpps512_mask(a, a, 7, -1, 4), 4);
}
#endif

// a * 2^n for whole n of any size, rounded once; scale_within: of a size up to twice the largest exponent
#if defined(__AVX512F__)
INLINE f32v scale(f32v a, f32v n) { return __builtin_ia32_scalefps512_mask(a, n, a, (unsigned short)-1, 4); }
INLINE f64v scale(f64v a, f64v n) { return __builtin_ia32_scalefpd512_mask(a, n, a, (unsigned char)-1, 4); }
template <class F> INLINE F scale_within(F a, F n) { return scale(a, n); }
#else
template <class F> INLINE F power_of_two(Mask<F> n) { return real((n + Traits<F>::bias) << Traits<F>::mantissa_bits); }
template <class F> INLINE F scale_within(F a, F n) {  // two factors: 2^n alone may be out of range where the product is not
    Mask<F> whole = __builtin_convertvector(n, Mask<F>), half = whole >> 1;
    return a * power_of_two<F>(half) * power_of_two<F>(whole - half);
}
template <class F> INLINE F scale(F a, F n) {
    const F most = splat<F>(2 * Traits<F>::bias);
    return scale_within(a, lesser(most, greater(-most, n)));
}
#endif

// whole numbers: beyond `whole` every number is one; round goes to even
template <class F> INLINE F round_small(F a) { const Real<F> magic = 3 * Traits<F>::whole / 2; return (a + magic) - magic; }
template <class F> INLINE F round(F a) {
    F near = (abs(a) + Traits<F>::whole) - Traits<F>::whole;
    return select<F>(abs(a) < Traits<F>::whole, copysign(near, a), a);
}
template <class F> INLINE F floor(F a) { F r = round(a); return copysign(select<F>(r > a, r - Real<F>(1), r), a); }
template <class F> INLINE F ceil(F a) { F r = round(a); return copysign(select<F>(r < a, r + Real<F>(1), r), a); }
template <class F> INLINE F trunc(F a) { return copysign(floor(abs(a)), a); }

// a = mantissa * 2^exponent with 1/2 <= |mantissa| < 1; zero, infinity and NaN are their own mantissas
template <class F> INLINE F normal(F a) { return a * Real<F>(Traits<F>::whole * 4); }
template <class F> INLINE Mask<F> is_plain(F a) { return (abs(a) > F{}) & isfinite(a); }
template <class F> INLINE F mantissa(F a) {
    F n = select<F>(abs(a) < Traits<F>::smallest_normal, normal(a), a);
    F m = real((bits(n) & (Traits<F>::fraction | Traits<F>::sign)) | Traits<F>::half);
    return select<F>(is_plain(a), m, a);
}
template <class F> INLINE F exponent(F a) {
    Mask<F> small = abs(a) < Traits<F>::smallest_normal;
    F n = select<F>(small, normal(a), a);
    Mask<F> e = (bits(abs(n)) >> Traits<F>::mantissa_bits) - Bits<F>(Traits<F>::bias - 1);
    F found = __builtin_convertvector(e, F);
    return select<F>(is_plain(a), select<F>(small, found - Real<F>(Traits<F>::mantissa_bits + 2), found), F{});
}

#if defined(__AVX512DQ__)
INLINE f32v mantissa(f32v a) {  // of what is not zero, infinite or NaN: classes 0x01, 0x02, 0x04, 0x08, 0x10, 0x80
    const unsigned short other = __builtin_ia32_fpclassps512_mask(a, 0x9f, -1);
    return __builtin_ia32_getmantps512_mask(a, 2, a, (unsigned short)~other, 4);
}
INLINE f32v exponent(f32v a) {
    const unsigned short other = __builtin_ia32_fpclassps512_mask(a, 0x9f, -1);
    return __builtin_ia32_getexpps512_mask(a, f32v{} - 1.0f, (unsigned short)~other, 4) + 1.0f;
}
#endif

// one lane at a time, for what no vector code is worth
template <class F, class Function> INLINE F lanes(F a, Function f) {
    for (int i = 0; i < lanes_of<F>; ++i) a[i] = Real<F>(f(a[i]));
    return a;
}
template <class F, class Function> INLINE F lanes(F a, F b, Function f) {
    for (int i = 0; i < lanes_of<F>; ++i) a[i] = Real<F>(f(a[i], b[i]));
    return a;
}

}  // namespace anyconv
