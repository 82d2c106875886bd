"""Reduction: how the mapped values of one receptive field become one value.

    >>> Reduction("energy", identity=0.0, step=lambda s, v: s + v * v, merge=lambda a, b: a + b,
    ...           result=lambda s: s, adjoint=lambda s, v: 2 * v)
    Reduction('energy': step s + v * v, result s, adjoint 2 * v)

A reduction folds values into a *state* of a few named numbers. It is data: texts in the grammar of maps, from which
every backend makes its own code. A user writes plain functions; they are traced, like a map.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import FormulaError
from ..expr import Expr, parse
from ..expr.expr import var
from ..expr.simplify import substitute
from ..expr.trace import trace_all

Texts = str | tuple[str, ...]
Written = Texts | float | tuple[float, ...] | Callable[..., Any]


@dataclass(frozen=True, repr=False)
class Reduction:
    """The five functions of a reduction, over the parts of its state and the mapped values.

    Each is a function, or a text for each part. A function gets the state as one number, or as a tuple where it has
    several parts; so it gives it back.

    Args:
        name: what it is called where a formula is shown.
        identity: the state of an empty receptive field: a number for each part.
        step: ``step(state, v)``, the state after ``v`` is folded in; of a map that returns two values,
            ``step(state, key, value)``.
        merge: ``merge(a, b)``, two states joined. In a text, the parts of ``a`` are prefixed ``a_``, those of ``b``
            ``b_``.
        result: ``result(state)``.
        adjoint: ``adjoint(state, v)``: d(result)/dv of the final state and one of the values folded into it; where a
            map returns several values, one derivative for each.
        state: the names of the parts.
        values: the names of what a map returns.
        owner: for each value, the result to which it belongs: all to the first, unless several reductions were joined.
        of: the reductions that were joined.

    Raises:
        FormulaError: a function uses what it may not, or the numbers of parts differ.
        TraceError: a function does what cannot be traced.
    """

    name: str
    identity: Written
    step: Written
    merge: Written
    result: Written
    adjoint: Written
    state: tuple[str, ...] = ()
    values: tuple[str, ...] = ("v",)
    owner: tuple[int, ...] = ()
    of: tuple[Reduction, ...] = ()
    exprs: dict[str, tuple[Expr, ...]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        identity = self.identity if isinstance(self.identity, tuple) else (self.identity,)
        if not self.state:
            parts = ("s",) if len(identity) == 1 else tuple(f"s{i}" for i in range(len(identity)))
            self._set("state", parts)
        if callable(self.step):
            self._set("values", _names_after_the_first(self.name, self.step))
        self._set("owner", self.owner or (0,) * len(self.values))
        joined = tuple(prefix + part for prefix in ("a_", "b_") for part in self.state)
        count, results = len(self.state), 1 + max(self.owner)
        a, b = joined[:count], joined[count:]
        exprs = {
            "identity": self._read("identity", count, ()),
            "step": self._read("step", count, (*self.state, *self.values), self.state, *self.values),
            "merge": self._read("merge", count, joined, a, b),
            "result": self._read("result", results, self.state, self.state),
            "adjoint": self._read("adjoint", len(self.values), (*self.state, *self.values), self.state, *self.values),
        }
        self._set("exprs", exprs)

    @property
    def parts(self) -> tuple[Reduction, ...]:
        """Return the reductions that were joined, or this one alone."""
        return self.of or (self,)

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _read(
        self, what: str, wanted: int, allowed: Sequence[str], *arguments: str | tuple[str, ...]
    ) -> tuple[Expr, ...]:
        given = getattr(self, what)
        if callable(given):
            exprs = trace_all(given, [_variables(a) for a in arguments], f"`{what}` of reduction '{self.name}'")
            self._set(what, tuple(map(str, exprs)))
        else:
            texts = given if isinstance(given, tuple) else (given,)
            self._set(what, tuple(text if isinstance(text, str) else str(float(text)) for text in texts))
            exprs = tuple(map(parse, getattr(self, what)))
        if len(exprs) != wanted:
            raise FormulaError(f"`{what}` of reduction '{self.name}' needs {wanted} values, got {len(exprs)}")
        unknown = {name for expr in exprs for name in expr.names()} - set(allowed)
        if unknown:
            raise FormulaError(
                f"`{what}` of reduction '{self.name}' uses {', '.join(sorted(unknown))}",
                way_out=f"It may use {', '.join(allowed) or 'no names'}.",
            )
        return exprs

    def texts(self, what: str) -> tuple[str, ...]:
        """One of the five, as it was written or traced: a text for each part, or result, or value."""
        texts: tuple[str, ...] = getattr(self, what)
        return texts

    @property
    def results(self) -> int:
        """How many numbers a receptive field becomes: one, unless several reductions were joined."""
        return len(self.exprs["result"])

    @property
    def saved(self) -> tuple[str, ...]:
        """The parts of the state that the adjoint needs: what is kept for the backward pass."""
        used = {name for expr in self.exprs["adjoint"] for name in expr.names()}
        return tuple(part for part in self.state if part in used)

    def __repr__(self) -> str:
        shown = {what: ", ".join(map(str, self.exprs[what])) for what in ("step", "result", "adjoint")}
        return f"Reduction({self.name!r}: " + ", ".join(f"{what} {text}" for what, text in shown.items()) + ")"


def joined(reductions: Sequence[Reduction]) -> Reduction:
    """Several reductions in one pass: the values of each, one after the other, and a result of each."""
    if len(reductions) == 1:
        return reductions[0]
    fields: dict[str, list[str]] = {what: [] for what in ("identity", "step", "merge", "result", "adjoint")}
    state: list[str] = []
    values: list[str] = []
    owner: list[int] = []
    for i, r in enumerate(reductions):
        names = {part: f"{part}{i}" for part in (*r.state, *r.values)}
        names |= {side + part: f"{side}{part}{i}" for part in r.state for side in ("a_", "b_")}
        renamed = {name: var(new) for name, new in names.items()}
        for what, texts in fields.items():
            texts.extend(str(substitute(expr, renamed)) for expr in r.exprs[what])
        state += [names[part] for part in r.state]
        values += [names[value] for value in r.values]
        owner += [i] * len(r.values)
    name = "(" + ", ".join(r.name for r in reductions) + ")"
    given = {what: tuple(texts) for what, texts in fields.items()}
    return Reduction(
        name, **given, state=tuple(state), values=tuple(values), owner=tuple(owner), of=tuple(reductions)
    )  # fmt: skip


def _variables(names: str | tuple[str, ...]) -> Expr | tuple[Expr, ...]:
    """A state of one part is a number to its functions."""
    if isinstance(names, str):
        return var(names)
    return var(names[0]) if len(names) == 1 else tuple(map(var, names))


def _names_after_the_first(name: str, step: Callable[..., Any]) -> tuple[str, ...]:
    parameters = list(inspect.signature(step).parameters.values())
    if len(parameters) < 2 or any(p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters):
        raise FormulaError(
            f"`step` of reduction '{name}' must take the state and what a map returns",
            way_out="For example `lambda s, v: s + v`.",
        )
    return tuple(p.name for p in parameters[1:])
