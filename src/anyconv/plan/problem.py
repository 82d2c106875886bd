"""Problem: everything that decides how a convolution is computed, and no tensor."""

from __future__ import annotations

from dataclasses import dataclass

from ..formula import Formula
from ..geometry import Geometry
from ..mathematics import Mathematics


@dataclass(frozen=True)
class Problem:
    """A formula on a geometry, with the channels, the dtype and the device of the tensors.

    Args:
        dtype: as torch prints it, without ``torch.``: ``"float32"``.
        device: the device's type: ``"cpu"``, ``"cuda"``.
        prepared: what is left of the formula where parts of it are computed before (:mod:`.hoist`).
    """

    formula: Formula
    geometry: Geometry
    in_channels: int
    out_channels: int
    dtype: str
    device: str
    prepared: Mathematics | None = None

    @property
    def mathematics(self) -> Mathematics:
        """What a kernel computes."""
        return self.formula.mathematics if self.prepared is None else self.prepared

    @property
    def field(self) -> int:
        """Values in one receptive field: channels of a group times taps."""
        return self.in_channels // self.geometry.groups * self.geometry.taps

    @property
    def itemsize(self) -> int:
        """The bytes of a number in the arithmetic, which is float32 at least."""
        return 8 if self.dtype == "float64" else 4

    @property
    def depthwise(self) -> bool:
        """Whether there are several groups, of one channel and one filter each."""
        return self.in_channels == self.out_channels == self.geometry.groups > 1

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """The shape of an operand that varies along every axis."""
        return (self.out_channels, self.in_channels // self.geometry.groups, *self.geometry.kernel)
