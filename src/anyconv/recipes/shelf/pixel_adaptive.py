"""Pixel-adaptive convolution: weights times a kernel of how alike the guides of two pixels are."""

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import center, guide
from ..recipe import Recipe


def _make(features: int = 2) -> Formula:
    """``features``: channels of the image of features, with which the layer is called as ``f=``."""

    def tap(x: Tensor, f: Tensor, middle: Tensor, w: Tensor) -> Tensor:
        distance = torch.square(f[0] - middle[0])
        for i in range(1, features):
            distance = distance + torch.square(f[i] - middle[i])
        return w * x * torch.exp(-0.5 * distance)

    return Formula(
        tap,
        operands={"f": guide(size=features), "middle": center("f", size=features)},
        name="pixel_adaptive",
    )


RECIPE = Recipe(
    "pixel_adaptive",
    title="pixel-adaptive convolution",
    equation=r"y = \sum_t w_t\, e^{-\|f_t - f_{\mathrm{middle}}\|^2 / 2}\, x_t",
    reference="""@inproceedings{su2019pixel,
  title = {Pixel-Adaptive Convolutional Neural Networks},
  author = {Su, Hang and Jampani, Varun and Sun, Deqing and Gallo, Orazio and Learned-Miller, Erik and Kautz, Jan},
  booktitle = {CVPR}, year = {2019}}""",
    make=_make,
    images=lambda x: {"f": torch.stack([x.mean(1), x.amax(1)], 1)},
    keeps_weights=True,
)
