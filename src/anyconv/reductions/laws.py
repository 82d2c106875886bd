"""check_laws: what makes five functions a reduction.

    >>> check_laws(MAX, library=torch_library(torch.float64), samples=[[1.0, 2.0, 2.0], [-1.0]])

Identity, associativity, merging as stepping, independence of order, and an adjoint that is the derivative.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import AnyConvError
from ..expr import evaluate
from ..expr.evaluate import evaluate_all
from .reduction import Reduction

Library = Mapping[str, Callable[..., Any]]
State = tuple[float, ...]
Value = float | tuple[float, ...]  # one mapped value; a tuple where the reduction takes several
EPSILON = 2.0**-52
MODERATE = 1e4  # beyond it a difference of two results is all rounding


class LawError(AnyConvError, ArithmeticError):
    """A reduction breaks one of its laws."""


def fold(r: Reduction, values: Sequence[Value], library: Library) -> State:
    """The state after folding ``values`` one by one."""
    state = evaluate_all(r.exprs["identity"], {}, library)
    for v in values:
        state = evaluate_all(r.exprs["step"], {**dict(zip(r.state, state, strict=True)), **_named(r, v)}, library)
    return state


def _named(r: Reduction, value: Value) -> dict[str, float]:
    return dict(zip(r.values, value if isinstance(value, tuple) else (value,), strict=True))


def merge(r: Reduction, a: State, b: State, library: Library) -> State:
    """Two states joined."""
    left = {f"a_{part}": value for part, value in zip(r.state, a, strict=True)}
    right = {f"b_{part}": value for part, value in zip(r.state, b, strict=True)}
    return evaluate_all(r.exprs["merge"], left | right, library)


def result(r: Reduction, state: State, library: Library) -> float:
    """The value of a state."""
    return float(evaluate(r.exprs["result"][0], dict(zip(r.state, state, strict=True)), library))


def check_laws(r: Reduction, library: Library, samples: Sequence[Sequence[Value]]) -> None:
    """Test every law on every sample; each sample is one receptive field of float64 values, or of tuples.

    Raises:
        LawError: naming the reduction, the law, the values and both sides.
    """
    for values in samples:
        whole = fold(r, values, library)
        want = result(r, whole, library)
        for cut in range(len(values) + 1):
            parts = merge(r, fold(r, values[:cut], library), fold(r, values[cut:], library), library)
            law = "identity" if cut in (0, len(values)) else "merge of two folds is the fold of all"
            _agree(r, law, values, got=result(r, parts, library), want=want)
        _agree(r, "order", values, got=result(r, fold(r, values[::-1], library), library), want=want)
        for i, j in itertools.combinations_with_replacement(range(len(values) + 1), 2):
            a, b, c = (fold(r, part, library) for part in (values[:i], values[i:j], values[j:]))
            left = merge(r, merge(r, a, b, library), c, library)
            right = merge(r, a, merge(r, b, c, library), library)
            _agree(r, "associativity", values, got=result(r, left, library), want=result(r, right, library))
        if all(abs(v) < MODERATE for v in _numbers(values)) and abs(want) < MODERATE:
            for i, j in itertools.product(range(len(values)), range(len(r.values))):
                _adjoint(r, values, i, j, library)


def _numbers(values: Sequence[Value]) -> list[float]:
    return [number for v in values for number in (v if isinstance(v, tuple) else (v,))]


def _adjoint(r: Reduction, values: Sequence[Value], i: int, j: int, library: Library) -> None:
    """The derivative in number ``j`` of value ``i``."""
    state = dict(zip(r.state, fold(r, values, library), strict=True))
    here_is = _named(r, values[i])
    got = float(evaluate(r.exprs["adjoint"][j], {**state, **here_is}, library))
    h = 1e-5 * max(1.0, abs(here_is[r.values[j]]))

    def moved(by: float) -> float:
        numbers = [number + by * (n == j) for n, number in enumerate(here_is.values())]
        there: Value = tuple(numbers) if isinstance(values[i], tuple) else numbers[0]
        return result(r, fold(r, [*values[:i], there, *values[i + 1 :]], library), library)

    here = moved(0.0)
    left, right = (here - moved(-h)) / h, (moved(h) - here) / h
    # at a kink the one-sided slopes differ, and every value between them is a derivative
    slack = 1e-4 * max(1.0, abs(got))
    if not min(left, right) - slack <= got <= max(left, right) + slack:
        raise LawError(
            f"reduction '{r.name}': adjoint at {values[i]} in {list(values)} is {got}, slopes {left}, {right}"
        )


def _agree(r: Reduction, law: str, values: Sequence[Value], *, got: float, want: float) -> None:
    tolerance = 16 * (len(values) + 1) * EPSILON
    same = got == want or (math.isnan(got) and math.isnan(want))
    if not same and not abs(got - want) <= tolerance * max(1.0, abs(want), sum(map(abs, _numbers(values)))):
        raise LawError(f"reduction '{r.name}': {law} fails on {list(values)}: {got} against {want}")
