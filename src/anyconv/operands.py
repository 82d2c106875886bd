"""Operands: what a map sees beside the pixel, and along which axes each varies.

    >>> Formula(lambda x, w, p: torch.abs(x - w) ** p, operands={"p": per_filter(init=2.0)})
    Formula(y = sum(abs(x - w) ** p))

A *scope* is a set of axes: ``o`` filter, ``c`` input channel, ``k`` tap. The gradient to an operand sums over the axes
it lacks; that rule is all there is to know, so a new scope is one row of ``SCOPES``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .errors import FormulaError
from .geometry import Geometry, Ints

Init = float | Callable[[Any], Any]

SCOPES = {  # scope -> the axes along which it varies
    "per_tap": "ock",
    "per_filter": "o",
    "per_channel": "c",
    "shared": "",
}


@dataclass(frozen=True)
class Operand:
    """One declared argument of a map.

    Args:
        scope: a row of ``SCOPES``.
        init: what a layer fills it with: a number, a callable that fills a tensor in place such as
            ``torch.nn.init.ones_``, or None for ``nn.ConvNd``'s uniform distribution.
    """

    scope: str = "per_tap"
    init: Init | None = None

    def __post_init__(self) -> None:
        if self.init is not None and (
            isinstance(self.init, bool) or not (callable(self.init) or _is_number(self.init))
        ):
            raise FormulaError(
                f"`init` of a {self.scope} operand must be a number, or a callable that fills a tensor, "
                f"got {self.init!r}"
            )

    @property
    def axes(self) -> str:
        """The axes along which the operand varies."""
        return SCOPES[self.scope]

    def shape(self, in_channels: int, out_channels: int, geometry: Geometry) -> Ints:
        """The shape of its tensor: the weight's for ``ock``, with the axes it lacks left out."""
        channels = in_channels // geometry.groups if "o" in self.axes else in_channels
        sizes: dict[str, Ints] = {"o": (out_channels,), "c": (channels,), "k": geometry.kernel}
        return sum((sizes[axis] for axis in self.axes), ())

    def __str__(self) -> str:
        return self.scope


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))


def per_tap(init: Init | None = None) -> Operand:
    """A weight: shape ``(C_out, C_in / groups, *kernel)``. What an argument is when nothing is declared."""
    return Operand("per_tap", init)


def per_filter(init: Init | None = None) -> Operand:
    """One value per output channel: shape ``(C_out,)``; exponents, temperatures, slopes."""
    return Operand("per_filter", init)


def per_channel(init: Init | None = None) -> Operand:
    """One value per input channel: shape ``(C_in,)``; thresholds, gains."""
    return Operand("per_channel", init)


def shared(init: Init | None = None) -> Operand:
    """One value for the whole layer: shape ``()``."""
    return Operand("shared", init)
