"""Where things are: rows and the sites they stand for, taps and the pixels they see, and numbers in tensors.

Every index obeys the one equation of the library, along each spatial axis:
pixel = site * stride + tap * dilation - before.
"""

import triton
import triton.language as tl


@triton.jit
def unravel(index, a, b):  # of a flat index, the three that it is made of; the last two axes have a and b places
    return index // (a * b), index // b % a, index % b


@triton.jit
def tap_at(t, axes):
    return unravel(t, axes[1][2], axes[2][2])


@triton.jit
def along(site, tap, axis):  # the pixel that a tap sees, along one axis
    return site * axis[3] + tap * axis[4] - axis[5]


@triton.jit
def pixel_of(site, tap, axes):  # and whether it is one of the image's
    d = along(site[0], tap[0], axes[0])
    h = along(site[1], tap[1], axes[1])
    w = along(site[2], tap[2], axes[2])
    inside = (d >= 0) & (d < axes[0][1]) & (h >= 0) & (h < axes[1][1]) & (w >= 0) & (w < axes[2][1])
    return (d, h, w), inside


@triton.jit
def back(pixel, tap, axis):  # the site whose tap sees a pixel, along one axis, and whether there is one
    far = pixel + axis[5] - tap * axis[4]
    site = far // axis[3]
    there = (far >= 0) & (site < axis[0]) & (site * axis[3] == far)
    return tl.where(there, site, 0), there


@triton.jit
def site_of(pixel, tap, axes):
    d, has_d = back(pixel[0], tap[0], axes[0])
    h, has_h = back(pixel[1], tap[1], axes[1])
    w, has_w = back(pixel[2], tap[2], axes[2])
    return (d, h, w), has_d & has_h & has_w


@triton.jit
def seen_from(site, taps, axes):  # how many taps of a site see a pixel
    count = site[0] * 0
    for t in range(taps):
        _, inside = pixel_of(site, tap_at(t, axes), axes)
        count += tl.where(inside, 1, 0)
    return count


@triton.jit
def counted(site, taps, channels, axes, SKIP: tl.constexpr):  # how many values the field of a site has
    if SKIP:
        count = seen_from(site, taps, axes) * channels
    else:
        count = site[0] * 0 + site[1] * 0 + site[2] * 0 + taps * channels
    return count


@triton.jit
def rows(block, first, images, high, wide, places, SIZE: tl.constexpr, WIDE: tl.constexpr):
    # the image and the place of each row of a block; rows beyond the last stand for the last
    row = block * SIZE + tl.arange(0, SIZE)[:, None]
    if WIDE:
        row = row.to(tl.int64)
    real = row < images * places
    row = tl.minimum(row, images * places - 1)
    n = first + row // places
    return n, unravel(row % places, high, wide), real


@triton.jit
def look(
    pointer, strides, place, seen, SLIDES: tl.constexpr, ROWS: tl.constexpr, FILTERS: tl.constexpr, FILL: tl.constexpr,
    R: tl.constexpr,
):  # fmt: skip
    # a number for each row and filter that it varies with; strides of (n, g, o, c, k) and of three axes
    n, g, o, c, t, site = place
    pixel, inside = seen
    at = pointer + g * strides[1] + c * strides[3] + t * strides[4]
    if FILTERS:
        at += o * strides[2]
    if SLIDES:
        at += n * strides[0] + pixel[0] * strides[5] + pixel[1] * strides[6] + pixel[2] * strides[7]
        value = tl.load(at, mask=inside, other=FILL).to(R)
    elif ROWS:
        at += n * strides[0] + site[0] * strides[5] + site[1] * strides[6] + site[2] * strides[7]
        value = tl.load(at).to(R)
    else:
        value = tl.load(at).to(R)
    return value
