"""Cosine similarity of the receptive field and the weights, in [-1, 1]."""

import torch

from ...formula import Formula
from ..recipe import Recipe


def _make(eps: float = 1e-6) -> Formula:
    """``eps`` is added to both squared norms: an empty field is like nothing, and its gradient is finite."""
    return Formula(
        lambda x, w: (w * x, torch.square(x), torch.square(w)),
        ("sum", "sum", "sum"),
        epilogue=lambda product, field, weight: product * torch.rsqrt(field + eps) * torch.rsqrt(weight + eps),
    )


RECIPE = Recipe(
    "cosine",
    title="cosine normalization",
    equation=r"y = \frac{\sum_t w_t x_t}{\|x\|\, \|w\|}",
    reference="""@inproceedings{luo2018cosine,
  title = {Cosine Normalization: Using Cosine Similarity Instead of Dot Product in Neural Networks},
  author = {Luo, Chunjie and Zhan, Jianfeng and Xue, Xiaohe and Wang, Lei and Ren, Rui and Yang, Qiang},
  booktitle = {ICANN}, year = {2018}}""",
    make=_make,
    keeps_weights=True,
)
