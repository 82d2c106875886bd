"""Normalized convolution: a mean of the pixels, weighted by how certain each is."""

import torch.nn.functional as F
from torch import Tensor

from ...formula import Formula
from ...operands import guide
from ..recipe import Recipe


def _make(eps: float = 1e-6) -> Formula:
    """Called with ``certainty=``, at least 0; ``eps`` stands in where nothing is certain."""

    def tap(x: Tensor, certainty: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        weight = F.softplus(w) * certainty
        return weight * x, weight

    return Formula(
        tap,
        ("sum", "sum"),
        epilogue=lambda total, weight: total / (weight + eps),
        operands={"certainty": guide()},
        name="normalized",
    )


RECIPE = Recipe(
    "normalized",
    title="normalized convolution",
    equation=r"y = \frac{\sum_t a_t c_t x_t}{\sum_t a_t c_t}, \quad a = \mathrm{softplus}(w)",
    reference="""@inproceedings{knutsson1993normalized,
  title = {Normalized and Differential Convolution: Methods for Interpolation and Filtering of Incomplete and Uncertain
    Data},
  author = {Knutsson, Hans and Westin, Carl-Fredrik},
  booktitle = {CVPR}, year = {1993}}""",
    make=_make,
    images=lambda x: {"certainty": (x * x).clamp(max=1)},
)
