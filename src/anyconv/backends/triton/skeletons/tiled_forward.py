"""The forward pass where the map sees one pixel and weights: tiles of sites x filters in registers.

One text serves every kernel size: taps and channels are loops. The weights lie in the order in which they are used, the
four channels of a filter together (`packed` in launch.py).
"""

import triton
import triton.language as tl

from .functor import COUNTS, R, after, at_four, at_one, at_tap, fixed, fold, identity, joined, kept, result, save
from .places import pixel_of, tap_at, unravel
from .tiles import along_lanes, along_rows, lane, row, row_quarters


@triton.jit(do_not_specialize=["batch", "taps", "channels", "filters", "places", "saved_pitch"])
def tiled_forward(
    y, saved_at, bias, x, x_strides, operands, strides, outer, outer_strides, y_strides, saved_strides, axes, batch,
    taps, channels, filters, places, saved_pitch, FILL: tl.constexpr, HAS_BIAS: tl.constexpr, SAVES: tl.constexpr,
    SKIP: tl.constexpr, PADS: tl.constexpr, WIDE: tl.constexpr, OWN_SITES: tl.constexpr, OWN_FILTERS: tl.constexpr,
    SITES: tl.constexpr, FILTERS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    g = tl.program_id(2)
    index = along_rows(tl.program_id(0), OWN_SITES, SITES)
    if WIDE:
        index = index.to(tl.int64)
    real = index < batch * places
    index = tl.minimum(index, batch * places - 1)
    n = index // places
    site = unravel(index % places, axes[1][0], axes[2][0])
    lanes = along_lanes(OWN_FILTERS, FILTERS)
    block = tl.program_id(1)
    state = identity((OWN_SITES, OWN_FILTERS, SITES, FILTERS))
    first = fixed(operands, strides, g, block, lanes)
    count = site[0] * 0
    fours = channels // 4
    four = tl.arange(0, 4)[None, None, :]
    image = x + g * x_strides[1] + n * x_strides[0]
    for t in range(taps):
        pixel, inside = pixel_of(site, tap_at(t, axes), axes)
        at = image + pixel[0] * x_strides[5] + pixel[1] * x_strides[6] + pixel[2] * x_strides[7]
        second = at_tap(operands, strides, g, block, lanes, t)
        mask = row(inside)
        quads = at[:, :, None] + four * x_strides[3]
        for step in tl.range(0, fours, num_stages=STAGES):
            if PADS:
                seen = tl.load(quads, mask=inside[:, :, None], other=FILL)
            else:
                seen = tl.load(quads)
            a, b, c, d = row_quarters(seen.to(R))
            p, q, r, s = at_four(operands, strides, g, block, lanes, t, step)
            new = fold(state, joined(a, first, second, p))
            state = kept(mask, new, state) if SKIP else new
            new = fold(state, joined(b, first, second, q))
            state = kept(mask, new, state) if SKIP else new
            new = fold(state, joined(c, first, second, r))
            state = kept(mask, new, state) if SKIP else new
            new = fold(state, joined(d, first, second, s))
            state = kept(mask, new, state) if SKIP else new
            quads += 4 * x_strides[3]
        for channel in range(fours * 4, channels):
            seen = tl.load(at + channel * x_strides[3], mask=inside, other=FILL).to(R)
            third = at_one(operands, strides, g, block, lanes, t, channel)
            new = fold(state, joined(row(seen), first, second, third))
            state = kept(mask, new, state) if SKIP else new
        count += tl.where(inside, channels, 0) if SKIP else channels
    filter = block * (OWN_FILTERS * FILTERS) + lanes
    o = lane(tl.minimum(filter, filters - 1))
    place = (0, g, o, 0, 0, (0, 0, 0))
    value = result(state, row(count).to(R) if COUNTS else 0.0, after(outer, outer_strides, place))
    value = tl.broadcast_to(value, (OWN_SITES, OWN_FILTERS, SITES, FILTERS))
    if HAS_BIAS:
        value += tl.load(bias + g * filters + o).to(R)
    mask = row(real) & (lane(filter) < filters)
    rows = n * y_strides[0] + site[0] * y_strides[5] + site[1] * y_strides[6] + site[2] * y_strides[7]
    spot = row(rows) + g * y_strides[1] + o * y_strides[2]
    tl.store(y + spot, value.to(y.dtype.element_ty), mask=mask)
    if SAVES:
        rows = (
            n * saved_strides[0] + site[0] * saved_strides[5] + site[1] * saved_strides[6] + site[2] * saved_strides[7]
        )
        spot = row(rows) + g * saved_strides[1] + o * saved_strides[2]
        save(saved_at + spot, saved_pitch, mask, state)
