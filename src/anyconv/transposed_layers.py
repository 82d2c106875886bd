"""The layers: ``nn.ConvTranspose1d/2d/3d`` with any formula inside.

>>> ConvTranspose2d(16, 3, 4, Formula(lambda x, w: x + w, reduce="max"), stride=2)
ConvTranspose2d(16, 3, kernel_size=(4, 4), stride=(2, 2), y = max(x + w) + bias)
"""

from __future__ import annotations

import torch
from torch import Tensor

from .functional import AnyFormula, Size
from .interchange import Interchangeable
from .modules import channels
from .transposed import Spans, check_formula, operand_shape, transpose


class _ConvTransposeNd(Interchangeable):
    """What the three layers share; only the number of spatial axes differs."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        formula: AnyFormula | None = None,
        *,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        backend: str = "auto",
        autocast: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.formula = self._formula_of(formula)
        check_formula(self.formula)
        self.spans = Spans.of(
            self.dims, kernel_size, stride=stride, padding=padding, output_padding=output_padding, groups=groups,
            dilation=dilation,
        )  # fmt: skip
        self.in_channels = channels("in_channels", in_channels, groups)
        self.out_channels = channels("out_channels", out_channels, groups)
        self.backend = backend
        self.autocast = bool(autocast)
        shapes = {
            name: operand_shape(operand, self.in_channels, self.out_channels, self.spans.geometry)
            for name, operand in self._own_operands().items()
        }
        self._register(shapes, self.out_channels if bias else None, device, dtype)

    def _fan_in(self) -> int:  # as torch counts it: the second axis of the weight times the taps
        return self.out_channels // self.spans.geometry.groups * self.spans.geometry.taps

    def _compute(self, x: Tensor, images: dict[str, Tensor]) -> Tensor:
        """``(N, C_in, *size)`` -> ``(N, C_out, *out)``."""
        self._check_channels(x, self.in_channels)
        return transpose(
            x, self._params(images), self.bias, formula=self.formula, spans=self.spans,
            out_channels=self.out_channels, backend=self.backend,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """``nn.ConvTransposeNd``'s line, and the mathematics."""
        g = self.spans.geometry
        leading = f"{self.in_channels}, {self.out_channels}, kernel_size={g.kernel}, stride={g.stride}"
        more = self.spans.output_padding
        return self._described(
            leading, g, output_padding=more if any(more) else None, groups=None if g.groups == 1 else g.groups
        )


class ConvTranspose1d(_ConvTransposeNd):
    """:class:`ConvTranspose2d` with one spatial axis."""

    dims = 1


class ConvTranspose2d(_ConvTransposeNd):
    """A drop-in for ``nn.ConvTranspose2d`` whose inner operation is a formula.

        >>> layer = ConvTranspose2d(16, 3, 4, lambda x, w: -torch.abs(x - w), stride=2, padding=1)
        >>> layer(torch.randn(8, 16, 15, 15)).shape, layer.w.shape
        (torch.Size([8, 3, 30, 30]), torch.Size([16, 3, 4, 4]))

    Args:
        in_channels, out_channels, kernel_size: as ``nn.ConvTranspose2d``.
        stride, padding, output_padding, groups, bias, dilation, device, dtype: as ``nn.ConvTranspose2d``.
        formula, backend, autocast: as :class:`anyconv.Conv2d`.

    Raises:
        AnyConvError: of the kind that fits, naming the argument, the value seen and the way out.
    """

    dims = 2


class ConvTranspose3d(_ConvTransposeNd):
    """:class:`ConvTranspose2d` with three spatial axes."""

    dims = 3
