"""operators: what PyTorch's compilers, exporters and counters see of a convolution.

``torch.ops.anyconv.convolve`` takes part in autograd; below it are ``forward`` and ``gradients``, which compute. Each
carries its formula as text, so that a graph that holds one can be saved, and read by another process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .arguments import autocasts, check_input, check_params
from .backends import compute
from .backends.formats import compute_dtype, empty_like, laid_like
from .call import SCHEMA, Call, remembered
from .errors import FormulaError

_TENSORS = "Tensor x, Tensor[] operands"
_OUTPUTS = "-> (Tensor y, Tensor kept)"
torch.library.define("anyconv::convolve", f"({_TENSORS}, Tensor? bias, {SCHEMA}, bool saves) {_OUTPUTS}")
torch.library.define("anyconv::forward", f"({_TENSORS}, Tensor? bias, {SCHEMA}, bool saves) {_OUTPUTS}")
torch.library.define(
    "anyconv::gradients", f"({_TENSORS}, Tensor kept, Tensor grad, {SCHEMA}, bool[] wanted) -> Tensor[]"
)


def forward(call: Call, bias: Tensor | None, tensors: Sequence[Tensor], *, saves: bool) -> tuple[Tensor, Tensor]:
    """``(y, kept)`` by the operator: modes that count and record see it."""
    x, *operands = tensors
    found: tuple[Tensor, Tensor] = FORWARD.default(x, operands, bias, *call.arguments, saves)
    return found


def gradients(
    call: Call, wanted: Sequence[str], grad: Tensor, kept: Tensor, tensors: Sequence[Tensor]
) -> tuple[Tensor, ...]:
    """The gradients of the tensors that are wanted, in the order of the call's names."""
    x, *operands = tensors
    flags = [name in wanted for name in call.names]
    return tuple(GRADIENTS.default(x, operands, kept, grad, *call.arguments, flags))


def _forward(x: Tensor, operands: list[Tensor], bias: Tensor | None, *told: Any) -> tuple[Tensor, Tensor]:
    *arguments, saves = told
    call = _checked(x, operands, bias, tuple(arguments))
    with _without_autocast(x):
        y, kept = compute.forward(call.problem, call.plan, call.named((x, *operands)), bias, saves=saves)
    return laid_like(y, x), kept


def _gradients(x: Tensor, operands: list[Tensor], kept: Tensor, grad: Tensor, *told: Any) -> list[Tensor]:
    *arguments, flags = told
    call = _checked(x, operands, None, tuple(arguments))
    wanted = [name for name, flag in zip(call.names, flags, strict=True) if flag]
    # below autograd, as in a compiled graph, parts of it would compute no gradient, silently: so it is switched on
    with _without_autocast(x), torch.inference_mode(False), torch.no_grad():
        tensors = call.named(map(_alone, (x, *operands)))
        found = compute.gradients(
            call.problem, call.plan, tensors, _alone(kept), _alone(grad), wanted=frozenset(wanted)
        )
    promised: list[Tensor] = []
    for name in wanted:
        d = laid_like(found[name], x) if name == call.formula.pixel else found[name].contiguous()
        promised.append(d.clone() if any(d is other for other in (grad, *promised)) else d)
    return promised


def _alone(tensor: Tensor) -> Tensor:
    """The numbers of a tensor, without the derivatives that it carries."""
    return tensor.clone() if tensor.is_inference() else tensor.detach()


def _forward_of_fakes(x: Tensor, operands: list[Tensor], bias: Tensor | None, *told: Any) -> tuple[Tensor, Tensor]:
    *arguments, saves = told
    call = Call.read(x, tuple(arguments))
    check_params(x, call.named((x, *operands)), bias, call.problem)
    y = empty_like(x, (x.shape[0], call.problem.out_channels, *call.geometry.sites(tuple(x.shape[2:]))), x.dtype)
    count = compute.kept(call.problem, call.plan) * y.numel() if saves else 0
    return y, x.new_empty((count,), dtype=compute_dtype(x.dtype))


def _gradients_of_fakes(x: Tensor, operands: list[Tensor], kept: Tensor, grad: Tensor, *told: Any) -> list[Tensor]:
    *_, flags = told
    of_x = [empty_like(x, tuple(x.shape), x.dtype)] if flags[0] else []
    return [*of_x, *(t.new_empty(t.shape) for t, flag in zip(operands, flags[1:], strict=True) if flag)]


def _checked(x: Tensor, operands: list[Tensor], bias: Tensor | None, arguments: Any) -> Call:
    """The call, whose tensors fit each other: a graph may hold what nobody has checked."""
    told: Any = tuple(tuple(a) if isinstance(a, list) else a for a in arguments)

    def make() -> Call:
        call = Call.read(x, told)
        check_input(x, call.geometry)
        if len(operands) != len(call.names) - 1:
            raise FormulaError(f"{call.formula} has {len(call.names) - 1} operands, {len(operands)} were passed")
        check_params(x, call.named((x, *operands)), bias, call.problem)
        return call

    return remembered(told, (x, *operands, bias), make)


def _without_autocast(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """What is computed inside has its dtype already."""
    return torch.autocast(x.device.type, enabled=False) if autocasts(x) else contextlib.nullcontext()


for _name, _compute, _fake in (
    ("convolve", _forward, _forward_of_fakes),
    ("forward", _forward, _forward_of_fakes),
    ("gradients", _gradients, _gradients_of_fakes),
):
    torch.library.impl(f"anyconv::{_name}", "CompositeExplicitAutograd")(_compute)
    torch.library.register_fake(f"anyconv::{_name}")(_fake)

CONVOLVE, FORWARD, GRADIENTS = torch.ops.anyconv.convolve, torch.ops.anyconv.forward, torch.ops.anyconv.gradients
