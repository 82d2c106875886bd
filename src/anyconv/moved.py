"""moved: the call that says how the output of a call moves, when its tensors do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .backends.padding import amounts
from .call import Call
from .geometry import Geometry
from .tangent import tangent_of


@dataclass(frozen=True)
class Moving:
    """A call and its tensors.

    Args:
        padded: the geometry whose padding the tensors already have, if so.
    """

    call: Call
    tensors: tuple[Tensor, ...]
    padded: Geometry | None

    def unpadded(self, name: str, gradient: Tensor) -> Tensor:
        """The gradient of a tensor as it was given."""
        operand = self.call.formula.parameters.get(name)
        if self.padded is None or (operand is not None and operand.scope != "guide"):
            return gradient
        return _padded(gradient, self.padded, 0.0, -1)


def moved(
    call: Call, tensors: Sequence[Tensor], moves: Sequence[Tensor | None], *, of_gradient: bool = False
) -> Moving | None:
    """How the output of a call moves; None where it does not.

    Args:
        moves: of each tensor, None for one that stays.
        of_gradient: as of :func:`~anyconv.tangent.tangent_of`.
    """
    by_name = {name: move for name, move in call.named(moves).items() if move is not None and name not in call.frozen}
    found = tangent_of(call.formula, tuple(by_name), of_gradient=of_gradient)
    if not found.names:
        return None
    given = call.named(tensors)
    new = {found.names[name]: move for name, move in by_name.items() if name in found.names}
    geometry, padded = call.geometry, None
    if isinstance(geometry.mode, float) and geometry.mode != 0.0 and any(geometry.before + geometry.after):
        # pixels outside are a number, and how they move is 0: two modes for one convolution
        padded, fill = geometry, geometry.mode
        slides = {call.formula.pixel} | {n for n, o in found.formula.parameters.items() if o.scope == "guide"}
        given = {name: _padded(t, geometry, fill) if name in slides else t for name, t in given.items()}
        new = {name: _padded(t, geometry, 0.0) if name in slides else t for name, t in new.items()}
        geometry = geometry.padded()
    everything = given | new
    x = everything[call.formula.pixel]
    backend = call.backend if call.backend == "reference" else "auto"
    derivative = Call.of(found.formula, geometry, x, out_channels=call.problem.out_channels, backend=backend)
    return Moving(derivative, tuple(everything[name] for name in derivative.names), padded)


def _padded(tensor: Tensor, geometry: Geometry, fill: float, sign: int = 1) -> Tensor:
    result: Tensor = Padded.apply(tensor, tuple(sign * a for a in amounts(geometry)), fill)  # type: ignore[no-untyped-call]
    return result


# What a rule for forward mode computes in torch's own functions has no derivative in an outer forward mode, silently
# (torch 2.6 to 2.14): all that such rules compute is computed by functions that have rules themselves.


class Padded(torch.autograd.Function):
    """``F.pad``."""

    @staticmethod
    def forward(tensor: Tensor, amounts: tuple[int, ...], fill: float) -> Tensor:
        return F.pad(tensor, amounts, value=fill)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.amounts, _ = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return Padded.apply(grad, tuple(-a for a in ctx.amounts), 0.0), None, None  # type: ignore[no-untyped-call]

    @staticmethod
    def jvp(ctx: Any, move: Tensor, _amounts: Any, _fill: Any) -> Tensor:
        moved_by: Tensor = Padded.apply(move, ctx.amounts, 0.0)  # type: ignore[no-untyped-call]
        return moved_by

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], tensor: Tensor, amounts: Any, fill: float) -> tuple[Tensor, int]:
        return Padded.apply(tensor.movedim(in_dims[0], 0), amounts, fill), 0  # type: ignore[no-untyped-call]


class Added(torch.autograd.Function):
    """``a + b``."""

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return a + b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        return grad, grad

    @staticmethod
    def jvp(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        total: Tensor = Added.apply(a, b)  # type: ignore[no-untyped-call]
        return total
