"""autograd: the functions by which a convolution takes part in autograd and in ``torch.func``.

The backward pass is a function of its own, so that it can be differentiated too. What moves an output, and what moves a
gradient, are convolutions of the formula's tangent (:mod:`.tangent`): forward-mode derivatives and second derivatives
need no kernels of their own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import operators
from .backends.formats import compute_dtype
from .backends.sums import bias_gradient
from .batched import OUTPUT, Fold, axes_of
from .call import Call
from .errors import BackendError
from .moved import Added, moved

Run = Callable[..., Any]


class Convolve(torch.autograd.Function):
    """``(y, kept)`` of a bias and the tensors of a call; ``saves`` where gradients will be asked for."""

    @staticmethod
    def forward(call: Call, saves: bool, bias: Tensor | None, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        return operators.forward(call, bias, tensors, saves=saves)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        call, _, bias, *tensors = inputs
        _, kept = output
        ctx.call = call
        ctx.bias_dtype = None if bias is None else bias.dtype
        ctx.mark_non_differentiable(kept)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(kept, *tensors)
        ctx.save_for_forward(kept, *tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
        if grad is None:
            return (None,) * len(ctx.needs_input_grad)
        call: Call = ctx.call
        _, _, wants_bias, *needs = ctx.needs_input_grad
        kept, *tensors = ctx.saved_tensors  # once: torch.utils.checkpoint recomputes what is asked for
        g_bias = None
        if wants_bias:
            g_bias = bias_gradient(grad.to(compute_dtype(grad.dtype))).to(ctx.bias_dtype)
        wanted = _wanted(call, needs)
        found = dict(zip(wanted, Gradients.apply(call, wanted, grad, kept, *tensors), strict=True)) if wanted else {}  # type: ignore[no-untyped-call]
        return None, None, g_bias, *_all(call, needs, tensors, found)

    @staticmethod
    def jvp(ctx: Any, _call: Any, _saves: Any, bias: Tensor | None, *moves: Tensor | None) -> tuple[Tensor, None]:
        call: Call = ctx.call
        _, *tensors = ctx.saved_tensors
        x = tensors[0]
        moving = moved(call, tensors, moves)
        if moving is None and bias is not None:
            moving = moved(call, tensors, [torch.zeros_like(x), *moves[1:]])
        if moving is None:
            return x.new_zeros((x.shape[0], call.problem.out_channels, *call.geometry.sites(tuple(x.shape[2:])))), None
        move, _ = Convolve.apply(moving.call, True, bias, *moving.tensors)  # type: ignore[no-untyped-call]
        return move, None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], call: Call, saves: bool, bias: Tensor | None, *tensors: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, None]]:
        return _convolve_all(Convolve.apply, info, in_dims, call, saves, bias, *tensors)


class Gradients(torch.autograd.Function):
    """The gradients of the tensors ``wanted``, of that of the output."""

    @staticmethod
    def forward(
        call: Call, wanted: tuple[str, ...], grad: Tensor, kept: Tensor, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        return operators.gradients(call, wanted, grad, kept, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        call, wanted, *given = inputs
        ctx.call, ctx.wanted = call, wanted
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*given)
        ctx.save_for_forward(*given)

    @staticmethod
    def backward(ctx: Any, *moves: Tensor | None) -> tuple[Tensor | None, ...]:
        # <moves, gradients> is <grad, how the output moves>: its gradients are those of that convolution
        call: Call = ctx.call
        _, _, wants_grad, _, *needs = ctx.needs_input_grad
        grad, _, *tensors = ctx.saved_tensors
        given = dict(zip(ctx.wanted, moves, strict=True))
        moving = moved(call, tensors, [given.get(name) for name in call.names])
        if moving is None:
            return (None,) * len(ctx.needs_input_grad)
        y, kept = Convolve.apply(moving.call, True, None, *moving.tensors)  # type: ignore[no-untyped-call]
        wanted, found = _wanted(call, needs), {}
        if wanted:
            back = Gradients.apply(moving.call, wanted, grad, kept, *moving.tensors)  # type: ignore[no-untyped-call]
            found = {name: moving.unpadded(name, d) for name, d in zip(wanted, back, strict=True)}
        return None, None, y if wants_grad else None, None, *_all(call, needs, tensors, found)

    @staticmethod
    def jvp(
        ctx: Any, _call: Any, _wanted: Any, grad_move: Tensor | None, _kept: Any, *moves: Tensor | None
    ) -> tuple[Tensor, ...]:
        call: Call = ctx.call
        grad, kept, *tensors = ctx.saved_tensors
        totals: list[Tensor] = []
        if grad_move is not None:
            totals = list(Gradients.apply(call, ctx.wanted, grad_move, kept, *tensors))  # type: ignore[no-untyped-call]
        moving = moved(call, tensors, moves, of_gradient=True)
        if moving is not None:
            found = Gradients.apply(moving.call, ctx.wanted, grad, kept.new_empty(0), *moving.tensors)  # type: ignore[no-untyped-call]
            more = [moving.unpadded(name, d) for name, d in zip(ctx.wanted, found, strict=True)]
            totals = [Added.apply(a, b) for a, b in zip(totals, more, strict=True)] if totals else more  # type: ignore[no-untyped-call]
        named = call.named(tensors)
        return tuple(totals) or tuple(torch.zeros_like(named[name]) for name in ctx.wanted)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[Any, ...], call: Call, wanted: tuple[str, ...], grad: Tensor, kept: Tensor,
        *tensors: Tensor,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:  # fmt: skip
        return _gradients_of_all(Gradients.apply, info, in_dims, call, wanted, grad, *tensors)


def _convolve_all(
    run: Run, info: Any, in_dims: tuple[Any, ...], call: Call, saves: bool, bias: Tensor | None, *tensors: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[int, None]]:
    """What ``run``, one of the ways to convolve, makes of all the calls of a vmap."""
    _, _, bias_dim, *dims = in_dims
    fold = Fold.of(call, info.batch_size, tensors, dims, more=() if bias_dim is None else ("o",))
    if fold is None:
        each = [run(call, saves, _one(bias, bias_dim, i), *_each(tensors, dims, i))[0] for i in range(info.batch_size)]
        y = torch.stack(each)
    else:
        axes = axes_of(call)
        given = [fold.put(t, dim, axes[name]) for name, t, dim in zip(call.names, tensors, dims, strict=True)]
        more = None if bias is None else fold.put(bias, bias_dim, "o")
        y = fold.taken(run(fold.call(call), saves, more, *given)[0], OUTPUT)
    return (y, y.new_empty(0)), (0, None)  # what is kept is that of all; the gradients find it again


def _gradients_of_all(
    run: Run, info: Any, in_dims: tuple[Any, ...], call: Call, wanted: tuple[str, ...], grad: Tensor, *tensors: Tensor
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """What ``run``, one of the ways to differentiate, makes of all the calls of a vmap."""
    _, _, grad_dim, _, *dims = in_dims
    axes, kept = axes_of(call), grad.new_empty(0)
    fold = Fold.of(call, info.batch_size, tensors, dims, wanted=wanted)
    if fold is None:
        each = [
            run(call, wanted, _one(grad, grad_dim, i), kept, *_each(tensors, dims, i)) for i in range(info.batch_size)
        ]
        return tuple(map(torch.stack, zip(*each, strict=True))), (0,) * len(wanted)
    given = [fold.put(t, dim, axes[name]) for name, t, dim in zip(call.names, tensors, dims, strict=True)]
    found = run(fold.call(call), wanted, fold.put(grad, grad_dim, OUTPUT), kept, *given)
    taken = (fold.taken(d, axes[name]) for name, d in zip(wanted, found, strict=True))
    return tuple(taken), (0,) * len(wanted)


_forwards: tuple[Any, ...] = (Convolve.forward, Gradients.forward)
for _function in _forwards:  # PyTorch asks for it at each call, and would read it anew
    _function.__signature__ = inspect.signature(_function)


def _wanted(call: Call, needs: Sequence[bool]) -> tuple[str, ...]:
    """The names of the tensors whose gradients are needed, and exist."""
    return tuple(name for name, need in zip(call.names, needs, strict=True) if need and name not in call.frozen)


def _all(call: Call, needs: Sequence[bool], tensors: Sequence[Tensor], found: dict[str, Tensor]) -> list[Tensor | None]:
    """The gradient of each tensor: of what is frozen 0, if somebody asks."""
    named = zip(call.names, needs, tensors, strict=True)
    return [torch.zeros_like(t) if need and name in call.frozen else found.get(name) for name, need, t in named]


def _one(tensor: Tensor | None, dim: int | None, i: int) -> Tensor | None:
    return tensor if dim is None or tensor is None else tensor.select(dim, i)


def _each(tensors: Sequence[Tensor], dims: Sequence[int | None], i: int) -> list[Tensor | None]:
    return [_one(t, dim, i) for t, dim in zip(tensors, dims, strict=True)]


@torch.library.impl("anyconv::convolve", "Autograd")
def _convolve(x: Tensor, operands: list[Tensor], bias: Tensor | None, *told: Any) -> tuple[Tensor, Tensor]:
    """What a compiled graph holds, where autograd meets it."""
    *arguments, saves = told
    call = Call.read(x, tuple(arguments))
    found: tuple[Tensor, Tensor] = Convolve.apply(call, saves, bias, x, *operands)  # type: ignore[no-untyped-call]
    return found


def _vmap_of(operator: Any) -> Run:
    """The operator's own rule, for what meets vmap outside of a function above: a compiled graph, a forward mode."""

    def run(call: Call, saves: bool, bias: Tensor | None, x: Tensor, *operands: Tensor) -> Any:
        return operator.default(x, list(operands), bias, *call.arguments, saves)

    def rule(info: Any, in_dims: Any, x: Tensor, operands: list[Tensor], bias: Tensor | None, *told: Any) -> Any:
        *arguments, saves = told
        dims = _dims(in_dims[0], in_dims[1], operands)
        call = Call.read(_first(x, dims[0]), tuple(arguments))
        return _convolve_all(run, info, (None, None, in_dims[2], *dims), call, saves, bias, x, *operands)

    return rule


def _vmap_of_gradients(
    info: Any, in_dims: Any, x: Tensor, operands: list[Tensor], kept: Tensor, grad: Tensor, *told: Any
) -> tuple[list[Tensor], list[int]]:
    *arguments, flags = told
    dims = _dims(in_dims[0], in_dims[1], operands)
    call = Call.read(_first(x, dims[0]), tuple(arguments))
    wanted = tuple(name for name, flag in zip(call.names, flags, strict=True) if flag)

    def run(call: Call, wanted: tuple[str, ...], grad: Tensor, kept: Tensor, *tensors: Tensor) -> Any:
        return operators.gradients(call, wanted, grad, kept, tensors)

    found, places = _gradients_of_all(
        run, info, (None, None, in_dims[3], None, *dims), call, wanted, grad, x, *operands
    )
    return list(found), list(places)


def _dims(of_x: int | None, of_operands: Any, operands: list[Tensor]) -> tuple[int | None, ...]:
    """One for each tensor; of a list none of which varies, PyTorch says so once."""
    return (of_x, *(of_operands or [None] * len(operands)))


def _first(x: Tensor, dim: int | None) -> Tensor:
    return x if dim is None else x.select(dim, 0)


def _refuse_old_vmap(*_: Any) -> None:
    raise BackendError(
        "`is_grads_batched=True` and `vectorize=True` of torch.autograd batch in a way of their own, which custom "
        "operators of PyTorch do not know",
        way_out="Use torch.func.jacrev, jacfwd, hessian or vmap.",
    )


torch.library.register_vmap("anyconv::convolve", _vmap_of(operators.CONVOLVE))
torch.library.register_vmap("anyconv::forward", _vmap_of(operators.FORWARD))
torch.library.register_vmap("anyconv::gradients", _vmap_of_gradients)
for _name in ("convolve", "forward", "gradients"):
    torch.library.impl(f"anyconv::{_name}", "Batched")(_refuse_old_vmap)
