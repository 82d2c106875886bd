"""torch's function for every operation of the table: the library with which an Expr is evaluated on tensors.

>>> evaluate(parse("maximum(x, 0)"), {"x": torch.tensor([-1.0, 2.0])}, torch_library(torch.float32))
tensor([0., 2.])
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from ..expr.ops import TABLE

Call = Callable[..., Any]

# these take Python numbers beside tensors, and are quicker (and, for powers, exact) with them
_WITH_NUMBERS: dict[str, Call] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "div": operator.truediv, "neg": operator.neg,
    "pow": operator.pow, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "eq": operator.eq, "ne": operator.ne, "softplus": F.softplus, "leaky_relu": F.leaky_relu, "elu": F.elu,
    "celu": F.celu, "hardtanh": F.hardtanh, "softshrink": F.softshrink, "threshold": F.threshold,
    "polygamma": lambda n, x: torch.polygamma(int(n), x),
}  # fmt: skip
_NAMED_OTHERWISE: dict[str, Call] = {
    # torch's own backward pass fails where the number is smaller than one of its limits and they are to be broadcast
    "clamp": lambda x, lo, hi: torch.clamp(*torch.broadcast_tensors(x, lo, hi)),  # type: ignore[no-untyped-call]
    "hardsigmoid": lambda x: F.relu6(x + 3) / 6,  # torch's own gradient, in float64, is 1 / 6 as float32 knows it
    # torch's own gradient at NaN depends on where the number lies in memory
    "hardshrink": lambda x, bound: torch.where((x >= -bound) & (x <= bound), 0, x),
    "clamp_min": lambda x, lo: torch.clamp(x, min=lo),
    "clamp_max": lambda x, hi: torch.clamp(x, max=hi),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    # what is 0 everywhere is not to be multiplied by the slope of a pole
    "floor_divide": lambda x, w: torch.div(x.detach(), w.detach(), rounding_mode="floor"),
    "trunc_divide": lambda x, w: torch.div(x.detach(), w.detach(), rounding_mode="trunc"),
    "mantissa": lambda x: torch.frexp(x).mantissa,
    "exponent": lambda x: torch.frexp(x).exponent.to(x.dtype),
}
_PLACES = (torch, F, torch.special)  # where torch's functions are looked for, under the name of the row


@functools.cache
def torch_library(dtype: torch.dtype) -> dict[str, Call]:
    """Every row of the table as a function of tensors of ``dtype``, conditions and Python numbers."""
    return {name: _tolerant(name, _function(name, dtype), dtype) for name in TABLE}


def _function(name: str, dtype: torch.dtype) -> Call:
    if name == "real":
        return lambda condition: condition.to(dtype)
    named = _WITH_NUMBERS.get(name) or _NAMED_OTHERWISE.get(name)
    function: Call = named or next(getattr(place, name) for place in _PLACES if hasattr(place, name))
    return function


def _tolerant(name: str, function: Call, dtype: torch.dtype) -> Call:
    """``function`` for arguments some of which are Python numbers, as the constants of an Expr are."""
    takes_numbers = name in _WITH_NUMBERS
    stays = [param.kind == "number" for param in TABLE[name].params]

    def call(*args: Any) -> Any:
        like = next((a for a in args if isinstance(a, torch.Tensor)), None)
        if like is not None and takes_numbers:
            return function(*args)
        return function(*(a if stay else _tensor(a, dtype, like) for a, stay in zip(args, stays, strict=True)))

    return call


def _tensor(value: Any, dtype: torch.dtype, like: torch.Tensor | None) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    kind = torch.bool if isinstance(value, bool) else dtype
    # filled, not copied there: a copy from the CPU cannot be captured in a graph
    return torch.full((), value, dtype=kind, device=None if like is None else like.device)
