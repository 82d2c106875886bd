"""Chebyshev KAN: polynomials of the squashed pixel, by their recurrence."""

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make(degree: int = 3) -> Formula:
    """``degree`` of the polynomials; their recurrence is smooth at the ends, where an arc cosine has no derivative."""

    def tap(x: Tensor, c: Tensor) -> Tensor:
        t = torch.tanh(x)
        before, here = torch.ones_like(t), t
        y = c[0] * before
        for d in range(1, degree + 1):
            y = y + c[d] * here
            before, here = here, 2 * t * here - before
        return y

    def init(c: Tensor) -> Tensor:
        return c.normal_(0, 1 / (c[0].numel()))

    return Formula(tap, operands={"c": per_tap(init=init, size=degree + 1)}, name=f"kan_chebyshev({degree=})")


RECIPE = Recipe(
    "kan_chebyshev",
    title="Chebyshev KAN convolution",
    equation=r"y = \sum_t \sum_d c_{t,d}\, T_d(\tanh x_t)",
    reference="""@article{ss2024chebyshev,
  title = {Chebyshev Polynomial-Based Kolmogorov-Arnold Networks: An Efficient Architecture for Nonlinear Function
    Approximation},
  author = {SS, Sidharth and AR, Keerthana and R, Gokul and KP, Anas},
  journal = {arXiv:2405.07200}, year = {2024}}""",
    make=_make,
)
