"""Lazy layers: the number of input channels is that of the first input, as of ``nn.LazyConv2d``."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from .functional import AnyFormula, Size
from .modules import Conv1d, Conv2d, Conv3d, _ConvNd, channels


class _LazyConvNd(LazyModuleMixin, _ConvNd):
    """What the three share: operands that vary from channel to channel have no shape before the first input."""

    def __init__(
        self, out_channels: int, kernel_size: Size, formula: AnyFormula | None = None, *, groups: int = 1,
        **arguments: Any,
    ) -> None:  # fmt: skip
        super().__init__(groups, out_channels, kernel_size, formula, groups=groups, **arguments)
        self.in_channels = 0
        for name, operand in self._own_operands().items():
            if "c" in operand.axes:
                tensor = getattr(self, name)
                kind: Any = UninitializedBuffer if operand.frozen else UninitializedParameter
                setattr(self, name, kind(device=tensor.device, dtype=tensor.dtype))

    def initialize_parameters(self, x: Tensor, **_: Tensor) -> None:
        """Give the operands their shapes, and fill them."""
        self.in_channels = channels("in_channels", x.shape[-self.geometry.dims - 1], self.geometry.groups)
        if not self.has_uninitialized_params():  # they were loaded
            return
        for name, operand in self._own_operands().items():
            tensor = getattr(self, name)
            if isinstance(tensor, UninitializedParameter | UninitializedBuffer):
                tensor.materialize(operand.shape(self.in_channels, self.out_channels, self.geometry))
        self.reset_parameters()


class LazyConv1d(_LazyConvNd, Conv1d):
    """:class:`LazyConv2d` with one spatial axis."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConvNd, Conv2d):
    """A :class:`Conv2d` that learns ``in_channels`` from its first input, and then is one.

        >>> layer = LazyConv2d(16, 3, lambda x, w: -torch.abs(x - w))
        >>> layer(torch.randn(8, 5, 32, 32)).shape, layer.w.shape
        (torch.Size([8, 16, 30, 30]), torch.Size([16, 5, 3, 3]))

    Args:
        out_channels, kernel_size, formula and all others: as :class:`Conv2d`.
    """

    cls_to_become = Conv2d


class LazyConv3d(_LazyConvNd, Conv3d):
    """:class:`LazyConv2d` with three spatial axes."""

    cls_to_become = Conv3d
