"""What a call is given: tensors by the names of their operands, checked before anything is computed."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .errors import DeviceError, DtypeError, FormulaError, ShapeError
from .formula import Formula
from .geometry import Geometry
from .plan import Problem

Params = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


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
        check_tensor(name, value)
    return given


def kernel_and_filters(params: dict[str, Tensor], formula: Formula, dims: int) -> tuple[tuple[int, ...], int]:
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


def check_tensor(name: str, value: object) -> None:
    """Refuse what is no dense tensor."""
    if not isinstance(value, Tensor):
        raise DtypeError(
            f"`{name}` must be a tensor, got {reprlib.repr(value)}", way_out="Write `torch.as_tensor(...)`."
        )
    if value.layout != torch.strided:
        raise DtypeError(f"`{name}` must be dense, got layout {value.layout}", way_out=f"Write `{name}.to_dense()`.")


def check_input(x: Tensor, geometry: Geometry) -> None:
    """Refuse an input without the axes of the geometry, or without pixels."""
    check_tensor("x", x)
    axes = ", ".join("DHW"[-geometry.dims :]) if geometry.dims > 1 else "L"
    if x.dim() not in (geometry.dims + 1, geometry.dims + 2):
        raise ShapeError(f"`x` must be (N, C_in, {axes}) or (C_in, {axes}), got shape {tuple(x.shape)}")
    if 0 in x.shape[-geometry.dims :]:
        raise ShapeError(f"`x` has no pixels: its shape is {tuple(x.shape)}")


def check_params(x: Tensor, params: Mapping[str, Tensor], bias: Tensor | None, problem: Problem) -> None:
    """Refuse operands and a bias of the wrong shape, dtype or device, and groups that do not divide the channels."""
    groups = problem.geometry.groups
    c_in, c_out = problem.in_channels, problem.out_channels
    if c_in % groups or c_out % groups or c_out < groups:
        raise ShapeError(
            f"`groups` ({groups}) must divide the channels of `x` ({c_in}) and the number of filters ({c_out})",
            way_out="A weight per tap has shape (C_out, C_in / groups, *kernel).",
        )
    operands = problem.formula.parameters
    expected = [(name, params[name], operands[name].shape(c_in, c_out, problem.geometry)) for name in operands]
    for name, value, wanted in [*expected, *([] if bias is None else [("bias", bias, (c_out,))])]:
        check_tensor(name, value)
        if tuple(value.shape) != wanted:
            sizes = f"with C_in={c_in}, C_out={c_out}, groups={groups}"
            scope = "one per filter" if value is bias else f"{operands[name]}, {sizes}"
            raise ShapeError(f"`{name}` must have shape {wanted} ({scope}), got {tuple(value.shape)}")
        if value.dtype != x.dtype and not autocasts(x):
            raise DtypeError(
                f"`{name}` is {value.dtype} and `x` is {x.dtype}", way_out=f"Convert one of them: `{name}.to(x.dtype)`."
            )
        if value.device != x.device:
            raise DeviceError(
                f"`{name}` is on {value.device} and `x` on {x.device}",
                way_out=f"Move one of them: `{name}.to(x.device)`.",
            )


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on and would change the dtype of ``x``."""
    kind = x.device.type
    on = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
    return on and x.is_floating_point() and x.dtype != torch.float64
