"""What tensors of a kernel look like: memory formats, and the dtype of the arithmetic."""

from __future__ import annotations

import torch
from torch import Tensor

from ..geometry import Ints


def compute_dtype(dtype: torch.dtype) -> torch.dtype:
    """In what numbers of a dtype are computed."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def empty_like(x: Tensor, shape: Ints, dtype: torch.dtype) -> Tensor:
    """An empty tensor in the memory format of ``x``: channels last stay channels last."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    wanted = formats.get(x.dim())
    last = wanted is not None and not x.is_contiguous() and x.is_contiguous(memory_format=wanted)
    memory_format = wanted if last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, device=x.device, memory_format=memory_format)


def parts_like(y: Tensor, count: int) -> Tensor:
    """Empty tensors for so many numbers of each output, ``(count, *y.shape)``, in the arithmetic's dtype.

    Each lies as ``y`` does.
    """
    strides = y.stride()
    order = sorted(range(y.dim()), key=lambda axis: (-strides[axis], axis))
    shape = [y.shape[axis] for axis in order]
    places = [order.index(axis) + 1 for axis in range(y.dim())]
    whole = torch.empty((count, *shape), dtype=compute_dtype(y.dtype), device=y.device)
    return whole.permute(0, *places)
