"""What a map sees that nobody passes: the middle of the receptive field, and where the tap is."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ..formula import Formula
from ..geometry import Geometry
from .padding import pad


def derived(x: Tensor, params: dict[str, Tensor], formula: Formula, geometry: Geometry) -> dict[str, Tensor]:
    """The tensors of the formula's derived operands, by name; centers are views of their images where they can be."""
    found = {}
    for name, operand in formula.derived.items():
        if operand.scope == "offsets":
            found[name] = _offsets(geometry, x.device).to(x.dtype)
        else:
            image = x if operand.of is None else params[operand.of]
            middle = _middle(image, geometry)
            if operand.size is not None:  # a vector stands last
                middle = middle.movedim(1, -1)
            elif middle.shape[1] != x.shape[1]:
                middle = middle.expand(-1, x.shape[1], *middle.shape[2:])
            found[name] = middle
    return found


def _offsets(geometry: Geometry, device: torch.device) -> Tensor:
    """``(*kernel, dims)``: pixels from the middle of the receptive field."""
    axes = [
        (torch.arange(k, device=device) - k // 2) * d for k, d in zip(geometry.kernel, geometry.dilation, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)


def _middle(image: Tensor, geometry: Geometry) -> Tensor:
    """``(n, c, *sites)``: the pixel that the middle tap sees."""
    size = tuple(image.shape[2:])
    steps = zip(geometry.kernel, geometry.dilation, geometry.before, strict=True)
    first = [k // 2 * d - b for k, d, b in steps]
    spans = [(s - 1) * t for s, t in zip(geometry.sites(size), geometry.stride, strict=True)]
    if any(f < 0 or f + span >= n for f, span, n in zip(first, spans, size, strict=True)):
        constant = replace(geometry, mode="zeros") if geometry.mode == "skip" else geometry
        image, _ = pad(image, constant)
        first = [f + b for f, b in zip(first, geometry.before, strict=True)]
    places = zip(first, spans, geometry.stride, strict=True)
    index = (slice(None), slice(None), *(slice(f, f + span + 1, step) for f, span, step in places))
    return image[index]
