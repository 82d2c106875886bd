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
    """The output and its derivative over one pixel: the only one of its field, or else the middle of 3 x 3."""
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
    """For some weights, or some neighbors: (pixel, output) and (pixel, derivative)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer, alone = _layer(recipe)
        low, high = recipe.pixels
        pixel = torch.linspace(low, high, POINTS, dtype=torch.float64, requires_grad=True)
        found = []
        for i in range(CURVES):
            x = _images(pixel, recipe, alone=alone)
            images = {} if recipe.images is None else recipe.images(x.detach())
            y = layer(x, **images)
            y = y[:, i if alone else 0].flatten(1)
            y = y[:, y.shape[1] // 2]
            (slope,) = torch.autograd.grad(y.sum(), pixel)
            shown = pixel.detach().numpy()
            found.append(((shown, y.detach().numpy()), (shown, slope.numpy())))
        return found


def _layer(recipe: Recipe) -> tuple[nn.Module, bool]:
    """A layer of one tap where there is one, and otherwise of 3 x 3; and which."""
    dtype = {"dtype": torch.float64}
    if recipe.layers and "Conv" in recipe.layers:
        return recipe.Conv2d(1, CURVES, 1, size=1, backend="reference", **dtype), True
    if "Conv" in recipe.kinds and not recipe.formula.derived:
        return recipe.Conv2d(1, CURVES, 1, backend="reference", bias=False, **dtype), True
    if "Conv" in recipe.kinds:
        return recipe.Conv2d(1, 1, 3, backend="reference", bias=False, **dtype), False
    if recipe.layers:
        made = recipe.Pool2d(1, 3) if recipe.name == "involution" else recipe.Pool2d(3)
        return made.to(torch.float64).eval(), False
    return recipe.Pool2d(3, backend="reference", **dtype), False


def _images(pixel: Tensor, recipe: Recipe, *, alone: bool) -> Tensor:
    """An image for each value of the pixel, alone or in the middle of neighbors drawn anew."""
    if alone:
        return pixel[:, None, None, None]
    low, high = recipe.pixels
    around = torch.rand(1, 1, 3, 3, dtype=pixel.dtype) * (high - low) + low
    middle = torch.zeros(3, 3, dtype=pixel.dtype)
    middle[1, 1] = 1
    return torch.where(middle == 1, pixel[:, None, None, None], around)
