"""Kervolution with a Gaussian kernel: how near the receptive field is to the weights."""

import torch

from ...formula import Formula
from ...operands import shared
from ..recipe import Recipe


def _make(gamma: float = 0.1) -> Formula:
    """``gamma`` is where the learned sharpness begins."""
    return Formula(
        lambda x, w: torch.square(x - w),
        epilogue=lambda distance, gamma: torch.exp(-gamma * distance),
        operands={"gamma": shared(init=gamma)},
    )


RECIPE = Recipe(
    "gaussian_kervolution",
    title="Gaussian kervolution",
    equation=r"y = \exp(-\gamma \sum_t (x_t - w_t)^2)",
    reference="""@inproceedings{wang2019kervolutional,
  title = {Kervolutional Neural Networks},
  author = {Wang, Chen and Yang, Jianfei and Xie, Lihua and Yuan, Junsong},
  booktitle = {CVPR}, year = {2019}}""",
    make=_make,
)
