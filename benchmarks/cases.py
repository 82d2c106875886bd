"""What the CPU benchmark is about: formulas as people write them, and layers taken from real networks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

import anyconv
from anyconv import Formula


def spline(  # noqa: PLR0917 - an operand each, which all ways can be given
    x: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor, f: Tensor, g: Tensor, h: Tensor
) -> Tensor:
    """A piecewise linear function of the pixel with eight values at -2, ..., 2 (as in KAN convolutions)."""
    place = (x + 2) * 1.75
    y = a * F.relu(1 - torch.abs(place))
    for i, w in enumerate((b, c, d, e, f, g, h), start=1):
        y = y + w * F.relu(1 - torch.abs(place - i))
    return y


FORMULAS: dict[str, Formula] = {
    "-|x-w|": Formula(lambda x, w: -torch.abs(x - w)),
    "max x+w": Formula(lambda x, w: x + w, "max"),
    "(x-w)^2": Formula(lambda x, w: (x - w) ** 2),
    "tanh(wx+b)": Formula(lambda x, w, b: torch.tanh(w * x + b)),
    "prod tan(x+w)": Formula(lambda x, w: torch.tan(x + w), "prod"),
    "gaussian": Formula(lambda x, w, s: torch.exp(-(((x - w) * s) ** 2)), operands={"s": anyconv.per_filter(init=0.7)}),
    "logsumexp x+w": Formula(lambda x, w: x + w, "logsumexp"),
    "rational": Formula(lambda x, w: (x + w) / (1 + x * x * w * w)),
    "spline of 8": Formula(spline),
    "where": Formula(lambda x, w: torch.where(x > w, x * w, 0.1 * x)),
    "|x-w|^p": Formula(lambda x, w, p: torch.abs(x - w) ** p, operands={"p": anyconv.per_filter(init=1.5)}),
    "xw/|xw|": Formula(lambda x, w: x * w * torch.rsqrt(x * x * w * w + 1e-3)),
    "sin(wx)": Formula(lambda x, w: torch.sin(w * x)),
}


@dataclass(frozen=True)
class Layer:
    """A layer, and the image it is given."""

    batch: int
    channels: int
    filters: int
    size: tuple[int, ...]
    kernel: int
    stride: int = 1
    groups: int = 1

    @property
    def padding(self) -> int:
        """What keeps the size at stride 1."""
        return self.kernel // 2

    @property
    def evaluations(self) -> int:
        """Of the map, in a forward pass."""
        sites = 1
        for size in self.size:
            sites *= (size + 2 * self.padding - self.kernel) // self.stride + 1
        field = self.channels // self.groups * self.kernel ** len(self.size)
        return int(self.batch * self.filters * sites * field)


LAYERS: dict[str, Layer] = {
    "64 channels, 3x3": Layer(4, 64, 64, (32, 32), 3),
    "stem, 7x7/2": Layer(4, 3, 64, (112, 112), 7, stride=2),
    "256 channels, 8x8": Layer(8, 256, 256, (8, 8), 3),
    "1x1": Layer(4, 64, 256, (28, 28), 1),
    "depthwise, 5x5": Layer(8, 96, 96, (28, 28), 5, groups=96),
    "one channel, 11x11": Layer(1, 1, 4, (512, 512), 11),
    "audio": Layer(4, 32, 32, (4000,), 9),
    "volume": Layer(1, 8, 16, (24, 24, 24), 3),
}


def tensors(formula: Formula, layer: Layer, dtype: torch.dtype = torch.float32) -> tuple[Tensor, tuple[Tensor, ...]]:
    """An image and operands that want gradients."""
    torch.manual_seed(0)
    x = torch.randn(layer.batch, layer.channels, *layer.size)
    shapes = {"ock": (layer.filters, layer.channels // layer.groups, *(layer.kernel,) * len(layer.size))}
    params = []
    for operand in formula.parameters.values():
        value = torch.randn(shapes.get(operand.axes, (layer.filters,)))
        params.append(torch.full_like(value, operand.init) if isinstance(operand.init, float) else value)
    return x.to(dtype).requires_grad_(), tuple(p.to(dtype).requires_grad_() for p in params)
