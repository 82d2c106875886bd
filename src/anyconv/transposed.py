"""Transposed convolution: the index sets of a convolution, with input and output exchanged.

    y[n, o, j] = reduce over (c, i, k) with  i * stride + k * dilation - padding = j  of  map(x[n, c, i], w[c, o, k])

Sites ``j`` that are equal modulo the stride see the same taps. So a transposed convolution is one convolution of stride
1 for each of these phases, with the taps that its sites see, and without padding: what lies outside the image is no
pixel and takes no part.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .arguments import Params, bind, check_input, check_params, check_tensor, kernel_and_filters
from .backends import native
from .errors import BackendError, FormulaError, GeometryError, ShapeError
from .formula import Formula
from .functional import AnyFormula, Size, convolve
from .geometry import Geometry, Ints, ints
from .operands import Operand
from .phases import of_phase, phases_of
from .plan import Problem


def conv_transpose1d(
    x: Tensor, params: Params, formula: AnyFormula, bias: Tensor | None = None, *, stride: Size = 1, padding: Size = 0,
    output_padding: Size = 0, groups: int = 1, dilation: Size = 1, backend: str = "auto",
) -> Tensor:  # fmt: skip
    """:func:`conv_transpose2d` with one spatial axis."""
    return _conv_transpose(
        1, x, params, formula, bias, backend=backend,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups, dilation=dilation,
    )  # fmt: skip


def conv_transpose2d(
    x: Tensor, params: Params, formula: AnyFormula, bias: Tensor | None = None, *, stride: Size = 1, padding: Size = 0,
    output_padding: Size = 0, groups: int = 1, dilation: Size = 1, backend: str = "auto",
) -> Tensor:  # fmt: skip
    """A transposed convolution whose inner operation is ``formula``.

        >>> w = torch.randn(16, 3, 4, 4)
        >>> conv_transpose2d(torch.randn(8, 16, 15, 15), w, lambda x, w: x * w, stride=2, padding=1).shape
        torch.Size([8, 3, 30, 30])

    Each output reduces the pixels that a convolution of this geometry would send its gradient to. Outputs that no pixel
    reaches are empty fields: 0 of a sum, ``-inf`` of a maximum.

    Args:
        x: the input, ``(N, C_in, H, W)`` or, unbatched, ``(C_in, H, W)``.
        params: the operands of the formula. A weight per tap has shape ``(C_in, C_out / groups, *kernel)``, one per
            pair ``(C_in, C_out / groups)``, as PyTorch's; all others are as in :func:`anyconv.conv2d`.
        formula, bias, backend: as :func:`anyconv.conv2d`.
        stride, padding, output_padding, groups, dilation: as ``torch.nn.functional.conv_transpose2d``.

    Returns:
        ``(N, C_out, *out)`` with ``out = (size - 1) * stride - 2 * padding + dilation * (kernel - 1) +
        output_padding + 1``.

    Raises:
        AnyConvError: of the kind that fits, naming the argument, the value seen and the way out.
    """
    return _conv_transpose(
        2, x, params, formula, bias, backend=backend,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups, dilation=dilation,
    )  # fmt: skip


def conv_transpose3d(
    x: Tensor, params: Params, formula: AnyFormula, bias: Tensor | None = None, *, stride: Size = 1, padding: Size = 0,
    output_padding: Size = 0, groups: int = 1, dilation: Size = 1, backend: str = "auto",
) -> Tensor:  # fmt: skip
    """:func:`conv_transpose2d` with three spatial axes."""
    return _conv_transpose(
        3, x, params, formula, bias, backend=backend,
        stride=stride, padding=padding, output_padding=output_padding, groups=groups, dilation=dilation,
    )  # fmt: skip


def _conv_transpose(
    dims: int, x: Tensor, params: Params, formula: AnyFormula, bias: Tensor | None, *, backend: str, **arguments: Any
) -> Tensor:
    formula = Formula.of(formula)
    check_tensor("x", x)
    named = bind(params, formula, x)
    kernel, filters = kernel_and_filters(named, formula, dims)
    # of a weight per tap the second axis holds the filters of a group
    of_group = next((named[n].shape[1] for n, o in formula.passed if is_swapped(o)), None)
    out_channels = filters if of_group is None else of_group * arguments["groups"]
    spans = Spans.of(dims, kernel, **arguments)
    return transpose(x, named, bias, formula=formula, spans=spans, out_channels=out_channels, backend=backend)


@dataclass(frozen=True)
class Spans:
    """The geometry of a transposed convolution: that of the convolution whose sites are its pixels, and its own end."""

    geometry: Geometry
    output_padding: Ints

    @classmethod
    def of(
        cls, dims: int, kernel_size: Size, *, stride: Size = 1, padding: Size = 0, output_padding: Size = 0,
        groups: int = 1, dilation: Size = 1,
    ) -> Spans:  # fmt: skip
        """From the arguments of ``nn.ConvTransposeNd``.

        Raises:
            GeometryError: naming the argument and the value seen.
        """
        geometry = Geometry.of(
            dims, kernel_size, stride=stride, padding=ints("padding", padding, dims, least=0), dilation=dilation,
            groups=groups, padding_mode="skip",
        )  # fmt: skip
        more = ints("output_padding", output_padding, dims, least=0)
        if any(m >= max(s, d) for m, s, d in zip(more, geometry.stride, geometry.dilation, strict=True)):
            raise GeometryError(
                f"`output_padding` must be smaller than stride or dilation, got {more} with stride {geometry.stride}, "
                f"dilation {geometry.dilation}"
            )
        return cls(geometry, more)

    def out(self, size: Ints) -> Ints:
        """The output's size.

        Raises:
            ShapeError: there is none.
        """
        g = self.geometry
        axes = zip(size, g.stride, g.before, g.dilation, g.kernel, self.output_padding, strict=True)
        out = tuple((n - 1) * s - 2 * p + d * (k - 1) + more + 1 for n, s, p, d, k, more in axes)
        if min(out) < 1:
            raise ShapeError(
                f"an `x` of spatial size {size} would give an output of {out}", way_out="Use less padding."
            )
        return out


def is_swapped(operand: Operand) -> bool:
    """Whether the tensor has the input channels first and the filters of a group second, as PyTorch's weight."""
    return operand.scope in ("per_tap", "per_pair")


def operand_shape(operand: Operand, in_channels: int, out_channels: int, geometry: Geometry) -> Ints:
    """The shape of an operand of a transposed convolution."""
    if is_swapped(operand):
        in_channels, out_channels = out_channels, in_channels
    return operand.shape(in_channels, out_channels, geometry)


def check_formula(formula: Formula) -> None:
    """Refuse what a transposed convolution has not: a receptive field with a middle, or one that is seen whole.

    Raises:
        FormulaError: with the reason.
    """
    if formula.mathematics.field is not None:
        raise FormulaError(
            "a map of whole fields has no transposed convolution: its sites see different numbers of taps",
            way_out="Use a map of one pixel.",
        )
    for name, operand in formula.following:
        raise FormulaError(
            f"`{name}` is {operand}, which a transposed convolution has not: its fields have no middle",
            way_out="Pass such numbers as an operand: per_offset() or guide().",
        )


def transpose(
    x: Tensor, params: dict[str, Tensor], bias: Tensor | None, *, formula: Formula, spans: Spans, out_channels: int,
    backend: str,
) -> Tensor:  # fmt: skip
    """The call behind functions and layers alike."""
    geometry = spans.geometry
    check_input(x, geometry)
    check_formula(formula)
    if x.dim() == geometry.dims + 1:
        batched = {n: params[n][None] if "n" in o.axes else params[n] for n, o in formula.passed}
        one = transpose(
            x[None], batched, bias, formula=formula, spans=spans, out_channels=out_channels, backend=backend
        )
        return one[0]
    spans.out(tuple(x.shape[2:]))  # refuses what has no output
    in_channels = x.shape[1]
    weights = _unswapped(params, formula, geometry, in_channels, out_channels)
    if torch.compiler.is_compiling():
        if formula.weight and backend in ("auto", "native"):
            conv = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[geometry.dims - 1]
            whole: Tensor = conv(
                x, params[formula.weight], bias, geometry.stride, geometry.before, spans.output_padding,
                geometry.groups, geometry.dilation,
            )  # fmt: skip
            return whole
        return _by_phases(x, weights, bias, formula=formula, spans=spans, out_channels=out_channels, backend=backend)
    problem = Problem(formula, geometry, in_channels, out_channels, str(x.dtype).removeprefix("torch."), x.device.type)
    line = native.transposed_line(problem) if backend in ("auto", "native") else None
    if line is not None and (backend == "native" or native.follows_torch(line, x)):
        check_params(x, weights, bias, problem)
        return native.transpose(x, weights, bias, problem, line, output_padding=spans.output_padding)
    if backend == "native":
        raise BackendError(
            f"the native backend has no transposed convolution of {formula}: it is no sum of multiples of the pixel",
            way_out="Use backend='auto'.",
        )
    return _by_phases(x, weights, bias, formula=formula, spans=spans, out_channels=out_channels, backend=backend)


def _by_phases(
    x: Tensor, weights: dict[str, Tensor], bias: Tensor | None, *, formula: Formula, spans: Spans, out_channels: int,
    backend: str,
) -> Tensor:  # fmt: skip
    geometry, out = spans.geometry, spans.out(tuple(x.shape[2:]))
    axes = zip(geometry.kernel, geometry.stride, geometry.dilation, geometry.before, strict=True)
    along = [phases_of(n, o, axis) for n, o, axis in zip(x.shape[2:], out, axes, strict=True)]
    y: Tensor | None = None
    for phases in itertools.product(*along):
        parts = [p.geometry(n) for p, n in zip(phases, x.shape[2:], strict=True)]
        kernel, dilation, before, after = zip(*parts, strict=True)
        part = convolve(
            x, {n: of_phase(weights[n], o, phases) for n, o in formula.passed}, bias, formula=formula,
            geometry=Geometry(kernel, (1,) * geometry.dims, dilation, before, after, geometry.groups, "skip"),
            out_channels=out_channels, backend=backend,
        )  # fmt: skip
        if y is None:  # in the dtype that autocast may choose
            y = part.new_empty((x.shape[0], out_channels, *out))
        sites = (slice(None), slice(None), *(p.sites for p in phases))
        y[sites] = part
    assert y is not None, "each axis has a phase"
    return y


def _unswapped(
    params: dict[str, Tensor], formula: Formula, geometry: Geometry, in_channels: int, out_channels: int
) -> dict[str, Tensor]:
    """Operands as a convolution has them: filters first.

    Raises:
        ShapeError: one has another shape, or groups do not divide the channels.
    """
    groups, found = geometry.groups, dict(params)
    if in_channels % groups or out_channels % groups:
        raise ShapeError(
            f"`groups` ({groups}) must divide the channels of `x` ({in_channels}) and the number of filters "
            f"({out_channels})"
        )
    for name, operand in formula.passed:
        if is_swapped(operand):
            value, wanted = params[name], operand_shape(operand, in_channels, out_channels, geometry)
            if tuple(value.shape) != wanted:
                raise ShapeError(f"`{name}` must have shape {wanted} ({operand}), got {tuple(value.shape)}")
            split = value.reshape(groups, in_channels // groups, *value.shape[1:])
            found[name] = split.transpose(1, 2).reshape(out_channels, in_channels // groups, *value.shape[2:])
    return found
