"""What kernels are given in place of parts of the map: tensors, computed by torch and differentiated by it."""

from __future__ import annotations

from dataclasses import replace
from types import EllipsisType

import torch
from torch import Tensor

from ..expr import evaluate
from ..geometry import Geometry
from ..plan import Problem
from ..plan.hoist import Part, hoisted
from ..variables import Variable
from .padding import pad
from .spread import Spread
from .torch_library import torch_library


def prepare(x: Tensor, operands: dict[str, Tensor], problem: Problem) -> tuple[dict[str, Tensor], Problem]:
    """The operands with the parts that are worth it, and the problem that is left."""
    found = hoisted(problem)
    if not found.parts:
        return operands, problem
    sources = {problem.formula.pixel: x, **operands}
    made = {part.variable.name: _value(part, problem, sources) for part in found.parts}
    left = {v.source for v in (*found.mathematics.variables, *found.mathematics.outer)}
    kept = {name: value for name, value in operands.items() if name in left}
    return kept | made, replace(problem, prepared=found.mathematics)


def _value(part: Part, problem: Problem, sources: dict[str, Tensor]) -> Tensor:
    """The tensor of a part, in the shape that an operand of its axes has."""
    known = {v.name: v for v in problem.formula.mathematics.variables}
    seen = [known[name] for name in part.expr.names()]
    size = tuple(sources[problem.formula.pixel].shape)
    values = {v.name: _spread(v, sources[v.source], problem, size) for v in seen}
    values = {name: value.detach() if name in part.held else value for name, value in values.items()}
    result = evaluate(part.expr, values, torch_library(sources[seen[0].source].dtype))
    return _as_operand(result, part.variable, problem, size)


def _spread(v: Variable, tensor: Tensor, problem: Problem, size: tuple[int, ...]) -> Tensor:
    """A variable with the axes ``(k, c, n, g, o, *sites)``, an image that slides as all taps see it."""
    spread = Spread(problem.geometry, size, problem.out_channels)
    if not v.slides:
        return spread(v, tensor)
    padded, geometry = pad(tensor, problem.geometry)
    there = Spread(geometry, (*size[:2], *padded.shape[2:]), problem.out_channels)
    image, size_there = there(v, padded)[0], tuple(padded.shape[2:])
    places: list[tuple[EllipsisType | slice, ...]] = [
        (..., *geometry.pixels(k, size_there)) for k in geometry.offsets()
    ]
    return torch.stack([image[place] for place in places])


def _as_operand(value: Tensor, v: Variable, problem: Problem, size: tuple[int, ...]) -> Tensor:
    """``(k, c, n, g, o, *sites)`` as the tensor of an operand with the axes of ``v``."""
    g: Geometry = problem.geometry
    c, o = problem.in_channels // g.groups, problem.out_channels // g.groups
    extents = {"k": g.taps, "c": c, "n": size[0], "o": o}
    k_, c_, n_, o_ = (extents[axis] if axis in v.axes else 1 for axis in "kcno")
    groups = g.groups if set("oc") & set(v.axes) else 1
    sites = g.sites(size[2:]) if "s" in v.axes else (1,) * g.dims
    whole = value.expand(k_, c_, n_, groups, o_, *sites).permute(2, 3, 4, 1, 0, *range(5, 5 + g.dims))
    shape: list[int] = []
    for axis in v.axes:
        shape += {
            "n": [n_], "o": [groups * o_], "c": [c_ if "o" in v.axes else groups * c_], "k": list(g.kernel),
            "s": list(sites),
        }[axis]  # fmt: skip
    return whole.reshape(shape)
