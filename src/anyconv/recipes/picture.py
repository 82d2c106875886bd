"""The picture of a recipe: what it makes of a pixel, the derivative that training uses, and the equation."""

from __future__ import annotations

import textwrap
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from .recipe import Recipe

CURVES, POINTS = 5, 201


def draw(recipe: Recipe) -> Figure:
    """The output and its derivative over one pixel: the only one of its field, or the middle of 3 x 3."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for value, derivative in curves(recipe):
        left.plot(*value)
        right.plot(*derivative)
    left.set(xlabel="pixel", title="output")
    right.set(xlabel="pixel", title="derivative in training")
    for axis in (left, right):
        axis.grid(alpha=0.3)
    figure.suptitle(f"{recipe.title}:  ${recipe.equation}$", fontsize=12)
    if recipe.gradient:
        figure.supxlabel("\n".join(textwrap.wrap("gradient: " + recipe.gradient, 120)), fontsize=8)
    return figure


def curves(recipe: Recipe) -> list[tuple[tuple[Any, Any], tuple[Any, Any]]]:
    """For some filters, or some neighborhoods: (pixel, output) and (pixel, derivative)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer, taps = _layer(recipe)
        low, high = recipe.pixels
        pixel = torch.linspace(low, high, POINTS, dtype=torch.float64, requires_grad=True)
        x, found = _images(pixel, recipe, taps), []
        for i in range(CURVES):
            if "Pool" in recipe.kinds:
                x = _images(pixel, recipe, taps)
            y = layer(x, **({} if recipe.images is None else recipe.images(x.detach())))
            y = y[:, i if len(y[0]) > 1 else 0].flatten(1)
            y = y[:, y.shape[1] // 2]
            (slope,) = torch.autograd.grad(y.sum(), pixel, retain_graph=True)
            shown = pixel.detach().numpy()
            found.append(((shown, y.detach().numpy()), (shown, slope.numpy())))
        return found


def _layer(recipe: Recipe) -> tuple[nn.Module, int]:
    """A layer and how many taps wide it is: one where taps are only summed, or else three."""
    dtype = {"dtype": torch.float64}
    if "Pool" in recipe.kinds:
        if not recipe.layers:
            return recipe.Pool2d(3, backend="reference", **dtype), 3
        made = recipe.Pool2d(1, 3) if recipe.name == "involution" else recipe.Pool2d(3)
        return made.to(torch.float64).eval(), 3
    if recipe.layers:
        return recipe.Conv2d(1, CURVES, 1, size=1, backend="reference", **dtype), 1
    m = recipe.formula.mathematics
    summed = m.reduction.name == "sum" and m.inner is None and not m.has_epilogue and not recipe.formula.derived
    taps = 1 if summed else 3
    return recipe.Conv2d(1, CURVES, taps, backend="reference", **{**dtype, "bias": False}), taps


def _images(pixel: Tensor, recipe: Recipe, taps: int) -> Tensor:
    """An image for each value of the pixel, alone or in the middle of neighbors."""
    low, high = recipe.pixels
    around = torch.rand(1, 1, taps, taps, dtype=pixel.dtype) * (high - low) + low
    middle = torch.zeros(taps, taps, dtype=torch.bool)
    middle[taps // 2, taps // 2] = True
    return torch.where(middle, pixel[:, None, None, None], around)
