"""launch: a call of kernels with tensors, as an autograd function."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor

from ...errors import BackendError
from ...plan import Problem
from ..formats import compute_dtype, empty_like, parts_like
from ..outer import outer_gradients
from ..sums import bias_gradient
from . import general, tiled
from .call import Call, Outputs
from .cut import is_tiled


def convolve(x: Tensor, operands: dict[str, Tensor], bias: Tensor | None, problem: Problem) -> Tensor:
    """``y[n, o, *sites]`` of ``x[n, c, *size]``, differentiable once in ``x``, ``operands`` and ``bias``."""
    call = Call(problem, (problem.formula.pixel, *operands), tuple(x.shape))
    tensors = (x, *operands.values())
    trains = torch.is_grad_enabled() and any(t.requires_grad for t in (*tensors, *([] if bias is None else [bias])))
    y: Tensor = _Triton.apply(call, trains, bias, *tensors)  # type: ignore[no-untyped-call]
    return y


def _on_device_of(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device, which need not be that of the tensors."""
    devices = {"cuda": torch.cuda, "xpu": getattr(torch, "xpu", None)}.get(x.device.type)
    return contextlib.nullcontext() if devices is None else devices.device_of(x)


class _Triton(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: Call, trains: bool, bias: Tensor | None, *tensors: Tensor) -> Tensor:
        with _on_device_of(tensors[0]):
            y, state = _forward(call, dict(zip(call.names, tensors, strict=True)), bias, saves=trains)
        ctx.call = call
        if trains:
            ctx.save_for_backward(*tensors, *([] if state is None else [state]))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        call: Call = ctx.call
        if torch.is_grad_enabled():
            raise BackendError(
                f"{call.problem.formula}: create_graph=True, but the triton backend differentiates only once",
                way_out="Drop create_graph=True, or keep this layer out of what is differentiated twice.",
            )
        count = len(call.names)
        saved = ctx.saved_tensors
        tensors = dict(zip(call.names, saved[:count], strict=True))
        state = saved[count] if len(saved) > count else None
        _, _, wants_bias, *needed = ctx.needs_input_grad
        dtype = saved[0].dtype
        g_bias = bias_gradient(grad.to(compute_dtype(dtype))).to(dtype) if wants_bias else None
        wanted = {name for name, need in zip(call.names, needed, strict=True) if need}
        with _on_device_of(grad):
            found = _backward(call, tensors, Outputs(grad.resolve_neg(), state), wanted) if wanted else {}
        return None, None, g_bias, *(found.get(name) for name in call.names)


def _forward(
    call: Call, tensors: dict[str, Tensor], bias: Tensor | None, *, saves: bool
) -> tuple[Tensor, Tensor | None]:
    x, functor = tensors[call.names[0]], call.functor
    y = empty_like(x, (call.batch, call.problem.out_channels, *call.geometry.sites(call.x_shape[2:])), x.dtype)
    state = None
    if saves and functor.saved:
        state = parts_like(y, len(functor.saved))
    way = tiled if is_tiled(call.problem.mathematics) else general
    way.forward(call, tensors, bias, Outputs(y, state))
    return y, state


def _backward(call: Call, tensors: dict[str, Tensor], outputs: Outputs, wanted: set[str]) -> dict[str, Tensor]:
    outer = call.layout.outer
    found = outer_gradients(call.problem, tensors, outputs.state, outputs.y, wanted) if outer else {}
    targets = [i for i, v in enumerate(call.seen) if v.source in wanted and not v.frozen]
    way = tiled if is_tiled(call.problem.mathematics) else general
    way.gradients(call, tensors, outputs, targets, found)
    return {name: d.to(tensors[name].dtype) for name, d in found.items()}
