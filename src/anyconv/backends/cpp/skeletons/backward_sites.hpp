// The backward pass where channels are few: lanes are pixels of one channel and phase. Each tile holds its pixels and their
// gradients in registers and looks for the sites that see them: site q - offset(tap), where there is one.
#pragma once
#include "backward.hpp"

namespace anyconv {

// Pixels of a tile; the mask is 1 at sites. Contexts lie as planes, `plane` elements apart.
struct Lattice {
    const R *x, *real, *sites, *context;
    R* gx;
    i64 plane;
};

// Where there is no site the contexts are 0 and add 0, unless a derivative is infinite or not a number there: MASKED is for
// that, and for pixels of the padding that are skipped.
template <int VECTORS, bool MASKED> NOINLINE void meet(const Lattice at, const Reading<C> reading, i64 filters, const i64* taps,
                                          const i64* shifts, i64 count, i64 contexts, R* const* sums) {
    F pixel[VECTORS], total[VECTORS];
    UNROLL
    for (int v = 0; v < VECTORS; ++v) pixel[v] = load<F>(at.x + v * V), total[v] = F{};
    for (i64 o = 0; o < filters; ++o) {
        const R* context = at.context + o * contexts;
        for (i64 i = 0; i < count; ++i) {
            const i64 f = taps[i] * filters + o;
            F p[AT_LEAST_ONE], sum[AT_LEAST_ONE];
            reading.template row<false>(f, 0, p);
            UNROLL
            for (int q = 0; q < N; ++q) sum[q] = load<F>(sums[q] + f * V);
            UNROLL
            for (int v = 0; v < VECTORS; ++v) {
                const i64 site = v * V - shifts[i];
                F c[CONTEXTS], dx = total[v], dp[AT_LEAST_ONE];
                UNROLL
                for (int q = 0; q < CONTEXTS; ++q) c[q] = load<F>(context + q * at.plane + site);
                if constexpr (!MASKED) {
                    Functor::gradients(c, pixel[v], p, total[v], sum);
                    continue;
                }
                Mask<F> seen = (bits(load<F>(at.sites + site)) & bits(load<F>(at.real + v * V))) != 0;
                UNROLL
                for (int q = 0; q < N; ++q) dp[q] = sum[q];
                Functor::gradients(c, pixel[v], p, dx, dp);
                total[v] = select<F>(seen, dx, total[v]);
                UNROLL
                for (int q = 0; q < N; ++q) sum[q] = select<F>(seen, dp[q], sum[q]);
            }
            UNROLL
            for (int q = 0; q < N; ++q) store<F>(sums[q] + f * V, sum[q]);
        }
    }
    UNROLL
    for (int v = 0; v < VECTORS; ++v) store<F>(at.gx + v * V, total[v]);
}

// The planes of a whole image: pixels and, in front of them, as much room as the farthest tap needs.
struct SitesBackward : BackwardWork {
    static constexpr int TILE = (Functor::SITES * Functor::VECTORS + 1) / 2;
    Planes planes;
    i64 front, plane;  // elements before the first site, of a plane of contexts
    explicit SitesBackward(const BackwardWork& work)
        : BackwardWork(work), planes(work.call.geometry, work.call.geometry.window(work.call.geometry.all_sites())) {
        const Axis* a = call.geometry.axis;
        front = planes.lattice((a[0].kernel - 1) * a[0].dilation / a[0].stride, (a[1].kernel - 1) * a[1].dilation / a[1].stride,
                               (a[2].kernel - 1) * a[2].dilation / a[2].stride);
        plane = up(front + planes.plane + TILE * V, V);
        // tiles may reach beyond a plane of pixels
        planes.plane = up(planes.plane + TILE * V, V);
        planes.channel = planes.stride[0] * planes.stride[1] * planes.stride[2] * planes.plane;
    }
    i64 tiles() const { return (planes.extent[0] * planes.extent[1] * planes.extent[2] + TILE * V - 1) / (TILE * V); }

    // shared by all tasks: masks, then the contexts of every output, then pixels and their gradients
    i64 masks_size() const { return plane + planes.channel; }
    i64 contexts_size() const { return call.batch * call.groups * call.filters * CONTEXTS * plane; }
    i64 image_size() const { return call.batch * call.groups * call.channels * planes.channel; }
    i64 pixels_size() const { return masks_size() + contexts_size() + 2 * image_size(); }
    R* site_mask() const { return buffers.pixels; }
    R* real_mask() const { return site_mask() + plane; }
    R* contexts_of(i64 n, i64 filter) const {
        return real_mask() + planes.channel + (n * call.groups * call.filters + filter) * CONTEXTS * plane;
    }
    R* pixels_of(i64 n, i64 channel, bool gradient) const {
        return contexts_of(call.batch, 0) + gradient * image_size() + (n * call.groups * call.channels + channel) * planes.channel;
    }

    void mark() const {
        R *sites = site_mask(), *real = real_mask();
        for (i64 i = 0; i < plane; ++i) sites[i] = R(0);
        call.geometry.all_sites().each([&](i64 d, i64 h, i64 w) { sites[front + planes.lattice(d, h, w)] = all_ones(); });
        if (call.geometry.mode == SKIP) planes.mark_real(call.geometry, real);
        for (i64 i = 0; i < planes.channel; ++i)
            real[i] = call.geometry.mode != SKIP || real[i] != R(0) ? all_ones() : R(0);
    }
    i64 prepare_tasks() const { return call.batch * call.groups * (call.channels + call.filters); }
    i64 prepare_bytes() const { return (2 + Functor::SAVES) * plane * i64(sizeof(R)); }
    void prepare(i64 task, const Scratch& scratch) const {
        i64 channels = call.groups * call.channels, filters = call.groups * call.filters;
        i64 n = task / (channels + filters), i = task % (channels + filters);
        if (i < channels) planes.gather<T>(call.geometry, call.x, n, i, 1, pixels_of(n, i, false));
        else prepare_contexts(n, i - channels, scratch.at<R>(0));
    }

    i64 tasks() const { return call.parts * call.groups * call.channels; }
    i64 bytes() const { return AT_LEAST_ONE * sums_of_block() * i64(sizeof(R)) + 3 * call.geometry.taps() * i64(sizeof(i64)); }
    void task(i64 index, const Scratch& scratch) const {
        if (call.geometry.mode == SKIP || !walked<false>(index, scratch)) walked<true>(index, scratch);
    }

    // the sums of a task; false if some of them, or some gradient of a pixel, is infinite or not a number
    template <bool MASKED> bool walked(i64 index, const Scratch& scratch) const {
        const i64 channel = index % call.channels, g = index / call.channels % call.groups;
        F fine = F{};
        const i64 part = index / call.channels / call.groups, all = call.batch * tiles();
        R* sums_of[AT_LEAST_ONE];
        for (int p = 0; p < N; ++p) {
            sums_of[p] = scratch.at<R>(p * sums_of_block());
            for (i64 i = 0; i < sums_of_block(); ++i) sums_of[p][i] = R(0);
        }
        i64* taps = (i64*)scratch.at<R>(AT_LEAST_ONE * sums_of_block());
        i64* shifts = taps + call.geometry.taps();
        const Reading<C> from = reading(g, channel);
        const i64 phases = planes.stride[0] * planes.stride[1] * planes.stride[2];
        for (i64 phase = 0; phase < phases; ++phase) {
            i64 count = taps_of(phase, taps, shifts);
            for (i64 i = part * all / call.parts; i < (part + 1) * all / call.parts; ++i) {
                i64 n = i / tiles(), q = i % tiles() * TILE * V, at = phase * planes.plane + q;
                Lattice lattice{pixels_of(n, g * call.channels + channel, false) + at, real_mask() + at, site_mask() + front + q,
                                contexts_of(n, g * call.filters) + front + q, pixels_of(n, g * call.channels + channel, true) + at,
                                plane};
                meet<TILE, MASKED>(lattice, from, call.filters, taps, shifts, count, CONTEXTS * plane, sums_of);
                for (int v = 0; v < TILE; ++v) fine += load<F>(lattice.gx + v * V) * R(0);
            }
        }
        for (int p = 0; p < N; ++p) {  // a vector of sums becomes one, in the order of its lanes
            R* to = sums(part, g, p, channel / V) + channel % V;
            for (i64 f = 0; f < packed.field; ++f) {
                R sum = R(0);
                for (i64 i = 0; i < V; ++i) sum += sums_of[p][f * V + i];
                to[f * V] = sum;
                fine += sum * R(0);
            }
        }
        return !any(fine != F{});
    }

    i64 unpack_tasks() const { return call.batch * call.groups * call.channels; }
    i64 unpack_bytes() const {
        const Axis* a = call.geometry.axis;
        return a[0].pixels * a[1].pixels * a[2].pixels * i64(sizeof(R));
    }
    void unpack(i64 task, const Scratch& scratch) const {
        const Geometry& geo = call.geometry;
        i64 channel = task % (call.groups * call.channels), n = task / (call.groups * call.channels);
        const R* from = pixels_of(n, channel, true);
        const i64* s = call.gx.stride;
        R* sum = scratch.at<R>(0);
        const i64 high = geo.axis[1].pixels, wide = geo.axis[2].pixels;
        for (i64 i = 0; i < geo.axis[0].pixels * high * wide; ++i) sum[i] = R(0);
        planes.scatter(geo, from, sum);
        for (i64 d = 0; d < geo.axis[0].pixels; ++d)
            for (i64 h = 0; h < high; ++h) {
                T* to = call.gx.at<T>(n, channel) + d * s[2] + h * s[3];
                const R* row = sum + (d * high + h) * wide;
                emit(row, wide, to, s[4]);
            }
    }

private:
    static R all_ones() { F ones = real(Mask<F>{} - Bits<F>(1)); return ones[0]; }
    i64 taps_of(i64 phase, i64* taps, i64* shifts) const {  // those that see the pixels of a phase, and how far they reach
        i64 count = 0;
        call.geometry.all_taps().each([&](i64 d, i64 h, i64 w) {
            const i64 at = planes.tap(call.geometry, d, h, w);
            if (at / planes.plane == phase) taps[count] = call.geometry.tap(d, h, w), shifts[count++] = at % planes.plane;
        });
        return count;
    }
    void prepare_contexts(i64 n, i64 filter, R* rows) const {
        const i64 *s = call.g.stride, *t = call.state.stride;
        R* counts = rows + (1 + Functor::SAVES) * plane;
        for (i64 i = 0; i < (2 + Functor::SAVES) * plane; ++i) rows[i] = R(0);
        const Axis* a = call.geometry.axis;
        for (i64 d = 0; d < a[0].sites; ++d)
            for (i64 h = 0; h < a[1].sites; ++h) {
                R* row = rows + front + planes.lattice(d, h, 0);
                collect(call.g.at<T>(n, filter) + d * s[2] + h * s[3], s[4], a[2].sites, row);
                for (int q = 0; q < Functor::SAVES; ++q)
                    collect(call.state.at<R>(n, filter) + q * call.state_part + d * t[2] + h * t[3], t[4], a[2].sites,
                            row + (1 + q) * plane);
                if (Functor::COUNTS)
                    for (i64 w = 0; w < a[2].sites; ++w)
                        row[counts - rows + w] = R(call.channels * call.geometry.taps_from(d, h, w));
            }
        R* to = contexts_of(n, filter);
        for (i64 i = 0; i < plane; i += V) {
            contexts(rows + i, rows + plane + i, plane, load<F>(counts + i), to + i, plane);
            const Mask<F> seen = bits(load<F>(site_mask() + i)) != 0;
            for (int q = 0; q < CONTEXTS; ++q) store<F>(to + q * plane + i, select<F>(seen, load<F>(to + q * plane + i), F{}));
        }
    }
};

}  // namespace anyconv
