// Operands, packed for a kernel whose lanes lie along one axis (filters forward, channels backward): blocks of `block`
// columns along that axis, in each block one row for every (k, other channel). What an operand does not vary along is not stored.
#pragma once
#include "functor.hpp"
#include "geometry.hpp"
#include "team.hpp"

namespace anyconv {

enum Along { O = 1, C = 2, K = 4 };
constexpr int V = lanes_of<VectorOf<R>::type>;
typedef VectorOf<R>::type F;
constexpr int N = Functor::OPERANDS, AT_LEAST_ONE = N ? N : 1;  // no array of C++ is empty
constexpr bool varies(int p, int axes) { return (Functor::AXES[p] & axes) != 0; }

INLINE i64 up(i64 value, i64 multiple) { return (value + multiple - 1) / multiple * multiple; }
INLINE i64 least(i64 a, i64 b) { return a < b ? a : b; }

template <int LANE> struct Packed {  // LANE: O or C
    static constexpr int OTHER = LANE == O ? C : O;
    static constexpr int block = LANE == O ? Functor::VECTORS * V : V;  // what a tile reads at once
    i64 inner, field, columns;  // other channels; rows: taps times those; lanes, padded to whole blocks
    i64 start[N + 1];           // where each operand begins
    Packed(i64 taps, i64 inner_, i64 lanes) : inner(inner_), field(taps * inner_), columns(up(lanes, block)), start{} {
        for (int p = 0; p < N; ++p) start[p + 1] = start[p] + up(rows(p) * (varies(p, LANE) ? columns : 1), V);
    }
    i64 rows(int p) const { return varies(p, OTHER | K) ? field : 1; }
    static constexpr int step(int p) { return varies(p, OTHER | K) ? (varies(p, LANE) ? block : 1) : 0; }
    INLINE i64 column(int p, i64 lane) const {
        return start[p] + (varies(p, LANE) ? lane / block * rows(p) * block + lane % block : 0);
    }
    i64 size() const { return start[N]; }

    // operand p of group g, rows [first, last); lanes beyond the last repeat it, so that padding is harmless
    void fill(const Geometry& geo, const Strided& from, int p, i64 g, i64 filters, i64 channels, i64 first, i64 last,
              R* to) const {
        const i64* s = from.stride;
        const i64 count = varies(p, LANE) ? (LANE == O ? filters : channels) : 1, across = s[LANE == O ? 0 : 1];
        const i64 width = varies(p, LANE) ? columns : 1;
        const T* base = (const T*)from.data + (varies(p, O) ? g * filters * s[0] : g * channels * s[1]);
        for (i64 f = first; f < last; ++f) {
            const T* at = base + f % inner * s[LANE == O ? 1 : 0] + geo.tap_offset(from, f / inner);
            R* row = to + start[p] + f * step(p);
            for (i64 b = 0; b < width; b += block, row += rows(p) * block)
                for (i64 i = 0; i < block && b + i < width; ++i)
                    row[i] = widen(at[least(b + i, count - 1) * across]);
        }
    }
    bool fill_all(const Team& team, const Geometry& geo, const Strided* operand, i64 groups, i64 filters, i64 channels,
                  R* to) const {
        const i64 some = 64, blocks = (field + some - 1) / some;
        return share(team, groups * blocks, 0, [&](i64 task, const Scratch&) {
            i64 g = task / blocks, first = task % blocks * some;
            for (int p = 0; p < N; ++p)
                fill(geo, operand[p], p, g, filters, channels, first, least(first + some, rows(p)), to + g * size());
        });
    }
};

// Where a tile reads its operands: along LANE from one lane on.
template <int LANE> struct Reading {
    const R* at[AT_LEAST_ONE];
    Reading(const Packed<LANE>& packed, const R* base, i64 lane) {
        for (int p = 0; p < N; ++p) at[p] = base + packed.column(p, lane);
    }
    // the operands of row f for lane + shift: a vector along LANE, or one number
    template <bool VECTOR> INLINE void row(i64 f, i64 shift, F (&p)[AT_LEAST_ONE]) const {
        UNROLL
        for (int q = 0; q < N; ++q) {
            const R* from = at[q] + f * Packed<LANE>::step(q) + (varies(q, LANE) ? shift : 0);
            p[q] = varies(q, LANE) && VECTOR ? load<F>(from) : splat<F>(*from);
        }
    }
};

}  // namespace anyconv
