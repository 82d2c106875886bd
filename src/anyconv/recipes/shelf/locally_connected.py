"""Locally connected layers: a convolution whose weights each site has for itself."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...formula import Formula
from ...geometry import Geometry, Ints, ints
from ...modules import Conv1d, Conv2d, Conv3d
from ...operands import per_site
from ..recipe import Recipe

FORMULA = Formula(lambda x, w: x * w, operands={"w": per_site("ock")})


class LocallyConnected(nn.Module):
    """Weights ``w`` for each site: ``(C_out, C_in / groups, *kernel, *sites)``.

    Args:
        dims: spatial axes.
        in_channels, out_channels, kernel_size: as :class:`anyconv.Conv2d`, and so all further arguments.
        size: of the images, along each axis.
    """

    def __init__(
        self, dims: int, in_channels: int, out_channels: int, kernel_size: Any, *, size: int | Ints, **kw: Any
    ):
        super().__init__()
        conv = (Conv1d, Conv2d, Conv3d)[dims - 1]
        self.conv = conv(in_channels, out_channels, kernel_size, FORMULA, **kw)
        geometry: Geometry = self.conv.geometry
        sizes = ints("size", size, dims, least=1)
        shape = FORMULA.parameters["w"].shape(in_channels, out_channels, geometry, size=sizes)
        self.w = nn.Parameter(torch.empty(shape, device=kw.get("device"), dtype=kw.get("dtype")))
        bound = 1 / math.sqrt(max(1, in_channels // geometry.groups * geometry.taps))
        nn.init.uniform_(self.w, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, *size)`` -> ``(N, C_out, *sites)``."""
        y: Tensor = self.conv(x, w=self.w)
        return y


RECIPE = Recipe(
    "locally_connected",
    title="locally connected layer",
    equation=r"y(p) = \sum_t w_t(p)\, x(p + t)",
    reference="""@inproceedings{taigman2014deepface,
  title = {DeepFace: Closing the Gap to Human-Level Performance in Face Verification},
  author = {Taigman, Yaniv and Yang, Ming and Ranzato, Marc'Aurelio and Wolf, Lior},
  booktitle = {CVPR}, year = {2014}}""",
    layers={"Conv": LocallyConnected},
)
