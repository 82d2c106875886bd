"""Padding of the input, for every padding mode that goes through the map."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeError
from ..geometry import Geometry


def pad(x: Tensor, geometry: Geometry) -> tuple[Tensor, Geometry]:
    """The padded input ``(n, c, *size)``, and the geometry that sees the same sites in it without padding.

    Raises:
        ShapeError: the mode takes its padding from the image, and the image is too small.
    """
    if geometry.mode == "skip" or not any(geometry.before + geometry.after):
        return x, geometry
    mode = 0.0 if geometry.mode == "zeros" else geometry.mode
    if isinstance(mode, float):
        return F.pad(x, amounts(geometry), value=mode), geometry.padded()
    check_padding(x, geometry)
    return F.pad(x, amounts(geometry), mode=mode), geometry.padded()


def amounts(geometry: Geometry) -> list[int]:
    """A geometry's padding as ``F.pad`` takes it, the last axis first."""
    return [a for pair in zip(reversed(geometry.before), reversed(geometry.after), strict=True) for a in pair]


def check_padding(x: Tensor, geometry: Geometry) -> None:
    """Refuse padding that is taken from an image which is too small for it.

    Raises:
        ShapeError: saying how much can be taken.
    """
    for before, after, pixels in zip(geometry.before, geometry.after, x.shape[2:], strict=True):
        limit = {"reflect": pixels - 1, "circular": pixels}.get(str(geometry.mode))
        if limit is not None and max(before, after) > limit:
            raise ShapeError(
                f"padding {max(before, after)} with padding_mode={geometry.mode!r} needs more than the {pixels} pixels "
                f"of an axis of `x`",
                way_out=f"At most {limit} can be taken from it: use less padding or another padding_mode.",
            )
