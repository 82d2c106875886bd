"""A sum of products of images and weights: torch's convolutions of the images, and the epilogue.

Between the passes only what was given and, before an epilogue, the sums are kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..expr import Expr, evaluate
from ..geometry import Ints
from ..mathematics import Mathematics
from ..plan import Problem
from ..plan.separate import Term, Terms
from ..reductions.builtin import MEAN
from .convolutions import convolved
from .ieee import ieee
from .images import CHUNK, Images, convolve_images, image_gradients, vanishes
from .native import broadcast
from .torch_library import torch_library


@dataclass(frozen=True)
class Call:
    """A problem, and the terms of each value that its map returns."""

    problem: Problem
    terms: Terms

    @property
    def divisors(self) -> tuple[int, ...]:
        """For each value, what its sum is divided by."""
        parts = self.problem.formula.mathematics.reduction.parts
        return tuple(self.problem.field if part == MEAN else 1 for part in parts)

    def shape(self, x: Tensor) -> Ints:
        """Of the outputs."""
        return (x.shape[0], self.problem.out_channels, *self.problem.geometry.sites(tuple(x.shape[2:])))


def forward(call: Call, tensors: dict[str, Tensor], bias: Tensor | None, *, saves: bool) -> tuple[Tensor, Tensor]:
    """``y[n, o, *sites]`` of ``x[n, c, *size]``; before an epilogue the sums are kept."""
    m, dims = call.problem.formula.mathematics, call.problem.geometry.dims
    x = tensors[call.problem.formula.pixel]
    shape = call.shape(x)
    kept = x.new_empty((len(call.terms) if m.has_epilogue and saves else 0, *shape))
    sums = []
    for i, (terms, divisor) in enumerate(zip(call.terms, call.divisors, strict=True)):
        with ieee(x):
            total = _sum(_Value.of(terms, tensors, call.problem), tensors)
        total = total if divisor == 1 else total / divisor
        sums.append(kept[i].copy_(total.expand(shape)) if len(kept) else total)
    if m.has_epilogue:
        y = x.new_empty(shape)
        seen = [*sums, *_outer(call, tensors)]
        for here in _chunks(y):
            y[here] = _finished(m, [_of_images(t, here) for t in seen])
    else:
        y = sums[0].expand(shape)
    if bias is not None:
        y = y + bias.reshape(-1, *(1,) * dims)
    return y.contiguous() if any(stride == 0 for stride in y.stride()) else y, kept.reshape(-1)


def plain(call: Call, tensors: dict[str, Tensor], bias: Tensor | None) -> Tensor:
    """``y[n, o, *sites]``, of all images and sites at once: a list of torch's functions without a choice."""
    m, dims = call.problem.formula.mathematics, call.problem.geometry.dims
    x = tensors[call.problem.formula.pixel]
    sums = []
    for terms, divisor in zip(call.terms, call.divisors, strict=True):
        value = _Value.of(terms, tensors, call.problem, fixed=True)
        total, made = value.total, value.images
        if made is not None:
            images = made.evaluate(made.images, list(made.padded(tuple(tensors[name] for name in made.names))))
            for image, weight in zip(images, value.weights, strict=True):
                total = total + convolved(made.summed(image, weight), weight, made.left)
        sums.append(total if divisor == 1 else total / divisor)
    y = _finished(m, [*sums, *_outer(call, tensors)]) if m.has_epilogue else sums[0]
    y = torch.as_tensor(y, dtype=x.dtype, device=x.device).expand(call.shape(x))
    return y if bias is None else y + bias.reshape(-1, *(1,) * dims)


def gradients(
    call: Call, tensors: dict[str, Tensor], state: Tensor, grad: Tensor, wanted: set[str]
) -> dict[str, Tensor]:
    """The gradients of the tensors that are wanted."""
    leaves = {name: t.requires_grad_(name in wanted) for name, t in tensors.items()}
    m, outputs, slopes = call.problem.formula.mathematics, [], []
    g_sums = [grad]
    if m.has_epilogue:
        sums = list(state.reshape(len(call.terms), *call.shape(tensors[call.problem.formula.pixel])))
        with torch.enable_grad():
            outer = _outer(call, leaves)
        g_sums, g_outer = _finish_gradients(m, sums, [t.detach() for t in outer], grad)
        outputs += outer
        slopes += g_outer
    found = {name: torch.zeros_like(t) for name, t in tensors.items() if name in wanted}
    for terms, divisor, g in zip(call.terms, call.divisors, g_sums, strict=True):
        g = g if divisor == 1 else g / divisor
        with torch.enable_grad():
            value = _Value.of(terms, leaves, call.problem)
        outputs.append(value.total)
        slopes.append(g.sum_to_size(value.total.shape))
        if value.images is not None:
            outputs += value.weights
            with ieee(grad):
                slopes += image_gradients(value.images, tensors, [w.detach() for w in value.weights], g, found)
    inputs = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
    live = [(y, g) for y, g in zip(outputs, slopes, strict=True) if y.requires_grad]
    if live:
        ys, gs = zip(*live, strict=True)
        back = torch.autograd.grad(ys, list(inputs.values()), gs, materialize_grads=True)
        for name, d in zip(inputs, back, strict=True):
            found[name] += d
    return found


def _outer(call: Call, tensors: dict[str, Tensor]) -> list[Tensor]:
    """What the epilogue sees, beside ``(n, o, *sites)``."""
    dims = call.problem.geometry.dims
    found = []
    for v in call.problem.formula.mathematics.outer:
        value = tensors[v.source]
        value = value if v.part is None else value.select(-1, v.part)
        found.append(value.reshape(1, -1, *(1,) * dims))
    return found


@dataclass(frozen=True)
class _Value:
    """What one value of the map sums to.

    Args:
        total: the part that is the same at all sites: ``(1, o or 1, *ones)``.
        images: those that are convolved, if any.
        weights: of each image.
    """

    total: Tensor
    images: Images | None
    weights: list[Tensor]

    @classmethod
    def of(
        cls, terms: tuple[Term, ...], sources: dict[str, Tensor], problem: Problem, *, fixed: bool = False
    ) -> _Value:
        """Of what a call is given; ``fixed`` without a look at what any image is."""
        x, g = sources[problem.formula.pixel], problem.geometry
        everywhere = g.mode != "skip" or not any(g.before + g.after)
        total, images, weights = x.new_zeros((1,) * x.dim()), [], []
        for term in terms:
            weight = _weight(term.weight, sources, problem, x)
            if term.image.names() or not everywhere:
                images.append(term.image)
                weights.append(weight)
            else:
                whole = weight.expand(-1, *problem.weight_shape[1:]).flatten(1).sum(1)
                total = total + evaluate(term.image, {}, torch_library(x.dtype)) * whole.reshape(1, -1, *(1,) * g.dims)
        if not images:
            return cls(total, None, [])
        known = {v.name: v for v in problem.formula.mathematics.variables if v.is_image}
        names = dict.fromkeys([problem.formula.pixel, *(known[n].source for image in images for n in image.names())])
        vanish = not fixed and all(map(vanishes, images))
        return cls(total, Images(tuple(images), vanish, known, tuple(names), g), weights)


def _weight(expr: Expr, sources: dict[str, Tensor], problem: Problem, x: Tensor) -> Tensor:
    """A weight ``(o, c, *k)``; of a single group 1 for filters or channels among which it does not vary."""
    m, g = problem.formula.mathematics, problem.geometry
    seen = [v for v in m.variables if v.name in expr.names()]
    vectors = {v.source: sources[v.source].unbind(-1) for v in seen if v.part is not None}
    tensors = {v.name: sources[v.source] if v.part is None else vectors[v.source][v.part] for v in seen}
    values = {v.name: broadcast(tensors[v.name], v.axes, problem) for v in seen}
    value = torch.as_tensor(evaluate(expr, values, torch_library(x.dtype)), dtype=x.dtype, device=x.device)
    value = value.expand(*(value.shape[:2] or (1, 1)), *g.kernel)
    return value if g.groups == 1 else value.expand(problem.weight_shape)


def _sum(value: _Value, sources: dict[str, Tensor]) -> Tensor:
    """What a value sums to: ``(n or 1, o or 1, *sites or 1)``."""
    if value.images is None:
        return value.total
    y = convolve_images(value.images, value.weights, sources)
    return y if value.total.numel() == 1 and not value.total.any() else y + value.total


def _chunks(images: Tensor) -> Iterator[slice]:
    step = max(1, CHUNK // max(1, images[:1].numel() * images.itemsize))
    return (slice(n, n + step) for n in range(0, len(images), step))


def _finish_gradients(
    m: Mathematics, sums: list[Tensor], outer: list[Tensor], grad: Tensor
) -> tuple[list[Tensor], list[Tensor]]:
    """The gradients of the sums and of what the epilogue sees, a few images of the batch at a time."""
    tensors = [*sums, *outer]
    totals = [torch.zeros_like(t) for t in tensors]
    for here in _chunks(grad):
        leaves = [_of_images(t, here).detach().requires_grad_() for t in tensors]
        with torch.enable_grad():
            y = _finished(m, leaves)
        if isinstance(y, Tensor) and y.requires_grad:
            found = torch.autograd.grad(y, leaves, grad[here].sum_to_size(y.shape), materialize_grads=True)
            for total, d in zip(totals, found, strict=True):
                _of_images(total, here).add_(d)
    return totals[: len(sums)], totals[len(sums) :]


def _of_images(tensor: Tensor, here: slice) -> Tensor:
    return tensor[here] if len(tensor) > 1 else tensor


def _finished(m: Mathematics, values: list[Tensor]) -> Any:
    names = (*m.accumulators, *(v.name for v in m.outer))
    return evaluate(m.finish, dict(zip(names, values, strict=True)), torch_library(values[0].dtype))
