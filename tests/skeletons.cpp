// The skeletons as they stand, with the functor of the ordinary convolution, against loops that nobody could get wrong.
// tests/test_skeletons.py compiles and runs this, for several instruction sets and with sanitizers.
#include "forward_entry.hpp"
#ifdef ANYCONV_IMAGES  // as for a map that sees several images
#include "backward_images_entry.hpp"
#else
#include "backward_entry.hpp"
#endif

#include <cmath>
#include <cstdio>
#include <vector>

using namespace anyconv;

struct Case {
    i64 batch, groups, channels, filters;
    i64 size[3], kernel[3], stride[3], dilation[3], before[3], after[3];
    i64 mode;
};

static std::vector<float> numbers(i64 count, int seed) {
    std::vector<float> made(count);
    unsigned state = 12345u + unsigned(seed);
    for (float& value : made) {
        state = state * 1664525u + 1013904223u;
        value = float(state >> 8) / float(1 << 23) - 1.0f;
    }
    return made;
}

static Strided images(float* data, i64 channels, const i64* size) {
    i64 s3 = 1, s2 = size[2], s1 = size[1] * size[2], s0 = size[0] * s1;
    return {data, {channels * s0, s0, s1, s2, s3}};
}

static i64 failures = 0;
static void compare(const char* what, const std::vector<double>& want, const std::vector<double>& got) {
    double largest = 1;
    for (double value : want) largest = std::fmax(largest, std::fabs(value));
    for (size_t i = 0; i < want.size(); ++i)
        if (!(std::fabs(want[i] - got[i]) <= 1e-5 * largest)) {
            std::printf("%s: %g at %zu, want %g\n", what, got[i], i, want[i]);
            ++failures;
            return;
        }
}

static void run(const Case& c, i64 chunk, i64 parts) {
    Geometry geo{};
    i64 sites[3];
    for (int a = 0; a < 3; ++a) {
        sites[a] = (c.size[a] + c.before[a] + c.after[a] - c.dilation[a] * (c.kernel[a] - 1) - 1) / c.stride[a] + 1;
        geo.axis[a] = {c.size[a], sites[a], c.kernel[a], c.stride[a], c.dilation[a], c.before[a], least(chunk, sites[a])};
    }
    geo.mode = c.mode;
    geo.fill = 0.5;
    const i64 pixels = c.size[0] * c.size[1] * c.size[2], outputs = sites[0] * sites[1] * sites[2], taps = geo.taps();
    const i64 in = c.groups * c.channels, out = c.groups * c.filters, weights = out * c.channels * taps;
    std::vector<float> x = numbers(c.batch * in * pixels, 1), w = numbers(weights, 2), g = numbers(c.batch * out * outputs, 3);
    std::vector<float> y(c.batch * out * outputs, NAN), gx(x.size(), NAN), gw(weights, NAN), bias = numbers(out, 4);
    std::vector<double> want_y(y.size(), 0.0), want_gx(x.size(), 0.0), want_gw(weights, 0.0);
    for (i64 n = 0; n < c.batch; ++n)
        for (i64 o = 0; o < out; ++o)
            for (i64 s = 0; s < outputs; ++s) {
                i64 at = (n * out + o) * outputs + s, site[3] = {s / (sites[1] * sites[2]), s / sites[2] % sites[1], s % sites[2]};
                want_y[at] = bias[o];
                for (i64 ch = 0; ch < c.channels; ++ch)
                    for (i64 k = 0; k < taps; ++k) {
                        i64 tap[3] = {k / (c.kernel[1] * c.kernel[2]), k / c.kernel[2] % c.kernel[1], k % c.kernel[2]}, place = 0;
                        bool inside = true, folded = true;
                        for (int a = 0; a < 3; ++a) {
                            i64 p = geo.axis[a].source(site[a] * c.stride[a] + tap[a] * c.dilation[a], c.mode);
                            inside = inside && p >= 0;
                            place = place * c.size[a] + p;
                        }
                        folded = inside || c.mode != SKIP;
                        if (!folded) continue;
                        i64 pixel = (n * in + o / c.filters * c.channels + ch) * pixels + place;
                        i64 weight = (o * c.channels + ch) * taps + k;
                        double value = inside ? double(x[pixel]) : geo.fill;
                        want_y[at] += value * w[weight];
                        want_gw[weight] += value * g[at];
                        if (inside) want_gx[pixel] += double(w[weight]) * g[at];
                    }
            }
    const Strided weight{w.data(), {c.channels * taps, taps, c.kernel[1] * c.kernel[2], c.kernel[2], 1}};
    Strided gradient = weight, operand_bias{bias.data(), {1, 0, 0, 0, 0}};
    gradient.data = gw.data();
    const i64 channel_parts = least(c.channels, parts);
    Forward forward{{{nullptr, 1}, geo, c.batch, c.groups, c.channels, c.filters, parts, 0,
                     images(x.data(), in, c.size), images(y.data(), out, sites), {}, operand_bias, {weight}}};
    Backward backward{{{nullptr, 1}, geo, c.batch, c.groups, c.channels, c.filters, parts, channel_parts, 1, 0,
                       images(x.data(), in, c.size), images(g.data(), out, sites), {}, images(gx.data(), in, c.size),
                       {weight}, {gradient}}};
    if (anyconv_forward(&forward) || anyconv_backward(&backward)) {
        std::printf("no memory\n");
        ++failures;
    }
    compare("y", want_y, std::vector<double>(y.begin(), y.end()));
    compare("gradient of x", want_gx, std::vector<double>(gx.begin(), gx.end()));
    compare("gradient of w", want_gw, std::vector<double>(gw.begin(), gw.end()));
}

int main(int argc, char**) {
    const Case cases[] = {
        {2, 1, 3, 5, {1, 7, 6}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, CONSTANT},
        {1, 2, 17, 33, {1, 5, 5}, {1, 2, 3}, {1, 2, 1}, {1, 1, 2}, {0, 1, 2}, {0, 0, 2}, CONSTANT},
        {2, 1, 2, 4, {1, 1, 40}, {1, 1, 4}, {1, 1, 3}, {1, 1, 2}, {0, 0, 2}, {0, 0, 2}, SKIP},
        {1, 1, 1, 1, {4, 5, 6}, {2, 3, 2}, {1, 2, 1}, {1, 1, 2}, {1, 1, 1}, {1, 1, 1}, SKIP},
        {3, 4, 1, 2, {1, 6, 9}, {1, 3, 2}, {1, 1, 2}, {1, 2, 1}, {0, 2, 1}, {0, 2, 1}, REFLECT},
        {1, 1, 20, 70, {1, 4, 4}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, CIRCULAR},
        {1, 3, 2, 3, {1, 5, 4}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 2, 1}, {0, 1, 2}, REPLICATE},
        {2, 21, 1, 1, {1, 6, 9}, {1, 3, 2}, {1, 1, 2}, {1, 2, 1}, {0, 2, 1}, {0, 2, 1}, SKIP},
        {3, 80, 1, 1, {1, 5, 7}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}, CONSTANT},
        {2, 1, 4, 6, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}, CONSTANT},
    };
    i64 ran = 0;
    for (const Case& c : cases) {
        if (variant::LANES == GROUPS && c.channels * c.filters > 1) continue;
        if (variant::LANES == SITES && variant::SKIPS != (c.mode == SKIP)) continue;
        for (i64 chunk : {1, 3, 1000})
            for (i64 parts : {1, 2}) run(c, chunk, parts), ++ran;
    }
    if (argc > 1) {  // the comparison itself: a wrong number has to be found
        compare("a wrong number", {1.0, 2.0}, {1.0, 2.1});
    }
    std::printf("%lld runs, %lld failures\n", (long long)ran, (long long)failures);
    return failures != 0;
}
