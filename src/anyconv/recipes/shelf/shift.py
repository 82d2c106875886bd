"""DeepShift (Q): weights rounded to powers of two, so that products are shifts."""

import torch
from torch import Tensor

from ...formula import Formula
from ..recipe import Recipe


def _make(lowest: int = -14, highest: int = 0) -> Formula:
    """``lowest`` and ``highest`` are the exponents that the bits of a weight can say."""

    def tap(x: Tensor, w: Tensor) -> Tensor:
        exponent = torch.round(torch.log2(torch.abs(w))).clamp(lowest, highest)
        return x * (torch.sign(w) * torch.exp2(exponent))

    return Formula(tap, gradient={"w": lambda x, w: x}, name="shift")


RECIPE = Recipe(
    "shift",
    title="DeepShift-Q",
    equation=r"y = \sum_t x_t\, \mathrm{sign}(w_t)\, 2^{\mathrm{round}(\log_2 |w_t|)}",
    gradient="the rounding passes the gradient to the weight as it is (straight-through)",
    reference="""@inproceedings{elhoushi2021deepshift,
  title = {DeepShift: Towards Multiplication-Less Neural Networks},
  author = {Elhoushi, Mostafa and Chen, Zihao and Shafiq, Farhan and Tian, Ye Henry and Li, Joey Yiwei},
  booktitle = {CVPR Workshops}, year = {2021}}""",
    make=_make,
    keeps_weights=True,
)
