"""The reductions that ship: sum, mean, prod, max, min, logsumexp.

Their rules are a contract, the same on every backend: ties of max and min share the gradient evenly (as
``torch.amax``); a product counts its zeros instead of dividing by them and carries its exponent apart; logsumexp is
shifted by the running maximum and its all ``-inf`` field has a zero gradient; NaN stays in the fields that see it.
"""

from __future__ import annotations

from ..errors import FormulaError
from .reduction import Reduction

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
_FACTOR = "f = where(v == 0, copysign(1, v), v); "
PROD = Reduction(
    "prod",
    state=("m", "e", "z"),
    identity=("0.5", "1", "0"),
    step=(
        _FACTOR + "mantissa(m * mantissa(f))",
        _FACTOR + "e + exponent(f) + exponent(m * mantissa(f))",
        "z + real(v == 0)",
    ),
    merge=("mantissa(a_m * b_m)", "a_e + b_e + exponent(a_m * b_m)", "a_z + b_z"),
    # in two halves, since 2**e alone may be out of range where m * 2**e is not
    result="h = trunc(e / 2); where(z > 0, m * 0, ldexp(ldexp(m, h), e - h))",
    adjoint=_FACTOR + "r = e - exponent(f); h = trunc(r / 2); "
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

BUILTIN = {r.name: r for r in (SUM, MEAN, PROD, MAX, MIN, LOGSUMEXP)}


def reduction(reduce: str | Reduction) -> Reduction:
    """The reduction that ``reduce=`` names.

    Raises:
        FormulaError: for an unknown name.
    """
    if isinstance(reduce, Reduction):
        return reduce
    if not isinstance(reduce, str) or reduce not in BUILTIN:
        raise FormulaError(f"`reduce` is {reduce!r}", way_out=f"It must be one of {', '.join(BUILTIN)}.")
    return BUILTIN[reduce]
