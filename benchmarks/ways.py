"""The ways to compute a convolution with a formula: ours, and what else people can do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import anyconv
from anyconv import Formula

from .cases import FORMULAS, Layer

Way = Callable[..., Tensor]

REDUCE: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "sum": lambda v, axes: v.sum(axes),
    "max": lambda v, axes: v.amax(axes),
    "logsumexp": lambda v, axes: v.logsumexp(axes),
    "prod": lambda v, axes: v.flatten(v.dim() - len(axes)).prod(-1) if len(axes) > 1 else v.prod(axes[0]),
}
JOIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": torch.add,
    "max": torch.maximum,
    "logsumexp": torch.logaddexp,
    "prod": torch.mul,
}


def ours(formula: Formula, layer: Layer, backend: str = "cpp") -> Way:
    """The library."""
    conv = {1: anyconv.conv1d, 2: anyconv.conv2d, 3: anyconv.conv3d}[len(layer.size)]

    def run(x: Tensor, *params: Tensor) -> Tensor:
        return conv(
            x, params, formula, stride=layer.stride, padding=layer.padding, groups=layer.groups, backend=backend
        )

    return run


def _split(formula: Formula, layer: Layer, params: tuple[Tensor, ...]) -> list[Tensor]:
    """Operands as (g, o, c, *kernel)."""
    kernel = (layer.kernel,) * len(layer.size)
    out = []
    for operand, p in zip(formula.parameters.values(), params, strict=True):
        shape = (layer.groups, -1, layer.channels // layer.groups, *kernel)
        out.append(p.reshape(shape if operand.axes == "ock" else (layer.groups, -1, 1, *(1,) * len(kernel))))
    return out


def tap_loop(formula: Formula, layer: Layer) -> Way:
    """A loop over taps of shifted views, in plain PyTorch: what a compiler is given."""
    dims, reduce = len(layer.size), formula.reduction.name
    sites = [(n + 2 * layer.padding - layer.kernel) // layer.stride + 1 for n in layer.size]

    def run(x: Tensor, *params: Tensor) -> Tensor:
        padded = F.pad(x, [layer.padding] * (2 * dims))
        padded = padded.reshape(x.shape[0], layer.groups, 1, -1, *padded.shape[2:])
        operands = _split(formula, layer, params)
        y = None
        for tap in itertools.product(range(layer.kernel), repeat=dims):
            seen = padded
            for axis, (k, s) in enumerate(zip(tap, sites, strict=True), start=4):
                seen = seen.narrow(axis, k, layer.stride * (s - 1) + 1)
                seen = seen[(slice(None),) * axis + (slice(None, None, layer.stride),)]
            at = [_at(p, tap).reshape(1, *p.shape[:3], *(1,) * dims) for p in operands]
            v = REDUCE[reduce](formula.map(seen, *at), [3])
            y = v if y is None else JOIN[reduce](y, v)
        assert y is not None
        return y.flatten(1, 2)

    return run


def _at(p: Tensor, tap: tuple[int, ...]) -> Tensor:
    """An operand at one tap; those that do not vary with the tap have one."""
    for k in tap:
        p = p[:, :, :, k if p.shape[3] > 1 else 0]
    return p


def unfold(formula: Formula, layer: Layer) -> Way:
    """Every receptive field times every filter, as one expression."""
    dims = len(layer.size)

    def run(x: Tensor, *params: Tensor) -> Tensor:
        fields = F.pad(x, [layer.padding] * (2 * dims))
        for axis in range(2, 2 + dims):
            fields = fields.unfold(axis, layer.kernel, layer.stride)
        fields = fields.reshape(x.shape[0], layer.groups, 1, -1, *fields.shape[2:])
        operands = [p.reshape(1, *p.shape[:3], *(1,) * dims, *p.shape[3:]) for p in _split(formula, layer, params)]
        axes = [3, *range(4 + dims, 4 + 2 * dims)]
        v = formula.map(fields, *operands)
        order = [a for a in range(v.dim()) if a not in axes]
        return REDUCE[formula.reduction.name](v.permute(*order, *axes), list(range(-len(axes), 0))).flatten(1, 2)

    return run


def convolution(formula: Formula, layer: Layer) -> Way:
    """The ordinary convolution of the same shape: not the same numbers, a yardstick."""
    conv = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(layer.size)]

    def run(x: Tensor, *params: Tensor) -> Tensor:
        y: Tensor = conv(x, params[0], stride=layer.stride, padding=layer.padding, groups=layer.groups)
        return y

    return run


def jax_tap_loop(formula: Formula, layer: Layer) -> Way:
    """The tap loop in JAX, where it is installed."""
    from .jax_way import JaxTapLoop  # noqa: PLC0415 - most who run benchmarks have no JAX

    return JaxTapLoop(next(name for name, f in FORMULAS.items() if f is formula), layer)


def numba_loops(formula: Formula, layer: Layer) -> Way:
    """Loops in Numba, where it is installed."""
    from .numba_way import NumbaLoops  # noqa: PLC0415 - as above

    return NumbaLoops(next(name for name, f in FORMULAS.items() if f is formula), layer)


WAYS: dict[str, Callable[[Formula, Layer], Way]] = {
    "anyconv": ours,
    "tap loop, compiled": lambda f, layer: torch.compile(tap_loop(f, layer), dynamic=False),
    "unfold, compiled": lambda f, layer: torch.compile(unfold(f, layer), dynamic=False),
    "tap loop, JAX": jax_tap_loop,
    "loops, Numba": numba_loops,
    "tap loop, eager": tap_loop,
    "nn.ConvNd": convolution,
}
