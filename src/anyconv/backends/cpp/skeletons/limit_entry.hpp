// The in-register limit: the functor on operands and sums that never leave the registers, in the tiles of the kernels. No
// loop nest around the same functor can be faster; kernels are measured against it.
#pragma once
#include "backward.hpp"
#include "forward.hpp"

namespace anyconv {

// the compiler may not know the value any more, and has to compute with it again
#if defined(__aarch64__)
INLINE void forget(F& value) { asm volatile("" : "+w"(value)); }
#elif VECTOR_BYTES == 64
INLINE void forget(F& value) { asm volatile("" : "+v"(value)); }
#else
INLINE void forget(F& value) { asm volatile("" : "+x"(value)); }
#endif
INLINE F number(int i) { return splat<F>(R(0.25) + R(0.0625) * R(i)); }

template <int PARTS, class Map = Functor> i64 limit_forward(i64 rounds) {
    constexpr int S = Functor::SITES, W = Functor::VECTORS;
    F state[S][W][PARTS], x[INPUTS], p[W][AT_LEAST_ONE];
    UNROLL
    for (int q = 0; q < INPUTS; ++q) x[q] = number(7 + q);
    UNROLL
    for (int j = 0; j < W; ++j)
        UNROLL
        for (int q = 0; q < AT_LEAST_ONE; ++q) p[j][q] = number(j + q);
    UNROLL
    for (int s = 0; s < S; ++s)
        UNROLL
        for (int j = 0; j < W; ++j)
            if constexpr (INNER > 0) Map::inner_identity(state[s][j]);
            else Map::identity(state[s][j]);
    for (i64 i = 0; i < rounds; ++i) {
        UNROLL
        for (int s = 0; s < S; ++s) {
            UNROLL
            for (int q = 0; q < INPUTS; ++q) forget(x[q]);
            UNROLL
            for (int j = 0; j < W; ++j)
                if constexpr (INNER > 0) Map::inner_fold(state[s][j], x, p[j]);  // channels are few beside their taps
                else Map::fold(state[s][j], x, p[j]);
        }
    }
    UNROLL
    for (int s = 0; s < S; ++s)
        UNROLL
        for (int j = 0; j < W; ++j)
            UNROLL
            for (int q = 0; q < PARTS; ++q) forget(state[s][j][q]);
    return rounds * S * W * V;
}

inline i64 limit_backward(i64 rounds) {
    constexpr int T = Functor::FILTERS;
    F p[T][AT_LEAST_ONE], sum[T][AT_LEAST_ONE], c[CONTEXTS], x[INPUTS];
    UNROLL
    for (int q = 0; q < INPUTS; ++q) x[q] = number(7 + q);
    UNROLL
    for (int q = 0; q < CONTEXTS; ++q) c[q] = number(3 + q);
    UNROLL
    for (int j = 0; j < T; ++j)
        UNROLL
        for (int q = 0; q < AT_LEAST_ONE; ++q) p[j][q] = number(j + q), sum[j][q] = F{};
    for (i64 i = 0; i < rounds; ++i) {
        F total[INPUTS];  // every site has its own
        UNROLL
        for (int q = 0; q < INPUTS; ++q) {
            forget(x[q]);
            total[q] = x[q];
        }
        UNROLL
        for (int j = 0; j < T; ++j) {
            forget(c[0]);
            Functor::gradients(c, x, p[j], total, sum[j]);
        }
        UNROLL
        for (int q = 0; q < INPUTS; ++q) forget(total[q]);
    }
    UNROLL
    for (int j = 0; j < T; ++j)
        UNROLL
        for (int q = 0; q < AT_LEAST_ONE; ++q) forget(sum[j][q]);
    return rounds * T * V;
}

}  // namespace anyconv

// evaluations done in so many rounds, by one thread: forward, forward in training, backward
extern "C" ENTRY long anyconv_limit(long pass, long rounds) {
    using namespace anyconv;
    if (pass == 0) return limit_forward<INNER ? INNER : Functor::RESULT>(rounds);
    return pass == 1 ? limit_forward<INNER ? INNER : Functor::PARTS>(rounds) : limit_backward(rounds);
}
