"""choose: which backend computes a problem, and why.

>>> choose(problem, "auto").backend
'native'
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import importlib.util
import math
import os
import re
from dataclasses import dataclass

from ..errors import BackendError, DtypeError
from ..expr import Expr, simplify
from ..expr.ops import TABLE
from ..expr.parse import read
from ..mathematics import Mathematics
from ..reductions.builtin import MEAN, SUM
from .affine import Line, affine
from .problem import Problem
from .separate import Terms, is_worth, separated

BACKENDS = ("auto", "native", "cpp", "triton", "reference")
UNROLLED = 400  # operations of a map of whole fields: a compiler needs seconds for so many, and minutes for more
GRID = 65535  # of CUDA, along all axes but the first
OLDEST_TRITON = (3, 4)
TRITON_DEVICES = ("cuda", "xpu")  # torch calls ROCm's devices cuda too
ROUNDED = {  # to float32, by Triton's kernels
    "asin", "acos", "atan", "atan2", "erfc", "erfinv", "lgamma", "digamma", "polygamma",
}  # fmt: skip
FLOATS = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Plan:
    """A backend, the reason for it, and, where it is native, the line whose slope is the weight, or the terms.

    Args:
        falls_back: kernels would have been quicker, and are not to be had for the reason.
        required: the backend was asked for by name, and no other will do.
    """

    backend: str
    reason: str
    line: Line | None = None
    terms: Terms | None = None
    falls_back: bool = False
    required: bool = False


def choose(problem: Problem, backend: str = "auto") -> Plan:
    """The plan for a problem.

    Raises:
        BackendError: the backend is unknown, or cannot do it; with the reason.
        DtypeError: no backend does this formula in this dtype.
    """
    if backend not in BACKENDS:
        raise BackendError(f"`backend` must be one of {', '.join(BACKENDS)}, got {backend!r}")
    line, reason = _native(problem)
    if line is not None and backend in ("auto", "native"):
        return Plan("native", reason, line)
    terms = separated(problem) if backend in ("auto", "native") else None
    if terms is not None and (backend == "native" or is_worth(terms, problem.device)):
        count = sum(map(len, terms))
        several = f"{count} ordinary convolutions" if count > 1 else "an ordinary convolution"
        return Plan("native", f"{several}, of images alone and weights alone", None, terms)
    if backend == "native":
        raise BackendError(
            f"the native backend cannot compute {problem.formula}: {reason}", way_out="Use backend='auto'."
        )
    if problem.dtype not in FLOATS:
        raise DtypeError(
            f"`x` has dtype {problem.dtype}; {problem.formula} is computed in {', '.join(FLOATS)}",
            way_out="Convert it: `x.float()`.",
        )
    why = reason if line is None else "asked for"
    return Plan("reference", why) if backend == "reference" else _generated(problem, backend, why)


def _generated(problem: Problem, backend: str, why: str) -> Plan:
    """A kernel, or the reference backend where there is none for the problem."""
    if backend == "cpp" and problem.device != "cpu":
        raise BackendError(
            f"the cpp backend computes on the CPU, `x` is on {problem.device}", way_out="Use backend='auto'."
        )
    kernels = "cpp" if problem.device == "cpu" else "triton"
    if backend == "triton":
        kernels = _asked_for_triton(problem)
    lacks = _beyond_cpp(problem) if kernels == "cpp" else _beyond_triton(problem)
    if lacks and backend == kernels:
        raise BackendError(
            f"the {backend} backend has no kernel for {problem.formula}: {lacks}", way_out="Use backend='auto'."
        )
    if lacks:
        return Plan("reference", lacks, falls_back=True)
    return Plan(kernels, why, required=backend == kernels)


def _asked_for_triton(problem: Problem) -> str:
    """Refuse what Triton cannot run: without a GPU it has only its interpreter.

    Raises:
        BackendError: the tensors are on the CPU, and nothing interprets kernels there.
    """
    if problem.device == "cpu" and os.environ.get("TRITON_INTERPRET", "0") != "1":
        raise BackendError(
            "the triton backend computes on GPUs, `x` is on the CPU",
            way_out="Use backend='auto'; or set TRITON_INTERPRET=1 before the first call, to follow a kernel there.",
        )
    return "triton"


def _beyond_triton(problem: Problem) -> str:
    """Why the triton backend has no kernel, if it has none."""
    if problem.device not in ("cpu", *TRITON_DEVICES):
        return f"Triton knows no device of the type {problem.device}"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    if (version := _triton_version()) < OLDEST_TRITON:
        return f"Triton {'.'.join(map(str, version))} is older than {'.'.join(map(str, OLDEST_TRITON))}"
    m, g = problem.formula.mathematics, problem.geometry
    if g.groups * math.prod(g.stride) > GRID:
        return f"its {g.groups} groups, times the stride, are more than a GPU's grid has room for"
    if problem.dtype == "float64" and (rounded := sorted(ROUNDED & _operations(m))):
        return f"{', '.join(rounded)} is computed in float32"
    return _unrolled(problem)


@functools.cache
def _triton_version() -> tuple[int, ...]:
    """Of whichever distribution brings Triton: it has another name for each kind of GPU."""
    for name in ("triton", "pytorch-triton-rocm", "triton-rocm", "pytorch-triton-xpu", "triton-xpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return tuple(int(part) for part in re.findall(r"\d+", importlib.metadata.version(name))[:2])
    return OLDEST_TRITON  # installed in a way that says no version


@functools.lru_cache(maxsize=256)
def _operations(m: Mathematics) -> set[str]:
    """What a kernel of a formula may compute: the operations of all it says, and of their derivatives."""
    exprs = [*m.values, m.finish, *(slope for _, slopes in m.slopes for slope in slopes)]
    for r in (m.reduction, m.inner):
        exprs += [expr for some in (r.exprs.values() if r else ()) for expr in some]
    said = {node.op for expr in map(simplify, exprs) for node in expr.nodes()}
    for op in sorted(said & set(TABLE)):
        said |= {node.op for text in TABLE[op].derivative if text for node in read(text).nodes()}
    return said


def _beyond_cpp(problem: Problem) -> str:
    """Why the cpp backend has no kernel, if it has none."""
    f = problem.formula.mathematics
    if any(v.is_image for v in f.outer):
        return "its epilogue sees an operand per site"
    return _unrolled(problem)


def _unrolled(problem: Problem) -> str:
    f = problem.formula.mathematics
    if f.field is not None and f.operations > UNROLLED:
        return f"its map has {f.operations} operations; kernels unroll up to {UNROLLED}"
    return ""


def _native(problem: Problem) -> tuple[Line | None, str]:
    formula, geometry = problem.formula, problem.geometry
    if not formula.mathematics.is_plain or any(v.part is not None for v in formula.mathematics.variables):
        return None, "it is more than a sum of one value of pixels and weights"
    if formula.reduction not in (SUM, MEAN):  # a user's own may have their names
        return None, f"it reduces by {formula.reduction.name}, an ordinary convolution by sum"
    line = affine(formula.expr, formula.pixel)
    if line is None:
        return None, f"its map is not linear in {formula.pixel}"
    if geometry.mode == "skip":
        return None, "padding_mode='skip' leaves taps out"
    if problem.dtype == "bool" or (problem.dtype not in FLOATS and not _is_weight(line, problem)):
        return None, f"in {problem.dtype} only the plain product is native"
    return line, f"a sum of {line.slope} * {formula.pixel} is an ordinary convolution"


def _is_weight(line: Line, problem: Problem) -> bool:
    slope: Expr = line.slope
    plain = slope.op == "var" and problem.formula.parameters[str(slope.value)].axes == "ock"
    return plain and line.offset.value == 0.0 and problem.formula.reduction == SUM
