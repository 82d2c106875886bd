"""Product units: powers of the pixels, multiplied; of a negative pixel the real part of its power."""

import torch
from torch import Tensor

from ...formula import Formula
from ..recipe import Recipe


def _make(smallest: float = 1e-3) -> Formula:
    """``smallest`` is the least size of a pixel, whose logarithm stands for that of 0."""

    def tap(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return w * torch.log(torch.abs(x).clamp(min=smallest)), w * (x < 0)

    return Formula(
        tap,
        ("sum", "sum"),
        epilogue=lambda size, turns: torch.exp(size) * torch.cos(torch.pi * turns),
        name="product_unit",
    )


RECIPE = Recipe(
    "product_unit",
    title="product units",
    equation=r"y = \prod_t x_t^{w_t} = e^{\sum_t w_t \ln |x_t|} \cos(\pi \sum_{x_t < 0} w_t)",
    reference="""@article{durbin1989product,
  title = {Product Units: A Computationally Powerful and Biologically Plausible Extension to Backpropagation Networks},
  author = {Durbin, Richard and Rumelhart, David E.},
  journal = {Neural Computation}, year = {1989}}""",
    make=_make,
)
