"""Loops in Numba, over threads and vectors: the formulas once more, as scalar functions; Numba has no gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .cases import FORMULAS, Layer

OPERANDS = 8  # of the largest formula: every map takes so many, and ignores some


def _spline(  # noqa: PLR0917 - as in cases.py
    x: float, a: float, b: float, c: float, d: float, e: float, f: float, g: float, h: float
) -> float:
    place = (x + 2) * 1.75
    y = a * max(1 - abs(place), 0) + b * max(1 - abs(place - 1), 0) + c * max(1 - abs(place - 2), 0)
    y += d * max(1 - abs(place - 3), 0) + e * max(1 - abs(place - 4), 0) + f * max(1 - abs(place - 5), 0)
    return y + g * max(1 - abs(place - 6), 0) + h * max(1 - abs(place - 7), 0)


MAPS: dict[str, Callable[..., float]] = {
    "-|x-w|": lambda x, w, *_: -abs(x - w),
    "max x+w": lambda x, w, *_: x + w,
    "(x-w)^2": lambda x, w, *_: (x - w) * (x - w),
    "tanh(wx+b)": lambda x, w, b, *_: math.tanh(w * x + b),
    "prod tan(x+w)": lambda x, w, *_: math.tan(x + w),
    "gaussian": lambda x, w, s, *_: math.exp(-((x - w) * s * (x - w) * s)),
    "logsumexp x+w": lambda x, w, *_: x + w,
    "rational": lambda x, w, *_: (x + w) / (1 + x * x * w * w),
    "spline of 8": _spline,
    "where": lambda x, w, *_: x * w if x > w else np.float32(0.1) * x,
    "|x-w|^p": lambda x, w, p, *_: abs(x - w) ** p,
    "xw/|xw|": lambda x, w, *_: x * w / math.sqrt(x * x * w * w + np.float32(1e-3)),
    "sin(wx)": lambda x, w, *_: math.sin(w * x),
}
Fold = Callable[[float, float, float], tuple[float, float]]


def _logsumexp(largest: float, total: float, v: float) -> tuple[float, float]:
    top = max(largest, v)
    return top, total * math.exp(largest - top) + math.exp(v - top)


START = {"sum": 0.0, "prod": 1.0, "max": -1e38, "logsumexp": -1e38}  # of the first of two numbers; the other is 0
FOLD: dict[str, Fold] = {
    "sum": lambda a, b, v: (a + v, b),
    "prod": lambda a, b, v: (a * v, b),
    "max": lambda a, b, v: (max(a, v), b),
    "logsumexp": _logsumexp,
}


class NumbaLoops:
    """A way that has a forward pass alone."""

    forward_only = True

    def __init__(self, name: str, layer: Layer) -> None:
        reduce = FORMULAS[name].reduction.name
        self._axes = [operand.axes for operand in FORMULAS[name].parameters.values()]
        self._layer, self._is_log = layer, reduce == "logsumexp"
        self._run = _loops(MAPS[name], FOLD[reduce], np.float32(START[reduce]))

    def __call__(self, x: Tensor, *params: Tensor) -> Tensor:
        """The output."""
        layer, dims = self._layer, len(x.shape) - 2
        padded = F.pad(x.detach(), [layer.padding] * (2 * dims))
        front = (1,) * (3 - dims)
        padded = padded.reshape(*padded.shape[:2], *front, *padded.shape[2:])
        shape = (layer.filters, layer.channels // layer.groups, *front, *(layer.kernel,) * dims)
        each = [
            (p.detach().reshape(shape) if along == "ock" else p.detach().reshape(-1, 1, 1, 1, 1).expand(shape)).numpy()
            for p, along in zip(params, self._axes, strict=True)
        ]
        operands = np.stack([*each, *[each[0]] * (OPERANDS - len(each))], axis=-1)
        sites = [(n + 2 * layer.padding - layer.kernel) // layer.stride + 1 for n in x.shape[2:]]
        y = np.empty((2, x.shape[0], layer.filters, *front, *sites), np.float32)
        strides = (*front, *(layer.stride,) * dims)
        self._run(padded.numpy(), operands, y, strides, layer.filters // layer.groups)
        found = y[0] + np.log(y[1]) if self._is_log else y[0]
        return torch.from_numpy(found).reshape(x.shape[0], layer.filters, *sites)


def _loops(map_: Callable[..., float], fold: Fold, start: Any) -> Any:
    value, join = numba.njit(fastmath=True)(map_), numba.njit(fastmath=True)(fold)

    def run(x: Any, operands: Any, y: Any, strides: Any, filters: int) -> None:
        _, batch, outputs, deep, high, wide = y.shape
        _, channels, taps_d, taps_h, taps_w, _ = operands.shape
        for task in numba.prange(batch * outputs * deep * high):
            h, d, o, n = (
                task % high,
                task // high % deep,
                task // high // deep % outputs,
                task // high // deep // outputs,
            )
            first, second = y[0, n, o, d, h], y[1, n, o, d, h]
            first[:], second[:] = start, np.float32(0)
            for c in range(channels):
                for i in range(taps_d):
                    for j in range(taps_h):
                        row = x[n, o // filters * channels + c, d * strides[0] + i, h * strides[1] + j]
                        for k in range(taps_w):
                            p = operands[o, c, i, j, k]
                            p0, p1, p2, p3, p4, p5, p6, p7 = p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7]
                            for w in range(wide):  # neighbors in memory: the compiler's vectors
                                v = value(row[w * strides[2] + k], p0, p1, p2, p3, p4, p5, p6, p7)
                                first[w], second[w] = join(first[w], second[w], v)

    return numba.njit(parallel=True, fastmath=True)(run)
