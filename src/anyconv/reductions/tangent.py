"""tangent: the reduction that gives the derivative of a reduction's result along a direction.

    >>> tangent(MAX).reduction.name, tangent(LOGSUMEXP).reduction.name
    ('argmax', 'softmax')

Values ``v`` that move by ``dv`` move the result by ``sum of adjoint(state, v) * dv``. That is a reduction again, of the
values and their derivatives: a maximum moves as the value at the best key does, a logsumexp by a weighted mean. What is
not in the table is folded with its derivative beside it, by the chain rule.

Its own adjoint in ``dv`` is the old adjoint, and in ``v`` the derivative of the old adjoint along the direction, since
second derivatives are symmetric. So a tangent is differentiated like any reduction, which gives second derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import FormulaError
from ..expr import Expr, differentiate, simplify
from ..expr.differentiate import ZERO, times
from ..expr.expr import apply, var
from .builtin import ARGMAX, ARGMIN, FACTOR, LOGSUMEXP, MAX, MEAN, MIN, PROD, SOFTMAX, SUM, norm, norm_ratio
from .reduction import Reduction

VALUE, MOVED = False, True


@dataclass(frozen=True)
class Tangent:
    """A reduction, and what it takes of a map that returns values and knows their derivatives.

    Args:
        takes: for each value of the reduction, the number of a value of the old one, and whether its derivative is
            meant.
    """

    reduction: Reduction
    takes: tuple[tuple[int, bool], ...]


# dy is the sum over i of dv_i times the product of the others: q sums dv / v over what is not 0, r over what is 0
_REST = (
    FACTOR + "n = z - real(v == 0); x = e - exponent(f); h = trunc(x / 2); "
    "{sums}where(n > 1, m * 0, ldexp(ldexp(m / mantissa(f) * {factor}, h), x - h))"
)
_PROD = Reduction(
    "prod'",
    state=("m", "e", "z", "q", "r"),
    values=("v", "dv"),
    identity=(*PROD.texts("identity"), "0", "0"),
    step=(
        *PROD.texts("step"),
        FACTOR + "q + where(v == 0, 0, dv / f)",
        FACTOR + "r + where(v == 0, dv / f, 0)",
    ),
    merge=(*PROD.texts("merge"), "a_q + b_q", "a_r + b_r"),
    result="h = trunc(e / 2); where(z > 1, m * 0, ldexp(ldexp(m * where(z > 0, r, q), h), e - h))",
    adjoint=(
        _REST.format(
            sums="u = q - where(v == 0, 0, dv / f); w = r - where(v == 0, dv / f, 0); ", factor="where(n > 0, w, u)"
        ),
        PROD.texts("adjoint")[0],
    ),
)

# beside softmax's state, p sums the weighed moves of values, q those of scores
_SHARE = "d = where(score == m, 1, exp(-abs(score - m))); "
_WEIGHT = "g = where(score == m, 1, exp(score - m)) / s; "


def _weighed(part: str, new: str) -> str:
    return _SHARE + f"where(score > m, {part} * d + {new}, {part} + d * ({new}))"


def _weighed_merge(part: str) -> str:
    sides = (
        f"{side}_{part} * where({side}_m == maximum(a_m, b_m), 1, exp({side}_m - maximum(a_m, b_m)))" for side in "ab"
    )
    return " + ".join(sides)


_SOFTMAX = Reduction(
    "softmax'",
    state=(*SOFTMAX.state, "p", "q"),
    values=("score", "value", "dscore", "dvalue"),
    identity=(*SOFTMAX.texts("identity"), "0", "0"),
    step=(*SOFTMAX.texts("step"), _weighed("p", "dvalue + value * dscore"), _weighed("q", "dscore")),
    merge=(*SOFTMAX.texts("merge"), _weighed_merge("p"), _weighed_merge("q")),
    result="p / s - t / s * (q / s)",
    adjoint=(
        _WEIGHT + "g * (dvalue - p / s + t / s * (q / s) + (value - t / s) * (dscore - q / s))",
        _WEIGHT + "g * (dscore - q / s)",
        _WEIGHT + "g * (value - t / s)",
        _WEIGHT + "g",
    ),
)


def _norm(p: float) -> Reduction:
    """Of ``norm(p)``: beside its state, q sums ``sign(v) * (abs(v) / m) ** (p - 1) * dv``."""
    of, slope = norm(p), f"sign(v) * r ** {p - 1}"
    ratio = norm_ratio("1")
    merged = (f"a_q * where(a_m == t, 1, a_m / t) ** {p - 1}", f"b_q * where(b_m == t, 1, b_m / t) ** {p - 1}")
    size = f"where(v == 0, 0, where(abs(v) == m, 1, abs(v) / m)) * s ** {-1 / p}"  # abs(v) / y
    # what is flat where it is 0: below 2 the curvature of a size of 0 would be infinite, from 2 on it is a number
    flat = "v" if p < 2 else "m"
    bend = f"u ** {p - 2} * dv - sign(v) * u ** {p - 1} * (q * s ** {1 / p - 1})"
    return Reduction(
        f"{of.name}'",
        state=(*of.state, "q"),
        values=("v", "dv"),
        identity=(*of.texts("identity"), "0"),
        step=(
            *of.texts("step"),
            ratio + f"where(a > m, q * r ** {p - 1} + sign(v) * dv, q + where(v == 0, 0, {slope} * dv))",
        ),
        merge=(*of.texts("merge"), f"t = maximum(a_m, b_m); {' + '.join(merged)}"),
        result=f"where(m == 0, 0, q * s ** {1 / p - 1})",
        adjoint=(f"u = {size}; where({flat} == 0, 0, {p - 1} / (m * s ** {1 / p}) * ({bend}))", of.texts("adjoint")[0]),
    )


_ROWS = {
    SUM.name: (SUM, Tangent(SUM, ((0, MOVED),))),
    MEAN.name: (MEAN, Tangent(MEAN, ((0, MOVED),))),
    MAX.name: (MAX, Tangent(ARGMAX, ((0, VALUE), (0, MOVED)))),
    MIN.name: (MIN, Tangent(ARGMIN, ((0, VALUE), (0, MOVED)))),
    ARGMAX.name: (ARGMAX, Tangent(ARGMAX, ((0, VALUE), (1, MOVED)))),
    ARGMIN.name: (ARGMIN, Tangent(ARGMIN, ((0, VALUE), (1, MOVED)))),
    LOGSUMEXP.name: (LOGSUMEXP, Tangent(SOFTMAX, ((0, VALUE), (0, MOVED)))),
    SOFTMAX.name: (SOFTMAX, Tangent(_SOFTMAX, ((0, VALUE), (1, VALUE), (0, MOVED), (1, MOVED)))),
    PROD.name: (PROD, Tangent(_PROD, ((0, VALUE), (0, MOVED)))),
}


def tangent(r: Reduction) -> Tangent:
    """The tangent of a reduction with one result.

    Raises:
        FormulaError: it is a tangent of the table itself, whose derivative nobody has written down.
    """
    known, row = _ROWS.get(r.name, (None, None))
    if row is not None and r == known:
        return row
    if r.name.startswith("norm(") and r.name.endswith(")"):
        p = float(r.name[5:-1])
        if r == norm(p):
            return Tangent(_norm(p), ((0, VALUE), (0, MOVED)))
    if r.name.endswith("'"):
        raise FormulaError(
            f"the reduction {r.name} is the derivative of one, and has none of its own",
            way_out="Derivatives of this order are not to be had for prod, norm, softmax and logsumexp.",
        )
    return _beside(r)


def _beside(r: Reduction) -> Tangent:
    """The values and their derivatives, folded side by side."""
    d = "d_"
    while any(name.startswith(d) for name in (*r.state, *r.values)):
        d = "d" + d
    joined = [side + part for side in ("a_", "b_") for part in r.state]
    moves = {name: var(d + name) for name in (*r.state, *r.values)}
    moves |= {side + part: var(side + d + part) for side in ("a_", "b_") for part in r.state}
    still = _still(r, moves)
    for part in still:
        moves |= dict.fromkeys((part, "a_" + part, "b_" + part), ZERO)
    moving = [i for i, part in enumerate(r.state) if part not in still]

    def moved(exprs: Sequence[Expr], names: Sequence[str]) -> tuple[Expr, ...]:
        return tuple(_along(expr, names, moves) for expr in exprs)

    inside = (*r.state, *r.values)
    steps, merges = moved(r.exprs["step"], inside), moved(r.exprs["merge"], joined)
    adjoints = moved(r.exprs["adjoint"], inside)
    dual = Reduction(
        f"d({r.name})",
        state=(*r.state, *(d + r.state[i] for i in moving)),
        values=(*r.values, *(d + value for value in r.values)),
        identity=_texts((*r.exprs["identity"], *(ZERO for _ in moving))),
        step=_texts((*r.exprs["step"], *(steps[i] for i in moving))),
        merge=_texts((*r.exprs["merge"], *(merges[i] for i in moving))),
        result=_texts(moved(r.exprs["result"], r.state)),
        adjoint=_texts((*adjoints, *r.exprs["adjoint"])),
    )
    count = len(r.values)
    return Tangent(dual, tuple((i, kind) for kind in (VALUE, MOVED) for i in range(count)))


def _still(r: Reduction, moves: dict[str, Expr]) -> set[str]:
    """The parts whose derivative is 0 whatever is folded: those that count, or carry a scale apart."""
    still = set(r.state)
    while True:
        known = moves | dict.fromkeys(still, ZERO)
        after = {
            part
            for part, step in zip(r.state, r.exprs["step"], strict=True)
            if part in still and _along(step, (*r.state, *r.values), known) is ZERO
        }
        if after == still:
            return still
        still = after


def _along(expr: Expr, names: Sequence[str], moves: dict[str, Expr]) -> Expr:
    """The derivative of an Expr along a direction: the sum over its names of slope times move."""
    total = ZERO
    for name in expr.names():
        if name in names and moves[name] is not ZERO:
            term = times(differentiate(expr, name), moves[name])
            total = term if total is ZERO else apply("add", total, term)
    return simplify(total)


def _texts(exprs: Sequence[Expr]) -> tuple[str, ...]:
    return tuple(map(str, exprs))


def split(r: Reduction) -> tuple[Reduction, ...]:
    """The reductions that were joined in one, or it alone."""
    return r.of or (r,)
