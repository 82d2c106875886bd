"""What the signatures of a formula's functions say, and what is wrong with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .errors import FormulaError
from .expr import Expr
from .expr.expr import var
from .expr.parse import RESERVED
from .expr.trace import label
from .operands import Operand
from .variables import Variable

Function = Callable[..., Any]


def argument_names(function: Function, declared: Mapping[str, Operand], what: str) -> list[str]:
    """The names of a function's arguments; those with a default only where they are ``declared``.

    Raises:
        FormulaError: they cannot be read, or passed.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise FormulaError(
            f"the signature of `{label(function)}` cannot be read, so its operands have no names",
            way_out=f"Wrap it: `lambda x, w: {label(function)}(x, w)`.",
        ) from None
    names = []
    for p in parameters:
        if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD):
            raise FormulaError(
                f"the {what} `{label(function)}` takes `{p}`; an operand needs a name of its own",
                way_out="Write the operands out: `def map(x, w, b)`.",
            )
        if p.kind is p.KEYWORD_ONLY and (p.default is p.empty or p.name in declared):
            raise FormulaError(
                f"the argument `{p.name}` of the {what} `{label(function)}` can only be given by name",
                way_out="Drop the `*` before it.",
            )
        if p.default is p.empty or p.name in declared:
            names.append(p.name)
    if not names and what != "gradient":
        raise FormulaError(f"the {what} `{label(function)}` takes no pixel", way_out="Its first argument is the pixel.")
    if taken := sorted(RESERVED.intersection(names)):
        raise FormulaError(
            f"`{taken[0]}` is a number in the language of maps and no name for an argument",
            way_out="Give the argument another name.",
        )
    return names


def checked_operands(operands: Mapping[str, Operand], names: list[str], function: Function) -> dict[str, Operand]:
    """The declared operands.

    Raises:
        FormulaError: one is no scope, or declares what no function takes.
    """
    if not isinstance(operands, Mapping):
        raise FormulaError(
            f"`operands` must be a dict of scopes by name, got {operands!r}",
            way_out="For example {'b': anyconv.per_filter()}.",
        )
    for name, operand in operands.items():
        if name not in names:
            raise FormulaError(
                f"`operands` names `{name}`, which is no operand of the map `{label(function)}`",
                way_out=f"Its operands are ({', '.join(names)}); the first argument is the pixel.",
            )
        if not isinstance(operand, Operand):
            raise FormulaError(
                f"`operands[{name!r}]` must be a scope such as anyconv.per_filter(), got {operand!r}",
                way_out="The scopes are functions: call it." if callable(operand) else "",
            )
    return dict(operands)


def checked_center(operands: Mapping[str, Operand]) -> None:
    """Refuse the center of what is no guide."""
    for name, operand in operands.items():
        if operand.of is not None and (operand.of not in operands or operands[operand.of].scope != "guide"):
            raise FormulaError(
                f"`{name}` is the center of `{operand.of}`, which is no guide of the map",
                way_out="Declare that operand as guide(), or use center() for the pixel's.",
            )
        if (
            operand.of is not None
            and operands[operand.of].size is not None
            and operand.size != operands[operand.of].size
        ):
            raise FormulaError(
                f"`{name}` is the center of `{operand.of}`, a guide of {operands[operand.of].size} channels of its own",
                way_out=f"Say so: center({operand.of!r}, size={operands[operand.of].size}).",
            )


def checked_field(field: object) -> tuple[int, ...] | None:
    """``field=`` as a kernel.

    Raises:
        FormulaError: it is none.
    """
    if field is None:
        return None
    sizes = field if isinstance(field, (tuple, list)) else (field,)
    if not 1 <= len(sizes) <= 3 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in sizes):
        raise FormulaError(
            f"`field` must be a kernel of 1 to 3 positive ints, got {field!r}", way_out="For example (3, 3)."
        )
    return tuple(sizes)


def numbers_of(seen: tuple[Variable, ...], operand: Operand, taps: int | None) -> Expr | tuple[Expr, ...]:
    """What a function is called with for an argument: a number, or a vector of them."""
    along_taps = taps is not None and seen[0].tap is not None
    exprs = tuple(var(v.name) for v in seen)
    return exprs if along_taps or operand.size is not None else exprs[0]
