// The gradients of pixels, as a backward pass with lanes of channels leaves them: in windows, one for each chunk of sites,
// which overlap, and in padding, which copies pixels or none.
#pragma once
#include "backward.hpp"

namespace anyconv {

struct GradientWindows {
    const Backward& call;
    i64 blocks, window;  // vectors of channels in a group, elements of a window
    R* memory;

    i64 size() const { return call.wants_pixels ? call.batch * call.groups * blocks * call.geometry.chunks() * window : 0; }
    R* of(i64 n, i64 g, i64 block, i64 chunk) const {
        return memory + (((n * call.groups + g) * blocks + block) * call.geometry.chunks() + chunk) * window;
    }

    i64 tasks() const {
        return call.batch * call.groups * blocks * call.geometry.axis[0].pixels * call.geometry.axis[1].pixels;
    }
    i64 bytes() const { return call.geometry.axis[2].pixels * (V * i64(sizeof(R)) + i64(sizeof(i64))); }
    void unpack(i64 task, const Scratch& scratch) const {
        const Axis* a = call.geometry.axis;
        const i64 h = task % a[1].pixels, d = task / a[1].pixels % a[0].pixels, rest = task / a[1].pixels / a[0].pixels;
        const i64 block = rest % blocks, g = rest / blocks % call.groups, n = rest / blocks / call.groups;
        emit_row(n, g, block, d, h, nullptr, scratch.at<R>(0));
    }
    // all pixels of an image, from its only window
    void emit(i64 n, i64 g, i64 block, const R* only, R* row) const {
        const Axis* a = call.geometry.axis;
        for (i64 d = 0; d < a[0].pixels; ++d)
            for (i64 h = 0; h < a[1].pixels; ++h) emit_row(n, g, block, d, h, only, row);
    }

private:
    // a row of gx <- the sums of all windows that hold a pixel, folded back from the padding; bytes() of memory at sum
    void emit_row(i64 n, i64 g, i64 block, i64 d, i64 h, const R* only, R* sum) const {
        const Geometry& geo = call.geometry;
        const i64 *s = call.gx.stride, width = geo.axis[2].pixels;
        for (i64 i = 0; i < width * V; ++i) sum[i] = R(0);
        for (i64 pd = 0; pd < geo.axis[0].padded(); ++pd)
            for (i64 ph = 0; geo.axis[0].source(pd, geo.mode) == d && ph < geo.axis[1].padded(); ++ph)
                if (geo.axis[1].source(ph, geo.mode) == h) add_row(n, g, block, pd, ph, only, sum);
        i64* at = (i64*)(sum + width * V);
        for (i64 w = 0; w < width; ++w) at[w] = w * s[4];
        T* row = call.gx.at<T>(n, g * call.channels + block * V) + d * s[2] + h * s[3];
        separate(sum, V, width, least(V, call.channels - block * V), row, s[1], at, (const R*)nullptr);
    }
    void add_row(i64 n, i64 g, i64 block, i64 pd, i64 ph, const R* only, R* sum) const {  // in the order of the chunks
        const Geometry& geo = call.geometry;
        for (i64 chunk = 0; chunk < geo.chunks(); ++chunk) {
            const Box seen = geo.window(geo.chunk(chunk));
            const Range* a = seen.axis;
            if (pd < a[0].first || pd >= a[0].last || ph < a[1].first || ph >= a[1].last) continue;
            const R* from = (only ? only : of(n, g, block, chunk))
                          + ((pd - a[0].first) * a[1].size() + ph - a[1].first) * a[2].size() * V;
            for (i64 w = a[2].first; w < a[2].last; ++w, from += V) {
                const i64 to = geo.axis[2].source(w, geo.mode);
                if (to >= 0) store<F>(sum + to * V, load<F>(sum + to * V) + load<F>(from));
            }
        }
    }
};

}  // namespace anyconv
