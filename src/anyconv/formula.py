"""Formula: what is computed. A map of one pixel, how a receptive field of mapped values is reduced, and what follows.

>>> Formula(lambda x, w: torch.tan(x + w), reduce="prod")
Formula(y = prod(tan(x + w)))
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from dataclasses import field as attribute
from types import MappingProxyType
from typing import Any

from .assemble import Assembled, Functions, assemble
from .errors import FormulaError
from .expr import Expr
from .expr.expr import apply, var
from .expr.trace import home, label
from .mathematics import Mathematics
from .operands import DERIVED, Operand
from .reductions import Over, Reduction
from .reductions.builtin import SUM, Reduce
from .text import decode, encode

Function = Callable[..., Any]


@dataclass(frozen=True, repr=False, eq=False)
class Formula:
    """A map and its reduction: immutable, hashable, printed as mathematics.

    The map is called once, here, with tracers in place of tensors; what it then computes is fixed, also where it
    reads Python numbers around it that change later. Numbers that change are operands: ``shared(frozen=True)``.

    Args:
        map: a function of one pixel and its operands, in torch's functions, methods and operators. Parameters with a
            default value keep it unless ``operands`` declares them. It may return several numbers.
        reduce: ``"sum"``, ``"mean"``, ``"prod"``, ``"max"``, ``"min"``, ``"logsumexp"`` or ``norm(p)``; of a map that
            returns two numbers, ``"softmax"`` (score, value), ``"argmax"`` or ``"argmin"`` (key, value: the value at
            the best key); a :class:`Reduction` of your own; a tuple of these, in one pass, for what the map returns
            one after the other; or ``over(taps=..., channels=...)``.
        epilogue: a function of the reduced values, and of operands by their names; it makes the output.
        operands: for each argument that is not a weight per tap, its scope: ``{"b": per_filter()}``.
        gradient: for an argument of the map, a function that replaces the derivative of the map in it. It takes
            arguments of the map, or operands of its own, by their names.
        field: the kernel, where the map is a function of the whole receptive field of a channel: its first argument
            is then a vector of all pixels, in the order of the taps, and a weight per tap is such a vector too. The
            results of the channels are reduced.
        name: a name to show; by default the function's.

    Raises:
        TraceError: the map does something that one pixel cannot; the message shows the line and the way out.
        FormulaError: an argument names something that does not exist, or the numbers of values do not fit.
    """

    map: Function
    reduce: Reduce | Over = "sum"
    epilogue: Function | None = attribute(default=None, kw_only=True)
    operands: Mapping[str, Operand] | None = attribute(default=None, kw_only=True)
    gradient: Mapping[str, Function] | None = attribute(default=None, kw_only=True)
    field: tuple[int, ...] | None = attribute(default=None, kw_only=True)
    name: str | None = attribute(default=None, kw_only=True)

    pixel: str = attribute(init=False)
    # by name, in the order of the signatures: what a caller passes, and what follows from x and the geometry
    parameters: Mapping[str, Operand] = attribute(init=False)
    derived: Mapping[str, Operand] = attribute(init=False)
    # both again, in a form that torch.compile of torch 2.6 can read
    passed: tuple[tuple[str, Operand], ...] = attribute(init=False)
    following: tuple[tuple[str, Operand], ...] = attribute(init=False)
    mathematics: Mathematics = attribute(init=False)
    where: str = attribute(init=False)  # the map stands in the user's files, or nothing
    weight: str = attribute(init=False)  # its name, where this is the ordinary convolution, or nothing
    text: str = attribute(init=False)  # all that is computed; `of_text` reads it back

    def __post_init__(self) -> None:
        if not callable(self.map):
            raise FormulaError(
                f"`map` must be a function of a pixel and its operands, got {self.map!r}",
                way_out="For example `lambda x, w: torch.tan(x + w)`.",
            )
        given = self._given()
        if not isinstance(given.gradient, Mapping) or not all(map(callable, given.gradient.values())):
            raise FormulaError(f"`gradient` must be a dict of functions by argument, got {given.gradient!r}")
        found = assemble(given)
        fixed = {
            "field": found.mathematics.field,
            "pixel": found.pixel,
            "parameters": MappingProxyType({n: o for n, o in found.operands.items() if o.scope not in DERIVED}),
            "passed": tuple((n, o) for n, o in found.operands.items() if o.scope not in DERIVED),
            "following": tuple((n, o) for n, o in found.operands.items() if o.scope in DERIVED),
            "derived": MappingProxyType({n: o for n, o in found.operands.items() if o.scope in DERIVED}),
            "operands": MappingProxyType(found.declared),
            "mathematics": found.mathematics,
            "name": self.name or (None if label(self.map).endswith("<lambda>") else label(self.map)),
            "where": home(self.map),
            "weight": _weight(found),
            "text": encode(given, found.mathematics),
            "_key": (found.mathematics, found.pixel, tuple(found.operands.items())),
        }
        for key, value in fixed.items():
            object.__setattr__(self, key, value)
        _by_text.setdefault(self.text, self)

    def _given(self) -> Functions:
        operands = {} if self.operands is None else self.operands
        gradient = {} if self.gradient is None else self.gradient
        return Functions(self.map, self.reduce, self.epilogue, operands, gradient, self.field)

    @classmethod
    def of(cls, formula: Formula | Function) -> Formula:
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
    def expr(self) -> Expr:
        """What the map returns first; all of it, of most maps."""
        return self.mathematics.values[0]

    @property
    def reduction(self) -> Reduction:
        """Of the values; with ``over``, of the results of the channels."""
        return self.mathematics.reduction

    def unbound(self) -> Formula:
        """The same, without the functions of which it came: those of a layer's own methods would keep the layer."""
        made = _rebuild(*self.__reduce__()[1])
        object.__setattr__(made, "where", self.where)
        return made

    def __deepcopy__(self, memo: object) -> Formula:
        return self  # as a copied layer needs: its map may be a method of the layer that is being copied

    @classmethod
    def of_text(cls, text: str) -> Formula:
        """The formula of a text, from which nothing is evaluated: the text is in a closed grammar.

        Raises:
            FormulaError, ExprError: it is none.
        """
        found = _by_text.get(text)
        if found is None:
            found = _by_text[text] = cls(**decode(text))
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        extras = {
            name: {key: getattr(o, key) for key in ("init", "on_gradient") if getattr(o, key) is not None}
            for name, o in (self.operands or {}).items()
        }
        return _rebuild, (self.text, {name: one for name, one in extras.items() if one}, self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Formula) and self._key == other._key  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash(self._key)  # type: ignore[attr-defined]

    def __str__(self) -> str:
        return str(self.mathematics)

    def __repr__(self) -> str:
        return f"Formula({self})"


def _weight(found: Assembled) -> str:
    expr, m = found.mathematics.values[0], found.mathematics
    names = [name for name in expr.names() if name != found.pixel]
    if m.reduction != SUM or not m.is_plain or len(names) != 1 or names[0] not in found.operands:
        return ""
    if found.operands[names[0]].axes != "ock":
        return ""
    products = [apply("mul", var(a), var(b)) for a, b in ((found.pixel, names[0]), (names[0], found.pixel))]
    return names[0] if expr in products else ""


def _rebuild(text: str, extras: dict[str, dict[str, Any]], name: str | None) -> Formula:
    """What a pickle holds: the text, and what operands have beside it."""
    given = decode(text)
    for operand, more in extras.items():
        given["operands"][operand] = replace(given["operands"][operand], **more)
    return Formula(**given, name=name)


# a text leads back to the formula of which it is, while that lives
_by_text: weakref.WeakValueDictionary[str, Formula] = weakref.WeakValueDictionary()
