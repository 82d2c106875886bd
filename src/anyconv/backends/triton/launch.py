"""launch: a call of kernels with tensors, as an autograd function."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import BackendError
from ...plan import Problem
from ...variables import Variable
from ..formats import compute_dtype, empty_like
from ..outer import outer_gradients
from ..sums import add, bias_gradient
from .call import Call, is_wide, strides_of
from .kernel import load
from .render import render

SITES, FILTERS = 32, 32  # of a tile
PARTS = 256  # most pieces of a sum over all sites


def convolve(x: Tensor, operands: dict[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
    """``y[n, o, *sites]`` of ``x[n, c, *size]``, differentiable once in ``x``, ``operands`` and ``bias``."""
    call = Call(problem, (problem.formula.pixel, *operands), tuple(x.shape))
    tensors = (x, *operands.values())
    trains = torch.is_grad_enabled() and any(t.requires_grad for t in (*tensors, *([] if bias is None else [bias])))
    y: Tensor = _Triton.apply(call, trains, bias, *tensors)  # type: ignore[no-untyped-call]
    return y


class _Triton(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, trains: bool, bias: Tensor | None, *tensors: Tensor) -> Tensor:
        y, state = _forward(call, dict(zip(call.names, tensors, strict=True)), bias, saves=trains)
        ctx.call = call
        if trains:
            ctx.save_for_backward(*tensors, *([] if state is None else [state]))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        if torch.is_grad_enabled():
            raise BackendError(
                f"{call.problem.formula}: create_graph=True, but the triton backend differentiates only once",
                way_out="Drop create_graph=True, or keep this layer out of what is differentiated twice.",
            )
        count = len(call.names)
        saved = ctx.saved_tensors
        tensors = dict(zip(call.names, saved[:count], strict=True))
        state = saved[count] if len(saved) > count else None
        _, _, wants_bias, *needed = ctx.needs_input_grad
        dtype = saved[0].dtype
        g_bias = bias_gradient(grad.to(compute_dtype(dtype))).to(dtype) if wants_bias else None
        wanted = {name for name, need in zip(call.names, needed, strict=True) if need}
        found = _backward(call, tensors, Outputs(grad, state), wanted) if wanted else {}
        return None, None, g_bias, *(found.get(name) for name in call.names)


def _forward(
    call: Call, tensors: dict[str, Tensor], bias: Tensor | None, *, saves: bool
) -> tuple[Tensor, Tensor | None]:
    x, functor = tensors[call.names[0]], call.functor
    y = empty_like(x, (call.batch, call.problem.out_channels, *call.geometry.sites(call.x_shape[2:])), x.dtype)
    state = None
    if saves and functor.saved:
        state = y.new_empty((len(functor.saved), *y.shape), dtype=compute_dtype(x.dtype))
    seen, strides = call.given(call.seen, tensors)
    outer, outer_strides = call.given(call.layout.outer, tensors)
    kept = y if state is None else state[0]
    places = math.prod(call.sites)
    kernel = load(render(call.problem.mathematics, call.problem.dtype, "forward"))
    grid = (_blocks(call.batch * places, SITES), _blocks(call.filters, FILTERS), call.geometry.groups)
    kernel[grid](
        y, kept if state is None else state, y if bias is None else bias, seen, strides, outer or (y,),
        outer_strides or (strides[0],), call.outputs(y), call.outputs(kept), call.axes, call.batch,
        _taps(call), call.channels, call.filters, places, 0 if state is None else state.stride(0),
        FILL=call.fill, HAS_BIAS=bias is not None, SAVES=state is not None, SKIP=call.skips,
        WIDE=is_wide(y, *seen), SITES=SITES, FILTERS=FILTERS,
    )  # fmt: skip
    return y, state


@dataclass(frozen=True)
class Outputs:
    """What a backward pass is given of outputs: their gradient, and the parts of the state that were saved."""

    grad: Tensor
    state: Tensor | None


def _backward(call: Call, tensors: dict[str, Tensor], outputs: Outputs, wanted: set[str]) -> dict[str, Tensor]:
    outer = call.layout.outer
    found = outer_gradients(call.problem, tensors, outputs.state, outputs.grad, wanted) if outer else {}
    for target, v in enumerate(call.seen):
        if v.source in wanted and not v.frozen:
            _gradient(call, tensors, outputs, target, found)
    return {name: d.to(tensors[name].dtype) for name, d in found.items()}


def _gradient(call: Call, tensors: dict[str, Tensor], outputs: Outputs, target: int, found: dict[str, Tensor]) -> None:
    """Add the gradient of one variable to that of its tensor."""
    v, grad, state = call.seen[target], outputs.grad, outputs.state
    tensor = tensors[v.source]
    compute = compute_dtype(tensor.dtype)
    seen, strides = call.given(call.seen, tensors)
    outer, outer_strides = call.given(call.layout.outer, tensors)
    kept = grad if state is None else state[0]
    space = call.size if v.slides else call.sites
    by_image, rows = (
        "n" in v.axes or not v.is_image,
        math.prod(space) * (call.batch if "n" in v.axes or not v.is_image else 1),
    )
    blocks = _blocks(rows, SITES)
    parts = 1 if v.is_image else min(blocks, PARTS)
    out = grad.new_empty((1 if v.is_image else parts, *_extents(call, v)), dtype=compute)
    taps = _taps(call) if "k" in v.axes else 1
    which = taps * (call.channels if "c" in v.axes else 1) * (_blocks(call.filters, FILTERS) if "o" in v.axes else 1)
    kernel = load(render(call.problem.mathematics, call.problem.dtype, "gradient"))
    kernel[(blocks if v.is_image else parts, which, call.geometry.groups)](
        out, grad, kept if state is None else state, seen, strides, outer or (grad,), outer_strides or (strides[0],),
        strides_of(out[0]), call.outputs(grad), call.outputs(kept), call.axes, call.batch,
        _taps(call), call.channels, call.filters, math.prod(space), space[1], space[2],
        1 if v.is_image else _blocks(blocks, parts), 0 if state is None else state.stride(0),
        v.tap or 0, out.stride(0), FILL=call.fill, TARGET=target, SLIDES=v.slides, ROWS=v.is_image,
        BY_IMAGE=by_image, BY_FILTER="o" in v.axes, BY_CHANNEL="c" in v.axes, BY_TAP="k" in v.axes, SKIP=call.skips,
        WIDE=is_wide(grad, out, *seen), SITES=SITES, FILTERS=FILTERS,
    )  # fmt: skip
    if v.source not in found:
        found[v.source] = torch.zeros(tensor.shape, dtype=compute, device=tensor.device)
    add(call.spread(v, found[v.source]), out.sum(0) if len(out) > 1 else out[0])


def _extents(call: Call, v: Variable) -> tuple[int, ...]:
    """Those of the gradient of a variable, ``(k, c, n, g, o, *space)``, before it is summed over the groups."""
    dims = call.geometry.dims
    extents = {"k": _taps(call), "c": call.channels, "n": call.batch, "o": call.filters}
    k, c, n, o = (extents[axis] if axis in v.axes else 1 for axis in "kcno")
    space = (call.size if v.slides else call.sites)[3 - dims :] if v.is_image else (1,) * dims
    return (k, c, n, call.geometry.groups, o, *space)


def _taps(call: Call) -> int:
    return call.geometry.taps


def _blocks(count: int, size: int) -> int:
    return -(-count // size)
