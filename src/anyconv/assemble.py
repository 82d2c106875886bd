"""assemble: the functions of a formula, called once with tracers, as mathematics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import FormulaError
from .expr import Expr
from .expr.expr import var
from .expr.trace import label, trace_all
from .mathematics import Mathematics
from .operands import Operand
from .reductions import Over, Reduction, reduction
from .reductions.builtin import Reduce
from .signature import argument_names, checked_center, checked_field, checked_operands, numbers_of
from .variables import PIXEL, Variable, variables_of

Function = Callable[..., Any]
Arguments = list[Expr | tuple[Expr, ...]]


@dataclass(frozen=True)
class Functions:
    """What a user gives a formula, apart from its name."""

    map: Function
    reduce: Reduce | Over
    epilogue: Function | None
    operands: Mapping[str, Operand]
    gradient: Mapping[str, Function]
    field: tuple[int, ...] | None


@dataclass(frozen=True)
class Assembled:
    """What comes of it.

    Args:
        pixel: the name of the map's first argument.
        operands: every other argument of the functions, by name, in the order of their signatures.
        declared: those that the user declared.
    """

    pixel: str
    operands: dict[str, Operand]
    declared: dict[str, Operand]
    mathematics: Mathematics


def assemble(given: Functions) -> Assembled:
    """Read the signatures, trace the functions, and check that they fit together.

    Raises:
        TraceError, FormulaError: as :class:`~anyconv.Formula`.
    """
    whole = checked_field(given.field)
    folded, inner = _reductions(given.reduce, whole=whole is not None)
    pixel, *names = argument_names(given.map, given.operands, "map")
    accumulators, after = _epilogue_names(given, folded)
    reads = {name: argument_names(function, given.operands, "gradient") for name, function in given.gradient.items()}
    inside = list(dict.fromkeys([pixel, *names, *(n for read in reads.values() for n in read)]))
    known = list(dict.fromkeys([*names, *after, *(n for n in inside if n != pixel)]))
    declared = checked_operands(given.operands, known, given.map)
    operands = {name: declared.get(name, Operand()) for name in known}
    checked_center(operands)
    view = _View(pixel, operands, None if whole is None else math.prod(whole))
    for name in after:
        _check_outer(name, operands[name])
    values = trace_all(given.map, view.arguments([pixel, *names]))
    _check_values(given.map, values, inner or folded)
    slopes = []
    for name, function in given.gradient.items():
        _check_slope(name, view, inside, given.map, [pixel, *names])
        found = trace_all(function, view.arguments(reads[name]), f"the gradient of `{name}`")
        if len(found) != len(values):
            raise FormulaError(
                f"the gradient of `{name}` returns {len(found)} numbers for the {len(values)} that the map returns"
            )
        slopes.append((name, found))
    mathematics = Mathematics(
        variables=view.variables(inside),
        outer=view.variables(after),
        values=values,
        reduction=folded,
        inner=inner,
        finish=_finish(given.epilogue, accumulators, view.arguments(after)),
        accumulators=tuple(accumulators) or ("y",),
        slopes=tuple(slopes),
        field=whole,
    )
    return Assembled(pixel, operands, declared, mathematics)


@dataclass(frozen=True)
class _View:
    """Arguments as functions see them: numbers, or vectors of numbers."""

    pixel: str
    operands: dict[str, Operand]
    taps: int | None

    def variables(self, names: list[str]) -> tuple[Variable, ...]:
        return tuple(v for name in names for v in variables_of(name, self.operands.get(name, PIXEL), self.taps))

    def arguments(self, names: list[str]) -> Arguments:
        return [numbers_of(self.variables([name]), self.operands.get(name, PIXEL), self.taps) for name in names]


def _reductions(reduce: Reduce | Over, *, whole: bool) -> tuple[Reduction, Reduction | None]:
    """The reduction, and the one before it over the taps of a channel."""
    if not isinstance(reduce, Over):
        return reduction(reduce), None
    if whole:
        raise FormulaError(
            "a map of whole fields leaves no taps to reduce", way_out="Drop `over`, and reduce the channels."
        )
    return reduce.channels, reduce.taps


def _epilogue_names(given: Functions, folded: Reduction) -> tuple[list[str], list[str]]:
    """The names of the epilogue's reduced values, and of its operands."""
    if given.epilogue is None:
        if folded.results > 1:
            raise FormulaError(
                f"`reduce` makes {folded.results} values: {folded.name}",
                way_out="Say what the output is: `epilogue=lambda a, b: a / b`.",
            )
        return [], []
    if not callable(given.epilogue):
        raise FormulaError(f"`epilogue` must be a function of the reduced values, got {given.epilogue!r}")
    names = argument_names(given.epilogue, given.operands, "epilogue")
    if len(names) < folded.results:
        raise FormulaError(
            f"the epilogue `{label(given.epilogue)}` takes {len(names)} values, `reduce` makes {folded.results}",
            way_out="Its first arguments are the reduced values, one for each reduction.",
        )
    return names[: folded.results], names[folded.results :]


def _check_outer(name: str, operand: Operand) -> None:
    if set(operand.axes) - set("nos"):
        raise FormulaError(
            f"the epilogue's operand `{name}` is {operand}; after the reduction there are no taps or channels",
            way_out="Declare it per_filter(), shared(), or per_site() along n and o.",
        )


def _check_values(function: Function, values: tuple[Expr, ...], wanted: Reduction) -> None:
    if len(values) != len(wanted.values):
        way_out = f"Return ({', '.join(wanted.values)})."
        if len(wanted.values) == 1:
            way_out = "Return one number; or reduce each: reduce=('sum', 'sum'), with an epilogue that joins them."
        raise FormulaError(
            f"the map `{label(function)}` returns {len(values)} numbers, {wanted.name} takes {len(wanted.values)}",
            way_out=way_out,
        )


def _check_slope(name: str, view: _View, inside: list[str], function: Function, arguments: list[str]) -> None:
    if name not in inside or len(view.variables([name])) > 1:
        raise FormulaError(
            f"`gradient` names `{name}`, which is no single number that the map `{label(function)}` takes",
            way_out=f"Its arguments are ({', '.join(arguments)}).",
        )


def _finish(epilogue: Function | None, accumulators: list[str], arguments: Arguments) -> Expr:
    if epilogue is None:
        return var("y")
    found = trace_all(epilogue, [*map(var, accumulators), *arguments], f"the epilogue `{label(epilogue)}`")
    if len(found) != 1:
        raise FormulaError(f"the epilogue `{label(epilogue)}` returns {len(found)} numbers; it makes one")
    return found[0]
