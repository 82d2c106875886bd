// The backward pass: one walk over the evaluations serves the gradients of the pixels and of the operands, which share the
// map and all that its derivatives have in common.
//
// The work is cut into `parts` of images and chunks by the geometry alone; each part has sums of its own, which are joined
// in their order. Two runs agree to the last bit, for any number of threads.
#pragma once
#include "operands.hpp"

namespace anyconv {

constexpr int CONTEXTS = Functor::CONTEXTS;

struct BackwardCall {  // as launch.py writes it: 64-bit fields in this order
    Team team;
    Geometry geometry;
    i64 batch, groups, channels, filters;  // channels and filters of one group
    i64 parts, channel_parts, wants_pixels;  // channel_parts: of a group, where the map sees images
    i64 state_part;
    Strided x, g, state, gx;  // gx: the gradient of the pixels
    i64 all_filters() const { return variant::LANES == GROUPS ? channels : groups * filters; }
    Strided operand[AT_LEAST_ONE], gradient[AT_LEAST_ONE];  // in double where the operand lacks an axis
};

struct Slot {  // the gradient of an image, in R; elements from one piece to the next, where tasks would add to the same
    Image image;
    i64 piece;
};
template <int COUNT> struct Slots { Slot slot[COUNT]; };
template <> struct Slots<0> {};
struct Backward : BackwardCall, Outer<OUTER>, Images<IMAGES - 1>, Slots<IMAGES - 1> {};

// Buffers of one backward pass.
struct Buffers {
    R *operands, *pixels, *sums, *outer;
};

template <int LANE> struct BackwardWork {
    const Backward& call;
    const Packed<LANE> packed;
    const Buffers buffers;
    i64 blocks() const { return (call.channels + V - 1) / V; }  // vectors of channels in a group
    // sums[part][g][operand][block][k][o][V]
    i64 sums_of_block() const { return packed.field * V; }
    i64 sums_of_group() const { return AT_LEAST_ONE * blocks() * sums_of_block(); }
    R* sums(i64 part, i64 g, int p, i64 block) const {
        return buffers.sums + (part * call.groups + g) * sums_of_group() + (p * blocks() + block) * sums_of_block();
    }
    Reading<LANE> reading(i64 g, i64 lane) const { return Reading<LANE>(packed, buffers.operands + g * packed.size(), lane); }

    // The contexts of V outputs from their gradients and saved parts: of one filter, or of V from that one on. Where channels
    // are reduced one by one, of one channel, from its state.
    template <bool VECTOR, class Map = Functor, class... Inner>
    INLINE void contexts(const R* g, const R* states, i64 pitch, F count, i64 filter, F (&made)[CONTEXTS],
                         const Inner&... inner) const {
        F e[OUTER_OR_ONE], state[Functor::SAVES ? Functor::SAVES : 1];
        outer_at<VECTOR>(buffers.outer + filter, outer_pitch(call.all_filters()), e);
        for (int q = 0; q < Functor::SAVES; ++q) state[q] = load<F>(states + q * pitch);
        Map::context(load<F>(g), state, count, e, inner..., made);
    }
    template <bool VECTOR> void contexts(const R* g, const R* states, i64 pitch, F count, i64 filter, R* to, i64 to_pitch) const {
        F made[CONTEXTS];
        contexts<VECTOR>(g, states, pitch, count, filter, made);
        for (int q = 0; q < CONTEXTS; ++q) store<F>(to + q * to_pitch, made[q]);
    }
};

}  // namespace anyconv
