"""The table of operations: one row each.

A row names the operation, its arguments, its derivative with respect to each real argument, and the range from which
tests draw. Derivatives are texts in the grammar of maps, over the argument names and ``y``, the operation's own
result. They state what PyTorch's autograd does, at kinks and poles too; `tests/test_ops.py` compares every row.

Arguments are written ``"x w ?c n=0.5"``: a plain name is a real number, ``?c`` a condition, ``n=0.5`` a number that
is known when the map is traced, with PyTorch's default.
"""

from __future__ import annotations

from dataclasses import dataclass

Range = tuple[float, float]
ANY: Range = (-3.0, 3.0)
POSITIVE: Range = (0.1, 3.0)


@dataclass(frozen=True)
class Param:
    """One argument of an operation: ``real``, ``bool`` or ``number``."""

    name: str
    kind: str
    default: float | None = None


@dataclass(frozen=True)
class Op:
    """One row of the table.

    Args:
        name: the name in texts; torch's own, except where torch has one name for two functions.
        params: the arguments.
        derivative: one text per argument, ``""`` where an argument is no real number; none for a truth value.
        result: ``"real"`` or ``"bool"``.
        sample: a range per argument in which the operation is smooth enough to be tested.
        aliases: torch's other names for it.
    """

    name: str
    params: tuple[Param, ...]
    derivative: tuple[str, ...]
    result: str
    sample: tuple[Range, ...]
    aliases: tuple[str, ...]


def _params(text: str) -> tuple[Param, ...]:
    made = []
    for word in text.split():
        name, _, default = word.partition("=")
        if default:
            made.append(Param(name, "number", float(default)))
        else:
            made.append(Param(name.lstrip("?"), "bool" if name.startswith("?") else "real"))
    return tuple(made)


def _row(name: str, args: str, *derivative: str, sample: Range | tuple[Range, ...] = ANY, also: str = "") -> Op:
    params = _params(args)
    if len(derivative) not in (0, len(params)):
        raise ValueError(f"{name}: {len(params)} arguments, {len(derivative)} derivatives")
    ranges = sample if isinstance(sample[0], tuple) else (sample,) * len(params)
    return Op(name, params, derivative, "real" if derivative else "bool", ranges, tuple(also.split()))


ROWS = (
    # arithmetic
    _row("add", "x w", "1", "1"),
    _row("sub", "x w", "1", "-1", also="subtract"),
    _row("mul", "x w", "w", "x", also="multiply"),
    _row("div", "x w", "1 / w", "-(y / w)", sample=(ANY, POSITIVE), also="divide true_divide"),
    _row("neg", "x", "-1", also="negative"),
    _row("square", "x", "2 * x"),
    _row("reciprocal", "x", "-(y * y)", sample=POSITIVE),
    _row("pow", "x w", "where(w == 0, 0, w * x ** (w - 1))", "where((x == 0) & (w >= 0), 0, y * log(x))",
         sample=(POSITIVE, ANY)),
    _row("sqrt", "x", "1 / (2 * y)", sample=POSITIVE),
    _row("rsqrt", "x", "-0.5 * y ** 3", sample=POSITIVE),
    _row("floor_divide", "x w", "0", "0", sample=(ANY, POSITIVE)),
    _row("trunc_divide", "x w", "0", "0", sample=(ANY, POSITIVE)),
    _row("remainder", "x w", "1", "-floor_divide(x, w)", sample=(ANY, POSITIVE)),
    _row("fmod", "x w", "1", "-trunc_divide(x, w)", sample=(ANY, POSITIVE)),
    _row("lerp", "x w t", "1 - t", "t", "w - x"),
    _row("hypot", "x w", "x / y", "w / y"),
    # size and sign
    _row("abs", "x", "sign(x)", also="absolute"),
    _row("sign", "x", "0", also="sgn"),
    _row("copysign", "x w", "where(isnan(x), x, sign(x) * copysign(1, w))", "0"),
    _row("round", "x", "0"),
    _row("floor", "x", "0"),
    _row("ceil", "x", "0"),
    _row("trunc", "x", "0", also="fix"),
    _row("frac", "x", "1"),
    _row("maximum", "x w", "where(x < w, 0, where(x == w, 0.5, 1))", "where(x > w, 0, where(x == w, 0.5, 1))"),
    _row("minimum", "x w", "where(x > w, 0, where(x == w, 0.5, 1))", "where(x < w, 0, where(x == w, 0.5, 1))"),
    _row("fmax", "x w", "where((x >= w) | isnan(w), 1, 0)", "where((x >= w) | isnan(w), 0, 1)"),
    _row("fmin", "x w", "where((x <= w) | isnan(w), 1, 0)", "where((x <= w) | isnan(w), 0, 1)"),
    _row("clamp", "x lo hi", "where((x >= lo) & (x <= hi), 1, 0)", "where((lo < hi) & (x < lo), 1, 0)",
         "where((hi < lo) | (x > hi), 1, 0)"),
    _row("clamp_min", "x lo", "where(x >= lo, 1, 0)", "where(x < lo, 1, 0)"),
    _row("clamp_max", "x hi", "where(x <= hi, 1, 0)", "where(x > hi, 1, 0)"),
    # exponentials and logarithms
    _row("exp", "x", "y"),
    _row("exp2", "x", f"y * {0.6931471805599453!r}"),
    _row("expm1", "x", "y + 1"),
    _row("log", "x", "1 / x", sample=POSITIVE),
    _row("log2", "x", f"1 / (x * {0.6931471805599453!r})", sample=POSITIVE),
    _row("log10", "x", f"1 / (x * {2.302585092994046!r})", sample=POSITIVE),
    _row("log1p", "x", "1 / (x + 1)", sample=POSITIVE),
    _row("logaddexp", "x w", "1 / (1 + exp(w - x))", "1 / (1 + exp(x - w))"),
    _row("logaddexp2", "x w", "1 / (1 + exp2(w - x))", "1 / (1 + exp2(x - w))"),
    _row("xlogy", "x w", "where((x == 0) & (w <= 0), 0, log(w))", "x / w", sample=(ANY, POSITIVE)),
    _row("xlog1py", "x w", "where((x == 0) & (w <= -1), 0, log1p(w))", "x / (w + 1)", sample=(ANY, POSITIVE)),
    _row("ldexp", "x w", "exp2(w)", f"y * {0.6931471805599453!r}"),
    _row("mantissa", "x", "exp2(-exponent(x))", sample=(1.1, 1.9)),
    _row("exponent", "x", "0", sample=(1.1, 1.9)),
    # trigonometric and hyperbolic functions
    _row("sin", "x", "cos(x)"),
    _row("cos", "x", "-sin(x)"),
    _row("tan", "x", "1 + y * y", sample=(-1.4, 1.4)),
    _row("asin", "x", "1 / sqrt(1 - x * x)", sample=(-0.9, 0.9), also="arcsin"),
    _row("acos", "x", "-(1 / sqrt(1 - x * x))", sample=(-0.9, 0.9), also="arccos"),
    _row("atan", "x", "1 / (x * x + 1)", also="arctan"),
    _row("atan2", "x w", "r = x * x + w * w; where(r == 0, 0, w * (1 / r))",
         "r = x * x + w * w; where(r == 0, 0, -x * (1 / r))", also="arctan2"),
    _row("sinh", "x", "cosh(x)"),
    _row("cosh", "x", "sinh(x)"),
    _row("tanh", "x", "1 - y * y"),
    _row("asinh", "x", "1 / sqrt(x * x + 1)", also="arcsinh"),
    _row("acosh", "x", "1 / sqrt(x * x - 1)", sample=(1.1, 3.0), also="arccosh"),
    _row("atanh", "x", "1 / (1 - x * x)", sample=(-0.9, 0.9), also="arctanh"),
    _row("sinc", "x", f"t = x * {3.141592653589793!r}; u = t * x; "
         "where(u == 0, 0, (cos(t) * t - sin(t)) / u)"),
    # special functions
    _row("erf", "x", f"{1.1283791670955126!r} * exp(-(x * x))"),
    _row("erfc", "x", f"{-1.1283791670955126!r} * exp(-(x * x))"),
    _row("erfinv", "x", f"{0.8862269254527579!r} * exp(y * y)", sample=(-0.9, 0.9)),
    _row("lgamma", "x", "digamma(x)", sample=POSITIVE, also="gammaln"),
    _row("digamma", "x", "polygamma(1, x)", sample=POSITIVE, also="psi"),
    _row("polygamma", "n=1 x", "", "polygamma(n + 1, x)", sample=POSITIVE),
    # activations
    _row("sigmoid", "x", "y * (1 - y)", also="expit"),
    _row("logit", "x", "where((x < 0) | (x > 1), nan, where(x == 0, inf, 1 / (x * (1 - x))))", sample=(0.1, 0.9)),
    _row("logsigmoid", "x", "z = exp(-abs(x)); where(x < 0, 1 - z / (1 + z), z / (1 + z))"),
    _row("softplus", "x beta=1 threshold=20", "z = exp(x * beta); where(x * beta > threshold, 1, z / (z + 1))", "", ""),
    _row("relu", "x", "where(x <= 0, 0, 1)"),
    _row("leaky_relu", "x negative_slope=0.01", "where(x > 0, 1, negative_slope)", ""),
    _row("elu", "x alpha=1", "where(x <= 0, alpha * exp(x), 1)", ""),
    _row("selu", "x", f"where(x <= 0, {1.0507009873554805 * 1.6732632423543772!r} * exp(x), {1.0507009873554805!r})"),
    _row("celu", "x alpha=1", "where(x <= 0, exp(x / alpha), 1)", ""),
    _row("gelu", "x", f"0.5 * (1 + erf(x * {0.7071067811865476!r})) + "
         f"x * (exp(-0.5 * x * x) * {0.3989422804014327!r})"),
    _row("gelu_tanh", "x", f"t = tanh({0.7978845608028654!r} * (x + 0.044715 * (x * x * x))); 0.5 * (1 + t) + "
         f"0.5 * x * (1 - t * t) * ({0.7978845608028654!r} * (1 + 0.134145 * (x * x)))"),
    _row("silu", "x", "s = sigmoid(x); s * (1 + x * (1 - s))"),
    _row("mish", "x", "t = tanh(softplus(x, 1, 20)); t + x * (1 - t * t) * sigmoid(x)"),
    _row("hardtanh", "x min_val=-1 max_val=1", "where((x <= min_val) | (x >= max_val), 0, 1)", "", ""),
    _row("hardswish", "x", "where(x <= -3, 0, where(x < 3, x / 3 + 0.5, 1))"),
    _row("hardsigmoid", "x", "where((x > -3) & (x < 3), 1 / 6, 0)"),
    _row("softshrink", "x lambd=0.5", "where((x >= -lambd) & (x <= lambd), 0, 1)", ""),
    _row("hardshrink", "x lambd=0.5", "where((x >= -lambd) & (x <= lambd), 0, 1)", ""),
    _row("threshold", "x threshold=0 value=0", "where(x <= threshold, 0, 1)", "", ""),
    # conditions
    _row("lt", "x w", also="less"),
    _row("le", "x w", also="less_equal"),
    _row("gt", "x w", also="greater"),
    _row("ge", "x w", also="greater_equal"),
    _row("eq", "x w"),
    _row("ne", "x w", also="not_equal"),
    _row("isnan", "x"),
    _row("isinf", "x"),
    _row("isfinite", "x"),
    _row("logical_and", "?x ?w", also="bitwise_and"),
    _row("logical_or", "?x ?w", also="bitwise_or"),
    _row("logical_xor", "?x ?w", also="bitwise_xor"),
    _row("logical_not", "?x", also="bitwise_not"),
    _row("where", "?c x w", "", "where(c, 1, 0)", "where(c, 0, 1)"),
    _row("real", "?x", ""),
    _row("detach", "x", "0"),
)  # fmt: skip

TABLE: dict[str, Op] = {row.name: row for row in ROWS}

MACROS: dict[str, tuple[tuple[Param, ...], str]] = {  # what torch itself composes of other operations
    "rsub": (_params("x w"), "w - x"),
    "positive": (_params("x"), "x"),
    "relu6": (_params("x"), "hardtanh(x, 0, 6)"),
    "softsign": (_params("x"), "x / (1 + abs(x))"),
    "tanhshrink": (_params("x"), "x - tanh(x)"),
    "prelu": (_params("x w"), "where(x > 0, x, w * x)"),
    "addcmul": (_params("x a b value=1"), "x + value * a * b"),
    "addcdiv": (_params("x a b value=1"), "x + value * (a / b)"),
    "deg2rad": (_params("x"), f"x * {0.017453292519943295!r}"),
    "rad2deg": (_params("x"), f"x * {57.29577951308232!r}"),
}
