"""The gradient to one variable of any formula: gathered by whoever owns it, summed over the axes that it lacks.

A variable with a value for each row (a pixel, a site) has a tile of rows x filters for itself. One without is summed
over a part of the rows; the parts are joined in their order later. Nothing is added to by two programs, so two runs
agree to the last bit.
"""

import triton
import triton.language as tl

from .functor import (
    COUNTS,
    INNER,
    WHOLE,
    R,
    after,
    context,
    gradient_of,
    inner_fold,
    inner_identity,
    inner_kept,
    saved,
    see,
)
from .places import counted, pixel_of, rows, site_of, tap_at


@triton.jit
def contexts(
    grad, grad_strides, saved_at, saved_strides, saved_pitch, outer, outer_strides, n, g, o, site, mask, taps, channels,
    axes, inner, SKIP: tl.constexpr,
):  # fmt: skip
    at = n * grad_strides[0] + g * grad_strides[1] + o * grad_strides[2]
    at += site[0] * grad_strides[5] + site[1] * grad_strides[6] + site[2] * grad_strides[7]
    d = tl.load(grad + at, mask=mask, other=0.0).to(R)
    at = n * saved_strides[0] + g * saved_strides[1] + o * saved_strides[2]
    at += site[0] * saved_strides[5] + site[1] * saved_strides[6] + site[2] * saved_strides[7]
    state = saved(saved_at + at, saved_pitch, mask)
    count = 0.0
    if COUNTS:
        if WHOLE or INNER:  # one value of each channel
            count = counted(site, 1, channels, axes, False).to(R)
        else:
            count = counted(site, taps, channels, axes, SKIP).to(R)
    return context(d, state, count, after(outer, outer_strides, (n, g, o, 0, 0, site)), inner)


@triton.jit
def state_of_channel(
    tensors,
    strides,
    n,
    g,
    o,
    c,
    site,
    taps,
    axes,
    FILL: tl.constexpr,
    SKIP: tl.constexpr,
    SITES: tl.constexpr,
    FILTERS: tl.constexpr,
):  # fmt: skip
    inner = inner_identity((SITES, FILTERS))
    for t in range(taps):
        pixel, inside = pixel_of(site, tap_at(t, axes), axes)
        new = inner_fold(inner, see(tensors, strides, (n, g, o, c, t, site), (pixel, inside), axes, FILL))
        inner = inner_kept(inside, new, inner) if SKIP else new
    return inner


@triton.jit
def gradient(
    out, grad, saved_at, tensors, strides, outer, outer_strides, out_strides, grad_strides, saved_strides, axes, batch,
    taps, channels, filters, places, high, wide, programs, blocks, saved_pitch, tap, part_pitch, FILL: tl.constexpr,
    TARGET: tl.constexpr, SLIDES: tl.constexpr, ROWS: tl.constexpr, BY_IMAGE: tl.constexpr, BY_FILTER: tl.constexpr,
    BY_CHANNEL: tl.constexpr, BY_TAP: tl.constexpr, SKIP: tl.constexpr, WIDE: tl.constexpr, SITES: tl.constexpr,
    FILTERS: tl.constexpr,
):  # fmt: skip
    # rows are pixels where the variable slides, sites elsewhere: places, of which high x wide are the last two axes.
    # The first axis of a grid alone has room for many: programs for rows, for each of what else the variable has
    g = tl.program_id(1)
    program = tl.program_id(0) % programs
    which = tl.program_id(0) // programs
    t_first, c_first, f_first = 0, 0, 0
    t_last, c_last, f_last = taps, channels, tl.cdiv(filters, FILTERS)
    if BY_TAP:
        t_first = which % taps
        t_last = t_first + 1
        which = which // taps
    if BY_CHANNEL:
        c_first = which % channels
        c_last = c_first + 1
        which = which // channels
    if BY_FILTER:
        f_first = which
        f_last = which + 1
    if WHOLE:
        t_first = tap
        t_last = tap + 1
    b_first = program * blocks
    images = batch if BY_IMAGE else 1
    acc = tl.full((SITES, FILTERS), 0.0, R)
    n_last = 1 if BY_IMAGE else batch
    for first in range(n_last):
        for b in range(b_first, b_first + blocks):
            n, row, real = rows(b, first, images, high, wide, places, SITES, WIDE)
            for f in range(f_first, f_last):
                lane = f * FILTERS + tl.arange(0, FILTERS)[None, :]
                o = tl.minimum(lane, filters - 1)
                own = real & (lane < filters)
                for c in range(c_first, c_last):
                    for t in range(t_first, t_last):
                        k = tap_at(t, axes)
                        if SLIDES:
                            pixel, inside = row, real
                            site, there = site_of(row, k, axes)
                            mask = own & there
                        else:
                            site = row
                            pixel, inside = pixel_of(site, k, axes)
                            mask = own & inside if SKIP and not WHOLE else own
                        inner = 0
                        if INNER:
                            inner = state_of_channel(
                                tensors, strides, n, g, o, c, site, taps, axes, FILL, SKIP, SITES, FILTERS
                            )
                        made = contexts(
                            grad, grad_strides, saved_at, saved_strides, saved_pitch, outer, outer_strides, n, g, o,
                            site, mask, taps, channels, axes, inner, SKIP,
                        )  # fmt: skip
                        seen = see(tensors, strides, (n, g, o, c, t, site), (pixel, inside), axes, FILL)
                        acc = tl.where(mask, gradient_of(made, seen, acc, TARGET), acc)
    at = g * out_strides[1]
    if BY_CHANNEL:
        at += c_first * out_strides[3]
    if BY_TAP:
        at += t_first * out_strides[4]
    if ROWS:
        n, row, real = rows(b_first, 0, images, high, wide, places, SITES, WIDE)
        at += n * out_strides[0] + row[0] * out_strides[5] + row[1] * out_strides[6] + row[2] * out_strides[7]
    else:
        acc = tl.sum(acc, axis=0, keep_dims=True)
        real = tl.full((1, 1), 1, tl.int1)
        at += program * part_pitch
    if BY_FILTER:
        lane = f_first * FILTERS + tl.arange(0, FILTERS)[None, :]
        at += lane * out_strides[2]
        real = real & (lane < filters)
    else:
        acc = tl.sum(acc, axis=1, keep_dims=True)
    at = tl.full(acc.shape, 0, tl.int32) + at
    tl.store(out + at, acc.to(out.dtype.element_ty), mask=real)
