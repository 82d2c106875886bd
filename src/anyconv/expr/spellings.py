"""PyTorch's spellings -> the table: which call makes which expression, and which calls a map cannot use.

    >>> spell("clamp", (var("x"),), {"min": const(0)})
    Expr('clamp_min(x, 0)')

A function, a method, an operator and its `torch.nn.functional` or `torch.special` twin all arrive here under one name.
Names alone are compared, so that nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import TraceError, user_line
from .expr import Expr, apply, const
from .ops import MACROS, TABLE, Param
from .parse import read
from .refusals import in_place, unusable
from .verify import kind

ALIASES = {alias: row.name for row in TABLE.values() for alias in row.aliases} | {
    "log_sigmoid": "logsigmoid",
    "_threshold": "threshold",
    "clip": "clamp",
    "__and__": "logical_and",
    "__or__": "logical_or",
    "__xor__": "logical_xor",
}
_TENSORS = ("other", "exponent", "end", "weight", "tensor1", "tensor2")  # torch's names for those after `input`
SAME = {"clone", "contiguous"}  # what leaves a single number as it is
ZERO, ONE = const(0.0), const(1.0)
PIXEL_DTYPE = "the dtype of the pixel"  # what `x.dtype` is while a map is traced
CASTS = {"to", "type_as", "type", "float", "double", "half", "bfloat16"}


def known(name: str) -> bool:
    """Whether a call of this name makes an expression."""
    return name in TABLE or name in ALIASES or name in ADAPTERS or name in MACROS or name in SAME or name in CASTS


def refuse(name: str) -> TraceError:
    """The error for a call that a map cannot use."""
    if name.endswith("_") and not name.endswith("__") and known(name[:-1]):
        return in_place(name, name[:-1])
    return unusable(name)


def spell(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The expression that ``name(*args, **kwargs)`` means, of Exprs for tensors and numbers, the rest as given."""
    name = ALIASES.get(name, name)
    if "input" in kwargs:
        args = (kwargs.pop("input"), *args)
    args += tuple(kwargs.pop(key) for key in _TENSORS if key in kwargs)
    if kwargs.pop("inplace", None) is const(True):
        raise in_place(f"{name}(..., inplace=True)", f"{name}(...)")
    if kwargs.pop("out", None) is not None:
        raise in_place(f"{name}(..., out=...)", f"{name}(...)")
    if name in SAME:
        return args[0]
    if name in CASTS:
        return _cast(name, args, kwargs)
    if name in ADAPTERS:
        return ADAPTERS[name](*args, **kwargs)
    if name in MACROS:
        params, text = MACROS[name]
        values = _bind(name, params, args, kwargs)
        return read(text, dict(zip((param.name for param in params), values, strict=True)))
    if name not in TABLE:
        raise refuse(name)
    return call(name, *args, **kwargs)


def call(name: str, *args: Any, **kwargs: Any) -> Expr:
    """One row of the table on arguments that may need converting: conditions become numbers and back."""
    return apply(name, *_bind(name, TABLE[name].params, args, kwargs))


def _bind(op: str, params: tuple[Param, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Expr]:
    names = [param.name for param in params]
    values: dict[str, Any] = dict(zip(names, args, strict=False))
    for key, value in kwargs.items():
        if key not in names or key in values:
            raise TraceError(
                f"`{op}` got the argument {key}={_show(value)}, which a map cannot use", where=user_line(),
                way_out=f"Its arguments are ({', '.join(names)}).",
            )  # fmt: skip
        values[key] = value
    missing = [p.name for p in params if p.name not in values and p.default is None]
    if missing or len(args) > len(names):
        raise TraceError(
            f"`{op}` takes ({', '.join(names)}), got {len(args) + len(kwargs)} arguments",
            where=user_line(), way_out="Call it as torch documents it.",
        )  # fmt: skip
    return [_convert(op, p.kind, p.name, values.get(p.name, p.default)) for p in params]


def _convert(op: str, wanted: str, name: str, value: Any) -> Expr:
    if isinstance(value, (bool, int, float)):
        value = const(value)
    if not isinstance(value, Expr):
        raise TraceError(f"`{name}` of `{op}` must be a number or a pixel, got {_show(value)}", where=user_line())
    if wanted == "number":
        if value.op != "const":
            raise TraceError(
                f"`{name}` of `{op}` must be a Python number, got `{value}`", where=user_line(),
                way_out="torch takes no tensor there either; write the function out with torch.where.",
            )  # fmt: skip
        return const(float(value.value))  # type: ignore[arg-type]
    if wanted == "real":
        return as_real(value)
    if kind(value) == "bool":
        return value
    if op.startswith("logical_"):
        return apply("ne", value, const(0.0))
    raise TraceError(
        f"`{name}` of `{op}` must be a condition such as `x > 0`, got the number `{value}`", where=user_line(),
        way_out="Compare it: `x != 0`.",
    )  # fmt: skip


def as_real(value: Expr) -> Expr:
    """A number from a condition: 1 where it holds, 0 elsewhere."""
    if kind(value) == "real":
        return value
    return const(float(value.value)) if value.op == "const" else apply("real", value)  # type: ignore[arg-type]


def _show(value: Any) -> str:
    return f"`{value}`" if isinstance(value, Expr) else repr(value)


def _both_bool(*values: Expr) -> bool:
    return all(kind(value) == "bool" for value in values)


def _add(x: Expr, w: Expr, *, alpha: Expr = ONE) -> Expr:
    if _both_bool(x, w):
        return apply("logical_or", x, w)  # as torch adds two masks
    return call("add", x, w if alpha is ONE else call("mul", alpha, w))


def _sub(x: Expr, w: Expr, *, alpha: Expr = ONE) -> Expr:
    if _both_bool(x, w):
        raise TraceError(
            "`-` between two conditions is refused by torch too", where=user_line(), way_out="Write `x ^ w`."
        )
    return call("sub", x, w if alpha is ONE else call("mul", alpha, w))


def _mul(x: Expr, w: Expr) -> Expr:
    return apply("logical_and", x, w) if _both_bool(x, w) else call("mul", x, w)


def _neg(x: Expr) -> Expr:
    if _both_bool(x):
        raise TraceError("`-` of a condition is refused by torch too", where=user_line(), way_out="Write `~x`.")
    return call("neg", x)


def _div(x: Expr, w: Expr, *, rounding_mode: str | None = None) -> Expr:
    ops = {None: "div", "floor": "floor_divide", "trunc": "trunc_divide"}
    if rounding_mode not in ops:
        raise TraceError(
            f"`rounding_mode` of div must be None, 'floor' or 'trunc', got {rounding_mode!r}", where=user_line(),
            way_out="Write one of the three.",
        )  # fmt: skip
    return call(ops[rounding_mode], x, w)


def _clamp(x: Expr, min: Expr | None = None, max: Expr | None = None) -> Expr:
    if min is None and max is None:
        raise TraceError("`clamp` needs `min`, `max` or both", where=user_line())
    if min is None:
        return call("clamp_max", x, max)
    return call("clamp_min", x, min) if max is None else call("clamp", x, min, max)


def _max(x: Expr, other: Expr | None = None) -> Expr:
    if other is None:
        raise refuse("max")
    return call("maximum", x, other)


def _min(x: Expr, other: Expr | None = None) -> Expr:
    if other is None:
        raise refuse("min")
    return call("minimum", x, other)


def _gelu(x: Expr, approximate: str = "none") -> Expr:
    if approximate not in ("none", "tanh"):
        raise TraceError(f"`approximate` of gelu must be 'none' or 'tanh', got {approximate!r}", where=user_line())
    return call("gelu" if approximate == "none" else "gelu_tanh", x)


def _round(x: Expr, *, decimals: Expr = ZERO) -> Expr:
    digits = int(decimals.value)  # type: ignore[arg-type]
    if digits == 0:
        return call("round", x)
    scale = const(10.0 ** abs(digits))
    there, back = ("mul", "div") if digits > 0 else ("div", "mul")
    return call(back, call("round", call(there, x, scale)), scale)


def _logit(x: Expr, eps: Expr | None = None) -> Expr:
    if eps is not None:
        x = call("clamp", x, eps, const(1.0 - float(eps.value)))  # type: ignore[arg-type]
    return call("logit", x)


def _where(condition: Expr, x: Expr, w: Expr) -> Expr:
    if kind(condition) == "real" and kind(x) == "bool":
        condition, x = x, condition  # the method: `x.where(condition, w)`
    if _both_bool(x, w):
        return apply("logical_or", call("logical_and", condition, x),
                     apply("logical_and", call("logical_not", condition), w))  # fmt: skip
    return call("where", condition, x, w)


def _polygamma(a: Expr, b: Expr) -> Expr:
    n, x = (b, a) if b.op == "const" else (a, b)  # the method has its order the other way round
    return call("polygamma", n, x)


def _frexp(x: Expr) -> tuple[Expr, Expr]:
    return call("mantissa", x), call("exponent", x)


def _cast(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Expr:
    x: Expr = args[0]
    if kind(x) == "bool":
        return as_real(x)
    wanted = [*args[1:], *kwargs.values()]
    if wanted == [PIXEL_DTYPE] or (wanted and isinstance(wanted[0], Expr)):
        return x
    raise TraceError(
        f"`{name}` would change the precision of a number in the middle of a map", where=user_line(),
        way_out="A map computes in the layer's own dtype (float32 for float16 and bfloat16); drop the cast.",
    )  # fmt: skip


ADAPTERS: dict[str, Callable[..., Any]] = {
    "add": _add, "sub": _sub, "mul": _mul, "neg": _neg, "div": _div, "clamp": _clamp, "max": _max, "min": _min,
    "gelu": _gelu, "round": _round, "logit": _logit, "where": _where, "polygamma": _polygamma, "frexp": _frexp,
    "zeros_like": lambda x, **_: const(0.0), "ones_like": lambda x, **_: const(1.0),
    "full_like": lambda x, fill_value, **_: fill_value,
}  # fmt: skip
