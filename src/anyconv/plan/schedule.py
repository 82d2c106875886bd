"""schedule: tiles, lanes, chunks and parts; pure functions of the formula's cost, the shapes and the machine.

>>> tile(cost=3, parts=1, operands=1, machine=Machine("x86_64", (), 64, 32))
Tile(sites=4, vectors=4, filters=4, channels=2)

A `Tile` is compiled into a kernel; a `Schedule` is a few numbers of one call. Neither depends on the number of threads
in a way that a result could show: the backward pass is cut by shapes alone.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

from ..expr import Expr
from ..expr.expr import const
from ..geometry import Geometry, Ints
from .machine import Machine
from .problem import Problem

# roughly how many instructions an operation takes on a vector; what is not listed takes one
COST = {
    "div": 4, "sqrt": 4, "rsqrt": 6, "reciprocal": 4, "hypot": 12, "pow": 60, "floor_divide": 40, "remainder": 40,
    "fmod": 40, "trunc_divide": 8, "sign": 3, "maximum": 2, "minimum": 2, "clamp": 4, "round": 3, "floor": 5,
    "ceil": 5, "trunc": 6, "frac": 7, "exp": 13, "exp2": 12, "expm1": 16, "log": 22, "log2": 23, "log10": 24,
    "log1p": 30, "logaddexp": 50, "logaddexp2": 50, "xlogy": 26, "xlog1py": 34, "ldexp": 6, "mantissa": 8,
    "exponent": 8, "sin": 22, "cos": 22, "tan": 28, "asin": 20, "acos": 22, "atan": 24, "atan2": 34, "sinh": 24,
    "cosh": 20, "tanh": 22, "asinh": 200, "acosh": 200, "atanh": 200, "sinc": 30, "erf": 36, "erfc": 400, "erfinv":
    800, "lgamma": 800, "digamma": 400, "polygamma": 800, "sigmoid": 22, "logit": 26, "logsigmoid": 46, "softplus":
    46, "elu": 18, "celu": 22, "selu": 18, "gelu": 40, "gelu_tanh": 34, "silu": 20, "mish": 80, "hardswish": 8,
    "hardsigmoid": 8, "hardtanh": 4,
}  # fmt: skip
ADDS = {"add", "sub", "maximum", "minimum", "lt", "le", "gt", "ge", "eq", "ne"}
MULTIPLIES = {"mul", "where", *(op for op, instructions in COST.items() if instructions >= 10)}
CHEAP = 12  # up to here, loads matter, and many evaluations side by side hide them
LONG_ROW = 32  # sites; from here on, transposing a row to lanes of groups costs more than it spares
HUGE = 150  # from here on, one evaluation keeps a processor busy, and a compiler too


def cost(*exprs: Expr, of: str | None = None) -> int:
    """Instructions per vector of evaluations, roughly; what the Exprs share counts once.

    Args:
        of: count only what depends on this name and no other.
    """
    nodes = dict.fromkeys(node for expr in exprs for node in expr.nodes() if node.args)
    return sum(COST.get(node.op, 1) for node in nodes if of is None or set(node.names()) == {of})


def multiplies(*exprs: Expr) -> bool:
    """Return whether the multipliers, which also choose, have more to do than the adders, which also compare."""
    nodes = dict.fromkeys(node for expr in exprs for node in expr.nodes() if node.args)
    return sum(-1 if node.op in ADDS else COST.get(node.op, 1) if _multiplies(node) else 0 for node in nodes) > 0


def _multiplies(node: Expr) -> bool:
    masks = node.op == "where" and const(0.0) in node.args  # any unit masks
    return node.op in MULTIPLIES and not masks


@dataclass(frozen=True)
class Tile:
    """Registers of a kernel: forward ``sites`` x ``vectors`` of filters; backward ``filters``, ``channels`` vectors."""

    sites: int
    vectors: int
    filters: int
    channels: int


def tile(*, cost: int, parts: int, operands: int, machine: Machine, shared: int = 0) -> Tile:
    """The tile for a formula.

    Args:
        cost: of the map, from :func:`cost`.
        shared: what of it depends on the pixel alone: a tile computes that once for all its filters.
        parts, operands: of the functor; each takes registers.
    """
    room = machine.registers // 2 // max(1, parts)
    if cost > CHEAP:
        room = min(room, 8)  # the map wants registers and space in the instruction cache
    if cost > HUGE:
        room = min(room, 2)
    # a pixel of a site is spread over a vector by an instruction that competes with the map's; a row of operands is not
    vectors, sites = next((v, s) for v, s in ((4, 4), (2, 4), (2, 2), (1, 2), (1, 1)) if v * s <= max(1, room))
    spills = shared > 3 * operands and cost <= HUGE  # operands and sums that stay in memory are cheap beside it
    if spills:
        vectors, sites = 4, 4
    # backward each filter of a tile needs its operands and their sums
    room = machine.registers // 2 + 2

    def fits(f: int, c: int) -> bool:
        return (2 * operands * f * c <= room or spills) and (c == 1 or cost <= CHEAP) and cost <= HUGE

    filters, channels = next(((f, c) for f, c in ((4, 2), (4, 1), (2, 1)) if fits(f, c)), (1, 1))
    return Tile(sites=sites, vectors=vectors, filters=min(filters, sites * vectors), channels=channels)


@dataclass(frozen=True)
class Schedule:
    """How one call is cut.

    Args:
        lanes: ``"channels"`` (filters forward, channels backward), ``"sites"``, or ``"groups"`` of one of each.
        chunk: sites of a task along each of the three axes.
        parts: forward, pieces of the filters; backward, sums that are joined at the end.
        channel_parts: backward, of maps that see images, pieces of the channels of a group.
    """

    lanes: str
    chunk: Ints
    parts: int
    channel_parts: int = 1


def waste(count: int, lanes: int) -> float:
    """The factor by which ``count`` values fill more than themselves when they go into whole vectors."""
    return math.ceil(count / lanes) * lanes / count


@dataclass(frozen=True)
class Work:
    """What one call has to do.

    Args:
        geometry: where it looks.
        size: of the image.
        batch: images.
        channels, filters: of one group.
        itemsize: bytes of a number in the arithmetic.
        channels_last: whether the channels of a pixel lie together in memory.
        images: how many images the map sees, where kernels look at all of them, channel by channel; else 0.
        one_part: whether all images of a batch add to the same gradient of an image: that of locally connected weights.
    """

    geometry: Geometry
    size: Ints
    batch: int
    channels: int
    filters: int
    itemsize: int
    channels_last: bool = False
    images: int = 0
    one_part: bool = False

    @classmethod
    def of(cls, problem: Problem, batch: int, size: Ints, *, channels_last: bool = False) -> Work:
        """A problem on images of some size."""
        groups = problem.geometry.groups
        channels, filters = problem.in_channels // groups, problem.out_channels // groups
        m = problem.mathematics
        images = len(m.images) if m.needs_planes else 0
        one_part = m.one_for_all_images
        return cls(
            problem.geometry, size, batch, channels, filters, problem.itemsize, channels_last, images, one_part
        )  # fmt: skip

    @property
    def depthwise(self) -> bool:
        """Whether there are several groups, of one channel and one filter each."""
        return self.channels == self.filters == 1 < self.geometry.groups

    @property
    def sites(self) -> Ints:
        """Sites along each axis."""
        return self.geometry.sites(self.size)


@functools.lru_cache(maxsize=1024)
def forward_lanes(work: Work, machine: Machine) -> str:
    """Choose the lanes of a forward pass: ``"channels"`` are filters."""
    return "sites" if work.images else _lanes(work, work.filters, machine.lanes(work.itemsize))


@functools.lru_cache(maxsize=1024)
def backward_lanes(work: Work, machine: Machine) -> str:
    """Choose the lanes of a backward pass."""
    return "sites" if work.images else _lanes(work, work.channels, machine.lanes(work.itemsize))


@functools.lru_cache(maxsize=1024)
def forward(work: Work, machine: Machine, threads: int) -> Schedule:
    """The schedule of a forward pass."""
    lanes, sites = machine.lanes(work.itemsize), work.sites
    which = forward_lanes(work, machine)
    # of groups, a task takes four vectors at most, and holds their outputs beside their pixels
    depth = min(8 * lanes, 2 * work.geometry.groups) if which == "groups" else work.channels * max(1, work.images)
    chunk = _chunk(work, depth * work.itemsize, machine.cache_bytes // 3, rows_only=which == "sites")
    if which == "groups":
        return Schedule(which, chunk, math.ceil(work.geometry.groups / (4 * lanes)))
    tasks = work.batch * work.geometry.groups * _chunks(sites, chunk)
    parts = 1
    if tasks < 2 * threads:
        most = math.ceil(work.filters / (lanes if which == "channels" else 4))
        parts = max(1, min(math.ceil(2 * threads / tasks), most))
    return Schedule(which, chunk, parts)


@functools.lru_cache(maxsize=1024)
def backward(work: Work, machine: Machine, contexts: int) -> Schedule:
    """The schedule of a backward pass: independent of the number of threads, and so are its sums."""
    lanes, sites, groups = machine.lanes(work.itemsize), work.sites, work.geometry.groups
    if work.images:
        return _backward_images(work)
    which = backward_lanes(work, machine)
    per_site = (2 * lanes + contexts * (lanes if which == "groups" else work.filters)) * work.itemsize
    chunk = _chunk(work, per_site, machine.cache_bytes // 3, rows_only=False)
    vectors = {"channels": groups * math.ceil(work.channels / lanes), "groups": math.ceil(groups / lanes)}
    across = vectors.get(which, groups * work.channels)
    if which != "sites":
        pieces = work.batch * _chunks(sites, chunk)
    elif work.batch * across >= 16:  # tasks enough of whole images, which lie in caches
        pieces = work.batch
    else:
        pieces = work.batch * max(1, math.prod(sites) // 1024)
    parts = max(1, min(math.ceil(64 / across), pieces, _most_parts(work)))
    return Schedule(which, chunk, math.ceil(pieces / math.ceil(pieces / parts)))  # as even as they can be


def _backward_images(work: Work) -> Schedule:
    """Tasks of whole images, and of as few channels of them as keep all threads at work."""
    whole = work.geometry.groups * (1 if work.one_part else work.batch)
    channel_parts = max(1, min(work.channels, math.ceil(8 / whole)))
    channel_parts = math.ceil(work.channels / math.ceil(work.channels / channel_parts))  # as even as they can be
    parts = 1 if work.one_part else max(1, min(work.batch, math.ceil(64 / work.geometry.groups), _most_parts(work)))
    return Schedule("sites", work.sites, parts, channel_parts)


def _most_parts(work: Work) -> int:
    """So many that the sums of all parts stay small beside the images."""
    g = work.geometry
    weights = g.groups * work.channels * work.filters * g.taps
    images = work.batch * g.groups * (work.channels * math.prod(work.size) + work.filters * math.prod(work.sites))
    return max(1, images // (2 * weights))


def _lanes(work: Work, across: int, lanes: int) -> str:
    """Along channels, or groups of one, unless so many lanes would be padding that padding rows of sites is cheaper."""
    g, sites = work.geometry, work.sites
    rows = [s + d * (k - 1) // t for s, k, d, t in zip(sites, g.kernel, g.dilation, g.stride, strict=True)]
    padded = math.prod(rows) / math.prod(sites) * waste(math.prod(rows), lanes)
    which = "channels"
    if work.depthwise:
        if not work.channels_last and sites[-1] > LONG_ROW:
            return "sites"
        which, across = "groups", g.groups
    return "sites" if padded * 1.1 < waste(across, lanes) else which


def _chunks(sites: Ints, chunk: Ints) -> int:
    return math.prod(math.ceil(s / c) for s, c in zip(sites, chunk, strict=True))


def _chunk(work: Work, bytes_per_pixel: int, room: int, *, rows_only: bool) -> Ints:
    """Halve the longest axis of a chunk until the pixels it sees fit the room."""
    geometry, chunk = work.geometry, list(work.sites)

    def window() -> int:
        spans = zip(chunk, geometry.stride, geometry.kernel, geometry.dilation, strict=True)
        return math.prod((c - 1) * s + d * (k - 1) + 1 for c, s, k, d in spans)

    while window() * bytes_per_pixel > room and max(chunk) > 1:
        # rows lie together in memory; a short row costs more than what neighboring chunks both read
        weights = [1] * (len(chunk) - 1) + [0 if rows_only and max(chunk[:-1], default=1) > 1 else 0.25]
        axis = max(range(len(chunk)), key=lambda a: (chunk[a] - 1) * weights[a])
        chunk[axis] = math.ceil(chunk[axis] / 2)
    return tuple(chunk)
