"""launch: a call of a kernel with tensors, forward and backward."""

from __future__ import annotations

import torch
from torch import Tensor

from ...plan import schedule
from ...plan.machine import this_machine
from ...plan.schedule import Work
from ...variables import Variable
from ..formats import compute_dtype, empty_like
from ..layout import Layout
from ..outer import outer_gradients
from .call import Call, Fields, threads


def forward(call: Call, tensors: dict[str, Tensor], bias: Tensor | None, *, saves: bool) -> tuple[Tensor, Tensor]:
    """``y[n, o, *sites]`` of ``x[n, c, *size]``, and a vector of the parts of the state that are kept."""
    x, kernel, problem = tensors[call.names[0]], call.kernel, call.problem
    work, team = call.work, threads()
    how = schedule.forward(work, this_machine(), team)
    y = empty_like(x, (work.batch, problem.out_channels, *work.sites), x.dtype)
    count = len(kernel.source.functor.saved) if saves else 0
    kept = y.new_empty(count * y.numel(), dtype=compute_dtype(y.dtype))
    state = _state(kept, y.shape, how.lanes) if count else None
    fields = Fields(team, work, how.chunk)
    fields.numbers(work.batch, work.geometry.groups, work.channels, work.filters)
    fields.numbers(how.parts, 0 if state is None else state.stride(0))
    image = "nc" + "k" * work.geometry.dims
    fields.tensor(x, image)
    fields.tensor(y, image)
    fields.tensor(None if state is None else state[0], image)
    fields.tensor(bias, "o")
    fields.operands(call, tensors)
    fields.images(call, tensors)
    fields.launch(kernel.forward)
    return y, kept


def gradients(
    call: Call, tensors: dict[str, Tensor], kept: Tensor, grad: Tensor, wanted: set[str]
) -> dict[str, Tensor]:
    """The gradients of the tensors that are wanted, of that of the output; in one walk over the evaluations."""
    pixel, m, kernel = call.names[0], call.problem.mathematics, call.kernel
    x, layout = tensors[pixel], call.layout
    work = call.work
    state = None
    if kept.numel():
        state = _state(kept, grad.shape, kernel.source.variant.lanes)
    found = outer_gradients(call.problem, tensors, state, grad, wanted) if m.outer else {}
    inside = {v.source for v in m.variables if not v.frozen}
    if not inside & wanted:
        return {name: d.to(tensors[name].dtype) for name, d in found.items()}
    how = schedule.backward(work, this_machine(), len(kernel.source.functor.contexts))
    gx = empty_like(x, tuple(x.shape), x.dtype) if pixel in wanted else None
    gradients = {v.source: _gradient_memory(v, layout, tensors[v.source]) for v in layout.operands}
    images = {v.source: v for v in layout.images[1:] if v.source in wanted}
    slots = {name: _slot(v, work, how.channel_parts, tensors[name]) for name, v in images.items()}
    fields = Fields(threads(), work, how.chunk)
    fields.numbers(work.batch, work.geometry.groups, work.channels, work.filters)
    fields.numbers(how.parts, how.channel_parts, gx is not None, 0 if state is None else state.stride(0))
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


def _gradient_memory(v: Variable, layout: Layout, tensor: Tensor) -> Tensor:
    """Allocate memory for the gradient of an operand.

    What varies with everything is written once, the rest is summed in double.

    Of a vector a kernel writes the components that it reads. The others were used before it, or not at all.
    """
    if v.axes != "ock":
        return torch.zeros(tensor.shape, dtype=torch.float64)
    read = {other.part for other in layout.operands if other.source == v.source}
    whole = v.part is None or len(read) == tensor.shape[-1]
    make = torch.empty_like if whole else torch.zeros_like
    return make(tensor, memory_format=torch.contiguous_format)


def _slot(v: Variable, work: Work, channel_parts: int, tensor: Tensor) -> Tensor:
    """Zeros for the gradient of an image, ``[piece, ...]``: one for each task that would add to the same numbers."""
    groups = work.geometry.groups
    shape = list(tensor.shape)
    if v.slides and "c" in v.axes:
        shape[1] = groups * work.channels
    pieces = groups * channel_parts if "c" not in v.axes else 1
    return torch.zeros((pieces, *shape), dtype=compute_dtype(tensor.dtype))


def _state(kept: Tensor, shape: torch.Size, lanes: str) -> Tensor:
    """The saved parts ``[part, n, o, *sites]``; filters last, where lanes are filters, spare two transpositions."""
    n, o, *sites = shape
    if lanes == "sites":
        return kept.view(-1, n, o, *sites)
    return kept.view(-1, n, *sites, o).movedim(-1, 2)
