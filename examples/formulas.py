"""The formulas that the demo filters and learns with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

import anyconv
from anyconv import Formula


def _around_a_quarter_pi(w: Tensor) -> Tensor:
    """Where the tangent is about 1 or -1: a product of many neither vanishes nor explodes, and the poles are far.

    At a quarter pi it grows with the pixel, at minus a quarter pi its size falls, so the filters begin different.
    """
    signs = torch.randint(0, 2, w.shape) * 2 - 1
    return w.normal_(math.pi / 4, 0.1).mul_(signs)


LEARNED = {
    "product of tangents": Formula(
        lambda x, w: torch.tan(x + w), reduce="prod", operands={"w": anyconv.per_tap(init=_around_a_quarter_pi)}
    ),
    "adder": Formula(lambda x, w: -torch.abs(x - w)),
    "dilation": Formula(lambda x, w: x + w, reduce="max"),
    "erosion": Formula(lambda x, w: x - w, reduce="min"),
    "soft dilation": Formula(lambda x, w: 4 * (x + w), reduce="logsumexp"),
    "dendrites": Formula(lambda x, w, b: torch.tanh(w * x + b)),
    "radial basis": Formula(
        lambda x, w, s: torch.exp(-(((x - w) * s) ** 2)),
        reduce="mean",
        operands={"s": anyconv.per_filter(init=5.0)},
    ),
}


def _bowl(size: int, depth: float) -> Tensor:
    """A parabola that is 0 in the middle and ``-depth`` at the middle of an edge."""
    r = torch.linspace(-1, 1, size)
    return -depth * (r[:, None] ** 2 + r[None, :] ** 2)


def _laplacian() -> Tensor:
    return torch.tensor([[1.0, 1.0, 1.0], [1.0, -8.0, 1.0], [1.0, 1.0, 1.0]]) / 2


FILTERS: dict[str, tuple[Formula, Tensor]] = {  # title -> a formula of a pixel in [0, 1], and one kernel
    "product of tangents": (Formula(lambda x, w: torch.tan(x + w), reduce="prod"), torch.full((3, 3), 0.285)),
    "dilation by a bowl": (Formula(lambda x, w: x + w, reduce="max"), _bowl(11, 0.3)),
    "erosion by a bowl": (Formula(lambda x, w: x - w, reduce="min"), _bowl(11, 0.3)),
    "soft dilation": (Formula(lambda x, w: 30 * (x + w), reduce="logsumexp"), _bowl(7, 0.3)),
    "distance to a step": (Formula(lambda x, w: -torch.abs(x - w)), (torch.arange(7) > 3).float().expand(7, 7)),
    "saturating edges": (Formula(lambda x, w: torch.tanh(w * (x - 0.5))), _laplacian()),
    "share of mid-tones": (Formula(lambda x, w: torch.exp(-((8 * (x - w)) ** 2)), "mean"), torch.full((9, 9), 0.4)),
}
