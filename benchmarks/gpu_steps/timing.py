"""Times and memory of formulas on layers, beside what else one could do."""

from __future__ import annotations

import functools
import multiprocessing
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from anyconv import Formula

from ..cases import FORMULAS, tensors
from ..cpu import step
from ..ways import Way, convolution, tap_loop
from ..ways import ours as library
from .day import Day, Go, Row, Write, leaf

SMALL = {"batch": 1, "channels": 8, "filters": 8}  # of the layer on which a way is checked


def ours(day: Day, write: Write, go: Go) -> None:
    """Time every formula on every layer in every dtype, and the ordinary convolutions of these shapes."""
    cells = [(name, dtype) for name in day.formulas for dtype in day.dtypes]
    first = True
    for rows in _in_turns(day, cells, _compile_ours, _time_ours, go):
        if first:  # what all are compared with, before time is out
            first = False
            for layer in day.layers:
                for dtype in day.dtypes:
                    for tf32 in (False, True) if dtype == "float32" else (False,):
                        write(_convolution(day, layer, dtype, tf32=tf32))
        for row in rows:
            write(row)


def rival(day: Day, write: Write, go: Go) -> None:
    """Time the tap loop as ``torch.compile`` makes it."""
    cells = [(name, layer) for name in day.rivals for layer in day.shared]
    for row in _in_turns(day, cells, _compile_rival, _time_rival, go):
        write(row)


def _in_turns(
    day: Day, cells: list[tuple[str, str]], compiled: Callable[..., Any], timed: Callable[..., Any], go: Go
) -> Any:
    """Compile all cells side by side, each in a process of its own; when it is our turn, time one after the other."""
    context = multiprocessing.get_context("spawn")
    pools = [ProcessPoolExecutor(1, context) for _ in range(min(day.workers, len(cells)))]
    waiting = [
        (pools[i % len(pools)], cell, pools[i % len(pools)].submit(compiled, day, *cell))
        for i, cell in enumerate(cells)
    ]
    go()
    wait([future for *_, future in waiting])  # what compiles still uses the GPU now and then
    for pool, cell, future in waiting:
        try:
            future.result()
            yield pool.submit(timed, day, *cell).result()
        except Exception as error:  # one cell's; the others go on
            row = {"formula": cell[0], "of": cell[1], "failed": f"{type(error).__name__}: {str(error)[:300]}"}
            yield [row] if timed is _time_ours else row
    for pool in pools:
        pool.shutdown(cancel_futures=True)


_ready: dict[tuple[str, str], Any] = {}  # of this process


def _compile_ours(day: Day, name: str, dtype: str) -> None:
    """Build the kernels of a formula for all layers, and see that its numbers are right."""
    formula = FORMULAS[name]
    for layer in map(day.layer, day.layers):
        step(library(formula, layer, "triton"), *day.tensors(formula, layer, dtype))
        _forward(library(formula, layer, "triton"), *day.tensors(formula, layer, dtype))
    _ready[name, dtype] = error_of(day, formula, dtype)
    day.wait()
    _give_back(day)


def _time_ours(day: Day, name: str, dtype: str) -> list[Row]:
    rows, formula, error = [], FORMULAS[name], _ready[name, dtype]
    for layer_name in day.layers:
        row: Row = {"formula": name, "layer": layer_name, "dtype": dtype, "error": error}
        layer = day.layer(layer_name)
        if error <= 1:
            row |= timed(day, library(formula, layer, "triton"), *day.tensors(formula, layer, dtype))
        rows.append(row)
        _give_back(day)
    return rows


def _compile_rival(day: Day, name: str, layer_name: str) -> None:
    formula, layer = FORMULAS[name], day.layer(layer_name)
    way = day.compiled(tap_loop(formula, layer))
    given = day.tensors(formula, layer)
    step(way, *given)
    _forward(way, *given)
    day.wait()
    _ready[name, layer_name] = way


def _time_rival(day: Day, name: str, layer_name: str) -> Row:
    given = day.tensors(FORMULAS[name], day.layer(layer_name))
    row = {"formula": name, "layer": layer_name, "dtype": "float32"} | timed(
        day, _ready.pop((name, layer_name)), *given
    )
    _give_back(day)
    return row


def _convolution(day: Day, layer_name: str, dtype: str, *, tf32: bool) -> Row:
    torch.backends.cudnn.allow_tf32 = tf32
    formula, layer = FORMULAS["-|x-w|"], day.layer(layer_name)
    row: Row = {"formula": "nn.Conv2d", "layer": layer_name, "dtype": "TF32" if tf32 else dtype}
    return row | timed(day, convolution(formula, layer), *day.tensors(formula, layer, dtype))


def memory(day: Day, write: Write, go: Go) -> None:
    """Measure what a step adds to the memory at its peak, beside an ordinary convolution."""
    go()
    for layer_name in day.layers:
        formula, layer = FORMULAS["-|x-w|"], day.layer(layer_name)
        given = day.tensors(formula, layer)
        ways = {"anyconv": library(formula, layer, "triton"), "nn.Conv2d": convolution(formula, layer)}
        peaks = {name: peak(day, functools.partial(step, way, *given)) for name, way in ways.items()}
        write({"layer": layer_name, "peak": peaks})


def limit(day: Day, write: Write, go: Go) -> None:
    """Compare the cheapest formula with what its arithmetic alone takes, and with the card's instructions."""
    go()
    name = "-|x-w|"
    formula, layer = FORMULAS[name], day.layer(day.layers[0])
    found = timed(day, library(formula, layer, "triton"), *day.tensors(formula, layer))
    row: Row = {"formula": name, "layer": day.layers[0], "evaluations": layer.evaluations} | found
    write(row)
    if day.is_dry:
        return
    from ..gpu import evaluations_per_millisecond  # noqa: PLC0415 - it imports Triton

    alone = {
        kernel: evaluations_per_millisecond(formula, kernel)
        for kernel in ("tiled_forward", "tiled_pixels", "tiled_weights")
    }
    card = torch.cuda.get_device_properties(0)
    clock = 1e3 * _megahertz()  # cycles in a millisecond
    issues = card.multi_processor_count * 128 * clock
    forward = layer.evaluations / alone["tiled_forward"]
    whole = sum(layer.evaluations / rate for rate in alone.values())
    write(
        row | {"alone": {"forward": forward, "step": whole}, "clock": clock, "issues": 2 * layer.evaluations / issues}
    )


def _megahertz() -> float:
    """Return the highest clock of the multiprocessors, as the driver's own tool says it; NaN where it does not."""
    command = ["nvidia-smi", "--query-gpu=clocks.max.sm", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
        return float(said.splitlines()[0])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return float("nan")


def error_of(day: Day, formula: Formula, dtype: str) -> float:
    """Return the largest error on a small image, over what rounding may do; at most 1 is right.

    Rounding may do what it does to the eager tap loop in float32, eight times, and once more to the result's dtype.
    """
    layer = day.layer(day.layers[0])
    small = layer if day.is_dry else replace(layer, **SMALL, size=tuple(min(n, 20) for n in layer.size))
    x, params = tensors(formula, small, getattr(torch, dtype))
    gold, plain = (
        step(tap_loop(formula, small), leaf(x, d), tuple(leaf(p, d) for p in params))
        for d in (torch.float64, torch.float32)
    )
    there = day.tensors(formula, small, dtype)
    worst, info = 0.0, torch.finfo(getattr(torch, dtype))
    for got, single, want in zip(step(library(formula, small, "triton"), *there), plain, gold, strict=True):
        fair = want.isfinite() & single.isfinite() & (want.abs() < info.max / 4)
        if not fair.any():
            raise ValueError("nothing to compare: every number of the small image overflows")
        scale = want[fair].abs().max()
        allowed = 8 * (single.double() - want).abs()[fair].max() + 64 * torch.finfo(torch.float32).eps * scale
        allowed = allowed + (info.eps * want.abs()[fair] if info.bits < 32 else 0)
        worst = max(worst, ((got.cpu().double() - want).abs()[fair] / allowed).max().item())
    return worst


def timed(day: Day, way: Way, x: Tensor, params: tuple[Tensor, ...]) -> dict[str, float]:
    """Return the medians of a forward pass and of a step, in milliseconds."""
    return {
        "forward": median(day, lambda: _forward(way, x, params)),
        "step": median(day, lambda: step(way, x, params)),
    }


def median(day: Day, action: Callable[[], object]) -> float:
    """Return the median time of an action in milliseconds, by the device's clock where it has one."""
    if not day.is_dry:
        import triton  # noqa: PLC0415 - the dry run needs its interpreter alone

        taken: float = triton.testing.do_bench(
            action, warmup=day.milliseconds // 4, rep=day.milliseconds, return_mode="median"
        )
        return taken
    start = time.perf_counter()
    action()
    return 1e3 * (time.perf_counter() - start)


def peak(day: Day, action: Callable[[], object]) -> int:
    """Return the bytes that an action adds to the device's memory at its peak; none are counted without a GPU."""
    action()
    if day.is_dry:
        return 0
    day.wait()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    action()
    day.wait()
    return torch.cuda.max_memory_allocated() - before


def _forward(way: Way, x: Tensor, params: tuple[Tensor, ...]) -> None:
    with torch.no_grad():
        way(x, *params)


def _give_back(day: Day) -> None:
    """Leave the device's memory to other processes."""
    if not day.is_dry:
        torch.cuda.empty_cache()
