"""The layers: ``nn.Conv1d/2d/3d`` with any formula inside.

>>> Conv2d(3, 16, kernel_size=3, formula=Formula(lambda x, w: torch.tan(x + w), reduce="prod"), padding=1)
Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), y = prod(tan(x + w)) + bias)
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .errors import FormulaError, GeometryError, ShapeError
from .formula import Formula
from .functional import AnyFormula, Size, convolve
from .geometry import Geometry
from .operands import Operand
from .reductions import Reduction


class _ConvNd(nn.Module):
    """What the three layers share; only the number of spatial axes differs."""

    dims: ClassVar[int]
    reduce: str | Reduction = "sum"
    operands: Mapping[str, Operand] | None = None
    bias: Tensor | None

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
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.formula = self._own_formula() if formula is None else self._given_formula(formula)
        self.geometry = Geometry.of(
            self.dims, kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups,
            padding_mode=padding_mode,
        )  # fmt: skip
        self.in_channels = _channels("in_channels", in_channels, groups)
        self.out_channels = _channels("out_channels", out_channels, groups)
        self.padding = padding
        self.backend = backend
        for name, operand in self.formula.parameters.items():
            if name == "bias" or hasattr(self, name):
                raise FormulaError(
                    f"the operand `{name}` of {self.formula} would hide an attribute of the layer",
                    way_out="Give the map's argument another name.",
                )
            shape = operand.shape(self.in_channels, self.out_channels, self.geometry)
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.register_parameter(
            "bias", nn.Parameter(torch.empty(self.out_channels, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    def map(self, x: Any, w: Any) -> Any:
        """The function of one pixel and its operands; a subclass overrides it."""
        return x * w

    def reset_parameters(self) -> None:
        """Fill every operand as its ``init`` says, by default uniformly as ``nn.ConvNd`` does; the bias too."""
        fan_in = self.in_channels // self.geometry.groups * self.geometry.taps
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        tensors = {name: (getattr(self, name), operand.init) for name, operand in self.formula.parameters.items()}
        if self.bias is not None:
            tensors["bias"] = (self.bias, None)
        with torch.no_grad():
            for tensor, init in tensors.values():
                if init is None:
                    tensor.uniform_(-bound, bound)
                elif callable(init):
                    init(tensor)
                else:
                    tensor.fill_(init)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C_in, *size)`` -> ``(N, C_out, *sites)``; an unbatched ``x`` works too."""
        if isinstance(x, Tensor) and x.dim() in (self.dims + 1, self.dims + 2):
            channels = x.shape[x.dim() - self.dims - 1]
            if channels != self.in_channels:
                raise ShapeError(
                    f"`x` must have {self.in_channels} channels (in_channels), got {channels} in shape {tuple(x.shape)}"
                )
        params = {name: getattr(self, name) for name in self.formula.parameters}
        return convolve(
            x, params, self.bias, formula=self.formula, geometry=self.geometry, out_channels=self.out_channels,
            backend=self.backend,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """``nn.ConvNd``'s line, and the mathematics."""
        g = self.geometry
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={g.kernel}, stride={g.stride}"]
        if isinstance(self.padding, str):
            parts.append(f"padding={self.padding!r}")
        elif any(g.before):
            parts.append(f"padding={g.before}")
        if any(d != 1 for d in g.dilation):
            parts.append(f"dilation={g.dilation}")
        if g.groups != 1:
            parts.append(f"groups={g.groups}")
        if g.mode != "zeros":
            parts.append(f"padding_mode={g.mode!r}")
        if self.backend != "auto":
            parts.append(f"backend={self.backend!r}")
        value, *where = str(self.formula).split(" where ", 1)
        bias = "" if self.bias is None else " + bias"
        parts.append(" where ".join([value + bias, *where]))
        return ", ".join(parts)

    def _own_formula(self) -> Formula:
        name = None if type(self).map is _ConvNd.map else type(self).__name__
        return Formula(self.map, self.reduce, operands=self.operands, name=name)

    def _given_formula(self, formula: AnyFormula) -> Formula:
        if type(self).map is not _ConvNd.map:
            raise FormulaError(
                f"`formula` was given to {type(self).__name__}, which has a map of its own",
                way_out=f"Drop the argument, or use anyconv.Conv{self.dims}d.",
            )
        return Formula.of(formula)


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

    Raises:
        AnyConvError: of the kind that fits, naming the argument, the value seen and the way out.
    """

    dims = 2


class Conv3d(_ConvNd):
    """:class:`Conv2d` with three spatial axes."""

    dims = 3


def _channels(name: str, value: Any, groups: int) -> int:
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
