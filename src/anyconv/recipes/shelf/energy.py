"""Quadrature energy: the length of a pair of products, blind to the phase of what it sees."""

import torch

from ...formula import Formula
from ..recipe import Recipe


def _make(eps: float = 1e-12) -> Formula:
    """``eps`` under the root makes the gradient of an empty field finite."""
    return Formula(
        lambda x, even, odd: (even * x, odd * x),
        ("sum", "sum"),
        epilogue=lambda even, odd: torch.sqrt(torch.square(even) + torch.square(odd) + eps),
    )


RECIPE = Recipe(
    "energy",
    title="quadrature energy",
    equation=r"y = \sqrt{(\sum_t a_t x_t)^2 + (\sum_t b_t x_t)^2}",
    reference="""@article{adelson1985spatiotemporal,
  title = {Spatiotemporal Energy Models for the Perception of Motion},
  author = {Adelson, Edward H. and Bergen, James R.},
  journal = {Journal of the Optical Society of America A}, year = {1985}}""",
    make=_make,
)
