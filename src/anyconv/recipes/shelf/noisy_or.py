"""Noisy-or: the probability that at least one of independent causes has its effect."""

import torch

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(
        lambda x, w: 1 - torch.sigmoid(w) * x.clamp(0, 1),
        "prod",
        epilogue=lambda none: 1 - none,
        operands={"w": per_tap(init=lambda w: w.normal_(-2, 0.5))},
    )


RECIPE = Recipe(
    "noisy_or",
    title="noisy-or",
    equation=r"y = 1 - \prod_t (1 - \sigma(w_t)\, x_t), \quad x \in [0, 1]",
    reference="""@book{pearl1988probabilistic,
  title = {Probabilistic Reasoning in Intelligent Systems},
  author = {Pearl, Judea},
  publisher = {Morgan Kaufmann}, year = {1988}}""",
    make=_make,
    defaults={"bias": False},
    pixels=(0.0, 1.0),
)
