"""tangent: the formula of a formula's directional derivative.

    >>> tangent_of(Formula(lambda x, w: -torch.abs(x - w)), ("x",)).formula
    Formula(y = sum(-(sign(x - w) * d_x)))

Move the pixels by ``dx`` and the operands by ``dw``: what the output moves by is a convolution again, of more operands
and with the reduction's own tangent. Forward-mode derivatives are that convolution. And since the derivative of
``<g, y>`` is the transpose of it, what a second differentiation asks of the backward pass is the gradient of that
convolution, by the kernels that every formula has.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from .expr import Expr, differentiate, simplify
from .expr.differentiate import ZERO, times
from .expr.expr import apply, var
from .formula import Formula
from .mathematics import Mathematics
from .operands import Operand, center, guide
from .reductions import Over, Reduction
from .reductions.builtin import Reduce
from .reductions.reduction import joined
from .reductions.tangent import MOVED, VALUE, Tangent, split, tangent
from .text import Written
from .variables import Variable


@dataclass(frozen=True)
class Moved:
    """The formula of a derivative, and what its new operands are called.

    Args:
        names: for each tensor that moves, the operand that says how.
    """

    formula: Formula
    names: dict[str, str]


@functools.lru_cache(maxsize=512)
def tangent_of(formula: Formula, along: tuple[str, ...], *, of_gradient: bool = False) -> Moved:
    """How the output moves when the tensors ``along`` do.

    Args:
        along: the pixel's name, or those of operands; what is frozen does not move.
        of_gradient: the gradient of this formula shall be how the gradient of the old one moves. The two differ
            where a formula has a gradient of its own, which is no derivative of anything.

    Raises:
        FormulaError: a derivative of this order is not to be had.
    """
    moving = _Moving.of(formula, along)
    m = formula.mathematics
    taken, reduce, epilogue = _folded(m, moving)
    values = tuple(moving.value(i) if kind else m.values[i] for i, kind in taken) or (ZERO,)
    inside = [formula.pixel, *dict.fromkeys(v.source for v in m.variables if v.source != formula.pixel)]
    arguments = (*inside, *(moving.d + name for name in inside if name in moving.sources))
    slopes = {}
    if m.slopes:
        names = [v.name for v in m.variables if not v.frozen] if of_gradient else [name for name, _ in m.slopes]
        slopes = {name: Written(arguments, moving.slopes(name, taken, of_gradient=of_gradient)) for name in names}
    after = () if epilogue is None else epilogue.names
    used = {*arguments, *after} - {formula.pixel}
    operands = {name: o for name, o in moving.operands().items() if name in used}
    made = Formula(
        Written(arguments, values), reduce, epilogue=epilogue, operands=operands, gradient=slopes or None,
        field=formula.field,
    )  # fmt: skip
    return Moved(made, {name: moving.d + name for name in along if moving.d + name in made.parameters})


@dataclass(frozen=True)
class _Moving:
    """Which variables move, and what by.

    Args:
        d: in front of the names of what moves.
        sources: the tensors that move, those that follow from others too.
    """

    formula: Formula
    d: str
    sources: frozenset[str]

    @classmethod
    def of(cls, formula: Formula, along: tuple[str, ...]) -> _Moving:
        d, known = "d_", (formula.pixel, *formula.parameters, *formula.derived)
        while any(name.startswith(d) for name in known):
            d = "d" + d
        centers = {
            name for name, o in formula.derived.items() if o.scope == "center" and (o.of or formula.pixel) in along
        }
        return cls(formula, d, frozenset(along) | centers)

    def operands(self) -> dict[str, Operand]:
        """Of the new formula: those of the old one, and those that say how they move."""
        known = {**self.formula.parameters, **self.formula.derived}
        bare = {
            name: Operand(o.scope, size=o.size, frozen=o.frozen, along=o.along, of=o.of) for name, o in known.items()
        }
        moved = {self.d + name: self._moved(o) for name, o in bare.items() if name in self.sources}
        return bare | moved | {self.d + self.formula.pixel: guide()}

    def _moved(self, operand: Operand) -> Operand:
        if operand.scope == "center":
            return center(self.d + (operand.of or self.formula.pixel), size=operand.size)
        return operand

    def variables(self) -> list[Variable]:
        """What moves, of all that the map sees."""
        return [v for v in self.formula.mathematics.variables if v.source in self.sources and not v.frozen]

    def along(self, expr: Expr, slopes: dict[str, Expr] | None = None) -> Expr:
        """How an Expr moves; ``slopes`` stand in the place of its derivatives."""
        given = slopes or {}
        seen = set(expr.names()).union(given)
        terms = [
            times(given[v.name] if v.name in given else differentiate(expr, v.name), var(self.d + v.name))
            for v in self.variables()
            if v.name in seen
        ]
        return _added(terms)

    def value(self, i: int) -> Expr:
        """How a value of the map moves."""
        m = self.formula.mathematics
        return self.along(m.values[i], {name: slopes[i] for name, slopes in m.slopes})

    def slopes(self, name: str, taken: Sequence[tuple[int, bool]], *, of_gradient: bool) -> tuple[Expr, ...]:
        """The derivatives in a variable that the new values are given."""
        m = self.formula.mathematics
        own = dict(m.slopes)
        found = []
        for i, kind in taken:
            slope = own[name][i] if name in own else differentiate(m.values[i], name)
            if kind is MOVED:
                slope = self.along(slope) if of_gradient else differentiate(self.value(i), name)
            found.append(slope)
        return tuple(found)


Taken = list[tuple[int, bool]]


def _folded(m: Mathematics, moving: _Moving) -> tuple[Taken, Reduce | Over, Written | None]:
    """What is folded of the map's values and their moves, how, and the epilogue."""
    parts = _Parts.of(m)
    slopes = m.finish_slopes
    moves = [i for i, name in enumerate(m.accumulators) if slopes[name] is not ZERO]
    seen = {name for i in moves for name in slopes[m.accumulators[i]].names()}
    terms = []
    for v in m.outer:
        if v.source in moving.sources and not v.frozen and slopes[v.name] is not ZERO:
            terms.append(times(slopes[v.name], var(moving.d + v.name)))
            seen |= set(slopes[v.name].names())
    plain = [i for i, name in enumerate(m.accumulators) if name in seen]
    folds = [*((i, VALUE) for i in plain), *((i, MOVED) for i in moves)]
    terms += [times(slopes[m.accumulators[i]], var(moving.d + m.accumulators[i])) for i in moves]
    finish, names = _added(terms), [moving.d * kind + m.accumulators[i] for i, kind in folds]
    if not folds:  # nothing moves the output
        return [], "sum", Written(("y",), (ZERO,)) if finish is ZERO else _epilogue(["y"], finish, m, moving)
    taken, reduce = parts.taken(folds)
    if len(folds) == 1 and finish is var(names[0]):
        return taken, reduce, None
    return taken, reduce, _epilogue(names, finish, m, moving)


def _epilogue(names: list[str], finish: Expr, m: Mathematics, moving: _Moving) -> Written:
    outer = dict.fromkeys(v.source for v in m.outer)
    return Written((*names, *outer, *(moving.d + name for name in outer if name in moving.sources)), (finish,))


@dataclass(frozen=True)
class _Parts:
    """The reductions of a formula, and of which of its values each is."""

    reductions: tuple[Reduction, ...]
    first: tuple[int, ...]
    inner: Reduction | None

    @classmethod
    def of(cls, m: Mathematics) -> _Parts:
        reductions = split(m.reduction)
        return cls(reductions, _first(reductions), m.inner)

    def taken(self, folds: Sequence[tuple[int, bool]]) -> tuple[Taken, Reduce | Over]:
        """For reductions and their tangents, the values of the map that they take, and all of them as one."""
        rows = [self.row(i, kind) for i, kind in folds]
        takes = [(self.first[i] + j, kind) for (i, _), row in zip(folds, rows, strict=True) for j, kind in row.takes]
        outer = tuple(row.reduction for row in rows)
        if self.inner is None:
            return takes, outer if len(outer) > 1 else outer[0]
        # of two levels: what the channels' reductions take are results of those over the taps
        inner = _Parts(split(self.inner), _first(split(self.inner)), None)
        of_channel = [inner.row(j, kind) for j, kind in takes]
        taken = [
            (inner.first[j] + i, kind) for (j, _), row in zip(takes, of_channel, strict=True) for i, kind in row.takes
        ]
        return taken, Over(joined([row.reduction for row in of_channel]), joined(outer))

    def row(self, i: int, kind: bool) -> Tangent:
        """A reduction, or its tangent."""
        return tangent(self.reductions[i]) if kind is MOVED else _itself(self.reductions[i])


def _first(reductions: tuple[Reduction, ...]) -> tuple[int, ...]:
    return tuple(itertools.accumulate((len(r.values) for r in reductions[:-1]), initial=0))


def _itself(r: Reduction) -> Tangent:
    return Tangent(r, tuple((i, VALUE) for i in range(len(r.values))))


def _added(terms: list[Expr]) -> Expr:
    """The sum of terms."""
    present = [term for term in terms if term is not ZERO]
    return simplify(functools.reduce(lambda a, b: apply("add", a, b), present)) if present else ZERO
