"""The gradients to all weights where the map sees one pixel and weights: tiles of filters x channels in registers.

A program has one tap and one part of the lines of sites, and walks along them, four sites at a time. The parts are
joined in their order later: no number is added to by two programs.
"""

import triton
import triton.language as tl

from .functor import R, context_quarters, context_rows, contexts_at, put_all, weight_gradients, weights_at, zeros
from .places import along, tap_at, unravel
from .tiles import along_lanes, along_rows, lane, lane_quarters, row, row_quarters


@triton.jit(do_not_specialize=["batch", "taps", "channels", "filters", "parts", "lines", "pitch"])
def tiled_weights(
    outs, out_strides, contexts, x, x_strides, operands, strides, context_strides, axes, batch, taps, channels, filters,
    parts, lines, pitch, FILL: tl.constexpr, SKIP: tl.constexpr, GUARD: tl.constexpr, WIDE: tl.constexpr,
    OWN_FILTERS: tl.constexpr, OWN_CHANNELS: tl.constexpr, FILTERS: tl.constexpr, CHANNELS: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    # lines: of sites, in one part
    part = tl.program_id(0) % parts
    which = tl.program_id(0) // parts
    t = which % taps
    o_blocks = tl.cdiv(filters, OWN_FILTERS * FILTERS)
    o_block = which // taps % o_blocks
    c_block = which // taps // o_blocks
    g = tl.program_id(1)
    filter = along_rows(o_block, OWN_FILTERS, FILTERS)
    channel = c_block * (OWN_CHANNELS * CHANNELS) + along_lanes(OWN_CHANNELS, CHANNELS)
    o, c = tl.minimum(filter, filters - 1), tl.minimum(channel, channels - 1)
    weights = weights_at(operands, strides, g, row(o), lane(c), t)
    total = zeros((OWN_FILTERS, OWN_CHANNELS, FILTERS, CHANNELS))
    k = tap_at(t, axes)
    four = tl.arange(0, 4)[None, None, :]
    none = tl.zeros((1, 1), tl.int32)  # masks are tensors, also of one place
    fours = axes[2][0] // 4
    all_lines = batch * axes[0][0] * axes[1][0]
    for line in range(part * lines, tl.minimum(part * lines + lines, all_lines)):
        number = line.to(tl.int64) if WIDE else line
        n, sd, sh = unravel(number, axes[0][0], axes[1][0])
        d, h = along(sd, k[0], axes[0]), along(sh, k[1], axes[1])
        at_d, at_h = d + none, h + none
        line_inside = (at_d >= 0) & (at_d < axes[0][1]) & (at_h >= 0) & (at_h < axes[1][1])
        image = x + n * x_strides[0] + g * x_strides[1] + d * x_strides[5] + h * x_strides[6] + c * x_strides[3]
        line_contexts = contexts + n * context_strides[0] + g * context_strides[1] + o * context_strides[2]
        line_contexts += sd * context_strides[5] + sh * context_strides[6]
        for step in tl.range(0, fours, num_stages=STAGES):
            site = step * 4 + four
            w = along(site, k[2], axes[2])
            inside = line_inside[:, :, None] & (w >= 0) & (w < axes[2][1])
            seen = tl.load(image[:, :, None] + w * x_strides[7], mask=inside, other=FILL).to(R)
            counts = inside if SKIP else site >= 0
            made = contexts_at(line_contexts[:, :, None] + site * context_strides[7], pitch, counts)
            e, f, i, j = context_quarters(made)
            p, q, r, s = lane_quarters(seen)
            ep, fp, ip, jp = row_quarters(counts)
            total = weight_gradients(e, p, weights, total, ep, GUARD and SKIP)
            total = weight_gradients(f, q, weights, total, fp, GUARD and SKIP)
            total = weight_gradients(i, r, weights, total, ip, GUARD and SKIP)
            total = weight_gradients(j, s, weights, total, jp, GUARD and SKIP)
        for last in range(fours * 4, axes[2][0]):
            site = last + none
            w = along(site, k[2], axes[2])
            inside = line_inside & (w >= 0) & (w < axes[2][1])
            seen = tl.load(image + w * x_strides[7], mask=inside, other=FILL).to(R)
            counts = inside if SKIP else site >= 0
            made = context_rows(contexts_at(line_contexts + site * context_strides[7], pitch, counts))
            total = weight_gradients(made, lane(seen), weights, total, counts, GUARD and SKIP)
    put_all(outs, out_strides, total, part, t, g, row(filter), lane(channel), o_block, c_block, filters, channels)
