"""plain: a convolution as a fixed list of torch's functions, for programs that leave Python.

A loop over taps, unrolled, each for all channels and filters at once; where a formula is a few ordinary convolutions,
those. It takes the memory of a tap, and needs nothing but torch: so it can be exported, and run anywhere.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..expr.evaluate import evaluate_all
from ..geometry import Ints
from ..mathematics import Mathematics
from ..plan import Plan, Problem
from ..plan.separate import separated
from ..reductions import Reduction
from ..reductions.builtin import PROD
from ..reductions.reduction import joined
from . import native, reference
from . import separated as convolutions
from .derived import derived
from .epilogue import finish
from .folds import Fold, State
from .padding import check_padding, pad

# programs elsewhere know no mantissas: there a product is folded as it is, and may overflow on its way
_PRODUCT = Reduction(
    "prod", state=("p",), identity=("1",), step=("p * v",), merge=("a_p * b_p",), result="p", adjoint="p / v"
)


def forward(problem: Problem, plan: Plan, tensors: dict[str, Tensor], bias: Tensor | None) -> Tensor:
    """``y[n, o, *sites]`` of tensors by name, the pixel's ``x[n, c, *size]`` first."""
    formula, geometry = problem.formula, problem.geometry
    x = tensors[formula.pixel]
    check_padding(x, geometry)
    if plan.line is not None:
        return native.convolve(x, tensors, bias, problem, plan.line)
    operands = {name: t for name, t in tensors.items() if name != formula.pixel}
    operands |= derived(x, operands, formula, geometry) if formula.derived else {}
    terms = separated(problem)
    if terms is not None:
        return convolutions.plain(convolutions.Call(problem, terms), {formula.pixel: x, **operands}, bias)
    slides = {v.source for v in formula.mathematics.variables if v.slides}
    given = {name: pad(t, geometry)[0] if name in slides else t for name, t in operands.items()}
    # inductor (torch 2.13) cannot take a part of a single number that never changes, but of a vector of one
    given = {name: t.expand(1) if t.dim() == 0 else t for name, t in given.items()}
    x, geometry = pad(x, geometry)
    call = reference.Call(
        _without_mantissas(formula.mathematics), geometry, tuple(x.shape), problem.out_channels, x.dtype,
        (formula.pixel, *given),
    )  # fmt: skip
    return _by_taps(call, {formula.pixel: x, **given}, bias)


def _without_mantissas(m: Mathematics) -> Mathematics:
    def simple(r: Reduction) -> Reduction:
        return joined([simple(one) for one in r.of]) if r.of else _PRODUCT if r == PROD else r

    return replace(m, reduction=simple(m.reduction), inner=None if m.inner is None else simple(m.inner))


def _by_taps(call: reference.Call, tensors: dict[str, Tensor], bias: Tensor | None) -> Tensor:
    outer, inner = call.folds
    m, spread = call.mathematics, call.spread
    seen = [spread(v, tensors[v.source]) for v in m.variables]
    fold = outer if inner is None else inner
    whole = (slice(None),) * 4
    state: State | None = None
    for t, k in call.taps():
        sites = spread.valid(k) if call.geometry.mode == "skip" else (slice(None),) * len(call.sites)
        inputs = [spread.at(v, s, t, k, whole).to(call.compute) for v, s in zip(m.variables, seen, strict=True)]
        here = tuple(len(range(*s.indices(n))) for s, n in zip(sites, call.sites, strict=True))
        if 0 in here:
            continue
        values = call.map(inputs, (*call.axes, *here))
        new = fold.over(values) if inner is None else fold.single(values)
        new = _everywhere(new, fold, here, tuple(s.start or 0 for s in sites), call.sites)
        state = new if state is None else fold.merge(state, new)
    if state is None:
        state = fold.empty((*call.axes[inner is None :], *call.sites), seen[0])
    if inner is not None:
        state = outer.over(inner.results(state))
    parts = dict(zip(m.reduction.state, state, strict=True))
    seen_outside = {v.name: spread(v, tensors[v.source])[0, 0].to(call.compute) for v in m.outer}
    y = finish(m, parts, seen_outside, call.library)
    y = torch.as_tensor(y, dtype=call.compute).expand(state[0].shape)
    y = y.reshape(call.x_shape[0], call.out_channels, *call.sites)
    if bias is not None:
        y = y + bias.to(call.compute).reshape(-1, *(1,) * len(call.sites))
    return y.to(call.dtype)


def _everywhere(state: State, fold: Fold, here: Ints, first: Ints, sites: Ints) -> State:
    """A state of some sites as one of all, of empty fields elsewhere."""
    if here == sites:
        return state
    amounts: list[int] = []
    for count, start, whole in zip(reversed(here), reversed(first), reversed(sites), strict=True):
        amounts += [start, whole - start - count]
    identity = evaluate_all(fold.reduction.exprs["identity"], {}, {})
    return tuple(F.pad(part, amounts, value=float(one)) for part, one in zip(state, identity, strict=True))
