"""How Triton writes an Expr, and which names it and the skeletons have taken."""

from __future__ import annotations

import functools
import keyword
import math

from ...expr.ops import TABLE
from ..spell import Dialect
from .library import functions

_TAKEN = """
    tl triton R WHOLE INNER COUNTS FILL TARGET SITES FILTERS tensors strides place seen axes state inner outer count
    context total pointer pitch mask new old at g True False None float int range
"""


def literal(value: float) -> str:
    """A number as Python writes it."""
    return repr(value) if math.isfinite(value) else f'float("{value}")'


@functools.cache
def dialect(dtype: str) -> Dialect:
    """The dialect of kernels that compute in ``dtype``.

    A number of Python's beside a tensor takes the tensor's type; where there may be none, float64 says what it is.
    """
    wide = dtype == "float64"

    def constant(value: float | bool) -> str:
        if isinstance(value, bool):
            return f"tl.full((1, 1), {value}, tl.int1)"
        return f"tl.full((1, 1), {literal(value)}, R)" if wide else literal(value)

    def argument(value: float | bool) -> str:
        text = constant(value)
        return text if text.startswith("tl.full") else f"tl.full((1, 1), {text}, R)"

    return Dialect(
        constant=constant,
        argument=argument,
        templates={
            "where": "tl.where({}, {}, {})", "real": "tl.where({}, 1.0, 0.0).to(R)", "fma": "tl.fma({}, {}, {})",
            "abs": "tl.abs({})", "floor": "tl.floor({})", "ceil": "tl.ceil({})", "detach": "({})",
            "logical_not": "(({}) == 0)",
        },
        prefix=("", ""),
        end="",
        accumulate="{} + {}",
        deduct="{} - {}",
        reserved=frozenset(_TAKEN.split()) | set(keyword.kwlist) | set(TABLE) | set(functions()),
    )  # fmt: skip
