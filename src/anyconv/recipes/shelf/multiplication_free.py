"""The multiplication-free operator of AddNet: signs move from one factor to the other."""

import torch

from ...formula import Formula
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(lambda x, w: torch.sign(x) * w + torch.sign(w) * x)


RECIPE = Recipe(
    "multiplication_free",
    title="AddNet's multiplication-free operator",
    equation=r"y = \sum_t \mathrm{sign}(x_t)\, w_t + \mathrm{sign}(w_t)\, x_t",
    gradient="the impulse of the derivative of a sign at 0 is left out",
    reference="""@inproceedings{afrasiyabi2018nonl2,
  title = {Non-Euclidean Vector Product for Neural Networks},
  author = {Afrasiyabi, Arman and Badawi, Diaa and Nasir, Barbaros and Yildiz, Ozan and Yarman Vural, Fatos T. and
    Cetin, A. Enis},
  booktitle = {ICASSP}, year = {2018}}""",
    make=_make,
    keeps_weights=True,
)
