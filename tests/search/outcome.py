"""The outcome of a case, and what is wrong in it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """One way in which a case is wrong.

    Args:
        what: which tensor: ``y``, ``gradient of w``, ...
        kind: ``differs``, ``not finite``, ``spoiled`` (NaN, should be finite), ``lost`` (finite, should be NaN), ``dtype``,
            ``shape``, or the name of an exception.
        ratio: the difference by what rounding allows.
        in_half: rounding to a half precision after each operation would explain it.
        masked: the numbers of ``y`` are of fields that are masked whole; those of a gradient are seen by such fields.
        unselected: torch's own gradients are not finite there, since it evaluates both branches of a ``where``.
        last: where the wrong numbers are along the last axis: for a vector, which of its components.
    """

    what: str
    kind: str
    message: str
    ratio: float = math.inf
    in_half: bool = False
    masked: bool = False
    unselected: bool = False
    last: tuple[int, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Args:
        backend: the one that computed: native, separated, cpp, triton or reference; nothing where it was refused.
        refused: why the library does not compute the case, with an error of its own.
        numbers, undecided: how many numbers were compared, and how many of them rounding decides.
    """

    backend: str = ""
    refused: str = ""
    failures: tuple[Failure, ...] = ()
    numbers: int = 0
    undecided: int = 0
