"""The bilateral filter: a mean of the pixels that are near, in space and in value; its widths are learned."""

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import center, offsets, shared
from ..recipe import Recipe


def _make(space: float = 1.0, value: float = 0.5, dims: int = 2) -> Formula:
    """``space`` and ``value`` are the widths to begin with, in pixels and in units of the pixel."""

    def tap(x: Tensor, middle: Tensor, d: Tensor, space: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        far = torch.square(d[0] / space)
        for i in range(1, dims):
            far = far + torch.square(d[i] / space)
        weight = torch.exp(-0.5 * (far + torch.square((x - middle) / value)))
        return weight * x, weight

    return Formula(
        tap,
        ("sum", "sum"),
        epilogue=lambda total, weight: total / weight,
        operands={
            "middle": center(),
            "d": offsets(dims),
            "space": shared(init=space),
            "value": shared(init=value),
        },
        name="bilateral",
    )


RECIPE = Recipe(
    "bilateral",
    title="bilateral filter",
    equation=r"y = \frac{\sum_t G_s(t)\, G_v(x_t - x_{\mathrm{middle}})\, x_t}"
    r"{\sum_t G_s(t)\, G_v(x_t - x_{\mathrm{middle}})}",
    reference="""@inproceedings{tomasi1998bilateral,
  title = {Bilateral Filtering for Gray and Color Images},
  author = {Tomasi, Carlo and Manduchi, Roberto},
  booktitle = {ICCV}, year = {1998}}""",
    make=_make,
)
