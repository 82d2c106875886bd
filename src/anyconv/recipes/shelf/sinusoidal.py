"""Sinusoidal taps: an amplitude, a frequency and a phase at each."""

import math

import torch

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make(frequency: float = 3.0) -> Formula:
    """``frequency`` is the largest, in radians to a pixel's unit, that a tap begins with."""
    return Formula(
        lambda x, a, omega, phi: a * torch.sin(omega * x + phi),
        operands={
            "omega": per_tap(init=lambda w: w.uniform_(-frequency, frequency)),
            "phi": per_tap(init=lambda w: w.uniform_(-math.pi, math.pi)),
        },
        name="sinusoidal",
    )


RECIPE = Recipe(
    "sinusoidal",
    title="sinusoidal taps",
    equation=r"y = \sum_t a_t \sin(\omega_t x_t + \varphi_t)",
    reference="""@inproceedings{sitzmann2020implicit,
  title = {Implicit Neural Representations with Periodic Activation Functions},
  author = {Sitzmann, Vincent and Martel, Julien N. P. and Bergman, Alexander W. and Lindell, David B. and
    Wetzstein, Gordon},
  booktitle = {NeurIPS}, year = {2020}}""",
    make=_make,
)
