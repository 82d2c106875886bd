"""Places: random geometries and sizes. A case has few numbers, so that thousands of cases take a minute."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random
from typing import Any

from .case import Ints, Place, Source

MODES: tuple[str | float, ...] = ("zeros", "skip", "reflect", "replicate", "circular", 0.5)
MANY = 3000  # evaluations of a map in a case
# groups, channels and filters of a group, by the lanes that a kernel shall have: the forward pass has lanes of
# filters and the backward pass of channels where they fill vectors, else of sites
CHANNELS: dict[str, tuple[Ints, ...]] = {
    "any": (
        (1, 1, 1), (1, 2, 3), (1, 3, 2), (2, 2, 1), (2, 1, 2), (3, 1, 1), (1, 1, 9), (1, 9, 2), (2, 3, 2), (1, 4, 4), (1, 2, 17),
    ),
    "planes": ((1, 1, 1), (1, 2, 3), (1, 3, 2), (2, 2, 1), (2, 1, 2), (1, 1, 9), (1, 9, 2), (2, 3, 2), (1, 17, 1)),
    "sites": ((1, 1, 1), (1, 2, 1), (1, 1, 2), (2, 2, 1), (2, 1, 2), (1, 2, 2)),
    "filters": ((1, 1, 17), (1, 2, 16), (2, 1, 19), (1, 1, 35)),
    "channels": ((1, 17, 1), (1, 16, 2), (2, 19, 1), (1, 35, 1)),
    "both": ((1, 17, 16), (1, 16, 18)),
    "groups": ((17, 1, 1), (20, 1, 1), (33, 1, 1)),
    "small": ((1, 1, 1), (1, 2, 1), (1, 1, 2), (2, 1, 1), (1, 2, 2)),
}  # fmt: skip
WIDE = ("filters", "channels", "both", "groups")
SEES_SITES = ("guide", "center", "per_site", "offsets")


def lanes_of(rng: Random, source: Source, *, depthwise: bool) -> str:
    """The lanes that all kernels of a formula shall have."""
    if source.field is not None or source.over is not None or any(o.scope in SEES_SITES for o in source.operands):
        return "planes"
    if depthwise:
        return "groups"
    return rng.choice(("sites", "sites", "filters", "channels", "both"))


def place(rng: Random, drawn: Any, kind: str, mode: str | float, *, long: bool = False, small: bool = False) -> Place:
    """A random place where a drawn formula can be applied.

    Args:
        long: sums have thousands of terms.
        small: as few numbers as an interpreter can stand.
    """
    if kind == "transposed":
        mode = "skip"
    dims = drawn.dims or rng.choice((1, 2, 2, 2, 3))
    kernel = drawn.source.field or _ints(rng, {1: (1, 2, 3, 5), 2: (1, 2, 3, 3), 3: (1, 2, 2, 3)}[dims], dims)
    stride, dilation = _ints(rng, (1, 1, 1, 2, 3), dims), _ints(rng, (1, 1, 1, 2), dims)
    padding: Ints | str = _ints(rng, (0, 0, 1, 2), dims)
    word = rng.random()
    if kind != "transposed" and word < 0.12:
        padding, stride = "same", (1,) * dims
    elif kind != "transposed" and word < 0.2:
        padding = "valid"
    lanes = "small" if small else drawn.lanes
    groups, channels, filters = rng.choice(CHANNELS[lanes])
    if drawn.depthwise or kind == "pool":
        groups, channels, filters = rng.choice(
            CHANNELS["groups"] if lanes == "groups" else ((2, 1, 1), (3, 1, 1), (9, 1, 1))
        )
    elif long:
        groups, channels, filters = 1, 300, rng.choice((1, 2))
    p = Place(
        size=_size(rng, dims, lanes), kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups,
        channels=channels, filters=filters, batch=1 if small else rng.choice((1, 1, 1, 2, 2, 2, 2, 3, 0)), mode=mode, kind=kind,
        more=(0,) * dims, bias=kind != "pool" and rng.random() < 0.4,
    )  # fmt: skip
    if kind == "pool":
        centered = any(o.scope == "center" for o in drawn.source.operands)  # whose fields may end beyond the padding
        p = replace(p, ceil=rng.random() < 0.3 and not centered)
    if kind == "transposed":
        p = replace(p, more=tuple(rng.randrange(max(s, d)) for s, d in zip(stride, dilation, strict=True)))
    return _fitting(_modest(replace(p, unbatched=p.batch == 1 and rng.random() < 0.1)))


def _ints(rng: Random, choices: Ints, dims: int) -> Ints:
    return tuple(rng.choice(choices) for _ in range(dims))


def _size(rng: Random, dims: int, lanes: str) -> Ints:
    """Long rows where sites shall be lanes, tiny images where channels shall be."""
    most = 3 if lanes in WIDE or lanes == "small" else {1: 12, 2: 6, 3: 4}[dims]
    size = [rng.randint(1, most) for _ in range(dims)]
    if lanes == "sites":
        size[-1] = rng.randint(9, 17)
    return tuple(size)


def _modest(p: Place) -> Place:
    """The place with as few images and sites as are computed quickly."""
    while _evaluations(p) > MANY and (p.batch > 1 or max(p.size) > 1):
        if p.batch > 1:
            p = replace(p, batch=1)
        else:
            longest = p.size.index(max(p.size))
            p = replace(p, size=tuple((n + 1) // 2 if axis == longest else n for axis, n in enumerate(p.size)))
    return p


def _evaluations(p: Place) -> int:
    sites = math.prod(max(1, s) for s in p.sites)
    return p.batch * p.groups * p.filters * p.channels * p.taps * sites


def _fitting(p: Place) -> Place:
    """The place with an image that is large enough for its kernel, and padding that the image can give."""
    size = list(p.size)
    if p.kind == "transposed":
        out = p.sites
        return replace(p, size=tuple(n + max(0, 1 - o) for n, o in zip(size, out, strict=True)))
    if not isinstance(p.padding, str) and p.kind == "pool":
        p = replace(p, padding=tuple(min(a, k // 2) for a, k in zip(p.padding, p.kernel, strict=True)))
    before, after = p.around
    spans = [d * (k - 1) + 1 for k, d in zip(p.kernel, p.dilation, strict=True)]
    for axis, (b, a, span) in enumerate(zip(before, after, spans, strict=True)):
        least = {"reflect": max(b, a) + 1, "circular": max(b, a)}.get(str(p.mode), 1)
        size[axis] = max(size[axis], least, span - b - a, 1)
    return replace(p, size=tuple(size))
