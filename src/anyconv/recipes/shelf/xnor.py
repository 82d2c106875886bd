"""XNOR-Net: signs of pixels times signs of weights, scaled by the mean sizes of both."""

import torch
from torch import Tensor

from ...formula import Formula
from ..recipe import Recipe


def _make() -> Formula:
    def within(v: Tensor) -> Tensor:
        return (torch.abs(v) < 1) + 0.0  # where the straight-through estimator of a sign lets the gradient pass

    return Formula(
        lambda x, w: (torch.sign(x) * torch.sign(w), torch.abs(x), torch.abs(w)),
        ("sum", "mean", "mean"),
        epilogue=lambda agreement, pixel, weight: agreement * pixel * weight,
        gradient={
            "x": lambda x, w: (within(x) * torch.sign(w), torch.sign(x), 0 * x),
            "w": lambda x, w: (torch.sign(x) * within(w), 0 * x, torch.sign(w)),
        },
        name="xnor",
    )


RECIPE = Recipe(
    "xnor",
    title="XNOR-Net",
    equation=r"y = \overline{|w|}\; \overline{|x|} \sum_t \mathrm{sign}(x_t)\, \mathrm{sign}(w_t)",
    gradient=r"of a sign: 1 where its argument is within $\pm 1$ (straight-through); of the means, the derivative",
    reference="""@inproceedings{rastegari2016xnor,
  title = {XNOR-Net: ImageNet Classification Using Binary Convolutional Neural Networks},
  author = {Rastegari, Mohammad and Ordonez, Vicente and Redmon, Joseph and Farhadi, Ali},
  booktitle = {ECCV}, year = {2016}}""",
    make=_make,
    defaults={"bias": False},
    keeps_weights=True,
)
