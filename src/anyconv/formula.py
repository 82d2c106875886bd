"""Formula: what is computed. A map of one pixel, and how a receptive field of mapped values is reduced.

>>> Formula(lambda x, w: torch.tan(x + w), reduce="prod")
Formula(y = prod(tan(x + w)))
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from .errors import FormulaError
from .expr import Expr
from .expr.expr import statements
from .expr.parse import RESERVED
from .expr.trace import home, label, trace
from .operands import Operand
from .reductions import Reduction, reduction


@dataclass(frozen=True, repr=False, eq=False)
class Formula:
    """A map and its reduction: immutable, hashable, printed as mathematics.

    The map is called once, here, with tracers in place of tensors; what it then computes is fixed, also where it
    reads Python numbers around it that change later.

    Args:
        map: a function of one pixel and its operands, in torch's functions, methods and operators. Parameters with a
            default value keep it unless ``operands`` declares them.
        reduce: ``"sum"``, ``"mean"``, ``"prod"``, ``"max"``, ``"min"`` or ``"logsumexp"``.
        operands: for each argument that is not a weight per tap, its scope: ``{"b": per_filter()}``.
        name: a name to show; by default the function's.

    Raises:
        TraceError: the map does something that one pixel cannot; the message shows the line and the way out.
        FormulaError: ``reduce`` or ``operands`` name something that does not exist.
    """

    map: Callable[..., Any]
    reduce: str | Reduction = "sum"
    operands: Mapping[str, Operand] | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    pixel: str = field(init=False)
    parameters: Mapping[str, Operand] = field(init=False)
    expr: Expr = field(init=False)
    reduction: Reduction = field(init=False)

    def __post_init__(self) -> None:
        if not callable(self.map):
            raise FormulaError(
                f"`map` must be a function of a pixel and its operands, got {self.map!r}",
                way_out="For example `lambda x, w: torch.tan(x + w)`.",
            )
        declared = {} if self.operands is None else self.operands
        pixel, *names = _argument_names(self.map, declared)
        operands = _checked(declared, names, self.map)
        parameters = {name: operands.get(name, Operand()) for name in names}
        fixed = {
            "pixel": pixel,
            "parameters": MappingProxyType(parameters),
            "operands": MappingProxyType(operands),
            "reduction": reduction(self.reduce),
            "expr": trace(self.map, (pixel, *names)),
            "name": self.name or (None if label(self.map).endswith("<lambda>") else label(self.map)),
        }
        for key, value in fixed.items():
            object.__setattr__(self, key, value)
        object.__setattr__(self, "_key", (self.expr, self.pixel, tuple(parameters.items()), self.reduction))

    @classmethod
    def of(cls, formula: Formula | Callable[..., Any]) -> Formula:
        """A bare function means ``Formula(function)``.

        Raises:
            FormulaError: for anything else.
        """
        if isinstance(formula, Formula):
            return formula
        if isinstance(formula, (int, float, str, tuple)) or not callable(formula):
            raise FormulaError(
                f"`formula` must be a Formula or a function of a pixel and its operands, got {formula!r}",
                way_out="stride, padding, dilation, groups and the rest are keyword arguments.",
            )
        return cls(formula)

    @property
    def where(self) -> str:
        """Where the map stands in the user's files, or nothing."""
        return home(self.map)

    def __deepcopy__(self, memo: object) -> Formula:
        return self  # as a copied layer needs: its map may be a method of the layer that is being copied

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.map, self.reduce, dict(self.operands or {}), self.name))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Formula) and self._key == other._key  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._key)  # type: ignore[attr-defined]

    def __str__(self) -> str:
        return written(self.expr, self.reduction)

    def __repr__(self) -> str:
        return f"Formula({self})"


def written(expr: Expr, reduction: Reduction) -> str:
    """A map and its reduction as mathematics: ``y = sum(abs(x - w))``."""
    *bindings, (_, value) = statements(expr)
    where = " where " + ", ".join(f"{name} = {text}" for name, text in bindings) if bindings else ""
    return f"y = {reduction.name}({value}){where}"


def _rebuild(
    map: Callable[..., Any], reduce: str | Reduction, operands: dict[str, Operand], name: str | None
) -> Formula:
    return Formula(map, reduce, operands=operands, name=name)


def _argument_names(function: Callable[..., Any], declared: Mapping[str, Operand]) -> list[str]:
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
                f"the map `{label(function)}` takes `{p}`; an operand needs a name of its own",
                way_out="Write the operands out: `def map(x, w, b)`.",
            )
        if p.kind is p.KEYWORD_ONLY and (p.default is p.empty or p.name in declared):
            raise FormulaError(
                f"the argument `{p.name}` of the map `{label(function)}` can only be given by name",
                way_out="Drop the `*` before it.",
            )
        if p.default is p.empty or p.name in declared:
            names.append(p.name)
    if not names:
        raise FormulaError(f"the map `{label(function)}` takes no pixel", way_out="Its first argument is the pixel.")
    if taken := sorted(RESERVED.intersection(names)):
        raise FormulaError(
            f"`{taken[0]}` is a number in the language of maps and no name for an argument",
            way_out="Give the argument another name.",
        )
    return names


def _checked(operands: Mapping[str, Operand], names: list[str], function: Callable[..., Any]) -> dict[str, Operand]:
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
