"""Every recipe beside the way its layer is usually written: ``python -m benchmarks.recipes``.

An entry is a recipe on one layer: ours, and unfolded fields or the authors' convolutions (``benchmarks.usual``), eager
and compiled; and ``nn.Conv2d`` of the same shapes as a yardstick. Each is a process of its own; what is wrong against
float64 is not timed. ``--recipe NAME`` chooses; all of it takes half an hour. What is measured is kept.
Memory is measured on images of 130 x 130 pixels.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from anyconv import Pool2d, recipes

from .cpu import in_turns, step
from .measure import in_own_process, machine, peak_of
from .picture import draw, ratio
from .usual import BY_CONVOLUTION, USUAL, K

RESULTS = Path(__file__).parent / "results" / "recipes.json"
TIMEOUT = 900
YARDSTICK = "nn.Conv2d"


@dataclass(frozen=True)
class Case:
    """A recipe on images of a size: 3 x 3, without padding but for what keeps its size."""

    name: str
    batch: int = 4
    channels: int = 32
    filters: int = 32
    size: int = 34
    seed: int = 1

    @property
    def recipe(self) -> recipes.Recipe:
        """The recipe."""
        found: recipes.Recipe = getattr(recipes, self.name)
        return found

    def layer(self) -> nn.Module:
        """A layer, with the start values of its recipe."""
        torch.manual_seed(0)
        if self.name == "involution":  # what makes its kernels is ordinary; its sums are measured
            from anyconv.recipes.shelf.involution import FORMULA  # noqa: PLC0415

            return Pool2d(K, FORMULA, stride=1, padding_mode="zeros")
        if "Conv" in self.recipe.kinds:
            size = {"size": self.size} if self.name == "locally_connected" else {}
            made: nn.Module = self.recipe.Conv2d(self.channels, self.filters, K, bias=False, **size)
            return made
        learned = {"channels": self.channels} if self.recipe.layers else {"stride": 1}
        return self.recipe.Pool2d(K, **learned)

    def tensors(self, dtype: torch.dtype = torch.float32) -> tuple[Tensor, dict[str, Tensor]]:
        """An image, and operands by name: the layer's, moved a little from where they start, and images beside it."""
        low, high = self.recipe.pixels
        torch.manual_seed(self.seed)
        x = torch.rand(self.batch, self.channels, self.size, self.size) * (high - low) + low
        params = {}
        for name, value in self.layer().named_parameters():
            params[name] = (value.detach() + 0.1 * torch.randn(value.shape)).requires_grad_()
        params |= dict(self.layer().named_buffers())
        params |= {} if self.recipe.images is None else self.recipe.images(x)
        if self.name == "involution":
            params["kernel"] = torch.randn(self.batch, K, K, self.size - K + 1, self.size - K + 1).requires_grad_()
        moved = {n: v.detach().to(dtype).requires_grad_(v.requires_grad) for n, v in params.items()}
        return x.to(dtype).requires_grad_(), moved


Way = Callable[[Tensor, dict[str, Tensor]], Tensor]  # of the image, and the operands by name


def ours(case: Case) -> Way:
    """The library: a layer, with these operands in the place of its own."""
    layer = case.layer()
    own = {n for n, _ in [*layer.named_parameters(), *layer.named_buffers()]}

    def run(x: Tensor, params: dict[str, Tensor]) -> Tensor:
        images = {n: v for n, v in params.items() if n not in own}
        y: Tensor = torch.func.functional_call(layer, {n: v for n, v in params.items() if n in own}, (x,), images)
        return y

    return run


class Ordinary:
    """``nn.Conv2d`` of the same shapes; a depthwise one beside what works on each channel by itself."""

    def __init__(self, case: Case) -> None:
        self.groups = 1 if "Conv" in case.recipe.kinds else case.channels
        self.w = torch.rand(case.filters, case.channels // self.groups, K, K, requires_grad=True)

    def __call__(self, x: Tensor, *params: Tensor) -> Tensor:
        """The output, whatever the operands of the recipe."""
        return nn.functional.conv2d(x, self.w, groups=self.groups)

    def step(self, x: Tensor, *params: Tensor) -> list[Tensor]:
        """A step that has its own weight to learn."""
        y = self(x)
        return list(torch.autograd.grad(y, (x, self.w), torch.ones_like(y)))


WAYS: dict[str, Callable[[Case], Way]] = {
    "anyconv": ours,
    "usual, compiled": lambda case: torch.compile(USUAL[case.name], dynamic=False),
    "usual, eager": lambda case: USUAL[case.name],
}


def closed(way: Way, params: dict[str, Tensor]) -> Callable[..., Tensor]:
    """The way as a function of the image and what is learned."""
    names = [n for n, v in params.items() if v.requires_grad]
    return lambda x, *values: way(x, params | dict(zip(names, values, strict=True)))


def values_and_gradients(way: Way, x: Tensor, params: dict[str, Tensor]) -> list[Tensor]:
    """The output, and the gradient of an uneven sum of it in the image and in each operand that has one."""
    y = way(x, params)
    weights = torch.linspace(0.5, 1.5, y.numel(), dtype=torch.float64).reshape(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, (x, *(v for v in params.values() if v.requires_grad)), weights)]


def disagreement(case: Case, way: Way) -> float:
    """The largest error of a way, over what rounding may do; below 1 is right.

    Rounding may do what it does to the usual way in float32, eight times, and a few units of the largest number: each
    the worst of four draws, since a gradient of a single number may be good by luck.

    Raises:
        ValueError: the numbers to compare with are not finite, and prove nothing.
    """
    worst: list[tuple[float, float]] = []
    for other in (replace(case, seed=case.seed + i) for i in range(4)):
        gold, plain = (
            values_and_gradients(USUAL[case.name], *other.tensors(d)) for d in (torch.float64, torch.float32)
        )
        errors = []
        for got, single, want in zip(values_and_gradients(way, *other.tensors()), plain, gold, strict=True):
            if not want.isfinite().all():
                raise ValueError(f"nothing to compare: {case.name} has no finite numbers here")
            allowed = 8 * (single.double() - want).abs().max() + 64 * torch.finfo(torch.float32).eps * want.abs().max()
            error = (got.double() - want).abs().max().nan_to_num(nan=torch.inf)
            errors.append((error.item(), allowed.item()))
        worst = [(max(e, f), max(a, b)) for (e, a), (f, b) in zip(worst or errors, errors, strict=True)]
    return max(error / allowed for error, allowed in worst)


def measure(name: str) -> dict[str, Any]:
    """Everything about one recipe, in this process."""
    case, small = Case(name), Case(name, batch=1, channels=6, filters=6, size=11)
    x, params = case.tensors()
    given = (x, tuple(v for v in params.values() if v.requires_grad))
    found: dict[str, Any] = {}
    ready: dict[str, Callable[..., Tensor]] = {}
    for way_name in (*WAYS, YARDSTICK):
        try:
            if way_name == YARDSTICK:
                way: Callable[..., Tensor] = Ordinary(case)
            elif (error := disagreement(small, WAYS[way_name](small))) > 1:
                found[way_name] = {"wrong": error}
                continue
            else:
                way = closed(WAYS[way_name](case), params)
            start = time.perf_counter()
            step(way, *given)
            first = time.perf_counter() - start
            found[way_name] = {"first": first, "peak": peak_of(functools.partial(step, way, *given))}
        except Exception as failure:
            found[way_name] = {"failed": f"{type(failure).__name__}: {str(failure)[:200]}"}
            continue
        ready[way_name] = way
    for pass_ in ("forward", "step"):
        for way_name, seconds in in_turns(ready, given, pass_).items():
            found[way_name][pass_] = seconds
    return found


def measure_memory(name: str) -> dict[str, Any]:
    """The peak of the second step of ours and of ``nn.Conv2d``, on images that are large beside what is constant."""
    case = Case(name, size=130)
    x, params = case.tensors()
    given = (x, tuple(v for v in params.values() if v.requires_grad))
    found = {}
    ways: dict[str, Callable[..., Tensor]] = {"anyconv": closed(ours(case), params), YARDSTICK: Ordinary(case)}
    for way_name, way in ways.items():
        step(way, *given)
        found[way_name] = peak_of(functools.partial(step, way, *given))
    return {"memory": found}


def memory(found: dict[str, Any]) -> float | None:
    """The peak of our step over that of ``nn.Conv2d``'s."""
    peaks = found.get("memory")
    return peaks["anyconv"] / peaks[YARDSTICK] if peaks else None


def table(cells: dict[str, dict[str, Any]]) -> str:
    """How many times as long as ours the others take, and how much memory ours takes, beside ``nn.Conv2d``."""
    others = [way for way in (*WAYS, YARDSTICK) if way != "anyconv"]
    lines = [f"{'recipe':<24}{'pass':<9}" + "".join(f"{o:>18}" for o in others) + f"{'memory':>9}"]
    for name, found in cells.items():
        for pass_ in ("forward", "step"):
            row = f"{name:<24}{pass_:<9}" + "".join(f"{_cell(found, o, pass_):>18}" for o in others)
            lines.append(row + (f"{m:>9.2f}" if pass_ == "step" and (m := memory(found)) else ""))
    unfolded = {name: found for name, found in cells.items() if name not in BY_CONVOLUTION}
    for title, some in (("median of all", cells), ("of those that unfold", unfolded)):
        for pass_ in ("forward", "step"):
            row = f"{title:<24}{pass_:<9}"
            for other in others:
                known = [r for found in some.values() if (r := ratio(found, other, pass_))]
                row += f"{statistics.median(known):>18.2f}" if known else f"{'':>18}"
            peaks = [m for found in some.values() if (m := memory(found))]
            lines.append(row + (f"{statistics.median(peaks):>9.2f}" if pass_ == "step" and peaks else ""))
    return "\n".join(lines)


def _cell(found: dict[str, Any], other: str, pass_: str) -> str:
    value = ratio(found, other, pass_)
    return f"{value:.2f}" if value else next((why for why in ("wrong", "failed") if why in found.get(other, {})), "")


def main() -> None:
    """Measure what is asked for and not yet known; print, keep and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", action="append", choices=recipes.SHELF, metavar="NAME", help="may be repeated")
    parser.add_argument("--again", action="store_true", help="measure known recipes again")
    for hidden in ("--here", "--memory-here"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here or options.memory_here:
        print(json.dumps(measure(options.here) if options.here else measure_memory(options.memory_here)))
        return
    kept: dict[str, Any] = {"machine": f"{machine()}, {date.today()}", "cells": {}}
    if RESULTS.exists():
        kept = json.loads(RESULTS.read_text())
    for name in tqdm(options.recipe or recipes.SHELF, unit="recipe"):
        cell = {} if options.again else kept["cells"].get(name, {})
        for part, flag in (("anyconv", "--here"), ("memory", "--memory-here")):
            if part not in cell:
                cell |= in_own_process("benchmarks.recipes", flag, name, timeout=TIMEOUT)
                kept["cells"][name], kept["machine"] = cell, f"{machine()}, {date.today()}"
                RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"times over ours, {kept['machine']}\n{table(kept['cells'])}")
    draw(kept["cells"], (*WAYS, YARDSTICK), kept["machine"], RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
