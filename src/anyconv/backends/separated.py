"""A sum of products of images and weights: torch's convolutions of the images, and the epilogue.

Between the passes only what was given and the sums are kept. Each image is computed, convolved and let go, and computed
again when its gradient is asked for; so the peak does not grow with the number of products.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import BackendError
from ..expr import Expr, differentiate, evaluate, simplify
from ..expr.evaluate import evaluate_all
from ..geometry import Geometry, Ints
from ..mathematics import Mathematics
from ..plan import Problem
from ..plan.separate import Term, Terms
from ..variables import Variable
from .convolutions import convolved, image_gradient, weight_gradient
from .native import broadcast
from .padding import pad
from .torch_library import torch_library

CHUNK = 2**23  # bytes of what is computed of a part of the batch at once, and not kept


def convolve(x: Tensor, operands: dict[str, Tensor], bias: Tensor | None, problem: Problem, terms: Terms) -> Tensor:
    """``y[n, o, *sites]`` of ``x[n, c, *size]``, for a problem with these terms."""
    m, dims = problem.formula.mathematics, problem.geometry.dims
    sources = {problem.formula.pixel: x, **operands}
    shape = (len(x), problem.out_channels, *problem.geometry.sites(tuple(x.shape[2:])))
    names = m.reduction.name.strip("()").split(", ")
    sums = [
        _sum(value, sources, problem) / (problem.field if name == "mean" else 1)
        for name, value in zip(names, terms, strict=True)
    ]
    if m.has_epilogue:
        outer = [_outer(v, sources[v.source], dims) for v in m.outer]
        y: Tensor = _Finish.apply(m, shape, *sums, *outer)  # type: ignore[no-untyped-call]
    else:
        y = sums[0].expand(shape)
    if bias is not None:
        return y + bias.reshape(-1, *(1,) * dims)
    return y if m.has_epilogue or y.is_contiguous() else y.contiguous()


def _outer(v: Variable, tensor: Tensor, dims: int) -> Tensor:
    """An operand of the epilogue beside ``(n, o, *sites)``."""
    value = tensor if v.part is None else tensor.select(-1, v.part)
    return value.reshape(1, -1, *(1,) * dims)


def _sum(terms: tuple[Term, ...], sources: dict[str, Tensor], problem: Problem) -> Tensor:
    """What one value of the map sums to: ``(n or 1, o or 1, *sites or 1)``."""
    x, g = sources[problem.formula.pixel], problem.geometry
    everywhere = g.mode != "skip" or not any(g.before + g.after)
    total, images, weights = x.new_zeros((1,) * x.dim()), [], []
    for term in terms:
        weight = _weight(term.weight, sources, problem, x)
        if term.image.names() or not everywhere:
            images.append(term.image)
            weights.append(weight)
        else:  # the same at all sites
            whole = weight.expand(-1, *problem.weight_shape[1:]).flatten(1).sum(1)
            total = total + evaluate(term.image, {}, torch_library(x.dtype)) * whole.reshape(1, -1, *(1,) * g.dims)
    if not images:
        return total
    known = {v.name: v for v in problem.formula.mathematics.variables if v.is_image}
    names = dict.fromkeys([problem.formula.pixel, *(known[n].source for image in images for n in image.names())])
    call = _Call(tuple(images), all(map(_vanishes, images)), known, tuple(names), g)
    summed: Tensor = _Sum.apply(call, *(sources[name] for name in names), *weights)  # type: ignore[no-untyped-call]
    return summed if len(images) == len(terms) else summed + total


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


@dataclass(frozen=True)
class _Call:
    """What both passes share.

    Args:
        images: Exprs over pixels and guides.
        vanish: whether all are 0 where those are.
        known: their variables.
        names: of the tensors given, the pixel's first.
    """

    images: tuple[Expr, ...]
    vanish: bool
    known: dict[str, Variable]
    names: tuple[str, ...]
    geometry: Geometry

    @property
    def pads_after(self) -> bool:
        """Whether images are padded, with zeros, and not what they are computed of."""
        return self.geometry.mode == "skip" or (self.geometry.mode == "zeros" and self.vanish)

    @property
    def left(self) -> Geometry:
        """The geometry of the convolutions of images."""
        return self.geometry if self.pads_after else self.geometry.padded()

    def padded(self, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """What images are computed of."""
        return tensors if self.pads_after else tuple(pad(t, self.geometry)[0] for t in tensors)

    def chunks(self, x: Tensor) -> Iterator[tuple[slice, slice]]:
        """Parts of the batch and of the images, so small that what is computed of both at once is little."""
        one = max(1, x[:1].numel() * x.itemsize)
        step = max(1, CHUNK // (one * len(self.images)))
        some = max(1, min(len(self.images), CHUNK // one))  # what images have in common is computed once for so many
        for n in range(0, len(x), step):
            yield from ((slice(n, n + step), slice(i, i + some)) for i in range(0, len(self.images), some))

    def evaluate(self, exprs: tuple[Expr, ...], tensors: list[Tensor]) -> list[Tensor]:
        """Exprs over images, each ``(n, c, *size)``."""
        x, given = tensors[0], dict(zip(self.names, tensors, strict=True))
        seen = {name for expr in exprs for name in expr.names()}
        values = {name: _seen(v, given[v.source]) for name, v in self.known.items() if name in seen}
        found = evaluate_all(exprs, values, torch_library(x.dtype))
        return [torch.as_tensor(v, dtype=x.dtype, device=x.device).expand(x.shape) for v in found]

    def summed(self, image: Tensor, weight: Tensor) -> Tensor:
        """The image; its sum over channels that have one weight."""
        return image if weight.shape[1] * self.geometry.groups == image.shape[1] else image.sum(1, keepdim=True)


def _seen(v: Variable, tensor: Tensor) -> Tensor:
    return tensor if v.part is None else tensor[:, v.part : v.part + 1]


@functools.lru_cache(maxsize=256)
def _slopes(images: tuple[Expr, ...], names: tuple[str, ...]) -> tuple[tuple[int, str, Expr], ...]:
    """The derivatives that are not 0: of which image, in which variable."""
    found = ((i, name, differentiate(image, name)) for i, image in enumerate(images) for name in image.names())
    return tuple((i, name, d) for i, name, d in found if name in names and d.value != 0.0)


class _Sum(torch.autograd.Function):
    """The sum of convolutions of images."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Tensor:
        count = len(call.names)
        given, weights = call.padded(tensors[:count]), tensors[count:]
        ctx.call = call
        ctx.save_for_backward(*tensors)
        filters = max(len(weight) for weight in weights)
        sites = call.geometry.sites(tuple(tensors[0].shape[2:]))
        y = given[0].new_zeros(len(given[0]), filters, *sites)
        for here, some in call.chunks(given[0]):
            images = call.evaluate(call.images[some], [t[here] for t in given])
            for image, weight in zip(images, weights[some], strict=True):
                y[here] += convolved(call.summed(image, weight), weight, call.left)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        call, count = ctx.call, len(ctx.call.names)
        if torch.is_grad_enabled():
            raise BackendError(
                "create_graph=True, but a sum of convolutions of images is differentiated only once",
                way_out="Drop create_graph=True, or keep this layer out of what is differentiated twice.",
            )
        tensors, weights = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        _, *needed = ctx.needs_input_grad
        given = call.padded(tensors)
        totals = [torch.zeros_like(t) if needs else None for t, needs in zip(given, needed, strict=False)]
        g_weights = [torch.zeros_like(w) if needs else None for w, needs in zip(weights, needed[count:], strict=True)]
        for here, some in call.chunks(given[0]):
            at = [None if t is None else t[here] for t in totals]
            part = replace(call, images=call.images[some])
            _add_gradients(part, [t[here] for t in given], weights[some], grad[here], (at, g_weights[some]))
        unpadded = (_unpadded(call, t, total) for t, total in zip(tensors, totals, strict=True))
        return None, *unpadded, *g_weights


Totals = list[Tensor | None]


def _add_gradients(
    call: _Call, given: list[Tensor], weights: tuple[Tensor, ...], grad: Tensor, totals: tuple[Totals, Totals]
) -> None:
    """Add a chunk's gradients to those of its tensors and of the weights."""
    of_tensors, of_weights = dict(zip(call.names, totals[0], strict=True)), totals[1]
    wanted = tuple(name for name, v in call.known.items() if of_tensors[v.source] is not None)
    slopes = _slopes(call.images, wanted)
    images = tuple(map(simplify, call.images))  # in the form in which the slopes share their parts
    values = call.evaluate((*images, *(d for _, _, d in slopes)), given)
    g_images: dict[int, Tensor] = {}
    for i, (image, weight, total) in enumerate(zip(values, weights, of_weights, strict=False)):
        g = grad if len(weight) > 1 or grad.shape[1] == 1 else grad.sum(1, keepdim=True)
        image = call.summed(image, weight)
        if total is not None:
            total += weight_gradient(image, weight, g, call.left)
        if any(i == j for j, _, _ in slopes):
            g_images[i] = image_gradient(image, weight, g, call.left)
    for (i, name, _), slope in zip(slopes, values[len(images) :], strict=True):
        v = call.known[name]
        total = of_tensors[v.source]
        assert total is not None
        to = _seen(v, total)
        d = g_images[i] * slope
        to += d if d.shape == to.shape else d.sum(1, keepdim=True)


def _unpadded(call: _Call, tensor: Tensor, total: Tensor | None) -> Tensor | None:
    """The gradient of a tensor, of that of what it was padded to."""
    if total is None or call.pads_after:
        return total
    leaf = tensor.detach().requires_grad_()
    with torch.enable_grad():
        padded, _ = pad(leaf, call.geometry)
    return torch.autograd.grad(padded, leaf, total)[0]


@functools.lru_cache(maxsize=1024)
def _vanishes(expr: Expr) -> bool:
    """Whether an image is 0 where all it sees is."""
    zero = torch.zeros(())
    value = torch.as_tensor(evaluate(expr, dict.fromkeys(expr.names(), zero), torch_library(zero.dtype)))
    return bool(value == 0)


def _chunks(images: Tensor) -> Iterator[slice]:
    step = max(1, CHUNK // max(1, images[:1].numel() * images.itemsize))
    return (slice(n, n + step) for n in range(0, len(images), step))


class _Finish(torch.autograd.Function):
    """The epilogue, a few images of the batch at a time."""

    @staticmethod
    def forward(ctx: Any, m: Mathematics, shape: Ints, *tensors: Tensor) -> Tensor:
        ctx.m = m
        ctx.save_for_backward(*tensors)
        y = tensors[0].new_empty(shape)
        for here in _chunks(y):
            y[here] = _finished(m, [_of_images(t, here) for t in tensors])
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        _, _, *needed = ctx.needs_input_grad
        tensors = ctx.saved_tensors
        totals = [torch.zeros_like(t) if needs else None for t, needs in zip(tensors, needed, strict=True)]
        for here in _chunks(grad):
            leaves = [
                _of_images(t, here).detach().requires_grad_(needs) for t, needs in zip(tensors, needed, strict=True)
            ]
            with torch.enable_grad():
                y = _finished(ctx.m, leaves)
            wanted = [(leaf, total) for leaf, total in zip(leaves, totals, strict=True) if total is not None]
            if isinstance(y, Tensor) and y.requires_grad:
                g = grad[here].sum_to_size(y.shape)
                found = torch.autograd.grad(y, [leaf for leaf, _ in wanted], g, allow_unused=True)
                for (_, total), d in zip(wanted, found, strict=True):
                    if d is not None:
                        _of_images(total, here).add_(d)
        return None, None, *totals


def _of_images(tensor: Tensor, here: slice) -> Tensor:
    return tensor[here] if len(tensor) > 1 else tensor


def _finished(m: Mathematics, values: list[Tensor]) -> Any:
    names = (*m.accumulators, *(v.name for v in m.outer))
    return evaluate(m.finish, dict(zip(names, values, strict=True)), torch_library(values[0].dtype))
