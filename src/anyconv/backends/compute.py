"""compute: a problem by its plan, forward and backward, whichever backend it is; no autograd and no check of shapes.

What a plan needs done before its kernel (centers, parts that are hoisted, padding) is done here, in torch's functions,
and the gradient goes back through them.
"""

from __future__ import annotations

import functools
import warnings
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..plan import Plan, Problem
from ..plan.hoist import hoisted
from . import native, reference, separated
from .cpp import launch
from .cpp.call import Call as OfCpp
from .cpp.call import work_of
from .cpp.kernel import kernel_of
from .derived import derived
from .functor import functor
from .padding import check_padding, pad
from .prepare import prepare

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class _Ready:
    """A backend, what it is told, and the tensors it gets."""

    backend: ModuleType
    call: Any
    tensors: Tensors


def forward(
    problem: Problem, plan: Plan, tensors: Tensors, bias: Tensor | None, *, saves: bool
) -> tuple[Tensor, Tensor]:
    """``y[n, o, *sites]``, and a vector of what :func:`gradients` will ask for.

    Args:
        tensors: by name: the pixel's ``x[n, c, *size]`` first, and the operands.
        saves: whether gradients will be asked for; otherwise the vector is empty.
    """
    ready = _ready(problem, plan, tensors, trains=saves)
    y, state = ready.backend.forward(ready.call, ready.tensors, bias, saves=saves)
    wanted = kept(problem, plan) * y.numel() if saves else 0
    return y, state if state.numel() == wanted else state.new_empty(wanted)  # of no use: another backend has computed


def gradients(
    problem: Problem, plan: Plan, tensors: Tensors, state: Tensor, grad: Tensor, *, wanted: frozenset[str]
) -> Tensors:
    """The gradient of each tensor that is wanted, given that of the output.

    Args:
        state: what :func:`forward` kept; of another length, it is computed again.
    """
    leaves = {name: t.detach().requires_grad_(name in wanted) for name, t in tensors.items()}
    with torch.enable_grad():
        ready = _ready(problem, plan, leaves, trains=True)
    through = {name for name, t in ready.tensors.items() if t.requires_grad}
    given = {name: t.detach() for name, t in ready.tensors.items()}
    planned = ready.backend is not reference or plan.backend == "reference"
    if not planned or state.numel() != kept(problem, plan) * grad.numel():
        with torch.no_grad():
            _, state = ready.backend.forward(ready.call, given, None, saves=True)
    found = ready.backend.gradients(ready.call, given, state, grad, through)
    if all(ready.tensors[name] is leaves.get(name) for name in through):
        # an operand that no derivative reads has the gradient 0
        return {name: found[name] if name in found else torch.zeros_like(leaves[name]) for name in wanted}
    inputs = {name: leaves[name] for name in wanted}
    back = torch.autograd.grad(
        [ready.tensors[name] for name in found], list(inputs.values()), list(found.values()), materialize_grads=True
    )
    return dict(zip(inputs, back, strict=True))


def kept(problem: Problem, plan: Plan) -> int:
    """How many numbers of each output the vector of :func:`forward` holds."""
    m = problem.formula.mathematics
    if plan.line is not None:
        return 0
    if plan.terms is not None:
        return len(plan.terms) if m.has_epilogue else 0
    return len(m.kept) if plan.backend == "reference" else len(functor(hoisted(problem).mathematics).saved)


def _ready(problem: Problem, plan: Plan, tensors: Tensors, *, trains: bool) -> _Ready:
    formula, x = problem.formula, tensors[problem.formula.pixel]
    check_padding(x, problem.geometry)
    if plan.line is not None:
        return _Ready(native, native.Call(problem, plan.line), tensors)
    operands = {name: t for name, t in tensors.items() if name != formula.pixel}
    operands |= derived(x, operands, formula, problem.geometry) if formula.derived else {}
    if x.numel() and problem.out_channels:
        if plan.terms is not None:
            return _Ready(separated, separated.Call(problem, plan.terms), {formula.pixel: x, **operands})
        if plan.backend == "cpp":
            given, left = prepare(x, operands, problem)
            work = work_of(left, x)
            kernel = kernel_of(left, work, trains=trains, required=plan.required)
            if kernel is not None:
                call = OfCpp(left, work, kernel, (formula.pixel, *given))
                return _Ready(launch, call, {formula.pixel: x, **given})
        if plan.backend == "triton":
            return _for_gpu(problem, x, operands)
    if plan.falls_back and problem.device not in ("cpu", "meta"):
        _notice(problem.device, plan.reason)
    x, operands, geometry = _padded(x, operands, problem)
    whole = reference.Call(
        formula.mathematics, geometry, tuple(x.shape), problem.out_channels, x.dtype, (formula.pixel, *operands)
    )
    return _Ready(reference, whole, {formula.pixel: x, **operands})


def _for_gpu(problem: Problem, x: Tensor, operands: Tensors) -> _Ready:
    from .triton import launch as on_gpu  # noqa: PLC0415 - who has no GPU need not have Triton
    from .triton.call import Call as OfTriton  # noqa: PLC0415

    given, left = prepare(x, operands, problem)
    if isinstance(left.geometry.mode, str) and left.geometry.mode not in ("zeros", "skip"):
        x, given, geometry = _padded(x, given, left)
        left = replace(left, geometry=geometry)
    call = OfTriton(left, (problem.formula.pixel, *given), tuple(x.shape))
    return _Ready(on_gpu, call, {problem.formula.pixel: x, **given})


def _padded(x: Tensor, operands: Tensors, problem: Problem) -> tuple[Tensor, Tensors, Any]:
    """The images that slide, padded."""
    slides = {v.source for v in problem.mathematics.variables if v.slides}
    padded = {name: pad(t, problem.geometry)[0] if name in slides else t for name, t in operands.items()}
    x, geometry = pad(x, problem.geometry)
    return x, padded, geometry


@functools.cache
def _notice(device: str, why: str) -> None:
    """Say once that a device could do better."""
    warnings.warn(
        f"{why}; on {device} the reference backend computes instead: the same numbers, many times slower", stacklevel=2
    )
