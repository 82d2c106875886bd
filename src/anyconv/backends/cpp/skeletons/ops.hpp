// The rows of the table of operations that are compositions of others, under their own names: what torch computes.
#pragma once
#include "lanes.hpp"

namespace anyconv {

// conditions and choices: a Mask<F> is a truth value in each lane
template <class F> INLINE F where(Mask<F> c, F a, F b) { return select<F>(c, a, b); }
template <class F> INLINE F truth(Mask<F> c) { return select<F>(c, splat<F>(1), F{}); }

// a product with sign(a): b with the sign changed where a < 0, and 0 where a is 0 or NaN
template <class F> INLINE F sign_times(F a, F b) {
    F turned = real(bits(b) ^ (bits(a) & Traits<F>::sign));
    return select<F>(abs(a) > F{}, turned, F{});
}
// of floats, in fewer instructions: ordered and not equal; b ^ (a & sign), or zero
#if defined(__AVX512F__)
INLINE f32v sign_times(f32v a, f32v b) {
    const unsigned short some = __builtin_ia32_cmpps512_mask(a, f32v{}, 12, -1, 4);
    return (f32v)__builtin_ia32_pternlogd512_maskz((i32v)b, (i32v)a, i32v{} + Traits<f32v>::sign, 0x78, some);
}
#elif VECTOR_BYTES == 32
INLINE f32v sign_times(f32v a, f32v b) {
    const i32v some = (i32v)__builtin_ia32_cmpps256(a, f32v{}, 12);
    return real((bits(b) ^ (bits(a) & Traits<f32v>::sign)) & some);
}
#endif

template <class F> INLINE F fmax(F a, F b) { return select<F>((a >= b) | (b != b), a, b); }
template <class F> INLINE F fmin(F a, F b) { return select<F>((a <= b) | (b != b), a, b); }
template <class F> INLINE F clamp_min(F x, F low) { return maximum(x, low); }
template <class F> INLINE F clamp_max(F x, F high) { return minimum(x, high); }
template <class F> INLINE F clamp(F x, F low, F high) { return minimum(maximum(x, low), high); }
template <class F> INLINE F square(F x) { return x * x; }
template <class F> INLINE F reciprocal(F x) { return Real<F>(1) / x; }
template <class F> INLINE F rsqrt(F x) { return Real<F>(1) / sqrt(x); }
#if defined(__AVX512F__)
INLINE f32v rsqrt(f32v x) {  // 14 bits and a step of Newton's; 0, infinity and NaN are right at once
    f32v y = __builtin_ia32_rsqrt14ps512_mask(x, x, (unsigned short)-1), half = real(bits(y) - 0x00800000);
    f32v off = fma(-(x * y), half, splat<f32v>(0.5f));
    return select<f32v>(off == off, fma(y, off, y), y);
}
#endif
template <class F> INLINE F frac(F x) { return x - trunc(x); }
template <class F> INLINE F detach(F x) { return x; }
template <class F> INLINE F ldexp(F x, F n) {  // torch's: of any number n; a whole one needs no exponential
    F y = scale(x, n);
    return __builtin_expect(any(round_small(n) != n), 0) ? select<F>(round_small(n) != n, x * exp2(n), y) : y;
}
template <class F> INLINE F lerp(F a, F b, F t) {
    return select<F>(abs(t) < Real<F>(0.5), a + t * (b - a), b - (b - a) * (Real<F>(1) - t));
}

// quotients
template <class F> INLINE F trunc_divide(F a, F b) { return trunc(a / b); }
template <class F> INLINE F remainder(F a, F b) {
    F mod = fmod(a, b);
    return select<F>((mod != F{}) & ((b < F{}) != (mod < F{})), mod + b, mod);
}
template <class F> INLINE F floor_divide(F a, F b) {
    F mod = fmod(a, b), div = (a - mod) / b;
    div = select<F>((mod != F{}) & ((b < F{}) != (mod < F{})), div - Real<F>(1), div);
    F whole = floor(div);
    whole = select<F>(div - whole > Real<F>(0.5), whole + Real<F>(1), whole);
    whole = select<F>(div == F{}, copysign(F{}, a / b), whole);
    return select<F>(b == F{}, a / b, whole);
}

// logarithms of sums and of products
template <class F> INLINE F logaddexp(F a, F b) {
    F high = maximum(a, b), y = high + log1p(exp(-abs(a - b)));
    return select<F>(isinf(a) & (a == b), a, y);
}
template <class F> INLINE F logaddexp2(F a, F b) {
    F high = maximum(a, b), y = high + log1p(exp2(-abs(a - b))) * Real<F>(1.4426950408889634);
    return select<F>(isinf(a) & (a == b), a, y);
}
template <class F> INLINE F xlogy(F x, F y) { return select<F>(y != y, y, select<F>(x == F{}, F{}, x * log(y))); }
template <class F> INLINE F xlog1py(F x, F y) { return select<F>(y != y, y, select<F>(x == F{}, F{}, x * log1p(y))); }
template <class F> INLINE F logit(F x) { return log(x / (Real<F>(1) - x)); }
template <class F> INLINE F sinc(F x) {
    F t = x * Real<F>(3.141592653589793);
    return select<F>(x == F{}, splat<F>(1), sin(t) / t);
}

// activations
template <class F> INLINE F relu(F x) { return greater(F{}, x); }  // x where it is -0 or NaN
template <class F> INLINE F leaky_relu(F x, F slope) { return select<F>(x > F{}, x, x * slope); }
template <class F> INLINE F logsigmoid(F x) { return minimum(x, F{}) - log1p(exp(-abs(x))); }
template <class F> INLINE F softplus(F x, F beta, F threshold) {
    return select<F>(x * beta > threshold, x, log1p(exp(x * beta)) / beta);
}
template <class F> INLINE F elu(F x, F alpha) { return select<F>(x <= F{}, alpha * expm1(x), x); }
template <class F> INLINE F celu(F x, F alpha) { return select<F>(x <= F{}, alpha * expm1(x / alpha), x); }
template <class F> INLINE F selu(F x) {
    return Real<F>(1.0507009873554805) * elu(x, splat<F>(Real<F>(1.6732632423543772)));
}
template <class F> INLINE F gelu(F x) {
    return x * Real<F>(0.5) * (Real<F>(1) + erf(x * Real<F>(0.7071067811865476)));
}
template <class F> INLINE F gelu_tanh(F x) {
    F inner = Real<F>(0.7978845608028654) * (x + Real<F>(0.044715) * (x * x * x));
    return Real<F>(0.5) * x * (Real<F>(1) + tanh(inner));
}
template <class F> INLINE F silu(F x) { return x / (Real<F>(1) + exp(-x)); }
template <class F> INLINE F mish(F x) { return x * tanh(softplus(x, splat<F>(1), splat<F>(20))); }
template <class F> INLINE F hardtanh(F x, F low, F high) { return clamp(x, low, high); }
template <class F> INLINE F relu6_of(F x) { return clamp(x, F{}, splat<F>(6)); }
template <class F> INLINE F hardswish(F x) { return x * relu6_of(x + Real<F>(3)) / Real<F>(6); }
template <class F> INLINE F hardsigmoid(F x) { return relu6_of(x + Real<F>(3)) / Real<F>(6); }
template <class F> INLINE F softshrink(F x, F lambd) {
    return select<F>(x != x, x, select<F>(x > lambd, x - lambd, select<F>(x < -lambd, x + lambd, F{})));
}
template <class F> INLINE F hardshrink(F x, F lambd) { return select<F>((x >= -lambd) & (x <= lambd), F{}, x); }
template <class F> INLINE F threshold(F x, F level, F value) { return select<F>(x <= level, value, x); }

}  // namespace anyconv
