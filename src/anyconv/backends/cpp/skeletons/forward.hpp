// The forward pass. Lanes are filters, or groups, or sites where these are few; a tile of registers holds the states of
// SITES x VECTORS outputs while one loop runs over the receptive field. Taps lie behind tables of offsets, so that one text
// serves every kernel, stride, dilation and number of axes.
#pragma once
#include "operands.hpp"

namespace anyconv {

struct Forward {  // as launch.py writes it: 64-bit fields in this order
    Team team;
    Geometry geometry;
    i64 batch, groups, channels, filters;  // channels and filters of one group
    i64 lanes, filter_parts, saves;
    i64 state_part;  // elements from one part of the saved state to the next
    Strided x, y, state, bias;
    Strided operand[AT_LEAST_ONE];
    i64 part(i64 unit) const { return up((filters + filter_parts - 1) / filter_parts, unit); }  // filters of a task
};

// The elements of a receptive field, in the order in which they are folded.
struct Field {
    i64 *x, *f, *mask;  // offset of the pixel from the site's, row of the operands, offset in the mask of real pixels
    i64 count;
    void add(i64 offset, i64 row, i64 inside) { x[count] = offset, f[count] = row, mask[count] = inside, ++count; }
};

template <Lanes LANES> INLINE F pixel(const R* p) {
    if constexpr (LANES == CHANNELS) return splat<F>(*p);  // all filters see the same
    else return load<F>(p);
}
// Folds a field into the states of S sites (vectors of sites) x W vectors of filters (filters).
template <Lanes LANES, bool MASKED, int S, int W, int PARTS, int LANE>
NOINLINE void fold(const Field field, const R* const* x, const R* const* masks, const Reading<LANE> reading, R* out) {
    constexpr int step = LANES == SITES ? 1 : V;  // from one filter, or vector of filters, to the next
    F state[S][W][PARTS];
    const R* at[S];
    UNROLL
    for (int s = 0; s < S; ++s) {
        at[s] = x[s];
        UNROLL
        for (int j = 0; j < W; ++j) Functor::identity(state[s][j]);
    }
    for (i64 i = 0; i < field.count; ++i) {
        const i64 offset = field.x[i], f = field.f[i];
        F p[W][AT_LEAST_ONE];
        UNROLL
        for (int j = 0; j < W; ++j) reading.template row<LANES != SITES>(f, j * step, p[j]);
        UNROLL
        for (int s = 0; s < S; ++s) {
            UNROLL
            for (int j = 0; j < W; ++j) {
                const F v = pixel<LANES>(at[s] + offset + (LANES == GROUPS ? j * V : 0));
                if constexpr (MASKED) {
                    F next[PARTS];
                    Mask<F> inside = load<F>(masks[s] + field.mask[i]) != F{};
                    UNROLL
                    for (int q = 0; q < PARTS; ++q) next[q] = state[s][j][q];
                    Functor::fold(next, v, p[j]);
                    UNROLL
                    for (int q = 0; q < PARTS; ++q) state[s][j][q] = select<F>(inside, next[q], state[s][j][q]);
                } else {
                    Functor::fold(state[s][j], v, p[j]);
                }
            }
        }
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
    static constexpr int OUTPUTS = 1 + Functor::SAVES;  // y and the saved parts

    Reading<LANE> reading(i64 g, i64 o) const { return Reading<LANE>(packed, operands + g * packed.size(), o); }

    // the values of a tile, from the states that fold() left: to[output][s][j], vectors `pitch` apart
    template <int S, int W, int PARTS>
    INLINE void finish(const R* states, const F* count, R* const (&to)[OUTPUTS], i64 site_pitch, i64 filter_pitch) const {
        for (int s = 0; s < S; ++s)
            for (int j = 0; j < W; ++j) {
                F state[PARTS];
                for (int q = 0; q < PARTS; ++q) state[q] = load<F>(states + ((s * W + j) * PARTS + q) * V);
                i64 at = s * site_pitch + j * filter_pitch;
                store<F>(to[0] + at, Functor::result(state, count[s]));
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
        Field field{table, table + packed.field, table + 2 * packed.field, 0};
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
            fold<LANES, false, S, W, PARTS>(field, pixels, nullptr, this->reading(g, o), states);
            R* to[OUTPUTS];
            for (int q = 0; q < OUTPUTS; ++q) to[q] = stage + q * stage_size + i * W * V;
            this->template finish<S, W, PARTS>(states, counts, to, W * V, V);
        }
        const i64 lanes = least(filters.last - o, W * V), filter = g * call.filters + o;
        R bias[W * V];
        if (call.bias.data)
            for (i64 i = 0; i < W * V; ++i) bias[i] = widen(*call.bias.template at<T>(filter + least(i, lanes - 1), 0));
        separate(stage, W * V, count, lanes, call.y.template at<T>(n, filter), call.y.stride[1], outputs.y_at, call.bias.data ? bias : nullptr);
        if (PARTS == Functor::PARTS && call.saves)
            for (int q = 0; q < Functor::SAVES; ++q)
                separate(stage + (1 + q) * stage_size, W * V, count, lanes,
                         call.state.template at<R>(n, filter) + q * call.state_part, call.state.stride[1], outputs.state_at, (const R*)nullptr);
    }
};

}  // namespace anyconv
