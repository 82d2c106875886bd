// Where a convolution looks: three spatial axes (1-d and 2-d have axes of one pixel in front), boxes of sites, and the
// source of each padded pixel. The fields stand in the order in which `_geometry_fields` of launch.py writes them.
#pragma once
#include "transpose.hpp"

namespace anyconv {

enum Mode : i64 { CONSTANT, SKIP, REFLECT, REPLICATE, CIRCULAR };

struct Axis {
    i64 pixels, sites, kernel, stride, dilation, before, chunk;  // chunk: sites of a task along this axis
    i64 span(i64 count) const { return (count - 1) * stride + (kernel - 1) * dilation + 1; }  // pixels that so many sites see
    i64 padded() const { return span(sites); }
    i64 chunks() const { return (sites + chunk - 1) / chunk; }
    bool sees(i64 site, i64 k) const {  // whether tap k of a site falls inside the image
        i64 p = site * stride + k * dilation - before;
        return p >= 0 && p < pixels;
    }
    i64 source(i64 p, i64 mode) const {  // the pixel that a padded pixel copies, or -1
        p -= before;
        if (p >= 0 && p < pixels) return p;
        switch (mode) {
            case REFLECT: return p < 0 ? -p : 2 * (pixels - 1) - p;
            case REPLICATE: return p < 0 ? 0 : pixels - 1;
            case CIRCULAR: return p < 0 ? p + pixels : p - pixels;
            default: return -1;
        }
    }
};

struct Strided {  // a tensor (n, channel, d, h, w), or an operand (o, c, kd, kh, kw); strides in elements
    void* data;
    i64 stride[5];
    template <class T> T* at(i64 n, i64 c) const { return (T*)data + n * stride[0] + c * stride[1]; }
};

struct Range {
    i64 first, last;
    i64 size() const { return last - first; }
};

struct Box {  // ranges along the three axes
    Range axis[3];
    i64 size() const { return axis[0].size() * axis[1].size() * axis[2].size(); }
    template <class Work> INLINE void each(const Work& work) const {  // work(d, h, w)
        for (i64 d = axis[0].first; d < axis[0].last; ++d)
            for (i64 h = axis[1].first; h < axis[1].last; ++h)
                for (i64 w = axis[2].first; w < axis[2].last; ++w) work(d, h, w);
    }
};

struct Geometry {
    Axis axis[3];
    i64 mode;
    double fill;  // what CONSTANT pads with
    i64 taps() const { return axis[0].kernel * axis[1].kernel * axis[2].kernel; }
    i64 chunks() const { return axis[0].chunks() * axis[1].chunks() * axis[2].chunks(); }
    i64 tap(i64 d, i64 h, i64 w) const { return (d * axis[1].kernel + h) * axis[2].kernel + w; }
    i64 tap_offset(const Strided& operand, i64 k) const {  // where tap k of an operand lies
        const i64 w = k % axis[2].kernel, h = k / axis[2].kernel % axis[1].kernel, d = k / axis[2].kernel / axis[1].kernel;
        return d * operand.stride[2] + h * operand.stride[3] + w * operand.stride[4];
    }
    bool taps_lie_together(const Strided& operand) const {  // tap k at k strides of the last axis
        const i64 *s = operand.stride, w = axis[2].kernel, h = axis[1].kernel;
        return (h == 1 || s[3] == s[4] * w) && (axis[0].kernel == 1 || s[2] == s[4] * w * h);
    }
    Box all_sites() const { return {{{0, axis[0].sites}, {0, axis[1].sites}, {0, axis[2].sites}}}; }
    Box all_taps() const { return {{{0, axis[0].kernel}, {0, axis[1].kernel}, {0, axis[2].kernel}}}; }
    Box chunk(i64 index) const {  // the sites of one chunk; the first is as large as any
        Box box;
        for (int a = 2; a >= 0; --a) {
            i64 i = index % axis[a].chunks(), last = (i + 1) * axis[a].chunk;
            index /= axis[a].chunks();
            box.axis[a] = {i * axis[a].chunk, last < axis[a].sites ? last : axis[a].sites};
        }
        return box;
    }
    Box window(const Box& sites) const {  // the padded pixels that a box of sites sees
        Box box;
        for (int a = 0; a < 3; ++a) {
            const i64 first = sites.axis[a].first * axis[a].stride;
            box.axis[a] = {first, first + axis[a].span(sites.axis[a].size())};
        }
        return box;
    }

    // work(sites, taps) for the parts of a box from which the same taps are seen: all of it, unless taps are skipped
    template <class Work> void uniform(const Box& sites, const Work& work) const {
        Box part, taps;
        split(0, sites, part, taps, work);
    }

    i64 taps_from(i64 d, i64 h, i64 w) const {  // how many taps a site folds
        return seen_from(axis[0], d).size() * seen_from(axis[1], h).size() * seen_from(axis[2], w).size();
    }

private:
    template <class Work> void split(int a, const Box& sites, Box& part, Box& taps, const Work& work) const {
        if (a == 3) return work(part, taps);
        const Axis& x = axis[a];
        for (i64 s = sites.axis[a].first; s < sites.axis[a].last;) {
            Range seen = seen_from(x, s);
            i64 end = s + 1;
            while (end < sites.axis[a].last && seen_from(x, end).first == seen.first && seen_from(x, end).last == seen.last) ++end;
            part.axis[a] = {s, end};
            taps.axis[a] = seen;
            split(a + 1, sites, part, taps, work);
            s = end;
        }
    }
    Range seen_from(const Axis& x, i64 site) const {
        if (mode != SKIP) return {0, x.kernel};
        Range seen{0, x.kernel};
        while (seen.first < seen.last && !x.sees(site, seen.first)) ++seen.first;
        while (seen.last > seen.first && !x.sees(site, seen.last - 1)) --seen.last;
        return seen;
    }
};

// dst[pixel][c] <- x[n, c0 + c, pixel] for the padded pixels of a window, in the type of the arithmetic
template <class T, class R>
void gather(const Geometry& g, const Strided& x, i64 n, i64 c0, i64 channels, const Box& window, R* dst, i64 pitch) {
    const i64 *s = x.stride, width = window.axis[2].size(), first = window.axis[2].first, before = g.axis[2].before;
    if (channels < pitch) for (i64 i = 0; i < window.size() * pitch; ++i) dst[i] = R(0);
    for (i64 d = window.axis[0].first; d < window.axis[0].last; ++d)
        for (i64 h = window.axis[1].first; h < window.axis[1].last; ++h, dst += width * pitch) {
            const i64 sd = g.axis[0].source(d, g.mode), sh = g.axis[1].source(h, g.mode);
            const T* row = x.at<T>(n, c0) + sd * s[2] + sh * s[3];
            i64 inside = 0;  // pixels of the row that are pixels of the image, one after another
            for (i64 i = 0; i < width; i += inside ? inside : 1) {
                const i64 sw = g.axis[2].source(first + i, g.mode);
                inside = 0;
                if (sd < 0 || sh < 0 || sw < 0) {
                    for (i64 c = 0; c < channels; ++c) dst[i * pitch + c] = R(g.fill);
                    continue;
                }
                inside = first + i == sw + before ? g.axis[2].pixels - sw : 1;  // reflected and wrapped ones, one by one
                if (inside > width - i) inside = width - i;
                interleave(row + sw * s[4], s[1], s[4], inside, channels, dst + i * pitch, pitch);
            }
        }
}

}  // namespace anyconv
