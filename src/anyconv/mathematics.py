"""Mathematics: what a formula computes, and nothing of the functions in which the user wrote it.

It is what backends are made of and what caches are keyed by: Exprs over variables, with no Python behind them.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from .expr import Expr, differentiate
from .expr.expr import statements
from .reductions import Reduction
from .variables import Variable


@dataclass(frozen=True)
class Mathematics:
    """A map, its reduction, and what follows, as Exprs.

    Args:
        variables: what the map sees, the pixel first.
        outer: what the epilogue sees beside the reduced values.
        values: what the map returns.
        reduction: of the values; or, with ``inner``, of the results of the channels.
        inner: of the values over the taps of a channel.
        finish: the output, of the ``accumulators`` and ``outer``.
        accumulators: the names of the reduced values.
        slopes: derivatives of the values that replace the map's own, by the name of the variable.
        field: the kernel, where the map sees whole fields.
    """

    variables: tuple[Variable, ...]
    outer: tuple[Variable, ...]
    values: tuple[Expr, ...]
    reduction: Reduction
    inner: Reduction | None
    finish: Expr
    accumulators: tuple[str, ...]
    slopes: tuple[tuple[str, tuple[Expr, ...]], ...]
    field: tuple[int, ...] | None

    def __hash__(self) -> int:
        return self._hash

    @functools.cached_property
    def _hash(self) -> int:  # asked for at every call
        return hash(
            (self.variables, self.outer, self.values, self.reduction.name, self.finish, self.slopes, self.field)
        )

    @property
    def has_epilogue(self) -> bool:
        """Whether the output is more than what was reduced."""
        return self.finish.op != "var" or self.accumulators != (self.finish.value,) or bool(self.outer)

    @functools.cached_property
    def is_plain(self) -> bool:
        """Whether one value of one pixel and weights is reduced: no epilogue, image, field or slope of its own."""
        simple = len(self.values) == 1 and not self.has_epilogue and self.inner is None and self.field is None
        return simple and not self.slopes and not self.sees_images

    @functools.cached_property
    def sees_images(self) -> bool:
        """Whether the map sees more images than the pixel's, or more of it than one pixel."""
        return self.field is not None or any(v.is_image for v in self.variables[1:])

    @functools.cached_property
    def operations(self) -> int:
        """How many the map is made of."""
        return len({node for value in self.values for node in value.nodes() if node.args})

    @functools.cached_property
    def one_for_all_images(self) -> bool:
        """Whether all images of a batch see the same values per site, as of locally connected weights."""
        return any("n" not in v.axes for v in self.images)

    @functools.cached_property
    def images(self) -> tuple[Variable, ...]:
        """One variable of each tensor with a value for each pixel or site, the pixel's first."""
        found: dict[tuple[object, ...], Variable] = {}
        for v in self.variables:
            if v.is_image:
                found.setdefault(v.tensor, v)
        return tuple(found.values())

    @functools.cached_property
    def needs_planes(self) -> bool:
        """Whether kernels look at one channel at a time, and at all its images."""
        return self.sees_images or self.inner is not None

    @functools.cached_property
    def finish_slopes(self) -> dict[str, Expr]:
        """The derivative of the output in each reduced value and in each operand of the epilogue."""
        names = (*self.accumulators, *(v.name for v in self.outer))
        return {name: differentiate(self.finish, name) for name in names}

    @functools.cached_property
    def kept(self) -> tuple[str, ...]:
        """The parts of the state that gradients need: those of the adjoint, and those of the slopes of the output."""
        results = dict(zip(self.accumulators, self.reduction.exprs["result"], strict=True))
        read = {name for slope in self.finish_slopes.values() for name in slope.names() if name in results}
        used = {part for name in read for part in results[name].names()}.union(self.reduction.saved)
        return tuple(part for part in self.reduction.state if part in used)

    def __str__(self) -> str:
        """``y = sum(abs(x - w))``."""
        lines = statements(*self.values)
        count = len(lines) - len(self.values)
        texts = [text for _, text in lines[count:]]
        where = [f"{name} = {text}" for name, text in lines[:count]]
        r = self.reduction
        if self.inner is not None:
            reduced = [f"{r.name} over channels({self.inner.name} over taps({', '.join(texts)}))"]
        else:
            names = r.name[1:-1].split(", ") if r.results > 1 else [r.name]
            reduced = [
                f"{name}({', '.join(text for text, owner in zip(texts, r.owner, strict=True) if owner == i)})"
                for i, name in enumerate(names)
            ]
        y = reduced[0]
        if self.has_epilogue:
            y = str(self.finish)
            where = [*(f"{name} = {text}" for name, text in zip(self.accumulators, reduced, strict=True)), *where]
        return f"y = {y}" + (" where " + ", ".join(where) if where else "")
