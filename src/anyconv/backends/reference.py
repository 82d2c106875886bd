"""The reference backend: the meaning of a formula in plain PyTorch, on any device, in bounded memory.

It walks over the taps, as the answer that began this library did: at each tap the input is seen through a strided
view (no copy), the map is computed for all sites and filters at once, and the results are merged into the running
state of every output. The backward pass recomputes instead of saving: between the passes only ``x``, the operands
and the reduced states are kept.

A tap's work is cut into blocks of axes ``(c, n, g, o, *sites)`` whose intermediates, all together, fit ``BUDGET``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..expr import Expr
from ..expr.evaluate import evaluate_all
from ..geometry import Geometry, Ints
from ..mathematics import Mathematics
from .epilogue import finish, finish_gradients
from .folds import Fold, Place, State
from .formats import empty_like
from .spread import Spread
from .sums import add
from .torch_library import torch_library

BUDGET = 64 * 2**20  # bytes of all intermediates of a block; assign to it to trade memory for speed

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Call:
    """What the forward and the backward pass of one call share: shapes, and how the work is cut.

    Padding other than ``"skip"`` has been applied already.

    Args:
        names: of the pixel and of all operands.
    """

    mathematics: Mathematics
    geometry: Geometry
    x_shape: Ints
    out_channels: int
    dtype: torch.dtype
    names: tuple[str, ...]

    @property
    def compute(self) -> torch.dtype:
        """The dtype of the arithmetic: float32 for the half precisions."""
        return torch.float32 if self.dtype in (torch.float16, torch.bfloat16) else self.dtype

    @property
    def library(self) -> dict[str, Any]:
        """torch's functions in the dtype of the arithmetic."""
        return torch_library(self.compute)

    @property
    def spread(self) -> Spread:
        """How tensors become operands of blocks."""
        return Spread(self.geometry, self.x_shape, self.out_channels)

    @property
    def sites(self) -> Ints:
        """Spatial size of the output."""
        return self.geometry.sites(self.x_shape[2:])

    @property
    def axes(self) -> Ints:
        """Extents of the axes ``c, n, g, o``."""
        return self.spread.axes

    def blocks(self) -> Iterator[Slices]:
        """Slices of ``(c, n, g, o)``, small enough for the budget; the channels of a block come first."""
        extents = list(self.axes)
        f = self.mathematics
        nodes = dict.fromkeys(node for expr in f.values for node in expr.nodes())
        alive = len(nodes) + 2 * len(f.reduction.state) + 4  # tensors of a block's size
        alive += 0 if f.inner is None else 3 * len(f.inner.state)
        room = BUDGET // (self.compute.itemsize * alive)
        for axis in range(4):
            others = math.prod(self.sites) * math.prod(extents[:axis] + extents[axis + 1 :])
            extents[axis] = max(1, min(extents[axis], room // max(1, others)))
        ranges = [range(0, whole, step) for whole, step in zip(self.axes, extents, strict=True)]
        for starts in itertools.product(*ranges):
            yield tuple(slice(a, a + step) for a, step in zip(starts, extents, strict=True))

    def taps(self) -> Iterator[tuple[int, Ints]]:
        """Each tap; where the map sees whole fields, one that stands for all."""
        whole = self.mathematics.field is not None
        return enumerate(itertools.islice(self.geometry.offsets(), 1 if whole else None))

    def shape(self, block: Slices, k: Ints) -> Ints:
        """Extents of a block at one tap: ``(c, n, g, o, *sites)``."""
        sites = (*block, *self.spread.valid(k))
        return tuple(len(range(*s.indices(whole))) for s, whole in zip(sites, (*self.axes, *self.sites), strict=True))

    def map(self, inputs: list[Tensor], shape: Ints) -> tuple[Tensor, ...]:
        """The mapped values of one block, expanded along the axes that the map does not see."""
        names = [v.name for v in self.mathematics.variables]
        found = evaluate_all(self.mathematics.values, dict(zip(names, inputs, strict=True)), self.library)
        return tuple(torch.as_tensor(v, dtype=self.compute, device=inputs[0].device).expand(shape) for v in found)

    @property
    def folds(self) -> tuple[Fold, Fold | None]:
        """The reduction, and that of each channel before it, where there are two levels."""
        m = self.mathematics
        return Fold(m.reduction, self.compute), None if m.inner is None else Fold(m.inner, self.compute)


def forward(call: Call, tensors: dict[str, Tensor], bias: Tensor | None, *, saves: bool) -> tuple[Tensor, Tensor]:
    """``y[n, o, *sites]``, and what the gradients need of the state, one part after the other."""
    given = tuple(tensors[name] for name in call.names)
    x, f = given[0], call.mathematics
    state = _states(call, x, given[1:])
    parts = dict(zip(f.reduction.state, state, strict=True))
    y = finish(f, parts, _outer(call, x, given[1:]), call.library)
    y = torch.as_tensor(y, dtype=call.compute, device=x.device).expand(state[0].shape)
    y = y.reshape(x.shape[0], call.out_channels, *call.sites)
    if bias is not None:
        y = y + bias.to(call.compute).reshape(-1, *(1,) * len(call.sites))
    kept = torch.cat([y.new_empty(0), *(parts[part].reshape(-1) for part in f.kept)]) if saves else y.new_empty(0)
    # a tensor of its own, no view of the state: an in-place activation may follow
    return empty_like(x, tuple(y.shape), call.dtype).copy_(y), kept


def gradients(
    call: Call, tensors: dict[str, Tensor], state: Tensor, grad: Tensor, wanted: set[str]
) -> dict[str, Tensor]:
    """The gradients of the tensors that are wanted."""
    given = tuple(tensors[name] for name in call.names)
    kept = call.mathematics.kept
    shape = (len(kept), *call.axes[1:], *call.sites)
    parts = dict(zip(kept, state.reshape(shape), strict=True))
    found = _gradients(call, given, parts, grad, tuple(name in wanted for name in call.names))
    return {name: d for name, d in zip(call.names, found, strict=True) if d is not None}


def _sources(call: Call, x: Tensor, operands: tuple[Tensor, ...]) -> dict[str, Tensor]:
    return dict(zip(call.names, (x, *operands), strict=True))


def _outer(call: Call, x: Tensor, operands: tuple[Tensor, ...]) -> dict[str, Tensor]:
    """What the epilogue sees, with the axes ``(n, g, o, *sites)``."""
    sources = _sources(call, x, operands)
    return {v.name: call.spread(v, sources[v.source])[0, 0].to(call.compute) for v in call.mathematics.outer}


def _inputs(call: Call, spread: list[Tensor], t: int, k: Ints, block: Slices) -> list[Tensor]:
    """What the variables of the map are for one block of one tap.

    A single number is spread over the pixels it meets. Autograd would sum its gradient to one number, and torch's sum
    to one number depends on the number of threads. Forward and backward pass both see it so: some of torch's functions
    round in another way where memory lies in another way, and a maximum is known by being equal.
    """
    shape = call.shape(block, k)
    parts = (
        call.spread.at(v, s, t, k, block).to(call.compute)
        for v, s in zip(call.mathematics.variables, spread, strict=True)
    )
    return [part.expand(shape) if part.numel() == 1 else part for part in parts]


def _inner_states(call: Call, inner: Fold, spread: list[Tensor], block: Slices) -> State:
    """The states of each channel of a block, over its taps."""
    extents = tuple(len(range(*s.indices(whole))) for s, whole in zip(block, call.axes, strict=True))
    state = inner.empty((*extents, *call.sites), spread[0])
    for t, k in call.taps():
        v = call.map(_inputs(call, spread, t, k, block), call.shape(block, k))
        if v[0].numel():
            inner.absorb(state, (..., *call.spread.valid(k)), inner.single(v))
    return state


def _states(call: Call, x: Tensor, operands: tuple[Tensor, ...]) -> State:
    """The final state of every output: one tensor ``(n, g, o, *sites)`` per part."""
    outer, inner = call.folds
    state = outer.empty((*call.axes[1:], *call.sites), x)
    sources = _sources(call, x, operands)
    spread = [call.spread(v, sources[v.source]) for v in call.mathematics.variables]
    for block in call.blocks():
        if inner is not None:
            u = inner.results(_inner_states(call, inner, spread, block))
            if u[0].numel():
                outer.absorb(state, block[1:], outer.over(u))
            continue
        for t, k in call.taps():
            v = call.map(_inputs(call, spread, t, k, block), call.shape(block, k))
            if v[0].numel():
                outer.absorb(state, (*block[1:], *call.spread.valid(k)), outer.over(v))
    return state


def _gradients(
    call: Call, tensors: tuple[Tensor, ...], state: dict[str, Tensor], grad: Tensor, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradient of ``x`` and of each operand, where needed: each block's map, recomputed and differentiated."""
    x, *operands = tensors
    f, r = call.mathematics, call.mathematics.reduction
    needs = dict(zip(call.names, needed, strict=True))
    sources = dict(zip(call.names, tensors, strict=True))
    totals = {n: t.new_zeros(t.shape, dtype=call.compute) for n, t in sources.items() if needs[n]}
    spread = [call.spread(v, sources[v.source]) for v in f.variables]
    sums = [call.spread(v, totals[v.source]) if needs[v.source] and not v.frozen else None for v in f.variables]
    g_out = grad.reshape(call.axes[1:] + call.sites).to(call.compute)
    outer = _outer(call, x, tuple(operands))
    g_results, g_outer = finish_gradients(f, state, outer, g_out, call.library)
    for v in f.outer:
        if needs[v.source] and not v.frozen:
            add(call.spread(v, totals[v.source])[0, 0], g_outer[v.name])
    for block in call.blocks() if any(s is not None for s in sums) else ():
        _block_gradients(call, block, spread, sums, _Reduced({p: state[p] for p in r.saved}, g_results))
    return [totals[n].to(t.dtype) if needs[n] else None for n, t in sources.items()]


def _block_gradients(
    call: Call, block: Slices, spread: list[Tensor], sums: list[Tensor | None], reduced: _Reduced
) -> None:
    f, (fold, inner) = call.mathematics, call.folds
    slopes = dict(f.slopes)
    reduced = reduced.at(block[1:])
    if inner is not None:  # the gradient of each channel's result, and the channels' states
        states = _inner_states(call, inner, spread, block)
        adjoints = fold.adjoints(reduced.state, inner.results(states))
        kept = {p: s for p, s in zip(inner.reduction.state, states, strict=True) if p in inner.reduction.saved}
        owners = fold.reduction.owner
        reduced = _Reduced(kept, [reduced.gradients[i] * a for i, a in zip(owners, adjoints, strict=True)])
        fold = inner
    for t, k in call.taps():
        inputs = _inputs(call, spread, t, k, block)
        shape = call.shape(block, k)
        leaves = [i.detach() for i in inputs]
        for v, leaf, total in zip(f.variables, leaves, sums, strict=True):
            leaf.requires_grad_(total is not None and v.name not in slopes)
        with torch.enable_grad():
            values = call.map(leaves, shape)
        if values[0].numel() == 0:
            continue
        here = reduced.at((..., *call.spread.valid(k)))
        adjoints = fold.adjoints(here.state, tuple(v.detach() for v in values))
        weighed = zip(fold.reduction.owner, adjoints, values, strict=True)
        g_values = [(here.gradients[i] * a).expand_as(v) for i, a, v in weighed]
        found = _differentiated(values, g_values, leaves, fold.moved)
        for i, (v, total) in enumerate(zip(f.variables, sums, strict=True)):
            if total is None:
                continue
            d = _replaced(call, slopes[v.name], leaves, g_values) if v.name in slopes else found[i]
            if d is not None:
                add(call.spread.at(v, total, t, k, block), d)


@dataclass(frozen=True)
class _Reduced:
    """The parts of the state that an adjoint needs, and the gradient of each result."""

    state: dict[str, Tensor]
    gradients: list[Tensor]

    def at(self, place: Place) -> _Reduced:
        return _Reduced({p: s[place] for p, s in self.state.items()}, [g[place] for g in self.gradients])


def _differentiated(
    values: tuple[Tensor, ...], g_values: list[Tensor], leaves: list[Tensor], moved: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradient of each leaf that asks for one, of the values that move the result."""
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    live = [(v, g) for v, g, moves in zip(values, g_values, moved, strict=True) if moves and v.requires_grad]
    if not wanted or not live:
        return [None] * len(leaves)
    outputs, cotangents = zip(*live, strict=True)
    found = iter(torch.autograd.grad(outputs, wanted, cotangents, allow_unused=True))
    return [next(found) if leaf.requires_grad else None for leaf in leaves]


def _replaced(call: Call, slopes: tuple[Expr, ...], leaves: list[Tensor], g_values: list[Tensor]) -> Tensor:
    """The gradient by derivatives of the user's own."""
    named = {v.name: leaf.detach() for v, leaf in zip(call.mathematics.variables, leaves, strict=True)}
    found = evaluate_all(slopes, named, call.library)
    return sum((g * s for g, s in zip(g_values, found, strict=True)), torch.zeros(()))
