"""The kernels that ask for nothing: any formula, one gradient at a time."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...variables import Variable
from ..formats import compute_dtype
from ..sums import add
from .call import OPTIONS, Call, Outputs, blocks, is_wide, strides_of
from .kernel import load
from .render import render

SITES, FILTERS = 32, 32  # of a program
PARTS = 256  # most pieces of a sum over all sites


def forward(call: Call, tensors: dict[str, Tensor], bias: Tensor | None, outputs: Outputs) -> None:
    """Fill the outputs."""
    y, kept = outputs.y, outputs.kept
    seen, strides = call.given(call.seen, tensors)
    outer, outer_strides = call.given(call.layout.outer, tensors)
    places = math.prod(call.sites)
    saves = outputs.state is not None
    kernel = load(render(call.problem.mathematics, call.problem.dtype, "forward", saves=saves))
    grid = (blocks(call.batch * places, SITES), blocks(call.filters, FILTERS), call.geometry.groups)
    kernel[grid](
        y, kept, y if bias is None else bias, seen, strides, outer or (y,), outer_strides or (strides[0],),
        call.outputs(y), call.outputs(outputs.part), call.axes, call.batch, call.geometry.taps, call.channels,
        call.filters, places, outputs.pitch, FILL=call.fill, HAS_BIAS=bias is not None,
        SAVES=saves, SKIP=call.skips, WIDE=is_wide(y, *seen), SITES=SITES, FILTERS=FILTERS,
        **OPTIONS,
    )  # fmt: skip


def gradients(
    call: Call, tensors: dict[str, Tensor], outputs: Outputs, targets: list[int], found: dict[str, Tensor]
) -> None:
    """Add the gradients of variables to those of their tensors."""
    for target in targets:
        v = call.seen[target]
        tensor = tensors[v.source]
        if v.source not in found:
            found[v.source] = torch.zeros(tensor.shape, dtype=compute_dtype(tensor.dtype), device=tensor.device)
        out = _gradient(call, tensors, outputs, target)
        add(call.spread(v, found[v.source]), out.sum(0) if len(out) > 1 else out[0])


def _gradient(call: Call, tensors: dict[str, Tensor], outputs: Outputs, target: int) -> Tensor:
    """The parts of a gradient, ``(part, k, c, n, g, o, *space)``."""
    v, grad = call.seen[target], outputs.y
    seen, strides = call.given(call.seen, tensors)
    outer, outer_strides = call.given(call.layout.outer, tensors)
    space = call.size if v.slides else call.sites
    by_image = "n" in v.axes or not v.is_image
    rows = blocks(math.prod(space) * (call.batch if by_image else 1), SITES)
    programs = rows if v.is_image else min(rows, PARTS)
    shape = (1 if v.is_image else programs, *_extents(call, v))
    out = torch.empty(shape, dtype=compute_dtype(grad.dtype), device=grad.device)
    which = (call.geometry.taps if "k" in v.axes else 1) * (call.channels if "c" in v.axes else 1)
    which *= blocks(call.filters, FILTERS) if "o" in v.axes else 1
    kernel = load(render(call.problem.mathematics, call.problem.dtype, "gradient"))
    kernel[(programs * which, call.geometry.groups)](
        out, grad, outputs.kept, seen, strides, outer or (grad,), outer_strides or (strides[0],), strides_of(out[0]),
        call.outputs(grad), call.outputs(outputs.part), call.axes, call.batch, call.geometry.taps, call.channels,
        call.filters, math.prod(space), space[1], space[2], programs, blocks(rows, programs), outputs.pitch,
        v.tap or 0, out.stride(0), FILL=call.fill, TARGET=target, SLIDES=v.slides, ROWS=v.is_image, BY_IMAGE=by_image,
        BY_FILTER="o" in v.axes, BY_CHANNEL="c" in v.axes, BY_TAP="k" in v.axes, SKIP=call.skips,
        WIDE=is_wide(grad, out, *seen), SITES=SITES, FILTERS=FILTERS, **OPTIONS,
    )  # fmt: skip
    return out


def _extents(call: Call, v: Variable) -> tuple[int, ...]:
    """Those of the gradient of a variable, ``(k, c, n, g, o, *space)``, before it is summed over the groups."""
    dims = call.geometry.dims
    extents = {"k": call.geometry.taps, "c": call.channels, "n": call.batch, "o": call.filters}
    k, c, n, o = (extents[axis] if axis in v.axes else 1 for axis in "kcno")
    space = (call.size if v.slides else call.sites)[3 - dims :] if v.is_image else (1,) * dims
    return (k, c, n, call.geometry.groups, o, *space)
