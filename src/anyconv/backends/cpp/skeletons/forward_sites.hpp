// The forward pass where filters are few, or the map sees more than one pixel of one image: lanes are sites, an operand is
// one number.
#pragma once
#include "forward.hpp"
#include "image_planes.hpp"

namespace anyconv {

template <int PARTS> struct SitesForward : Work<O> {
    static constexpr int UNIT = Functor::FILTERS;
    static constexpr int S = Functor::SITES * Functor::VECTORS / Functor::FILTERS;  // vectors of sites, with FILTERS each
    static constexpr int ALONE = (Functor::SITES * Functor::VECTORS + 1) / 2;           // with one
    static constexpr int STATES = (S * Functor::FILTERS > ALONE ? S * Functor::FILTERS : ALONE) * PARTS * V;
    i64 images_size, mask_size, row_size, table_size;
    explicit SitesForward(const Work<O>& work) : Work<O>(work) {
        const Planes planes(call.geometry, call.geometry.window(call.geometry.chunk(0)));
        images_size = ImagePlanes(planes, call.geometry, call.channels, Functor::FILTERS, call.channels).size();
        mask_size = planes.channel;
        row_size = up(mask_size, V) + V * (S > ALONE ? S : ALONE);
        table_size = (2 + INPUTS) * packed.field;
    }
    i64 bytes() const {
        i64 reals = images_size + mask_size + row_size * Functor::FILTERS * OUTPUTS + row_size + STATES;
        return reals * i64(sizeof(R)) + table_size * i64(sizeof(i64)) + 256;
    }

    void task(i64 n, i64 g, i64 chunk, Range filters, const Scratch& scratch) const {
        const Geometry& geo = call.geometry;
        const Box sites = geo.chunk(chunk);
        const Planes planes(geo, geo.window(sites));
        const ImagePlanes images(planes, geo, call.channels, Functor::FILTERS, call.channels);
        Memory m(*this, scratch);
        planes.fill(geo, call.channels, m.x);
        planes.gather<T>(geo, call.x, n, g * call.channels, call.channels, m.x);
        gather_images(call, images, sites, n, g, {0, 1}, false, m.x);
        if constexpr (variant::SKIPS) planes.mark_real(geo, m.mask);
        Field field = taps(planes, images, m.table, scratch.note());
        for (i64 d = 0; d < sites.axis[0].size(); ++d) {
            i64 from = planes.lattice(d, 0, 0);
            i64 run = planes.lattice(d, sites.axis[1].size() - 1, sites.axis[2].size() - 1) + 1 - from;
            i64 vectors = (run + V - 1) / V;
            if (Functor::COUNTS) count(sites, d, planes, m.counts);
            i64 o = filters.first;
            for (; o + Functor::FILTERS <= filters.last; o += Functor::FILTERS) {
                gather_images(call, images, sites, n, g, {o, o + Functor::FILTERS}, true, m.x);
                filters_at<S, Functor::FILTERS>(n, g, o, d, sites, planes, images, field, m, from, vectors);
            }
            for (; o < filters.last; ++o) {
                gather_images(call, images, sites, n, g, {o, o + 1}, true, m.x);
                filters_at<ALONE, 1>(n, g, o, d, sites, planes, images, field, m, from, vectors);
            }
        }
    }

private:
    struct Memory {
        R *x, *mask, *stage, *counts, *states;
        i64* table;
        Memory(const SitesForward& f, const Scratch& scratch) {
            x = scratch.at<R>(0);
            mask = x + f.images_size;
            stage = mask + f.mask_size;
            counts = stage + f.row_size * Functor::FILTERS * OUTPUTS;
            states = counts + f.row_size;
            table = (i64*)(states + STATES);
        }
    };
    // the table that the last task of this thread has left serves again if its windows were as large
    Field taps(const Planes& planes, const ImagePlanes& images, i64* table, i64* made_for) const {
        Field field{table, table + INPUTS * packed.field, table + (1 + INPUTS) * packed.field, 0, images.taps};
        const Geometry& geo = call.geometry;
        if (made_for[0] == planes.extent[0] && made_for[1] == planes.extent[1] && made_for[2] == planes.extent[2]) {
            field.count = packed.field;
            return field;
        }
        auto add = [&](i64 c, i64 d, i64 h, i64 w) {
            const i64 tap = planes.tap(geo, d, h, w), k = geo.tap(d, h, w);
            images.offsets(geo, c, k, tap, field.x + field.count * INPUTS);
            field.f[field.count] = k * call.channels + c, field.mask[field.count] = tap, ++field.count;
        };
        for (i64 channel = 0; channel < (INNER ? call.channels : 1); ++channel)
            each_tap(geo, [&](i64 d, i64 h, i64 w) {
                for (i64 c = channel; c < (INNER ? channel + 1 : call.channels); ++c) add(c, d, h, w);
            });
        for (int a = 0; a < 3; ++a) made_for[a] = planes.extent[a];
        return field;
    }
    void count(const Box& sites, i64 d, const Planes& planes, R* counts) const {  // values in the field of each site
        for (i64 h = 0; h < sites.axis[1].size(); ++h)
            for (i64 w = 0; w < sites.axis[2].size(); ++w)
                counts[planes.lattice(0, h, w)] = R(call.channels * values_from(call.geometry,
                    sites.axis[0].first + d, sites.axis[1].first + h, sites.axis[2].first + w));
    }
    template <int VECTORS, int FILTERS>
    void filters_at(i64 n, i64 g, i64 o, i64 d, const Box& sites, const Planes& planes, const ImagePlanes& images,
                    const Field& field, const Memory& m, i64 from, i64 vectors) const {
        for (i64 v = 0; v < vectors; v += VECTORS) {
            const R* pixels[VECTORS];  // a tile may reach beyond the run: up to VECTORS vectors of stage are spare
            F counts[VECTORS];
            for (int s = 0; s < VECTORS; ++s) {
                i64 at = v + s < vectors ? v + s : vectors - 1;
                pixels[s] = m.x + from + at * V;
                counts[s] = Functor::COUNTS ? load<F>(m.counts + at * V) : F{};
            }
            if constexpr (variant::SKIPS) {
                const R* masks[VECTORS];
                for (int s = 0; s < VECTORS; ++s) masks[s] = m.mask + (pixels[s] - m.x);
                fold<SITES, true, VECTORS, FILTERS, PARTS>(field, pixels, images.step, masks, reading(g, o), m.states);
            } else {
                fold<SITES, false, VECTORS, FILTERS, PARTS>(field, pixels, images.step, nullptr, reading(g, o), m.states);
            }
            R* to[OUTPUTS];
            for (int q = 0; q < OUTPUTS; ++q) to[q] = m.stage + q * FILTERS * row_size + v * V;
            finish<VECTORS, FILTERS, PARTS, false>(m.states, counts, g * call.filters + o, to, V, row_size);
        }
        auto first = [&](const Strided& to) {  // site of this run
            const i64* s = to.stride;
            return (sites.axis[0].first + d) * s[2] + sites.axis[1].first * s[3] + sites.axis[2].first * s[4];
        };
        for (int j = 0; j < FILTERS; ++j) {
            i64 filter = g * call.filters + o + j;
            const R* row = m.stage + j * row_size;
            put<T>(row, sites, planes, call.y.at<T>(n, filter) + first(call.y), call.y.stride, &call.bias, filter);
            if constexpr (variant::SAVES)
                for (int q = 0; q < Functor::SAVES; ++q)
                    put<R>(row + (1 + q) * FILTERS * row_size, sites, planes,
                           call.state.at<R>(n, filter) + q * call.state_part + first(call.state), call.state.stride, nullptr, 0);
        }
    }
    template <class To>
    void put(const R* row, const Box& sites, const Planes& planes, To* to, const i64* stride, const Strided* bias,
             i64 filter) const {
        bool adds = bias && bias->data;
        R b = adds ? widen(*bias->at<T>(filter, 0)) : R(0);
        for (i64 h = 0; h < sites.axis[1].size(); ++h) {
            const R* line = row + planes.lattice(0, h, 0);
            To* at = to + h * stride[3];
            const i64 step = stride[4], width = sites.axis[2].size();
            if (adds) for (i64 w = 0; w < width; ++w) at[w * step] = Narrow<To>::of(line[w] + b);
            else emit(line, width, at, step);
        }
    }
};

}  // namespace anyconv
