"""launch: a call of kernels with tensors, forward and backward."""

from __future__ import annotations

import contextlib
from types import ModuleType

import torch
from torch import Tensor

from ..formats import compute_dtype, empty_like, parts_like
from ..outer import outer_gradients
from . import general, tiled
from .call import Call, Outputs
from .cut import is_tiled


def _on_device_of(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Triton launches on the current device, which need not be that of the tensors."""
    devices = {"cuda": torch.cuda, "xpu": getattr(torch, "xpu", None)}.get(x.device.type)
    return contextlib.nullcontext() if devices is None else devices.device_of(x)


def forward(call: Call, tensors: dict[str, Tensor], bias: Tensor | None, *, saves: bool) -> tuple[Tensor, Tensor]:
    """``y[n, o, *sites]`` of ``x[n, c, *size]``, and a vector of the parts of the state that are kept."""
    x, functor = tensors[call.names[0]], call.functor
    with _on_device_of(x):
        y = empty_like(x, (call.batch, call.problem.out_channels, *call.geometry.sites(call.x_shape[2:])), x.dtype)
        count = len(functor.saved) if saves else 0
        kept = y.new_empty(count * y.numel(), dtype=compute_dtype(y.dtype))
        state = parts_like(y, kept) if count else None
        dense = None if bias is None else bias.contiguous()  # kernels have strides of all tensors but this
        _way(call).forward(call, tensors, dense, Outputs(y, state))
    return y, kept


def gradients(
    call: Call, tensors: dict[str, Tensor], kept: Tensor, grad: Tensor, wanted: set[str]
) -> dict[str, Tensor]:
    """The gradients of the tensors that are wanted, of that of the output."""
    x, grad = tensors[call.names[0]], grad.resolve_neg()
    with _on_device_of(grad):
        state = None
        if kept.numel():  # laid as the output was, which its gradient need not be
            state = parts_like(empty_like(x, tuple(grad.shape), x.dtype, "meta"), kept)
        outputs = Outputs(grad, state)
        found = outer_gradients(call.problem, tensors, outputs.state, grad, wanted) if call.layout.outer else {}
        targets = [i for i, v in enumerate(call.seen) if v.source in wanted and not v.frozen]
        _way(call).gradients(call, tensors, outputs, targets, found)
    return {name: d.to(tensors[name].dtype) for name, d in found.items()}


def _way(call: Call) -> ModuleType:
    return tiled if is_tiled(call.problem.mathematics) else general
