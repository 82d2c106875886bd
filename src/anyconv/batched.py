"""batched: the calls that ``torch.func.vmap`` asks for, as one convolution where they are one.

Images that vary are images of a larger batch; weights that vary are groups. What neither can hold, an operand that all
filters and channels share, is computed for one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from .call import Call
from .operands import Operand
from .variables import PIXEL

OUTPUT = "nos"


@dataclass(frozen=True)
class Fold:
    """Where the axis of a vmap goes: ``"n"``, to the images of a batch, or ``"g"``, to the groups."""

    axis: str
    size: int

    @classmethod
    def of(
        cls, call: Call, size: int, tensors: Sequence[Tensor], dims: Sequence[int | None], *,
        wanted: Sequence[str] = (), more: Sequence[str] = (),
    ) -> Fold | None:  # fmt: skip
        """How calls are one, if they are.

        Args:
            size: how many.
            dims: for each tensor, the axis along which it differs from call to call, if it does.
            wanted: the tensors whose gradients, one of each call, are asked for.
            more: the axes of what else differs.
        """
        axes = axes_of(call)
        differing = [name for name, dim in zip(call.names, dims, strict=True) if dim is not None]
        apart = [*(axes[name] for name in (*differing, *wanted)), *more]
        if all("n" in along for along in apart):
            return cls("n", size)
        if not all(set("oc") & set(along) for along in apart):
            return None
        # an image with one channel for all is none of a group; by its axes alone it looks like one
        channels = call.problem.in_channels
        images = [(t, dim) for name, t, dim in zip(call.names, tensors, dims, strict=True) if "ci" in axes[name]]
        one_of_each = (t if dim is None else t.select(dim, 0) for t, dim in images)
        return cls("g", size) if all(t.shape[1] == channels for t in one_of_each) else None

    def call(self, call: Call) -> Call:
        """The call of all at once."""
        if self.axis == "n":
            return call
        g, problem = call.geometry, call.problem
        geometry = replace(g, groups=g.groups * self.size)
        return call.changed(geometry, problem.in_channels * self.size, problem.out_channels * self.size)

    def put(self, tensor: Tensor, dim: int | None, axes: str) -> Tensor:
        """A tensor of the call of all at once, of one that varies along ``dim``, or not at all."""
        if not set(axes) & set("n" if self.axis == "n" else "oc"):
            return tensor
        tensor = tensor.expand(self.size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
        at = self._place(axes)
        return tensor.movedim(0, at).flatten(at, at + 1)

    def taken(self, tensor: Tensor, axes: str) -> Tensor:
        """The tensors of each call, along a new first axis."""
        at = self._place(axes)
        shape = tensor.shape
        return tensor.reshape(*shape[:at], self.size, -1, *shape[at + 1 :]).movedim(at, 0)

    def _place(self, axes: str) -> int:
        return 1 if self.axis == "g" and "n" in axes else 0


def axes_of(call: Call) -> dict[str, str]:
    """Along which axes each tensor of a call varies."""
    operands: dict[str, Operand] = {call.formula.pixel: PIXEL, **call.formula.parameters}
    return {name: operand.axes for name, operand in operands.items()}
