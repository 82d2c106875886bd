"""contract: what a processor does in one instruction, as one operation: fused products and sums, a sign that is moved.

>>> print(contracted([parse("x * w + b")], [])[0])
fma(x, w, b)
"""

from __future__ import annotations

from collections import Counter

from ..expr import Expr
from ..expr.expr import apply
from ..expr.verify import kind


def fused(expr: Expr) -> Expr:
    """``expr`` with each product by a sign as one operation: the sign is moved, not multiplied."""
    done: dict[Expr, Expr] = {}
    for node in expr.nodes():
        args = [done[arg] for arg in node.args]
        new = apply(node.op, *args) if node.args else node
        if new.op == "mul":
            for a, b in (args, args[::-1]):
                if a.op == "sign":
                    new = apply("sign_times", a.args[0], b)
                    break
        done[node] = new
    return done[expr]


def contracted(exprs: list[Expr], values: list[Expr]) -> list[Expr]:
    """The same with each product that is used once, in a sum, as one operation with it: rounded once, not twice.

    A difference of two products in the ``values`` stays: ``a * a - b * b`` is zero where a and b are equal, and a root
    of it is a number. Their own nodes come out alike in every list, and so compare equal to themselves.
    """
    order = list(dict.fromkeys(node for expr in exprs for node in expr.nodes()))
    own = list(dict.fromkeys(node for value in values for node in value.nodes()))
    own_uses = Counter(arg for node in own for arg in node.args)
    uses = Counter(arg for node in order for arg in node.args) + Counter(exprs)
    kept = set(own)
    done: dict[Expr, Expr] = {}
    for node in order:
        done[node] = apply(node.op, *(done[arg] for arg in node.args)) if node.args else node
        products = [i for i, arg in enumerate(node.args) if node.op in ("add", "sub") and arg.op == "mul"]
        if len(products) != 1 and (node in kept or not products):
            continue
        for i in products:
            arg, other = node.args[i], node.args[1 - i]
            alone = own_uses[arg] == 1 if node in kept else uses[arg] == 1 and arg not in kept
            if alone and not any(factor.op == "sign" for factor in arg.args):
                done[node] = _contraction(node.op, i, [done[factor] for factor in arg.args], done[other])
                break
    return [done[expr] for expr in exprs]


def _contraction(op: str, place: int, factors: list[Expr], rest: Expr) -> Expr:
    a, b = factors
    if op == "sub" and place == 1:
        return apply("fma", apply("neg", a), b, rest)
    return apply("fma", a, b, apply("neg", rest) if op == "sub" else rest)


def as_number(expr: Expr) -> Expr:
    """A truth value as the number that it counts for."""
    return apply("real", expr) if kind(expr) == "bool" else expr
