"""The kernels of GPUs: ``python -m benchmarks.gpu`` times them on CUDA, ``--static`` looks at them without a GPU.

Timed are formulas on layers beside everything else one could do, forward and a training step, with the memory that
they take at their peak: each way is checked against float64 before, and one that is wrong is not timed. It takes some
minutes. Looked at are the instructions of the inner loops (`static.py`), for each generation of GPUs.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
import triton
from torch import Tensor
from tqdm import tqdm

from anyconv import Formula
from anyconv.backends.layout import Layout
from anyconv.backends.triton.kernel import load
from anyconv.backends.triton.render import render

from .cases import FORMULAS, Layer, tensors
from .cpu import disagreement, step
from .picture import draw, ratio
from .static import measure, row, targets
from .ways import Way, convolution, ours, tap_loop, unfold

RESULTS = Path(__file__).parent / "results"
CAPABILITIES = (80, 90, 100)
LAYERS: dict[str, Layer] = {
    "256 channels, 56x56": Layer(32, 256, 256, (56, 56), 3),
    "64 channels, 112x112": Layer(32, 64, 64, (112, 112), 3),
    "512 channels, 7x7": Layer(64, 512, 512, (7, 7), 3),
    "1x1": Layer(32, 256, 512, (28, 28), 1),
    "stem, 7x7/2": Layer(32, 3, 64, (224, 224), 7, stride=2),
    "depthwise, 5x5": Layer(32, 256, 256, (56, 56), 5, groups=256),
    "audio": Layer(32, 64, 64, (16000,), 9),
}
CELLS = [
    *(("-|x-w|", layer) for layer in LAYERS),
    *((name, "64 channels, 112x112") for name in ("max x+w", "tanh(wx+b)", "gaussian", "logsumexp x+w", "|x-w|^p")),
]
WAYS: dict[str, Callable[[Formula, Layer], Way]] = {
    "anyconv": functools.partial(ours, backend="triton"),
    "tap loop, compiled": lambda f, layer: torch.compile(tap_loop(f, layer), dynamic=False),
    "unfold, compiled": lambda f, layer: torch.compile(unfold(f, layer), dynamic=False),
    "tap loop, eager": tap_loop,
}
SMALL = {"batch": 1, "channels": 8, "filters": 8}  # of the layer on which a way is checked


def cdist(formula: Formula, layer: Layer) -> Way:
    """The sum of differences as torch's distance between fields and filters: only of ``-|x-w|``."""
    from torch.nn.functional import unfold as fields_of  # noqa: PLC0415 - ours has that name here

    def run(x: Tensor, w: Tensor) -> Tensor:
        fields = fields_of(x, layer.kernel, padding=layer.padding, stride=layer.stride).transpose(1, 2)
        y = -torch.cdist(fields, w.flatten(1)[None].expand(len(x), -1, -1), p=1)
        sites = [(n + 2 * layer.padding - layer.kernel) // layer.stride + 1 for n in layer.size]
        return y.transpose(1, 2).reshape(len(x), -1, *sites)

    return run


def ways_of(formula_name: str, layer: Layer) -> dict[str, Way]:
    """The ways that can compute a cell, and the ordinary convolution of its shape in float32 as a yardstick."""
    formula = FORMULAS[formula_name]
    found = {name: make(formula, layer) for name, make in WAYS.items()}
    if formula_name == "-|x-w|" and layer.groups == 1 and len(layer.size) == 2:
        found["torch.cdist"] = cdist(formula, layer)
    return found | {"nn.ConvNd": convolution(formula, layer)}


def on_device(layer: Layer, formula: Formula) -> tuple[Tensor, tuple[Tensor, ...]]:
    """An image and operands on the GPU."""
    x, params = tensors(formula, layer)
    return x.detach().cuda().requires_grad_(), tuple(p.detach().cuda().requires_grad_() for p in params)


def cell(formula_name: str, layer_name: str) -> dict[str, Any]:
    """Everything about one formula on one layer: milliseconds, and bytes at the peak of a step."""
    formula, layer = FORMULAS[formula_name], LAYERS[layer_name]
    groups = SMALL["channels"] if layer.groups > 1 else 1
    small = replace(layer, **SMALL, groups=groups, size=tuple(min(n, 20) for n in layer.size))
    checked = ways_of(formula_name, small)
    found: dict[str, Any] = {}
    given = on_device(layer, formula)
    for name, way in ways_of(formula_name, layer).items():
        try:
            if name != "nn.ConvNd" and (error := disagreement(formula_name, small, _from_cpu(checked[name]))) > 1:
                found[name] = {"wrong": error}
                continue
            found[name] = timed(way, *given)
        except (RuntimeError, torch.cuda.OutOfMemoryError) as failure:
            found[name] = {"failed": f"{type(failure).__name__}: {str(failure).splitlines()[0][:200]}"}
        torch.cuda.empty_cache()
    rates = [evaluations_per_millisecond(formula, name) for name in ("tiled_forward", "tiled_pixels", "tiled_weights")]
    found["limit"] = {
        "forward": layer.evaluations / rates[0], "step": layer.evaluations * sum(1 / rate for rate in rates)
    }  # fmt: skip
    return found


def _from_cpu(way: Way) -> Way:
    """A way that takes and gives what lies on the CPU."""
    return lambda x, *params: way(x.cuda(), *(p.cuda() for p in params)).cpu()


def timed(way: Way, x: Tensor, params: tuple[Tensor, ...]) -> dict[str, float]:
    """The medians of a forward pass and a step, and what memory a step takes beside what it is given."""

    def forward() -> None:
        with torch.no_grad():
            way(x, *params)

    step(way, x, params)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(way, x, params)
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    return {
        "forward": triton.testing.do_bench(forward, return_mode="median"),
        "step": triton.testing.do_bench(lambda: step(way, x, params), return_mode="median"), "peak": peak,
    }  # fmt: skip


@functools.cache
def evaluations_per_millisecond(formula: Formula, kernel: str) -> float:
    """How fast the functor of a kernel is by itself, on all multiprocessors."""
    function = load(render(formula, "float32", "limit"))
    seen = (*Layout.of(formula.mathematics).inputs, *Layout.of(formula.mathematics).operands)
    programs, rounds, rows, lanes = 16 * torch.cuda.get_device_properties(0).multi_processor_count, 1000, 4, 4
    numbers = torch.rand(1024 * (8 + len(seen)), device="cuda") + 0.5
    out = torch.empty(64 * 1024, device="cuda")

    def run() -> None:
        function[(programs,)](
            out, numbers[8 * 1024 :], 1e-6, rounds, WHICH=kernel, OWN_ROWS=rows, OWN_LANES=lanes, ROWS=16, LANES=8,
            num_warps=4, enable_fp_fusion=False,
        )  # fmt: skip

    milliseconds: float = triton.testing.do_bench(run, return_mode="median")
    return programs * rounds * rows * lanes * 16 * 8 / milliseconds


def dynamic() -> None:
    """Time every cell on the GPU; keep and draw what was found."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    cells = {}
    for formula_name, layer_name in (bar := tqdm(CELLS)):
        bar.set_description(f"{formula_name}, {layer_name}")
        cells[f"{formula_name}, {layer_name}"] = cell(formula_name, layer_name)
    machine = f"{torch.cuda.get_device_name()}, torch {torch.__version__}, triton {triton.__version__}"
    RESULTS.joinpath("gpu.json").write_text(
        json.dumps({"machine": machine, "date": str(date.today()), "cells": cells}, indent=1) + "\n"
    )
    draw(cells, [*WAYS, "torch.cdist", "nn.ConvNd", "limit"], machine, RESULTS / "gpu.png")
    print(machine)
    for pass_ in ("forward", "step"):
        for name, found in cells.items():
            shares = {way: ratio(found, way, pass_) for way in ("tap loop, compiled", "nn.ConvNd", "limit")}
            text = "  ".join(f"{way} {share:.2f}" for way, share in shares.items() if share)
            print(f"{name:36s} {pass_:8s} {text}")
        compiled = [r for found in cells.values() if (r := ratio(found, "tap loop, compiled", pass_))]
        if compiled:
            print(f"{'geometric mean':36s} {pass_:8s} tap loop, compiled {statistics.geometric_mean(compiled):.2f}")


def static(capabilities: list[int], names: list[str]) -> dict[str, Any]:
    """Look at the kernels of formulas, for each generation of GPUs."""
    wanted = [(c, name, target) for c in capabilities for name in names for target in targets(FORMULAS[name], c)]
    found: dict[str, Any] = {f"sm_{c}": {name: {} for name in names} for c in capabilities}
    for capability, name, target in (bar := tqdm(wanted)):
        bar.set_description(f"sm_{capability} {name}, {target.name}")
        found[f"sm_{capability}"][name][target.name] = row(measure(target))
    return found


def show(found: dict[str, Any]) -> None:
    """The table, a line for each kernel."""
    head = f"{'':36s} registers  spills   slots = arithmetic + loads + places   least  times the least"
    for generation, formulas in found.items():
        print(f"{generation}\n{head}")
        for name, passes in formulas.items():
            for pass_, m in passes.items():
                places = m["slots"] - m["arithmetic"] - m["loads"]
                title = f"{name}, {pass_}"
                kinds = f"{m['arithmetic']:10.2f}{m['loads']:8.2f}{places:9.2f}{m['least']:8.2f}"
                print(
                    f"{title:36s} {m['registers']:9d} {m['spills']:7d} {m['slots']:7.2f}   {kinds}"
                    f"{m['slots'] / m['least']:10.2f}"
                )


def picture(found: dict[str, Any], path: Path) -> None:
    """How many times the least that its arithmetic needs each kernel issues."""
    figure, axes = plt.subplots(1, len(found), figsize=(4.2 * len(found), 5), sharey=True, layout="constrained")
    for axis, (generation, formulas) in zip(axes if len(found) > 1 else [axes], found.items(), strict=True):
        for i, (pass_, marker) in enumerate((("forward", "o"), ("pixel gradient", "s"), ("weight gradients", "^"))):
            points = [passes[pass_]["slots"] / passes[pass_]["least"] for passes in formulas.values()]
            axis.plot(points, [y + 0.2 * (i - 1) for y in range(len(points))], marker, markersize=4, label=pass_)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set(title=generation, xlabel="instructions, in times of the functor's alone")
        axis.grid(axis="x", alpha=0.3)
        axis.set_yticks(range(len(formulas)), list(formulas), fontsize=8)
    figure.axes[0].invert_yaxis()
    figure.axes[-1].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.gpu", description=__doc__)
    parser.add_argument("--static", action="store_true", help="look at kernels, without a GPU")
    parser.add_argument("--capability", type=int, choices=CAPABILITIES, help="of one generation of GPUs only")
    parser.add_argument("--formula", choices=FORMULAS, help="of one formula only")
    parser.add_argument("--json", action="store_true", help="print what was found, and keep nothing")
    options = parser.parse_args()
    if not options.static:
        if not torch.cuda.is_available():
            parser.error("this machine has no CUDA device; --static needs none")
        dynamic()
        return
    names = [options.formula] if options.formula else list(FORMULAS)
    found = static([options.capability] if options.capability else list(CAPABILITIES), names)
    if options.json:
        print(json.dumps(found))
        return
    if not options.formula and not options.capability:
        kept = {"triton": triton.__version__, "date": str(date.today()), "kernels": found}
        (RESULTS / "gpu_static.json").write_text(json.dumps(kept, indent=1) + "\n")
        picture(found, RESULTS / "gpu_static.png")
    show(found)


if __name__ == "__main__":
    main()
