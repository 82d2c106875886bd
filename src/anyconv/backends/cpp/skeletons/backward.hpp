// The backward pass: one walk over the evaluations serves the gradients of the pixels and of the operands, which share the
// map and all that its derivatives have in common. Here lanes are channels: at each tap a row of sites is walked, the sums
// of the operands' gradients stay in registers, and those of the pixels in a window that the first-level cache holds.
//
// The work is cut into `parts` of images and chunks by the geometry alone; each part has sums of its own, which are joined
// in their order. Two runs agree to the last bit, for any number of threads.
#pragma once
#include "planes.hpp"

namespace anyconv {

constexpr int CONTEXTS = Functor::CONTEXTS;

struct Backward {  // as launch.py writes it: 64-bit fields in this order
    Team team;
    Geometry geometry;
    i64 batch, groups, channels, filters;  // channels and filters of one group
    i64 lanes_are_sites, parts, wants_pixels;
    i64 state_part;
    Strided x, g, state, gx;  // gx: the gradient of the pixels
    Strided operand[AT_LEAST_ONE], gradient[AT_LEAST_ONE];  // in double where the operand lacks an axis
};

// Buffers of one backward pass.
struct Buffers {
    R *operands, *pixels, *sums;
};

struct BackwardWork {
    const Backward& call;
    const Packed<C> packed;
    const Buffers buffers;
    i64 blocks() const { return (call.channels + V - 1) / V; }  // vectors of channels in a group
    // sums[part][g][operand][block][k][o][V]
    i64 sums_of_block() const { return packed.field * V; }
    i64 sums_of_group() const { return AT_LEAST_ONE * blocks() * sums_of_block(); }
    R* sums(i64 part, i64 g, int p, i64 block) const {
        return buffers.sums + (part * call.groups + g) * sums_of_group() + (p * blocks() + block) * sums_of_block();
    }
    Reading<C> reading(i64 g, i64 lane) const { return Reading<C>(packed, buffers.operands + g * packed.size(), lane); }

    // The contexts of V outputs from their gradients and saved parts.
    static void contexts(const R* g, const R* states, i64 pitch, F count, R* to, i64 to_pitch) {
        F state[Functor::SAVES ? Functor::SAVES : 1], made[CONTEXTS];
        for (int q = 0; q < Functor::SAVES; ++q) state[q] = load<F>(states + q * pitch);
        Functor::context(load<F>(g), state, count, made);
        for (int q = 0; q < CONTEXTS; ++q) store<F>(to + q * to_pitch, made[q]);
    }
};

// Rows of sites at one tap, for W vectors of channels and T filters.
struct Row {
    i64 rows, width;  // sites
    const R *x, *context;
    R* gx;
    i64 x_step, x_row, context_step, context_row;  // to the next site, to the next row
    i64 x_vector, sums_vector;                     // to the next vector of channels
    i64 filter_pitch;                              // from one context of a filter to the next
};

template <int T, int W> NOINLINE void walk(const Row row, const Reading<C>* readings, i64 f, R* const* sums) {
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
            F pixel[W], total[W];
            UNROLL
            for (int v = 0; v < W; ++v) pixel[v] = load<F>(x + v * row.x_vector), total[v] = load<F>(gx + v * row.x_vector);
            UNROLL
            for (int j = 0; j < T; ++j) {
                F c[CONTEXTS];
                UNROLL
                for (int q = 0; q < CONTEXTS; ++q) c[q] = splat<F>(context[q * row.filter_pitch + j]);
                UNROLL
                for (int v = 0; v < W; ++v) Functor::gradients(c, pixel[v], p[v][j], total[v], sum[v][j]);
            }
            UNROLL
            for (int v = 0; v < W; ++v) store<F>(gx + v * row.x_vector, total[v]);
        }
    }
    UNROLL
    for (int v = 0; v < W; ++v)
        UNROLL
        for (int j = 0; j < T; ++j)
            UNROLL
            for (int q = 0; q < N; ++q) store<F>(sums[q] + v * row.sums_vector + (f + j) * V, sum[v][j][q]);
}

struct ChannelsBackward : BackwardWork {
    static constexpr i64 SITES_AT_ONCE = 256;  // enough to pay for loading and storing the sums
    static constexpr i64 TERMS_AT_ONCE = 512;  // of a pixel's gradient, at least, that make a sum of their own: over thousands
                                               // of additions of like numbers to one sum, roundings add up
    static constexpr i64 W = Functor::CHANNELS;  // vectors of channels that a task takes on together
    i64 window_size, context_pitch, sites_size, filters_at_once;
    explicit ChannelsBackward(const BackwardWork& work) : BackwardWork(work) {
        const Box sites = call.geometry.chunk(0);
        window_size = call.geometry.window(sites).size() * V;
        context_pitch = up(call.filters, V);
        sites_size = sites.size();
        const i64 sums = call.filters * call.geometry.taps() / TERMS_AT_ONCE;
        filters_at_once = sums > 1 ? up((call.filters + sums - 1) / sums, Functor::FILTERS) : call.filters;
    }
    i64 shares() const { return (blocks() + W - 1) / W; }
    i64 tasks() const { return call.parts * call.groups * shares(); }
    i64 windows() const { return call.batch * call.groups * blocks() * call.geometry.chunks(); }
    i64 pixels_size() const { return call.wants_pixels ? windows() * window_size : 0; }
    i64 bytes() const {
        i64 reals = 2 * W * window_size + (sites_size * CONTEXTS + (1 + Functor::SAVES) * call.geometry.axis[2].chunk) * context_pitch;
        return reals * i64(sizeof(R)) + 256;
    }
    R* window_of(i64 n, i64 g, i64 block, i64 chunk) const {
        return buffers.pixels + (((n * call.groups + g) * blocks() + block) * call.geometry.chunks() + chunk) * window_size;
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

    // gx <- the sums of all windows that hold a pixel, folded back from the padding
    void unpack(i64 task, const Scratch& scratch) const {
        const Geometry& geo = call.geometry;
        i64 h = task % geo.axis[1].pixels, d = task / geo.axis[1].pixels % geo.axis[0].pixels;
        i64 rest = task / geo.axis[1].pixels / geo.axis[0].pixels;
        i64 block = rest % blocks(), g = rest / blocks() % call.groups, n = rest / blocks() / call.groups;
        const i64* s = call.gx.stride;
        i64 lanes = least(V, call.channels - block * V);
        T* row = call.gx.at<T>(n, g * call.channels + block * V) + d * s[2] + h * s[3];
        i64 width = geo.axis[2].pixels;
        R* sum = scratch.at<R>(0);
        for (i64 i = 0; i < width * V; ++i) sum[i] = R(0);
        for (i64 pd = 0; pd < geo.axis[0].padded(); ++pd)
            for (i64 ph = 0; geo.axis[0].source(pd, geo.mode) == d && ph < geo.axis[1].padded(); ++ph)
                if (geo.axis[1].source(ph, geo.mode) == h) add_row(n, g, block, pd, ph, sum);
        i64* at = (i64*)(sum + width * V);
        for (i64 w = 0; w < width; ++w) at[w] = w * s[4];
        separate(sum, V, width, lanes, row, s[1], at, (const R*)nullptr);
    }
    i64 unpack_bytes() const { return call.geometry.axis[2].pixels * (V * i64(sizeof(R)) + i64(sizeof(i64))); }
    i64 unpack_tasks() const {
        return call.batch * call.groups * blocks() * call.geometry.axis[0].pixels * call.geometry.axis[1].pixels;
    }

private:
    void chunk_of(i64 n, i64 g, i64 block, i64 vectors, i64 chunk, R* x, R* gx, R* context, R* const* sums_of) const {
        const Geometry& geo = call.geometry;
        const Box sites = geo.chunk(chunk), window = geo.window(sites);
        for (i64 v = 0; v < vectors; ++v)
            gather<T>(geo, call.x, n, g * call.channels + (block + v) * V, least(V, call.channels - (block + v) * V), window,
                      x + v * window_size, V);
        prepare(n, g, sites, context);
        i64 o = 0;
        do {
            for (i64 i = 0; i < W * window_size; ++i) gx[i] = R(0);
            walk_all(g, block, vectors, sites, window, {o, least(o + filters_at_once, call.filters)}, x, gx, context, sums_of);
            for (i64 v = 0; call.wants_pixels && v < vectors; ++v) {
                R* to = window_of(n, g, block + v, chunk);
                const R* of = gx + v * window_size;
                if (o == 0) copy(of, window_size, to);
                else for (i64 i = 0; i < window_size; ++i) to[i] += of[i];
            }
            o += filters_at_once;
        } while (o < call.filters);
    }
    // all sites of a chunk at all taps, for some of the filters
    void walk_all(i64 g, i64 block, i64 vectors, const Box& sites, const Box& window, Range filters, const R* x, R* gx,
                  const R* context, R* const* sums_of) const {
        const Geometry& geo = call.geometry;
        const i64 wide = window.axis[2].size(), high = window.axis[1].size();
        const Reading<C> from[2] = {reading(g, block * V), reading(g, (block + vectors - 1) * V)};
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

    // context[site][context][o] for the sites of a chunk
    void prepare(i64 n, i64 g, const Box& sites, R* context) const {
        const i64 *s = call.g.stride, *t = call.state.stride, first = g * call.filters, width = sites.axis[2].size();
        R* rows = context + sites_size * CONTEXTS * context_pitch;  // a row of sites: [g and saved parts][site][o]
        const i64 part = width * context_pitch, w0 = sites.axis[2].first;
        for (i64 d = sites.axis[0].first; d < sites.axis[0].last; ++d)
            for (i64 h = sites.axis[1].first; h < sites.axis[1].last; ++h) {
                interleave(call.g.at<T>(n, first) + d * s[2] + h * s[3] + w0 * s[4], s[1], s[4], width, call.filters, rows,
                           context_pitch);
                for (int q = 0; q < Functor::SAVES; ++q)
                    interleave(call.state.at<R>(n, first) + q * call.state_part + d * t[2] + h * t[3] + w0 * t[4], t[1], t[4],
                               width, call.filters, rows + (1 + q) * part, context_pitch);
                for (i64 w = 0; w < width; ++w, context += CONTEXTS * context_pitch) {
                    F count = splat<F>(Functor::COUNTS ? R(call.channels * call.geometry.taps_from(d, h, w0 + w)) : R(0));
                    for (i64 o = 0; o < context_pitch; o += V) {
                        const R* from = rows + w * context_pitch + o;
                        contexts(from, from + part, part, count, context + o, context_pitch);
                    }
                }
            }
    }

    void add_row(i64 n, i64 g, i64 block, i64 pd, i64 ph, R* sum) const {  // in the order of the chunks
        const Geometry& geo = call.geometry;
        for (i64 chunk = 0; chunk < geo.chunks(); ++chunk) {
            const Box window = geo.window(geo.chunk(chunk));
            const Range *a = window.axis;
            if (pd < a[0].first || pd >= a[0].last || ph < a[1].first || ph >= a[1].last) continue;
            const R* from = window_of(n, g, block, chunk) + ((pd - a[0].first) * a[1].size() + ph - a[1].first) * a[2].size() * V;
            for (i64 w = a[2].first; w < a[2].last; ++w, from += V) {
                i64 to = geo.axis[2].source(w, geo.mode);
                if (to >= 0) store<F>(sum + to * V, load<F>(sum + to * V) + load<F>(from));
            }
        }
    }
};

}  // namespace anyconv
