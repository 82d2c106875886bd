"""What a call is given: tensors by the names of their operands, checked before anything is computed."""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .errors import DeviceError, DtypeError, FormulaError, ShapeError
from .formula import Formula
from .geometry import Geometry
from .plan import Problem

Params = Tensor | Sequence[Tensor | float] | Mapping[str, Tensor | float]


def bind(params: Params, formula: Formula, x: Tensor) -> dict[str, Tensor]:
    """``params`` by name, in the order of the signatures; a number for a shared operand becomes a tensor.

    Raises:
        FormulaError: too few, too many, or unknown names.
        DtypeError: one of them is no tensor.
    """
    operands = dict(formula.passed)
    names = list(operands)
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
    tensors: dict[str, Tensor] = {}
    for name, value in given.items():
        if isinstance(value, (int, float)) and operands[name].shape(1, 1, _POINT) == ():
            value = torch.tensor(float(value), dtype=x.dtype, device=x.device)
        check_tensor(name, value)
        tensors[name] = value  # type: ignore[assignment]
    return with_hooks(tensors, formula)


def with_hooks(params: dict[str, Tensor], formula: Formula) -> dict[str, Tensor]:
    """Operands whose gradients pass through their ``on_gradient``."""
    hooks = {name: operand.on_gradient for name, operand in formula.passed if operand.on_gradient}
    if not hooks:
        return params
    return {name: _hooked(value, hooks.get(name)) for name, value in params.items()}


def _hooked(value: Tensor, hook: Callable[[Tensor], Tensor] | None) -> Tensor:
    if hook is None:
        return value
    kind = _Hooked if torch.compiler.is_compiling() else _HookedForward
    same: Tensor = kind.apply(value, hook)  # type: ignore[no-untyped-call]
    return same


class _Hooked(torch.autograd.Function):
    """The same tensor, whose gradient is what a function makes of it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, hook: Callable[[Tensor], Tensor]) -> Tensor:
        return value.view_as(value)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.hook = inputs

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        made = ctx.hook(grad)
        if not isinstance(made, Tensor) or made.shape != grad.shape:
            got = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
            raise ShapeError(f"`on_gradient` must give a tensor of shape {tuple(grad.shape)}, got {got}")
        return made, None


class _HookedForward(_Hooked):
    """With a rule for forward mode, where the value moves as it does; torch.compile knows no such rules."""

    @staticmethod
    def jvp(ctx: Any, move: Tensor, _: Any) -> Tensor:
        same: Tensor = _HookedForward.apply(move, lambda grad: grad)  # type: ignore[no-untyped-call]
        return same


_POINT = Geometry.of(1, 1)


def kernel_and_filters(params: dict[str, Tensor], formula: Formula, dims: int) -> tuple[tuple[int, ...], int]:
    """The kernel and the number of filters, which only the operands tell."""
    kernel, filters = formula.field, None
    for name, operand in formula.passed:
        if operand.scope == "guide" or not set(operand.axes) & set("ok"):
            continue
        lead = "".join(axis for axis in operand.axes if axis in "noc")
        wanted = len(lead) + dims * sum(axis in "ks" for axis in operand.axes) + (operand.size is not None)
        shape = tuple(params[name].shape)
        if len(shape) != wanted and not ("n" in lead and len(shape) == wanted - 1):
            axes = "(C_out, C_in / groups, *kernel)" if operand.axes == "ock" else operand.axes
            raise ShapeError(f"`{name}` must have {wanted} axes {axes}, got shape {shape}")
        lead = lead[wanted - len(shape) :]  # unbatched
        if "k" in operand.axes and kernel is None:
            kernel = shape[len(lead) : len(lead) + dims]
        if "o" in lead and filters is None:
            filters = shape[lead.index("o")]
    if kernel is None or filters is None:
        unknown = "kernel size" if kernel is None else "number of filters"
        raise FormulaError(
            f"no operand of {formula} varies per {'tap' if kernel is None else 'filter'}, so the {unknown} is unknown",
            way_out=f"Use the layer anyconv.Conv{dims}d, which is told the {unknown}.",
        )
    return kernel, filters


def check_field(formula: Formula, geometry: Geometry) -> None:
    """Refuse a geometry that a map of whole fields, or the offsets of taps, do not fit.

    Raises:
        ShapeError: another kernel, or another number of axes.
        FormulaError: padding that leaves taps out of fields that the map sees whole.
    """
    if formula.field is not None:
        if formula.field != geometry.kernel:
            raise ShapeError(f"the map of {formula} sees fields of {formula.field}, the kernel is {geometry.kernel}")
        if geometry.mode == "skip" and any(geometry.before + geometry.after):
            raise FormulaError(
                f"padding_mode='skip' leaves taps out, and the map of {formula} needs all of a field",
                way_out="Pad with another mode, or not at all.",
            )
    for name, operand in formula.following:
        if operand.scope == "offsets" and operand.size != geometry.dims:
            raise ShapeError(f"`{name}` is offsets({operand.size}), the convolution has {geometry.dims} spatial axes")


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
    batch, size = x.shape[0], tuple(x.shape[2:])
    tensors = [(name, params[name], operands[name]) for name in operands]
    for name, value, operand in [*tensors, *([] if bias is None else [("bias", bias, None)])]:
        check_tensor(name, value)
        shape = tuple(value.shape)
        wanted = (c_out,) if operand is None else operand.shape(c_in, c_out, problem.geometry, batch, size)
        one_for_all = operand is not None and operand.scope == "guide" and shape == (batch, 1, *size)
        if shape != wanted and not one_for_all:
            sizes = f"with C_in={c_in}, C_out={c_out}, groups={groups}"
            scope = "one per filter" if operand is None else f"{operand}, {sizes}"
            raise ShapeError(f"`{name}` must have shape {wanted} ({scope}), got {shape}")
        if value.dtype != x.dtype and not autocasts(x):
            raise DtypeError(
                f"`{name}` is {value.dtype} and `x` is {x.dtype}", way_out=f"Convert one of them: `{name}.to(x.dtype)`."
            )
        if value.device != x.device:
            raise DeviceError(
                f"`{name}` is on {value.device} and `x` on {x.device}",
                way_out=f"Move one of them: `{name}.to(x.device)`.",
            )


# asked once: torch.compile of torch 2.6 cannot ask
_CASTING = frozenset(kind for kind in ("cpu", "cuda", "xpu", "mps", "hpu") if torch.amp.is_autocast_available(kind))


def autocasts(x: Tensor) -> bool:
    """Whether autocast is on and would change the dtype of ``x``."""
    kind = x.device.type
    return kind in _CASTING and torch.is_autocast_enabled(kind) and x.is_floating_point() and x.dtype != torch.float64
