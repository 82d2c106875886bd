"""launch: a call of a kernel with tensors, as an autograd function."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...errors import BackendError
from ...geometry import Ints
from ...plan import Problem, schedule
from ...plan.machine import this_machine
from ...plan.schedule import Work
from ...variables import Variable
from ..epilogue import finish_gradients
from ..spread import Spread
from ..sums import add, bias_gradient
from ..torch_library import torch_library
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
        g_bias = bias_gradient(grad.to(_compute(x.dtype))).to(x.dtype) if wants_bias else None
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
    y = _like(x, (work.batch, problem.out_channels, *work.sites), x.dtype)
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
    found = outer_gradients(call, tensors, state, grad, wanted) if m.outer else {}
    inside = {v.source for v in m.variables if not v.frozen}
    if not inside & wanted:
        return {name: d.to(tensors[name].dtype) for name, d in found.items()}
    work = call.work(x)
    how = schedule.backward(work, this_machine(), len(kernel.source.functor.contexts))
    gx = _like(x, tuple(x.shape), x.dtype) if pixel in wanted else None
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


def outer_gradients(
    call: Call, tensors: dict[str, Tensor], state: Tensor | None, grad: Tensor, wanted: set[str]
) -> dict[str, Tensor]:
    """The gradients of what the epilogue sees, in double: sums over all that it does not vary along."""
    m, functor = call.problem.mathematics, call.kernel.source.functor
    outer = {v.name: v for v in m.outer if v.source in wanted and not v.frozen}
    if not outer:
        return {}
    compute = _compute(grad.dtype)
    library = torch_library(compute)
    spread = Spread(call.problem.geometry, tuple(tensors[call.names[0]].shape), call.problem.out_channels)
    values = {v.name: spread(v, tensors[v.source])[0, 0].to(compute) for v in m.outer}
    shape = (len(grad), call.problem.geometry.groups, -1, *grad.shape[2:])
    parts = {part: s.reshape(shape) for part, s in zip(functor.saved, () if state is None else state, strict=True)}
    for part in set(m.kept) - set(parts):  # those that count are not saved
        parts[part] = _counts(call, tensors[call.names[0]]).to(compute).expand_as(grad).reshape(shape)
    _, found = finish_gradients(m, parts, values, grad.reshape(shape).to(compute), library)
    totals = {v.source: torch.zeros(tensors[v.source].shape, dtype=torch.float64) for v in outer.values()}
    for name, v in outer.items():
        add(spread(v, totals[v.source])[0, 0], found[name].double())
    return totals


def _counts(call: Call, x: Tensor) -> Tensor:
    """How many values the field of each site has, ``(*sites)``."""
    g, m, size = call.problem.geometry, call.problem.mathematics, tuple(x.shape[2:])
    if m.field is not None or m.inner is not None:  # one of each channel
        return torch.tensor(x.shape[1] // g.groups)
    counts = torch.zeros(g.sites(size))
    for k in g.offsets():
        counts[g.valid(k, size) if g.mode == "skip" else ...] += x.shape[1] // g.groups
    return counts


def _slot(v: Variable, work: Work, channel_parts: int, tensor: Tensor) -> Tensor:
    """Zeros for the gradient of an image, ``[piece, ...]``: one for each task that would add to the same numbers."""
    groups = work.geometry.groups
    shape = list(tensor.shape)
    if v.slides and "c" in v.axes:
        shape[1] = groups * work.channels
    pieces = groups * channel_parts if "c" not in v.axes else 1
    return torch.zeros((pieces, *shape), dtype=_compute(tensor.dtype))


def _compute(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _like(x: Tensor, shape: Ints, dtype: torch.dtype) -> Tensor:
    """An empty tensor in the memory format of ``x``: channels last stay channels last."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    wanted = formats.get(x.dim())
    last = wanted is not None and not x.is_contiguous() and x.is_contiguous(memory_format=wanted)
    return torch.empty(shape, dtype=dtype, memory_format=wanted if last else torch.contiguous_format)


def _state(parts: int, y: Tensor, *, filters_last: bool) -> Tensor:
    """The saved parts ``[part, n, o, *sites]``; filters last, where lanes are, spare two transpositions."""
    n, o, *sites = y.shape
    if not filters_last:
        return y.new_empty((parts, n, o, *sites), dtype=_compute(y.dtype))
    return y.new_empty((parts, n, *sites, o), dtype=_compute(y.dtype)).movedim(-1, 2)
