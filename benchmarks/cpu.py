"""Forward and training time on the CPU, ours beside everything else one could do: ``python -m benchmarks.cpu``.

Each cell, a formula on a layer, is a process of its own, in which all ways are checked against float64, then timed in
turns. A way that is wrong is not timed. ``--short`` takes six cells, a minute; ``--formula='-|x-w|'`` and
``--layer=audio`` choose.
All cells take hours, most of them the compiler's of the others; what is measured is kept, and a second run goes on.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from anyconv import Formula
from anyconv.backends.cpp.limit import limit

from .cases import FORMULAS, LAYERS, Layer, tensors
from .measure import in_own_process, machine, peak_of
from .picture import draw, ratio
from .ways import WAYS, Way, tap_loop

RESULTS = Path(__file__).parent / "results" / "cpu.json"
SECONDS = 0.6  # of timing for each way and pass
CELL_TIMEOUT = 900
SHORT = [
    ("-|x-w|", "64 channels, 3x3"), ("max x+w", "depthwise, 5x5"), ("tanh(wx+b)", "64 channels, 3x3"),
    ("prod tan(x+w)", "one channel, 11x11"), ("gaussian", "audio"), ("logsumexp x+w", "256 channels, 8x8"),
]  # fmt: skip
YARDSTICK = "nn.ConvNd"


def step(way: Way, x: Tensor, params: tuple[Tensor, ...]) -> list[Tensor]:
    """One training step: the output and every gradient; of a way that has none, the output."""
    if hasattr(way, "step"):
        found: list[Tensor] = way.step(x, *params)
        return found
    y = way(x, *params)
    if hasattr(way, "forward_only"):
        return [y]
    grads = torch.autograd.grad(y, (x, *params), torch.ones_like(y), allow_unused=True)
    return [y.detach(), *(g for g in grads if g is not None)]


def disagreement(formula_name: str, layer: Layer, way: Way) -> float:
    """Return the error of a way to compute one of the formulas of this benchmark."""
    return error_of(FORMULAS[formula_name], layer, way)


def error_of(formula: Formula, layer: Layer, way: Way) -> float:
    """Return the largest error of a way on a small image, over what rounding may do; below 1 is right.

    Rounding may do what it does to the eager tap loop in float32, eight times, and a few units of the largest number.
    """
    gold = step(tap_loop(formula, layer), *tensors(formula, layer, torch.float64))
    plain = step(tap_loop(formula, layer), *tensors(formula, layer))
    worst = 0.0
    found = step(way, *tensors(formula, layer))
    compared = 1 if hasattr(way, "forward_only") else len(gold)
    for got, single, want in zip(found, plain[:compared], gold[:compared], strict=True):
        fair = want.isfinite() & (want.abs() < 1e30) & single.isfinite()
        if not fair.any():
            raise ValueError("nothing to compare: every number of the small image overflows in float32")
        scale = want[fair].abs().max()
        allowed = 8 * (single.double() - want)[fair].abs().max() + 64 * torch.finfo(torch.float32).eps * scale
        worst = max(worst, ((got.double() - want)[fair].abs().max() / allowed).item())
    return worst


def check(formula_name: str, layer_name: str, name: str) -> dict[str, Any]:
    """What is wrong with a way, on a small image of the layer; nothing if it is right."""
    layer = LAYERS[layer_name]
    small = replace(layer, batch=1, size=tuple(min(n, 20) for n in layer.size))
    try:
        error = disagreement(formula_name, small, WAYS[name](FORMULAS[formula_name], small))
    except Exception as failure:
        return _failure(failure)
    return {} if error <= 1 else {"wrong": error}


def cell(formula_name: str, layer_name: str, ways: list[str]) -> dict[str, Any]:
    """Everything about one formula on one layer, in this process; the checks are another's, until time is taken."""
    formula, layer = FORMULAS[formula_name], LAYERS[layer_name]
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        checks = {n: pool.submit(check, formula_name, layer_name, n) for n in ways if n != YARDSTICK}
        found, ready = first_steps(formula, layer, ways, lambda name: checks[name].result() if name in checks else {})
    for pass_ in ("forward", "step"):
        able = {n: way for n, way in ready.items() if pass_ == "forward" or not hasattr(way, "forward_only")}
        for name, seconds in in_turns(able, tensors(formula, layer), pass_).items():
            found[name][pass_] = seconds
    bound, threads = limit(formula, "float32"), torch.get_num_threads()
    found["limit"] = {
        "forward": layer.evaluations / bound.forward / threads,
        "step": layer.evaluations * (1 / bound.training + 1 / bound.backward) / threads,
    }
    return found


def first_steps(
    formula: Formula, layer: Layer, names: list[str], verdict: Callable[[str], dict[str, Any]]
) -> tuple[dict[str, Any], dict[str, Way]]:
    """How long the first step of each way takes, with whatever is compiled for it, and how much memory the second.

    The ways that are right, and ran, are ready to be timed; of the others only what is wrong is kept.
    """
    found, ready, given = {}, {}, tensors(formula, layer)
    for name in names:
        way = WAYS[name](formula, layer)
        try:
            start = time.perf_counter()
            step(way, *given)
            first = time.perf_counter() - start
            found[name] = {"first": first, "peak": peak_of(functools.partial(step, way, *given))}
        except Exception as failure:
            found[name] = _failure(failure)
        if wrong := verdict(name):
            found[name] = wrong
        elif "failed" not in found[name]:
            ready[name] = way
    return found, ready


def _failure(failure: Exception) -> dict[str, Any]:
    return {"failed": f"{type(failure).__name__}: {str(failure)[:200]}"}


def in_turns(ways: dict[str, Way], given: tuple[Tensor, tuple[Tensor, ...]], pass_: str) -> dict[str, float]:
    """The median of each way, in seconds; they take turns, so that a noisy second hits all alike."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in (*ways.values(), *ways.values()):
        _time(way, *given, pass_)
    deadline = time.perf_counter() + SECONDS * len(ways)
    while time.perf_counter() < deadline or any(len(seconds) < 3 for seconds in taken.values()):
        for name, way in ways.items():
            taken[name].append(_time(way, *given, pass_))
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def _time(way: Way, x: Tensor, params: tuple[Tensor, ...], pass_: str) -> float:
    start = time.perf_counter()
    if pass_ == "forward":
        with torch.no_grad():
            way(x, *params)
    else:
        step(way, x, params)
    return time.perf_counter() - start


def run_cell(formula: str, layer: str, ways: list[str]) -> dict[str, Any]:
    """A cell in a process of its own, with empty caches."""
    return in_own_process("benchmarks.cpu", "--cell", json.dumps([formula, layer, ways]), timeout=CELL_TIMEOUT)


def mean(ratios: list[float | None]) -> float | None:
    """The geometric mean of those that are."""
    there = [r for r in ratios if r is not None]
    return math.exp(sum(map(math.log, there)) / len(there)) if there else None


def table(cells: dict[str, dict[str, Any]]) -> str:
    """Ratios: how many times as long as ours each other way takes, and how near ours is to the limit."""
    others = [way for way in WAYS if way != "anyconv"]
    head = f"{'formula':<15}{'layer':<20}{'pass':<9}" + "".join(f"{o:>20}" for o in others) + f"{'of the limit':>14}"
    lines, found = [head], {(o, p): [] for o in (*others, "limit") for p in ("forward", "step")}  # type: ignore[var-annotated]
    for name, values in cells.items():
        formula, layer = name.split(" | ")
        for pass_ in ("forward", "step"):
            row = f"{formula:<15}{layer:<20}{pass_:<9}"
            for other in (*others, "limit"):
                value = ratio(values, other, pass_)
                found[other, pass_].append(value)
                if other == "limit":
                    row += f"{value:>14.0%}" if value else f"{'':>14}"
                else:
                    row += f"{value:>20.2f}" if value else f"{_why(values, other):>20}"
            lines.append(row)
    for pass_ in ("forward", "step"):
        row = f"{'geometric mean':<35}{pass_:<9}"
        row += "".join(f"{m:>20.2f}" if (m := mean(found[o, pass_])) else f"{'':>20}" for o in others)
        m = mean(found["limit", pass_])
        lines.append(row + (f"{m:>14.0%}" if m else ""))
    return "\n".join(lines)


def _why(values: dict[str, Any], way: str) -> str:
    return next((kind for kind in ("wrong", "failed") if kind in values.get(way, {})), "")


def details(cells: dict[str, dict[str, Any]]) -> str:
    """First calls and peaks of memory."""
    lines = [f"{'formula':<15}{'layer':<20}{'way':<22}{'first call, s':>14}{'peak of a step, MiB':>21}"]
    for name, values in cells.items():
        formula, layer = name.split(" | ")
        for way in WAYS:
            if "first" in values.get(way, {}):
                peak = values[way]["peak"] / 2**20
                lines.append(f"{formula:<15}{layer:<20}{way:<22}{values[way]['first']:>14.2f}{peak:>21.1f}")
    return "\n".join(lines)


def main() -> None:
    """Measure what is asked for and not yet known; print, keep and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--short", action="store_true", help="six cells, against nn.ConvNd and the eager loop; kept nowhere"
    )
    for name, choices in (("formula", FORMULAS), ("layer", LAYERS), ("way", WAYS)):
        help_ = f"may be repeated; of {', '.join(choices)}"
        parser.add_argument(f"--{name}", action="append", choices=choices, metavar="NAME", help=help_)
    parser.add_argument("--again", action="store_true", help="measure known cells again")
    parser.add_argument("--cell", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(cell(*json.loads(options.cell))))
        return
    here = f"{machine()}, {date.today()}"
    if options.short:
        ways = ["anyconv", "tap loop, eager", YARDSTICK]
        cells = {f"{f} | {layer}": run_cell(f, layer, ways) for f, layer in tqdm(SHORT, unit="cell")}
        print(f"times over ours, {here}\n{table(cells)}")
        return
    kept: dict[str, Any] = {"machine": here, "cells": {}}
    if RESULTS.exists():
        kept = json.loads(RESULTS.read_text())
    wanted = [(f, layer) for layer in options.layer or LAYERS for f in options.formula or FORMULAS]
    for f, layer in tqdm(wanted, unit="cell"):
        if options.again or f"{f} | {layer}" not in kept["cells"]:
            kept["cells"][f"{f} | {layer}"] = run_cell(f, layer, options.way or list(WAYS))
            kept["machine"] = here
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"times over ours, {kept['machine']}\n{table(kept['cells'])}\n\n{details(kept['cells'])}")
    draw(kept["cells"], WAYS, kept["machine"], RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
