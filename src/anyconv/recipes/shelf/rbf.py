"""Radial basis functions of receptive fields, with a width for each tap."""

import math

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make(width: float = 1.0) -> Formula:
    """``width`` is where the widths begin, in roots of the number of taps: nothing vanishes, however large the field.

    They are kept as their inverses, ``s``.
    """

    def init(s: Tensor) -> Tensor:
        return s.fill_(1 / (width * math.sqrt(s[0].numel())))

    return Formula(
        lambda x, w, s: torch.square((x - w) * s),
        epilogue=lambda distance: torch.exp(-distance),
        operands={"s": per_tap(init=init)},
    )


RECIPE = Recipe(
    "rbf",
    title="radial basis function layer",
    equation=r"y = \exp(-\sum_t s_t^2 (x_t - w_t)^2)",
    reference="""@article{broomhead1988multivariable,
  title = {Multivariable Functional Interpolation and Adaptive Networks},
  author = {Broomhead, David S. and Lowe, David},
  journal = {Complex Systems}, year = {1988}}""",
    make=_make,
)
