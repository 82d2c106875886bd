"""simplify: rewrite rules as a table of texts, and one engine.

    >>> str(simplify(parse("x * 1 - (-w)")))
    'x + w'

Only rules that keep every value to the last bit are here, infinities, NaN and the sign of zero included (so `x + 0`
and `x * 0` stay), with powers as torch computes them.
"""

from __future__ import annotations

import functools

from .evaluate import PLAIN, evaluate
from .expr import Expr, apply, const
from .parse import read
from .verify import verify

RULES = (  # a, b stand for any expression, c for any condition
    ("a * 1", "a"), ("1 * a", "a"), ("a / 1", "a"), ("a - 0", "a"), ("a ** 1", "a"),
    ("-(-a)", "a"), ("a * -1", "-a"), ("-1 * a", "-a"), ("a / -1", "-a"),
    ("a + -b", "a - b"), ("-a + b", "b - a"), ("a - -b", "a + b"),
    ("-a * -b", "a * b"), ("-a * b", "-(a * b)"), ("a * -b", "-(a * b)"),
    ("-a / -b", "a / b"), ("-a / b", "-(a / b)"), ("a / -b", "-(a / b)"),
    ("a ** 0", "1"), ("a ** 2", "a * a"), ("a ** 3", "a * a * a"), ("a ** -1", "1 / a"), ("a ** -2", "1 / (a * a)"),
    ("a ** 0.5", "sqrt(a)"), ("a ** -0.5", "1 / sqrt(a)"), ("square(a)", "a * a"), ("reciprocal(a)", "1 / a"),
    ("where(c, a, a)", "a"), ("where(True, a, b)", "a"), ("where(False, a, b)", "b"),
)  # fmt: skip


def simplify(expr: Expr) -> Expr:
    """An equal expression, with constants folded and the rules applied until none fits."""
    done: dict[Expr, Expr] = {}
    for node in expr.nodes():
        done[node] = _settle(apply(node.op, *(done[arg] for arg in node.args)) if node.args else node)
    return verify(done[expr])


def substitute(template: Expr, values: dict[str, Expr]) -> Expr:
    """``template`` with ``values`` in place of its variables, simplified; the values are simple already."""
    if template.op == "var":
        return values[str(template.value)]
    if template.op == "const":
        return template
    return _settle(apply(template.op, *(substitute(arg, values) for arg in template.args)))


def _settle(node: Expr) -> Expr:
    """The node, whose arguments are simple, after every rule that fits it and what comes of it."""
    while (better := _once(node)) is not node:
        node = better
    return node


def _once(node: Expr) -> Expr:
    if not node.args:
        return node
    if node.op in PLAIN and all(arg.op == "const" for arg in node.args):
        return const(evaluate(node, {}, PLAIN))
    for pattern, replacement in _rules().get(node.op, ()):
        found: dict[str, Expr] = {}
        if _match(pattern, node, found):
            return substitute(replacement, found)
    return node


@functools.cache
def _rules() -> dict[str, list[tuple[Expr, Expr]]]:
    table: dict[str, list[tuple[Expr, Expr]]] = {}
    for pattern, replacement in RULES:
        left = read(pattern)
        table.setdefault(left.op, []).append((left, read(replacement)))
    return table


def _match(pattern: Expr, node: Expr, found: dict[str, Expr]) -> bool:
    if pattern.op == "var":
        return found.setdefault(str(pattern.value), node) is node
    if pattern.op == "const" or pattern.op != node.op:
        return pattern is node
    return all(_match(p, n, found) for p, n in zip(pattern.args, node.args, strict=True))
