"""The forward pass of any formula: a tile of sites x filters, in the order of channels and taps.

It asks for nothing of the shapes: any strides, groups, padding and dilation, other images beside the pixel's, whole
fields, channels that are reduced one by one.
"""

import triton
import triton.language as tl

from .functor import (
    COUNTS,
    INNER,
    WHOLE,
    R,
    after,
    fold,
    identity,
    inner_fold,
    inner_identity,
    inner_kept,
    kept,
    result,
    save,
    see,
)
from .places import pixel_of, rows, tap_at


@triton.jit
def forward(
    y, saved_at, bias, tensors, strides, outer, outer_strides, y_strides, saved_strides, axes, batch, taps, channels,
    filters, places, saved_pitch, FILL: tl.constexpr, HAS_BIAS: tl.constexpr, SAVES: tl.constexpr, SKIP: tl.constexpr,
    WIDE: tl.constexpr, SITES: tl.constexpr, FILTERS: tl.constexpr,
):  # fmt: skip
    g = tl.program_id(2)
    n, site, real = rows(tl.program_id(0), 0, batch, axes[1][0], axes[2][0], places, SITES, WIDE)
    lane = tl.program_id(1) * FILTERS + tl.arange(0, FILTERS)[None, :]
    o = tl.minimum(lane, filters - 1)
    state = identity((SITES, FILTERS))
    count = site[0] * 0
    if WHOLE:
        for c in range(channels):
            seen = see(tensors, strides, (n, g, o, c, 0, site), (site, real), axes, FILL)
            state = fold(state, seen)
        count += channels
    elif INNER:
        for c in range(channels):
            inner = inner_identity((SITES, FILTERS))
            for t in range(taps):
                pixel, inside = pixel_of(site, tap_at(t, axes), axes)
                seen = see(tensors, strides, (n, g, o, c, t, site), (pixel, inside), axes, FILL)
                new = inner_fold(inner, seen)
                inner = inner_kept(inside, new, inner) if SKIP else new
            state = fold(state, inner)
        count += channels
    else:
        for t in range(taps):
            pixel, inside = pixel_of(site, tap_at(t, axes), axes)
            for c in range(channels):
                seen = see(tensors, strides, (n, g, o, c, t, site), (pixel, inside), axes, FILL)
                new = fold(state, seen)
                state = kept(inside, new, state) if SKIP else new
            count += tl.where(inside, channels, 0) if SKIP else channels
    mask = real & (lane < filters)
    place = (n, g, o, 0, 0, site)
    value = result(state, count.to(R) if COUNTS else 0.0, after(outer, outer_strides, place))
    value = tl.broadcast_to(value, (SITES, FILTERS))
    if HAS_BIAS:
        value += tl.load(bias + g * filters + o).to(R)
    at = n * y_strides[0] + g * y_strides[1] + o * y_strides[2]
    at += site[0] * y_strides[5] + site[1] * y_strides[6] + site[2] * y_strides[7]
    tl.store(y + at, value.to(y.dtype.element_ty), mask=mask)
    if SAVES:
        at = n * saved_strides[0] + g * saved_strides[1] + o * saved_strides[2]
        at += site[0] * saved_strides[5] + site[1] * saved_strides[6] + site[2] * saved_strides[7]
        save(saved_at + at, saved_pitch, mask, state)
