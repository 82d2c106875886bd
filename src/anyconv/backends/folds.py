"""Folds: a reduction on tensors, as the reference backend computes it; each part of a state is a tensor."""

from __future__ import annotations

from dataclasses import dataclass
from types import EllipsisType

import torch
from torch import Tensor

from ..expr.evaluate import evaluate_all
from ..expr.expr import const
from ..geometry import Ints
from ..reductions import Reduction
from .torch_library import torch_library

State = tuple[Tensor, ...]
Place = tuple[slice | EllipsisType, ...]


@dataclass(frozen=True)
class Fold:
    """A reduction in a dtype."""

    reduction: Reduction
    dtype: torch.dtype

    @property
    def moved(self) -> tuple[bool, ...]:
        """Say for each value whether the result moves with it; not so with the key of an argmax, whatever its slope."""
        return tuple(adjoint != const(0.0) for adjoint in self.reduction.exprs["adjoint"])

    def empty(self, shape: Ints, like: Tensor) -> State:
        """The state of empty receptive fields."""
        identity = evaluate_all(self.reduction.exprs["identity"], {}, torch_library(self.dtype))
        return tuple(like.new_full(shape, float(i), dtype=self.dtype) for i in identity)

    def single(self, values: State) -> State:
        """The states of fields of one value each."""
        r, library = self.reduction, torch_library(self.dtype)
        identity = dict(zip(r.state, evaluate_all(r.exprs["identity"], {}, library), strict=True))
        parts = evaluate_all(r.exprs["step"], {**identity, **dict(zip(r.values, values, strict=True))}, library)
        like = values[0]
        return tuple(torch.as_tensor(p, dtype=self.dtype, device=like.device).expand(like.shape) for p in parts)

    def merge(self, a: State, b: State) -> State:
        """Two states joined."""
        r = self.reduction
        left = {f"a_{part}": s for part, s in zip(r.state, a, strict=True)}
        right = {f"b_{part}": s for part, s in zip(r.state, b, strict=True)}
        joined: State = evaluate_all(r.exprs["merge"], left | right, torch_library(self.dtype))
        return joined

    def over(self, values: State) -> State:
        """The states of the values along the first axis, merged in halves."""
        states = self.single(values)
        while (count := states[0].shape[0]) > 1:
            half = count // 2
            merged = self.merge(tuple(s[:half] for s in states), tuple(s[half : 2 * half] for s in states))
            rest = (s[2 * half :] for s in states)
            states = tuple(torch.cat([m, r]) if count % 2 else m for m, r in zip(merged, rest, strict=True))
        return tuple(s[0] for s in states)

    def absorb(self, state: State, here: Place, new: State) -> None:
        """``state`` at a place <- what is there, joined with ``new``."""
        targets = tuple(s[here] for s in state)
        for target, joined in zip(targets, self.merge(targets, new), strict=True):
            target.copy_(joined)

    def results(self, state: State) -> State:
        """The values of states."""
        r, like = self.reduction, state[0]
        values = evaluate_all(r.exprs["result"], dict(zip(r.state, state, strict=True)), torch_library(self.dtype))
        return tuple(torch.as_tensor(v, dtype=self.dtype, device=like.device).expand(like.shape) for v in values)

    def adjoints(self, state: dict[str, Tensor], values: State) -> State:
        """d(result)/d(value) for each value, from the final state."""
        r = self.reduction
        named = state | dict(zip(r.values, values, strict=True))
        found: State = evaluate_all(r.exprs["adjoint"], named, torch_library(self.dtype))
        return found
