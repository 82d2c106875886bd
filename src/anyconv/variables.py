"""Variable: one number that a map sees; what is left of arguments when vectors and whole fields are taken apart.

    >>> variables_of("w", per_tap(size=2))
    (Variable(name='w[0]', source='w', axes='ock', part=0, ...), Variable(name='w[1]', ...))

Backends know nothing of scopes: a variable is its axes, and which part of which tensor it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import FormulaError
from .operands import Operand

PIXEL = Operand("guide")  # what the pixel is to a backend: an image that slides


@dataclass(frozen=True)
class Variable:
    """One number that a map sees.

    Args:
        name: in the Exprs.
        source: the argument that it is, or is a part of.
        axes: along which it varies: some of ``nocks``, or of ``nci``.
        part: which number of a vector.
        tap: in a function of whole fields, at which tap.
        frozen: it has no gradient.
    """

    name: str
    source: str
    axes: str
    part: int | None = None
    tap: int | None = None
    frozen: bool = False

    @property
    def is_image(self) -> bool:
        """Whether it has a value for each site or pixel."""
        return "s" in self.axes or "i" in self.axes

    @property
    def tensor(self) -> tuple[object, ...]:
        """What tells images apart: one that slides is the same at all taps."""
        return self.source, self.part, None if self.slides else self.tap

    @property
    def slides(self) -> bool:
        """Whether it is a pixel at the tap's place."""
        return "i" in self.axes


def variables_of(source: str, operand: Operand, taps: int | None = None) -> tuple[Variable, ...]:
    """What a map sees of an argument.

    Args:
        taps: those of a whole field, where the map sees all of them at once.

    Raises:
        FormulaError: a vector at each of many taps.
    """
    axes, frozen = operand.axes, operand.frozen
    if taps is not None and ("k" in axes or "i" in axes):
        if operand.size is not None:
            raise FormulaError(
                f"the operand `{source}` ({operand}) is a vector at each tap, and a map of whole fields sees all taps",
                way_out="Pass the numbers as operands of their own.",
            )
        return tuple(
            Variable(f"{source}[{t}]", source, axes.replace("k", ""), tap=t, frozen=frozen) for t in range(taps)
        )
    if operand.size is None:
        return (Variable(source, source, axes, frozen=frozen),)
    return tuple(Variable(f"{source}[{j}]", source, axes, part=j, frozen=frozen) for j in range(operand.size))
