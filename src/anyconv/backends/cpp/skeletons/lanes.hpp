// Functions that are computed one lane at a time: every elementary function of doubles, by the C library, and the rare
// ones of floats, in double. They are not inlined: a call is small beside what it does.
#pragma once
#include "math.hpp"

extern "C" double lgamma_r(double, int*) noexcept;  // the C library's; no builtin of Clang's

namespace anyconv {

constexpr double PI_DOUBLE = 3.141592653589793;

// special functions that the C library lacks
inline double digamma(double x) {  // recurrence to 10, then the asymptotic series; reflection below 0
    if (x == 0) return __builtin_copysign(__builtin_inf(), -x);
    if (x < 0) {
        double rest = x - __builtin_rint(x);
        return rest == 0 ? __builtin_nan("") : digamma(1 - x) - PI_DOUBLE / __builtin_tan(PI_DOUBLE * rest);
    }
    double sum = 0;
    for (; x < 10; x += 1) sum -= 1 / x;
    double z = 1 / (x * x);
    return sum + __builtin_log(x) - 0.5 / x
         - z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * (1.0 / 240 - z * (1.0 / 132 - z * (691.0 / 32760 - z / 12))))));
}
inline double hurwitz_zeta(double s, double q) {  // Euler and Maclaurin; for whole s > 1
    if (q <= 0 && q == __builtin_floor(q)) return __builtin_inf();
    double sum = 0;
    for (; q < 12; q += 1) sum += __builtin_pow(q, -s);
    static const double B[] = {1.0 / 6, -1.0 / 30, 1.0 / 42, -1.0 / 30, 5.0 / 66, -691.0 / 2730, 7.0 / 6, -3617.0 / 510};
    double power = __builtin_pow(q, -s), term = s / q;
    sum += power * (q / (s - 1) + 0.5);
    for (int i = 0; i < 8; ++i) {  // B_2i s (s + 1) ... / (2i)! q^(1 - s - 2i)
        sum += B[i] * term * power / 2;
        term *= (s + 2 * i + 1) * (s + 2 * i + 2) / (q * q * (2 * i + 3) * (2 * i + 4));
    }
    return sum;
}
inline double polygamma(int n, double x) {
    if (n == 0) return digamma(x);
    return (n % 2 ? 1 : -1) * __builtin_tgamma(n + 1.0) * hurwitz_zeta(n + 1.0, x);
}
inline double erfinv(double y) {  // Newton on erfc, from the approximation of Giles, 2010
    if (!(y > -1 && y < 1)) return y == 1 || y == -1 ? y * __builtin_inf() : __builtin_nan("");
    double a = __builtin_fabs(y), rest = 1 - a, w = -__builtin_log(rest * (1 + a)), x;
    if (w < 5) {
        w -= 2.5;
        x = a * (1.50140941 + w * (0.246640727 + w * (-0.00417768164 + w * (-0.00125372503 + w * 0.00021858087))));
    } else {
        w = __builtin_sqrt(w) - 3;
        x = a * (2.83297682 + w * (1.00167406 + w * (0.00943887047 + w * (-0.0076224613 + w * 0.00573950773))));
    }
    for (int i = 0; i < 4; ++i) {
        double off = a < 0.5 ? __builtin_erf(x) - a : rest - __builtin_erfc(x);
        x -= off / (1.1283791670955126 * __builtin_exp(-x * x));
    }
    return __builtin_copysign(x, y);
}
inline double lgamma(double x) { int sign; return lgamma_r(x, &sign); }  // lgamma's own sign is not for threads

#define OF_DOUBLES(name, call) NOINLINE static f64v name(f64v x) { return lanes(x, [](double a) { return call; }); }
#define OF_FLOATS(name, call) NOINLINE static f32v name(f32v x) { return lanes(x, [](double a) { return call; }); }
OF_DOUBLES(exp, __builtin_exp(a))
OF_DOUBLES(exp2, __builtin_exp2(a))
OF_DOUBLES(expm1, __builtin_expm1(a))
OF_DOUBLES(log, __builtin_log(a))
OF_DOUBLES(log2, __builtin_log2(a))
OF_DOUBLES(log10, __builtin_log10(a))
OF_DOUBLES(log1p, __builtin_log1p(a))
OF_DOUBLES(sin, __builtin_sin(a))
OF_DOUBLES(cos, __builtin_cos(a))
OF_DOUBLES(tan, __builtin_tan(a))
OF_DOUBLES(asin, __builtin_asin(a))
OF_DOUBLES(acos, __builtin_acos(a))
OF_DOUBLES(atan, __builtin_atan(a))
OF_DOUBLES(sinh, __builtin_sinh(a))
OF_DOUBLES(cosh, __builtin_cosh(a))
OF_DOUBLES(tanh, __builtin_tanh(a))
OF_DOUBLES(erf, __builtin_erf(a))
OF_DOUBLES(sigmoid, (a < 0 ? __builtin_exp(a) / (1 + __builtin_exp(a)) : 1 / (1 + __builtin_exp(-a))))
OF_DOUBLES(asinh, __builtin_asinh(a))
OF_FLOATS(asinh, __builtin_asinh(a))
OF_DOUBLES(acosh, __builtin_acosh(a))
OF_FLOATS(acosh, __builtin_acosh(a))
OF_DOUBLES(atanh, __builtin_atanh(a))
OF_FLOATS(atanh, __builtin_atanh(a))
OF_DOUBLES(erfc, __builtin_erfc(a))
OF_FLOATS(erfc, __builtin_erfc(a))
OF_DOUBLES(erfinv, anyconv::erfinv(a))
OF_FLOATS(erfinv, anyconv::erfinv(a))
OF_DOUBLES(lgamma, anyconv::lgamma(a))
OF_FLOATS(lgamma, anyconv::lgamma(a))
OF_DOUBLES(digamma, anyconv::digamma(a))
OF_FLOATS(digamma, anyconv::digamma(a))
#undef OF_DOUBLES
#undef OF_FLOATS

#define OF_TWO(name, call) NOINLINE static f64v name(f64v x, f64v y) { return lanes(x, y, [](double a, double b) { return call; }); }
OF_TWO(pow, __builtin_pow(a, b))
OF_TWO(atan2, __builtin_atan2(a, b))
OF_TWO(hypot, __builtin_hypot(a, b))
OF_TWO(fmod, __builtin_fmod(a, b))
#undef OF_TWO
NOINLINE static f32v fmod(f32v x, f32v y) { return lanes(x, y, [](float a, float b) { return __builtin_fmodf(a, b); }); }

template <class F> INLINE F polygamma(F n, F x) {
    int order = int(n[0]);
    return lanes(x, [order](double a) { return polygamma(order, a); });
}

}  // namespace anyconv
