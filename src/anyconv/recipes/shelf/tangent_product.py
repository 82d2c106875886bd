"""The product of tangents: the function whose author asked how to write such a layer at all."""

import math

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _around_a_quarter_pi(w: Tensor) -> Tensor:
    """Where the tangent is about 1 or -1: a product of many neither vanishes nor explodes, and the poles are far."""
    signs = torch.randint(0, 2, w.shape, device=w.device) * 2 - 1
    return w.normal_(math.pi / 4, 0.1).mul_(signs)


def _make() -> Formula:
    return Formula(lambda x, w: torch.tan(x + w), reduce="prod", operands={"w": per_tap(init=_around_a_quarter_pi)})


RECIPE = Recipe(
    "tangent_product",
    title="product of tangents",
    equation=r"y = \prod_t \tan(x_t + w_t)",
    reference="""@misc{torch7question,
  title = {Custom spatial convolution in Torch7},
  note = {A question of 2016, and the seed of this library; its answer walks over taps and asks for this product}}""",
    make=_make,
    pixels=(-0.2, 0.2),
)
