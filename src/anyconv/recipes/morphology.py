"""Grayscale morphology: erosions and dilations of an image, one after the other, by one structuring function."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..errors import GeometryError
from ..formula import Formula
from ..functional import Size, convolve
from ..geometry import Geometry

LOWERED, LOWEST = Formula(lambda x, w: x - w, "min"), Formula(lambda x: x, "min")
RAISED, HIGHEST = Formula(lambda x, w: x + w, "max"), Formula(lambda x: x, "max")
Filter = Callable[[Tensor], Tensor]
Compose = Callable[[Tensor, Filter, Filter], Tensor]


class Morphology(nn.Module):
    """A filter made of erosions and dilations, of each channel by itself; the image keeps its size.

        >>> anyconv.recipes.opening.Pool2d(3)(torch.randn(8, 3, 32, 32)).shape
        torch.Size([8, 3, 32, 32])

    An erosion is the minimum of ``x(p + t) - w(t)``, a dilation the maximum of ``x(p - t) + w(t)``: adjoint to each
    other, with the origin of an even kernel where ``scipy.ndimage.grey_erosion`` has it.

    Args:
        dims: spatial axes.
        compose: what is done, of the image, the erosion and the dilation.
        name: of it, to show.
        kernel_size: of the structuring function.
        channels: for a learned structuring function ``w`` of each channel, ``(channels, 1, *kernel)``: how many. By
            default it is flat: 0 everywhere.
        padding_mode: what stands outside the image, as :func:`anyconv.conv2d`; scipy's "nearest" is ``"replicate"``,
            "wrap" is ``"circular"``, "mirror" is ``"reflect"``, a constant is a number. ``"skip"`` is nothing at all.
        backend, device, dtype: as :class:`anyconv.Conv2d`.
    """

    def __init__(
        self,
        dims: int,
        kernel_size: Size,
        *,
        compose: Compose,
        name: str,
        channels: int | None = None,
        padding_mode: str | float = "skip",
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels is not None and (isinstance(channels, bool) or not isinstance(channels, int) or channels < 1):
            raise GeometryError(f"`channels` must be a positive int, got {channels!r}")
        geometry = Geometry.of(dims, kernel_size, padding_mode=padding_mode)
        early = tuple((k - 1) // 2 for k in geometry.kernel)
        late = tuple(k // 2 for k in geometry.kernel)
        self._eroding = replace(geometry, before=late, after=early)
        self._dilating = replace(geometry, before=early, after=late)
        self.compose, self.name, self.backend = compose, name, backend
        shape = None if channels is None else (channels, 1, *geometry.kernel)
        self.w = None if shape is None else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A learned structuring function begins near the flat one."""
        if self.w is not None:
            bound = 1 / math.sqrt(math.prod(self._eroding.kernel))
            nn.init.uniform_(self.w, -bound, 0)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, *size)`` -> the same shape; an unbatched ``x`` works too."""
        return self.compose(x, self._erode, self._dilate)

    def _erode(self, x: Tensor) -> Tensor:
        return self._filter(x, LOWEST if self.w is None else LOWERED, self._eroding, self.w)

    def _dilate(self, x: Tensor) -> Tensor:
        mirrored = None if self.w is None else self.w.flip(tuple(range(2, self.w.dim())))
        return self._filter(x, HIGHEST if self.w is None else RAISED, self._dilating, mirrored)

    def _filter(self, x: Tensor, formula: Formula, geometry: Geometry, w: Tensor | None) -> Tensor:
        channels = x.shape[-geometry.dims - 1] if x.dim() > geometry.dims else 1
        params = {} if w is None else {"w": w}
        return convolve(
            x, params, None, formula=formula, geometry=replace(geometry, groups=max(1, channels)),
            out_channels=channels, backend=self.backend,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """What it does, and by what."""
        g = self._eroding
        flat = ", flat" if self.w is None else f", channels={self.w.shape[0]}"
        mode = "" if g.mode == "skip" else f", padding_mode={g.mode!r}"
        return f"{self.name}, kernel_size={g.kernel}{flat}{mode}"
