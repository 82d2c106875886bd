"""functor: what a kernel computes at one pixel, as Exprs; the mathematics between a formula and its text.

    >>> functor(Formula(lambda x, w: -torch.abs(x - w)).mathematics).gradients["x"]
    Expr('-sign_times(user_x - user_w, c0)')

Parts of a reduction's state that only count (a mean's ``n``) are not computed in a loop: how many values a field has is
known. What a gradient takes from an output alone (its gradient, the state) is computed once per output: a *context*.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from ..expr import Expr, differentiate, share, simplify
from ..expr.differentiate import pull, times
from ..expr.expr import apply, const, var
from ..expr.simplify import substitute
from ..expr.verify import kind
from ..mathematics import Mathematics
from ..plan.schedule import cost
from ..reductions import Reduction
from .contract import as_number, contracted, fused

GRADIENT, COUNT = "g", "count"  # the gradient of an output, the number of values in its field
USER = "user_"  # in front of the names of the pixel and the operands, which may be any; none of ours begins with it
OUTER = "outer_"  # in front of those that the epilogue sees
INNER = "inner_"  # in front of the parts of the state of a channel
ZERO = const(0.0)
FEW = 6  # variables, up to which derivatives are also taken one by one


@dataclass(frozen=True)
class Functor:
    """Everything that a kernel computes, over ``user_*``, ``outer_*``, ``state_*``, ``c*``, ``g`` and ``count``.

    Args:
        parts: the parts of the state that are folded, those of the result first.
        result_parts: how many of them the result alone needs.
        saved: the parts that the backward pass needs.
        identity, step: for each part.
        inner_identity, inner_step: for each part of the state of one channel, ``inner_*``, where channels are reduced
            one by one; ``step`` is then of that state.
        result: of the state, ``count`` and what the epilogue sees.
        contexts: for each context, of ``g``, the saved parts, ``count`` and what the epilogue sees.
        gradients: by the names of the map's variables, of contexts and variables.
    """

    parts: tuple[str, ...]
    result_parts: int
    saved: tuple[str, ...]
    identity: tuple[Expr, ...]
    step: tuple[Expr, ...]
    result: Expr
    contexts: tuple[Expr, ...]
    gradients: dict[str, Expr]
    inner: tuple[str, ...] = ()
    inner_identity: tuple[Expr, ...] = ()
    inner_step: tuple[Expr, ...] = ()

    @property
    def is_direct(self) -> bool:
        """Whether gradients need nothing of an output but its own gradient."""
        return self.contexts in ((), (var(GRADIENT),))

    @property
    def counts(self) -> bool:
        """Whether the number of values in a field is needed."""
        return COUNT in {name for expr in (self.result, *self.contexts) for name in expr.names()}


@functools.lru_cache(maxsize=256)
def functor(m: Mathematics) -> Functor:
    """The functor of a formula."""
    r, values = m.reduction, [as_number(_renamed(simplify(value))) for value in m.values]
    counted = {
        part
        for part, step, one in zip(r.state, r.exprs["step"], r.exprs["identity"], strict=True)
        if _counts(part, step, one)
    }
    steps = dict(zip(r.state, r.exprs["step"], strict=True))
    results = dict(zip(m.accumulators, r.exprs["result"], strict=True))
    first = _closure({n for acc in m.finish.names() if acc in results for n in results[acc].names()}, steps) - counted
    then = _closure(set(m.kept), steps) - counted - first
    parts = tuple(p for p in r.state if p in first) + tuple(p for p in r.state if p in then)
    names = {part: var(COUNT if part in counted else f"state_{part}") for part in r.state}
    known = {acc: substitute(result, names) for acc, result in results.items()}
    known |= {v.name: var(OUTER + v.name) for v in m.outer}
    identity = dict(zip(r.state, r.exprs["identity"], strict=True))
    of_channel = {} if m.inner is None else {part: var(INNER + part) for part in m.inner.state}
    all_names = _Names(names, known, of_channel)
    own = values if m.inner is None else _result(m.inner, all_names)
    folded = names | dict(zip(r.values, own, strict=True))
    contexts, gradients = _backward(m, values, all_names)
    inner: dict[str, Any] = {}
    if m.inner is not None:
        within = of_channel | dict(zip(m.inner.values, values, strict=True))
        steps_of_channel = [substitute(step, within) for step in m.inner.exprs["step"]]
        inner = {
            "inner": m.inner.state, "inner_identity": m.inner.exprs["identity"],
            "inner_step": tuple(map(fused, contracted(steps_of_channel, values))),
        }  # fmt: skip
    return Functor(
        parts=parts,
        result_parts=sum(p in first for p in parts),
        saved=tuple(p for p in parts if p in m.kept),
        identity=tuple(identity[p] for p in parts),
        step=tuple(fused(e) for e in contracted([substitute(steps[p], folded) for p in parts], own)),
        result=fused(as_number(simplify(substitute(m.finish, known)))),
        contexts=contexts,
        gradients=gradients,
        **inner,
    )


@dataclass(frozen=True)
class _Names:
    """What stands for the parts of the state, for what the epilogue knows, and for the parts of a channel's state."""

    state: dict[str, Expr]
    known: dict[str, Expr]
    of_channel: dict[str, Expr]


def _counts(part: str, step: Expr, identity: Expr) -> bool:
    return step is apply("add", var(part), const(1.0)) and identity is ZERO


def _closure(needed: set[str], steps: dict[str, Expr]) -> set[str]:
    """The parts without which those needed cannot be folded."""
    while True:
        more = needed | {name for part in needed for name in steps[part].names() if name in steps}
        if more == needed:
            return needed
        needed = more


def _backward(m: Mathematics, values: list[Expr], names: _Names) -> tuple[tuple[Expr, ...], dict[str, Expr]]:
    outer = {GRADIENT} | {OUTER + v.name for v in m.outer}
    outer |= {str(v.value) for v in (*names.state.values(), *names.of_channel.values())}
    finishing = [simplify(substitute(m.finish_slopes[acc], names.known)) for acc in m.accumulators]
    slopes_of_results = _adjoints(m.reduction, values if m.inner is None else _result(m.inner, names), names.state)
    owners = zip(slopes_of_results, m.reduction.owner, strict=True)
    slopes_of_values = [times(finishing[owner], adjoint) for adjoint, owner in owners]
    if m.inner is not None:  # what the channels' reductions take are the results of that over the taps
        of_taps = zip(_adjoints(m.inner, values, names.of_channel), m.inner.owner, strict=True)
        slopes_of_values = [times(slopes_of_values[owner], adjoint) for adjoint, owner in of_taps]
    adjoints = [_weighed(slope, outer) for slope in slopes_of_values]
    own = dict(m.slopes)
    variables = [v.name for v in m.variables]

    def slopes() -> list[list[Expr]]:
        return [
            [ZERO] * len(values) if v.frozen
            else [_renamed(simplify(slope)) for slope in own[v.name]] if v.name in own
            else [_slope(value, v.name) for value in values]
            for v in m.variables
        ]  # fmt: skip

    candidates = []
    if len(variables) <= FEW or own:
        plain = [_sum([times(a, slope) for a, slope in zip(adjoints, each, strict=True)]) for each in slopes()]
        candidates = [plain, share(plain, outer)]
    if len(variables) > 3 and not own:
        wanted = [USER + v.name for v in m.variables]
        pulled = zip(*(pull(value, wanted, a) for value, a in zip(values, adjoints, strict=True)), strict=True)
        candidates.append([ZERO if v.frozen else _sum(list(p)) for v, p in zip(m.variables, pulled, strict=True)])
    shared = min(candidates, key=lambda exprs: cost(*exprs))
    contexts: dict[Expr, Expr] = {}
    hoisted = [simplify(_hoist(expr, outer, contexts)) for expr in shared]
    gradients = dict(zip(variables, map(fused, contracted(hoisted, values)), strict=True))
    return tuple(fused(simplify(expr)) for expr in contexts), gradients


TAME = {
    "var", "const", "add", "sub", "mul", "neg", "fma", "sign_times", "sign", "abs", "maximum", "minimum", "where",
    "real", "lt", "le", "gt", "ge", "eq", "ne", "logical_and", "logical_or", "logical_xor", "logical_not", "sin", "cos",
    "tanh", "sigmoid", "atan", "erf", "clamp", "clamp_min", "clamp_max", "relu", "square", "detach", "floor", "round",
}  # fmt: skip


@functools.lru_cache(maxsize=1024)
def is_tame(expr: Expr) -> bool:
    """Whether an Expr is a number wherever its variables are: then what is multiplied by a context of 0 is 0."""
    return {node.op for node in expr.nodes()} <= TAME


def _adjoints(r: Reduction, values: list[Expr], state: dict[str, Expr]) -> list[Expr]:
    """The derivative of a reduction's result in each of its values."""
    found = state | dict(zip(r.values, values, strict=True))
    return [simplify(substitute(adjoint, found)) for adjoint in r.exprs["adjoint"]]


def _result(inner: Reduction, names: _Names) -> list[Expr]:
    return [substitute(result, names.of_channel) for result in inner.exprs["result"]]


def _slope(value: Expr, name: str) -> Expr:
    return differentiate(value, USER + name) if kind(value) == "real" else ZERO


def _sum(terms: list[Expr]) -> Expr:
    present = [term for term in terms if term is not ZERO]
    return functools.reduce(lambda a, b: apply("add", a, b), present) if present else ZERO


def _weighed(adjoint: Expr, outer: set[str]) -> Expr:
    """``g * adjoint``, so grouped that what depends on the output alone comes together."""
    g = var(GRADIENT)
    if adjoint is const(1.0):
        return g
    if adjoint is ZERO:
        return ZERO
    if adjoint.op == "mul":
        a, b = adjoint.args
        return apply("mul", _weighed(a, outer), b) if _is_outer(a, outer) else apply("mul", _weighed(b, outer), a)
    if adjoint.op == "div" and _is_outer(adjoint.args[1], outer):
        return apply("mul", apply("div", g, adjoint.args[1]), adjoint.args[0])
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
