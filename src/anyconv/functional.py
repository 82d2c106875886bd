"""The functions: check the call, choose the backend, compute.

>>> y = conv2d(images, w, Formula(lambda x, w: torch.tan(x + w), reduce="prod"), padding=1)
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .backends import native, reference
from .backends.padding import pad
from .errors import DeviceError, DtypeError, FormulaError, ShapeError
from .formula import Formula
from .geometry import Geometry
from .plan import Plan, Problem, choose

Params = Tensor | Sequence[Tensor] | Mapping[str, Tensor]
AnyFormula = Formula | Callable[..., Any]
Size = int | Sequence[int]


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
        backend: ``"auto"``, ``"native"`` (torch's own convolution, for what is one) or ``"reference"``.

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
    _check_tensor("x", x)
    if not 3 <= x.dim() <= 5:
        raise ShapeError(f"`x` must be (N, C, *size) with 1 to 3 spatial axes, got shape {tuple(x.shape)}")
    geometry = Geometry.of(x.dim() - 2, kernel_size, stride=stride, padding=padding, dilation=dilation)
    geometry.sites(tuple(x.shape[2:]))
    x, geometry = pad(x, geometry)
    for axis, (k, s, d) in enumerate(zip(geometry.kernel, geometry.stride, geometry.dilation, strict=True), start=2):
        x = x.unfold(axis, d * (k - 1) + 1, s)[..., ::d]
    return x


def convolve(
    x: Tensor, params: Mapping[str, Tensor], bias: Tensor | None, *, formula: Formula, geometry: Geometry,
    out_channels: int, backend: str,
) -> Tensor:  # fmt: skip
    """The call behind functions and layers alike: shapes are checked here, whoever calls."""
    _check_input(x, geometry)
    unbatched = x.dim() == geometry.dims + 1
    in_channels = x.shape[0 if unbatched else 1]
    problem = Problem(formula, geometry, in_channels, out_channels, str(x.dtype).removeprefix("torch."), x.device.type)
    _check_params(x, params, bias, problem)
    plan = choose(problem, backend)
    geometry.sites(tuple(x.shape[-geometry.dims :]))
    x, values, bias = _autocast(x, dict(params), bias)
    y = _run(x[None] if unbatched else x, values, bias, problem, plan)
    return y[0] if unbatched else y


def _run(x: Tensor, params: dict[str, Tensor], bias: Tensor | None, problem: Problem, plan: Plan) -> Tensor:
    if plan.line is not None:
        return native.convolve(x, params, bias, problem, plan.line)
    x, geometry = pad(x, problem.geometry)
    compute = reference.convolve
    if torch.compiler.is_compiling():  # Dynamo would unroll its loops over taps and blocks, for minutes
        compute = torch.compiler.disable(compute)  # type: ignore[no-untyped-call]
    return compute(x, params, bias, formula=problem.formula, geometry=geometry, out_channels=problem.out_channels)


def _autocast(
    x: Tensor, params: dict[str, Tensor], bias: Tensor | None
) -> tuple[Tensor, dict[str, Tensor], Tensor | None]:
    """Under autocast the inputs take its dtype, as those of ``F.conv2d`` do."""
    if not _autocasts(x) or not x.is_floating_point() or x.dtype == torch.float64:
        return x, params, bias
    dtype = torch.get_autocast_dtype(x.device.type)
    cast = {name: value.to(dtype) for name, value in params.items()}
    return x.to(dtype), cast, None if bias is None else bias.to(dtype)


def _autocasts(x: Tensor) -> bool:
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _conv(
    dims: int, x: Tensor, params: Params, formula: AnyFormula, bias: Tensor | None, *, backend: str, **geometry: Any
) -> Tensor:
    formula = Formula.of(formula)
    named = bind(params, formula)
    kernel, out_channels = _sizes(named, formula, dims)
    return convolve(
        x, named, bias, formula=formula, geometry=Geometry.of(dims, kernel, **geometry), out_channels=out_channels,
        backend=backend,
    )  # fmt: skip


def bind(params: Params, formula: Formula) -> dict[str, Tensor]:
    """``params`` by name, in the order of the map's signature.

    Raises:
        FormulaError: too few, too many, or unknown names.
        DtypeError: one of them is no tensor.
    """
    names = list(formula.parameters)
    signature = f"The map takes ({', '.join([formula.pixel, *names])}); `params` holds all but the pixel."
    if isinstance(params, Mapping):
        if set(params) != set(names):
            raise FormulaError(
                f"`params` has the names {sorted(params)}, the formula {sorted(names)}", way_out=signature
            )
        given = {name: params[name] for name in names}
    else:
        values = (params,) if isinstance(params, Tensor) else params
        if not isinstance(values, Sequence):
            raise DtypeError(f"`params` must be a tensor, a tuple or a dict of tensors, got {type(values).__name__}")
        if len(values) != len(names):
            raise FormulaError(
                f"`params` has {len(values)} tensors, the formula {len(names)} operands", way_out=signature
            )
        given = dict(zip(names, values, strict=True))
    for name, value in given.items():
        _check_tensor(name, value)
    return given


def _sizes(params: dict[str, Tensor], formula: Formula, dims: int) -> tuple[tuple[int, ...], int]:
    """The kernel and the number of filters, which only the weights tell."""
    for name, operand in formula.parameters.items():
        if operand.axes == "ock":
            if params[name].dim() != dims + 2:
                raise ShapeError(
                    f"`{name}` must have {dims + 2} axes (C_out, C_in / groups, *kernel), "
                    f"got shape {tuple(params[name].shape)}"
                )
            shape = tuple(params[name].shape)
            return shape[2:], shape[0]
    raise FormulaError(
        f"no operand of {formula} varies per tap, so the kernel size is unknown",
        way_out=f"Use the layer anyconv.Conv{dims}d, which is told the kernel size.",
    )


def _check_tensor(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise DtypeError(
            f"`{name}` must be a tensor, got {reprlib.repr(value)}", way_out="Write `torch.as_tensor(...)`."
        )
    if value.layout != torch.strided:
        raise DtypeError(f"`{name}` must be dense, got layout {value.layout}", way_out=f"Write `{name}.to_dense()`.")


def _check_input(x: Tensor, geometry: Geometry) -> None:
    _check_tensor("x", x)
    axes = ", ".join("DHW"[-geometry.dims :]) if geometry.dims > 1 else "L"
    if x.dim() not in (geometry.dims + 1, geometry.dims + 2):
        raise ShapeError(f"`x` must be (N, C_in, {axes}) or (C_in, {axes}), got shape {tuple(x.shape)}")
    if 0 in x.shape[-geometry.dims :]:
        raise ShapeError(f"`x` has no pixels: its shape is {tuple(x.shape)}")


def _check_params(x: Tensor, params: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> None:
    groups = problem.geometry.groups
    c_in, c_out = problem.in_channels, problem.out_channels
    if c_in % groups or c_out % groups or c_out < groups:
        raise ShapeError(
            f"`groups` ({groups}) must divide the channels of `x` ({c_in}) and the number of filters ({c_out})",
            way_out="A weight per tap has shape (C_out, C_in / groups, *kernel).",
        )
    tensors = {**params, **({} if bias is None else {"bias": bias})}
    for name, value in tensors.items():
        _check_tensor(name, value)
        operand = problem.formula.parameters.get(name)
        wanted = (c_out,) if operand is None else operand.shape(c_in, c_out, problem.geometry)
        if tuple(value.shape) != wanted:
            scope = (
                "one per filter" if operand is None else f"{operand}, with C_in={c_in}, C_out={c_out}, groups={groups}"
            )
            raise ShapeError(f"`{name}` must have shape {wanted} ({scope}), got {tuple(value.shape)}")
        if value.dtype != x.dtype and not _autocasts(x):
            raise DtypeError(
                f"`{name}` is {value.dtype} and `x` is {x.dtype}", way_out=f"Convert one of them: `{name}.to(x.dtype)`."
            )
        if value.device != x.device:
            raise DeviceError(
                f"`{name}` is on {value.device} and `x` on {x.device}",
                way_out=f"Move one of them: `{name}.to(x.device)`.",
            )
