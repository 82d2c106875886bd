"""FastKAN: Gaussians in the place of splines."""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make(grid: int = 8, low: float = -2.0, high: float = 2.0) -> Formula:
    """``grid`` Gaussians from ``low`` to ``high``, as wide as they are apart."""
    step = (high - low) / (grid - 1)

    def tap(x: Tensor, base: Tensor, c: Tensor) -> Tensor:
        y = base * F.silu(x)
        for g in range(grid):
            y = y + c[g] * torch.exp(-torch.square((x - (low + g * step)) / step))
        return y

    return Formula(tap, operands={"c": per_tap(init=lambda c: c.normal_(0, 0.1), size=grid)}, name=f"kan_rbf({grid=})")


RECIPE = Recipe(
    "kan_rbf",
    title="FastKAN convolution",
    equation=r"y = \sum_t b_t\, \mathrm{silu}(x_t) + \sum_g c_{t,g}\, e^{-(x_t - \mu_g)^2 / h^2}",
    reference="""@article{li2024kolmogorov,
  title = {Kolmogorov-Arnold Networks are Radial Basis Function Networks},
  author = {Li, Ziyao},
  journal = {arXiv:2405.06721}, year = {2024}}""",
    make=_make,
)
