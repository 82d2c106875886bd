"""Geometry: kernel size, stride, padding, dilation, groups -> sites, taps, valid ranges.

    >>> g = Geometry.of(2, kernel_size=3, padding=1)
    >>> g.sites((32, 32))
    (32, 32)

Every index in the library obeys one equation, along each spatial axis:
``i(s, k) = s * stride + k * dilation - before``, where ``before`` is the padding on the near side.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import GeometryError, ShapeError

Ints = tuple[int, ...]
MODES = ("zeros", "skip", "reflect", "replicate", "circular")
_WAY_OUT = "It takes an int, or one int per spatial axis."


@dataclass(frozen=True)
class Geometry:
    """Where a convolution looks; validated, and independent of any input's size.

    Args:
        kernel: taps per spatial axis.
        stride, dilation: steps between sites, and between taps.
        before, after: padding on the near and the far side of each spatial axis; below zero, pixels that are left out.
        groups: into how many independent parts the channels are split.
        mode: what stands outside the image: one of ``MODES``, or a number to pad with.
    """

    kernel: Ints
    stride: Ints
    dilation: Ints
    before: Ints
    after: Ints
    groups: int = 1
    mode: str | float = "zeros"

    @classmethod
    def of(
        cls,
        dims: int,
        kernel_size: int | Sequence[int],
        *,
        stride: int | Sequence[int] = 1,
        padding: int | str | Sequence[int] = 0,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        padding_mode: str | float = "zeros",
    ) -> Geometry:
        """From the arguments of ``nn.ConvNd``.

        Raises:
            GeometryError: naming the argument and the value seen.
        """
        kernel = ints("kernel_size", kernel_size, dims, least=1)
        steps = ints("stride", stride, dims, least=1)
        gaps = ints("dilation", dilation, dims, least=1)
        before, after = _padding(padding, dims, kernel, steps, gaps)
        if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
            raise GeometryError(f"`groups` must be a positive int, got {groups!r}")
        return cls(kernel, steps, gaps, before, after, groups, _mode(padding_mode))

    @property
    def dims(self) -> int:
        """Spatial axes: 1, 2 or 3."""
        return len(self.kernel)

    @property
    def taps(self) -> int:
        """Positions inside the kernel."""
        return len(list(self.offsets()))

    def offsets(self) -> Iterator[Ints]:
        """Each tap ``k``, the last axis fastest: the order of a flattened weight."""
        return itertools.product(*map(range, self.kernel))

    def padded(self) -> Geometry:
        """The same sites on an input that has been padded already."""
        zero = (0,) * self.dims
        return Geometry(self.kernel, self.stride, self.dilation, zero, zero, self.groups, self.mode)

    def sites(self, size: Ints) -> Ints:
        """Output size for an input of ``size``.

        Raises:
            ShapeError: the kernel is larger than the padded input.
        """
        spans = tuple(d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilation, strict=True))
        room = tuple(n + b + a for n, b, a in zip(size, self.before, self.after, strict=True))
        if any(span > r for span, r in zip(spans, room, strict=True)):
            raise ShapeError(
                f"the kernel covers {spans} pixels, more than the padded input's {room} (`x` has spatial size {size})",
                way_out="Use a larger input, a smaller kernel_size or dilation, or more padding.",
            )
        return tuple((r - span) // s + 1 for r, span, s in zip(room, spans, self.stride, strict=True))

    def pixels(self, k: Ints, size: Ints) -> tuple[slice, ...]:
        """The input positions that tap ``k`` sees from the sites of :meth:`valid`."""
        return tuple(
            slice(first * s + o, (last - 1) * s + o + 1 if last > first else first * s + o, s)
            for (first, last), s, o in zip(self._ranges(k, size), self.stride, self._origins(k), strict=True)
        )

    def valid(self, k: Ints, size: Ints) -> tuple[slice, ...]:
        """The sites from which tap ``k`` falls inside an input of ``size``: a box, possibly empty."""
        return tuple(slice(first, last) for first, last in self._ranges(k, size))

    def _origins(self, k: Ints) -> Ints:
        return tuple(j * d - b for j, d, b in zip(k, self.dilation, self.before, strict=True))

    def _ranges(self, k: Ints, size: Ints) -> list[tuple[int, int]]:
        ranges = []
        for o, s, n, sites in zip(self._origins(k), self.stride, size, self.sites(size), strict=True):
            first = min(max(0, -(o // s)), sites)  # the smallest site with site * s + o >= 0
            last = min(max((n - 1 - o) // s + 1, first), sites)
            ranges.append((first, last))
        return ranges


def ints(name: str, value: Any, dims: int, least: int) -> Ints:
    """One int for each spatial axis.

    Raises:
        GeometryError: the argument ``name`` is no such thing, or less than ``least``.
    """
    values = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    try:
        numbers = [operator.index(v) for v in values]
    except TypeError:
        raise GeometryError(f"`{name}` must be made of ints, got {value!r}", way_out=_WAY_OUT) from None
    if any(isinstance(v, bool) for v in values) or len(numbers) not in (1, dims):
        raise GeometryError(f"`{name}` must have {dims} ints or one, got {value!r}", way_out=_WAY_OUT)
    if min(numbers) < least:
        raise GeometryError(f"`{name}` must be at least {least}, got {value!r}", way_out=_WAY_OUT)
    return tuple(numbers) * (dims if len(numbers) == 1 else 1)


def _padding(padding: Any, dims: int, kernel: Ints, stride: Ints, dilation: Ints) -> tuple[Ints, Ints]:
    if not isinstance(padding, str):
        both = ints("padding", padding, dims, least=0)
        return both, both
    if padding not in ("same", "valid"):
        raise GeometryError(
            f"`padding` must be 'same', 'valid' or numbers, got {padding!r}",
            way_out="What stands outside the image is `padding_mode`.",
        )
    if padding == "valid":
        return (0,) * dims, (0,) * dims
    if any(s != 1 for s in stride):
        raise GeometryError(
            f"padding='same' needs stride 1, got {stride}", way_out="Give the padding as numbers, or drop the stride."
        )
    total = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
    return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)


def _mode(mode: Any) -> str | float:
    if isinstance(mode, (int, float)) and not isinstance(mode, bool):
        return float(mode)
    if mode not in MODES:
        raise GeometryError(f"`padding_mode` must be one of {', '.join(MODES)} or a number, got {mode!r}")
    return str(mode)
