"""affine: is an Expr a straight line in the pixel, and which one?

>>> affine(parse("(w * x + b) / 2"), "x")
Line(slope=Expr('w / 2'), offset=Expr('b / 2'))
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from ..expr import Expr, simplify
from ..expr.expr import apply, const

ZERO, ONE = const(0.0), const(1.0)


class Line(NamedTuple):
    """``slope * x + offset``, neither of which depends on x."""

    slope: Expr
    offset: Expr


@functools.lru_cache(maxsize=1024)
def affine(expr: Expr, name: str) -> Line | None:
    """The line that ``expr`` is in the variable ``name``, or None where it is not visibly one.

    It is read off the structure. A derivative without ``name`` would not do: that of ``floor(x)`` is 0 as well.
    """
    lines: dict[Expr, Line | None] = {}
    for node in expr.nodes():
        if node.op == "var" and node.value == name:
            lines[node] = Line(ONE, ZERO)
        elif all(_is_free(lines[arg]) for arg in node.args):
            lines[node] = Line(ZERO, node)
        else:
            lines[node] = _compose(node, [lines[arg] for arg in node.args])
    line = lines[expr]
    return line and Line(simplify(line.slope), simplify(line.offset))


def _is_free(line: Line | None) -> bool:
    return line is not None and line.slope is ZERO


def _compose(node: Expr, lines: list[Line | None]) -> Line | None:
    match node.op, lines:
        case ("add" | "sub") as op, [Line() as a, Line() as b]:
            return Line(_sum(op, a.slope, b.slope), _sum(op, a.offset, b.offset))
        case "neg", [Line() as a]:
            return Line(_negative(a.slope), _negative(a.offset))
        case "mul", [Line() as a, Line() as b] if _is_free(a) or _is_free(b):
            line, factor = (b, a.offset) if _is_free(a) else (a, b.offset)
            return Line(_product(factor, line.slope), _product(factor, line.offset))
        case "div", [Line() as a, Line() as b] if _is_free(b):
            return Line(_quotient(a.slope, b.offset), _quotient(a.offset, b.offset))
        case "pow", [Line() as a, Line(offset=exponent)] if exponent is ONE:
            return a
    return None


def _sum(op: str, a: Expr, b: Expr) -> Expr:
    if b is ZERO:
        return a
    if a is ZERO:
        return b if op == "add" else _negative(b)
    return apply(op, a, b)


def _negative(a: Expr) -> Expr:
    return a if a is ZERO else apply("neg", a)


def _product(factor: Expr, a: Expr) -> Expr:
    return a if a is ZERO else factor if a is ONE else apply("mul", factor, a)


def _quotient(a: Expr, divisor: Expr) -> Expr:
    return a if a is ZERO else apply("div", a, divisor)
