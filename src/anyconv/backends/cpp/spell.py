"""How C++ writes an Expr, and which names it and the skeletons have taken."""

from __future__ import annotations

import math

from ...expr.ops import TABLE
from ..spell import Dialect

_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const constexpr continue
    decltype default delete do double else enum explicit export extern false float for friend goto if inline int long
    mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register return short
    signed sizeof static struct switch template this throw true try typedef typeid typename union unsigned using
    virtual void volatile wchar_t while xor xor_eq
    F R T V N O C K Mask Real Bits Traits state pixel operand outer context
    g count dx dp splat splat_mask select fma truth bits
    accumulate deduct sign_times store load lanes up least any scale polynomial linux unix INF PI HUGE
"""
RESERVED = frozenset(_KEYWORDS.split()) | set(TABLE)


def _constant(value: float | bool) -> str:
    if isinstance(value, bool):
        return f"splat_mask<F>({str(value).lower()})"
    if math.isnan(value):
        return 'splat<F>(__builtin_nan(""))'
    if math.isinf(value):
        return f"splat<F>({'-' if value < 0 else ''}__builtin_inf())"
    return f"splat<F>({value!r})"


CPP = Dialect(
    constant=_constant,
    argument=_constant,
    templates={"where": "where({}, {}, {})", "real": "truth<F>({})", "fma": "fma({}, {}, {})"},
    prefix=("const F ", "const auto "),
    end=";",
    accumulate="accumulate({}, {})",
    deduct="deduct({}, {})",
    reserved=RESERVED,
)
