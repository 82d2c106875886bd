"""Dendritic taps: each has an activation of its own, before the sum."""

import torch

from ...formula import Formula
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(lambda x, v, w, b: v * torch.tanh(w * x + b), name="dendrite")


RECIPE = Recipe(
    "dendrite",
    title="dendritic taps",
    equation=r"y = \sum_t v_t \tanh(w_t x_t + b_t)",
    reference="""@article{poirazi2003pyramidal,
  title = {Pyramidal Neuron as Two-Layer Neural Network},
  author = {Poirazi, Panayiota and Brannon, Terrence and Mel, Bartlett W.},
  journal = {Neuron}, year = {2003}}""",
    make=_make,
)
