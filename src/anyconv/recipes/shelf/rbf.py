"""Radial basis functions of receptive fields, with a width for each tap."""

import torch

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make(width: float = 1.0) -> Formula:
    """``width`` is where the widths begin; they are kept as their inverses, ``s``."""
    return Formula(
        lambda x, w, s: torch.square((x - w) * s),
        epilogue=lambda distance: torch.exp(-distance),
        operands={"s": per_tap(init=1 / width)},
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
