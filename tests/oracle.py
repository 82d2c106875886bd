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


class Scene:
    """A call as the user means it: tensors by name, their scopes, and a geometry; for maps of any operands.

    Args:
        scopes: by name: one of per_*, shared; ("guide",), ("guide", size), ("center", of), ("offsets",),
            ("per_site", along). A scope in a tuple with a last number ("per_tap", 3) is a vector of that size.
        mode: of the padding.
        whole: the map sees all taps of a channel at once.
    """

    def __init__(
        self, x, tensors, scopes, *, kernel, stride, before, dilation, groups, mode, out_channels, sites, whole=False
    ):
        self.x, self.tensors, self.scopes = x, tensors, scopes
        self.kernel, self.stride, self.before, self.dilation = kernel, stride, before, dilation
        self.groups, self.mode, self.out_channels, self.sites, self.whole = groups, mode, out_channels, sites, whole
        self.taps = list(itertools.product(*map(range, kernel)))

    def places(self, site):
        """The pixel that each tap sees, inside or outside the image."""
        steps = list(zip(site, self.stride, self.dilation, self.before, strict=True))
        return [[s * st + k * d - b for (s, st, d, b), k in zip(steps, tap, strict=True)] for tap in self.taps]

    def seen(self, site):
        """The taps that are not left out."""
        inside = [all(0 <= i < n for i, n in zip(p, self.x.shape[2:], strict=True)) for p in self.places(site)]
        return [t for t, here in enumerate(inside) if here or self.mode != "skip"]

    def image(self, image, site, taps):
        """``(n, g, 1, c, k)`` of an image that slides; one channel is all channels."""
        places = self.places(site)
        mode = "zeros" if self.mode == "skip" else self.mode
        pixels = torch.stack([_pixel(image, places[t], mode) for t in taps], -1)
        split = (self.groups, -1) if image.shape[1] == self.x.shape[1] else (1, 1)
        return pixels.reshape(image.shape[0], *split, len(taps)).unsqueeze(2)

    def number(self, value, scope, site, taps):
        """``(n, g, o, c, k)`` of one number of an operand; ``k`` holds ``taps``."""
        name, *more = scope if isinstance(scope, tuple) else (scope,)
        axes = {
            "per_tap": "ock",
            "per_filter": "o",
            "per_channel": "c",
            "per_pair": "oc",
            "per_offset": "k",
            "shared": "",
        }
        if name == "per_site":
            value, along = value[(..., *site)], more[0]
        else:
            along = axes[name]
        n = value.shape[0] if "n" in along else 1
        g = self.groups if set("oc") & set(along) else 1
        o = self.out_channels // g if "o" in along else 1
        c = self.x.shape[1] // self.groups if "c" in along else 1
        value = value.reshape(n, g, o, c, -1)
        return value[..., taps] if "k" in along else value

    def argument(self, name, site, taps):
        """What the map sees of an operand."""
        scope = self.scopes.get(name, "per_tap")
        kind, *more = scope if isinstance(scope, tuple) else (scope,)
        if kind == "offsets":
            middle = [k // 2 for k in self.kernel]
            return [
                torch.tensor([(self.taps[t][a] - middle[a]) * self.dilation[a] for t in taps], dtype=self.x.dtype)
                for a in range(len(self.kernel))
            ]
        if kind == "center":
            of = self.x if more[0] is None else self.tensors[more[0]]
            middle = self.taps.index(tuple(k // 2 for k in self.kernel))
            if len(more) == 1:
                return self.image(of, site, [middle])
            return [self.image(of[:, j : j + 1], site, [middle]) for j in range(more[1])]
        value = self.tensors[name]
        if kind == "guide":
            if more:
                return [self.image(value[:, j : j + 1], site, taps) for j in range(more[0])]
            return self.image(value, site, taps)
        vector = len(more) > (kind == "per_site") and more[-1]
        if vector:
            plain = scope[:-1] if kind == "per_site" else kind
            return [self.number(value[..., j], plain, site, taps) for j in range(vector)]
        return self.number(value, scope, site, taps)

    def run(self, function, names, reduce, epilogue=None, outer=()):
        """``y[n, o, *sites]``; ``reduce`` is a function of the values' list of ``(n, g, o, c, k)``, or names."""
        columns = []
        for site in itertools.product(*map(range, self.sites)):
            taps = self.seen(site)
            if self.whole:
                arguments = [self._whole(name, site) for name in (None, *names)]
                count = 1
            else:
                arguments = [self.image(self.x, site, taps), *(self.argument(name, site, taps) for name in names)]
                count = len(taps)
            made = function(*arguments)
            values = made if isinstance(made, tuple) else (made,)
            shape = (
                self.x.shape[0],
                self.groups,
                self.out_channels // self.groups,
                self.x.shape[1] // self.groups,
                count,
            )
            values = [torch.as_tensor(v).to(self.x.dtype).expand(shape) for v in values]
            y = self._reduce(values, reduce)
            if epilogue is not None:
                results = y if isinstance(y, list) else [y]
                after = [self.argument(name, site, [0])[..., 0, 0] for name in outer]
                y = epilogue(*results, *after)
            columns.append(y.expand(shape[:3]).flatten(1))
        return torch.stack(columns, -1).reshape(self.x.shape[0], self.out_channels, *self.sites)

    def _whole(self, name, site):
        """A list of what is seen at each tap; an operand without taps is one number."""
        scope = "pixel" if name is None else self.scopes.get(name, "per_tap")
        kind = scope[0] if isinstance(scope, tuple) else scope
        every = range(len(self.taps))
        if name is None:
            return [self.image(self.x, site, [t]) for t in every]
        if kind in ("per_tap", "per_offset", "guide") or (kind == "per_site" and "k" in scope[1]):
            return [self.argument(name, site, [t]) for t in every]
        return self.argument(name, site, [0])

    def _reduce(self, values, reduce):
        if isinstance(reduce, tuple) and reduce[0] == "over":
            _, taps, channels = reduce
            return REDUCE_ALL[channels]([REDUCE_ALL[taps](values)])
        flat = [v.flatten(-2) for v in values]
        if isinstance(reduce, tuple):
            return [REDUCE_ALL[name]([v]) for name, v in zip(reduce, flat, strict=True)]
        return REDUCE_ALL[reduce](flat)


def _selected(best):
    def reduce(values):
        key, value = values
        tied = (key == best(key)).to(value.dtype)
        return (tied * value).sum(-1) / tied.sum(-1)

    return reduce


REDUCE_ALL = {name: (lambda values, f=f: f(values[0])) for name, f in REDUCE.items()} | {
    "softmax": lambda values: (values[0].softmax(-1) * values[1]).sum(-1),
    "argmax": _selected(lambda key: key.detach().amax(-1, keepdim=True)),
    "argmin": _selected(lambda key: key.detach().amin(-1, keepdim=True)),
    "norm3": lambda values: torch.linalg.vector_norm(values[0], 3, -1),
    "norm1.5": lambda values: torch.linalg.vector_norm(values[0], 1.5, -1),
}
