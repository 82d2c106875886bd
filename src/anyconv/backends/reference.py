"""The reference backend: the meaning of a formula in plain PyTorch, on any device, in bounded memory.

It walks over the taps, as the answer that began this library did: at each tap the input is seen through a strided
view (no copy), the map is computed for all sites and filters at once, and the results are merged into the running
state of every output. The backward pass recomputes instead of saving: between the passes only ``x``, the operands
and the reduced states are kept.

A tap's work is cut into blocks of axes ``(c, n, g, o, *sites)`` whose intermediates, all together, fit ``BUDGET``.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import BackendError
from ..expr import evaluate
from ..expr.evaluate import evaluate_all
from ..formula import Formula
from ..geometry import Geometry, Ints
from .sums import bias_gradient, sum_in_order
from .torch_library import torch_library

BUDGET = 64 * 2**20  # bytes of all intermediates of a block; assign to it to trade memory for speed

Slices = tuple[slice, ...]


def convolve(
    x: Tensor,
    params: dict[str, Tensor],
    bias: Tensor | None,
    *,
    formula: Formula,
    geometry: Geometry,
    out_channels: int,
) -> Tensor:
    """``y[n, o, *sites]`` of ``x[n, c, *size]``, differentiable once in ``x``, ``params`` and ``bias``.

    Padding other than ``"skip"`` has been applied already.
    """
    call = _Call(formula, geometry, tuple(x.shape), out_channels, x.dtype)
    y: Tensor = _Reference.apply(call, bias, x, *params.values())  # type: ignore[no-untyped-call]
    return y


@dataclass(frozen=True)
class _Call:
    """What the forward and the backward pass of one call share: shapes, and how the work is cut."""

    formula: Formula
    geometry: Geometry
    x_shape: Ints
    out_channels: int
    dtype: torch.dtype

    @property
    def compute(self) -> torch.dtype:
        """The dtype of the arithmetic: float32 for the half precisions."""
        return torch.float32 if self.dtype in (torch.float16, torch.bfloat16) else self.dtype

    @property
    def library(self) -> dict[str, Any]:
        """torch's functions in the dtype of the arithmetic."""
        return torch_library(self.compute)

    @property
    def size(self) -> Ints:
        """Spatial size of the input."""
        return self.x_shape[2:]

    @property
    def sites(self) -> Ints:
        """Spatial size of the output."""
        return self.geometry.sites(self.size)

    @property
    def axes(self) -> Ints:
        """Extents of the axes ``c, n, g, o``."""
        groups = self.geometry.groups
        return self.x_shape[1] // groups, self.x_shape[0], groups, self.out_channels // groups

    def view(self, x: Tensor) -> Tensor:
        """``x[n, c, *size]`` with the axes ``(c, n, g, o, *size)`` of a block."""
        c, n, g, _ = self.axes
        split = x.reshape(n, g, c, *self.size)
        return split.permute(2, 0, 1, *range(3, split.dim())).unsqueeze(3)

    def spread(self, name: str, value: Tensor) -> Tensor:
        """An operand with the axes ``(k, c, n, g, o, *sites)``, of extent 1 where it does not vary."""
        scope = self.formula.parameters[name].axes
        c, _, g, o = self.axes
        o_size, c_size, k_size = ((size if axis in scope else 1) for axis, size in zip("ock", (o, c, -1), strict=True))
        if "k" in scope:
            k_size = self.geometry.taps
        split = value.reshape(g if scope[:1] in ("o", "c") else 1, o_size, c_size, k_size)
        return split.permute(3, 2, 0, 1).unsqueeze(2)[(...,) + (None,) * len(self.size)]

    def blocks(self) -> Iterator[Slices]:
        """Slices of ``(c, n, g, o)``, small enough for the budget; the channels of a block come first."""
        extents = list(self.axes)
        alive = len(self.formula.expr.nodes()) + 2 * len(self.formula.reduction.state) + 4  # tensors of a block's size
        room = BUDGET // (self.compute.itemsize * alive)
        for axis in range(4):
            others = math.prod(self.sites) * math.prod(extents[:axis] + extents[axis + 1 :])
            extents[axis] = max(1, min(extents[axis], room // max(1, others)))
        ranges = [range(0, whole, step) for whole, step in zip(self.axes, extents, strict=True)]
        for starts in itertools.product(*ranges):
            yield tuple(slice(a, a + step) for a, step in zip(starts, extents, strict=True))

    def walk(self) -> Iterator[tuple[int, Slices, Slices, Slices]]:
        """Every block of every tap: the tap's number, the block, its place in the state, and the pixels it sees."""
        blocks = list(self.blocks())
        for t, k in enumerate(self.geometry.offsets()):
            seen, sites = self.geometry.pixels(k, self.size), self.geometry.valid(k, self.size)
            for c, n, g, o in blocks:
                yield t, (c, n, g, o), (n, g, o, *sites), (c, n, g, slice(None), *seen)

    def map(self, x: Tensor, params: dict[str, Tensor]) -> Tensor:
        """The mapped values of one block, broadcast where the map does not see an axis."""
        v = evaluate(self.formula.expr, {self.formula.pixel: x, **params}, self.library)
        extents = zip(x.shape, *(p.shape for p in params.values()), strict=True)
        shape = [next((e for e in axis if e != 1), 1) for axis in extents]
        return torch.as_tensor(v, dtype=self.compute, device=x.device).expand(shape)

    def fold(self, v: Tensor) -> tuple[Tensor, ...]:
        """The states of the values along the first axis, merged in halves."""
        r = self.formula.reduction
        identity = dict(zip(r.state, evaluate_all(r.exprs["identity"], {}, self.library), strict=True))
        parts = evaluate_all(r.exprs["step"], {**identity, "v": v}, self.library)
        states = [torch.as_tensor(p, dtype=self.compute, device=v.device).expand(v.shape) for p in parts]
        while (count := states[0].shape[0]) > 1:
            half = count // 2
            merged = self.merge([s[:half] for s in states], [s[half : 2 * half] for s in states])
            states = [torch.cat([m, s[2 * half :]]) if count % 2 else m for m, s in zip(merged, states, strict=True)]
        return tuple(s[0] for s in states)

    def merge(self, a: list[Tensor], b: list[Tensor]) -> tuple[Tensor, ...]:
        """Two states joined."""
        r = self.formula.reduction
        left = {f"a_{part}": s for part, s in zip(r.state, a, strict=True)}
        right = {f"b_{part}": s for part, s in zip(r.state, b, strict=True)}
        joined: tuple[Tensor, ...] = evaluate_all(r.exprs["merge"], left | right, self.library)
        return joined


class _Reference(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, bias: Tensor | None, x: Tensor, *params: Tensor) -> Tensor:
        state = _states(call, x, params)
        r = call.formula.reduction
        y = evaluate(r.exprs["result"][0], dict(zip(r.state, state, strict=True)), call.library)
        y = y.reshape(x.shape[0], call.out_channels, *call.sites)
        if bias is not None:
            y = y + bias.to(call.compute).reshape(-1, *(1,) * len(call.sites))
        ctx.call = call
        ctx.save_for_backward(x, *params, *(s for s, part in zip(state, r.state, strict=True) if part in r.saved))
        # a tensor of its own, no view of the state: an in-place activation may follow
        return torch.empty_like(y, dtype=call.dtype).copy_(y)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise BackendError(
                f"{ctx.call.formula}: create_graph=True, but the reference backend differentiates only once",
                way_out="Drop create_graph=True, or keep this layer out of what is differentiated twice.",
            )
        call, count = ctx.call, 1 + len(ctx.call.formula.parameters)
        saved = ctx.saved_tensors  # once: torch.utils.checkpoint recomputes what is asked for
        tensors, state = saved[:count], saved[count:]
        _, wants_bias, *needed = ctx.needs_input_grad
        g_bias = bias_gradient(grad.to(call.compute)).to(call.dtype) if wants_bias else None
        return None, g_bias, *_gradients(call, tensors, state, grad, tuple(needed))


def _states(call: _Call, x: Tensor, params: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The final state of every output: one tensor ``(n, g, o, *sites)`` per part."""
    r = call.formula.reduction
    _, n, g, o = call.axes
    identity = evaluate_all(r.exprs["identity"], {}, call.library)
    state = tuple(x.new_full((n, g, o, *call.sites), float(i), dtype=call.compute) for i in identity)
    pixels, spread = _operands(call, x, params)
    for t, block, here, x_here in call.walk():
        v = call.map(
            pixels[x_here].to(call.compute),
            {name: _block(p, t, block).to(call.compute) for name, p in spread.items()},
        )
        if v.numel() == 0:
            continue
        targets = [s[here] for s in state]
        for target, joined in zip(targets, call.merge(targets, list(call.fold(v))), strict=True):
            target.copy_(joined)
    return state


def _gradients(
    call: _Call, tensors: tuple[Tensor, ...], state: tuple[Tensor, ...], grad: Tensor, needed: tuple[bool, ...]
) -> list[Tensor | None]:
    """The gradient of ``x`` and of each operand, where needed: each block's map, recomputed and differentiated."""
    x, *params = tensors
    r = call.formula.reduction
    g_out = grad.reshape(call.axes[1:] + call.sites).to(call.compute)
    totals = [
        t.new_zeros(t.shape, dtype=call.compute) if need else None for t, need in zip(tensors, needed, strict=True)
    ]
    pixels, spread = _operands(call, x, tuple(params))
    views: list[Callable[[Tensor], Tensor]] = [call.view, *(functools.partial(call.spread, n) for n in spread)]
    d_totals = [view(d) if d is not None else x for view, d in zip(views, totals, strict=True)]
    for t, block, here, x_here in call.walk():
        inputs = [pixels[x_here], *(_block(p, t, block) for p in spread.values())]
        leaves = [_leaf(i.detach().to(call.compute), inputs[0].shape) for i in inputs]
        for leaf, need in zip(leaves, needed, strict=True):
            leaf.requires_grad_(need)
        with torch.enable_grad():
            v = call.map(leaves[0], dict(zip(spread, leaves[1:], strict=True)))
        if v.numel() == 0 or not v.requires_grad:
            continue
        parts = {part: s[here] for part, s in zip(r.saved, state, strict=True)}
        adjoint = evaluate(r.exprs["adjoint"][0], {**parts, "v": v.detach()}, call.library)
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        found = iter(torch.autograd.grad(v, wanted, (g_out[here] * adjoint).expand_as(v), allow_unused=True))
        for i, leaf in enumerate(leaves):
            if leaf.requires_grad and (d := next(found)) is not None:
                total = d_totals[i]
                place = total[x_here] if i == 0 else _block(total, t, block)
                place += d if d.shape == place.shape else sum_in_order(d)
    return [d if d is None else d.to(t.dtype) for d, t in zip(totals, tensors, strict=True)]


def _operands(call: _Call, x: Tensor, params: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    names = call.formula.parameters
    return call.view(x), {name: call.spread(name, p) for name, p in zip(names, params, strict=True)}


def _leaf(part: Tensor, shape: torch.Size) -> Tensor:
    """What a map is differentiated with respect to: a single number is spread over the pixels it meets.

    Autograd would sum its gradient to one number, and torch's sum to one number depends on the number of threads.
    """
    return part.expand(shape) if part.numel() == 1 else part


def _block(spread: Tensor, t: int, block: Slices) -> Tensor:
    """The part of a spread operand that tap ``t`` and a block of ``(c, n, g, o)`` see."""
    part = spread[t if spread.shape[0] > 1 else 0]
    index = (s if extent > 1 else slice(None) for s, extent in zip(block, part.shape, strict=False))
    return part[tuple(index)]
