"""d(Expr)/d(name): the chain rule, once; the partial derivatives are the table's.

>>> str(differentiate(parse("tan(x + w)"), "w"))
't0 = tan(x + w); 1 + t0 * t0'
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from .expr import Expr, apply, const, var
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
        condition, *branches = node.args
        return apply("where", condition, *(slope.get(branch, ZERO) for branch in branches))
    terms = [times(partial(node, i), slope[arg]) for i, arg in enumerate(node.args) if arg in slope]
    present = [term for term in terms if term is not ZERO]
    return functools.reduce(lambda total, term: apply("add", total, term), present) if present else None


def pull(expr: Expr, names: Sequence[str], weight: Expr) -> list[Expr]:
    """``weight * d(expr)/d(name)`` for each name, walking from the value to the variables.

    What the derivatives have in common is computed once, so that many variables cost little more than one.
    """
    pulled: dict[Expr, Expr] = {expr: weight}
    for node in reversed(verify(expr).nodes()):
        here = pulled.get(node)
        if here is None or kind(node) == "bool":
            continue
        for i, arg in enumerate(node.args):
            if kind(arg) == "bool" or arg.op == "const":
                continue
            if node.op == "where":
                branches = (here, ZERO) if i == 1 else (ZERO, here)
                term = apply("where", node.args[0], *branches)
            else:
                term = times(partial(node, i), here)
            if term is not ZERO:
                pulled[arg] = apply("add", pulled[arg], term) if arg in pulled else term
    return [verify(simplify(pulled.get(var(name), ZERO))) for name in names]


def partial(node: Expr, index: int) -> Expr:
    """The table's derivative of ``node`` with respect to its argument ``index``."""
    row = TABLE[node.op]
    env = {param.name: arg for param, arg in zip(row.params, node.args, strict=True)}
    return substitute(_template(row.derivative[index]), env | {"y": node})


@functools.cache
def _template(text: str) -> Expr:
    return read(text)


def times(factor: Expr, slope: Expr) -> Expr:
    """The product of two derivatives; where one of them is a choice with a zero in it, the choice of the products.

    Selecting instead of weighing by 0 keeps a pole out of the places where it is not taken: 0 * inf is NaN.
    """
    if factor is ZERO or slope is ZERO:
        return ZERO
    if factor is ONE or slope is ONE:
        return slope if factor is ONE else factor
    for choice, other in ((slope, factor), (factor, slope)):
        if choice.op == "where" and ZERO in choice.args[1:]:
            condition, *branches = choice.args
            return apply("where", condition, *(times(other, branch) for branch in branches))
    return apply("mul", factor, slope)
