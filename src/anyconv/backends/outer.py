"""The gradients of what an epilogue sees beside reduced values, where a kernel computes the rest."""

from __future__ import annotations

import torch
from torch import Tensor

from ..plan import Problem
from .epilogue import finish_gradients
from .functor import functor
from .spread import Spread
from .sums import add
from .torch_library import torch_library


def outer_gradients(
    problem: Problem, tensors: dict[str, Tensor], state: Tensor | None, grad: Tensor, wanted: set[str]
) -> dict[str, Tensor]:
    """The gradients of what the epilogue sees, in double: sums over all that it does not vary along.

    Args:
        tensors: by name, the pixel's first.
        state: the parts that the functor saves, ``(part, n, o, *sites)``.
        grad: of the outputs, ``(n, o, *sites)``.
    """
    m = problem.mathematics
    outer = {v.name: v for v in m.outer if v.source in wanted and not v.frozen}
    if not outer:
        return {}
    compute = torch.float64 if grad.dtype == torch.float64 else torch.float32
    library = torch_library(compute)
    x = tensors[problem.formula.pixel]
    spread = Spread(problem.geometry, tuple(x.shape), problem.out_channels)
    values = {v.name: spread(v, tensors[v.source])[0, 0].to(compute) for v in m.outer}
    shape = (len(grad), problem.geometry.groups, -1, *grad.shape[2:])
    saved = functor(m).saved
    parts = {part: s.reshape(shape) for part, s in zip(saved, () if state is None else state, strict=True)}
    for part in set(m.kept) - set(parts):  # those that count are not saved
        parts[part] = _counts(problem, x).to(compute).expand_as(grad).reshape(shape)
    _, found = finish_gradients(m, parts, values, grad.reshape(shape).to(compute), library)
    totals = {
        v.source: torch.zeros(tensors[v.source].shape, dtype=torch.float64, device=x.device) for v in outer.values()
    }
    for name, v in outer.items():
        add(spread(v, totals[v.source])[0, 0], found[name].double())
    return totals


def _counts(problem: Problem, x: Tensor) -> Tensor:
    """How many values the field of each site has, ``(*sites)``."""
    g, m, size = problem.geometry, problem.mathematics, tuple(x.shape[2:])
    channels = x.shape[1] // g.groups
    if m.field is not None or m.inner is not None:  # one of each channel
        return torch.full((), channels, device=x.device)
    counts = torch.zeros(g.sites(size), device=x.device)
    for k in g.offsets():
        counts[g.valid(k, size) if g.mode == "skip" else ...] += channels
    return counts
