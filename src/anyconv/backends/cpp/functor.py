"""functor: what a kernel computes at one pixel, as Exprs; the mathematics between a formula and its text.

    >>> functor(parse("-abs(x - w)"), "x", ("w",), BUILTIN["sum"]).gradients["x"]
    Expr('-sign_times(user_x - user_w, c0)')

Parts of a reduction's state that only count (a mean's ``n``) are not computed in a loop: how many values a field has is
known. What a gradient takes from an output alone (its gradient, the state) is computed once per output: a *context*.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ...expr import Expr, differentiate, share, simplify
from ...expr.differentiate import times
from ...expr.expr import apply, const, var
from ...expr.simplify import substitute
from ...expr.verify import kind
from ...plan.schedule import cost
from ...reductions import Reduction
from .spell import as_number, contracted, fused

GRADIENT, COUNT = "g", "count"  # the gradient of an output, the number of values in its field
USER = "user_"  # in front of the names of the pixel and the operands, which may be any; none of ours begins with it


@dataclass(frozen=True)
class Functor:
    """Everything that a kernel computes, over ``user_*`` (pixel, operands), ``state_*``, ``c*``, ``g`` and ``count``.

    Args:
        parts: the parts of the state that are folded, those of the result first.
        result_parts: how many of them the result alone needs.
        saved: the parts that the backward pass needs.
        identity, step: for each part.
        result: of the state and ``count``.
        contexts: for each context, of ``g``, the saved parts and ``count``.
        gradients: by the names of the pixel and of the operands, of contexts, pixel and operands.
    """

    parts: tuple[str, ...]
    result_parts: int
    saved: tuple[str, ...]
    identity: tuple[Expr, ...]
    step: tuple[Expr, ...]
    result: Expr
    contexts: tuple[Expr, ...]
    gradients: dict[str, Expr]

    @property
    def counts(self) -> bool:
        """Whether the number of values in a field is needed."""
        return COUNT in {name for expr in (self.result, *self.contexts) for name in expr.names()}


@functools.lru_cache(maxsize=256)
def functor(expr: Expr, pixel: str, operands: tuple[str, ...], reduction: Reduction) -> Functor:
    """The functor of a map and its reduction."""
    r, value = reduction, as_number(_renamed(simplify(expr)))
    counted = {
        part
        for part, step, one in zip(r.state, r.exprs["step"], r.exprs["identity"], strict=True)
        if _counts(part, step, one)
    }
    steps = dict(zip(r.state, r.exprs["step"], strict=True))
    first = _closure(set(r.exprs["result"][0].names()), steps) - counted
    then = _closure(set(r.saved), steps) - counted - first
    parts = tuple(p for p in r.state if p in first) + tuple(p for p in r.state if p in then)
    names = {part: var(COUNT if part in counted else f"state_{part}") for part in r.state}
    identity = dict(zip(r.state, r.exprs["identity"], strict=True))
    contexts, gradients = _backward(value, pixel, operands, r, names)
    return Functor(
        parts=parts,
        result_parts=sum(p in first for p in parts),
        saved=tuple(p for p in parts if p in r.saved),
        identity=tuple(identity[p] for p in parts),
        step=tuple(fused(e) for e in contracted([substitute(steps[p], {**names, "v": value}) for p in parts], value)),
        result=fused(substitute(r.exprs["result"][0], names)),
        contexts=contexts,
        gradients=gradients,
    )


def _counts(part: str, step: Expr, identity: Expr) -> bool:
    return step is apply("add", var(part), const(1.0)) and identity is const(0.0)


def _closure(needed: set[str], steps: dict[str, Expr]) -> set[str]:
    """The parts without which those needed cannot be folded."""
    while True:
        more = needed | {name for part in needed for name in steps[part].names() if name in steps}
        if more == needed:
            return needed
        needed = more


def _backward(
    value: Expr, pixel: str, operands: tuple[str, ...], r: Reduction, names: dict[str, Expr]
) -> tuple[tuple[Expr, ...], dict[str, Expr]]:
    outer = {GRADIENT} | {str(v.value) for v in names.values()}
    adjoint = _weighed(simplify(substitute(r.exprs["adjoint"][0], {**names, "v": value})), outer)
    names_ = (pixel, *operands)
    slopes = [differentiate(value, USER + n) if kind(value) == "real" else const(0.0) for n in names_]
    plain = [times(adjoint, slope) for slope in slopes]
    shared = min((plain, share(plain, outer)), key=lambda exprs: cost(*exprs))
    found: dict[Expr, Expr] = {}
    hoisted = [simplify(_hoist(expr, outer, found)) for expr in shared]
    gradients = dict(zip(names_, map(fused, contracted(hoisted, value)), strict=True))
    return tuple(fused(simplify(expr)) for expr in found), gradients


def _weighed(adjoint: Expr, outer: set[str]) -> Expr:
    """``g * adjoint``, so grouped that what depends on the output alone comes together."""
    g = var(GRADIENT)
    if adjoint is const(1.0):
        return g
    if adjoint.op == "mul":
        a, b = adjoint.args
        return apply("mul", _weighed(a, outer), b) if _is_outer(a, outer) else apply("mul", _weighed(b, outer), a)
    if adjoint.op == "where" and all(_is_outer(branch, outer) for branch in adjoint.args[1:]):
        return apply("where", adjoint.args[0], *(apply("mul", g, branch) for branch in adjoint.args[1:]))
    return apply("mul", g, adjoint)


def _is_outer(expr: Expr, outer: set[str]) -> bool:
    return set(expr.names()) <= outer


def _renamed(expr: Expr) -> Expr:
    done: dict[Expr, Expr] = {}
    for node in expr.nodes():
        new = apply(node.op, *(done[arg] for arg in node.args)) if node.args else node
        done[node] = var(USER + str(node.value)) if node.op == "var" else new
    return done[expr]


def _hoist(expr: Expr, outer: set[str], found: dict[Expr, Expr]) -> Expr:
    """``expr`` with every largest part that depends on the output alone replaced by a context."""
    nodes = expr.nodes()
    reads: dict[Expr, set[str]] = {}
    for node in nodes:
        own = {str(node.value)} if node.op == "var" else set()
        reads[node] = own.union(*(reads[arg] for arg in node.args))
    hoisted = {n for n in nodes if reads[n] and reads[n] <= outer and kind(n) == "real"}
    largest = {arg for n in nodes if n not in hoisted for arg in n.args if arg in hoisted} | ({expr} & hoisted)
    done: dict[Expr, Expr] = {}
    for node in nodes:
        if node in largest:
            done[node] = found.setdefault(node, var(f"c{len(found)}"))
        else:
            done[node] = apply(node.op, *(done[arg] for arg in node.args)) if node.args else node
    return done[expr]
