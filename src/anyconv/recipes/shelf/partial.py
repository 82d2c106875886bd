"""Partial convolution: only the pixels that a mask shows, scaled to a full field."""

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import guide
from ..recipe import Recipe


def _make() -> Formula:
    """Called with ``mask=``, 1 where a pixel is there. The next mask is the maximum of this one in each field."""

    def scaled(total: Tensor, seen: Tensor) -> Tensor:
        return torch.where(seen > 0, total / torch.where(seen > 0, seen, 1), 0)

    return Formula(
        lambda x, mask, w: (w * (x * mask), mask),
        ("sum", "mean"),
        epilogue=scaled,
        operands={"mask": guide()},
        name="partial",
    )


RECIPE = Recipe(
    "partial",
    title="partial convolution",
    equation=r"y = \frac{n}{\sum_t m_t} \sum_t w_t m_t x_t, \quad 0 \mathrm{\ where\ no\ } m_t > 0",
    reference="""@inproceedings{liu2018image,
  title = {Image Inpainting for Irregular Holes Using Partial Convolutions},
  author = {Liu, Guilin and Reda, Fitsum A. and Shih, Kevin J. and Wang, Ting-Chun and Tao, Andrew and
    Catanzaro, Bryan},
  booktitle = {ECCV}, year = {2018}}""",
    make=_make,
    images=lambda x: {"mask": (x[:, :1] > -0.25).to(x.dtype)},
    keeps_weights=True,
)
