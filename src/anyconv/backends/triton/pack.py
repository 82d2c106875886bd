"""pack: operands in the order in which the kernels of tiles read them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...variables import Variable
from .readers import level

Packed = tuple[Tensor, tuple[int, ...]]  # and its strides of (g, k, block, step)


def pack(v: Variable, view: Tensor, axes: tuple[str, str], size: int, dtype: torch.dtype) -> Packed:
    """An operand for tiles of ``size`` lanes, whose inner loop takes four at a time.

    Args:
        axes: that of the inner loop, and that of the lanes.
        view: of the operand's tensor, with the axes ``(k, c, n, g, o, *space)``.
    """
    loop, lanes = axes
    k, c, _, g, o, *_ = view.shape
    whole = (
        view.reshape(k, c, g, o).permute(2, 0, 3, 1) if lanes == "o" else view.reshape(k, c, g, o).permute(2, 0, 1, 3)
    )
    extent = {"c": c, "o": o}
    of_lanes, of_loop = lanes in v.axes, level(v, loop) == 2
    whole = whole.to(dtype)
    if of_loop and extent[loop] % 4:
        whole = F.pad(whole, (0, -extent[loop] % 4))
    if of_lanes and extent[lanes] % size:
        whole = F.pad(whole, (0, 0, 0, -extent[lanes] % size))
    groups, taps, across, along = whole.shape
    if of_lanes and of_loop:
        made = whole.reshape(groups, taps, across // size, size, along // 4, 4).transpose(3, 4).contiguous()
        strides = (*made.stride()[:3], size * 4)
    elif of_lanes:
        made = whole.reshape(groups, taps, across // size, size).contiguous()
        strides = (*made.stride()[:3], 0)
    else:
        made = whole.reshape(groups, taps, along).contiguous()
        strides = (*made.stride()[:2], 0, 4)
    return made, (strides[0] if g > 1 else 0, strides[1] if k > 1 else 0, *strides[2:])
