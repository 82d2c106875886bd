"""Quadratic neurons: a product of two sums and a sum of squares, which begin as an ordinary convolution."""

import torch

from ...formula import Formula
from ...operands import per_filter, per_tap
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(
        lambda x, r, g, b: (r * x, g * x, b * torch.square(x)),
        ("sum", "sum", "sum"),
        epilogue=lambda r, g, b, r0, g0: (r + r0) * (g + g0) + b,
        operands={
            "g": per_tap(init=0.0),  # ReLinear: with g0 = 1, the quadratic parts begin at nothing
            "b": per_tap(init=0.0),
            "r0": per_filter(init=0.0),
            "g0": per_filter(init=1.0),
        },
    )


RECIPE = Recipe(
    "quadratic",
    title="quadratic neurons",
    equation=r"y = (\sum_t r_t x_t + r_0)(\sum_t g_t x_t + g_0) + \sum_t b_t x_t^2",
    reference="""@article{fan2021expressivity,
  title = {Expressivity and Trainability of Quadratic Networks},
  author = {Fan, Feng-Lei and Li, Mengzhou and Wang, Fei and Lai, Rongjie and Wang, Ge},
  journal = {arXiv:2110.06081}, year = {2021}}""",
    make=_make,
)
