"""Sharpened cosine similarity: a power of the cosine that keeps its sign, with a floor under the norms."""

import math

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import per_filter, shared
from ..recipe import Recipe

P_SCALE, Q_SCALE = 10.0, 100.0  # p and q are kept so many times as large, which slows their training


def _make(p: float = 2.0, q: float = 0.01, eps: float = 1e-12) -> Formula:
    """``p`` is the power and ``q`` the floor under the norms to begin with; ``eps`` keeps roots and powers from 0."""

    def sharpened(product: Tensor, field: Tensor, weight: Tensor, p: Tensor, q: Tensor) -> Tensor:
        floor = torch.square(q / Q_SCALE)
        cosine = product / ((torch.sqrt(field + eps) + floor) * (torch.sqrt(weight + eps) + floor))
        return torch.sign(cosine) * (torch.abs(cosine) + eps) ** torch.square(p / P_SCALE)

    return Formula(
        lambda x, w: (w * x, torch.square(x), torch.square(w)),
        ("sum", "sum", "sum"),
        epilogue=sharpened,
        operands={"p": per_filter(init=P_SCALE * math.sqrt(p)), "q": shared(init=Q_SCALE * math.sqrt(q))},
    )


RECIPE = Recipe(
    "sharpened_cosine",
    title="sharpened cosine similarity",
    equation=r"y = \mathrm{sign}(s)\, |s|^{p^2}, \quad s = \frac{\sum_t w_t x_t}{(\|x\| + q^2)(\|w\| + q^2)}",
    reference="""@inproceedings{wu2022exploring,
  title = {Exploring the Sharpened Cosine Similarity},
  author = {Wu, Skyler and Lu, Fred and Raff, Edward and Holt, James},
  booktitle = {I Can't Believe It's Not Better Workshop, NeurIPS}, year = {2022}}""",
    make=_make,
    defaults={"bias": False},
    keeps_weights=True,
)
