// Windows for lanes of sites. The padded pixels of a channel lie as one plane for each phase (pixel modulo stride), so that
// the pixels that one tap shows to neighboring sites are neighbors, whatever the stride: site q sees pixel q + offset(tap).
// Between the rows of sites lie a few that are none; they are computed and dropped.
#pragma once
#include "operands.hpp"

namespace anyconv {

INLINE i64 parts_of(i64 value, i64 size) { return size == 1 ? value : (value + size - 1) / size; }  // most strides are 1

struct Planes {
    Box window;
    i64 extent[3];      // lattice points of a phase along each axis
    i64 stride[3], plane, channel;  // elements from phase to phase, of a phase, of a channel

    Planes(const Geometry& geo, const Box& window_) : window(window_) {
        i64 phases = 1;
        plane = 1;
        for (int a = 0; a < 3; ++a) {
            stride[a] = geo.axis[a].stride;
            extent[a] = (window.axis[a].size() + stride[a] - 1) / stride[a];
            plane *= extent[a];
            phases *= stride[a];
        }
        plane = up(plane + V, V);  // a vector may begin at the last site
        channel = phases * plane;
    }
    i64 lattice(i64 d, i64 h, i64 w) const { return (d * extent[1] + h) * extent[2] + w; }
    i64 pixel(i64 d, i64 h, i64 w) const {  // where a pixel of the window lies
        if (channel == plane) return lattice(d, h, w);  // one phase: nothing to divide
        i64 phase = (d % stride[0] * stride[1] + h % stride[1]) * stride[2] + w % stride[2];
        return phase * plane + lattice(d / stride[0], h / stride[1], w / stride[2]);
    }
    i64 tap(const Geometry& geo, i64 d, i64 h, i64 w) const {
        return pixel(d * geo.axis[0].dilation, h * geo.axis[1].dilation, w * geo.axis[2].dilation);
    }

    void fill(const Geometry& geo, i64 channels, R* to) const {
        for (i64 i = 0; i < channels * channel; ++i) to[i] = R(geo.fill);
    }
    // the pixels of the window that are, or copy, pixels of the image; the others keep what they were filled with
    template <class From>
    void gather(const Geometry& geo, const Strided& x, i64 n, i64 c0, i64 channels, R* to) const {
        const i64* s = x.stride;
        each_run(geo, [&](i64 sd, i64 sh, i64 sw, i64 at, i64 step, i64 count) {
            for (i64 c = 0; c < channels; ++c) {
                const From* from = x.at<From>(n, c0 + c) + sd * s[2] + sh * s[3] + sw * s[4];
                collect(from, step * s[4], count, to + c * channel + at);
            }
        });
    }
    // sum[d][h][w] <- sum[d][h][w] + from, for every pixel of the window that copies one of the image
    void scatter(const Geometry& geo, const R* from, R* sum) const {
        const i64 high = geo.axis[1].pixels, wide = geo.axis[2].pixels;
        each_run(geo, [&](i64 sd, i64 sh, i64 sw, i64 at, i64 step, i64 count) {
            R* to = sum + (sd * high + sh) * wide + sw;
            if (step == 1) add(from + at, count, to);
            else for (i64 i = 0; i < count; ++i) to[i * step] += from[at + i];
        });
    }
    // the gradient of a channel of an image <- its planes, folded back from the padding; memory for the image at sum
    template <class To> void emit_gradient(const Geometry& geo, const R* from, R* sum, To* to, const i64* stride) const {
        const i64 high = geo.axis[1].pixels, wide = geo.axis[2].pixels;
        for (i64 i = 0; i < geo.axis[0].pixels * high * wide; ++i) sum[i] = R(0);
        scatter(geo, from, sum);
        for (i64 d = 0; d < geo.axis[0].pixels; ++d)
            for (i64 h = 0; h < high; ++h)
                emit(sum + (d * high + h) * wide, wide, to + d * stride[2] + h * stride[3], stride[4]);
    }
    void mark_real(const Geometry& geo, R* mask) const {  // 1 for the pixels of the image, 0 for padding
        for (i64 i = 0; i < channel; ++i) mask[i] = R(0);
        each_run(geo, [&](i64, i64, i64, i64 at, i64, i64 count) { for (i64 i = 0; i < count; ++i) mask[at + i] = R(1); });
    }

private:
    // work(source d, h, w, place, source step, count) for runs of pixels that lie together, here and in the image
    template <class Work> void each_run(const Geometry& geo, const Work& work) const {
        const Axis& x = geo.axis[2];
        const i64 first = window.axis[2].first, size = window.axis[2].size(), step = stride[2];
        const i64 low = x.before > first ? x.before - first : 0, high = least(size, x.before + x.pixels - first);
        const bool blank = geo.mode == CONSTANT || geo.mode == SKIP;  // padding copies no pixel: one run in each row
        for (i64 d = 0; d < window.axis[0].size(); ++d)
            for (i64 h = 0; h < window.axis[1].size(); ++h) {
                i64 sd = geo.axis[0].source(window.axis[0].first + d, geo.mode);
                i64 sh = geo.axis[1].source(window.axis[1].first + h, geo.mode);
                if (sd < 0 || sh < 0) continue;
                for (i64 phase = 0; phase < step; ++phase) {
                    i64 line = pixel(d, h, phase), before = blank && phase < low ? parts_of(low - phase, step) : 0;
                    line += before;
                    for (i64 w = phase + before * step, count; w < (blank ? high : size); line += count, w += count * step) {
                        i64 sw = x.source(first + w, geo.mode);
                        count = w >= low && w < high ? parts_of(high - w, step) : 1;
                        if (sw >= 0) work(sd, sh, sw, line, step, count);
                    }
                }
            }
    }
};

}  // namespace anyconv
