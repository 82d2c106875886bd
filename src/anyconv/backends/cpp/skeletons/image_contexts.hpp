// What a task of a backward pass with lanes of sites has beside images: memory, and the contexts of some filters' outputs.
#pragma once
#include "backward.hpp"
#include "image_planes.hpp"

namespace anyconv {

struct ImageContexts : BackwardWork<C> {
    static constexpr int TILE = Functor::FILTERS;
    static constexpr i64 ROWS = 2 + Functor::SAVES;  // of an output: its gradient, the parts of its state, a count
    Planes planes;
    i64 channels_at_once, plane, run, rows;  // channels of a task; elements of a plane of sites; up to the last site
    ImagePlanes images;
    ImageContexts(const BackwardWork<C>& work)
        : BackwardWork<C>(work), planes(work.call.geometry, work.call.geometry.window(work.call.geometry.all_sites())),
          channels_at_once((work.call.channels + work.call.channel_parts - 1) / work.call.channel_parts),
          images(planes, work.call.geometry, channels_at_once, TILE, 1) {
        const Axis* a = call.geometry.axis;
        plane = planes.plane;
        run = planes.lattice(a[0].sites - 1, a[1].sites - 1, a[2].sites - 1) + 1;
        rows = packed.field;
    }
    i64 bytes() const {
        const i64 reals = 2 * images.size() + INPUTS * plane + TILE * (CONTEXTS + ROWS) * plane + plane
                        + planes.channel + image_pixels() + 2 * V;
        return reals * i64(sizeof(R)) + 256;
    }

    struct Memory {
        R *memory, *gradients, *fixed, *context, *rows, *sites, *real, *image;
        Memory(const ImageContexts& b, const Scratch& scratch) {
            memory = scratch.at<R>(0);
            gradients = memory + b.images.size();
            fixed = gradients + b.images.size();
            context = fixed + INPUTS * b.plane;
            rows = context + TILE * CONTEXTS * b.plane;
            sites = rows + TILE * ROWS * b.plane;
            real = sites + b.plane;
            image = real + b.planes.channel;
        }
    };
    i64 image_pixels() const {
        const Axis* a = call.geometry.axis;
        return up(a[0].pixels * a[1].pixels * a[2].pixels, V);
    }

    // rows <- the gradient of a filter's outputs, the parts of their states, and how many values they are made of
    void gather_outputs(i64 n, i64 filter, const Memory& m, R* rows) const {
        const i64 *s = call.g.stride, *t = call.state.stride;
        const Axis* a = call.geometry.axis;
        for (i64 d = 0; d < a[0].sites; ++d)
            for (i64 h = 0; h < a[1].sites; ++h) {
                R* row = rows + planes.lattice(d, h, 0);
                collect(call.g.at<T>(n, filter) + d * s[2] + h * s[3], s[4], a[2].sites, row);
                for (int q = 0; q < Functor::SAVES; ++q)
                    collect(call.state.at<R>(n, filter) + q * call.state_part + d * t[2] + h * t[3], t[4], a[2].sites,
                            row + (1 + q) * plane);
                if (Functor::COUNTS)
                    for (i64 w = 0; w < a[2].sites; ++w)
                        row[(1 + Functor::SAVES) * plane + w] = R(call.channels * values_from(call.geometry, d, h, w));
            }
    }
    // what no site has written is 0
    template <int SIZE> void store_contexts(const F (&made)[SIZE], i64 at, const Memory& m, R* to) const {
        const Mask<F> seen = bits(load<F>(m.sites + at)) != 0;
        for (int q = 0; q < CONTEXTS; ++q) store<F>(to + q * plane + at, select<F>(seen, made[q], F{}));
    }
    template <class Map = Functor> void make_contexts(i64 filter, const R* rows, const Memory& m, R* to) const {
        const R* count = rows + (1 + Functor::SAVES) * plane;
        for (i64 i = 0; i < plane; i += V) {
            F made[CONTEXTS];
            this->template contexts<false, Map>(rows + i, rows + plane + i, plane, load<F>(count + i), filter, made);
            store_contexts(made, i, m, to);
        }
    }
    // the contexts of a channel, whose taps are reduced once more
    template <int FILTERS, bool SKIPS, class Map = Functor>
    void contexts_of_channel(i64 g, i64 o, i64 c, const Reading<C>& from, const Memory& m) const {
        const Geometry& geo = call.geometry;
        for (i64 i = 0; i < run; i += V) {
            F inner[FILTERS][INNER_OR_ONE];
            for (int j = 0; j < FILTERS; ++j) Map::inner_identity(inner[j]);
            each_tap(geo, [&](i64 d, i64 h, i64 w) {
                const i64 tap = planes.tap(geo, d, h, w), k = geo.tap(d, h, w);
                i64 offset[INPUTS];
                images.offsets(geo, c, k, tap, offset);
                for (int j = 0; j < FILTERS; ++j) {
                    F pixel[INPUTS], p[AT_LEAST_ONE], next[INNER_OR_ONE];
                    for (int q = 0; q < INPUTS; ++q)
                        pixel[q] = load<F>(m.memory + offset[q] + i
                                           + (image_varies(Functor::IMAGE[q], O) ? j * images.step[Functor::IMAGE[q]] : 0));
                    from.template row<false>(k * call.filters + o + j, 0, p);
                    for (int q = 0; q < INNER; ++q) next[q] = inner[j][q];
                    Map::inner_fold(next, pixel, p);
                    for (int q = 0; q < INNER; ++q)
                        inner[j][q] = SKIPS ? select<F>(bits(load<F>(m.real + tap + i)) != 0, next[q], inner[j][q]) : next[q];
                }
            });
            for (int j = 0; j < FILTERS; ++j) {
                const R* rows = m.rows + j * ROWS * plane + i;
                const F count = load<F>(rows + (1 + Functor::SAVES) * plane);
                F made[CONTEXTS];
                this->template contexts<false>(rows, rows + plane, plane, count, g * call.filters + o + j, made, inner[j]);
                store_contexts(made, i, m, m.context + j * CONTEXTS * plane);
            }
        }
    }
};

}  // namespace anyconv
