// The backward pass where channels are few: lanes are pixels of one channel and phase. Each tile holds its pixels and their
// gradients in registers and looks for the sites that see them: site q - offset(tap), where there is one.
#pragma once
#include "backward.hpp"
#include "planes.hpp"

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
    F pixel[VECTORS][1], total[VECTORS][1];
    UNROLL
    for (int v = 0; v < VECTORS; ++v) pixel[v][0] = load<F>(at.x + v * V), total[v][0] = F{};
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
                F c[CONTEXTS], dx[1] = {total[v][0]}, dp[AT_LEAST_ONE];
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
                total[v][0] = select<F>(seen, dx[0], total[v][0]);
                UNROLL
                for (int q = 0; q < N; ++q) sum[q] = select<F>(seen, dp[q], sum[q]);
            }
            UNROLL
            for (int q = 0; q < N; ++q) store<F>(sums[q] + f * V, sum[q]);
        }
    }
    UNROLL
    for (int v = 0; v < VECTORS; ++v) store<F>(at.gx + v * V, total[v][0]);
}

// The planes of a whole image: pixels and, in front of them, as much room as the farthest tap needs.
//
// Where there are as many images as parts, a task has whole images: it lays out its own planes, one image after the other,
// in memory that the caches hold. Else the planes of all images are made before the tasks, which share them.
struct SitesBackward : BackwardWork<C> {
    static constexpr int TILE = (Functor::SITES * Functor::VECTORS + 1) / 2;
    Planes planes;
    i64 front, plane;  // elements before the first site, of a plane of contexts
    bool own_pixels, own_contexts;  // of each task
    explicit SitesBackward(const BackwardWork<C>& work)
        : BackwardWork<C>(work), planes(work.call.geometry, work.call.geometry.window(work.call.geometry.all_sites())) {
        const Axis* a = call.geometry.axis;
        front = planes.lattice((a[0].kernel - 1) * a[0].dilation / a[0].stride, (a[1].kernel - 1) * a[1].dilation / a[1].stride,
                               (a[2].kernel - 1) * a[2].dilation / a[2].stride);
        plane = up(front + planes.plane + TILE * V, V);
        // tiles may reach beyond a plane of pixels
        planes.plane = up(planes.plane + TILE * V, V);
        planes.channel = phases() * planes.plane;
        own_pixels = call.parts <= call.batch;
        own_contexts = own_pixels && call.channels == 1;  // else several channels read them
    }
    i64 phases() const { return planes.stride[0] * planes.stride[1] * planes.stride[2]; }
    i64 tiles() const { return (planes.extent[0] * planes.extent[1] * planes.extent[2] + TILE * V - 1) / (TILE * V); }

    // shared by all tasks: masks, then the contexts of every output, then pixels and their gradients
    i64 masks_size() const { return plane + planes.channel; }
    i64 contexts_size() const { return own_contexts ? 0 : call.batch * call.groups * call.filters * CONTEXTS * plane; }
    i64 image_size() const { return own_pixels ? 0 : call.batch * call.groups * call.channels * planes.channel; }
    i64 pixels_size() const { return masks_size() + contexts_size() + 2 * image_size(); }
    R* site_mask() const { return buffers.pixels; }
    R* real_mask() const { return site_mask() + plane; }
    R* contexts_of(i64 n, i64 filter) const {
        return real_mask() + planes.channel + (n * call.groups * call.filters + filter) * CONTEXTS * plane;
    }
    R* pixels_of(i64 n, i64 channel, bool gradient) const {
        return real_mask() + planes.channel + contexts_size() + gradient * image_size()
             + (n * call.groups * call.channels + channel) * planes.channel;
    }

    void mark() const {
        R *sites = site_mask(), *real = real_mask();
        for (i64 i = 0; i < plane; ++i) sites[i] = R(0);
        call.geometry.all_sites().each([&](i64 d, i64 h, i64 w) { sites[front + planes.lattice(d, h, w)] = all_ones(); });
        if (variant::SKIPS) planes.mark_real(call.geometry, real);
        for (i64 i = 0; i < planes.channel; ++i)
            real[i] = !variant::SKIPS || real[i] != R(0) ? all_ones() : R(0);
    }
    i64 shared_channels() const { return own_pixels ? 0 : call.groups * call.channels; }
    i64 shared_filters() const { return own_contexts ? 0 : call.groups * call.filters; }
    i64 prepare_tasks() const { return call.batch * (shared_channels() + shared_filters()); }
    i64 prepare_bytes() const { return rows_size() * i64(sizeof(R)); }
    void prepare(i64 task, const Scratch& scratch) const {
        i64 channels = shared_channels(), n = task / (channels + shared_filters()), i = task % (channels + shared_filters());
        if (i >= channels) return prepare_contexts(n, i - channels, scratch.at<R>(0), contexts_of(n, i - channels));
        planes.fill(call.geometry, 1, pixels_of(n, i, false));
        planes.gather<T>(call.geometry, call.x, n, i, 1, pixels_of(n, i, false));
    }

    i64 tasks() const { return call.parts * call.groups * call.channels; }
    i64 bytes() const {
        i64 reals = AT_LEAST_ONE * sums_of_block() + (own_pixels ? 2 * planes.channel + image_pixels() : 0)
                  + (own_contexts ? call.filters * CONTEXTS * plane + rows_size() : 0);
        return reals * i64(sizeof(R)) + (2 * call.geometry.taps() + phases() + 1) * i64(sizeof(i64)) + 64;
    }
    void task(i64 index, const Scratch& scratch) const {
        if constexpr (!variant::SKIPS)
            if (walked<false>(index, scratch)) return;
        walked<true>(index, scratch);
    }

    // the sums of a task; false if some of them, or some gradient of a pixel, is infinite or not a number
    template <bool MASKED> bool walked(i64 index, const Scratch& scratch) const {
        const i64 channel = index % call.channels, g = index / call.channels % call.groups;
        const i64 part = index / call.channels / call.groups;
        Memory m(*this, scratch);
        for (i64 i = 0; i < AT_LEAST_ONE * sums_of_block(); ++i) m.sums[0][i] = R(0);
        i64 count = 0;
        for (i64 phase = 0; phase < phases(); ++phase) m.starts[phase] = count, count += taps_of(phase, m.taps + count, m.shifts + count);
        m.starts[phases()] = count;
        F fine = F{};
        if (own_pixels) {
            planes.fill(call.geometry, 1, m.x);  // once: each image lies where the last one lay
            for (i64 n = part * call.batch / call.parts; n < (part + 1) * call.batch / call.parts; ++n) {
                planes.gather<T>(call.geometry, call.x, n, g * call.channels + channel, 1, m.x);
                for (i64 o = 0; own_contexts && o < call.filters; ++o)
                    prepare_contexts(n, g * call.filters + o, m.rows, m.contexts + o * CONTEXTS * plane);
                const R* contexts = own_contexts ? m.contexts : contexts_of(n, g * call.filters);
                for (i64 q = 0; q < tiles(); ++q) fine += tile<MASKED>(g, channel, q, m.x, contexts, m.gx, m);
                if (call.wants_pixels) emit_gradient(n, g * call.channels + channel, m.gx, m.image);
            }
        } else {
            const i64 all = call.batch * tiles();
            for (i64 i = part * all / call.parts; i < (part + 1) * all / call.parts; ++i) {
                i64 n = i / tiles(), c = g * call.channels + channel;
                fine += tile<MASKED>(g, channel, i % tiles(), pixels_of(n, c, false), contexts_of(n, g * call.filters),
                                     pixels_of(n, c, true), m);
            }
        }
        for (int p = 0; p < N; ++p) {  // a vector of sums becomes one, in the order of its lanes
            R* to = sums(part, g, p, channel / V) + channel % V;
            for (i64 f = 0; f < packed.field; ++f) {
                R sum = R(0);
                for (i64 i = 0; i < V; ++i) sum += m.sums[p][f * V + i];
                to[f * V] = sum;
                fine += sum * R(0);
            }
        }
        return !any(fine != F{});
    }

    i64 unpack_tasks() const { return call.batch * shared_channels(); }
    i64 unpack_bytes() const { return image_pixels() * i64(sizeof(R)); }
    void unpack(i64 task, const Scratch& scratch) const {
        i64 channel = task % shared_channels(), n = task / shared_channels();
        emit_gradient(n, channel, pixels_of(n, channel, true), scratch.at<R>(0));
    }

private:
    struct Memory {  // of a task
        R *sums[AT_LEAST_ONE], *x, *gx, *image, *contexts, *rows;
        i64 *taps, *shifts, *starts;  // taps of all phases, and where those of each begin
        Memory(const SitesBackward& b, const Scratch& scratch) {
            R* at = scratch.at<R>(0);
            for (int p = 0; p < AT_LEAST_ONE; ++p, at += b.sums_of_block()) sums[p] = at;
            x = at, gx = x + b.planes.channel, image = gx + b.planes.channel;
            if (b.own_pixels) at = image + b.image_pixels();
            contexts = at, rows = contexts + b.call.filters * CONTEXTS * b.plane;
            if (b.own_contexts) at = rows + b.rows_size();
            taps = (i64*)(((unsigned long long)at + 7) / 8 * 8);
            shifts = taps + b.call.geometry.taps(), starts = shifts + b.call.geometry.taps();
        }
    };
    i64 rows_size() const { return (2 + Functor::SAVES) * plane; }
    i64 image_pixels() const {
        const Axis* a = call.geometry.axis;
        return up(a[0].pixels * a[1].pixels * a[2].pixels, V);
    }
    // one tile of every phase; 0 where all its gradients are numbers
    template <bool MASKED>
    F tile(i64 g, i64 channel, i64 index, const R* x, const R* contexts, R* gx, const Memory& m) const {
        F fine = F{};
        const i64 q = index * TILE * V;
        for (i64 phase = 0; phase < phases(); ++phase) {
            const i64 at = phase * planes.plane + q, first = m.starts[phase];
            Lattice lattice{x + at, real_mask() + at, site_mask() + front + q, contexts + front + q, gx + at, plane};
            meet<TILE, MASKED>(lattice, reading(g, channel), call.filters, m.taps + first, m.shifts + first,
                               m.starts[phase + 1] - first, CONTEXTS * plane, m.sums);
            for (int v = 0; v < TILE; ++v) fine += load<F>(lattice.gx + v * V) * R(0);
        }
        return fine;
    }
    void emit_gradient(i64 n, i64 channel, const R* from, R* sum) const {
        planes.emit_gradient(call.geometry, from, sum, call.gx.at<T>(n, channel), call.gx.stride);
    }
    static R all_ones() { F ones = real(Mask<F>{} - Bits<F>(1)); return ones[0]; }
    i64 taps_of(i64 phase, i64* taps, i64* shifts) const {  // those that see the pixels of a phase, and how far they reach
        i64 count = 0;
        call.geometry.all_taps().each([&](i64 d, i64 h, i64 w) {
            const i64 at = planes.tap(call.geometry, d, h, w);
            if (at / planes.plane == phase) taps[count] = call.geometry.tap(d, h, w), shifts[count++] = at % planes.plane;
        });
        return count;
    }
    void prepare_contexts(i64 n, i64 filter, R* rows, R* to) const {
        const i64 *s = call.g.stride, *t = call.state.stride;
        R* counts = rows + (1 + Functor::SAVES) * plane;  // what no site has written is masked below
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
        for (i64 i = 0; i < plane; i += V) {
            contexts<false>(rows + i, rows + plane + i, plane, load<F>(counts + i), filter, to + i, plane);
            const Mask<F> seen = bits(load<F>(site_mask() + i)) != 0;
            for (int q = 0; q < CONTEXTS; ++q) store<F>(to + q * plane + i, select<F>(seen, load<F>(to + q * plane + i), F{}));
        }
    }
};

}  // namespace anyconv
