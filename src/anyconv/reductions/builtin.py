"""The reductions that ship: sum, mean, prod, max, min, logsumexp, norm(p); of two values softmax, argmax, argmin.

Their rules are a contract, the same on every backend: ties of max and min share the gradient evenly (as
``torch.amax``); a product counts its zeros instead of dividing by them and carries its exponent apart; logsumexp is
shifted by the running maximum and its all ``-inf`` field has a zero gradient; NaN stays in the fields that see it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import FormulaError
from .reduction import Reduction, joined

SUM = Reduction("sum", state=("s",), identity=("0",), step=("s + v",), merge=("a_s + b_s",), result="s", adjoint="1")

MEAN = Reduction(
    "mean",
    state=("s", "n"),
    identity=("0", "0"),
    step=("s + v", "n + 1"),
    merge=("a_s + b_s", "a_n + b_n"),
    result="s / n",
    adjoint="1 / n",
)

# m * 2**e is the product of the values that are not zero, 0.5 <= |m| < 1; a zero counts in z and leaves its sign in m
FACTOR = "f = where(v == 0, copysign(1, v), v); "
PROD = Reduction(
    "prod",
    state=("m", "e", "z"),
    identity=("0.5", "1", "0"),
    step=(
        FACTOR + "mantissa(m * mantissa(f))",
        FACTOR + "e + exponent(f) + exponent(m * mantissa(f))",
        "z + real(v == 0)",
    ),
    merge=("mantissa(a_m * b_m)", "a_e + b_e + exponent(a_m * b_m)", "a_z + b_z"),
    # in two halves, since 2**e alone may be out of range where m * 2**e is not
    result="h = trunc(e / 2); where(z > 0, m * 0, ldexp(ldexp(m, h), e - h))",
    adjoint=FACTOR + "r = e - exponent(f); h = trunc(r / 2); "
    "where(z > real(v == 0), m * 0, ldexp(ldexp(m / mantissa(f), h), r - h))",
)


def _extreme(name: str, beats: str, better: str, identity: str) -> Reduction:
    """max or min: ``m`` the best value so far, ``n`` how many values share it."""
    return Reduction(
        name,
        state=("m", "n"),
        identity=(identity, "0"),
        step=(f"{better}(m, v)", f"where(v {beats} m, 1, n + real(v == m))"),
        merge=(
            f"{better}(a_m, b_m)",
            f"where(a_m {beats} b_m, a_n, where(b_m {beats} a_m, b_n, a_n + b_n))",
        ),
        result="m",
        adjoint="where(v == m, 1 / n, where(isnan(m), nan, 0))",
    )


MAX = _extreme("max", ">", "maximum", "-inf")
MIN = _extreme("min", "<", "minimum", "inf")

# m the largest value so far, s the sum of exp(value - m); equal infinities differ by 0, not by NaN
LOGSUMEXP = Reduction(
    "logsumexp",
    state=("m", "s"),
    identity=("-inf", "0"),
    step=(
        "maximum(m, v)",
        "d = where(v == m, 1, exp(-abs(v - m))); where(v > m, s * d + 1, s + d)",
    ),
    merge=(
        "maximum(a_m, b_m)",
        "t = maximum(a_m, b_m); a_s * where(a_m == t, 1, exp(a_m - t)) + b_s * where(b_m == t, 1, exp(b_m - t))",
    ),
    result="m + log(s)",
    adjoint="where(v == m, 1, exp(v - m)) * where(m == -inf, 0, 1 / s)",
)

# of (score, value): the mean of the values, weighed by exp(score); m and s as above, t the weighed sum
_SHARE = "d = where(score == m, 1, exp(-abs(score - m))); "
_LEFT, _RIGHT = (f"where({side}_m == maximum(a_m, b_m), 1, exp({side}_m - maximum(a_m, b_m)))" for side in "ab")
_WEIGHT = "where(score == m, 1, exp(score - m)) / s"
SOFTMAX = Reduction(
    "softmax",
    state=("m", "s", "t"),
    values=("score", "value"),
    identity=("-inf", "0", "0"),
    step=(
        "maximum(m, score)",
        _SHARE + "where(score > m, s * d + 1, s + d)",
        _SHARE + "where(score > m, t * d + value, t + d * value)",
    ),
    merge=("maximum(a_m, b_m)", f"a_s * {_LEFT} + b_s * {_RIGHT}", f"a_t * {_LEFT} + b_t * {_RIGHT}"),
    result="t / s",
    adjoint=(f"{_WEIGHT} * (value - t / s)", _WEIGHT),
)


def _selection(name: str, beats: str, better: str, identity: str) -> Reduction:
    """Of (key, value): the value at the best key ``m``; the mean ``t / n`` of all values that share it."""
    return Reduction(
        name,
        state=("m", "t", "n"),
        values=("key", "value"),
        identity=(identity, "0", "0"),
        step=(
            f"{better}(m, key)",
            f"where(key {beats} m, value, where(key == m, t + value, t))",
            f"where(key {beats} m, 1, n + real(key == m))",
        ),
        merge=(
            f"{better}(a_m, b_m)",
            f"where(a_m {beats} b_m, a_t, where(b_m {beats} a_m, b_t, a_t + b_t))",
            f"where(a_m {beats} b_m, a_n, where(b_m {beats} a_m, b_n, a_n + b_n))",
        ),
        result="where(isnan(m), nan, t / n)",
        adjoint=("0", "where(key == m, 1 / n, where(isnan(m), nan, 0))"),
    )


ARGMAX = _selection("argmax", ">", "maximum", "-inf")
ARGMIN = _selection("argmin", "<", "minimum", "inf")

BUILTIN = {r.name: r for r in (SUM, MEAN, PROD, MAX, MIN, LOGSUMEXP)}
OF_TWO = {r.name: r for r in (SOFTMAX, ARGMAX, ARGMIN)}


def norm(p: float) -> Reduction:
    """The p-norm of the values, ``(sum |v| ** p) ** (1 / p)``, which neither over- nor underflows on the way.

        >>> Formula(lambda x: x, reduce=norm(2))
        Formula(y = norm(2)(x))

    Raises:
        FormulaError: ``p`` is no positive number.
    """
    if isinstance(p, bool) or not isinstance(p, (int, float)) or not 0 < p < float("inf"):
        raise FormulaError(
            f"`p` of a norm must be a positive number, got {p!r}", way_out="For infinity, use 'max' of abs."
        )
    p = float(p)
    # m the largest size so far, s the sum of (size / m) ** p; equal sizes have the ratio 1, also if they are 0 or inf
    ratio = norm_ratio(p)
    left, right = (f"where({side}_m == t, 1, {side}_m / t) ** {p}" for side in "ab")
    return Reduction(
        f"norm({p:g})" if float(f"{p:g}") == p else f"norm({float(p)!r})",
        state=("m", "s"),
        identity=("0", "0"),
        step=("maximum(m, abs(v))", ratio + "where(a > m, s * r + 1, s + r)"),
        merge=("maximum(a_m, b_m)", f"t = maximum(a_m, b_m); a_s * {left} + b_s * {right}"),
        result=f"m * s ** {1 / p}",
        adjoint=f"where(v == 0, 0, sign(v) * where(abs(v) == m, 1, abs(v) / m) ** {p - 1} * s ** {1 / p - 1})",
    )


def norm_ratio(p: float | str) -> str:
    """``a``, the size of a value, and ``r``, the smaller of it and the largest so far by the larger, to the power p."""
    return f"a = abs(v); r = where(a == m, 1, minimum(a, m) / maximum(a, m)) ** {p}; "


Reduce = str | Reduction | tuple[str | Reduction, ...]


def reduction(reduce: Reduce) -> Reduction:
    """The reduction that ``reduce=`` names; of a tuple, all of them in one pass.

    Raises:
        FormulaError: for an unknown name.
    """
    if isinstance(reduce, Reduction):
        return reduce
    if isinstance(reduce, tuple) and reduce:
        return joined([reduction(one) for one in reduce])
    known = BUILTIN | OF_TWO
    if not isinstance(reduce, str) or reduce not in known:
        raise FormulaError(
            f"`reduce` is {reduce!r}",
            way_out=f"It must be one of {', '.join(known)}, norm(p), a Reduction, or a tuple of them.",
        )
    return known[reduce]


@dataclass(frozen=True)
class Over:
    """A reduction over the taps of each channel, and one of the results over channels."""

    taps: Reduction
    channels: Reduction

    def __str__(self) -> str:
        return f"over(taps={self.taps.name}, channels={self.channels.name})"


def over(*, taps: str | Reduction, channels: str | Reduction) -> Over:
    """Reduce in two levels: the taps of each channel first, then the channels.

        >>> Formula(lambda x, w: x + w, reduce=over(taps="max", channels="sum"))
        Formula(y = sum over channels(max over taps(x + w)))

    Raises:
        FormulaError: a reduction is unknown, or that of the channels takes more than one value.
    """
    inner, outer = reduction(taps), reduction(channels)
    if inner.results != 1 or len(outer.values) != 1:
        raise FormulaError(
            f"over(taps={inner.name}, channels={outer.name}) does not reduce one value to one value",
            way_out="`taps` may be any reduction with one result, `channels` one of a single value.",
        )
    return Over(inner, outer)
