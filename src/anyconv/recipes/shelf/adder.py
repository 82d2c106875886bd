"""AdderNet: distances in the place of products, trained by a gradient that keeps more than a sign."""

import math

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make(eta: float = 0.2) -> Formula:
    """``eta`` is the paper's adaptive learning rate: the norm of a layer's weight gradient per root of its size."""

    def scaled(gradient: Tensor) -> Tensor:
        norm: Tensor = gradient.norm()
        return gradient / norm.clamp(min=1e-12) * (eta * math.sqrt(gradient.numel()))

    return Formula(
        lambda x, w: -torch.abs(x - w),
        gradient={"x": lambda x, w: (w - x).clamp(-1, 1), "w": lambda x, w: x - w},
        operands={"w": per_tap(init=torch.nn.init.normal_, on_gradient=scaled)},
    )


RECIPE = Recipe(
    "adder",
    title="AdderNet",
    equation=r"y = -\sum_t |x_t - w_t|",
    gradient=r"$\partial y/\partial x = \mathrm{clip}(w - x, -1, 1)$, $\partial y/\partial w = x - w$, "
    "and each layer's weight gradient is scaled to a norm in proportion to the root of its size",
    reference="""@inproceedings{chen2020addernet,
  title = {AdderNet: Do We Really Need Multiplications in Deep Learning?},
  author = {Chen, Hanting and Wang, Yunhe and Xu, Chunjing and Shi, Boxin and Xu, Chao and Tian, Qi and Xu, Chang},
  booktitle = {CVPR}, year = {2020}}""",
    make=_make,
    defaults={"bias": False},
)
