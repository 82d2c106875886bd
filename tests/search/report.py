"""A failing case as a test that stands by itself: its tensors, the call, and the right numbers from the oracle."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

from torch import Tensor

from . import draw
from .case import Case, Place
from .check import Comparison, moves_of, run
from .numbers import tensors_of
from .outcome import Failure, Outcome
from .shrink import shrink
from .tally import Tally, record


def report(tally: Tally, shares: draw.Shares, per_formula: int, *, seconds: float) -> None:
    """Shrink the first failure of each kind that is not known, and print it as a test."""
    for number, (key, ones) in enumerate(tally.clusters.items()):
        if key[0] != "new" or "Died" in key or "Broken" in key:
            continue
        case = draw.case(ones[0]["seed"], ones[0]["index"], per_formula, shares)
        small = smallest(case, seconds)
        print(f"\n# {' | '.join(key)}: case {case.origin}, {small}\n")
        print(as_test(small, f"test_found_{number}"))


def smallest(case: Case, seconds: float, compute: Callable[[Case], Outcome] = run) -> Case:
    """A small case that fails as a case does: in the same tensor or one like it, on the same backend, in the same way."""
    first = compute(case)
    wanted = _ways(first)
    return shrink(case, lambda one: _same(compute(one), first, wanted), seconds)


def _ways(outcome: Outcome) -> set[tuple[str, str]]:
    return {(f.what.split()[0], f.kind) for f in outcome.failures}


def _same(outcome: Outcome, first: Outcome, wanted: set[tuple[str, str]]) -> bool:
    return outcome.backend == first.backend and bool(_ways(outcome) & wanted)


def as_test(case: Case, name: str) -> str:
    """A test of a case, complete: pytest runs it as it stands."""
    outcome = run(case)
    tensors, grad = tensors_of(case)
    lines = [f"{n} = {_tensor(t)}" for n, t in tensors.items()] + [f"cotangent = {_tensor(grad)}"]
    inside = [f"{n!r}: {n}" for n in tensors if n not in ("x", "bias")]
    leaves = [n for n in tensors if n not in {o.name for o in case.source.operands if o.frozen}]
    lines += [f"formula = {case.source.text}", *(f"{n}.requires_grad_()" for n in leaves)]
    lines.append(_call(case, "{" + ", ".join(inside) + "}", has_bias="bias" in tensors))
    if outcome.failures and outcome.failures[0].kind[0].isupper():
        lines.append(
            f"torch.autograd.grad(y, [{', '.join(leaves)}], cotangent, allow_unused=True)  # {outcome.failures[0].kind}"
        )
        return _function(name, lines)
    lines.append(f"leaves = [{', '.join(leaves)}]")
    given = ", ".join(["y, leaves, cotangent, materialize_grads=True", *(["create_graph=True"] if case.second else [])])
    lines.append(f"gradients = torch.autograd.grad({given})")
    comparison = Comparison(case)
    comparison.sharpen(10)
    for failure in outcome.failures:
        lines += _assertion(failure, comparison, leaves)
    return _function(name, lines)


def _function(name: str, lines: list[str]) -> str:
    head = (
        "import math\n\nimport torch\nimport torch.nn.functional as F\nfrom torch import inf, nan\n\nimport anyconv\n"
    )
    head += "from anyconv.functional import convolve\nfrom anyconv.geometry import Geometry\n\n\n"
    return head + f"def {name}():\n" + textwrap.indent("\n".join(lines), "    ") + "\n"


def _assertion(failure: Failure, comparison: Comparison, leaves: list[str]) -> list[str]:
    """Lines that fail as long as the fault is there; a tolerance for each number."""
    gold = comparison.gold[failure.what]
    if failure.what == "y":
        got, lines = "y", []
    elif failure.what.startswith("gradient of "):
        got, lines = f"gradients[{leaves.index(failure.what.removeprefix('gradient of '))}]", []
    else:
        moves = moves_of(comparison.case, {n: comparison.tensors[n] for n in leaves})
        at = leaves.index(failure.what.removeprefix("second derivative in "))
        lines = [
            f"moves = [{', '.join(_tensor(moves[n].to(comparison.dtype)) for n in leaves)}]",
            "total = sum((g * m).sum() for g, m in zip(gradients, moves))",
            "second = torch.autograd.grad(total, leaves, retain_graph=True, materialize_grads=True)",
        ]
        got = f"second[{at}]"
    if failure.kind in ("dtype", "shape"):
        return [*lines, f"assert ({got}.dtype, {got}.shape) == ({comparison.dtype}, {gold.shape})"]
    bound = comparison.bound(failure.what).nan_to_num(nan=0.0, posinf=1e300)
    return [
        *lines, f"# {failure.message}", f"got, right = {got}.double(), torch.tensor({gold.tolist()}, dtype=torch.float64)",
        f"near = (got - right).abs() <= torch.tensor({bound.tolist()}, dtype=torch.float64)",
        "assert (near | (got == right) | (got.isnan() & right.isnan())).all()",
    ]  # fmt: skip


def _tensor(t: Tensor) -> str:
    """A tensor as text, with its strides where they are not the usual ones."""
    text = f"torch.tensor({t.double().tolist()}, dtype={t.dtype})"
    if 0 in t.shape:
        return f"torch.zeros({tuple(t.shape)}, dtype={t.dtype})"
    if t.is_contiguous() and t.storage_offset() == 0:
        return text
    return (
        f"torch.empty_strided({tuple(t.shape)}, {t.stride()}, dtype={t.dtype}).copy_({text})"
        if 0 not in t.stride()
        else (f"torch.tensor({_first(t).double().tolist()}, dtype={t.dtype}).expand({tuple(t.shape)})")
    )


def _first(t: Tensor) -> Tensor:
    for axis, (n, stride) in enumerate(zip(t.shape, t.stride(), strict=True)):
        if n > 1 and stride == 0:
            t = t.narrow(axis, 0, 1)
    return t


def _call(case: Case, params: str, *, has_bias: bool) -> str:
    p, bias = case.place, "bias" if has_bias else "None"
    if p.kind == "transposed":
        spans = (
            f"Spans.of({p.dims}, {p.kernel}, stride={p.stride}, padding={p.padding}, output_padding={p.more}, "
            f"groups={p.groups}, dilation={p.dilation})"
        )
        return (
            "from anyconv.transposed import Spans, transpose\n"
            f"y = transpose(x, {params}, {bias}, formula=formula, spans={spans}, out_channels={p.out_channels}, "
            f"backend={case.backend!r})"
        )
    if p.kind == "pool" and p.ceil:
        own = ", ".join(
            f"{o.name!r}: {o.name}" for o in case.source.operands if o.passed and o.scope not in ("guide", "per_site")
        )
        images = ", ".join(f"{o.name!r}: {o.name}" for o in case.source.operands if o.scope in ("guide", "per_site"))
        return (
            f"layer = anyconv.Pool{p.dims}d({p.kernel}, formula, stride={p.stride}, padding={p.padding!r}, dilation={p.dilation}, "
            f"ceil_mode=True, channels={p.in_channels}, padding_mode={p.mode!r}, backend={case.backend!r}, dtype=x.dtype)\n"
            f"y = torch.func.functional_call(layer, {{{own}}}, (x,), {{{images}}})"
        )
    return (
        f"geometry = Geometry.of({_geometry(p)})\n"
        f"y = convolve(x, {params}, {bias}, formula=formula, geometry=geometry, out_channels={p.out_channels}, "
        f"backend={case.backend!r})"
    )


def _geometry(p: Place) -> str:
    given = [f"{p.dims}, {p.kernel}"]
    usual = {"stride": (1,) * p.dims, "padding": (0,) * p.dims, "dilation": (1,) * p.dims, "groups": 1}
    given += [f"{key}={getattr(p, key)!r}" for key, value in usual.items() if getattr(p, key) != value]
    return ", ".join(given + ([f"padding_mode={p.mode!r}"] if p.mode != "zeros" else []))


__all__ = ["as_test", "record", "report", "smallest"]
