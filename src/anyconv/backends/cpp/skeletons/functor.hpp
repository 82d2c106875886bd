// y = sum(x * w): the functor of the ordinary convolution, with which the skeletons compile as they stand.
//
// A generated source has one like it in this place. The skeletons know the formula by nothing else.
#pragma once
#ifndef ANYCONV_FUNCTOR
#define ANYCONV_FUNCTOR
#include "ops.hpp"

namespace anyconv {

typedef float T;  // how numbers lie in memory
typedef float R;  // in what they are computed

struct Functor {
    static constexpr int OPERANDS = 1;
    static constexpr int AXES[] = {7};  // of each operand: 1 if it varies with o, 2 with c, 4 with k
    static constexpr int PARTS = 1;     // of the state, all that the result and the adjoint need
    static constexpr int RESULT = 1;    // the first parts, that the result needs
    static constexpr int SAVED[] = {0};  // the parts that the adjoint needs (a zero-length array is no C++)
    static constexpr int SAVES = 0;
    static constexpr int CONTEXTS = 1;   // values per output that the gradients need
    static constexpr bool COUNTS = false;  // whether the number of values in a field is needed
    static constexpr int SITES = 4, VECTORS = 4, FILTERS = 4, CHANNELS = 2;  // tiles of registers

    template <class F> INLINE static void identity(F (&s)[1]) { s[0] = F{}; }
    template <class F> INLINE static void fold(F (&s)[1], F x, const F (&p)[1]) { s[0] = fma(x, p[0], s[0]); }
    template <class F> INLINE static F result(const F* s, F count) { return s[0]; }
    template <class F> INLINE static void context(F g, const F* s, F count, F (&c)[1]) { c[0] = g; }
    template <class F> INLINE static void gradients(const F (&c)[1], F x, const F (&p)[1], F& dx, F (&dp)[1]) {
        dx = fma(c[0], p[0], dx);  // gradients are added to what is there
        dp[0] = fma(c[0], x, dp[0]);
    }
};

}  // namespace anyconv
#endif
