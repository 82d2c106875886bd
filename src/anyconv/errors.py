"""One exception class per kind of mistake, and how "where" is shown.

The depth states the fact, and every message ends with the way out::

    TraceError: `bool(pixel)` cannot be traced: the map is called once for all pixels, ...
      model.py:22
        return x * w if x > 0 else 0
      Write `torch.where(x > 0, a, b)` instead.
"""

from __future__ import annotations

import linecache
import sys
from types import FrameType

_INTERNAL = {"anyconv", "torch", "functools", "contextlib"}


class AnyConvError(Exception):
    """Base of every error that anyconv raises on purpose.

    Args:
        fact: what is wrong, naming the argument and the value seen.
        where: the user's own line, from :func:`user_line`, or nothing.
        way_out: what to write instead.
    """

    def __init__(self, fact: str, *, where: str = "", way_out: str = "") -> None:
        parts = [fact, *(("  " + where,) if where else ()), *(("  " + way_out,) if way_out else ())]
        super().__init__("\n".join(parts))


class TraceError(AnyConvError, TypeError):
    """The map does something that one pixel and its weights cannot express."""


class FormulaError(AnyConvError, ValueError):
    """A formula, its operands or its reduction are not well formed."""


class ExprError(AnyConvError, ValueError):
    """A text or an Expr breaks the grammar of maps."""


class GeometryError(AnyConvError, ValueError):
    """Kernel size, stride, padding, dilation, groups or padding mode make no sense."""


class ShapeError(AnyConvError, ValueError):
    """A tensor has a shape that the call cannot use."""


class DtypeError(AnyConvError, TypeError):
    """A tensor has a dtype that the call cannot use, or is no tensor at all."""


class DeviceError(AnyConvError, ValueError):
    """Tensors of one call lie on different devices."""


class BackendError(AnyConvError, ValueError):
    """The chosen backend is unknown, or cannot do what the formula asks."""


def is_internal(frame: FrameType) -> bool:
    """Whether a frame belongs to this library, or to one that calls the user's code for it."""
    return frame.f_globals.get("__name__", "").split(".")[0] in _INTERNAL


def user_line(frame: FrameType | None = None) -> str:
    """The innermost line of the user's own code, as ``file:line`` and its text."""
    frame = frame or sys._getframe(1)
    while frame is not None and is_internal(frame):
        frame = frame.f_back
    if frame is None:
        return ""
    return show_line(frame.f_code.co_filename, frame.f_lineno)


def show_line(filename: str, lineno: int) -> str:
    """``file:line``, and the line itself where its text can be found."""
    text = linecache.getline(filename, lineno).strip()
    place = f"{filename}:{lineno}"
    return f"{place}\n    {text}" if text else place
