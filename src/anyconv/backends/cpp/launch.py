"""launch: a call of a kernel with tensors, as an autograd function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import BackendError
from ...plan import Problem, schedule
from ...plan.machine import this_machine
from ...plan.schedule import Work
from ...variables import Variable
from ..formats import compute_dtype, empty_like
from ..outer import outer_gradients
from ..sums import bias_gradient
from .call import Call, Fields, threads
from .kernel import Kernel

_LANES = {"channels": 0, "sites": 1, "groups": 2}


def convolve(x: Tensor, operands: dict[str, Tensor], bias: Tensor | None, problem: Problem, kernel: Kernel) -> Tensor:
    """``y[n, o, *sites]`` of ``x[n, c, *size]``, differentiable once in ``x``, ``operands`` and ``bias``."""
    call = Call(problem, kernel, (problem.formula.pixel, *operands))
    # through the autograd function in any case: it refuses forward-mode derivatives and transforms aloud
    y: Tensor = _Cpp.apply(call, bias, x, *operands.values())  # type: ignore[no-untyped-call]
    return y


class _Cpp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, bias: Tensor | None, *tensors: Tensor) -> Tensor:
        saves = call.kernel.backward is not None
        y, state = _forward(call, call.named(tensors), bias, saves=saves)
        ctx.call = call
        if saves:
            ctx.save_for_backward(*tensors, *([] if state is None else [state]))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        if torch.is_grad_enabled():
            raise BackendError(
                f"{call.problem.formula}: create_graph=True, but the cpp backend differentiates only once",
                way_out="Drop create_graph=True, or keep this layer out of what is differentiated twice.",
            )
        count = len(call.names)
        saved = ctx.saved_tensors
        x = saved[0]
        state = saved[count] if len(saved) > count else None
        _, wants_bias, *needed = ctx.needs_input_grad
        g_bias = bias_gradient(grad.to(compute_dtype(x.dtype))).to(x.dtype) if wants_bias else None
        if not any(needed):
            return None, g_bias, *(None for _ in needed)
        wanted = {name for name, need in zip(call.names, needed, strict=True) if need}
        found = _backward(call, call.named(saved[:count]), state, grad, wanted)
        return None, g_bias, *(found.get(name) for name in call.names)


def _forward(
    call: Call, tensors: dict[str, Tensor], bias: Tensor | None, *, saves: bool
) -> tuple[Tensor, Tensor | None]:
    x, kernel, problem = tensors[call.names[0]], call.kernel, call.problem
    work, team = call.work(x), threads()
    how = schedule.forward(work, this_machine(), team)
    y = empty_like(x, (work.batch, problem.out_channels, *work.sites), x.dtype)
    state = None
    if saves and kernel.source.functor.saved:
        state = _state(len(kernel.source.functor.saved), y, filters_last=how.lanes != "sites")
    fields = Fields(team, work, how.chunk)
    fields.numbers(work.batch, work.geometry.groups, work.channels, work.filters)
    fields.numbers(_LANES[how.lanes], how.parts, state is not None, 0 if state is None else state.stride(0))
    image = "nc" + "k" * work.geometry.dims
    fields.tensor(x, image)
    fields.tensor(y, image)
    fields.tensor(None if state is None else state[0], image)
    fields.tensor(bias, "o")
    fields.operands(call, tensors)
    fields.images(call, tensors)
    fields.launch(kernel.forward)
    return y, state


def _backward(
    call: Call, tensors: dict[str, Tensor], state: Tensor | None, grad: Tensor, wanted: set[str]
) -> dict[str, Tensor]:
    pixel, m, kernel = call.names[0], call.problem.mathematics, call.kernel
    x, layout = tensors[pixel], call.layout
    found = outer_gradients(call.problem, tensors, state, grad, wanted) if m.outer else {}
    inside = {v.source for v in m.variables if not v.frozen}
    if not inside & wanted:
        return {name: d.to(tensors[name].dtype) for name, d in found.items()}
    work = call.work(x)
    how = schedule.backward(work, this_machine(), len(kernel.source.functor.contexts))
    gx = empty_like(x, tuple(x.shape), x.dtype) if pixel in wanted else None
    # what varies with everything is written once; the rest is summed, in double
    gradients = {
        name: torch.empty_like(tensors[name], memory_format=torch.contiguous_format)
        if v.axes == "ock"
        else torch.zeros(tensors[name].shape, dtype=torch.float64)
        for name, v in {v.source: v for v in layout.operands}.items()
    }
    images = {v.source: v for v in layout.images[1:] if v.source in wanted}
    slots = {name: _slot(v, work, how.channel_parts, tensors[name]) for name, v in images.items()}
    fields = Fields(threads(), work, how.chunk)
    fields.numbers(work.batch, work.geometry.groups, work.channels, work.filters)
    fields.numbers(
        _LANES[how.lanes], how.parts, how.channel_parts, gx is not None, 0 if state is None else state.stride(0)
    )
    image = "nc" + "k" * work.geometry.dims
    for tensor in (x, grad, None if state is None else state[0], gx):
        fields.tensor(tensor, image)
    fields.operands(call, tensors)
    fields.operands(call, gradients)
    fields.images(call, tensors)
    fields.slots(call, slots)
    fields.launch(kernel.backward)
    for name, slot in slots.items():
        total = slot.sum(0) if len(slot) > 1 else slot[0]
        one_for_all = tensors[name].shape[1:2] == (1,) != total.shape[1:2]  # a guide with a single channel
        gradients[name] = total.sum(1, keepdim=True) if one_for_all else total
    if gx is not None:
        gradients[pixel] = gx
    for name, d in gradients.items():
        if name in wanted:
            found[name] = d + found[name] if name in found else d
    return {name: d.to(tensors[name].dtype) for name, d in found.items()}


def _slot(v: Variable, work: Work, channel_parts: int, tensor: Tensor) -> Tensor:
    """Zeros for the gradient of an image, ``[piece, ...]``: one for each task that would add to the same numbers."""
    groups = work.geometry.groups
    shape = list(tensor.shape)
    if v.slides and "c" in v.axes:
        shape[1] = groups * work.channels
    pieces = groups * channel_parts if "c" not in v.axes else 1
    return torch.zeros((pieces, *shape), dtype=compute_dtype(tensor.dtype))


def _state(parts: int, y: Tensor, *, filters_last: bool) -> Tensor:
    """The saved parts ``[part, n, o, *sites]``; filters last, where lanes are, spare two transpositions."""
    n, o, *sites = y.shape
    if not filters_last:
        return y.new_empty((parts, n, o, *sites), dtype=compute_dtype(y.dtype))
    return y.new_empty((parts, n, *sites, o), dtype=compute_dtype(y.dtype)).movedim(-1, 2)
