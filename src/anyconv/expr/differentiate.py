"""d(Expr)/d(name): the chain rule, once; the partial derivatives are the table's.

>>> str(differentiate(parse("tan(x + w)"), "w"))
't0 = tan(x + w); 1 + t0 * t0'
"""

from __future__ import annotations

import functools

from .expr import Expr, apply, const
from .ops import TABLE
from .parse import read
from .simplify import simplify, substitute
from .verify import kind, verify

ZERO, ONE = const(0.0), const(1.0)


def differentiate(expr: Expr, name: str) -> Expr:
    """The derivative with respect to the variable ``name``, simplified; at kinks it is PyTorch's choice."""
    slope: dict[Expr, Expr] = {}  # nodes that do not depend on `name` are absent: their slope is a true zero
    for node in verify(expr).nodes():
        found = ONE if node.op == "var" and node.value == name else _chain(node, slope)
        if found is not None:
            slope[node] = found
    return verify(simplify(slope.get(expr, ZERO)))


def _chain(node: Expr, slope: dict[Expr, Expr]) -> Expr | None:
    if not any(arg in slope for arg in node.args) or kind(node) == "bool":
        return None
    if node.op == "where":
        # selecting the slopes, not weighing them by 0 and 1, keeps a pole of the branch not taken out of the result
        condition, *branches = node.args
        return apply("where", condition, *(slope.get(branch, ZERO) for branch in branches))
    terms = [_times(partial(node, i), slope[arg]) for i, arg in enumerate(node.args) if arg in slope]
    total: Expr | None = None
    for term in terms:
        if term is not None:
            total = term if total is None else apply("add", total, term)
    return total


def partial(node: Expr, index: int) -> Expr:
    """The table's derivative of ``node`` with respect to its argument ``index``."""
    row = TABLE[node.op]
    env = {param.name: arg for param, arg in zip(row.params, node.args, strict=True)}
    return substitute(_template(row.derivative[index]), env | {"y": node})


@functools.cache
def _template(text: str) -> Expr:
    return read(text)


def _times(factor: Expr, slope: Expr) -> Expr | None:
    if factor is ZERO:
        return None
    return slope if factor is ONE else factor if slope is ONE else apply("mul", factor, slope)
