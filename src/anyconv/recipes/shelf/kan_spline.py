"""Convolutional KAN: at each tap a learned spline of the pixel, beside a weighted SiLU."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make(grid: int = 5, order: int = 3, low: float = -1.0, high: float = 1.0) -> Formula:
    """``grid`` intervals from ``low`` to ``high``; ``grid + order`` splines, piecewise polynomials of this order."""
    step = (high - low) / grid

    def basis(u: Tensor) -> Tensor:
        """The cardinal B-spline around 0, by truncated powers of the distance; 0 beyond (order + 1) / 2."""
        pieces = [
            (-1) ** j * math.comb(order + 1, j) * F.relu((order + 1) / 2 - j - torch.abs(u)) ** order
            for j in range(order // 2 + 1)
        ]
        total: Tensor = sum(pieces[1:], pieces[0])
        return total / math.factorial(order)

    def tap(x: Tensor, base: Tensor, c: Tensor) -> Tensor:
        place = (x - low) / step - (1 - order) / 2  # how many intervals the pixel is from the first spline's middle
        y = base * F.silu(x)
        for g in range(grid + order):
            y = y + c[g] * basis(place - g)
        return y

    return Formula(
        tap,
        operands={"c": per_tap(init=lambda c: c.uniform_(-0.05 / grid, 0.05 / grid), size=grid + order)},
        name=f"kan_spline(grid={grid}, order={order})",
    )


RECIPE = Recipe(
    "kan_spline",
    title="convolutional Kolmogorov-Arnold network, B-splines",
    equation=r"y = \sum_t b_t\, \mathrm{silu}(x_t) + \sum_g c_{t,g}\, B_g(x_t)",
    reference="""@article{bodner2024convolutional,
  title = {Convolutional Kolmogorov-Arnold Networks},
  author = {Bodner, Alexander Dylan and Tepsich, Antonio Santiago and Spolski, Jack Natan and Pourteau, Santiago},
  journal = {arXiv:2406.13155}, year = {2024}}""",
    make=_make,
)
