"""trace(function) -> Expr: call the user's function once, with tracers in place of tensors.

    >>> trace(lambda x, w: torch.tan(x + w), ("x", "w"))
    Expr('tan(x + w)')

A tracer speaks torch's public ``__torch_function__`` protocol, so functions, methods and operators all reach it. The
function's source is never read, and torch itself is never imported here.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, NoReturn

from ..errors import AnyConvError, TraceError, is_internal, show_line, user_line
from .expr import Expr, const, var
from .spellings import PIXEL_DTYPE, as_real, known, refuse, spell
from .verify import verify

Function = Callable[..., Any]


def trace(function: Function, names: Sequence[str]) -> Expr:
    """The Expr of ``function``, whose arguments are called ``names``.

    Raises:
        TraceError: the function does what one pixel cannot; the message shows the user's line and the way out.
    """
    what = f"the map `{label(function)}`"
    return _number(function, _called(function, [var(name) for name in names], what), what)


def trace_all(function: Function, arguments: Sequence[Expr | tuple[Expr, ...]], what: str = "") -> tuple[Expr, ...]:
    """All that a function returns, where it may return several numbers; an argument may be a vector of them.

    Args:
        what: how a message calls the function; by default the map of its name.

    Raises:
        TraceError: as :func:`trace`.
    """
    what = what or f"the map `{label(function)}`"
    result = _called(function, arguments, what)
    several = result if isinstance(result, (tuple, list)) and result else (result,)
    return tuple(_number(function, one, what) for one in several)


def _called(function: Function, arguments: Sequence[Expr | tuple[Expr, ...]], what: str) -> Any:
    given = [tuple(map(Tracer, a)) if isinstance(a, tuple) else Tracer(a) for a in arguments]
    try:
        return function(*given)
    except AnyConvError:
        raise
    except Exception as error:
        where = _line_of(error.__traceback__)
        raise TraceError(
            f"{what} raised {type(error).__name__}: {error}", where=where, way_out=_advice(where, _about(error))
        ) from error


def _number(function: Function, result: Any, what: str) -> Expr:
    return verify(as_real(_result(function, result, what)))


def _about(error: Exception) -> str:
    if "must be Tensor, not" in str(error):
        return "torch wants a tensor there too: write `torch.full_like(x, number)`, or `clamp` for a bound."
    return "The map was called once, with a tracer in place of each tensor."


def label(function: Function) -> str:
    """The function's name, as messages show it."""
    return getattr(function, "__qualname__", None) or type(function).__name__


def home(function: Function) -> str:
    """Where the function stands, or nothing."""
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    return show_line(code.co_filename, code.co_firstlineno) if code else ""


def _result(function: Function, result: Any, what: str) -> Expr:
    if isinstance(result, Tracer):
        return result.expr
    if isinstance(result, numbers.Real):
        return const(float(result))
    got = "nothing; is a `return` missing?" if result is None else f"{type(result).__name__}"
    raise TraceError(
        f"{what} returned {got}", where=home(function),
        way_out="A map returns one number: a torch expression of its arguments.",
    )  # fmt: skip


def _line_of(traceback: TracebackType | None) -> str:
    found = ""
    while traceback is not None:
        if not is_internal(traceback.tb_frame):
            found = show_line(traceback.tb_frame.f_code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def _lift(value: Any) -> Any:
    """Tracers and numbers as Exprs; what no expression can hold is refused; the rest as it is (None, strings)."""
    if isinstance(value, Tracer):
        return value.expr
    if isinstance(value, bool):
        return const(value)
    if isinstance(value, numbers.Real):
        try:
            return const(float(value))
        except OverflowError:
            raise TraceError(
                "a number too large for a float meets a pixel", where=user_line(),
                way_out="The largest float64 is 1.8e308.",
            ) from None  # fmt: skip
    if isinstance(value, numbers.Complex):
        raise TraceError(
            f"the complex number {value} meets a pixel; a map is real", where=user_line(),
            way_out="Write its real and imaginary part as two formulas.",
        )  # fmt: skip
    if hasattr(type(value), "__torch_function__") or type(value).__module__ == "numpy":
        raise _captured(value)
    return value


def _captured(value: Any) -> TraceError:
    where = user_line()
    if re.search(r"\brand", where):
        fact = "a random tensor"
        way_out = "A map is a fixed function; draw the numbers outside and pass them as an operand."
    else:
        fact = f"a {type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))} that is no argument of the map"
        way_out = "Make it an argument of the map (an operand), or a Python number if it never changes: `float(value)`."
    return TraceError(f"the map uses {fact}", where=where, way_out=way_out)


def _wrap(value: Any) -> Any:
    return tuple(map(_wrap, value)) if isinstance(value, tuple) else Tracer(value)


def _call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not known(name):
        raise refuse(name)
    return _wrap(spell(name, tuple(map(_lift, args)), {key: _lift(value) for key, value in kwargs.items()}))


def _operator(name: str, *, swapped: bool = False) -> Any:
    def method(self: Tracer, *others: Any) -> Any:
        if any(other is None or isinstance(other, (str, list, tuple, dict)) for other in others):
            return NotImplemented
        return _call(name, (*others, self) if swapped else (self, *others), {})

    return method


def _escape(what: str, way_out: str) -> Any:
    def method(self: Tracer, *_: Any) -> NoReturn:
        where = user_line()
        raise TraceError(
            f"{what} cannot be known while `{self.expr}` is traced", where=where, way_out=_advice(where, way_out)
        )

    return method


def _advice(line: str, way_out: str) -> str:
    """The way out that fits what the user's line is seen to do."""
    if found := re.search(r"\b(math|np|numpy)\.(\w+)", line):
        return f"`{found[0]}` needs numbers that are known now; write `torch.{found[2]}`."
    if found := re.search(r"(?<![\w.])(max|min)\(", line):
        return f"Python's `{found[1]}` compares now; write `torch.{found[1]}imum`."
    if found := re.search(r"\b(and|or|not)\b", line):
        return f"Python's `{found[1]}` decides now; write `torch.logical_{found[1]}`."
    return way_out


class Tracer:
    """Stands for a number that is not known yet: a pixel, a weight, or what was computed of them."""

    __slots__ = ("expr",)
    __array_ufunc__ = None  # numpy then leaves `np.float32(2) * x` to us, and refuses `np.tan(x)`
    __hash__ = object.__hash__

    def __init__(self, expr: Expr) -> None:
        self.expr = expr

    def __repr__(self) -> str:
        return f"<{self.expr}>"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.removeprefix("special_")
        return _call(name, tuple(args), dict(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "dtype":
            return PIXEL_DTYPE
        if not known(name):
            raise refuse(name)
        return lambda *args, **kwargs: _call(name, (self, *args), kwargs)

    __add__, __radd__ = _operator("add"), _operator("add", swapped=True)
    __sub__, __rsub__ = _operator("sub"), _operator("sub", swapped=True)
    __mul__, __rmul__ = _operator("mul"), _operator("mul", swapped=True)
    __truediv__, __rtruediv__ = _operator("div"), _operator("div", swapped=True)
    __floordiv__, __rfloordiv__ = _operator("floor_divide"), _operator("floor_divide", swapped=True)
    __mod__, __rmod__ = _operator("remainder"), _operator("remainder", swapped=True)
    __pow__, __rpow__ = _operator("pow"), _operator("pow", swapped=True)
    __neg__, __pos__, __abs__ = _operator("neg"), _operator("positive"), _operator("abs")
    __lt__, __le__, __gt__, __ge__ = _operator("lt"), _operator("le"), _operator("gt"), _operator("ge")
    __eq__, __ne__ = _operator("eq"), _operator("ne")
    __and__, __rand__ = _operator("__and__"), _operator("__and__", swapped=True)
    __or__, __ror__ = _operator("__or__"), _operator("__or__", swapped=True)
    __xor__, __rxor__ = _operator("__xor__"), _operator("__xor__", swapped=True)
    __invert__ = _operator("logical_not")

    __bool__ = _escape("a truth value", "The map is traced once for all pixels; write `torch.where(condition, a, b)`.")
    __float__ = __int__ = __index__ = __complex__ = _escape("a Python number", "Write the torch function of this name.")
    __len__ = __iter__ = __getitem__ = __setitem__ = _escape("a part", "A pixel is one number; drop the index.")
    __array__ = _escape("a numpy array", "Write the torch function of this name.")
