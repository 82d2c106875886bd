"""evaluate(Expr, values, library): the meaning of an Expr on any kind of number.

>>> evaluate(parse("2 * x + 1"), {"x": 3.0}, PLAIN)
7.0
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ExprError
from .expr import Expr


def evaluate(expr: Expr, values: Mapping[str, Any], library: Mapping[str, Callable[..., Any]]) -> Any:
    """The value of ``expr``, where variable ``name`` is ``values[name]`` and op ``f`` is ``library[f]``."""
    return evaluate_all((expr,), values, library)[0]


def evaluate_all(
    exprs: tuple[Expr, ...], values: Mapping[str, Any], library: Mapping[str, Callable[..., Any]]
) -> tuple[Any, ...]:
    """Several expressions at once; what they share is computed once, and let go when it was last used."""
    memo: dict[Expr, Any] = {}
    for node, done in _program(exprs):
        if node.op == "var":
            memo[node] = values[str(node.value)]
        elif node.op == "const":
            memo[node] = node.value
        else:
            if node.op not in library:
                raise ExprError(f"this library has no `{node.op}`; it has {', '.join(sorted(library))}")
            memo[node] = library[node.op](*(memo[arg] for arg in node.args))
        for arg in done:
            del memo[arg]
    return tuple(memo[expr] for expr in exprs)


@functools.lru_cache(maxsize=4096)
def _program(exprs: tuple[Expr, ...]) -> tuple[tuple[Expr, tuple[Expr, ...]], ...]:
    """The nodes in their order, each with those that nobody needs after it."""
    order = list(dict.fromkeys(node for expr in exprs for node in expr.nodes()))
    last_use = {arg: i for i, node in enumerate(order) for arg in node.args}
    return tuple(
        (node, tuple(arg for arg in dict.fromkeys(node.args) if last_use[arg] == i and arg not in exprs))
        for i, node in enumerate(order)
    )


def _divide(a: float, b: float) -> float:
    if b == 0.0:
        return math.nan if a == 0.0 or math.isnan(a) else math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def _power(a: float, b: float) -> float:
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf
    except ValueError:  # 0 ** negative is infinite, negative ** fraction is not a number
        if a != 0.0:
            return math.nan
        return math.copysign(math.inf, a) if b % 2 == 1 else math.inf


def _maximum(a: float, b: float) -> float:
    return math.nan if math.isnan(a) or math.isnan(b) else max(a, b)


PLAIN: dict[str, Callable[..., Any]] = {  # Python's numbers with IEEE rules: enough to fold constants
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": _divide, "pow": _power,
    "neg": operator.neg, "abs": abs, "real": float, "square": lambda a: a * a,
    "maximum": _maximum, "minimum": lambda a, b: -_maximum(-a, -b),
    "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge, "eq": operator.eq, "ne": operator.ne,
    "logical_and": operator.and_, "logical_or": operator.or_, "logical_xor": operator.xor,
    "logical_not": operator.not_, "where": lambda c, a, b: a if c else b,
}  # fmt: skip
