"""Every operation of the library's table in the spellings that users write: templates of source text.

``{0}``, ``{1}`` stand for arguments: a name, a call, or something in parentheses. A template's arguments are guarded
where an operation is defined on a part of the line only: ``GUARDS`` brings any number there.
"""

from __future__ import annotations

ANY = ("{0}",)
POSITIVE = (
    "(torch.abs({0}) + 0.1)",
    "({0} * {0} + 0.25)",
    "torch.exp(0.5 * torch.tanh({0}))",
    "{0}.abs().clamp(min=0.1)",
)
INSIDE = ("(0.9 * torch.tanh({0}))", "{0}.clamp(-0.9, 0.9)", "torch.sin({0}) * 0.9")
SMALL = ("(1.4 * torch.sin({0}))", "{0}.clamp(-1.4, 1.4)")
BOUNDED = ("{0}.clamp(-3, 3)", "(2 * torch.tanh({0}))", "{0}", "(0.5 * {0})")
ABOVE_ONE = ("(1.1 + torch.abs({0}))", "torch.clamp({0}, min=1.1)")
FRACTION = ("(0.5 + 0.4 * torch.tanh({0}))", "torch.sigmoid({0}).clamp(0.1, 0.9)")
MANTISSA = ("(1.5 + 0.3 * torch.tanh({0}))", "(3 * {0})")

# of an operation: its templates, and for each argument the guards to draw from
REAL: dict[str, tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]] = {
    "add": (("({0} + {1})", "torch.add({0}, {1})", "{0}.add({1})", "torch.add({0}, {1}, alpha=2)", "({0} + 0.5)", "(1 + {0})"), (ANY, ANY)),
    "sub": (("({0} - {1})", "torch.sub({0}, {1})", "torch.subtract({0}, {1}, alpha=0.5)", "(1 - {0})", "({0} - 3)", "torch.rsub({0}, {1})"), (ANY, ANY)),
    "mul": (("({0} * {1})", "torch.mul({0}, {1})", "{0}.multiply({1})", "(2 * {0})", "({0} * 0.3)", "({0} * -1.7)"), (ANY, ANY)),
    "div": (("({0} / {1})", "torch.div({0}, {1})", "{0}.true_divide({1})", "(1 / {1})", "torch.divide({0}, {1})"), (ANY, POSITIVE)),
    "neg": (("(-{0})", "torch.neg({0})", "{0}.negative()", "torch.positive(-{0})"), (ANY,)),
    "square": (("torch.square({0})", "{0}.square()"), (ANY,)),
    "reciprocal": (("torch.reciprocal({0})", "{0}.reciprocal()"), (POSITIVE,)),
    "pow": (("({0} ** {1})", "torch.pow({0}, {1})", "({0} ** 2)", "({0} ** 3)", "({0} ** 0.5)", "(2 ** {1})", "({0} ** -1)", "{0}.pow(1.5)"), (POSITIVE, BOUNDED)),
    "sqrt": (("torch.sqrt({0})", "{0}.sqrt()"), (POSITIVE,)),
    "rsqrt": (("torch.rsqrt({0})", "{0}.rsqrt()"), (POSITIVE,)),
    "floor_divide": (("({0} // {1})", "torch.floor_divide({0}, {1})", "torch.div({0}, {1}, rounding_mode='floor')"), (ANY, POSITIVE)),
    "trunc_divide": (("torch.div({0}, {1}, rounding_mode='trunc')",), (ANY, POSITIVE)),
    "remainder": (("({0} % {1})", "torch.remainder({0}, {1})", "({0} % 1.5)"), (ANY, POSITIVE)),
    "fmod": (("torch.fmod({0}, {1})", "{0}.fmod({1})"), (ANY, POSITIVE)),
    "lerp": (("torch.lerp({0}, {1}, {2})", "torch.lerp({0}, {1}, 0.3)"), (ANY, ANY, ANY)),
    "hypot": (("torch.hypot({0}, {1})",), (ANY, POSITIVE)),
    "abs": (("torch.abs({0})", "abs({0})", "{0}.abs()", "torch.absolute({0})"), (ANY,)),
    "sign": (("torch.sign({0})", "{0}.sign()", "torch.sgn({0})"), (ANY,)),
    "copysign": (("torch.copysign({0}, {1})",), (ANY, ANY)),
    "round": (("torch.round({0})", "{0}.round()", "torch.round({0}, decimals=1)"), (ANY,)),
    "floor": (("torch.floor({0})", "{0}.floor()"), (ANY,)),
    "ceil": (("torch.ceil({0})",), (ANY,)),
    "trunc": (("torch.trunc({0})", "torch.fix({0})"), (ANY,)),
    "frac": (("torch.frac({0})",), (ANY,)),
    "maximum": (("torch.maximum({0}, {1})", "torch.max({0}, {1})"), (ANY, ANY)),
    "minimum": (("torch.minimum({0}, {1})", "torch.min({0}, {1})"), (ANY, ANY)),
    "fmax": (("torch.fmax({0}, {1})",), (ANY, ANY)),
    "fmin": (("torch.fmin({0}, {1})",), (ANY, ANY)),
    "clamp": (("torch.clamp({0}, -1, 1)", "{0}.clamp(-0.5, 1.5)", "torch.clip({0}, {1}, {2})", "torch.clamp({0}, {1}, 2 + {2})"), (ANY, ANY, ANY)),
    "clamp_min": (("{0}.clamp(min=0)", "torch.clamp({0}, min={1})", "torch.clamp_min({0}, 0.25)"), (ANY, ANY)),
    "clamp_max": (("{0}.clamp(max=1)", "torch.clamp({0}, max={1})"), (ANY, ANY)),
    "exp": (("torch.exp({0})", "{0}.exp()", "torch.exp(-{0} * {0})"), (BOUNDED,)),
    "exp2": (("torch.exp2({0})",), (BOUNDED,)),
    "expm1": (("torch.expm1({0})", "torch.special.expm1({0})"), (BOUNDED,)),
    "log": (("torch.log({0})", "{0}.log()"), (POSITIVE,)),
    "log2": (("torch.log2({0})",), (POSITIVE,)),
    "log10": (("torch.log10({0})",), (POSITIVE,)),
    "log1p": (("torch.log1p({0})", "torch.log1p(torch.exp({0}))"), (POSITIVE,)),
    "logaddexp": (("torch.logaddexp({0}, {1})",), (ANY, ANY)),
    "logaddexp2": (("torch.logaddexp2({0}, {1})",), (ANY, ANY)),
    "xlogy": (("torch.xlogy({0}, {1})", "torch.special.xlogy({0}, {1})"), (ANY, POSITIVE)),
    "xlog1py": (("torch.special.xlog1py({0}, {1})",), (ANY, POSITIVE)),
    "ldexp": (("torch.ldexp({0}, {1})",), (ANY, BOUNDED)),
    "mantissa": (("torch.frexp({0})[0]",), (MANTISSA,)),
    "exponent": (("({0} * torch.frexp({1})[1])",), (ANY, MANTISSA)),
    "sin": (("torch.sin({0})", "{0}.sin()"), (ANY,)),
    "cos": (("torch.cos({0})", "{0}.cos()"), (ANY,)),
    "tan": (("torch.tan({0})",), (SMALL,)),
    "asin": (("torch.asin({0})", "torch.arcsin({0})"), (INSIDE,)),
    "acos": (("torch.acos({0})", "torch.arccos({0})"), (INSIDE,)),
    "atan": (("torch.atan({0})", "torch.arctan({0})"), (ANY,)),
    "atan2": (("torch.atan2({0}, {1})", "torch.arctan2({0}, {1})"), (ANY, POSITIVE)),
    "sinh": (("torch.sinh({0})",), (BOUNDED,)),
    "cosh": (("torch.cosh({0})",), (BOUNDED,)),
    "tanh": (("torch.tanh({0})", "{0}.tanh()"), (ANY,)),
    "asinh": (("torch.asinh({0})", "torch.arcsinh({0})"), (ANY,)),
    "acosh": (("torch.acosh({0})",), (ABOVE_ONE,)),
    "atanh": (("torch.atanh({0})",), (INSIDE,)),
    "sinc": (("torch.sinc({0})", "torch.special.sinc({0})"), (ANY,)),
    "erf": (("torch.erf({0})", "torch.special.erf({0})"), (ANY,)),
    "erfc": (("torch.erfc({0})",), (BOUNDED,)),
    "erfinv": (("torch.erfinv({0})",), (INSIDE,)),
    "lgamma": (("torch.lgamma({0})", "torch.special.gammaln({0})"), (POSITIVE,)),
    "digamma": (("torch.digamma({0})", "torch.special.psi({0})"), (POSITIVE,)),
    "polygamma": (("torch.polygamma(1, {0})", "torch.polygamma(2, {0})"), (POSITIVE,)),
    "sigmoid": (("torch.sigmoid({0})", "{0}.sigmoid()", "torch.special.expit({0})", "F.sigmoid({0})"), (ANY,)),
    "logit": (("torch.logit({0})", "torch.logit({0}, eps=0.05)"), (FRACTION,)),
    "logsigmoid": (("F.logsigmoid({0})",), (ANY,)),
    "softplus": (("F.softplus({0})", "F.softplus({0}, beta=2, threshold=10)"), (ANY,)),
    "relu": (("torch.relu({0})", "F.relu({0})", "{0}.relu()"), (ANY,)),
    "leaky_relu": (("F.leaky_relu({0}, 0.1)", "F.leaky_relu({0})"), (ANY,)),
    "elu": (("F.elu({0})", "F.elu({0}, alpha=0.5)"), (ANY,)),
    "selu": (("F.selu({0})",), (ANY,)),
    "celu": (("F.celu({0}, alpha=0.5)",), (ANY,)),
    "gelu": (("F.gelu({0})",), (ANY,)),
    "gelu_tanh": (("F.gelu({0}, approximate='tanh')",), (ANY,)),
    "silu": (("F.silu({0})",), (ANY,)),
    "mish": (("F.mish({0})",), (ANY,)),
    "hardtanh": (("F.hardtanh({0})", "F.hardtanh({0}, -0.5, 0.75)", "F.relu6({0})"), (ANY,)),
    "hardswish": (("F.hardswish({0})",), (ANY,)),
    "hardsigmoid": (("F.hardsigmoid({0})",), (ANY,)),
    "softshrink": (("F.softshrink({0})", "F.softshrink({0}, 0.25)"), (ANY,)),
    "hardshrink": (("F.hardshrink({0})",), (ANY,)),
    "threshold": (("F.threshold({0}, 0.1, 0.2)",), (ANY,)),
    "where": (("torch.where({c}, {0}, {1})", "{0}.where({c}, {1})", "torch.where({c}, {0}, 0.5)", "torch.where({c}, 0, {0})"), (ANY, ANY)),
    "real": (("({c} * {0})", "({c}).to({0}.dtype)", "({0} + ({c}).float())"), (ANY,)),
    "detach": (("({0}.detach() * {1})",), (ANY, ANY)),
    # what torch composes itself
    "softsign": (("F.softsign({0})",), (ANY,)),
    "tanhshrink": (("F.tanhshrink({0})",), (ANY,)),
    "addcmul": (("torch.addcmul({0}, {1}, {2})", "torch.addcmul({0}, {1}, {2}, value=0.5)"), (ANY, ANY, ANY)),
    "addcdiv": (("torch.addcdiv({0}, {1}, {2})",), (ANY, ANY, POSITIVE)),
    "deg2rad": (("torch.deg2rad({0})",), (ANY,)),
    "rad2deg": (("torch.rad2deg({0})",), (ANY,)),
}  # fmt: skip

CONDITIONS: dict[str, tuple[str, ...]] = {
    "lt": ("({0} < {1})", "torch.lt({0}, {1})", "({0} < 0.3)"),
    "le": ("({0} <= {1})", "torch.less_equal({0}, 0)"),
    "gt": ("({0} > 0)", "({0} > {1})", "torch.greater({0}, {1})"),
    "ge": ("({0} >= 0.5)", "torch.ge({0}, {1})"),
    "eq": ("({0} == 0)", "torch.eq({0}, {1})"),
    "ne": ("({0} != 0)", "torch.ne({0}, {1})"),
    "isnan": ("torch.isnan({0})", "{0}.isnan()"),
    "isinf": ("torch.isinf({0})",),
    "isfinite": ("torch.isfinite({0})",),
    "logical_and": ("({c} & {d})", "torch.logical_and({c}, {d})"),
    "logical_or": ("({c} | {d})", "torch.logical_or({c}, {d})"),
    "logical_xor": ("({c} ^ {d})",),
    "logical_not": ("(~{c})", "torch.logical_not({c})"),
}

# `where` around what is no number on the other branch: pixel or weight first, then any
GUARDED = (
    "torch.where({0} == 0, {1}, torch.sin({1} * {0}) / {0})",
    "torch.where({0} == 0, 1, torch.sin({0}) / {0})",
    "torch.where({0} > 0, torch.log({0}), {1})",
    "torch.where({0} > 0, torch.sqrt({0}) * {1}, 0)",
    "torch.where({0} != 0, {1} / {0}, 0.5)",
    "torch.where(torch.isnan({0}), 0, {0} * {1})",
    "torch.where({0} <= 0, {1}, {0} ** {1})",
    "torch.where(torch.abs({0}) < 1, torch.atanh({0}), {1})",
)
COMMON = (
    "add",
    "sub",
    "mul",
    "mul",
    "tanh",
    "abs",
    "sin",
    "square",
    "maximum",
    "where",
    "div",
    "exp",
    "relu",
    "sigmoid",
)
KINKS = (
    "abs", "relu", "maximum", "minimum", "clamp", "clamp_min", "sign", "leaky_relu", "where", "hardtanh", "softshrink",
    "hardshrink", "fmax", "fmin", "threshold", "hardsigmoid", "real", "round", "copysign",
)  # fmt: skip
