"""Pooling: a formula without weights per filter; each channel becomes one channel of the output.

>>> Pool2d(2, Formula(lambda x: x, "max"))(torch.randn(8, 3, 32, 32)).shape
torch.Size([8, 3, 16, 16])
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from .arguments import check_field, check_input
from .backends.padding import pad
from .errors import FormulaError, GeometryError
from .formula import Formula
from .functional import AnyFormula, Size, convolve
from .geometry import Geometry, Ints
from .layer import Layer


class _PoolNd(Layer):
    """What the three layers share; only the number of spatial axes differs."""

    def __init__(
        self,
        kernel_size: Size,
        formula: AnyFormula | None = None,
        *,
        stride: Size | None = None,
        padding: Size | str = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
        channels: int | None = None,
        padding_mode: str | float = "skip",
        backend: str = "auto",
        autocast: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.formula = self._formula_of(formula)
        self.geometry = Geometry.of(
            self.dims, kernel_size, stride=kernel_size if stride is None else stride, padding=padding,
            dilation=dilation, padding_mode=padding_mode,
        )  # fmt: skip
        self.ceil_mode = bool(ceil_mode)
        self.channels = channels
        self.backend = backend
        self.autocast = bool(autocast)
        check_field(self.formula, self.geometry)
        if channels is not None and (isinstance(channels, bool) or not isinstance(channels, int) or channels < 1):
            raise GeometryError(f"`channels` must be a positive int, got {channels!r}")
        _check_scopes(self.formula, channels)
        shapes = {
            name: operand.shape(channels or 1, channels or 1, self.geometry)
            for name, operand in self._own_operands().items()
        }
        self._register(shapes, None, device, dtype)

    def _fan_in(self) -> int:
        return self.geometry.taps

    def _compute(self, x: Tensor, images: dict[str, Tensor]) -> Tensor:
        """``(N, C, *size)`` -> ``(N, C, *sites)``."""
        check_input(x, self.geometry)
        if self.channels is not None:
            self._check_channels(x, self.channels)
        params = self._params(images)
        geometry = replace(self.geometry, groups=max(1, x.shape[-self.geometry.dims - 1]))
        more = self._more(tuple(x.shape[-self.geometry.dims :])) if self.ceil_mode else (0,) * geometry.dims
        if any(more) and geometry.mode != "skip":
            # what lies beyond the padding is nothing, also where the padding is something
            x, params, geometry = self._padded(x, params, geometry)
        if any(more):
            after = tuple(a + m for a, m in zip(geometry.after, more, strict=True))
            geometry = replace(geometry, after=after, mode="skip")
            check_field(self.formula, geometry)
        return convolve(
            x, params, None, formula=self.formula, geometry=geometry, out_channels=geometry.groups,
            backend=self.backend,
        )  # fmt: skip

    def _padded(
        self, x: Tensor, params: dict[str, Tensor], geometry: Geometry
    ) -> tuple[Tensor, dict[str, Tensor], Geometry]:
        unbatched = x.dim() == geometry.dims + 1
        images = {n: v for n, v in params.items() if self.formula.parameters[n].scope == "guide"}
        tensors = [v[None] if unbatched else v for v in (x, *images.values())]
        padded = [pad(v, geometry)[0] for v in tensors]
        x, *guides = [v[0] if unbatched else v for v in padded]
        return x, params | dict(zip(images, guides, strict=True)), geometry.padded()

    def _more(self, size: Ints) -> Ints:
        """Pixels beyond the padding that the sites of ``ceil_mode`` reach: a last one if it begins inside, as torch."""
        g, more = self.geometry, []
        for n, k, s, d, b, a in zip(size, g.kernel, g.stride, g.dilation, g.before, g.after, strict=True):
            span = d * (k - 1) + 1
            sites = math.ceil((n + b + a - span) / s) + 1
            if (sites - 1) * s >= n + b:
                sites -= 1
            more.append(max(0, (sites - 1) * s + span - n - b - a))
        return tuple(more)

    def extra_repr(self) -> str:
        """The geometry, and the mathematics."""
        g = self.geometry
        return self._described(
            f"kernel_size={g.kernel}, stride={g.stride}", g, ceil_mode=self.ceil_mode or None,
            padding_mode=None if g.mode == "skip" else g.mode,
        )  # fmt: skip


class Pool1d(_PoolNd):
    """:class:`Pool2d` with one spatial axis."""

    dims = 1


class Pool2d(_PoolNd):
    """A pooling layer of any formula: what is left of a convolution without weights per filter.

        >>> Pool2d(3, Formula(lambda x, t: (t * x, x), "softmax", operands={"t": shared(init=1.0)}), stride=2)
        Pool2d(kernel_size=(3, 3), stride=(2, 2), y = softmax(t * x, x))

    Args:
        kernel_size: of the field.
        formula: a :class:`Formula`, or a function of one pixel and its operands, whose results are summed. Operands may
            be shared, per offset, per channel, or images.
        stride: by default the kernel's size.
        padding, dilation, ceil_mode: as ``nn.MaxPool2d``.
        channels: of the input; only operands per channel need to know.
        padding_mode: ``"skip"`` leaves what lies outside out of the reduction, as ``nn.MaxPool2d`` does; ``"zeros"``
            with a mean is ``nn.AvgPool2d`` with ``count_include_pad``; the others as :func:`anyconv.conv2d`.
        backend, autocast, device, dtype: as :class:`anyconv.Conv2d`.

    Raises:
        AnyConvError: of the kind that fits, naming the argument, the value seen and the way out.
    """

    dims = 2


class Pool3d(_PoolNd):
    """:class:`Pool2d` with three spatial axes."""

    dims = 3


def _check_scopes(formula: Formula, channels: int | None) -> None:
    for name, operand in formula.parameters.items():
        if "o" in operand.axes:
            raise FormulaError(
                f"the operand `{name}` of {formula} is {operand}, and a pooling layer has no filters",
                way_out="Declare it shared(), per_offset() or per_channel().",
            )
        if operand.scope == "per_channel" and channels is None:
            raise FormulaError(
                f"the operand `{name}` of {formula} has a value per channel, and how many there are is unknown",
                way_out="Say so: channels=....",
            )
