"""The kernels of tiles, for maps that see one pixel and weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...plan import tiles
from ...plan.schedule import cost
from ..formats import compute_dtype
from ..functor import is_tame
from ..sums import add
from .call import OPTIONS, Call, Outputs, blocks, is_wide, strides_of
from .kernel import load
from .pack import pack
from .readers import LOOPS
from .render import render

STAGES = 2  # of the inner loop: what the next round needs is on its way while this one computes


def forward(call: Call, tensors: dict[str, Tensor], bias: Tensor | None, outputs: Outputs) -> None:
    """Fill the outputs."""
    y, f = outputs.y, call.functor
    parts = len(f.parts) if outputs.state is not None else f.result_parts
    tile = tiles.forward_tile(cost=cost(*f.step[:parts]), parts=parts, lanes=call.filters)
    (x,), (x_strides,) = call.given(call.layout.inputs, tensors)
    outer, outer_strides = call.given(call.layout.outer, tensors)
    operands, strides = _packed(call, tensors, "tiled_forward", tile.all_lanes)
    places = math.prod(call.sites)
    saves = outputs.state is not None
    kernel = load(render(call.problem.mathematics, call.problem.dtype, "tiled_forward", saves=saves))
    kernel[(blocks(call.batch * places, tile.all_rows), blocks(call.filters, tile.all_lanes), call.geometry.groups)](
        y, outputs.kept, y if bias is None else bias, x, x_strides, operands or (y,), strides or (x_strides[:4],),
        outer or (y,), outer_strides or (x_strides,), call.outputs(y), call.outputs(outputs.part), call.axes,
        call.batch, call.geometry.taps, call.channels, call.filters, places, outputs.pitch, FILL=call.fill,
        HAS_BIAS=bias is not None, SAVES=saves, SKIP=call.skips, PADS=call.pads, WIDE=is_wide(x, y),
        OWN_SITES=tile.own_rows, OWN_FILTERS=tile.own_lanes, SITES=tile.rows, FILTERS=tile.lanes, STAGES=STAGES,
        num_warps=tile.warps, **OPTIONS,
    )  # fmt: skip


def gradients(
    call: Call, tensors: dict[str, Tensor], outputs: Outputs, targets: list[int], found: dict[str, Tensor]
) -> None:
    """Add the gradients of variables to those of their tensors."""
    if 0 in targets:
        found[call.names[0]] = _pixels(call, tensors, outputs)
    if set(targets) - {0}:
        for i, total in _weights(call, tensors, outputs):
            v = call.layout.operands[i]
            tensor = tensors[v.source]
            if v.source not in found:
                found[v.source] = torch.zeros(tensor.shape, dtype=compute_dtype(tensor.dtype), device=tensor.device)
            add(call.spread(v, found[v.source]), total)


def _pixels(call: Call, tensors: dict[str, Tensor], outputs: Outputs) -> Tensor:
    f, v, grad = call.functor, call.layout.inputs[0], outputs.y
    derivative = f.gradients[v.name]
    tile = tiles.pixel_tile(cost=cost(derivative), contexts=len(f.contexts), lanes=call.channels)
    (x,), (x_strides,) = call.given((v,), tensors)
    gx = torch.empty_like(tensors[v.source])
    outer, outer_strides = call.given(call.layout.outer, tensors)
    operands, strides = _packed(call, tensors, "tiled_pixels", tile.all_lanes)
    phases = tuple(min(axis[3], axis[1]) for axis in call.axes)
    lattice = tuple(blocks(axis[1], axis[3]) for axis in call.axes)
    grid = (
        blocks(call.batch * math.prod(lattice), tile.all_rows), blocks(call.channels, tile.all_lanes),
        call.geometry.groups * math.prod(phases),
    )  # fmt: skip
    kernel = load(render(call.problem.mathematics, call.problem.dtype, "tiled_pixels"))
    kernel[grid](
        gx, grad, outputs.kept, x, x_strides, operands or (grad,), strides or (x_strides[:4],), outer or (grad,),
        outer_strides or (x_strides,), strides_of(call.spread(v, gx)), call.outputs(grad), call.outputs(outputs.part),
        call.axes, phases, lattice, call.batch, call.geometry.taps, call.channels, call.filters, outputs.pitch,
        SKIP=call.skips, GUARD=not is_tame(derivative), WIDE=is_wide(x, gx, grad), OWN_PIXELS=tile.own_rows,
        OWN_CHANNELS=tile.own_lanes, PIXELS=tile.rows, CHANNELS=tile.lanes, STAGES=STAGES, num_warps=tile.warps,
        **OPTIONS,
    )  # fmt: skip
    return gx


def _weights(call: Call, tensors: dict[str, Tensor], outputs: Outputs) -> list[tuple[int, Tensor]]:
    """For each operand that learns, by its number: its gradient, with the axes ``(k, c, n, g, o, *space)``."""
    f, grad, g = call.functor, outputs.y, call.geometry
    learned = [(i, v) for i, v in enumerate(call.layout.operands) if not v.frozen]
    derivatives = [f.gradients[v.name] for _, v in learned]
    tile = tiles.weight_tile(
        cost=cost(*derivatives),
        numbers=2 * len(call.layout.operands) + 3 * (len(f.contexts) - 1),
        rows=call.filters,
        lanes=call.channels,
    )
    o_blocks, c_blocks = blocks(call.filters, tile.all_rows), blocks(call.channels, tile.all_lanes)
    lines = call.batch * math.prod(call.sites[:2])
    programs = g.taps * o_blocks * c_blocks * g.groups
    (x,), (x_strides,) = call.given(call.layout.inputs, tensors)
    parts = tiles.weight_parts(
        lines=lines,
        programs=programs,
        images=x.numel() + grad.numel(),
        weights=len(learned) * g.taps * call.channels * grad.shape[1],
    )
    shapes = [
        (call.filters if "o" in v.axes else o_blocks, call.channels if "c" in v.axes else c_blocks) for _, v in learned
    ]
    outs = [
        torch.empty((parts, g.taps, g.groups, *shape), dtype=compute_dtype(grad.dtype), device=grad.device)
        for shape in shapes
    ]
    operands, strides = call.given(call.layout.operands, tensors)
    outer, outer_strides = call.given(call.layout.outer, tensors)
    guard = call.skips and not all(map(is_tame, derivatives))
    kernel = load(render(call.problem.mathematics, call.problem.dtype, "tiled_weights"))
    kernel[(parts, g.taps * o_blocks * c_blocks, g.groups)](
        tuple(outs), tuple(out.stride() for out in outs), grad, outputs.kept, x, x_strides, operands, strides,
        outer or (grad,), outer_strides or (x_strides,), call.outputs(grad), call.outputs(outputs.part), call.axes,
        call.batch, g.taps, call.channels, call.filters, blocks(lines, parts), outputs.pitch, FILL=call.fill,
        SKIP=call.skips, GUARD=guard, WIDE=is_wide(x, grad), OWN_FILTERS=tile.own_rows, OWN_CHANNELS=tile.own_lanes,
        FILTERS=tile.rows, CHANNELS=tile.lanes, STAGES=STAGES, num_warps=tile.warps, **OPTIONS,
    )  # fmt: skip
    found = []
    for (i, v), out in zip(learned, outs, strict=True):
        total = out.sum(0) if parts > 1 else out[0]
        total = total if "o" in v.axes else total.sum(2, keepdim=True)
        total = total if "c" in v.axes else total.sum(3, keepdim=True)
        total = total if "k" in v.axes else total.sum(0, keepdim=True)
        found.append((i, total.permute(0, 3, 1, 2).reshape(_as_view(total, g.dims))))
    return found


def _as_view(total: Tensor, dims: int) -> tuple[int, ...]:
    k, g, o, c = total.shape
    return (k, c, 1, g, o, *(1,) * dims)


def _packed(
    call: Call, tensors: dict[str, Tensor], kernel: str, size: int
) -> tuple[tuple[Tensor, ...], tuple[tuple[int, ...], ...]]:
    views, _ = call.given(call.layout.operands, tensors)
    made = [
        pack(v, view, LOOPS[kernel], size, compute_dtype(view.dtype))
        for v, view in zip(call.layout.operands, views, strict=True)
    ]
    return tuple(tensor for tensor, _ in made), tuple(strides for _, strides in made)
