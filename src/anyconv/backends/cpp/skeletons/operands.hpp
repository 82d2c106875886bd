// Operands, packed for a kernel whose lanes lie along one axis (filters forward, channels backward; groups of one channel
// and one filter are both): blocks of a few columns along that axis, in each block one row for every (k, other channel).
// What an operand does not vary along is not stored.
#pragma once
#include "functor.hpp"
#include "geometry.hpp"
#include "team.hpp"

namespace anyconv {

enum Along { O = 1, C = 2, G = O | C, K = 4, SITE = 8 };
enum Lanes : i64 { CHANNELS, SITES, GROUPS };  // what the lanes of a vector are

// The calls that a library serves. What they cannot use is not compiled; other calls have a library of their own.
#ifndef ANYCONV_LANES
#define ANYCONV_LANES CHANNELS
#endif
#ifndef ANYCONV_SAVES
#define ANYCONV_SAVES false
#endif
#ifndef ANYCONV_SKIPS
#define ANYCONV_SKIPS false
#endif
namespace variant {
constexpr Lanes LANES = ANYCONV_LANES;
constexpr bool SAVES = ANYCONV_SAVES;  // the forward pass stores the states that the backward pass reads
constexpr bool SKIPS = ANYCONV_SKIPS;  // taps outside the image are left out; lanes of channels find them without a mask
}  // namespace variant

constexpr int V = lanes_of<VectorOf<R>::type>;
typedef VectorOf<R>::type F;
constexpr int N = Functor::OPERANDS, AT_LEAST_ONE = N ? N : 1;  // no array of C++ is empty
constexpr bool varies(int p, int axes) { return (Functor::AXES[p] & axes) != 0; }
constexpr int INPUTS = Functor::INPUTS, IMAGES = Functor::IMAGES, OUTER = Functor::OUTER, OUTER_OR_ONE = OUTER ? OUTER : 1;
constexpr int INNER = Functor::INNER, INNER_OR_ONE = INNER ? INNER : 1;
constexpr bool SEES_IMAGES = IMAGES > 1 || Functor::WHOLE || INNER > 0;  // more than one pixel of one image at a time
constexpr bool image_varies(int m, int axes) { return (Functor::IMAGE_AXES[m] & axes) != 0; }
inline i64 taps_of_loop(const Geometry& geo) { return Functor::WHOLE ? 1 : geo.taps(); }

INLINE i64 up(i64 value, i64 multiple) { return (value + multiple - 1) / multiple * multiple; }
INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }

struct Image {  // a tensor (n, o, c, kd, kh, kw, d, h, w), without the axes that it lacks: their stride is 0
    void* data;
    i64 stride[9];
    Strided pixels() const { return {data, {stride[0], stride[2], stride[6], stride[7], stride[8]}}; }
};
// What a call ends with, where there is any: what the epilogue sees, and the images beside that of the pixel.
template <int COUNT> struct Outer { Strided outer[COUNT]; };
template <> struct Outer<0> {};
template <int COUNT> struct Images { Image image[COUNT]; };
template <> struct Images<0> {};

// What the epilogue sees, for each filter of all groups: values[operand][filter].
inline i64 outer_pitch(i64 filters) { return up(filters, V) + Functor::VECTORS * V; }
template <class Call> void fill_outer(const Call& call, R* to) {
    if constexpr (OUTER > 0) {
        const i64 filters = call.all_filters(), pitch = outer_pitch(filters);
        for (int q = 0; q < OUTER; ++q)
            for (i64 o = 0; o < pitch; ++o) to[q * pitch + o] = widen(*call.outer[q].template at<T>(least(o, filters - 1), 0));
    }
}
template <bool VECTOR> INLINE void outer_at(const R* from, i64 pitch, F (&e)[OUTER_OR_ONE]) {
    UNROLL
    for (int q = 0; q < OUTER; ++q) e[q] = VECTOR ? load<F>(from + q * pitch) : splat<F>(from[q * pitch]);
}

template <int LANE> struct Packed {  // LANE: O, C or G
    static constexpr int OTHER = G & ~LANE;
    i64 inner, lanes, field, block, columns;  // other channels; lanes; rows: taps times inner; lanes in whole blocks
    i64 start[N + 1];                         // where each operand begins
    Packed(i64 taps, i64 inner_, i64 lanes_, i64 block_)
        : inner(inner_), lanes(lanes_), field(taps * inner_), block(block_), columns(up(lanes_, block_)), start{} {
        for (int p = 0; p < N; ++p) start[p + 1] = start[p] + up(rows(p) * (varies(p, LANE) ? columns : 1), V);
    }
    i64 rows(int p) const { return varies(p, OTHER | K) ? field : 1; }
    i64 width(int p) const { return varies(p, LANE) ? block : 1; }
    i64 step(int p) const { return varies(p, OTHER | K) ? width(p) : 0; }
    INLINE i64 column(int p, i64 lane) const {
        return start[p] + (varies(p, LANE) ? lane / block * rows(p) * block + lane % block : 0);
    }
    i64 size() const { return start[N]; }

    bool fill_all(const Team& team, const Geometry& geo, const Strided* operand, i64 groups, R* to) const {
        const i64 some = 16, tasks = (inner + some - 1) / some;
        return share(team, groups * tasks, 0, [&](i64 task, const Scratch&) {
            const i64 g = task / tasks, first = task % tasks * some;
            for (int p = 0; p < N; ++p)
                if (varies(p, OTHER | K)) fill(geo, operand[p], p, g, first, least(first + some, inner), to + g * size());
                else if (first == 0) fill(geo, operand[p], p, g, 0, 1, to + g * size());
        });
    }

private:
    // the rows of operand p of group g for the inner channels [first, last), along what lies together in memory
    void fill(const Geometry& geo, const Strided& from, int p, i64 g, i64 first, i64 last, R* to) const {
        const int axis = LANE == O || (LANE == G && varies(p, O)) ? 0 : 1;
        const i64 *s = from.stride, across = s[axis], along = s[1 - axis];
        const i64 taps = rows(p) == 1 ? 1 : field / inner, pitch = width(p), lanes_of_p = varies(p, LANE) ? lanes : 1;
        const i64 filters = LANE == O ? lanes : inner, channels = LANE == O ? inner : lanes;
        const T* base = (const T*)from.data + (varies(p, O) ? g * filters * s[0] : g * channels * s[1]);
        for (i64 lane = 0; lane < lanes_of_p; lane += pitch) {
            const T* at = base + lane * across + first * along;
            R* rows_of = to + start[p] + lane * rows(p) + first * pitch;
            const i64 deep = least(pitch, lanes_of_p - lane);
            if (taps > 1 && geo.taps_lie_together(from))
                for (i64 i = 0; i < last - first; ++i)
                    interleave(at + i * along, across, s[4], taps, deep, rows_of + i * pitch, inner * pitch);
            else
                for (i64 k = 0; k < taps; ++k)
                    interleave(at + geo.tap_offset(from, k), across, along, last - first, deep, rows_of + k * inner * pitch, pitch);
            for (i64 k = 0; deep < pitch && k < taps; ++k)  // lanes beyond the last repeat it, so that padding is harmless
                for (R* row = rows_of + k * inner * pitch; row < rows_of + (k * inner + last - first) * pitch; row += pitch)
                    for (i64 i = deep; i < pitch; ++i) row[i] = row[deep - 1];
        }
    }
};

// Where a tile reads its operands: along LANE from one lane on.
template <int LANE> struct Reading {
    const R* at[AT_LEAST_ONE];
    i64 step[AT_LEAST_ONE];
    Reading(const Packed<LANE>& packed, const R* base, i64 lane) {
        for (int p = 0; p < N; ++p) at[p] = base + packed.column(p, lane), step[p] = packed.step(p);
    }
    // the operands of row f for lane + shift: a vector along LANE, or one number
    template <bool VECTOR> INLINE void row(i64 f, i64 shift, F (&p)[AT_LEAST_ONE]) const {
        UNROLL
        for (int q = 0; q < N; ++q) {
            const R* from = at[q] + f * (varies(q, Packed<LANE>::OTHER | K) ? step[q] : 0) + (varies(q, LANE) ? shift : 0);
            p[q] = varies(q, LANE) && VECTOR ? load<F>(from) : splat<F>(*from);
        }
    }
};

}  // namespace anyconv
