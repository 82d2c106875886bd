"""The layers: ``nn.Conv1d/2d/3d`` with any formula inside.

>>> Conv2d(3, 16, kernel_size=3, formula=Formula(lambda x, w: torch.tan(x + w), reduce="prod"), padding=1)
Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), y = prod(tan(x + w)) + bias)
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor

from .arguments import check_field
from .errors import GeometryError
from .functional import AnyFormula, Size, convolve
from .geometry import Geometry
from .interchange import Interchangeable
from .operands import FROM_CALL


class _ConvNd(Interchangeable):
    """What the three layers share; only the number of spatial axes differs."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        formula: AnyFormula | None = None,
        *,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str | float = "zeros",
        backend: str = "auto",
        autocast: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.formula = self._formula_of(formula)
        self.geometry = Geometry.of(
            self.dims, kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups,
            padding_mode=padding_mode,
        )  # fmt: skip
        self.in_channels = channels("in_channels", in_channels, groups)
        self.out_channels = channels("out_channels", out_channels, groups)
        self.padding = padding
        self.backend = backend
        self.autocast = bool(autocast)
        check_field(self.formula, self.geometry)
        shapes = {
            name: operand.shape(self.in_channels, self.out_channels, self.geometry)
            for name, operand in self.formula.parameters.items()
            if operand.scope not in FROM_CALL
        }
        self._register(shapes, self.out_channels if bias else None, device, dtype)

    def _fan_in(self) -> int:
        return self.in_channels // self.geometry.groups * self.geometry.taps

    def _compute(self, x: Tensor, images: dict[str, Tensor]) -> Tensor:
        """``(N, C_in, *size)`` -> ``(N, C_out, *sites)``."""
        self._check_channels(x, self.in_channels)
        return convolve(
            x, self._params(images), self.bias, formula=self.formula, geometry=self.geometry,
            out_channels=self.out_channels, backend=self.backend,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """``nn.ConvNd``'s line, and the mathematics."""
        g = self.geometry
        leading = f"{self.in_channels}, {self.out_channels}, kernel_size={g.kernel}, stride={g.stride}"
        named = {"padding": self.padding} if isinstance(self.padding, str) else {}
        return self._described(
            leading, g, **named, groups=None if g.groups == 1 else g.groups,
            padding_mode=None if g.mode == "zeros" else g.mode,
        )  # fmt: skip


class Conv1d(_ConvNd):
    """:class:`Conv2d` with one spatial axis."""

    dims = 1


class Conv2d(_ConvNd):
    """A drop-in for ``nn.Conv2d`` whose inner operation is a formula.

        >>> layer = Conv2d(3, 16, 3, lambda x, w: -torch.abs(x - w), padding=1)
        >>> layer(torch.randn(8, 3, 32, 32)).shape, layer.w.shape
        (torch.Size([8, 16, 32, 32]), torch.Size([16, 3, 3, 3]))

    A subclass may say the formula itself::

        class Tangent(Conv2d):
            reduce = "prod"

            def map(self, x, w):
                return torch.tan(x + w)

    Args:
        in_channels, out_channels, kernel_size: as ``nn.Conv2d``.
        stride, padding, dilation, groups, bias, device, dtype: as ``nn.Conv2d``.
        formula: a :class:`Formula`, or a function of one pixel and its operands, whose results are summed; the
            ordinary convolution by default. Each operand becomes a parameter of the layer under its own name.
        padding_mode: as :func:`anyconv.conv2d`.
        backend: as :func:`anyconv.conv2d`.
        autocast: False computes in float32 also where ``torch.autocast`` is on.

    Raises:
        AnyConvError: of the kind that fits, naming the argument, the value seen and the way out.
    """

    dims = 2


class Conv3d(_ConvNd):
    """:class:`Conv2d` with three spatial axes."""

    dims = 3


def channels(name: str, value: Any, groups: int) -> int:
    """A number of channels, if it is one that groups divide."""
    least = 1 if name == "out_channels" else 0  # torch lets a layer have no input channels
    try:
        count = operator.index(value)
    except TypeError:
        count = -1
    if isinstance(value, bool) or count < least:
        raise GeometryError(f"`{name}` must be an int of at least {least}, got {value!r}")
    if count % groups:
        raise GeometryError(f"`{name}` ({count}) must be divisible by `groups` ({groups})")
    return count
