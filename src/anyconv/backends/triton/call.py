"""call: what a kernel is told: tensors with their strides, the geometry, and how the work is cut."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from torch import Tensor

from ...geometry import Geometry, Ints
from ...plan import Problem
from ...variables import Variable
from ..functor import Functor, functor
from ..layout import Layout
from ..spread import Spread

Strides = tuple[int, ...]  # of (n, g, o, c, k) and of three spatial axes
INT32 = 2**31 - 1
OPTIONS = {"num_stages": 1, "enable_fp_fusion": False}  # of Triton: a functor says what is fused


@dataclass(frozen=True)
class Outputs:
    """The outputs, or their gradient, ``y[n, o, *sites]``, and the parts of the state that are saved beside them."""

    y: Tensor
    state: Tensor | None

    @property
    def kept(self) -> Tensor:
        """What a kernel is given for the state; anything, where there is none."""
        return self.y if self.state is None else self.state

    @property
    def part(self) -> Tensor:
        """One part of it."""
        return self.y if self.state is None else self.state[0]

    @property
    def pitch(self) -> int:
        """Numbers from one part to the next."""
        return 0 if self.state is None else self.state.stride(0)


@dataclass(frozen=True)
class Call:
    """What the two passes of a call share.

    Args:
        names: of the tensors: the pixel's, and the operands'.
        x_shape: ``(n, c, *size)``.
    """

    problem: Problem
    names: tuple[str, ...]
    x_shape: Ints

    @property
    def geometry(self) -> Geometry:
        """Where it looks."""
        return self.problem.geometry

    @property
    def functor(self) -> Functor:
        """What it computes at one pixel."""
        return functor(self.problem.mathematics)

    @property
    def layout(self) -> Layout:
        """What the map sees."""
        return Layout.of(self.problem.mathematics)

    @property
    def seen(self) -> tuple[Variable, ...]:
        """What the map sees, in the order of a kernel's tensors."""
        return (*self.layout.inputs, *self.layout.operands)

    @functools.cached_property
    def spread(self) -> Spread:
        """How a variable's numbers are found in its tensor."""
        return Spread(self.geometry, self.x_shape, self.problem.out_channels)

    @property
    def batch(self) -> int:
        """Images."""
        return self.x_shape[0]

    @property
    def channels(self) -> int:
        """Of a group."""
        return self.x_shape[1] // self.geometry.groups

    @property
    def filters(self) -> int:
        """Of a group."""
        return self.problem.out_channels // self.geometry.groups

    @functools.cached_property
    def sites(self) -> Ints:
        """Along three axes."""
        return three(self.geometry.sites(self.x_shape[2:]), 1)

    @functools.cached_property
    def size(self) -> Ints:
        """Pixels along three axes."""
        return three(self.x_shape[2:], 1)

    @functools.cached_property
    def axes(self) -> tuple[Ints, ...]:
        """For each of three axes: sites, pixels, taps, stride, dilation, padding."""
        g = self.geometry
        of = (self.sites, self.size, three(g.kernel, 1), three(g.stride, 1), three(g.dilation, 1), three(g.before, 0))
        return tuple(zip(*of, strict=True))

    @property
    def skips(self) -> bool:
        """Whether taps are left out."""
        return self.geometry.mode == "skip" and any(
            b or a for b, a in zip(self.geometry.before, self.geometry.after, strict=True)
        )

    @property
    def pads(self) -> bool:
        """Whether a tap may see what is no pixel."""
        return any(b > 0 or a > 0 for b, a in zip(self.geometry.before, self.geometry.after, strict=True))

    @property
    def fill(self) -> float:
        """What stands outside the image."""
        return self.geometry.mode if isinstance(self.geometry.mode, float) else 0.0

    def given(
        self, variables: tuple[Variable, ...], tensors: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], tuple[Strides, ...]]:
        """A view of each variable's tensor, and its strides."""
        views = [self.spread(v, tensors[v.source].resolve_neg()) for v in variables]
        return tuple(views), tuple(map(strides_of, views))

    def outputs(self, y: Tensor) -> Strides:
        """The strides of ``(n, o, *sites)``."""
        n, o, *space = y.stride()
        return (n, o * self.filters, o, 0, 0, *three(tuple(space), 0))


def strides_of(view: Tensor) -> Strides:
    """Those of a tensor with the axes ``(k, c, n, g, o, *space)``; 0 along what it has not."""
    k, c, n, g, o, *space = (s if extent > 1 else 0 for s, extent in zip(view.stride(), view.shape, strict=True))
    return (n, g, o, c, k, *three(tuple(space), 0))


def three(values: Ints, missing: int) -> Ints:
    """A number for each of three axes; the last are those there are."""
    return (missing,) * (3 - len(values)) + values


def is_wide(*tensors: Tensor) -> bool:
    """Whether a place in one of these needs more than 32 bits."""
    return any(sum((e - 1) * abs(s) for e, s in zip(t.shape, t.stride(), strict=True)) > INT32 for t in tensors)


def blocks(count: int, size: int) -> int:
    """How many of a size hold so many."""
    return -(-count // size)
