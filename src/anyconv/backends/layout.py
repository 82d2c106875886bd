"""Layout: in which order a kernel is given what a map sees: images, what it reads of them, and operands."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..mathematics import Mathematics
from ..variables import Variable


@dataclass(frozen=True)
class Layout:
    """The variables of a formula, as a kernel has them.

    Args:
        images: the tensors with a value for each pixel or site, that of the pixel first; one variable of each.
        inputs: the variables that are read from images.
        image_of: for each input, its image.
        operands: the variables that are not.
        outer: the variables of the epilogue.
    """

    images: tuple[Variable, ...]
    inputs: tuple[Variable, ...]
    image_of: tuple[int, ...]
    operands: tuple[Variable, ...]
    outer: tuple[Variable, ...]

    @classmethod
    @functools.lru_cache(maxsize=1024)
    def of(cls, m: Mathematics) -> Layout:
        """The layout of a formula."""
        inputs = tuple(v for v in m.variables if v.is_image)
        places = [v.tensor for v in m.images]
        operands = tuple(v for v in m.variables if not v.is_image)
        return cls(m.images, inputs, tuple(places.index(v.tensor) for v in inputs), operands, m.outer)

    @property
    def taps(self) -> tuple[int, ...]:
        """For each input, the tap at which it is seen: -1 for that of the loop."""
        return tuple(v.tap if v.tap is not None and v.slides else -1 for v in self.inputs)

    @property
    def learns(self) -> tuple[bool, ...]:
        """For each image, whether it may have a gradient."""
        return tuple(not v.frozen for v in self.images)
