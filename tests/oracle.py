"""The naive oracle: the user's own function on gathered receptive fields, one site at a time, torch's own reductions.

It shares no code with the library: index arithmetic, padding, operands and reductions are written out again.
"""

import itertools
import math

import torch
from torch import Tensor

REDUCE = {
    "sum": lambda v: v.sum(-1),
    "mean": lambda v: v.mean(-1),
    "prod": lambda v: v.prod(-1),
    "max": lambda v: v.amax(-1),
    "min": lambda v: v.amin(-1),
    "logsumexp": lambda v: v.logsumexp(-1),
}


EMPTY = {"sum": 0.0, "mean": math.nan, "prod": 1.0, "max": -math.inf, "min": math.inf, "logsumexp": -math.inf}


def convolve(
    x: Tensor, params: dict[str, Tensor], function, reduce: str, *, kernel, stride, before, dilation, groups=1,
    mode="zeros", scopes=None, out_channels, sites,
) -> Tensor:  # fmt: skip
    """``y[n, o, *sites]``, in the dtype of ``x``, differentiable by torch's autograd."""
    taps = list(itertools.product(*map(range, kernel)))
    operands = [_spread(p, (scopes or {}).get(name, "per_tap"), groups) for name, p in params.items()]
    columns = []
    for site in itertools.product(*map(range, sites)):
        seen, pixels = [], []
        for t, tap in enumerate(taps):
            where = [s * st + k * d - b for s, st, k, d, b in zip(site, stride, tap, dilation, before, strict=True)]
            pixel = _pixel(x, where, mode)
            if pixel is not None:
                seen.append(t)
                pixels.append(pixel)
        shape = (x.shape[0], groups, 1, x.shape[1] // groups, len(seen))
        field = torch.stack(pixels, -1).reshape(shape) if seen else x.new_zeros(shape)
        v = function(field, *(p[..., seen] if p.shape[-1] > 1 else p for p in operands))
        full = (*shape[:2], out_channels // groups, *shape[3:])
        v = torch.as_tensor(v).to(x.dtype).expand(full).flatten(-2)
        y = REDUCE[reduce](v) if seen else torch.full(full[:3], EMPTY[reduce], dtype=x.dtype)
        columns.append(y.flatten(1))
    return torch.stack(columns, -1).reshape(x.shape[0], out_channels, *sites)


def _pixel(x: Tensor, where: list[int], mode):
    inside = all(0 <= i < n for i, n in zip(where, x.shape[2:], strict=True))
    if inside:
        return x[(slice(None), slice(None), *where)]
    if mode == "skip":
        return None
    if mode == "zeros" or isinstance(mode, float):
        return torch.full(x.shape[:2], 0.0 if mode == "zeros" else mode, dtype=x.dtype)
    moved = {
        "replicate": lambda i, n: min(max(i, 0), n - 1),
        "circular": lambda i, n: i % n,
        "reflect": lambda i, n: abs(i) if i < n else 2 * (n - 1) - i,
    }[mode]
    return x[(slice(None), slice(None), *(moved(i, n) for i, n in zip(where, x.shape[2:], strict=True)))]


def _spread(p: Tensor, scope: str, groups: int) -> Tensor:
    """An operand as ``(1, g, o, c, k)``."""
    if scope == "per_tap":
        return p.reshape(1, groups, p.shape[0] // groups, p.shape[1], -1)
    if scope == "per_filter":
        return p.reshape(1, groups, -1, 1, 1)
    if scope == "per_channel":
        return p.reshape(1, groups, 1, -1, 1)
    return p.reshape(1, 1, 1, 1, 1)


def out_size(size, kernel, stride, before, after, dilation):
    """Sites per axis, by counting them."""
    counts = []
    for n, k, s, b, a, d in zip(size, kernel, stride, before, after, dilation, strict=True):
        last_start = n + a - d * (k - 1) - 1
        counts.append(len(range(-b, last_start + 1, s)))
    return tuple(counts)
