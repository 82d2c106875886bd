"""Generalized-mean pooling: from the mean to the maximum, by a learned power."""

import torch

from ...formula import Formula
from ...operands import shared
from ..recipe import Recipe


def _make(p: float = 3.0, eps: float = 1e-6) -> Formula:
    """``p`` is where the learned power begins; ``eps`` the least pixel, since powers need them positive."""
    return Formula(
        lambda x, p: torch.exp(p * torch.log(x.clamp(min=eps))),
        "mean",
        epilogue=lambda mean, p: torch.exp(torch.log(mean) / p),
        operands={"p": shared(init=p)},
        name="generalized_mean",
    )


RECIPE = Recipe(
    "generalized_mean",
    title="generalized-mean pooling",
    equation=r"y = (\frac{1}{n} \sum_t x_t^p)^{1/p}, \quad x > 0",
    reference="""@article{radenovic2019fine,
  title = {Fine-tuning CNN Image Retrieval with No Human Annotation},
  author = {Radenovic, Filip and Tolias, Giorgos and Chum, Ondrej},
  journal = {IEEE TPAMI}, year = {2019}}""",
    make=_make,
    pixels=(0.05, 1.0),
)
