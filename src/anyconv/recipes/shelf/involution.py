"""Involution: each site makes a kernel of its own from its pixel, and all channels of a group share it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...errors import GeometryError
from ...formula import Formula
from ...operands import per_site
from ...pooling import Pool1d, Pool2d, Pool3d
from ..recipe import Recipe

FORMULA = Formula(lambda x, kernel: x * kernel, operands={"kernel": per_site("nk")})


class Involution(nn.Module):
    """What makes the kernels, and the sums that they weight; the image keeps its size.

    Args:
        dims: spatial axes.
        channels: of the image.
        kernel_size: odd, the same along each axis.
        groups: of channels; each has kernels of its own.
        reduction: how much narrower the layer between pixel and kernel is.
    """

    def __init__(self, dims: int, channels: int, kernel_size: int, *, groups: int = 1, reduction: int = 4, **kw: Any):
        super().__init__()
        if kernel_size % 2 == 0 or kernel_size < 1:
            raise GeometryError(f"`kernel_size` must be odd, got {kernel_size!r}")
        if groups < 1 or channels % groups:
            raise GeometryError(f"`groups` must divide the {channels} channels, got {groups!r}")
        conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dims - 1]
        norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dims - 1]
        pool = (Pool1d, Pool2d, Pool3d)[dims - 1]
        narrow, self.dims, self.groups, self.kernel_size = max(1, channels // reduction), dims, groups, kernel_size
        self.kernels = nn.Sequential(
            conv(channels, narrow, 1), norm(narrow), nn.ReLU(), conv(narrow, groups * kernel_size**dims, 1)
        )
        self.sums = pool(kernel_size, FORMULA, stride=1, padding=kernel_size // 2, padding_mode="zeros", **kw)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, *size)`` -> the same shape."""
        kernels = self.kernels(x).reshape(-1, *(self.kernel_size,) * self.dims, *x.shape[2:])
        parts = x.reshape(-1, x.shape[1] // self.groups, *x.shape[2:])  # a group of channels is an image
        y: Tensor = self.sums(parts, kernel=kernels)
        return y.reshape(x.shape)


RECIPE = Recipe(
    "involution",
    title="involution",
    equation=r"y_c(p) = \sum_t h_t(x(p))\, x_c(p + t)",
    reference="""@inproceedings{li2021involution,
  title = {Involution: Inverting the Inherence of Convolution for Visual Recognition},
  author = {Li, Duo and Hu, Jie and Wang, Changhu and Li, Xiangtai and She, Qi and Zhu, Lei and Zhang, Tong and
    Chen, Qifeng},
  booktitle = {CVPR}, year = {2021}}""",
    layers={"Pool": Involution},
)
