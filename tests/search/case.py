"""A case as data: a formula as source text, where it is applied, and the numbers it gets. Frozen, and printable."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field

Ints = tuple[int, ...]
AXES = {
    "per_tap": "ock", "per_filter": "o", "per_channel": "c", "per_pair": "oc", "per_offset": "k", "shared": "",
}  # fmt: skip


@dataclass(frozen=True)
class Operand:
    """An argument of a map beside the pixel.

    Args:
        scope: a name of the library's scopes.
        size: the length of a vector, or None.
        along: for ``per_site``, the axes beside the site.
        of: for ``center``, the name of a guide, or None for the pixel's.
        frozen: it has no gradient.
        mask: a guide with one channel for all.
    """

    name: str
    scope: str = "per_tap"
    size: int | None = None
    along: str = ""
    of: str | None = None
    frozen: bool = False
    mask: bool = False

    @property
    def axes(self) -> str:
        """The axes along which it varies; none of images that slide."""
        return self.along + "s" if self.scope == "per_site" else AXES.get(self.scope, "")

    @property
    def passed(self) -> bool:
        """Whether a caller passes a tensor for it."""
        return self.scope not in ("offsets", "center")

    @property
    def kind(self) -> str:
        """Its scope as the tally counts it."""
        if self.scope == "guide":
            return "mask" if self.mask else "guide" if self.size is None else "guide of several"
        if self.scope == "per_site":
            return f"per_site {self.along}".strip()
        return "center of guide" if self.of else self.scope

    @property
    def text(self) -> str:
        """As a user declares it."""
        given = []
        if self.scope == "per_site":
            given.append(repr(self.along))
        if self.of:
            given.append(repr(self.of))
        if self.scope == "offsets":
            return f"anyconv.offsets({self.size})"
        if self.size is not None:
            given.append(f"size={self.size}")
        if self.frozen:
            given.append("frozen=True")
        return f"anyconv.{self.scope}({', '.join(given)})"


@dataclass(frozen=True)
class Own:
    """A user's own reduction, as the texts of its functions; a state of several parts is a tuple."""

    name: str
    identity: str
    step: str
    merge: str
    result: str
    adjoint: str
    values: int = 1
    counts: bool = False

    @property
    def text(self) -> str:
        """As a user writes it."""
        parts = ("identity", "step", "merge", "result", "adjoint")
        return f"anyconv.Reduction({self.name!r}, " + ", ".join(f"{p}={getattr(self, p)}" for p in parts) + ")"


Reduce = str | Own


@dataclass(frozen=True)
class Source:
    """A formula as source text.

    Args:
        map: a lambda of the pixel and operands.
        reduce: a built-in name, ``norm2`` and the like, or a user's own; several stand for a tuple of them.
        over: the reduction over channels, where ``reduce`` is one over taps.
        operands: those of the map, then those of the epilogue alone.
        gradient: for an argument, the text of its derivative.
        field: the kernel, where the map sees whole fields.
        kind: what the map was drawn as.
    """

    map: str
    operands: tuple[Operand, ...] = ()
    reduce: tuple[Reduce, ...] = ("sum",)
    over: Reduce | None = None
    epilogue: str | None = None
    gradient: tuple[tuple[str, str], ...] = ()
    field: Ints | None = None
    kind: str = "any"

    @property
    def reduction(self) -> str:
        """The kind of reduction, as the tally counts it."""
        if self.over is not None:
            return "over"
        if len(self.reduce) > 1:
            return "tuple"
        (one,) = self.reduce
        if isinstance(one, Own):
            return "own that counts" if one.counts else "own"
        return "norm" if one.startswith("norm") else one

    @property
    def text(self) -> str:
        """The call that makes the formula."""
        reduces = [reduce_text(one) for one in self.reduce]
        reduce = reduces[0] if len(reduces) == 1 else f"({', '.join(reduces)})"
        if self.over is not None:
            reduce = f"anyconv.over(taps={reduce}, channels={reduce_text(self.over)})"
        lines = [self.map, reduce]
        if self.epilogue is not None:
            lines.append(f"epilogue={self.epilogue}")
        declared = [o for o in self.operands if o.text != "anyconv.per_tap()"]
        if declared:
            lines.append("operands={" + ", ".join(f"{o.name!r}: {o.text}" for o in declared) + "}")
        if self.gradient:
            lines.append("gradient={" + ", ".join(f"{name!r}: {text}" for name, text in self.gradient) + "}")
        if self.field is not None:
            lines.append(f"field={self.field}")
        return "anyconv.Formula(\n    " + ",\n    ".join(lines) + ",\n)"


def reduce_text(one: Reduce) -> str:
    """A reduction as a user names it."""
    if isinstance(one, Own):
        return one.text
    return f"anyconv.norm({float(one[4:])})" if one.startswith("norm") else repr(one)


@dataclass(frozen=True)
class Place:
    """Where a formula is applied: a convolution, a transposed one, or a pooling, and the sizes of its tensors.

    Args:
        channels, filters: of a group.
        padding: a number per axis, ``"same"`` or ``"valid"``.
        more: output padding of a transposed convolution.
        ceil: ``ceil_mode`` of a pooling.
    """

    size: Ints = (3,)
    kernel: Ints = (2,)
    stride: Ints = (1,)
    padding: Ints | str = (0,)
    dilation: Ints = (1,)
    groups: int = 1
    channels: int = 1
    filters: int = 1
    batch: int = 1
    mode: str | float = "zeros"
    kind: str = "conv"
    more: Ints = (0,)
    ceil: bool = False
    unbatched: bool = False
    bias: bool = False

    @property
    def dims(self) -> int:
        """Spatial axes."""
        return len(self.size)

    @property
    def in_channels(self) -> int:
        """All input channels."""
        return self.groups * self.channels

    @property
    def out_channels(self) -> int:
        """All filters."""
        return self.groups * self.filters

    @property
    def taps(self) -> int:
        """Positions in the kernel."""
        return math.prod(self.kernel)

    @property
    def around(self) -> tuple[Ints, Ints]:
        """The padding before and after each axis."""
        if self.padding == "valid":
            return (0,) * self.dims, (0,) * self.dims
        if self.padding == "same":
            total = [d * (k - 1) for k, d in zip(self.kernel, self.dilation, strict=True)]
            return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
        return self.padding, self.padding  # type: ignore[return-value]

    @functools.cached_property
    def sites(self) -> Ints:
        """The output's size, by counting."""
        before, after = self.around
        found = []
        for axis, n in enumerate(self.size):
            k, s, d = self.kernel[axis], self.stride[axis], self.dilation[axis]
            if self.kind == "transposed":
                found.append((n - 1) * s - 2 * before[axis] + d * (k - 1) + self.more[axis] + 1)
                continue
            room = n + before[axis] + after[axis] - d * (k - 1)
            count = len(range(0, room, s))
            # a last field that begins inside, and ends outside
            if self.ceil and room > 0 and (room - 1) % s and count * s < n + before[axis]:
                count += 1
            found.append(count)
        return tuple(found)

    def shape(self, o: Operand) -> Ints:
        """The shape of an operand's tensor."""
        if o.scope == "guide":
            return (self.batch, o.size or (1 if o.mask else self.in_channels), *self.size)
        out, per_group = self.out_channels, self.channels
        if self.kind == "transposed" and o.scope in ("per_tap", "per_pair"):
            out, per_group = self.in_channels, self.filters
        sizes = {
            "n": (self.batch,), "o": (out,), "c": (per_group if "o" in o.axes else self.in_channels,),
            "k": self.kernel, "s": self.sites,
        }  # fmt: skip
        return (*sum((sizes[axis] for axis in o.axes), ()), *((o.size,) if o.size else ()))


@dataclass(frozen=True)
class Case:
    """One formula at one place, in one dtype, with tensors in one layout, on one backend.

    Args:
        numbers: the range from which tensors are drawn, a key of ``numbers.RANGES``.
        layout: how tensors lie in memory, a key of ``numbers.LAYOUTS``.
        laid: which tensors lie so: some of ``x``, ``w`` (operands), ``g`` (the incoming gradient).
        second: whether second derivatives are compared too.
        origin: the seed and index that made it; empty where it was shrunk.
    """

    source: Source
    place: Place
    dtype: str = "float64"
    numbers: str = "unit"
    layout: str = "contiguous"
    laid: str = "xwg"
    backend: str = "auto"
    second: bool = False
    threads: int = 1
    seed: int = 0
    origin: tuple[int, int] | tuple[()] = field(default=(), compare=False)
