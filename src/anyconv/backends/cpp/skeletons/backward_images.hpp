// The backward pass where the map sees more than one pixel of one image: lanes are sites. At each channel and tap a run of
// sites is walked; the sums of the operands' gradients stay in registers, those of pixels and site values in planes.
//
// A task has whole images of one group, and some of its channels, in memory of its own, which the caches hold.
#pragma once
#include "image_contexts.hpp"

namespace anyconv {

struct SiteWalk {
    const R *memory, *context, *sites, *real;  // planes of images, contexts of the filters, masks of sites and of pixels seen
    R *gradients, *fixed;                      // as memory; and a plane for each input with a tap of its own
    i64 offset[INPUTS];
    const i64* step;
    i64 plane, first, last;
};

template <int TILE, bool SKIPS>
NOINLINE void walk_sites(const SiteWalk at, const Reading<C> reading, i64 f, double* const* sums) {
    F p[TILE][AT_LEAST_ONE], sum[TILE][AT_LEAST_ONE];
    UNROLL
    for (int j = 0; j < TILE; ++j) {
        reading.template row<false>(f + j, 0, p[j]);
        UNROLL
        for (int q = 0; q < AT_LEAST_ONE; ++q) sum[j][q] = F{};
    }
    for (i64 s = at.first; s < at.last; s += V) {
        F pixel[INPUTS], total[INPUTS];
        UNROLL
        for (int q = 0; q < INPUTS; ++q) pixel[q] = load<F>(at.memory + at.offset[q] + s), total[q] = F{};
        Mask<F> seen = bits(load<F>(at.sites + s));
        if constexpr (SKIPS) seen &= bits(load<F>(at.real + s));
        const bool all = !any(seen == 0);
        UNROLL
        for (int j = 0; j < TILE; ++j) {
            F c[CONTEXTS];
            UNROLL
            for (int q = 0; q < CONTEXTS; ++q) c[q] = load<F>(at.context + (j * CONTEXTS + q) * at.plane + s);
            UNROLL
            for (int q = 0; q < INPUTS; ++q)
                if (image_varies(Functor::IMAGE[q], O))
                    pixel[q] = load<F>(at.memory + at.offset[q] + j * at.step[Functor::IMAGE[q]] + s), total[q] = F{};
            if (all) {
                Functor::gradients(c, pixel, p[j], total, sum[j]);
            } else {  // between the rows of sites lies what is none: a derivative there may be infinite
                F dx[INPUTS], dp[AT_LEAST_ONE];
                UNROLL
                for (int q = 0; q < INPUTS; ++q) dx[q] = total[q];
                UNROLL
                for (int q = 0; q < N; ++q) dp[q] = sum[j][q];
                Functor::gradients(c, pixel, p[j], dx, dp);
                UNROLL
                for (int q = 0; q < INPUTS; ++q) total[q] = select<F>(seen, dx[q], total[q]);
                UNROLL
                for (int q = 0; q < N; ++q) sum[j][q] = select<F>(seen, dp[q], sum[j][q]);
            }
            UNROLL
            for (int q = 0; q < INPUTS; ++q)
                if (image_varies(Functor::IMAGE[q], O) && Functor::LEARNS[Functor::IMAGE[q]]) {
                    R* to = at.gradients + at.offset[q] + j * at.step[Functor::IMAGE[q]] + s;
                    store<F>(to, load<F>(to) + total[q]);
                }
        }
        UNROLL
        for (int q = 0; q < INPUTS; ++q)
            if (!image_varies(Functor::IMAGE[q], O) && Functor::LEARNS[Functor::IMAGE[q]]) {
                // inputs of one image overlap: each has a plane of its own, so that no load waits for another's store
                R* to = Functor::TAP[q] < 0 ? at.gradients + at.offset[q] + s : at.fixed + q * at.plane + s;
                store<F>(to, load<F>(to) + total[q]);
            }
    }
    R lanes[V];
    for (int j = 0; j < TILE; ++j)
        for (int q = 0; q < N; ++q) {
            store<F>(lanes, sum[j][q]);
            R one = R(0);
            for (int i = 0; i < V; ++i) one += lanes[i];
            sums[q][f + j] += one;
        }
}

struct ImagesBackward : ImageContexts {
    static constexpr i64 AT_ONCE = 64 * V;  // sites of a walk: enough to pay for its beginning and end
    double* sums;                           // [part][group][operand][channel][tap][filter]
    ImagesBackward(const BackwardWork<C>& work, double* sums_) : ImageContexts(work), sums(sums_) {}
    i64 tasks() const { return call.parts * call.groups * call.channel_parts; }
    static i64 sums_size(const Backward& call, i64 field) {
        return call.parts * call.groups * AT_LEAST_ONE * call.channels * field;
    }
    double* sums_at(i64 part, i64 g, int p, i64 c) const {
        return sums + (((part * call.groups + g) * AT_LEAST_ONE + p) * call.channels + c) * rows;
    }
    void task(i64 index, const Scratch& scratch) const {
        const i64 slice = index % call.channel_parts, g = index / call.channel_parts % call.groups;
        const i64 part = index / call.channel_parts / call.groups;
        const Range own{slice * channels_at_once, least((slice + 1) * channels_at_once, call.channels)};
        Memory m(*this, scratch);
        mark(m);
        for (int p = 0; p < N; ++p)
            for (i64 c = own.first; c < own.last; ++c)
                for (i64 f = 0; f < rows; ++f) sums_at(part, g, p, c)[f] = 0;
        for (i64 n = part * call.batch / call.parts; n < (part + 1) * call.batch / call.parts; ++n) {
            for (i64 i = 0; i < images.size(); ++i) m.gradients[i] = R(0);
            for (i64 i = 0; i < INPUTS * plane; ++i) m.fixed[i] = R(0);
            gather_sliding(n, g, own, m);
            i64 o = 0;
            for (; o + TILE <= call.filters; o += TILE) filters_at<TILE>(part, n, g, o, own, m);
            for (; o < call.filters; ++o) filters_at<1>(part, n, g, o, own, m);
            emit_sliding(n, g, own, g * call.channel_parts + slice, m);
        }
    }

private:
    static R all_ones() { F ones = real(Mask<F>{} - Bits<F>(1)); return ones[0]; }
    void mark(const Memory& m) const {
        for (i64 i = 0; i < plane; ++i) m.sites[i] = R(0);
        call.geometry.all_sites().each([&](i64 d, i64 h, i64 w) { m.sites[planes.lattice(d, h, w)] = all_ones(); });
        if (!variant::SKIPS) return;
        planes.mark_real(call.geometry, m.real);
        for (i64 i = 0; i < planes.channel; ++i) m.real[i] = m.real[i] != R(0) ? all_ones() : R(0);
    }
    void gather_sliding(i64 n, i64 g, Range own, const Memory& m) const {
        planes.fill(call.geometry, own.size(), m.memory);
        planes.gather<T>(call.geometry, call.x, n, g * call.channels + own.first, own.size(), m.memory);
        sliding(call, own, [&](int i, const Image& image, const Slot&, i64 channels) {
            const i64 first = image_varies(i, C) ? g * call.channels + own.first : 0;
            planes.fill(call.geometry, channels, m.memory + images.start[i]);
            planes.gather<T>(call.geometry, image.pixels(), n, first, channels, m.memory + images.start[i]);
        });
    }
    void emit_sliding(i64 n, i64 g, Range own, i64 piece, const Memory& m) const {
        const i64 first = g * call.channels + own.first;
        for (i64 c = 0; call.wants_pixels && c < own.size(); ++c)
            planes.emit_gradient(call.geometry, m.gradients + c * planes.channel, m.image, call.gx.at<T>(n, first + c),
                                 call.gx.stride);
        sliding(call, own, [&](int i, const Image&, const Slot& slot, i64 channels) {
            const Strided to = slot.image.pixels();
            for (i64 c = 0; to.data && c < channels; ++c)
                planes.emit_gradient(call.geometry, m.gradients + images.start[i] + c * planes.channel, m.image,
                                     to.at<R>(n, image_varies(i, C) ? first + c : 0) + piece * slot.piece, to.stride);
        });
    }
    // work(index, image, its gradient, channels) for the guides; generic, since a call may have none
    template <class Call, class Work> static void sliding(const Call& call, Range own, const Work& work) {
        if constexpr (IMAGES > 1)
            for (int i = 1; i < IMAGES; ++i)
                if (!image_varies(i, SITE)) work(i, call.image[i - 1], call.slot[i - 1], image_varies(i, C) ? own.size() : 1);
    }
    // work(index, image, its gradient, filter, tap) for the planes of values per site that some filters and a channel see
    template <class Call, class Work> void site_planes(const Call& call, i64 filters, const Work& work) const {
        if constexpr (IMAGES > 1)
            for (int i = 1; i < IMAGES; ++i)
                for (i64 j = 0; image_varies(i, SITE) && j < (image_varies(i, O) ? filters : 1); ++j)
                    for (i64 k = 0; k < (image_varies(i, K) ? images.taps : 1); ++k)
                        work(i, call.image[i - 1], call.slot[i - 1], j, k);
    }

    template <int FILTERS> void filters_at(i64 part, i64 n, i64 g, i64 o, Range own, const Memory& m) const {
        const Geometry& geo = call.geometry;
        const Box sites = geo.all_sites();
        for (int j = 0; j < FILTERS; ++j) gather_outputs(n, g * call.filters + o + j, m, m.rows + j * ROWS * plane);
        if constexpr (INNER == 0)
            for (int j = 0; j < FILTERS; ++j)
                make_contexts(g * call.filters + o + j, m.rows + j * ROWS * plane, m, m.context + j * CONTEXTS * plane);
        for (i64 c = own.first; c < own.last; ++c) {
            site_planes(call, FILTERS, [&](int i, const Image& image, const Slot&, i64 j, i64 k) {
                const T* from = (const T*)image.data + site_values(call, image, i, {n, g, o + j, c, k});
                R* to = m.memory + images.plane(i, j, 0, k);
                each_row(planes, image, sites, [&](i64 at, i64 of, i64 width) {
                    collect(from + of, image.stride[8], width, to + at);
                });
            });
            double* sums_of[AT_LEAST_ONE];
            for (int p = 0; p < N; ++p) sums_of[p] = sums_at(part, g, p, c);
            const Reading<C> from = reading(g, c);
            if constexpr (INNER > 0) {
                contexts_of_channel<FILTERS, variant::SKIPS>(g, o, c - own.first, from, m);
            }
            for (i64 first = 0; first < run; first += AT_ONCE)
                each_tap(geo, [&](i64 d, i64 h, i64 w) {
                    const i64 tap = planes.tap(geo, d, h, w), k = Functor::WHOLE ? 0 : geo.tap(d, h, w);
                    SiteWalk at{m.memory, m.context, m.sites, m.real + tap, m.gradients, m.fixed, {}, images.step, plane, first,
                                least(first + AT_ONCE, run)};
                    images.offsets(geo, c - own.first, k, tap, at.offset);
                    walk_sites<FILTERS, variant::SKIPS>(at, from, k * call.filters + o, sums_of);
                });
            flush_fixed(c - own.first, m);
            site_planes(call, FILTERS, [&](int i, const Image&, const Slot& slot, i64 j, i64 k) {
                if (!slot.image.data) return;
                R* to = (R*)slot.image.data + site_values(call, slot.image, i, {n, g, o + j, c, k})
                      + (g * call.channel_parts + own.first / channels_at_once) * slot.piece;
                R* from = m.gradients + images.plane(i, j, 0, k);
                const i64 step = slot.image.stride[8];
                each_row(planes, slot.image, sites, [&](i64 at, i64 of, i64 width) {
                    for (i64 w = 0; w < width; ++w) to[of + w * step] += from[at + w], from[at + w] = R(0);
                });
            });
        }
    }
    // what inputs with a tap of their own have collected goes to their pixels
    void flush_fixed(i64 c, const Memory& m) const {
        i64 offset[INPUTS];
        images.offsets(call.geometry, c, 0, 0, offset);
        for (int q = 0; q < INPUTS; ++q) {
            if (Functor::TAP[q] < 0 || !Functor::LEARNS[Functor::IMAGE[q]]) continue;
            R *from = m.fixed + q * plane, *to = m.gradients + offset[q];
            for (i64 i = 0; i < run; ++i) to[i] += from[i], from[i] = R(0);
        }
    }
};

}  // namespace anyconv
