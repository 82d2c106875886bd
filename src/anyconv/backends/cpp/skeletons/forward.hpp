// The forward pass. Lanes are filters, or groups, or sites where these are few; a tile of registers holds the states of
// SITES x VECTORS outputs while one loop runs over the receptive field. Taps lie behind tables of offsets, so that one text
// serves every kernel, stride, dilation and number of axes.
#pragma once
#include "operands.hpp"

namespace anyconv {

struct ForwardCall {  // as launch.py writes it: 64-bit fields in this order
    Team team;
    Geometry geometry;
    i64 batch, groups, channels, filters;  // channels and filters of one group
    i64 filter_parts;
    i64 state_part;  // elements from one part of the saved state to the next
    Strided x, y, state, bias;
    Strided operand[AT_LEAST_ONE];
    i64 all_filters() const { return groups * filters; }
    i64 part(i64 unit) const { return up((filters + filter_parts - 1) / filter_parts, unit); }  // filters of a task
};
struct Forward : ForwardCall, Outer<OUTER>, Images<IMAGES - 1> {};

// The elements of a receptive field, in the order in which they are folded.
struct Field {
    i64 *x, *f, *mask;  // offsets of the inputs from the site's place, row of the operands, offset in the mask of real pixels
    i64 count;
    i64 block;  // elements of a channel, which come one after another where channels are reduced one by one
    void add(i64 offset, i64 row, i64 inside) { x[count] = offset, f[count] = row, mask[count] = inside, ++count; }
};

// The inputs of a map at one element of the field, for vector j of filters (or filter j).
template <Lanes LANES> INLINE void see(const R* at, const i64* offset, const i64* step, int j, F (&pixel)[INPUTS]) {
    if constexpr (LANES == CHANNELS) pixel[0] = splat<F>(at[*offset]);  // all filters see the same
    else if constexpr (LANES == GROUPS) pixel[0] = load<F>(at + *offset + j * V);
    else {
        UNROLL
        for (int q = 0; q < INPUTS; ++q)
            pixel[q] = load<F>(at + offset[q] + (image_varies(Functor::IMAGE[q], O) ? j * step[Functor::IMAGE[q]] : 0));
    }
}
// The states of one channel: they begin at its first element, and are reduced once more after its last. Templates of the
// functor, which has such functions only where channels are reduced one by one.
template <class Map = Functor, int S, int W, int SIZE> INLINE void begin_channel(F (&inner)[S][W][SIZE]) {
    UNROLL
    for (int s = 0; s < S; ++s)
        UNROLL
        for (int j = 0; j < W; ++j) Map::inner_identity(inner[s][j]);
}
template <class Map = Functor, int S, int W, int PARTS, int SIZE>
INLINE void end_channel(F (&state)[S][W][PARTS], const F (&inner)[S][W][SIZE]) {
    UNROLL
    for (int s = 0; s < S; ++s)
        UNROLL
        for (int j = 0; j < W; ++j) Map::fold(state[s][j], inner[s][j]);
}
// A value of the map goes into a state, where its pixel is one.
template <bool MASKED, class Map = Functor, int SIZE>
INLINE void fold_value(F (&state)[SIZE], const F (&pixel)[INPUTS], const F (&p)[AT_LEAST_ONE], const R* mask) {
    F next[SIZE];
    UNROLL
    for (int q = 0; q < SIZE; ++q) next[q] = state[q];
    if constexpr (INNER > 0) Map::inner_fold(next, pixel, p);
    else Map::fold(next, pixel, p);
    UNROLL
    for (int q = 0; q < SIZE; ++q) {
        if constexpr (MASKED) state[q] = select<F>(load<F>(mask) != F{}, next[q], state[q]);
        else state[q] = next[q];
    }
}

// Folds a field into the states of S sites (vectors of sites) x W vectors of filters (filters); images that vary with the
// filter lie `steps` apart.
template <Lanes LANES, bool MASKED, int S, int W, int PARTS, int LANE>
NOINLINE void fold(const Field field, const R* const* x, const i64* steps, const R* const* masks, const Reading<LANE> reading,
                   R* out) {
    constexpr int step = LANES == SITES ? 1 : V;  // from one filter, or vector of filters, to the next
    F state[S][W][PARTS], inner[S][W][INNER_OR_ONE];
    const R* at[S];
    UNROLL
    for (int s = 0; s < S; ++s) {
        at[s] = x[s];
        UNROLL
        for (int j = 0; j < W; ++j) Functor::identity(state[s][j]);
    }
    for (i64 i = 0; i < field.count; ++i) {
        if constexpr (INNER > 0)
            if (i % field.block == 0) begin_channel(inner);
        const i64 *offset = field.x + i * INPUTS, f = field.f[i];
        F p[W][AT_LEAST_ONE];
        UNROLL
        for (int j = 0; j < W; ++j) reading.template row<LANES != SITES>(f, j * step, p[j]);
        UNROLL
        for (int s = 0; s < S; ++s) {
            UNROLL
            for (int j = 0; j < W; ++j) {
                F v[INPUTS];
                see<LANES>(at[s], offset, steps, j, v);
                const R* mask = MASKED ? masks[s] + field.mask[i] : nullptr;
                if constexpr (INNER > 0) fold_value<MASKED>(inner[s][j], v, p[j], mask);
                else fold_value<MASKED>(state[s][j], v, p[j], mask);
            }
        }
        if constexpr (INNER > 0)
            if ((i + 1) % field.block == 0) end_channel(state, inner);
    }
    UNROLL
    for (int s = 0; s < S; ++s)
        UNROLL
        for (int j = 0; j < W; ++j)
            UNROLL
            for (int q = 0; q < PARTS; ++q) store<F>(out + ((s * W + j) * PARTS + q) * V, state[s][j][q]);
}

// What the tasks of a forward pass share.
template <int LANE> struct Work {
    const Forward& call;
    const Packed<LANE> packed;
    const R* operands;  // of all groups
    const R* outer;     // what the epilogue sees, of all filters
    static constexpr int OUTPUTS = 1 + Functor::SAVES;  // y and the saved parts

    Reading<LANE> reading(i64 g, i64 o) const { return Reading<LANE>(packed, operands + g * packed.size(), o); }

    // the values of a tile, from the states that fold() left: to[output][s][j], vectors `pitch` apart
    template <int S, int W, int PARTS, bool VECTOR>
    INLINE void finish(const R* states, const F* count, i64 filter, R* const (&to)[OUTPUTS], i64 site_pitch,
                       i64 filter_pitch) const {
        for (int s = 0; s < S; ++s)
            for (int j = 0; j < W; ++j) {
                F e[OUTER_OR_ONE];
                outer_at<VECTOR>(outer + filter + (VECTOR ? j * V : j), outer_pitch(call.all_filters()), e);
                F state[PARTS];
                for (int q = 0; q < PARTS; ++q) state[q] = load<F>(states + ((s * W + j) * PARTS + q) * V);
                i64 at = s * site_pitch + j * filter_pitch;
                store<F>(to[0] + at, Functor::result(state, count[s], e));
                if constexpr (PARTS == Functor::PARTS)
                    for (int q = 0; q < Functor::SAVES; ++q) store<F>(to[1 + q] + at, state[Functor::SAVED[q]]);
            }
    }
};

// Lanes are filters: the window of a chunk of sites lies pixel by pixel, channels together. Where they are groups, of one
// channel and one filter each, a task has the channels of its filters alone, and each lane sees a pixel of its own.
template <int PARTS, Lanes LANES> struct FiltersForward : Work<LANES == GROUPS ? G : O> {
    using Base = Work<LANES == GROUPS ? G : O>;
    using Base::call, Base::packed, Base::OUTPUTS;
    static constexpr int S = Functor::SITES, UNIT = Functor::VECTORS * V;
    i64 depth, window_size, sites_size, stage_size;  // depth: from one pixel of a window to the next
    explicit FiltersForward(const Base& work) : Base(work) {
        const Box sites = call.geometry.chunk(0);
        depth = LANES == GROUPS ? up(call.part(UNIT), V) : call.channels;
        window_size = up(call.geometry.window(sites).size() * depth, V);
        sites_size = up(sites.size(), S);
        stage_size = sites_size * Functor::VECTORS * V;
    }
    i64 bytes() const {
        i64 reals = window_size + stage_size * OUTPUTS + S * Functor::VECTORS * PARTS * V;
        return reals * i64(sizeof(R)) + (3 * packed.field + 3 * sites_size) * i64(sizeof(i64)) + 256;
    }

    void task(i64 n, i64 g, i64 chunk, Range filters, const Scratch& scratch) const {
        const Geometry& geo = call.geometry;
        const Box sites = geo.chunk(chunk), window = geo.window(sites);
        R* x = scratch.at<R>(0);
        R* stage = x + window_size;
        R* states = stage + stage_size * OUTPUTS;
        i64* table = (i64*)(states + S * Functor::VECTORS * PARTS * V);
        i64 *at = table + 3 * packed.field;
        const Outputs outputs{stage, at + sites_size, at + 2 * sites_size};
        const bool own = LANES == GROUPS;
        gather<T>(geo, call.x, n, own ? filters.first : g * call.channels, own ? filters.size() : call.channels, window, x, depth);
        geo.uniform(sites, [&](const Box& part, const Box& taps) {
            Field field = seen(taps, window, table);
            i64 count = 0;
            const i64 *ys = call.y.stride, *ss = call.state.stride;
            part.each([&](i64 d, i64 h, i64 w) {
                at[count] = pixel_of(window, d * geo.axis[0].stride - window.axis[0].first,
                                     h * geo.axis[1].stride - window.axis[1].first,
                                     w * geo.axis[2].stride - window.axis[2].first);
                outputs.y_at[count] = d * ys[2] + h * ys[3] + w * ys[4];
                outputs.state_at[count++] = d * ss[2] + h * ss[3] + w * ss[4];
            });
            i64 o = filters.first;
            for (; o + UNIT - V < filters.last; o += UNIT)
                filters_at<Functor::VECTORS>(n, g, o, filters, field, x, at, count, outputs, states);
            if constexpr (Functor::VECTORS > 2)
                for (; o + V < filters.last; o += 2 * V)
                    filters_at<2>(n, g, o, filters, field, x, at, count, outputs, states);
            for (; o < filters.last; o += V)
                filters_at<1>(n, g, o, filters, field, x, at, count, outputs, states);
        });
    }

private:
    struct Outputs {  // of a chunk: values, and where those of each site go
        R* stage;
        i64 *y_at, *state_at;
    };
    i64 pixel_of(const Box& window, i64 d, i64 h, i64 w) const {
        return ((d * window.axis[1].size() + h) * window.axis[2].size() + w) * depth;
    }
    Field seen(const Box& taps, const Box& window, i64* table) const {
        Field field{table, table + packed.field, table + 2 * packed.field, 0, 0};
        const Geometry& geo = call.geometry;
        taps.each([&](i64 d, i64 h, i64 w) {
            const i64 k = geo.tap(d, h, w);
            i64 offset = pixel_of(window, d * geo.axis[0].dilation, h * geo.axis[1].dilation, w * geo.axis[2].dilation);
            for (i64 c = 0; c < call.channels; ++c) field.add(offset + c, k * call.channels + c, 0);
        });
        return field;
    }
    template <int W>
    void filters_at(i64 n, i64 g, i64 o, Range filters, const Field& field, const R* x, const i64* at, i64 count,
                    const Outputs& outputs, R* states) const {
        R* const stage = outputs.stage;
        const R* seen = LANES == GROUPS ? x + o - filters.first : x;
        F counts[S];
        for (F& many : counts) many = splat<F>(R(field.count));
        for (i64 i = 0; i < count; i += S) {
            const R* pixels[S];  // beyond the last site, the last again
            for (int s = 0; s < S; ++s) pixels[s] = seen + at[i + s < count ? i + s : count - 1];
            fold<LANES, false, S, W, PARTS>(field, pixels, nullptr, nullptr, this->reading(g, o), states);
            R* to[OUTPUTS];
            for (int q = 0; q < OUTPUTS; ++q) to[q] = stage + q * stage_size + i * W * V;
            this->template finish<S, W, PARTS, true>(states, counts, g * call.filters + o, to, W * V, V);
        }
        const i64 lanes = least(filters.last - o, W * V), filter = g * call.filters + o;
        R bias[W * V];
        if (call.bias.data)
            for (i64 i = 0; i < W * V; ++i) bias[i] = widen(*call.bias.template at<T>(filter + least(i, lanes - 1), 0));
        separate(stage, W * V, count, lanes, call.y.template at<T>(n, filter), call.y.stride[1], outputs.y_at, call.bias.data ? bias : nullptr);
        if constexpr (variant::SAVES)
            for (int q = 0; q < Functor::SAVES; ++q)
                separate(stage + (1 + q) * stage_size, W * V, count, lanes,
                         call.state.template at<R>(n, filter) + q * call.state_part, call.state.stride[1], outputs.state_at, (const R*)nullptr);
    }
};

}  // namespace anyconv
