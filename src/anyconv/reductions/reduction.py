"""Reduction: how the mapped values of one receptive field become one value.

    >>> Reduction("sum", state=("s",), identity=("0",), step=("s + v",), merge=("a_s + b_s",), result="s", adjoint="1")
    Reduction('sum': step s + v, result s, adjoint 1)

A reduction folds values into a *state* of a few named numbers. It is data: texts in the grammar of maps, from which
every backend makes its own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..errors import FormulaError
from ..expr import Expr, parse


@dataclass(frozen=True, repr=False)
class Reduction:
    """The five functions of a reduction, over the parts of its state and one mapped value ``v``.

    Args:
        name: what the user writes in ``reduce=``.
        state: the names of the parts.
        identity: the state of an empty receptive field, one text per part.
        step: the state after ``v`` is folded in, over the parts and ``v``.
        merge: two states joined, over the parts prefixed ``a_`` and ``b_``.
        result: the value of a state, over the parts.
        adjoint: d(result)/dv of the final state and one of the values folded into it, over the parts and ``v``.
    """

    name: str
    state: tuple[str, ...]
    identity: tuple[str, ...]
    step: tuple[str, ...]
    merge: tuple[str, ...]
    result: str
    adjoint: str
    exprs: dict[str, tuple[Expr, ...]] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        joined = [prefix + part for prefix in ("a_", "b_") for part in self.state]
        exprs = {
            "identity": self._read("identity", self.identity, ()),
            "step": self._read("step", self.step, (*self.state, "v")),
            "merge": self._read("merge", self.merge, joined),
            "result": self._read("result", (self.result,), self.state),
            "adjoint": self._read("adjoint", (self.adjoint,), (*self.state, "v")),
        }
        object.__setattr__(self, "exprs", exprs)

    def _read(self, what: str, texts: Sequence[str], allowed: Sequence[str]) -> tuple[Expr, ...]:
        wanted = 1 if what in ("result", "adjoint") else len(self.state)
        if len(texts) != wanted:
            raise FormulaError(f"`{what}` of reduction '{self.name}' needs {wanted} texts, got {len(texts)}")
        exprs = tuple(parse(text) for text in texts)
        unknown = {name for expr in exprs for name in expr.names()} - set(allowed)
        if unknown:
            raise FormulaError(
                f"`{what}` of reduction '{self.name}' uses {', '.join(sorted(unknown))}",
                way_out=f"It may use {', '.join(allowed) or 'no names'}.",
            )
        return exprs

    @property
    def saved(self) -> tuple[str, ...]:
        """The parts of the state that the adjoint needs: what is kept for the backward pass."""
        return tuple(part for part in self.state if part in self.exprs["adjoint"][0].names())

    def __repr__(self) -> str:
        return f"Reduction({self.name!r}: step {', '.join(self.step)}, result {self.result}, adjoint {self.adjoint})"
