// The backward pass where lanes are channels, or groups of one channel and one filter: at each tap a row of sites is walked,
// the sums of the operands' gradients stay in registers, and those of the pixels in a window that the first-level cache holds.
#pragma once
#include "planes.hpp"
#include "windows.hpp"

namespace anyconv {

// Rows of sites at one tap, for W vectors of channels and T filters.
struct Row {
    i64 rows, width;  // sites
    const R *x, *context;
    R* gx;
    i64 x_step, x_row, context_step, context_row;  // to the next site, to the next row
    i64 x_vector, sums_vector;                     // to the next vector of channels
    i64 filter_pitch;                              // from one context of a filter, or a group, to the next
};

template <int T, int W, int LANE> NOINLINE void walk(const Row row, const Reading<LANE>* readings, i64 f, R* const* sums) {
    F p[W][T][AT_LEAST_ONE], sum[W][T][AT_LEAST_ONE];
    UNROLL
    for (int v = 0; v < W; ++v)
        UNROLL
        for (int j = 0; j < T; ++j) {
            readings[v].template row<true>(f + j, 0, p[v][j]);
            UNROLL
            for (int q = 0; q < N; ++q) sum[v][j][q] = load<F>(sums[q] + v * row.sums_vector + (f + j) * V);
        }
    for (i64 h = 0; h < row.rows; ++h) {
        const R *x = row.x + h * row.x_row, *context = row.context + h * row.context_row;
        R* gx = row.gx + h * row.x_row;
        for (i64 w = 0; w < row.width; ++w, x += row.x_step, gx += row.x_step, context += row.context_step) {
            F pixel[W][1], total[W][1];
            UNROLL
            for (int v = 0; v < W; ++v) pixel[v][0] = load<F>(x + v * row.x_vector), total[v][0] = load<F>(gx + v * row.x_vector);
            UNROLL
            for (int j = 0; j < T; ++j)
                UNROLL
                for (int v = 0; v < W; ++v) {
                    F c[CONTEXTS];
                    UNROLL
                    for (int q = 0; q < CONTEXTS; ++q)
                        if constexpr (LANE == G) c[q] = load<F>(context + q * row.filter_pitch + v * V);
                        else c[q] = splat<F>(context[q * row.filter_pitch + j]);
                    Functor::gradients(c, pixel[v], p[v][j], total[v], sum[v][j]);
                }
            UNROLL
            for (int v = 0; v < W; ++v) store<F>(gx + v * row.x_vector, total[v][0]);
        }
    }
    UNROLL
    for (int v = 0; v < W; ++v)
        UNROLL
        for (int j = 0; j < T; ++j)
            UNROLL
            for (int q = 0; q < N; ++q) store<F>(sums[q] + v * row.sums_vector + (f + j) * V, sum[v][j][q]);
}

template <int LANE> struct ChannelsBackward : BackwardWork<LANE> {  // LANE: C or G
    using Base = BackwardWork<LANE>;
    using Base::call, Base::packed, Base::buffers, Base::blocks, Base::sums, Base::sums_of_block;
    // enough to pay for loading and storing the sums; few enough that pixels without other filters stay in the first cache
    static constexpr i64 SITES_AT_ONCE = LANE == G ? 48 : 256;
    static constexpr i64 TERMS_AT_ONCE = 512;  // of a pixel's gradient, at least, that make a sum of their own: over thousands
                                               // of additions of like numbers to one sum, roundings add up
    static constexpr i64 W = Functor::CHANNELS;  // vectors of channels that a task takes on together
    i64 window_size, context_pitch, sites_size, filters_at_once;
    GradientWindows windows;
    bool whole;  // images of one window and one sum: a task emits them itself
    explicit ChannelsBackward(const Base& work) : Base(work), windows{call, blocks(), 0, buffers.pixels} {
        const Box sites = call.geometry.chunk(0);
        windows.window = window_size = call.geometry.window(sites).size() * V;
        context_pitch = LANE == G ? W * V : up(call.filters, V);
        sites_size = sites.size();
        const i64 sums = call.filters * call.geometry.taps() / TERMS_AT_ONCE;
        filters_at_once = sums > 1 ? up((call.filters + sums - 1) / sums, Functor::FILTERS) : call.filters;
        whole = call.geometry.chunks() == 1 && filters_at_once >= call.filters;
    }
    i64 shares() const { return (blocks() + W - 1) / W; }
    i64 tasks() const { return call.parts * call.groups * shares(); }
    i64 pixels_size() const { return whole ? 0 : windows.size(); }
    i64 unpack_tasks() const { return whole ? 0 : windows.tasks(); }
    i64 unpack_bytes() const { return windows.bytes(); }
    void unpack(i64 task, const Scratch& scratch) const { windows.unpack(task, scratch); }
    i64 context_size() const {  // and a row of what it is made of
        return (sites_size * CONTEXTS + (1 + Functor::SAVES) * call.geometry.axis[2].chunk) * context_pitch;
    }
    i64 bytes() const {
        const i64 reals = up(2 * W * window_size + context_size(), V);
        return reals * i64(sizeof(R)) + windows.bytes() + 256;
    }

    void task(i64 index, const Scratch& scratch) const {
        const i64 block = index % shares() * W, g = index / shares() % call.groups, part = index / shares() / call.groups;
        const i64 vectors = least(W, blocks() - block);
        const i64 chunks = call.geometry.chunks(), all = call.batch * chunks;
        R *x = scratch.at<R>(0), *gx = x + W * window_size, *context = gx + W * window_size;
        R* sums_of[AT_LEAST_ONE];
        for (int p = 0; p < N; ++p) {
            sums_of[p] = sums(part, g, p, block);
            for (i64 i = 0; i < vectors * sums_of_block(); ++i) sums_of[p][i] = R(0);
        }
        for (i64 i = part * all / call.parts; i < (part + 1) * all / call.parts; ++i)
            chunk_of(i / chunks, g, block, vectors, i % chunks, x, gx, context, sums_of);
    }

private:
    void chunk_of(i64 n, i64 g, i64 block, i64 vectors, i64 chunk, R* x, R* gx, R* context, R* const* sums_of) const {
        const Geometry& geo = call.geometry;
        const Box sites = geo.chunk(chunk), window = geo.window(sites);
        for (i64 v = 0; v < vectors; ++v)
            gather<T>(geo, call.x, n, g * call.channels + (block + v) * V, least(V, call.channels - (block + v) * V), window,
                      x + v * window_size, V);
        if constexpr (LANE == G) prepare(n, block * V, least(vectors * V, call.channels - block * V), sites, context);
        else prepare(n, g * call.filters, call.filters, sites, context);
        i64 o = 0;
        do {
            for (i64 i = 0; i < W * window_size; ++i) gx[i] = R(0);
            walk_all(g, block, vectors, sites, window, {o, least(o + filters_at_once, call.filters)}, x, gx, context, sums_of);
            for (i64 v = 0; call.wants_pixels && !whole && v < vectors; ++v) {
                R* to = windows.of(n, g, block + v, chunk);
                const R* of = gx + v * window_size;
                if (o == 0) copy(of, window_size, to);
                else add(of, window_size, to);
            }
            o += filters_at_once;
        } while (o < call.filters);
        R* const row = context + context_size();
        for (i64 v = 0; call.wants_pixels && whole && v < vectors; ++v) windows.emit(n, g, block + v, gx + v * window_size, row);
    }
    // all sites of a chunk at all taps, for some of the filters
    void walk_all(i64 g, i64 block, i64 vectors, const Box& sites, const Box& window, Range filters, const R* x, R* gx,
                  const R* context, R* const* sums_of) const {
        const Geometry& geo = call.geometry;
        const i64 wide = window.axis[2].size(), high = window.axis[1].size();
        const Reading<LANE> from[2] = {this->reading(g, block * V), this->reading(g, (block + vectors - 1) * V)};
        const i64 site = CONTEXTS * context_pitch, row_of_sites = sites.axis[2].size() * site;
        geo.uniform(sites, [&](const Box& part, const Box& taps) {
            Row row;
            row.width = part.axis[2].size();
            row.x_step = geo.axis[2].stride * V, row.x_row = geo.axis[1].stride * wide * V;
            row.context_step = site, row.context_row = row_of_sites, row.filter_pitch = context_pitch;
            row.x_vector = window_size, row.sums_vector = sums_of_block();
            const i64 at_once = 1 + (SITES_AT_ONCE - 1) / row.width;
            for (i64 d = part.axis[0].first; d < part.axis[0].last; ++d)
                for (i64 h = part.axis[1].first; h < part.axis[1].last; h += at_once) {
                    row.rows = least(at_once, part.axis[1].last - h);
                    i64 dx = d * geo.axis[0].stride - window.axis[0].first, hx = h * geo.axis[1].stride - window.axis[1].first;
                    i64 wx = part.axis[2].first * geo.axis[2].stride - window.axis[2].first;
                    const R* c = context + (((d - sites.axis[0].first) * sites.axis[1].size() + h - sites.axis[1].first)
                                            * sites.axis[2].size() + part.axis[2].first - sites.axis[2].first) * site;
                    i64 o = filters.first;
                    auto over_taps = [&](auto walk_one) {
                        taps.each([&](i64 kd, i64 kh, i64 kw) {
                            i64 at = ((dx + kd * geo.axis[0].dilation) * high + hx + kh * geo.axis[1].dilation) * wide
                                   + wx + kw * geo.axis[2].dilation;
                            row.x = x + at * V, row.gx = gx + at * V, row.context = c + o;
                            walk_one(geo.tap(kd, kh, kw) * call.filters + o);
                        });
                    };
                    const bool several = vectors > 1;
                    if constexpr (LANE == C)
                        for (; o + Functor::FILTERS <= filters.last; o += Functor::FILTERS)
                            over_taps([&](i64 f) {
                                if (several) walk<Functor::FILTERS, W>(row, from, f, sums_of);
                                else walk<Functor::FILTERS, 1>(row, from, f, sums_of);
                            });
                    for (; o < filters.last; ++o)
                        over_taps([&](i64 f) {
                            if (several) walk<1, W>(row, from, f, sums_of);
                            else walk<1, 1>(row, from, f, sums_of);
                        });
                }
        });
    }

    // context[site][context][o] for the sites of a chunk and some filters of all groups
    void prepare(i64 n, i64 first, i64 filters, const Box& sites, R* context) const {
        const i64 *s = call.g.stride, *t = call.state.stride, width = sites.axis[2].size();
        const i64 channels = LANE == G ? 1 : call.channels;
        R* rows = context + sites_size * CONTEXTS * context_pitch;  // a row of sites: [g and saved parts][site][o]
        const i64 part = width * context_pitch, w0 = sites.axis[2].first;
        for (i64 d = sites.axis[0].first; d < sites.axis[0].last; ++d)
            for (i64 h = sites.axis[1].first; h < sites.axis[1].last; ++h) {
                interleave(call.g.template at<T>(n, first) + d * s[2] + h * s[3] + w0 * s[4], s[1], s[4], width, filters, rows,
                           context_pitch);
                for (int q = 0; q < Functor::SAVES; ++q)
                    interleave(call.state.template at<R>(n, first) + q * call.state_part + d * t[2] + h * t[3] + w0 * t[4], t[1], t[4],
                               width, filters, rows + (1 + q) * part, context_pitch);
                for (i64 w = 0; w < width; ++w, context += CONTEXTS * context_pitch) {
                    F count = splat<F>(Functor::COUNTS ? R(channels * call.geometry.taps_from(d, h, w0 + w)) : R(0));
                    for (i64 o = 0; o < context_pitch; o += V) {
                        const R* from = rows + w * context_pitch + o;
                        this->template contexts<true>(from, from + part, part, count, first + o, context + o, context_pitch);
                    }
                }
            }
    }
};

}  // namespace anyconv
