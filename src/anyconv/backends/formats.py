"""What tensors of a kernel look like: memory formats, and the dtype of the arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import Ints


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """In what numbers of a dtype are computed."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def memory_format(x: Tensor) -> torch.memory_format:
    """Channels last where the channels of a pixel lie together, and nothing else may be meant."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    wanted = formats.get(x.dim())
    if wanted is not None and not x.is_contiguous() and x.is_contiguous(memory_format=wanted):
        return wanted
    return torch.contiguous_format


def empty_like(x: Tensor, shape: Ints, dtype: torch.dtype, device: torch.device | str | None = None) -> Tensor:
    """An empty tensor in the memory format of ``x``: channels last stay channels last."""
    return torch.empty(shape, dtype=dtype, device=device or x.device, memory_format=memory_format(x))


def laid_like(y: Tensor, x: Tensor) -> Tensor:
    """``y`` in the memory format of ``x``; itself, where it is."""
    return y.contiguous(memory_format=memory_format(x))


def parts_like(y: Tensor, kept: Tensor) -> Tensor:
    """A vector as numbers of each output, ``(part, *y.shape)``; each part lies as ``y`` does."""
    strides = y.stride()
    order = sorted(range(y.dim()), key=lambda axis: (-strides[axis], axis))
    shape = [y.shape[axis] for axis in order]
    places = [order.index(axis) + 1 for axis in range(y.dim())]
    return kept.view(-1, *shape).permute(0, *places)
