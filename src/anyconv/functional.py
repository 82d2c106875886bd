"""The functions: check the call, choose the backend, compute.

>>> y = conv2d(images, w, Formula(lambda x, w: torch.tan(x + w), reduce="prod"), padding=1)
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .after_import import after_import
from .arguments import (
    Params,
    autocasts,
    bind,
    check_field,
    check_input,
    check_params,
    check_tensor,
    kernel_and_filters,
)
from .autograd import Convolve
from .backends import native
from .backends.padding import check_padding, pad
from .call import Call, problem_of, remembered
from .errors import ShapeError
from .formula import Formula
from .geometry import Geometry

AnyFormula = Formula | Callable[..., Any]
Size = int | Sequence[int]

# a counter of PyTorch's asks, when it begins, for the operators that are registered
after_import("torch.utils.flop_counter", lambda: importlib.import_module(".flops", __package__))


def conv1d(
    x: Tensor, params: Params, formula: AnyFormula, bias: Tensor | None = None, *, stride: Size = 1,
    padding: Size | str = 0, dilation: Size = 1, groups: int = 1, padding_mode: str | float = "zeros",
    backend: str = "auto",
) -> Tensor:  # fmt: skip
    """:func:`conv2d` with one spatial axis: ``x`` is ``(N, C_in, L)`` or ``(C_in, L)``."""
    return _conv(
        1, x, params, formula, bias, backend=backend,
        stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=padding_mode,
    )  # fmt: skip


def conv2d(
    x: Tensor, params: Params, formula: AnyFormula, bias: Tensor | None = None, *, stride: Size = 1,
    padding: Size | str = 0, dilation: Size = 1, groups: int = 1, padding_mode: str | float = "zeros",
    backend: str = "auto",
) -> Tensor:  # fmt: skip
    """A convolution whose inner operation is ``formula``.

        >>> w = torch.randn(16, 3, 3, 3, requires_grad=True)
        >>> conv2d(torch.randn(8, 3, 32, 32), w, lambda x, w: -torch.abs(x - w)).shape
        torch.Size([8, 16, 30, 30])

    Args:
        x: the input, ``(N, C_in, H, W)`` or, unbatched, ``(C_in, H, W)``.
        params: the operands of the formula: a tensor, a tuple in the order of the map's signature, or a dict by name.
            A weight per tap has shape ``(C_out, C_in / groups, *kernel)``, which also says what the kernel is.
        formula: a :class:`Formula`, or a function of one pixel and its operands, whose results are summed.
        bias: added to each output channel after the reduction, ``(C_out,)``.
        stride, padding, dilation, groups: as ``torch.nn.functional.conv2d``, ``"same"`` and ``"valid"`` included.
        padding_mode: what stands outside the image. ``"zeros"`` and a number go through the map like any pixel;
            ``"skip"`` leaves the taps there out of the reduction; ``"reflect"``, ``"replicate"``, ``"circular"`` as
            ``nn.Conv2d``.
        backend: ``"auto"``, ``"native"`` (torch's own convolution, for what is one), ``"cpp"`` (a kernel generated for
            the CPU), ``"triton"`` (one generated for GPUs) or ``"reference"`` (plain PyTorch).

    Returns:
        ``(N, C_out, H_out, W_out)``, or without ``N``, in the dtype of ``x``.

    Raises:
        AnyConvError: of the kind that fits, naming the argument, the value seen and the way out.
    """
    return _conv(
        2, x, params, formula, bias, backend=backend,
        stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=padding_mode,
    )  # fmt: skip


def conv3d(
    x: Tensor, params: Params, formula: AnyFormula, bias: Tensor | None = None, *, stride: Size = 1,
    padding: Size | str = 0, dilation: Size = 1, groups: int = 1, padding_mode: str | float = "zeros",
    backend: str = "auto",
) -> Tensor:  # fmt: skip
    """:func:`conv2d` with three spatial axes: ``x`` is ``(N, C_in, D, H, W)`` or ``(C_in, D, H, W)``."""
    return _conv(
        3, x, params, formula, bias, backend=backend,
        stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=padding_mode,
    )  # fmt: skip


def receptive_fields(
    x: Tensor, kernel_size: Size, stride: Size = 1, padding: Size | str = 0, dilation: Size = 1
) -> Tensor:
    """Every receptive field of ``x``, as a view: no pixel is copied (padding first copies ``x`` once).

        >>> receptive_fields(torch.randn(8, 3, 32, 32), 5, padding=2).shape
        torch.Size([8, 3, 32, 32, 5, 5])

    Args:
        x: ``(N, C, *size)`` with one, two or three spatial axes.
        kernel_size, stride, padding, dilation: as :func:`conv2d`; padding is with zeros.

    Returns:
        ``(N, C, *out, *kernel)``.
    """
    check_tensor("x", x)
    if not 3 <= x.dim() <= 5:
        raise ShapeError(f"`x` must be (N, C, *size) with 1 to 3 spatial axes, got shape {tuple(x.shape)}")
    geometry = Geometry.of(x.dim() - 2, kernel_size, stride=stride, padding=padding, dilation=dilation)
    geometry.sites(tuple(x.shape[2:]))  # refuses a kernel larger than the input, as `x` was given
    x, geometry = pad(x, geometry)
    for axis, (k, s, d) in enumerate(zip(geometry.kernel, geometry.stride, geometry.dilation, strict=True), start=2):
        x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    return x


def convolve(
    x: Tensor, params: Mapping[str, Tensor], bias: Tensor | None, *, formula: Formula, geometry: Geometry,
    out_channels: int, backend: str,
) -> Tensor:  # fmt: skip
    """The call behind functions and layers alike: shapes are checked here, whoever calls."""
    if torch.compiler.is_compiling():
        return _traced(x, params, bias, formula=formula, geometry=geometry, out_channels=out_channels, backend=backend)
    check_input(x, geometry)
    check_field(formula, geometry)
    unbatched = x.dim() == geometry.dims + 1
    values = dict(params)
    if unbatched:
        x = x[None]
        values = {
            name: value[None] if "n" in formula.parameters[name].axes else value for name, value in values.items()
        }
    x, values, bias = _autocast(x, values, bias)

    def make() -> Call:
        geometry.sites(tuple(x.shape[2:]))  # refuses a kernel larger than the input, as `x` was given
        check_params(x, values, bias, problem_of(formula, geometry, x, out_channels))
        check_padding(x, geometry)
        return Call.of(formula, geometry, x, out_channels=out_channels, backend=backend)

    tensors = (x, *values.values())
    call = remembered((formula.text, geometry, out_channels, backend), (*tensors, bias), make)
    if call.plan.line is not None and native.follows_torch(call.plan.line, x):
        y = native.convolve(x, values, bias, call.problem, call.plan.line)
    else:
        saves = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (*tensors, bias))
        y, _ = Convolve.apply(call, saves, bias, *tensors)  # type: ignore[no-untyped-call]
    return y[0] if unbatched else y


def _traced(
    x: Tensor, params: Mapping[str, Tensor], bias: Tensor | None, *, formula: Formula, geometry: Geometry,
    out_channels: int, backend: str,
) -> Tensor:  # fmt: skip
    """As :func:`convolve`, for a tracer of PyTorch: an operator that is computed, and checked, when it is called.

    What is torch's own convolution is called by its name, so that a compiler can join it with what surrounds it.
    """
    unbatched = x.dim() == geometry.dims + 1
    values = dict(params)
    if unbatched:
        x = x[None]
        values = {n: values[n][None] if "n" in operand.axes else values[n] for n, operand in formula.passed}
    x, values, bias = _autocast(x, values, bias)
    g = geometry
    if formula.weight and g.mode == "zeros" and g.before == g.after and backend in ("auto", "native"):
        conv = (F.conv1d, F.conv2d, F.conv3d)[g.dims - 1]
        y = conv(x, values[formula.weight], bias, g.stride, g.before, g.dilation, g.groups)
    else:
        tensors = list(values.values())
        saves = torch.is_grad_enabled() and any(
            t.requires_grad for t in (x, *tensors) + (() if bias is None else (bias,))
        )
        y = torch.ops.anyconv.convolve.default(
            x, tensors, bias, formula.text, g.kernel, g.stride, g.dilation, g.before, g.after, g.groups, str(g.mode),
            out_channels, backend, saves,
        )[0]  # fmt: skip
    return y[0] if unbatched else y


def _autocast(
    x: Tensor, params: dict[str, Tensor], bias: Tensor | None
) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
    """Under autocast the inputs take its dtype, as those of ``F.conv2d`` do."""
    if not autocasts(x):
        return x, params, bias
    dtype = torch.get_autocast_dtype(x.device.type)
    cast = {name: value.to(dtype) for name, value in params.items()}
    return x.to(dtype), cast, None if bias is None else bias.to(dtype)


def _conv(
    dims: int, x: Tensor, params: Params, formula: AnyFormula, bias: Tensor | None, *, backend: str, **geometry: Any
) -> Tensor:
    formula = Formula.of(formula)
    check_tensor("x", x)
    named = bind(params, formula, x)
    kernel, out_channels = kernel_and_filters(named, formula, dims)
    return convolve(
        x, named, bias, formula=formula, geometry=Geometry.of(dims, kernel, **geometry), out_channels=out_channels,
        backend=backend,
    )  # fmt: skip
