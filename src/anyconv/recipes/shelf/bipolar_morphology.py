"""Bipolar morphological neurons: maxima of sums of logarithms, for each pair of signs."""

import torch
from torch import Tensor

from ...formula import Formula
from ..recipe import Recipe


def _make(smallest: float = 1e-6) -> Formula:
    """``smallest`` is the least size of a pixel: its logarithm stands for that of 0."""

    def tap(x: Tensor, k1: Tensor, k2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        above, below = torch.log(x.clamp(min=smallest)), torch.log((-x).clamp(min=smallest))
        return above + k1, above + k2, below + k1, below + k2

    return Formula(
        tap,
        ("max", "max", "max", "max"),
        epilogue=lambda a, b, c, d: torch.exp(a) - torch.exp(b) - torch.exp(c) + torch.exp(d),
        name="bipolar_morphology",
    )


RECIPE = Recipe(
    "bipolar_morphology",
    title="bipolar morphological layer",
    equation=r"y = e^{\max (\ln x_t^+ + k_t^1)} - e^{\max (\ln x_t^+ + k_t^2)} - e^{\max (\ln x_t^- + k_t^1)} + "
    r"e^{\max (\ln x_t^- + k_t^2)}",
    reference="""@inproceedings{limonova2020bipolar,
  title = {Bipolar Morphological Neural Networks: Convolution Without Multiplication},
  author = {Limonova, Elena and Matveev, Daniil and Nikolaev, Dmitry and Arlazarov, Vladimir V.},
  booktitle = {ICMV}, year = {2020}}""",
    make=_make,
)
