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
INLINE f32v clamp_to(f32v x, float low, float high) {  // keeps NaN
    return select<f32v>(x < low, splat(low), select<f32v>(x > high, splat(high), x));
}
constexpr float INF = __builtin_inff(), NOT_A_NUMBER = __builtin_nanf("");

// exponentials: x = n ln 2 + r; e^r = 1 + r + r^2 P(r)
struct Reduced { f32v n, r; };
INLINE Reduced by_ln2(f32v x) {
    f32v n = round_small(x * 1.44269504f);
    return {n, fma(n, splat(-1.42860677e-06f), fma(n, splat(-0.693145752f), x))};
}
INLINE f32v expm1_reduced(f32v r) {
    static constexpr float P[] = {0.5f, 0.166665778f, 0.0416665561f, 0.00836317334f, 0.00139261759f};
    return fma(r * r, polynomial(r, P), r);
}
INLINE f32v exp_scaled(f32v x, float extra) {  // e^x 2^extra
    Reduced a = by_ln2(clamp_to(x, -105.0f, 91.0f));
    return scale(expm1_reduced(a.r) + 1.0f, a.n + extra);
}
INLINE f32v exp(f32v x) { return exp_scaled(x, 0.0f); }
INLINE f32v exp2(f32v x) {
    f32v inside = clamp_to(x, -151.0f, 129.0f), n = round_small(inside);
    return scale(expm1_reduced((inside - n) * 0.693147182f) + 1.0f, n);
}
INLINE f32v expm1(f32v x) {
    Reduced a = by_ln2(clamp_to(x, -20.0f, 89.0f));
    f32v half = scale(splat(0.5f), a.n), y = fma(expm1_reduced(a.r), half, half - 0.5f) * 2.0f;
    return select<f32v>(abs(x) < 0x1p-25f, x, y);
}

// logarithms: x = 2^e (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); log(1 + f) = f - f^2/2 + f^3 P(f)
struct Split { f32v e, f; };
INLINE Split split(f32v x) {
    i32v small = x < 0x1p-126f, b = bits(select<f32v>(small, x * 0x1p23f, x)) - 0x3f3504f3;
    f32v e = __builtin_convertvector(b >> 23, f32v), m = real((b & 0x007fffff) + 0x3f3504f3);
    return {select<f32v>(small, e - 23.0f, e), m - 1.0f};
}
INLINE f32v log_tail(f32v f) {  // log(1 + f) - f
    static constexpr float P[] = {0.333333313f, -0.24999997f, 0.200007156f, -0.166678026f, 0.142490581f, -0.124256872f,
                                  0.116854198f, -0.114797339f, 0.0697161183f};
    f32v q = f * f;
    return fma(f * q, polynomial(f, P), q * -0.5f);
}
INLINE f32v log_ends(f32v x, f32v y) {
    y = select<f32v>(x > 0.0f, y, select<f32v>(x == 0.0f, splat(-INF), splat(NOT_A_NUMBER)));
    return select<f32v>(x == INF, x, y);
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
    Split a = split(u);
    f32v y = log_of({a.e, a.f + scale(lost, -a.e)});
    y = select<f32v>(x == -1.0f, splat(-INF), select<f32v>(x > -1.0f, y, splat(NOT_A_NUMBER)));
    return select<f32v>((abs(x) < 0x1p-25f) | (x == INF), x, y);
}

// circular functions: x = n pi/2 + r + low; huge arguments, one lane at a time, in double
constexpr float HUGE = 0x1p17f;
struct Turned { f32v r, low; i32v n; };
INLINE Turned by_half_pi(f32v x) {
    f32v n = round_small(x * 0.636619772f);
    f32v r = fma(n, splat(4.37113883e-08f), fma(n, splat(-1.57079637f), x));
    return {r, n * 1.71512449e-15f, __builtin_convertvector(n, i32v)};
}
INLINE f32v sin_reduced(Turned a) {
    static constexpr float P[] = {-0.166666672f, 0.00833333191f, -0.00019840087f, 2.72499256e-06f};
    f32v z = a.r * a.r;
    return a.r + fma(z * a.r, polynomial(z, P), a.low);
}
INLINE f32v cos_reduced(Turned a) {
    static constexpr float P[] = {0.0416666679f, -0.00138888881f, 2.48005999e-05f, -2.7300959e-07f};
    f32v z = a.r * a.r, h = z * 0.5f, one = 1.0f - h;
    return one + (((1.0f - one) - h) + fma(z * z, polynomial(z, P), -a.r * a.low));
}
template <int Quarter> INLINE f32v circular(f32v x) {  // sin(x + Quarter pi/2)
    Turned a = by_half_pi(x);
    i32v n = a.n + Quarter;
    f32v y = select<f32v>((n & 1) == 0, sin_reduced(a), cos_reduced(a));
    return real(bits(y) ^ ((n & 2) << 30));
}
NOINLINE static f32v huge_sin(f32v x) { return lanes(x, [](float a) { return __builtin_sin(double(a)); }); }
NOINLINE static f32v huge_cos(f32v x) { return lanes(x, [](float a) { return __builtin_cos(double(a)); }); }
NOINLINE static f32v huge_tan(f32v x) { return lanes(x, [](float a) { return __builtin_tan(double(a)); }); }
INLINE f32v sin(f32v x) {
    if (__builtin_expect(any(abs(x) > HUGE), 0)) return huge_sin(x);
    return select<f32v>(x == 0.0f, x, circular<0>(x));
}
INLINE f32v cos(f32v x) {
    if (__builtin_expect(any(abs(x) > HUGE), 0)) return huge_cos(x);
    return circular<1>(x);
}
INLINE f32v tan(f32v x) {
    static constexpr float P[] = {0.333333343f, 0.133332312f, 0.0539944656f, 0.0216211267f, 0.0099621471f, 0.0011853216f,
                                  0.00384313986f};
    if (__builtin_expect(any(abs(x) > HUGE), 0)) return huge_tan(x);
    Turned a = by_half_pi(x);
    f32v z = a.r * a.r, tail = fma(z * a.r, polynomial(z, P), a.low), t = a.r + tail, lost = (a.r - t) + tail;
    f32v q = -1.0f / t, rest = fma(q, t, splat(1.0f));  // -1 / (t + lost), corrected for both roundings
    f32v turned = select<f32v>((a.n & 1) == 0, t, fma(q, fma(q, lost, rest), q));
    return select<f32v>(x == 0.0f, x, turned);
}

// inverse circular functions
INLINE f32v atan_reduced(f32v t) {  // up to 1
    static constexpr float P[] = {-0.333333343f, 0.199999496f, -0.142840043f, 0.110882618f, -0.089318268f, 0.0703191459f,
                                  -0.0489605144f, 0.0263050012f, -0.00914462935f, 0.00148869189f};
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
    static constexpr float P[] = {0.166666657f, 0.0750009418f, 0.0445994027f, 0.0311006624f, 0.0171492379f, 0.0336908475f};
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
INLINE f32v tanh(f32v x) {
    static constexpr float P[] = {-0.333333343f, 0.133333132f, -0.0539615527f, 0.0217883214f, -0.00841007102f,
                                  0.00237076567f};
    f32v a = abs(x), z = x * x, small = fma(z * a, polynomial(z, P), a);
    Reduced e = by_ln2(select<f32v>(a > 10.0f, splat(20.0f), a + a));
    f32v large = 1.0f - 2.0f / (scale(expm1_reduced(e.r) + 1.0f, e.n) + 1.0f);
    return copysign(select<f32v>(a < 0.6f, small, large), x);
}
INLINE f32v sinh(f32v x) {
    static constexpr float P[] = {0.166666672f, 0.00833333936f, 0.000198381022f, 2.80628024e-06f};
    f32v a = abs(x), z = x * x, e = exp_scaled(a, -1.0f);
    return copysign(select<f32v>(a < 1.0f, fma(z * a, polynomial(z, P), a), e - 0.25f / e), x);
}
INLINE f32v cosh(f32v x) {
    f32v e = exp_scaled(abs(x), -1.0f);
    return e + 0.25f / e;
}
INLINE f32v sigmoid(f32v x) {
    f32v e = exp(-abs(x)), d = 1.0f + e, lost = (1.0f - d) + e, y = select<f32v>(x < 0.0f, e, splat(1.0f)) / d;
    return fma(-y, lost, y);
}

// the error function: x + x P(x^2) up to 1, then 1 - e^-Q(x)
INLINE f32v erf(f32v x) {
    static constexpr float P[] = {0.128379166f, -0.376126379f, 0.112837821f, -0.0268654302f, 0.00522103161f,
                                  -0.000848408032f, 0.000112659589f, -9.66704465e-06f};
    static constexpr float Q[] = {-0.000349582115f, 1.13038838f, 0.631483495f, 0.110499568f, -0.0267362334f,
                                  0.00491078012f, -0.000643316482f, 5.49361685e-05f, -2.59433932e-06f, 4.45389645e-08f};
    f32v a = clamp_to(abs(x), 0.0f, 4.0f), z = a * a, small = fma(a, polynomial(z, P), a);
    f32v large = 1.0f - exp(-polynomial(a, Q));
    return copysign(select<f32v>(a < 1.0f, small, large), x);
}

// powers, in double: e^(y log x) keeps no digit to spare in float
typedef float f32h __attribute__((vector_size(VECTOR_BYTES / 2)));
template <int N> INLINE f64v polynomial(f64v x, const double (&c)[N]) {
    f64v sum = splat<f64v>(c[N - 1]);
    UNROLL
    for (int i = N - 2; i >= 0; --i) sum = fma(sum, x, splat<f64v>(c[i]));
    return sum;
}
INLINE f64v log2_of_float(f64v x) {  // positive and finite; a float is normal in double
    static constexpr double Q[] = {2.8853900817778508, 0.96179669411226487, 0.57707794266030443, 0.41220922406110433,
                                   0.31990680380701336, 0.28288502340748234};
    i64v b = bits(x) - 0x3fe6a09e667f3bcdll;
    f64v e = __builtin_convertvector(b >> 52, f64v), m = real((b & 0x000fffffffffffffll) + 0x3fe6a09e667f3bcdll);
    f64v s = (m - 1.0) / (m + 1.0);
    return fma(s, polynomial(s * s, Q), e);
}
INLINE f64v exp2_for_float(f64v x) {
    static constexpr double P[] = {1.0, 0.69314718054593349, 0.24022650695812989, 0.055504109412059327,
                                   0.0096181291594025584, 0.0013333450568000645, 0.00015403455852453838,
                                   1.5310079402249296e-05, 1.3255224878668817e-06};
    x = select<f64v>(x < -200.0, splat<f64v>(-200.0), select<f64v>(x > 200.0, splat<f64v>(200.0), x));
    f64v n = round_small(x);
    i64v whole = __builtin_convertvector(n, i64v);
    return polynomial(x - n, P) * real((whole + 1023) << 52);
}
INLINE f32h power_of_half(f32h x, f32h y) {
    f64v log = log2_of_float(__builtin_convertvector(x, f64v));
    return __builtin_convertvector(exp2_for_float(log * __builtin_convertvector(y, f64v)), f32h);
}
template <class Function> INLINE f32v in_double(f32v a, f32v b, Function f) {  // f of both halves
    union Halves { f32v whole; f32h half[2]; } x{a}, y{b}, z;
    z.half[0] = f(x.half[0], y.half[0]);
    z.half[1] = f(x.half[1], y.half[1]);
    return z.whole;
}
INLINE f32v pow(f32v x, f32v y) {
    f32v a = abs(x), r = in_double(a, y, [](f32h p, f32h q) { return power_of_half(p, q); });
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
INLINE f32v hypot(f32v x, f32v y) {
    f32v r = in_double(x, y, [](f32h p, f32h q) {
        f64v a = __builtin_convertvector(p, f64v), b = __builtin_convertvector(q, f64v);
        return __builtin_convertvector(sqrt(a * a + b * b), f32h);
    });
    return select<f32v>((abs(x) == INF) | (abs(y) == INF), splat(INF), r);
}

}  // namespace anyconv
