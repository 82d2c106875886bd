// Elementary functions of float vectors, inlined: at most 2 units in the last place over the whole range
// (numerics/ulp.py tries all 2^32 arguments). The coefficients come from numerics/fit.py.
//
// The reductions of arguments are the classical ones: Cody and Waite, Software Manual for the Elementary Functions, 1980.
#pragma once
#include "simd.hpp"

namespace anyconv {

// c[0] + c[1] x + ..., by Horner's rule
template <int N> INLINE f32v polynomial(f32v x, const float (&c)[N]) {
    f32v sum = splat<f32v>(c[N - 1]);
    UNROLL
    for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, splat<f32v>(c[i]));
    return sum;
}
INLINE f32v splat(float a) { return splat<f32v>(a); }
INLINE f32v clamp_to(f32v x, float low, float high) { return lesser(splat(high), greater(splat(low), x)); }  // keeps NaN
constexpr float INF = __builtin_inff(), NOT_A_NUMBER = __builtin_nanf("");

// exponentials: x = n ln 2 + r; e^r = 1 + r + r^2 P(r)
constexpr float MAGIC = 0x1.8p23f;  // MAGIC + n holds n in its lowest bits
struct Reduced { f32v n, r; };
INLINE Reduced by_ln2(f32v x) {
    f32v n = fma(x, splat(1.44269504f), splat(MAGIC)) - MAGIC;
    return {n, fma(n, splat(-1.42860677e-06f), fma(n, splat(-0.693145752f), x))};
}
INLINE f32v expm1_reduced(f32v r) {
    static constexpr float P[] = {0.5f, 0.166665167f, 0.0416664556f, 0.0083690891f, 0.0013935758f};
    return fma(r * r, polynomial(r, P), r);
}
INLINE f32v exp(f32v x) {
    Reduced a = by_ln2(clamp_to(x, -105.0f, 91.0f));
    return scale_within(expm1_reduced(a.r) + 1.0f, a.n);
}
INLINE f32v half_exp(f32v x) {  // e^x / 2
    Reduced a = by_ln2(clamp_to(x, -105.0f, 91.0f));
    return scale_within(expm1_reduced(a.r) + 1.0f, a.n - 1.0f);
}
INLINE f32v exp2(f32v x) {
    f32v inside = clamp_to(x, -151.0f, 129.0f), n = round_small(inside);
    return scale_within(expm1_reduced((inside - n) * 0.693147182f) + 1.0f, n);
}
INLINE f32v expm1(f32v x) {
    Reduced a = by_ln2(clamp_to(x, -20.0f, 89.0f));
    f32v half = scale_within(splat(0.5f), a.n), y = fma(expm1_reduced(a.r), half, half - 0.5f) * 2.0f;
    return select<f32v>(abs(x) < 0x1p-25f, x, y);
}

// logarithms: x = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); log(1 + f) = f - f^2/2 + f^3 P(f)
struct Split { f32v e, f; };
#if defined(__AVX512F__)
INLINE Split split(f32v x) {  // 2^-inf of a zero, 2^inf of an infinity and NaN of what is negative: log then needs no cases
    f32v m = __builtin_ia32_getmantps512_mask(x, 8, x, (unsigned short)-1, 4);  // from 1 to 2
    f32v e = __builtin_ia32_getexpps512_mask(x, x, (unsigned short)-1, 4);
    i32v over = m > 1.41421354f;
    return {select<f32v>(over, e + 1.0f, e), select<f32v>(over, m * 0.5f, m) - 1.0f};
}
INLINE Split split_normal(f32v x) { return split(x); }
INLINE f32v log_ends(f32v, f32v y) { return y; }
#else
INLINE Split split_normal(f32v x) {
    i32v b = bits(x) - 0x3f3504f3;
    return {__builtin_convertvector(b >> 23, f32v), real((b & 0x007fffff) + 0x3f3504f3) - 1.0f};
}
INLINE Split split(f32v x) {
    i32v small = x < 0x1p-126f;
    Split a = split_normal(select<f32v>(small, x * 0x1p23f, x));
    return {select<f32v>(small, a.e - 23.0f, a.e), a.f};
}
INLINE f32v log_ends(f32v x, f32v y) {
    y = select<f32v>(x > 0.0f, y, select<f32v>(x == 0.0f, splat(-INF), splat(NOT_A_NUMBER)));
    return select<f32v>(x == INF, x, y);
}
#endif
INLINE f32v log_tail(f32v f) {  // log(1 + f) - f
    static constexpr float P[] = {0.333333284f, -0.250008464f, 0.200014487f, -0.166227728f, 0.141972631f, -0.131608739f,
                                  0.127896219f, -0.0766633675f};
    f32v q = f * f;
    return fma(f * q, polynomial(f, P), q * -0.5f);
}
INLINE f32v log_of(Split a) {  // e ln 2 in two parts
    return fma(a.e, splat(0.693145752f), a.f + fma(a.e, splat(1.42860677e-06f), log_tail(a.f)));
}
INLINE f32v log(f32v x) { return log_ends(x, log_of(split(x))); }
INLINE f32v log2(f32v x) {
    Split a = split(x);
    f32v tail = log_tail(a.f), y = fma(a.f, splat(0.44269504f), fma(tail, splat(1.44269504f), a.f));
    return log_ends(x, a.e + y);
}
INLINE f32v log10(f32v x) {
    Split a = split(x);
    f32v y = fma(a.f, splat(0.434294492f), fma(a.f, splat(-1.01032743e-08f), log_tail(a.f) * 0.434294492f));
    return log_ends(x, fma(a.e, splat(0.301025391f), fma(a.e, splat(4.60503907e-06f), y)));
}
INLINE f32v log1p(f32v x) {  // what 1 + x loses goes back into f
    f32v u = 1.0f + x, lost = select<f32v>(x > 1.0f, 1.0f - (u - x), x - (u - 1.0f));
    Split a = split_normal(u);
    f32v y = log_of({a.e, a.f + scale_within(lost, -a.e)});
    y = select<f32v>(x == -1.0f, splat(-INF), select<f32v>(x > -1.0f, y, splat(NOT_A_NUMBER)));
    return select<f32v>((abs(x) < 0x1p-25f) | (x == INF), x, y);
}

// circular functions: x = n pi + r, or n pi/2 + r, in three parts; huge arguments, one lane at a time, in double. The other
// lanes keep y: a number must not depend on its neighbors, which are others in the backward pass, where a maximum is
// known by being equal.
constexpr float HUGE = 0x1p17f;
INLINE f32v of_huge(f32v x, f32v huge, f32v y) { return select<f32v>(abs(x) > HUGE, huge, y); }
NOINLINE static f32v huge_sin(f32v x, f32v y) {
    return of_huge(x, lanes(x, [](float a) { return __builtin_sin(double(a)); }), y);
}
NOINLINE static f32v huge_cos(f32v x, f32v y) {
    return of_huge(x, lanes(x, [](float a) { return __builtin_cos(double(a)); }), y);
}
NOINLINE static f32v huge_tan(f32v x, f32v y) {
    return of_huge(x, lanes(x, [](float a) { return __builtin_tan(double(a)); }), y);
}
INLINE f32v turned(f32v y, f32v counted) { return real(bits(y) ^ (bits(counted) << 31)); }  // -y where n is odd
INLINE f32v sin_of_rest(f32v x, f32v n) {  // sin(x - n pi)
    static constexpr float P[] = {-0.166666597f, 0.00833307113f, -0.000198099544f, 2.60649563e-06f};
    f32v r = fma(n, splat(-1.50995790e-07f), fma(n, splat(-3.14159250f), x)), z = r * r;
    r = fma(n, splat(-1.07806051e-14f), r);  // z can do without
    return fma(z * polynomial(z, P), r, r);
}
INLINE f32v sin(f32v x) {
    f32v a = abs(x), counted = fma(a, splat(0.318309886f), splat(MAGIC));
    f32v y = real(bits(turned(sin_of_rest(a, counted - MAGIC), counted)) ^ (bits(x) & Traits<f32v>::sign));
    return __builtin_expect(any_above(a, HUGE), 0) ? huge_sin(x, y) : y;
}
INLINE f32v cos(f32v x) {  // sin(x + pi/2): n is a half more than a whole number
    f32v counted = fma(x, splat(0.318309886f), splat(-0.5f)) + MAGIC;
    f32v y = turned(sin_of_rest(x, (counted - MAGIC) + 0.5f), counted + 1.0f);
    return __builtin_expect(any_above(abs(x), HUGE), 0) ? huge_cos(x, y) : y;
}
INLINE f32v tan(f32v x) {
    static constexpr float P[] = {0.333333522f, 0.13332586f, 0.0540682562f, 0.0212404355f, 0.010941877f,
                                  -4.31318767e-05f, 0.00444114069f};
    f32v counted = fma(x, splat(0.636619772f), splat(MAGIC)), n = counted - MAGIC;
    f32v first = fma(n, splat(-1.57079625f), x), r = fma(n, splat(-7.54978942e-08f), first), z = r * r;
    f32v rest = fma(n, splat(-7.54978942e-08f), first - r);  // what rounding took from r; good where r is large
    f32v tail = fma(z, fma(r, polynomial(z, P), rest), n * -5.39030253e-15f), t = r + tail, lost = (r - t) + tail;
    f32v q = -1.0f / t, short_of = fma(q, t, splat(1.0f));  // -1 / (t + lost), corrected for both roundings
    f32v y = select<f32v>((bits(counted) & 1) == 0, t, fma(q, fma(q, lost, short_of), q));
    y = select<f32v>(x == 0.0f, x, y);
    return __builtin_expect(any_above(abs(x), HUGE), 0) ? huge_tan(x, y) : y;
}

// inverse circular functions
INLINE f32v atan_reduced(f32v t) {  // up to 1
    static constexpr float P[] = {-0.333331436f, 0.19993566f, -0.142093986f, 0.106595658f, -0.0753864646f,
                                  0.0430533662f, -0.0162714031f, 0.00289678201f};
    f32v z = t * t;
    return fma(z * t, polynomial(z, P), t);
}
constexpr float HALF_PI = 1.57079637f, HALF_PI_LOW = -4.37113883e-08f, PI = 3.14159274f, PI_LOW = -8.74227766e-08f;
INLINE f32v atan(f32v x) {
    f32v a = abs(x), t = select<f32v>(a > 1.0f, 1.0f / a, a), r = atan_reduced(t);
    return copysign(select<f32v>(a > 1.0f, HALF_PI + (HALF_PI_LOW - r), r), x);
}
INLINE f32v atan2(f32v y, f32v x) {
    f32v a = abs(x), b = abs(y), low = select<f32v>(a < b, a, b), high = select<f32v>(a < b, b, a);
    f32v t = select<f32v>(high == 0.0f, f32v{}, select<f32v>(low == INF, splat(1.0f), low / high));
    f32v r = atan_reduced(t);
    r = select<f32v>(b > a, HALF_PI + (HALF_PI_LOW - r), r);
    r = select<f32v>((bits(x) & Traits<f32v>::sign) != 0, PI + (PI_LOW - r), r);
    return copysign(select<f32v>((x != x) | (y != y), splat(NOT_A_NUMBER), r), y);
}
INLINE f32v asin_reduced(f32v t, f32v z) {  // t = sqrt(z) up to 1/2: asin(t) - t
    static constexpr float P[] = {0.166667536f, 0.0749527663f, 0.0454714522f, 0.0241787955f, 0.0421625003f};
    return z * t * polynomial(z, P);
}
INLINE f32v asin(f32v x) {
    f32v a = abs(x), z = select<f32v>(a > 0.5f, (1.0f - a) * 0.5f, a * a), t = select<f32v>(a > 0.5f, sqrt(z), a);
    f32v tail = asin_reduced(t, z), outer = HALF_PI - (2.0f * t - (HALF_PI_LOW - 2.0f * tail));
    return copysign(select<f32v>(a > 0.5f, outer, t + tail), x);
}
INLINE f32v acos(f32v x) {
    f32v a = abs(x), z = select<f32v>(a > 0.5f, (1.0f - a) * 0.5f, a * a), t = select<f32v>(a > 0.5f, sqrt(z), a);
    f32v tail = asin_reduced(t, z), outer = 2.0f * (t + tail);
    f32v inner = HALF_PI - (copysign(t, x) - (HALF_PI_LOW - copysign(tail, x)));
    return select<f32v>(a > 0.5f, select<f32v>(x > 0.0f, outer, PI + (PI_LOW - outer)), inner);
}

// hyperbolic functions
INLINE f32v tanh(f32v x) {  // |x| = n ln(2) / 2 + r: (2^n - 1 + (2^n + 1) tanh(r)) / (2^n + 1 + (2^n - 1) tanh(r))
    static constexpr float P[] = {-0.333333224f, 0.13331154f, -0.0527204871f};
    f32v a = lesser(splat(10.0f), abs(x)), counted = fma(a, splat(2.88539004f), splat(MAGIC)), n = counted - MAGIC;
    f32v r = fma(n, splat(-7.14303386e-07f), fma(n, splat(-0.346572876f), a)), z = r * r;
    f32v t = fma(z * r, polynomial(z, P), r), power = real((bits(counted) << 23) + 0x3f800000);
    i32v large = n > 1.0f;  // there the distance from 1/2 is the more precise
    f32v part = select<f32v>(large, power * 0.5f, power), one = select<f32v>(large, splat(1.5f), splat(1.0f));
    f32v y = fma(part + one, t, part - one) / fma(power - 1.0f, t, power + 1.0f);
    return copysign(y + (one - 1.0f), x);
}
INLINE f32v sinh(f32v x) {
    static constexpr float P[] = {0.166666672f, 0.00833331607f, 0.0001984142f, 2.79153824e-06f};
    f32v a = abs(x), z = x * x, e = half_exp(a);
    return copysign(select<f32v>(a < 1.0f, fma(z * a, polynomial(z, P), a), e - 0.25f / e), x);
}
INLINE f32v cosh(f32v x) {
    f32v e = half_exp(abs(x));
    return e + 0.25f / e;
}
INLINE f32v sigmoid(f32v x) {
    f32v e = exp(-abs(x)), d = 1.0f + e, lost = (1.0f - d) + e, y = select<f32v>(x < 0.0f, e, splat(1.0f)) / d;
    return fma(-y, lost, y);
}

// the error function: x + x P(x^2) up to 1, then 1 - e^-Q(x)
INLINE f32v erf(f32v x) {
    static constexpr float P[] = {0.128379166f, -0.376126289f, 0.112836182f, -0.0268551242f, 0.0051907259f,
                                  -0.000803065428f, 7.91990169e-05f};
    static constexpr float Q[] = {-0.000334540877f, 1.13031769f, 0.631625891f, 0.110338375f, -0.0266229827f,
                                  0.00485947356f, -0.000628297275f, 5.21907423e-05f, -2.30937712e-06f, 3.17167306e-08f};
    f32v a = clamp_to(abs(x), 0.0f, 4.0f), z = a * a, small = fma(a, polynomial(z, P), a);
    f32v large = 1.0f - exp(-polynomial(a, Q));
    return copysign(select<f32v>(a < 1.0f, small, large), x);
}

// powers, in double: e^(y log x) keeps no digit to spare in float
typedef float f32h __attribute__((vector_size(VECTOR_BYTES / 2)));
#if defined(__AVX512F__) && !defined(__clang__)
typedef double f64h __attribute__((vector_size(VECTOR_BYTES / 2)));
INLINE f64v widen(f32h a) { return __builtin_ia32_cvtps2pd512_mask(a, f64v{}, (unsigned char)-1, 4); }
INLINE f32h half(f32v a, int which) {
    f64h low = __builtin_ia32_extractf64x4_mask((f64v)a, 0, f64h{}, (unsigned char)-1);
    return (f32h)(which ? __builtin_ia32_extractf64x4_mask((f64v)a, 1, f64h{}, (unsigned char)-1) : low);
}
INLINE f32v join(f32h low, f32h high) {
    f64v whole = __builtin_ia32_pd512_256pd((f64h)low);
    return (f32v)__builtin_ia32_insertf64x4_mask(whole, (f64h)high, 1, whole, (unsigned char)-1);
}
#else
union Halves { f32v whole; f32h half[2]; };
INLINE f64v widen(f32h a) { return __builtin_convertvector(a, f64v); }
INLINE f32h half(f32v a, int which) { return Halves{a}.half[which]; }
INLINE f32v join(f32h low, f32h high) {
    Halves both;
    both.half[0] = low, both.half[1] = high;
    return both.whole;
}
#endif
INLINE f32h narrow(f64v a) { return __builtin_convertvector(a, f32h); }
template <int N> INLINE f64v polynomial(f64v x, const double (&c)[N]) {
    f64v sum = splat<f64v>(c[N - 1]);
    UNROLL
    for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, splat<f64v>(c[i]));
    return sum;
}
struct Power { f32h whole, rest; };  // 2^(whole + rest) to more digits than a float has
INLINE Power power_of(f32h e, f32h f, f32h near, f32h exponent) {  // (2^e (1 + f))^exponent; near is about 1 / (2 + f)
    static constexpr double Q[] = {2.8853900817778499, 0.96179669411323232, 0.57707794240700028, 0.41220924777243889,
                                   0.31990589130812885, 0.28289735436845825};
    f64v wide = widen(f), q = widen(near), ratio = wide * q;
    f64v s = fma(ratio, fma(wide + 2.0, -q, splat<f64v>(1.0)), ratio);  // f / (2 + f)
    f64v x = fma(s, polynomial(s * s, Q), widen(e)) * widen(exponent);
    x = lesser(splat<f64v>(200.0), greater(splat<f64v>(-200.0), x));
    f64v n = round_small(x);
    return {narrow(n), narrow(x - n)};
}
NOINLINE static f32v special_power(f32v x, f32v y, f32v r) {  // r = |x|^y where that needs no thought
    f32v a = abs(x);
    i32v grows = (a > 1.0f) == (y > 0.0f);  // where a^y goes as y or a goes to its end
    r = select<f32v>((a == 0.0f) | (a == INF) | (abs(y) == INF), select<f32v>(grows, splat(INF), f32v{}), r);
    i32v whole = round(y) == y, odd = whole & (round(y * 0.5f) * 2.0f != y);
    i32v negative = (bits(x) & Traits<f32v>::sign) != 0;
    r = select<f32v>(negative & odd, -r, r);
    r = select<f32v>((x < 0.0f) & ~whole & (a != INF), splat(NOT_A_NUMBER), r);
    r = select<f32v>((x != x) | (y != y), splat(NOT_A_NUMBER), r);
    r = select<f32v>((x == -1.0f) & (abs(y) == INF), splat(1.0f), r);
    return select<f32v>((y == 0.0f) | (x == 1.0f), splat(1.0f), r);
}
INLINE f32v pow(f32v x, f32v y) {
    Split a = split(abs(x));
    f32v near = 1.0f / (a.f + 2.0f);
    Power low = power_of(half(a.e, 0), half(a.f, 0), half(near, 0), half(y, 0));
    Power high = power_of(half(a.e, 1), half(a.f, 1), half(near, 1), half(y, 1));
    f32v rest = join(low.rest, high.rest) * 0.693147182f;
    f32v r = scale_within(expm1_reduced(rest) + 1.0f, join(low.whole, high.whole));
    if (__builtin_expect(all_inside(x, 0.0f, INF) && all_inside(y, -INF, INF), 1)) return r;
    return special_power(x, y, r);
}
INLINE f32h squares_root(f32h p, f32h q) {
    f64v a = widen(p), b = widen(q);
    return narrow(sqrt(a * a + b * b));
}
INLINE f32v hypot(f32v x, f32v y) {
    f32v r = join(squares_root(half(x, 0), half(y, 0)), squares_root(half(x, 1), half(y, 1)));
    return select<f32v>((abs(x) == INF) | (abs(y) == INF), splat(INF), r);
}

}  // namespace anyconv
