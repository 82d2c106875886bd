"""The epilogue on whole tensors: outputs of reduced states, and what the gradient of the outputs is to both.

It works output by output, one image at a time, so that what it needs in between is small beside the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..expr import evaluate
from ..expr.evaluate import evaluate_all
from ..mathematics import Mathematics

Library = Mapping[str, Callable[..., Any]]


def finish(mathematics: Mathematics, state: dict[str, Tensor], outer: dict[str, Tensor], library: Library) -> Any:
    """The outputs of final states ``(n, g, o, *sites)``."""
    results = evaluate_all(mathematics.reduction.exprs["result"], state, library)
    return evaluate(mathematics.finish, outer | dict(zip(mathematics.accumulators, results, strict=True)), library)


def finish_gradients(
    mathematics: Mathematics, state: dict[str, Tensor], outer: dict[str, Tensor], grad: Tensor, library: Library
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """The gradient of each result, and of each operand of the epilogue at each output.

    Args:
        state: the parts that the mathematics keep.
        outer: the operands, with the axes ``(n, g, o, *sites)``, of extent 1 where they do not vary.
        grad: of the outputs, ``(n, g, o, *sites)``.
    """
    if not mathematics.has_epilogue:
        return [grad], {}
    g_results = [torch.empty_like(grad) for _ in mathematics.accumulators]
    g_outer = {name: torch.empty_like(grad) for name in outer}
    known = {part: state.get(part, grad) for part in mathematics.reduction.state}  # what is not kept is not used
    for n in range(len(grad)):
        here = evaluate_all(mathematics.reduction.exprs["result"], {p: s[n] for p, s in known.items()}, library)
        shape = grad[n].shape
        leaves = [torch.as_tensor(r, dtype=grad.dtype, device=grad.device).expand(shape).detach() for r in here]
        leaves += [o[n if o.shape[0] > 1 else 0].expand(shape).detach() for o in outer.values()]
        for leaf in leaves:
            leaf.requires_grad_()
        with torch.enable_grad():
            names = (*mathematics.accumulators, *outer)
            y = evaluate(mathematics.finish, dict(zip(names, leaves, strict=True)), library)
        found: tuple[Tensor | None, ...] = (None,) * len(leaves)
        if isinstance(y, Tensor) and y.requires_grad:
            found = torch.autograd.grad(y, leaves, grad[n].expand_as(y), allow_unused=True)
        for to, d in zip([*g_results, *g_outer.values()], found, strict=True):
            to[n] = 0.0 if d is None else d
    return g_results, g_outer
