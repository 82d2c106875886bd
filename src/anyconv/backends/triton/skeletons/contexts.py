"""What gradients take from outputs alone, once for each output; where that is more than the outputs' own gradient."""

import triton
import triton.language as tl

from .functor import COUNTS, R, after, context, put_contexts, saved
from .places import counted, rows


@triton.jit(do_not_specialize=["batch", "taps", "channels", "filters", "places", "saved_pitch", "pitch"])
def contexts(
    out, grad, saved_at, outer, outer_strides, out_strides, grad_strides, saved_strides, axes, batch, taps, channels,
    filters, places, saved_pitch, pitch, SKIP: tl.constexpr, WIDE: tl.constexpr, SITES: tl.constexpr,
    FILTERS: tl.constexpr,
):  # fmt: skip
    g = tl.program_id(2)
    n, site, real = rows(tl.program_id(0), 0, batch, axes[1][0], axes[2][0], places, SITES, WIDE)
    o = tl.program_id(1) * FILTERS + tl.arange(0, FILTERS)[None, :]
    mask = real & (o < filters)
    o = tl.minimum(o, filters - 1)
    at = n * grad_strides[0] + g * grad_strides[1] + o * grad_strides[2]
    at += site[0] * grad_strides[5] + site[1] * grad_strides[6] + site[2] * grad_strides[7]
    d = tl.load(grad + at, mask=mask, other=0.0).to(R)
    at = n * saved_strides[0] + g * saved_strides[1] + o * saved_strides[2]
    at += site[0] * saved_strides[5] + site[1] * saved_strides[6] + site[2] * saved_strides[7]
    state = saved(saved_at + at, saved_pitch, mask)
    count = counted(site, taps, channels, axes, SKIP).to(R) if COUNTS else 0.0
    made = context(d, state, count, after(outer, outer_strides, (n, g, o, 0, 0, site)), 0)
    at = n * out_strides[0] + g * out_strides[1] + o * out_strides[2]
    at += site[0] * out_strides[5] + site[1] * out_strides[6] + site[2] * out_strides[7]
    put_contexts(out + at, pitch, mask, made, d)
