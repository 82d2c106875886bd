"""The kernels of tiles, for maps that see one pixel and weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...plan import tiles
from ...plan.tiles import Tile
from ..formats import compute_dtype, parts_like
from ..functor import is_tame
from ..sums import add
from . import general
from .call import OPTIONS, Call, Outputs, blocks, is_wide, strides_of
from .cut import tile_of
from .kernel import load
from .pack import pack
from .readers import LOOPS
from .render import render

STAGES = 2  # of the inner loop: what the next round needs is on its way while this one computes


def forward(call: Call, tensors: dict[str, Tensor], bias: Tensor | None, outputs: Outputs) -> None:
    """Fill the outputs."""
    y, saves = outputs.y, outputs.state is not None
    tile = _tile(call, "tiled_forward", saves=saves)
    (x,), (x_strides,) = call.given(call.layout.inputs, tensors)
    outer, outer_strides = call.given(call.layout.outer, tensors)
    operands, strides = _packed(call, tensors, "tiled_forward", tile.all_lanes)
    places = math.prod(call.sites)
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
    # a kernel reads its contexts where a state would lie: there must be none, needed or not
    contexts = Outputs(outputs.y, None) if call.functor.is_direct else _contexts(call, tensors, outputs)
    if 0 in targets:
        found[call.names[0]] = _pixels(call, tensors, contexts)
    if set(targets) - {0}:
        for i, total in _weights(call, tensors, contexts):
            v = call.layout.operands[i]
            tensor = tensors[v.source]
            if v.source not in found:
                found[v.source] = torch.zeros(tensor.shape, dtype=compute_dtype(tensor.dtype), device=tensor.device)
            add(call.spread(v, found[v.source]), total)


def _contexts(call: Call, tensors: dict[str, Tensor], outputs: Outputs) -> Outputs:
    """What gradients take from the outputs alone."""
    grad = outputs.y
    count = len(call.functor.contexts)
    out = parts_like(grad, grad.new_empty(count * grad.numel(), dtype=compute_dtype(grad.dtype)))
    made = Outputs(out[0], out)
    outer, outer_strides = call.given(call.layout.outer, tensors)
    places = math.prod(call.sites)
    kernel = load(render(call.problem.mathematics, call.problem.dtype, "contexts"))
    kernel[(blocks(call.batch * places, general.SITES), blocks(call.filters, general.FILTERS), call.geometry.groups)](
        out, grad, outputs.kept, outer or (grad,), outer_strides or (call.outputs(grad),), call.outputs(made.part),
        call.outputs(grad), call.outputs(outputs.part), call.axes, call.batch, call.geometry.taps, call.channels,
        call.filters, places, outputs.pitch, made.pitch, SKIP=call.skips, WIDE=is_wide(grad, out), SITES=general.SITES,
        FILTERS=general.FILTERS, **OPTIONS,
    )  # fmt: skip
    return made


def _pixels(call: Call, tensors: dict[str, Tensor], contexts: Outputs) -> Tensor:
    v = call.layout.inputs[0]
    derivative = call.functor.gradients[v.name]
    tile = _tile(call, "tiled_pixels")
    (x,), (x_strides,) = call.given((v,), tensors)
    gx = torch.empty_like(tensors[v.source])
    operands, strides = _packed(call, tensors, "tiled_pixels", tile.all_lanes)
    phases = tuple(min(axis[3], axis[1]) for axis in call.axes)
    lattice = tuple(blocks(axis[1], axis[3]) for axis in call.axes)
    grid = (
        blocks(call.batch * math.prod(lattice), tile.all_rows), blocks(call.channels, tile.all_lanes),
        call.geometry.groups * math.prod(phases),
    )  # fmt: skip
    kernel = load(render(call.problem.mathematics, call.problem.dtype, "tiled_pixels"))
    kernel[grid](
        gx, contexts.kept, x, x_strides, operands or (x,), strides or (x_strides[:4],), strides_of(call.spread(v, gx)),
        call.outputs(contexts.part), call.axes, phases, lattice, call.batch, call.geometry.taps, call.channels,
        call.filters, contexts.pitch, GUARD=not is_tame(derivative), WIDE=is_wide(x, gx, contexts.kept),
        OWN_PIXELS=tile.own_rows, OWN_CHANNELS=tile.own_lanes, PIXELS=tile.rows, CHANNELS=tile.lanes, STAGES=STAGES,
        num_warps=tile.warps, **OPTIONS,
    )  # fmt: skip
    return gx


def _weights(call: Call, tensors: dict[str, Tensor], contexts: Outputs) -> list[tuple[int, Tensor]]:
    """For each operand that learns, by its number: its gradient, with the axes ``(k, c, n, g, o, *space)``."""
    f, grad, g = call.functor, contexts.y, call.geometry
    learned = [(i, v) for i, v in enumerate(call.layout.operands) if not v.frozen]
    derivatives = [f.gradients[v.name] for _, v in learned]
    tile = _tile(call, "tiled_weights")
    o_blocks, c_blocks = blocks(call.filters, tile.all_rows), blocks(call.channels, tile.all_lanes)
    lines = call.batch * math.prod(call.sites[:2])
    programs = g.taps * o_blocks * c_blocks * g.groups
    (x,), (x_strides,) = call.given(call.layout.inputs, tensors)
    weights, images = len(learned) * g.taps * call.channels * grad.shape[1], x.numel() + grad.numel()
    parts = tiles.weight_parts(lines=lines, programs=programs, images=images, weights=weights)
    shapes = [
        (call.filters if "o" in v.axes else o_blocks, call.channels if "c" in v.axes else c_blocks) for _, v in learned
    ]
    outs = [
        torch.empty((parts, g.taps, g.groups, *shape), dtype=compute_dtype(grad.dtype), device=grad.device)
        for shape in shapes
    ]
    operands, strides = call.given(call.layout.operands, tensors)
    guard = call.skips and not all(map(is_tame, derivatives))
    kernel = load(render(call.problem.mathematics, call.problem.dtype, "tiled_weights"))
    kernel[(parts * g.taps * o_blocks * c_blocks, g.groups)](
        tuple(outs), tuple(out.stride() for out in outs), contexts.kept, x, x_strides, operands, strides,
        call.outputs(contexts.part), call.axes, call.batch, g.taps, call.channels, call.filters, parts,
        blocks(lines, parts), contexts.pitch, FILL=call.fill, SKIP=call.skips, GUARD=guard, WIDE=is_wide(x, grad),
        OWN_FILTERS=tile.own_rows, OWN_CHANNELS=tile.own_lanes, FILTERS=tile.rows, CHANNELS=tile.lanes, STAGES=STAGES,
        num_warps=tile.warps, **OPTIONS,
    )  # fmt: skip
    found = []
    for (i, v), out in zip(learned, outs, strict=True):
        total = out.sum(0) if parts > 1 else out[0]
        total = total if "o" in v.axes else total.sum(2, keepdim=True)
        total = total if "c" in v.axes else total.sum(3, keepdim=True)
        total = total if "k" in v.axes else total.sum(0, keepdim=True)
        found.append((i, total.permute(0, 3, 1, 2).reshape(_as_view(total, g.dims))))
    return found


def _tile(call: Call, kernel: str, *, saves: bool = True) -> Tile:
    m = call.problem.mathematics
    return tile_of(m, kernel, channels=call.channels, filters=call.filters, saves=saves)


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
