"""Images of a sum of products: computed, convolved with their weights and let go, a few at a time.

They are computed again when their gradients are asked for; so the peak does not grow with the number of products.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..expr import Expr, differentiate, evaluate, simplify
from ..expr.evaluate import evaluate_all
from ..geometry import Geometry
from ..variables import Variable
from .convolutions import convolved, image_gradient, weight_gradient
from .padding import pad
from .torch_library import torch_library

CHUNK = 2**23  # bytes of what is computed of a part of the batch at once, and not kept


@dataclass(frozen=True)
class Images:
    """The images of a value, and how they are made.

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


def convolve_images(call: Images, weights: list[Tensor], sources: dict[str, Tensor]) -> Tensor:
    """The sum of their convolutions: ``(n, o or 1, *sites)``."""
    given = call.padded(tuple(sources[name] for name in call.names))
    filters = max(len(weight) for weight in weights)
    sites = call.geometry.sites(tuple(sources[call.names[0]].shape[2:]))
    y = given[0].new_zeros(len(given[0]), filters, *sites)
    for here, some in call.chunks(given[0]):
        images = call.evaluate(call.images[some], [t[here] for t in given])
        for image, weight in zip(images, weights[some], strict=True):
            y[here] += convolved(call.summed(image, weight), weight, call.left)
    return y


def image_gradients(
    call: Images, sources: dict[str, Tensor], weights: list[Tensor], grad: Tensor, found: dict[str, Tensor]
) -> list[Tensor]:
    """Add to the gradients of images; those of the weights."""
    tensors = tuple(sources[name] for name in call.names)
    given = call.padded(tensors)
    totals = [torch.zeros_like(t) if name in found else None for name, t in zip(call.names, given, strict=True)]
    g_weights = [torch.zeros_like(w) for w in weights]
    grad = grad.expand(len(given[0]), *grad.shape[1:])
    for here, some in call.chunks(given[0]):
        at = [None if t is None else t[here] for t in totals]
        part = replace(call, images=call.images[some])
        _add_gradients(part, [t[here] for t in given], weights[some], grad[here], (at, g_weights[some]))
    for name, tensor, total in zip(call.names, tensors, totals, strict=True):
        if total is not None:
            found[name] += _unpadded(call, tensor, total)
    return g_weights


Totals = list[Tensor | None]


def _add_gradients(
    call: Images, given: list[Tensor], weights: list[Tensor], grad: Tensor, totals: tuple[Totals, list[Tensor]]
) -> None:
    """Add a chunk's gradients to those of its tensors and of the weights."""
    of_tensors, of_weights = dict(zip(call.names, totals[0], strict=True)), totals[1]
    wanted = tuple(name for name, v in call.known.items() if of_tensors.get(v.source) is not None)
    slopes = _slopes(call.images, wanted)
    images = tuple(map(simplify, call.images))  # in the form in which the slopes share their parts
    values = call.evaluate((*images, *(d for _, _, d in slopes)), given)
    g_images: dict[int, Tensor] = {}
    for i, (image, weight, total) in enumerate(zip(values, weights, of_weights, strict=False)):
        g = grad if len(weight) > 1 or grad.shape[1] == 1 else grad.sum(1, keepdim=True)
        image = call.summed(image, weight)
        total += weight_gradient(image, weight, g, call.left)
        if any(i == j for j, _, _ in slopes):
            g_images[i] = image_gradient(image, weight, g, call.left)
    for (i, name, _), slope in zip(slopes, values[len(images) :], strict=True):
        v = call.known[name]
        of_source = of_tensors[v.source]
        assert of_source is not None
        to = _seen(v, of_source)
        d = g_images[i] * slope
        to += d if d.shape == to.shape else d.sum(1, keepdim=True)


def _unpadded(call: Images, tensor: Tensor, total: Tensor) -> Tensor:
    """The gradient of a tensor, of that of what it was padded to."""
    if call.pads_after:
        return total
    leaf = tensor.detach().requires_grad_()
    with torch.enable_grad():
        padded, _ = pad(leaf, call.geometry)
    return torch.autograd.grad(padded, leaf, total)[0]


@functools.lru_cache(maxsize=1024)
def vanishes(expr: Expr) -> bool:
    """Whether an image is 0 where all it sees is."""
    zero = torch.zeros(())
    value = torch.as_tensor(evaluate(expr, dict.fromkeys(expr.names(), zero), torch_library(zero.dtype)))
    return bool(value == 0)
