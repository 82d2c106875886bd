"""The gradient to the pixels where the map sees one pixel and weights: tiles of pixels x channels in registers.

Each pixel gathers from the sites that see it. With a stride, only every so many taps see a pixel: pixels with the same
remainder (a phase) are taken together, and taps that none of them has are passed over.
"""

import triton
import triton.language as tl

from .functor import R, at_four, at_one, at_tap, context_quarters, context_rows, contexts_at, fixed, gradient_of, joined
from .places import site_of, tap_at, unravel
from .tiles import along_lanes, along_rows, lane, row


@triton.jit
def has_tap(phase, k, axis):  # whether pixels of a phase are seen through a tap, along one axis
    return (phase + axis[5] - k * axis[4]) % axis[3] == 0


@triton.jit(do_not_specialize=["batch", "taps", "channels", "filters", "pitch"])
def tiled_pixels(
    gx, contexts, x, x_strides, operands, strides, gx_strides, context_strides, axes, phases, lattice, batch, taps,
    channels, filters, pitch, GUARD: tl.constexpr, WIDE: tl.constexpr, OWN_PIXELS: tl.constexpr,
    OWN_CHANNELS: tl.constexpr, PIXELS: tl.constexpr, CHANNELS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # lattice: of how many pixels of one phase an image has along each axis
    g = tl.program_id(2) // (phases[0] * phases[1] * phases[2])
    phase = unravel(tl.program_id(2) % (phases[0] * phases[1] * phases[2]), phases[1], phases[2])
    index = along_rows(tl.program_id(0), OWN_PIXELS, PIXELS)
    if WIDE:
        index = index.to(tl.int64)
    places = lattice[0] * lattice[1] * lattice[2]
    real = index < batch * places
    index = tl.minimum(index, batch * places - 1)
    n = index // places
    d, h, w = unravel(index % places, lattice[1], lattice[2])
    d = d * axes[0][3] + phase[0]
    h = h * axes[1][3] + phase[1]
    w = w * axes[2][3] + phase[2]
    real = real & (d < axes[0][1]) & (h < axes[1][1]) & (w < axes[2][1])
    lanes = along_lanes(OWN_CHANNELS, CHANNELS)
    block = tl.program_id(1)
    channel = block * (OWN_CHANNELS * CHANNELS) + lanes
    owned = row(real) & (lane(channel) < channels)
    c = lane(tl.minimum(channel, channels - 1))
    at = n * x_strides[0] + d * x_strides[5] + h * x_strides[6] + w * x_strides[7]
    pixel = tl.load(x + row(at) + g * x_strides[1] + c * x_strides[3], mask=owned, other=0.0).to(R)
    first = fixed(operands, strides, g, block, lanes)
    total = tl.full((OWN_PIXELS, OWN_CHANNELS, PIXELS, CHANNELS), 0.0, R)
    fours = filters // 4
    four = tl.arange(0, 4)[None, None, :]
    for t in range(taps):
        k = tap_at(t, axes)
        if has_tap(phase[0], k[0], axes[0]) & has_tap(phase[1], k[1], axes[1]) & has_tap(phase[2], k[2], axes[2]):
            site, there = site_of((d, h, w), k, axes)
            there = there & real
            mask = row(there)
            second = at_tap(operands, strides, g, block, lanes, t)
            at = n * context_strides[0] + g * context_strides[1]
            at += site[0] * context_strides[5] + site[1] * context_strides[6] + site[2] * context_strides[7]
            near = contexts + at[:, :, None]
            for step in tl.range(0, fours, num_stages=STAGES):
                made = contexts_at(near + (step * 4 + four) * context_strides[2], pitch, there[:, :, None])
                e, f, i, j = context_quarters(made)
                p, q, r, s = at_four(operands, strides, g, block, lanes, t, step)
                new = gradient_of(e, joined(pixel, first, second, p), total, 0)
                total = tl.where(mask, new, total) if GUARD else new
                new = gradient_of(f, joined(pixel, first, second, q), total, 0)
                total = tl.where(mask, new, total) if GUARD else new
                new = gradient_of(i, joined(pixel, first, second, r), total, 0)
                total = tl.where(mask, new, total) if GUARD else new
                new = gradient_of(j, joined(pixel, first, second, s), total, 0)
                total = tl.where(mask, new, total) if GUARD else new
            for o in range(fours * 4, filters):
                made = contexts_at(contexts + at + o * context_strides[2], pitch, there)
                third = at_one(operands, strides, g, block, lanes, t, o)
                new = gradient_of(context_rows(made), joined(pixel, first, second, third), total, 0)
                total = tl.where(mask, new, total) if GUARD else new
    at = n * gx_strides[0] + d * gx_strides[5] + h * gx_strides[6] + w * gx_strides[7]
    spot = row(at) + g * gx_strides[1] + c * gx_strides[3]
    tl.store(gx + spot, total.to(gx.dtype.element_ty), mask=owned)
