"""torch's convolution of any geometry that pads with zeros, and its two gradients."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from torch.nn import grad as conv_grad

from ..geometry import Geometry, Ints
from .padding import amounts

_CONV = (F.conv1d, F.conv2d, F.conv3d)
_INPUT = (conv_grad.conv1d_input, conv_grad.conv2d_input, conv_grad.conv3d_input)
_WEIGHT = (conv_grad.conv1d_weight, conv_grad.conv2d_weight, conv_grad.conv3d_weight)


def convolved(image: Tensor, weight: Tensor, g: Geometry) -> Tensor:
    """``(n, o, *sites)`` of ``(n, c, *size)`` and ``(o, c / groups, *kernel)``."""
    image, padding = _padded(image, g)
    y: Tensor = _CONV[g.dims - 1](image, weight, None, g.stride, padding, g.dilation, g.groups)
    return y


def weight_gradient(image: Tensor, weight: Tensor, grad: Tensor, g: Geometry) -> Tensor:
    """The gradient to the weight, of that to the output."""
    image, padding = _padded(image, g)
    found: Tensor = _WEIGHT[g.dims - 1](image, weight.shape, grad, g.stride, padding, g.dilation, g.groups)  # type: ignore[no-untyped-call]
    return found


def image_gradient(image: Tensor, weight: Tensor, grad: Tensor, g: Geometry) -> Tensor:
    """The gradient to the image, of that to the output."""
    padded, padding = _padded(image, g)
    found: Tensor = _INPUT[g.dims - 1](padded.shape, weight, grad, g.stride, padding, g.dilation, g.groups)  # type: ignore[no-untyped-call]
    return found if padded is image else F.pad(found, [-a for a in amounts(g)])


def _padded(image: Tensor, g: Geometry) -> tuple[Tensor, Ints]:
    """The image, with what padding a convolution of torch's cannot do itself, and the padding that it can."""
    if g.before == g.after and min(g.before) >= 0:
        return image, g.before
    return F.pad(image, amounts(g)), (0,) * g.dims
