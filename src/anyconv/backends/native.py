"""The native backend: a sum of ``slope * x + offset`` is torch's own convolution, with ``slope`` as its weight.

The slope may be any expression of the operands; it is evaluated once per call, on tensors of the weight's size.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..expr import Expr, evaluate
from ..geometry import Ints
from ..plan import Problem
from ..plan.affine import Line, affine
from ..reductions.builtin import MEAN, SUM
from .ieee import ieee
from .padding import pad
from .torch_library import torch_library

_CONV = (F.conv1d, F.conv2d, F.conv3d)


@dataclass(frozen=True)
class Call:
    """A problem whose map is a line in the pixel."""

    problem: Problem
    line: Line


def is_product(line: Line) -> bool:
    """Return whether a map is ``x * w``, the sum of which is torch's own convolution as it stands."""
    return line.slope.op == "var" and line.offset.value == 0.0


def follows_torch(line: Line, x: Tensor) -> bool:
    """Return whether torch's convolution, with its own gradients, is all there is to do.

    On a GPU it may round its factors (:mod:`.ieee`), which no one asked for where the map is no product.
    """
    return is_product(line) or x.device.type == "cpu"


def forward(call: Call, tensors: dict[str, Tensor], bias: Tensor | None, *, saves: bool) -> tuple[Tensor, Tensor]:
    """``y[n, o, *sites]``; nothing is kept."""
    x, *_ = tensors.values()
    with contextlib.nullcontext() if is_product(call.line) else ieee(x):
        y = convolve(x, tensors, bias, call.problem, call.line)
    return y, y.new_empty(0)


def gradients(
    call: Call, tensors: dict[str, Tensor], state: Tensor, grad: Tensor, wanted: set[str]
) -> dict[str, Tensor]:
    """The gradients of the tensors that are wanted, by torch's own."""
    leaves = {name: t.requires_grad_(name in wanted) for name, t in tensors.items()}
    with torch.enable_grad():
        y, _ = forward(call, leaves, None, saves=False)
    inputs = [leaves[name] for name in wanted]
    with contextlib.nullcontext() if is_product(call.line) else ieee(grad):
        found = torch.autograd.grad(y, inputs, grad, materialize_grads=True)
    return dict(zip(wanted, found, strict=True))


def convolve(x: Tensor, params: dict[str, Tensor], bias: Tensor | None, problem: Problem, line: Line) -> Tensor:
    """``y[n, o, *sites]`` of ``x[n, c, *size]``, for a problem whose map is ``line``."""
    geometry = problem.geometry
    if geometry.mode != "zeros" or geometry.before != geometry.after:
        x, geometry = pad(x, geometry)
    conv = _CONV[geometry.dims - 1]
    weight = _value(line.slope, params, problem, x)
    has_offset = line.offset.value != 0.0
    is_mean = problem.formula.reduction == MEAN
    plain = not has_offset and not is_mean
    y = conv(x, weight, bias if plain else None, geometry.stride, geometry.before, geometry.dilation, geometry.groups)
    if plain:
        return y
    ones = (-1, *(1,) * geometry.dims)
    if has_offset:
        y = y + _value(line.offset, params, problem, x).flatten(1).sum(1).reshape(ones)
    if is_mean:
        y = y / problem.field
    return y if bias is None else y + bias.reshape(ones)


def transposed_line(problem: Problem) -> Line | None:
    """The multiple of the pixel whose sum a map is, where torch's own transposed convolution computes it."""
    m = problem.formula.mathematics
    if not m.is_plain or m.reduction != SUM or any(v.part is not None for v in m.variables):
        return None
    line = affine(problem.formula.expr, problem.formula.pixel)
    return line if line is not None and line.offset.value == 0.0 and problem.dtype != "bool" else None


def transpose(
    x: Tensor, params: dict[str, Tensor], bias: Tensor | None, problem: Problem, line: Line, *, output_padding: Ints
) -> Tensor:
    """``y[n, o, *out]`` of ``x[n, c, *size]``; operands as a convolution has them."""
    g = problem.geometry
    weight = _value(line.slope, params, problem, x)
    split = weight.reshape(g.groups, -1, *weight.shape[1:]).transpose(1, 2)
    swapped = split.reshape(problem.in_channels, -1, *g.kernel)
    conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[g.dims - 1]
    y: Tensor = conv(x, swapped, bias, g.stride, g.before, output_padding, g.groups, g.dilation)
    return y


def _value(expr: Expr, params: dict[str, Tensor], problem: Problem, x: Tensor) -> Tensor:
    """An expression of the operands as a tensor of the weight's shape."""
    operands = problem.formula.parameters
    if expr.op == "var" and operands[str(expr.value)].axes == "ock":
        return params[str(expr.value)]
    values = {name: broadcast(params[name], operands[name].axes, problem) for name in expr.names()}
    value = evaluate(expr, values, torch_library(x.dtype))
    return torch.as_tensor(value, dtype=x.dtype, device=x.device).expand(problem.weight_shape).contiguous()


def broadcast(value: Tensor, axes: str, problem: Problem) -> Tensor:
    """An operand with the axes of the weight, ``(o, c, *k)``, of extent 1 where it does not vary."""
    filters, channels, *_ = shape = problem.weight_shape
    groups, dims = problem.geometry.groups, problem.geometry.dims
    if axes == "c":  # one value per input channel: the filters of a group see that group's channels
        value = value.reshape(groups, 1, channels).expand(-1, filters // groups, -1)
        return value.reshape(filters, channels, *(1,) * dims)
    return value.reshape([size if axis in axes else 1 for axis, size in zip("oc" + "k" * dims, shape, strict=True)])
