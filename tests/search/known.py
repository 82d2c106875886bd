"""Faults that are known and not mended yet: the search goes on past them, counts them, and says which no longer show.

A fault is narrow: ``meets`` looks at the case and the backend, ``shows`` at one failure. A fault that was met often and never
showed is mended, and its row is to be taken out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from anyconv.backends.functor import functor
from anyconv.plan.hoist import hoist

from .case import Case, Own
from .formulas import formula_of
from .outcome import Failure

HALVES = ("float16", "bfloat16")


@dataclass(frozen=True)
class Known:
    """A fault by name, in a line, and how to know it."""

    name: str
    says: str
    meets: Callable[[Case, str], bool]
    shows: Callable[[Case, Failure], bool]


def _texts(case: Case) -> str:
    return " ".join([case.source.map, case.source.epilogue or "", *(text for _, text in case.source.gradient)])


def _gradient(failure: Failure) -> bool:
    return failure.what.startswith(("gradient", "second"))


def multiplies_signs(case: Case) -> bool:
    """Return whether a kernel's gradients have the sign of something as a factor."""
    found = functor(hoist(formula_of(case.source).mathematics).mathematics)
    exprs = (*found.gradients.values(), *found.contexts)
    return any(node.op == "sign_times" for expr in exprs for node in expr.nodes())


CHOICES = ("where", "max", "min", "clamp", "relu", "hard", "shrink", "threshold")  # parts of the names of what chooses


STEPS = ("sgn", "sign", "floor", "ceil", "round", "trunc", "heaviside")  # what is constant in pieces


def selects(case: Case) -> bool:
    """Return whether something in a map or its reductions takes one of its arguments, and leaves the others."""
    found = (*case.source.reduce, case.source.over, _texts(case))
    return any(choice in text for choice in CHOICES for text in found if isinstance(text, str))


ROUGH = ("tanh", "**", "pow", "gelu", "mish", "norm1.5")  # "tanh" is part of what its derivative is made of, too


def _is_rough(case: Case) -> bool:
    """Return whether a map or reduction has one of the functions that Triton's kernels are less precise in."""
    found = (*case.source.reduce, case.source.over, _texts(case))
    return any(name in text for name in ROUGH for text in found if isinstance(text, str))


def _image(case: Case, what: str) -> bool:
    """Return whether a failure is one of the gradient of an image; of a transposed convolution, of any tensor."""
    images = {"x", *(o.name for o in case.source.operands if o.scope == "guide")}
    name = what.removeprefix("gradient of ")
    return what.startswith("second") or (name != what and (case.place.kind == "transposed" or name in images))


KNOWN = (
    Known(
        "gradients in half", "what is summed outside kernels (padding that repeats, centers, phases) is summed in half precision",
        lambda case, backend: case.dtype in HALVES and (
            case.place.mode in ("reflect", "replicate", "circular") or case.place.kind == "transposed"
            or any(o.scope == "center" for o in case.source.operands)
        ),
        lambda case, f: f.in_half and _image(case, f.what),
    ),
    Known(
        "where around a pole", "a pole or NaN in the branch not taken spoils a gradient (issue 21.8)",
        lambda case, backend: "where(" in _texts(case),
        lambda case, f: f.unselected and f.kind in {"spoiled", "not finite"} and _gradient(f),
    ),
    Known(
        "native in half", "torch's convolutions sum in half precision, and slopes are evaluated in it (issue 21.3)",
        lambda case, backend: case.dtype in HALVES and backend in ("native", "separated"),
        lambda case, f: f.in_half,
    ),
    Known(
        "native cancels", "a level that is taken off the pixel is summed apart from it, and both are large (issue 21.3)",
        lambda case, backend: backend == "native" and case.numbers == "far" and "100000" in case.source.map,
        lambda case, f: f.kind == "differs",
    ),
    Known(
        "unseen pixels", "a pixel that no tap reads gets the gradient 0 times the slope there, which may be infinite",
        lambda case, backend: backend == "separated" and max(case.place.stride) > 1,
        lambda case, f: f.kind == "spoiled" and _gradient(f),
    ),
    Known(
        "all masked", "a field of a softmax, argmax or argmin whose keys are all infinite has no rule yet (issue 21.9)",
        lambda case, backend: case.numbers == "special" and bool({"softmax", "argmax", "argmin"} & {*case.source.reduce}),
        lambda case, f: f.masked,
    ),
    Known(
        "fmax interpreted", "Triton's interpreter cannot run fmax and fmin: `|` and `&` of what is no truth value",
        lambda case, backend: case.backend == "triton",
        lambda case, f: f.kind == "InterpreterError" and "bitwise_" in f.message,
    ),
    Known(
        "functions on triton", "tanh, powers, gelu and mish of Triton's kernels are good to 24 to 99 eps in float32",
        lambda case, backend: backend == "triton" and case.dtype == "float32" and _is_rough(case),
        lambda case, f: f.kind == "differs" and f.ratio < 100,
    ),
    Known(
        "second of products", "a second derivative of a product subtracts what is large where a factor is small",
        lambda case, backend: case.second and case.dtype not in HALVES and "prod" in (*case.source.reduce, case.source.over),
        lambda case, f: f.what.startswith("second") and f.kind == "differs" and f.ratio < 100,
    ),
    Known(
        "NaN at a kink", "kernels give the gradient 0 where a NaN or an infinite gradient meets a kink (issue 21)",
        lambda case, backend: backend == "cpp" and multiplies_signs(case),
        lambda case, f: f.kind == "lost" and _gradient(f),
    ),
    Known(
        "constant at NaN", "kernels leave a derivative out that is 0 everywhere, torch multiplies it by a NaN (issue 21)",
        lambda case, backend: backend == "cpp" and any(f"{c}(" in _texts(case) for c in STEPS),
        lambda case, f: f.kind == "lost" and _gradient(f),
    ),
    Known(
        "selected by a factor", "kernels multiply an infinite gradient by 0 where torch leaves it out (issue 21.8)",
        lambda case, backend: backend == "cpp" and case.numbers == "special gradient" and selects(case),
        lambda case, f: f.kind == "spoiled" and _gradient(f),
    ),
    Known(
        "own count", "a reduction whose step reads its own count has no kernel: KeyError 'count' (issue 21.4)",
        lambda case, backend: any(isinstance(r, Own) and r.counts for r in (*case.source.reduce, case.source.over)),
        lambda case, f: f.kind == "KeyError" and "count" in f.message,
    ),
)  # fmt: skip


def known(case: Case, backend: str, failure: Failure) -> str:
    """The name of the known fault that a failure is, or nothing."""
    for fault in KNOWN:
        if fault.meets(case, backend) and fault.shows(case, failure):
            return fault.name
    return ""


def met(case: Case, backend: str) -> list[str]:
    """The known faults that a case might show."""
    return [fault.name for fault in KNOWN if fault.meets(case, backend)]
