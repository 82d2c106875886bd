"""explain: every stage of a formula or a layer as text."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from ..backends.cpp.build import BuildError
from ..backends.cpp.limit import limit
from ..backends.cpp.render import render
from ..backends.triton.cut import is_tiled, tile_of
from ..backends.triton.render import render as render_for_gpus
from ..errors import ShapeError
from ..expr import Expr, differentiate
from ..expr.expr import statements
from ..formula import Formula
from ..functional import AnyFormula
from ..mathematics import Mathematics
from ..modules import _ConvNd
from ..plan import Problem, choose, schedule
from ..plan.hoist import hoisted
from ..plan.machine import this_machine
from ..reductions import Reduction

_INDENT = 12


def explain(layer_or_formula: _ConvNd | AnyFormula, x_shape: tuple[int, ...] | None = None) -> str:
    """What will be computed, and how.

        >>> print(explain(Formula(lambda x, w: torch.tan(x + w), reduce="prod", name="tangent")))
        map         tangent(x, w) = tan(x + w)
        ...
        d/dx        t0 = tan(x + w)
                    1 + t0 * t0
        ...

    Args:
        layer_or_formula: a layer, a :class:`Formula`, or a function that could be one.
        x_shape: the shape of an input, for a layer: adds sites, evaluations and bytes.

    Returns:
        A text of one row per stage.

    Raises:
        ShapeError: ``x_shape`` does not fit the layer, or is given without one.
    """
    if isinstance(layer_or_formula, _ConvNd):
        rows = [*_formula_rows(layer_or_formula.formula), *_layer_rows(layer_or_formula, x_shape)]
    elif x_shape is None:
        rows = _formula_rows(Formula.of(layer_or_formula))
    else:
        raise ShapeError(
            f"`x_shape` is {x_shape}, but a formula alone has no geometry",
            way_out="Explain a layer: anyconv.Conv2d(C_in, C_out, kernel_size, formula).",
        )
    indent = max(_INDENT, *(len(title) + 2 for title, _ in rows))
    return "\n".join(f"{name:<{indent}}{line}" for title, lines in rows for name, line in _titled(title, lines))


def _titled(title: str, lines: list[str]) -> list[tuple[str, str]]:
    return [(title if i == 0 else "", line) for i, line in enumerate(lines)]


def _text(expr: Expr) -> list[str]:
    return [f"{name} = {text}" if name else text for name, text in statements(expr)]


def _formula_rows(formula: Formula) -> list[tuple[str, list[str]]]:
    m, everything = formula.mathematics, {**formula.parameters, **formula.derived}
    sources = dict.fromkeys(v.source for v in m.variables)
    called = f"{formula.name or 'map'}({', '.join(sources)})"
    values = (m.inner or m.reduction).values
    shown = _several(values, m.values)
    rows = [("map", [f"{called} = {shown[0]}", *shown[1:]] if len(shown) == 1 else [called, *shown])]
    rows[0][1].extend(formula.where.splitlines())
    given = dict(m.slopes)
    for v in m.variables:
        if v.frozen:
            continue
        slopes = given.get(v.name) or tuple(differentiate(value, v.name) for value in m.values)
        note = ["given, in place of the map's own"] if v.name in given else []
        rows.append((f"d/d{v.name}", [*_several(values, slopes), *note]))
    if everything:
        rows.append(("operands", [f"{name}: {operand}" for name, operand in everything.items()]))
    if m.field is not None:
        rows.append(("field", [f"{formula.pixel} is a vector of {len(m.variables)} pixels, the kernel is {m.field}"]))
    if m.inner is not None:
        rows += [("taps", _reduction_lines(m.inner)), ("channels", _reduction_lines(m.reduction))]
    else:
        rows.append(("reduce", _reduction_lines(m.reduction)))
    if m.has_epilogue:
        rows.append(("epilogue", [f"y of ({', '.join(m.finish_slopes)})", *_text(m.finish)]))
        rows += [(f"dy/d{name}", _text(slope)) for name, slope in m.finish_slopes.items()]
    return rows


def _several(names: tuple[str, ...], exprs: tuple[Expr, ...]) -> list[str]:
    """Expressions with their names, where there are several; what they share comes first."""
    lines = statements(*exprs)
    count = len(lines) - len(exprs)
    heads = [f"{name} = " if len(exprs) > 1 else "" for name in names]
    last = [head + text for head, (_, text) in zip(heads, lines[count:], strict=True)]
    return [*(f"{name} = {text}" for name, text in lines[:count]), *last]


def _reduction_lines(r: Reduction) -> list[str]:
    one = len(r.values) == 1 and r.results == 1
    results = ["result"] if r.results == 1 else [f"result {i}" for i in range(r.results)]
    adjoints = ["adjoint"] if one else [f"d/d{value}" for value in r.values]
    return [
        f"{r.name} of {', '.join(r.values)}, with state ({', '.join(r.state)})",
        f"identity  {', '.join(r.texts('identity'))}",
        *_fields([f"{part} <-" for part in r.state], r.texts("step")),
        *_fields(results, r.texts("result")),
        *_fields(adjoints, r.texts("adjoint")),
    ]


def _fields(names: list[str], texts: tuple[str, ...]) -> list[str]:
    return [line for name, text in zip(names, texts, strict=True) for line in _field(name, text)]


def _field(name: str, text: str) -> list[str]:
    """A text of a reduction, a statement on each line."""
    first, *rest = text.split("; ")
    return [f"{name:<10}{first}", *(f"{'':<10}{line}" for line in rest)]


def _layer_rows(layer: _ConvNd, x_shape: tuple[int, ...] | None) -> list[tuple[str, list[str]]]:
    g = layer.geometry
    like = next(layer.parameters(), torch.empty(0))
    dtype = str(like.dtype).removeprefix("torch.")
    problem = Problem(layer.formula, g, layer.in_channels, layer.out_channels, dtype, like.device.type)
    plan = choose(problem, layer.backend)
    padding = f"padding {g.before} before, {g.after} after ({g.mode})"
    channels = layer.in_channels // g.groups
    geometry = [
        f"{g.dims}-d, kernel {g.kernel}, stride {g.stride}, {padding}, dilation {g.dilation}, groups {g.groups}",
        f"{g.taps} taps x {channels} channels = {problem.field} values in a receptive field",
    ]
    rows = [("geometry", geometry), ("backend", [f"{plan.backend}: {plan.reason}", f"{dtype} on {like.device.type}"])]
    if x_shape is not None:
        rows.append(("work", _work(layer, problem, tuple(x_shape), like.dtype.itemsize)))
    if plan.backend == "cpp":
        rows += _cpp_rows(problem, None if x_shape is None else tuple(x_shape))
    if plan.backend == "triton":
        rows += _triton_rows(problem)
    return rows


def _triton_rows(problem: Problem) -> list[tuple[str, list[str]]]:
    """How the kernels are cut, and the file of the forward pass."""
    before, m = _before(problem)
    if not is_tiled(m):
        source = render_for_gpus(m, problem.dtype, "forward")
        return [*before, ("schedule", ["one evaluation at a time"]), ("source", source.text.rstrip().splitlines())]
    g, lines = problem.geometry, []
    for kernel, rows, lanes in (
        ("tiled_forward", "sites", "filters"), ("tiled_pixels", "pixels", "channels"),
        ("tiled_weights", "filters", "channels"),
    ):  # fmt: skip
        tile = tile_of(m, kernel, channels=problem.in_channels // g.groups, filters=problem.out_channels // g.groups)
        own = f"{tile.own_rows} x {tile.own_lanes} of each of {32 * tile.warps} threads"
        lines.append(f"{kernel}: {tile.all_rows} {rows} x {tile.all_lanes} {lanes}, {own}")
    source = render_for_gpus(m, problem.dtype, "tiled_forward")
    return [*before, ("schedule", lines), ("source", source.text.rstrip().splitlines())]


def _before(problem: Problem) -> tuple[list[tuple[str, list[str]]], Mathematics]:
    """What is computed before a kernel, and what is left of the formula."""
    found = hoisted(problem)
    lines = [
        f"{part.variable.name} = {' '.join(_text(part.expr))}, once for each ({part.variable.axes or 'call'})"
        for part in found.parts
    ]
    return [("before", lines)] if lines else [], found.mathematics


def _cpp_rows(problem: Problem, shape: tuple[int, ...] | None) -> list[tuple[str, list[str]]]:
    """The schedule, the time that the arithmetic alone takes, and the generated source."""
    machine = this_machine()
    before, left = _before(problem)
    problem = replace(problem, prepared=left)
    source = render(problem.mathematics, problem.dtype, machine)
    tile = source.tile
    lines = [
        f"vectors of {machine.lanes(problem.itemsize)} lanes, {machine.registers} registers",
        f"tile: forward {tile.sites} sites x {tile.vectors} vectors, backward {tile.filters} filters x {tile.channels}",
    ]
    rows = [*before, ("schedule", lines), ("source", source.text.rstrip().splitlines())]
    if shape is None:
        return rows
    g, threads = problem.geometry, torch.get_num_threads()
    size = shape[-g.dims :]
    batch = shape[0] if len(shape) == g.dims + 2 else 1
    work = schedule.Work.of(problem, batch, size)
    there = schedule.forward(work, machine, threads)
    back = schedule.backward(work, machine, len(source.functor.contexts))
    lanes = {"channels": ("filters", "channels"), "sites": ("sites", "pixels"), "groups": ("groups", "groups")}
    if work.images:
        lanes["sites"] = ("sites", "sites")
    lines += [
        f"forward: lanes are {lanes[there.lanes][0]}; tasks of {there.chunk} sites, filters in {there.parts} parts",
        f"backward: lanes are {lanes[back.lanes][1]}; tasks of {back.chunk} sites, {back.parts} sums of each gradient",
    ]
    evaluations = batch * problem.out_channels * math.prod(g.sites(size)) * problem.field
    return [*rows[:-1], ("limit", _limit_lines(problem, evaluations, threads)), rows[-1]]


def _limit_lines(problem: Problem, evaluations: int, threads: int) -> list[str]:
    try:
        found = limit(problem.mathematics, problem.dtype)
    except BuildError as error:
        return [str(error)]
    lines = []
    for name, rate in (("forward", found.forward), ("backward", found.backward)):
        milliseconds = evaluations / rate / threads * 1000
        lines.append(
            f"{name}: {rate / 1e9:.1f} G evaluations/s in the registers of one thread, as measured; "
            f"{milliseconds:.3g} ms at least on {threads} threads"
        )
    return lines


def _work(layer: _ConvNd, problem: Problem, shape: tuple[int, ...], itemsize: int) -> list[str]:
    g = layer.geometry
    if len(shape) not in (g.dims + 1, g.dims + 2) or shape[-g.dims - 1] != layer.in_channels:
        raise ShapeError(f"`x_shape` must be (N, {layer.in_channels}, *size) with {g.dims} spatial axes, got {shape}")
    batch = shape[: -g.dims - 1]
    y_shape = (*batch, layer.out_channels, *g.sites(shape[-g.dims :]))
    outputs = math.prod(y_shape)
    parameters = sum(p.numel() for p in layer.parameters())
    sizes = {"x": math.prod(shape), "y": outputs, "parameters": parameters}
    if saved := len(problem.formula.mathematics.kept):
        sizes["reduced states, kept for the backward pass"] = saved * outputs
    return [
        f"x {shape} -> y {y_shape}",
        f"{outputs * problem.field:,} evaluations of the map forward",
        *(f"{count * itemsize:,} bytes of {what}" for what, count in sizes.items()),
    ]
