// Images in planes, for lanes of sites: that of the pixel first, then the others. A pixel of a guide lies where that of the
// image lies; what has a value per site lies where the site's first pixel does. So all inputs of a map are read at one place
// and as many offsets.
#pragma once
#include "planes.hpp"

namespace anyconv {

// work(d, h, w) for the taps of the loop: all of them, or the first for a map that sees all at once
template <class Work> INLINE void each_tap(const Geometry& geo, const Work& work) {
    if (Functor::WHOLE) work(0, 0, 0);
    else geo.all_taps().each(work);
}
inline i64 values_from(const Geometry& geo, i64 d, i64 h, i64 w) {  // how many values a channel gives a site to fold
    return Functor::WHOLE || INNER ? 1 : geo.taps_from(d, h, w);
}

struct ImagePlanes {
    const Planes& planes;
    i64 channels, filters, taps, site_channels;
    i64 start[IMAGES + 1], step[IMAGES];  // where each image begins; from one filter to the next

    // filters: as many as are looked at together, of images that vary with them; site_channels: of those of values per site
    ImagePlanes(const Planes& planes_, const Geometry& geo, i64 channels_, i64 filters_, i64 site_channels_)
        : planes(planes_), channels(channels_), filters(filters_), taps(taps_of_loop(geo)), site_channels(site_channels_),
          start{}, step{} {
        for (int m = 0; m < IMAGES; ++m) {
            const i64 deep = image_varies(m, C) ? image_varies(m, SITE) ? site_channels : channels : 1;
            step[m] = up(pitch(m) * deep * (image_varies(m, K) ? taps : 1), V);
            start[m + 1] = start[m] + step[m] * (image_varies(m, O) ? filters : 1);
        }
    }
    i64 size() const { return start[IMAGES]; }
    i64 pitch(int m) const { return image_varies(m, SITE) ? planes.plane : planes.channel; }
    // where a plane of a site image begins
    i64 plane(int m, i64 j, i64 c, i64 k) const {
        const i64 of_channel = image_varies(m, K) ? taps : 1;
        return start[m] + j * step[m] + ((image_varies(m, C) ? c * of_channel : 0) + (image_varies(m, K) ? k : 0)) * planes.plane;
    }
    // from the place of a site to each input, for channel c and tap k, which lies at `tap`
    void offsets(const Geometry& geo, i64 c, i64 k, i64 tap, i64* to) const {
        for (int q = 0; q < INPUTS; ++q) {
            const int m = Functor::IMAGE[q];
            if (image_varies(m, SITE)) to[q] = plane(m, 0, site_channels > 1 ? c : 0, k);
            else to[q] = start[m] + (image_varies(m, C) ? c : 0) * planes.channel + (Functor::TAP[q] < 0 ? tap : own_tap(geo, q));
        }
    }
    i64 own_tap(const Geometry& geo, int q) const {  // where the tap lies at which input q is always seen
        const i64 k = Functor::TAP[q], w = geo.axis[2].kernel, h = geo.axis[1].kernel;
        return planes.tap(geo, k / w / h, k / w % h, k % w);
    }
};

// Where the values per site of a filter, a channel and a tap lie in memory; o and c count within group g.
struct Evaluation { i64 n, g, o, c, k; };
template <class Call> INLINE i64 site_values(const Call& call, const Image& image, int m, const Evaluation& e) {
    const i64* s = image.stride;
    const i64 w = call.geometry.axis[2].kernel, h = call.geometry.axis[1].kernel;
    const bool own = image_varies(m, O);
    return e.n * s[0] + (own ? e.g * call.filters + e.o : 0) * s[1] + (own ? e.c : e.g * call.channels + e.c) * s[2]
         + e.k / w / h * s[3] + e.k / w % h * s[4] + e.k % w * s[5];
}

// work(place in a plane, place in the image, sites) for each row of a box of sites
template <class Work> INLINE void each_row(const Planes& planes, const Image& image, const Box& sites, const Work& work) {
    const i64 *s = image.stride, width = sites.axis[2].size();
    const i64 first = sites.axis[0].first * s[6] + sites.axis[1].first * s[7] + sites.axis[2].first * s[8];
    for (i64 d = 0; d < sites.axis[0].size(); ++d)
        for (i64 h = 0; h < sites.axis[1].size(); ++h) work(planes.lattice(d, h, 0), first + d * s[6] + h * s[7], width);
}

// The planes of all images but the first, for the channels of a group; of some filters only what varies with them.
template <class Call>
void gather_images(const Call& call, const ImagePlanes& to, const Box& sites, i64 n, i64 g, Range filters, bool of_filters,
                   R* memory) {
    if constexpr (IMAGES > 1)
        for (int m = 1; m < IMAGES; ++m) {
            if (image_varies(m, O) != of_filters) continue;
            const Image& image = call.image[m - 1];
            const i64 channels = image_varies(m, C) ? call.channels : 1;
            if (!image_varies(m, SITE)) {
                const i64 first = image_varies(m, C) ? g * channels : 0;
                to.planes.fill(call.geometry, channels, memory + to.start[m]);
                to.planes.template gather<T>(call.geometry, image.pixels(), n, first, channels, memory + to.start[m]);
                continue;
            }
            for (i64 o = filters.first; o < filters.last; ++o)
                for (i64 c = 0; c < channels; ++c)
                    for (i64 k = 0; k < (image_varies(m, K) ? to.taps : 1); ++k) {
                        const T* from = (const T*)image.data + site_values(call, image, m, {n, g, o, c, k});
                        R* plane = memory + to.plane(m, o - filters.first, c, k);
                        each_row(to.planes, image, sites, [&](i64 at, i64 of, i64 width) {
                            collect(from + of, image.stride[8], width, plane + at);
                        });
                    }
        }
}

}  // namespace anyconv
