"""Call: one convolution, all but its tensors, as operators carry it: text and numbers.

>>> call = Call.of(Formula(lambda x, w: torch.tanh(x * w)), Geometry.of(2, 3), images, out_channels=16, backend="auto")
>>> call.plan.backend, call.names
('cpp', ('x', 'w'))
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from .formula import Formula
from .geometry import Geometry, Ints
from .plan import Plan, Problem, choose

Arguments = tuple[str, Ints, Ints, Ints, Ints, Ints, int, str, int, str]
# of every operator, after its tensors
SCHEMA = (
    "str formula, int[] kernel, int[] stride, int[] dilation, int[] before, int[] after, SymInt groups, str mode, "
    "SymInt out_channels, str backend"
)


@dataclass(frozen=True)
class Call:
    """A problem, the backend that was asked for, and the plan that came of both."""

    problem: Problem
    backend: str
    plan: Plan

    @classmethod
    def of(cls, formula: Formula, geometry: Geometry, x: Tensor, *, out_channels: int, backend: str) -> Call:
        """For an input ``(n, c, *size)``.

        Raises:
            BackendError, DtypeError: as :func:`~anyconv.plan.choose`.
        """
        problem = problem_of(formula, geometry, x, out_channels)
        return cls(problem, backend, choose(problem, backend))

    @classmethod
    def read(cls, x: Tensor, arguments: Arguments) -> Call:
        """For an input, of an operator's :attr:`arguments`."""
        text, kernel, stride, dilation, before, after, groups, mode, out_channels, backend = arguments
        spans = (tuple(kernel), tuple(stride), tuple(dilation), tuple(before), tuple(after))
        geometry = Geometry(*spans, groups, _mode(mode))
        return cls.of(Formula.of_text(text), geometry, x, out_channels=out_channels, backend=backend)

    def changed(self, geometry: Geometry, in_channels: int, out_channels: int) -> Call:
        """The same formula elsewhere."""
        problem = replace(self.problem, geometry=geometry, in_channels=in_channels, out_channels=out_channels)
        return Call(problem, self.backend, choose(problem, self.backend))

    @property
    def formula(self) -> Formula:
        """What is computed."""
        return self.problem.formula

    @property
    def geometry(self) -> Geometry:
        """Where it looks."""
        return self.problem.geometry

    @functools.cached_property
    def names(self) -> tuple[str, ...]:
        """Of its tensors: the pixel's, and those of the operands that are passed."""
        return (self.formula.pixel, *self.formula.parameters)

    @functools.cached_property
    def frozen(self) -> frozenset[str]:
        """The operands that have no gradient."""
        return frozenset(name for name, operand in self.formula.parameters.items() if operand.frozen)

    @functools.cached_property
    def arguments(self) -> Arguments:
        """What an operator is told of it."""
        g = self.geometry
        return (
            self.formula.text, g.kernel, g.stride, g.dilation, g.before, g.after, g.groups, str(g.mode),
            self.problem.out_channels, self.backend,
        )  # fmt: skip

    def named(self, tensors: Any) -> dict[str, Any]:
        """Anything given for each tensor, by name."""
        return dict(zip(self.names, tensors, strict=True))


MOST = 4096  # calls that are remembered
_known: dict[Any, Call] = {}


def remembered(told: Any, tensors: Sequence[Tensor | None], make: Callable[[], Call]) -> Call:
    """The call that :func:`make` made, and checked, when all was the same.

    Args:
        told: all that decides about a call beside its tensors, by value.
        tensors: of which shapes, dtypes and devices decide.
    """
    try:
        seen = tuple(None if t is None else (t.shape, t.dtype, t.device) for t in tensors)
        key = (told, seen, os.environ.get("TRITON_INTERPRET"))
        found = _known.get(key)
    except (AttributeError, TypeError):  # what is no tensor, or has symbols for sizes
        return make()
    if found is None:
        found = make()
        if len(_known) >= MOST:
            _known.clear()
        _known[key] = found
    return found


def problem_of(formula: Formula, geometry: Geometry, x: Tensor, out_channels: int) -> Problem:
    """Of an input ``(n, c, *size)``."""
    return Problem(formula, geometry, x.shape[1], out_channels, str(x.dtype).removeprefix("torch."), x.device.type)


def _mode(mode: str) -> str | float:
    return mode if mode.isalpha() and mode not in ("inf", "nan") else float(mode)
