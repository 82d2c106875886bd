"""Spread: tensors with the axes of a block, ``(k, c, n, g, o, *space)``, of extent 1 where they do not vary."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from ..geometry import Geometry, Ints
from ..variables import Variable

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class Spread:
    """The shapes of one call.

    Args:
        geometry: after padding.
        x_shape: ``(n, c, *size)``.
        out_channels: filters.
    """

    geometry: Geometry
    x_shape: Ints
    out_channels: int

    @property
    def axes(self) -> Ints:
        """Extents of the axes ``c, n, g, o``."""
        groups = self.geometry.groups
        return self.x_shape[1] // groups, self.x_shape[0], groups, self.out_channels // groups

    def __call__(self, v: Variable, tensor: Tensor) -> Tensor:
        """The part of a tensor that is the variable ``v``; a view of it."""
        c, n, g, o = self.axes
        dims = self.geometry.dims
        if v.slides:
            image = tensor if v.part is None else tensor[:, v.part : v.part + 1]
            size = image.shape[2:]
            split = image.reshape(n, g, c, *size) if image.shape[1] == g * c else image.reshape(n, 1, 1, *size)
            return split.permute(2, 0, 1, *range(3, split.dim())).unsqueeze(3).unsqueeze(0)
        value = self.part(v, tensor)
        filters = (g, o) if "o" in v.axes else (g, 1) if "c" in v.axes else (1, 1)
        extents = {"n": n, "c": c, "k": self.geometry.taps}
        image_of, channels, taps = (extents[axis] if axis in v.axes else 1 for axis in "nck")
        space = value.shape[-dims:] if "s" in v.axes else (1,) * dims
        return value.reshape(image_of, *filters, channels, taps, *space).permute(4, 3, 0, 1, 2, *range(5, 5 + dims))

    def part(self, v: Variable, tensor: Tensor) -> Tensor:
        """The variable's numbers of an operand that does not slide, with the axes ``nocks`` that it has."""
        value = tensor if v.part is None else tensor.select(-1, v.part)
        if v.tap is None:
            return value
        k = list(self.geometry.offsets())[v.tap]
        lead = len(set(v.axes) & set("noc"))
        return value[(slice(None),) * lead + k]

    def at(self, v: Variable, spread: Tensor, t: int, k: Ints, block: Slices) -> Tensor:
        """What tap ``t``, at offset ``k``, and a block of ``(c, n, g, o)`` see of what has been spread."""
        part = spread[t if spread.shape[0] > 1 else 0]
        index = tuple(s if extent > 1 else slice(None) for s, extent in zip(block, part.shape, strict=False))
        if v.slides:
            k = k if v.tap is None else list(self.geometry.offsets())[v.tap]
            index += self.geometry.pixels(k, self.x_shape[2:])
        elif "s" in v.axes:
            index += self.valid(k)
        return part[index]

    def valid(self, k: Ints) -> Slices:
        """The sites that see a pixel at tap offset ``k``."""
        return self.geometry.valid(k, self.x_shape[2:])
