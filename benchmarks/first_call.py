"""Time the first call of a formula, whose kernels nobody has built: ``python -m benchmarks.first_call``.

Each formula runs in processes of its own, with an empty cache: the clock starts after the imports.
``--beside ../old/src`` runs each formula with another checkout too, the two in turns, and prints the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from tqdm import tqdm

import anyconv

from .cases import FORMULAS, LAYERS, tensors
from .measure import in_own_process, machine

CHOSEN = ("tanh(wx+b)", "-|x-w|", "prod tan(x+w)")
LAYER = LAYERS["64 channels, 3x3"]
TIMEOUT = 120


def first_call(name: str, *, trains: bool) -> float:
    """Return the seconds until a formula's first output and, if it ``trains``, its first gradients are there."""
    x, params = tensors(FORMULAS[name], LAYER)
    for leaf in (x, *params):
        leaf.requires_grad_(trains)
    start = time.perf_counter()
    y = anyconv.conv2d(x, params, FORMULAS[name], padding=LAYER.padding, backend="cpp")
    if trains:
        torch.autograd.grad(y.sum(), (x, *params))
    return time.perf_counter() - start


@contextmanager
def library(source: Path | None) -> Iterator[None]:
    """Let the processes that are started import the library from another place."""
    before = os.environ.get("PYTHONPATH")
    if source is not None:
        os.environ["PYTHONPATH"] = str(source.resolve())
    yield
    if before is None:
        os.environ.pop("PYTHONPATH", None)
    else:
        os.environ["PYTHONPATH"] = before


def measure(name: str, sources: list[Path | None], times: int, *, trains: bool) -> list[float]:
    """Return the median seconds of a formula's first call with each source of the library."""
    found: list[list[float]] = [[] for _ in sources]
    for _ in range(times):
        for source, seconds in zip(sources, found, strict=True):
            with library(source):
                one = in_own_process("benchmarks.first_call", f"--one={name}", *["--trains"] * trains, timeout=TIMEOUT)
            if "failed" in one:
                raise RuntimeError(f"the first call of {name} failed: {one['failed']}")
            seconds.append(one["seconds"])
    return [statistics.median(seconds) for seconds in found]


def main() -> None:
    """Measure, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help="the src folder of another checkout")
    parser.add_argument("--times", type=int, default=5, help="first calls of each formula")
    parser.add_argument("--one", choices=FORMULAS, help="time one first call, here and now")
    parser.add_argument("--trains", action="store_true", help="with --one: gradients too")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps({"seconds": first_call(arguments.one, trains=arguments.trains)}))
        return
    sources = [None] if arguments.beside is None else [None, arguments.beside]
    print(f"seconds of the first call, median of {arguments.times}; {machine()}")
    cases = [(name, trains) for name in CHOSEN for trains in (False, True)]
    for name, trains in tqdm(cases, leave=False):
        ours, *other = measure(name, sources, arguments.times, trains=trains)
        compared = f"{other[0]:8.2f} beside, {ours / other[0]:.2f} of it" if other else ""
        tqdm.write(f"{name:<16}{'forward and backward' if trains else 'forward':<22}{ours:6.2f}{compared}")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
