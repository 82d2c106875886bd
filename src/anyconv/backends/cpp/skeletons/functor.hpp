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
    static constexpr int OPERANDS = 1, OUTER = 0;  // what the map and what the epilogue sees, beside images
    static constexpr int AXES[] = {7};  // of each operand: 1 if it varies with o, 2 with c, 4 with k
    static constexpr int INPUTS = 1, IMAGES = 1;  // the pixel, and what else is read from it and from other images
    static constexpr int IMAGE[] = {0}, TAP[] = {-1};  // of each input: its image, and its tap; -1: that of the loop
    static constexpr int IMAGE_AXES[] = {2};  // as AXES; 8 if it has a value for each site, and none for each pixel
    static constexpr bool WHOLE = false;      // whether the map sees all taps at once
    static constexpr bool LEARNS[] = {true};  // whether an image may have a gradient
    static constexpr int INNER = 0;  // parts of the state of one channel, where channels are reduced one by one
    static constexpr int PARTS = 1;     // of the state, all that the result and the adjoint need
    static constexpr int RESULT = 1;    // the first parts, that the result needs
    static constexpr int SAVED[] = {0};  // the parts that the adjoint needs (a zero-length array is no C++)
    static constexpr int SAVES = 0;
    static constexpr int CONTEXTS = 1;   // values per output that the gradients need
    static constexpr bool COUNTS = false;  // whether the number of values in a field is needed
    static constexpr int SITES = 4, VECTORS = 4, FILTERS = 4, CHANNELS = 2;  // tiles of registers

    template <class F> INLINE static void identity(F (&s)[1]) { s[0] = F{}; }
    template <class F> INLINE static void fold(F (&s)[1], const F (&x)[1], const F (&p)[1]) { s[0] = fma(x[0], p[0], s[0]); }
    template <class F> INLINE static F result(const F* s, F count, const F (&e)[1]) { return s[0]; }
    template <class F> INLINE static void context(F g, const F* s, F count, const F (&e)[1], F (&c)[1]) { c[0] = g; }
    template <class F> INLINE static void gradients(const F (&c)[1], const F (&x)[1], const F (&p)[1], F (&dx)[1], F (&dp)[1]) {
        dx[0] = fma(c[0], p[0], dx[0]);  // gradients are added to what is there
        dp[0] = fma(c[0], x[0], dp[0]);
    }
};

}  // namespace anyconv
#endif
