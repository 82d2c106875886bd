"""Every scope and every reduction beside its compiled tap loop, on the CPU: ``python -m benchmarks.language``.

A line is a formula on one layer: ours, and the loop over taps that people write for it, eager and compiled. Each is a
process of its own; what is wrong against float64 is not timed. ``--entry NAME`` chooses; all of it takes half an hour,
most of that the compiler's of the others. What is measured is kept.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

import anyconv
from anyconv import Formula, sort_network
from anyconv.functional import convolve
from anyconv.geometry import Geometry

from .cpu import in_turns, mean, step
from .measure import in_own_process, machine, peak_of
from .picture import draw, ratio

RESULTS = Path(__file__).parent / "results" / "language.json"
TIMEOUT = 900
Values = tuple[Tensor, ...]


@dataclass(frozen=True)
class Fold:
    """How a tap loop reduces: over the channels of a tap, tap after tap, and at the end."""

    channels: Callable[..., Values]
    join: Callable[[Values, Values], Values]
    finish: Callable[..., Tensor]


def _added(a: Values, b: Values) -> Values:
    return tuple(x + y for x, y in zip(a, b, strict=True))


def _larger(a: Values, b: Values) -> Values:
    return torch.maximum(a[0], b[0]), torch.where(a[0] >= b[0], a[1], b[1])


def _best(key: Tensor, value: Tensor) -> Values:
    best, at = key.max(2, keepdim=True)
    return best.squeeze(2), value.gather(2, at).squeeze(2)


SUM = Fold(lambda *v: tuple(a.sum(2) for a in v), _added, lambda y: y)
COSINE = replace(SUM, finish=lambda a, b, c: a * torch.rsqrt(b * c + 1e-6))
FOLDS = {  # by what the formula's reduction is called
    "sum": SUM,
    "max": Fold(lambda v: (v.amax(2),), lambda a, b: (torch.maximum(a[0], b[0]),), lambda y: y),
    "softmax": Fold(lambda s, v: (s.exp().sum(2), (s.exp() * v).sum(2)), _added, lambda n, t: t / n),
    "argmax": Fold(_best, _larger, lambda key, value: value),
    "norm(3)": Fold(lambda v: ((v.abs() ** 3).sum(2),), _added, lambda s: s ** (1 / 3)),
    "energy": Fold(lambda v: ((v * v).sum(2),), _added, torch.sqrt),
    "(sum, sum, sum)": COSINE,
    "over": Fold(lambda v: (v,), lambda a, b: (torch.maximum(a[0], b[0]),), lambda y: y.sum(2)),
}
ENERGY = anyconv.Reduction(
    "energy", identity=0.0, step=lambda s, v: s + v * v, merge=lambda a, b: a + b, result=torch.sqrt,
    adjoint=lambda s, v: v / torch.sqrt(s),
)  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """A formula on a layer: 4 images of 32 x 32, a kernel of 3 x 3 with padding."""

    formula: Formula
    kind: str = "conv"  # or "pool": no filters; or "transposed": stride 2
    channels: int = 32
    batch: int = 4
    size: int = 32

    @property
    def filters(self) -> int:
        """Output channels."""
        return self.channels

    @property
    def evaluations(self) -> int:
        """Of the map, in a forward pass."""
        field = 1 if self.kind == "pool" else self.channels
        taps = 1 if self.formula.field else 9
        return self.batch * self.filters * self.size**2 * field * taps


def _affine(x: Tensor, w: Tensor, v: Tensor) -> Tensor:
    return torch.tanh(w * x + v)


def _spline(x: Tensor, w: Tensor) -> Tensor:
    place = (x + 2) * 1.75
    y = w[0] * F.relu(1 - torch.abs(place))
    for i in range(1, 8):
        y = y + w[i] * F.relu(1 - torch.abs(place - i))
    return y


def _adaptive(x: Tensor, f: Any, m: Any, w: Tensor) -> Tensor:
    return w * x * torch.exp(-0.5 * sum((f[i] - m[i]) ** 2 for i in range(4)))


def _with(operand: anyconv.operands.Operand) -> Entry:
    return Entry(Formula(_affine, operands={"v": operand}))


ENTRIES: dict[str, Entry] = {
    "per_tap": _with(anyconv.per_tap()),
    "per_filter": _with(anyconv.per_filter()),
    "per_channel": _with(anyconv.per_channel()),
    "per_pair": _with(anyconv.per_pair()),
    "per_offset": _with(anyconv.per_offset()),
    "shared": _with(anyconv.shared()),
    "center": _with(anyconv.center()),
    "guide": _with(anyconv.guide()),
    "per_site nock": _with(anyconv.per_site("nock")),
    "per_site ock": _with(anyconv.per_site("ock")),
    "per_site nk": _with(anyconv.per_site("nk")),
    "offsets": Entry(
        Formula(
            lambda x, w, d: w * x * torch.exp(-0.1 * (d[0] * d[0] + d[1] * d[1])), operands={"d": anyconv.offsets(2)}
        )
    ),
    "vector of 8 (spline)": Entry(Formula(_spline, operands={"w": anyconv.per_tap(size=8)})),
    "guide of 4 (pixel-adaptive)": Entry(
        Formula(_adaptive, operands={"f": anyconv.guide(size=4), "m": anyconv.center("f", size=4)})
    ),
    "softmax": Entry(Formula(lambda x, w: (x * w, x), "softmax")),
    "argmax": Entry(Formula(lambda x, w: (x * w, x + w), "argmax")),
    "norm(3)": Entry(Formula(lambda x, w: x - w, anyconv.norm(3))),
    "a user's own": Entry(Formula(lambda x, w: x - w, ENERGY)),
    "three sums (cosine)": Entry(
        Formula(
            lambda x, w: (x * w, x * x, w * w), ("sum",) * 3, epilogue=lambda a, b, c: a * torch.rsqrt(b * c + 1e-6)
        )
    ),
    "over(max, sum)": Entry(Formula(lambda x, w: x + w, anyconv.over(taps="max", channels="sum"))),
    "given gradient (adder)": Entry(
        Formula(lambda x, w: -(x - w).abs(), gradient={"x": lambda x, w: (w - x).clamp(-1, 1), "w": lambda x, w: x - w})
    ),
    "transposed": Entry(Formula(lambda x, w: -(x - w).abs()), kind="transposed"),
    "pool, softmax": Entry(Formula(lambda x: (x, x), "softmax"), kind="pool", channels=64),
    "pool, median": Entry(Formula(lambda x: sort_network(x)[4], field=(3, 3)), kind="pool", channels=64),
}

# --- the ways


def geometry_of(entry: Entry) -> Geometry:
    """The geometry of the layer."""
    return Geometry.of(2, 3, padding=1, groups=entry.channels if entry.kind == "pool" else 1)


def tensors(entry: Entry, dtype: torch.dtype = torch.float32) -> tuple[Tensor, tuple[Tensor, ...]]:
    """An image and operands that want gradients."""
    torch.manual_seed(0)
    size = (entry.size, entry.size)
    x = torch.randn(entry.batch, entry.channels, *size)
    shapes = [
        operand.shape(entry.channels, entry.filters, geometry_of(entry), entry.batch, size)
        for operand in entry.formula.parameters.values()
    ]
    values = [torch.randn(shape) for shape in shapes]
    return x.to(dtype).requires_grad_(), tuple(v.to(dtype).requires_grad_() for v in values)


def ours(entry: Entry) -> Callable[..., Tensor]:
    """The library."""
    geometry, names = geometry_of(entry), list(entry.formula.parameters)

    def run(x: Tensor, *params: Tensor) -> Tensor:
        named = dict(zip(names, params, strict=True))
        if entry.kind == "transposed":
            return anyconv.conv_transpose2d(x, named, entry.formula, stride=2, padding=1, backend="cpp")
        return convolve(
            x, named, None, formula=entry.formula, geometry=geometry, out_channels=entry.filters, backend="cpp"
        )

    return run


def tap_loop(entry: Entry) -> Callable[..., Tensor]:
    """A loop over taps of shifted views, in plain PyTorch."""
    if entry.kind == "transposed":
        return functools.partial(_transposed_loop, entry)
    if entry.kind == "pool":
        return functools.partial(_pool_loop, entry)
    return functools.partial(_conv_loop, entry)


def _shifts(x: Tensor) -> list[Tensor]:
    padded, (h, w) = F.pad(x, [1, 1, 1, 1]), x.shape[2:]
    return [padded[:, :, i : i + h, j : j + w] for i, j in itertools.product(range(3), repeat=2)]


def _conv_loop(entry: Entry, x: Tensor, *params: Tensor) -> Tensor:
    f, named = entry.formula, dict(zip(entry.formula.parameters, params, strict=True))
    kind = "over" if f.mathematics.inner is not None else f.reduction.name
    fold, state = FOLDS[kind], None
    guides = {n: _shifts(named[n]) for n, o in f.parameters.items() if o.scope == "guide"}
    names = [n for n in dict.fromkeys(v.source for v in f.mathematics.variables) if n != f.pixel]
    for t, seen in enumerate(_shifts(x)):
        arguments = [_seen(entry, name, t, x, named, guides) for name in names]
        values = f.map(seen[:, None], *arguments)
        values = values if isinstance(values, tuple) else (values,)
        shape = (x.shape[0], entry.filters, *seen.shape[1:])
        here = fold.channels(*(v.expand(shape) for v in values))
        state = here if state is None else fold.join(state, here)
    assert state is not None
    return fold.finish(*state)


def _seen(entry: Entry, name: str, t: int, x: Tensor, named: dict[str, Tensor], guides: dict[str, list[Tensor]]) -> Any:  # noqa: PLR0917
    """An operand at a tap, with the axes (n, o, c, h, w)."""
    f, offset = entry.formula, divmod(t, 3)
    operand = f.parameters.get(name) or f.derived[name]
    if operand.scope == "offsets":
        return [x.new_full((), float(k - 1)) for k in offset]
    if operand.scope == "center":
        if operand.of is None:
            return x[:, None]
        return [named[operand.of][:, i : i + 1][:, None] for i in range(operand.size or 1)]
    if operand.scope == "guide":
        seen = guides[name][t]
        return seen[:, None] if operand.size is None else [seen[:, i : i + 1][:, None] for i in range(operand.size)]
    if operand.size is not None:
        return [_spread(v, operand.axes, offset) for v in named[name].unbind(-1)]
    return _spread(named[name], operand.axes, offset)


def _spread(value: Tensor, axes: str, offset: tuple[int, int]) -> Tensor:
    lead = [axis for axis in axes if axis in "noc"]
    if "k" in axes:
        value = value[(slice(None),) * len(lead) + offset]
    for i, axis in enumerate("noc"):
        if axis not in axes:
            value = value.unsqueeze(i)
    return value if "s" in axes else value[..., None, None]


def _pool_loop(entry: Entry, x: Tensor) -> Tensor:
    f, shifts = entry.formula, _shifts(x)
    if f.field is not None:
        return torch.stack(shifts, -1).median(-1).values  # as people write it
    scores, values = zip(*(f.map(seen) for seen in shifts), strict=True)
    weights = torch.stack(scores, -1).softmax(-1)
    return (weights * torch.stack(values, -1)).sum(-1)


def _transposed_loop(entry: Entry, x: Tensor, w: Tensor) -> Tensor:
    n, _, h, wide = x.shape
    y = x.new_zeros(n, entry.filters, 2 * h + 1, 2 * wide + 1)
    for i, j in itertools.product(range(3), repeat=2):
        seen = entry.formula.map(x[:, :, None], w[None, :, :, i, j, None, None]).sum(1)
        y[:, :, i : i + 2 * h : 2, j : j + 2 * wide : 2] += seen
    return y[:, :, 1 : 2 * h, 1 : 2 * wide]


WAYS: dict[str, Callable[[Entry], Callable[..., Tensor]]] = {
    "anyconv": ours,
    "tap loop, compiled": lambda entry: torch.compile(tap_loop(entry), dynamic=False),
    "tap loop, eager": tap_loop,
}

# --- measurement


def disagreement(entry: Entry, way: Callable[..., Tensor]) -> float:
    """The largest error of a way on a small image, over what rounding may do; below 1 is right. As `benchmarks.cpu`.

    Gradients that the formula gives itself are not those of a loop: then only values are compared.
    """
    small = replace(entry, batch=1, size=9, channels=6)
    gold, plain = (step(tap_loop(small), *tensors(small, d)) for d in (torch.float64, torch.float32))
    found = step(way, *tensors(small))
    compared = 1 if entry.formula.mathematics.slopes else len(gold)
    worst = 0.0
    for got, single, want in zip(found[:compared], plain[:compared], gold[:compared], strict=True):
        allowed = 8 * (single.double() - want).abs().max() + 64 * torch.finfo(torch.float32).eps * want.abs().max()
        worst = max(worst, ((got.double() - want).abs().max() / allowed).item())
    return worst


def measure(name: str) -> dict[str, Any]:
    """Everything about one entry, in this process."""
    entry = ENTRIES[name]
    small = replace(entry, batch=1, size=9, channels=6)
    found: dict[str, Any] = {"evaluations": entry.evaluations}
    ready, given = {}, tensors(entry)
    for way_name, make in WAYS.items():
        if (error := disagreement(entry, make(small))) > 1:
            found[way_name] = {"wrong": error}
            continue
        way = make(entry)
        start = time.perf_counter()
        step(way, *given)
        first = time.perf_counter() - start
        found[way_name] = {"first": first, "peak": peak_of(functools.partial(step, way, *given))}
        ready[way_name] = way
    for pass_ in ("forward", "step"):
        for way_name, seconds in in_turns(ready, given, pass_).items():
            found[way_name][pass_] = seconds
    return found


def run_entry(name: str) -> dict[str, Any]:
    """An entry in a process of its own, with empty caches."""
    return in_own_process("benchmarks.language", "--here", name, timeout=TIMEOUT)


def table(cells: dict[str, dict[str, Any]]) -> str:
    """Times over ours, our rate, and the peak of a step over that of the compiled loop."""
    others = [way for way in WAYS if way != "anyconv"]
    lines = [f"{'entry':<30}{'pass':<9}" + "".join(f"{o:>20}" for o in others) + f"{'G evaluations/s':>18}"]
    for name, found in cells.items():
        for pass_ in ("forward", "step"):
            row = f"{name:<30}{pass_:<9}"
            row += "".join(f"{r:>20.2f}" if (r := ratio(found, o, pass_)) else f"{_why(found, o):>20}" for o in others)
            mine = found.get("anyconv", {}).get(pass_)
            lines.append(row + (f"{found['evaluations'] / mine / 1e9:>18.2f}" if mine else ""))
    for pass_ in ("forward", "step"):
        means = [mean([ratio(found, o, pass_) for found in cells.values()]) for o in others]
        row = "".join(f"{m:>20.2f}" if m else f"{'':>20}" for m in means)
        lines.append(f"{'geometric mean':<30}{pass_:<9}{row}")
    return "\n".join(lines)


def _why(found: dict[str, Any], way: str) -> str:
    return next((kind for kind in ("wrong", "failed") if kind in found.get(way, {})), "")


def main() -> None:
    """Measure what is asked for and not yet known; print, keep and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entry", action="append", choices=ENTRIES, metavar="NAME", help=f"of {', '.join(ENTRIES)}")
    parser.add_argument("--again", action="store_true", help="measure known entries again")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.here)))
        return
    kept: dict[str, Any] = {"machine": f"{machine()}, {date.today()}", "cells": {}}
    if RESULTS.exists():
        kept = json.loads(RESULTS.read_text())
    for name in tqdm(options.entry or ENTRIES, unit="entry"):
        if options.again or name not in kept["cells"]:
            kept["cells"][name] = run_entry(name)
            kept["machine"] = f"{machine()}, {date.today()}"
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"times over ours, {kept['machine']}\n{table(kept['cells'])}")
    draw(kept["cells"], WAYS, kept["machine"], RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
