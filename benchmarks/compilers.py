"""Build and run the same kernels with every compiler that is found: ``python -m benchmarks.compilers``.

Each compiler has a process of its own, with one thread and an empty cache. The processes are checked against float64;
then they take turns, so that a noisy second hits all alike. All times are those of the processor, without what it does
for others. A formula on which a compiler is wrong has no ratios.
``--label before`` keeps what was measured beside other labels; ``--formula where`` measures some formulas only.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import math
import multiprocessing
import os
import resource
import shlex
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from anyconv import Formula
from anyconv.backends.cpp.build import CANDIDATES, Compiler, find

from .cases import FORMULAS as CASES
from .cases import LAYERS, tensors
from .cpu import error_of, mean, step
from .measure import machine
from .ways import Way, ours

RESULTS = Path(__file__).parent / "results" / "compilers.json"
SECONDS = 0.4  # of timing for each compiler and pass
LAYER = LAYERS["64 channels, 3x3"]
SMALL = replace(LAYER, batch=1, channels=16, filters=20, size=(12, 13))  # numbers are checked on it
PASSES = ("forward", "step")
CHOSEN = (
    "where", "-|x-w|", "max x+w", "(x-w)^2", "tanh(wx+b)", "sin(wx)", "prod tan(x+w)", "logsumexp x+w", "gaussian",
    "rational",
)  # fmt: skip
FORMULAS: dict[str, Formula] = {name: CASES[name] for name in CHOSEN} | {
    "log1p(exp)": Formula(lambda x, w: torch.log1p(torch.exp(x * w))),
    "erf(wx)": Formula(lambda x, w: torch.erf(w * x)),
}


def compilers() -> dict[str, Compiler]:
    """Return the compilers that run here, in the order in which the library would take them; each once."""
    found: dict[str, Compiler] = {}
    for name in CANDIDATES:
        made = find(name, os.environ.get("PATH", ""))
        if made and made.version not in [other.version for other in found.values()] and name != "c++":
            found[name] = made
    return found


class Worker:
    """A process that computes with one compiler, when it is asked to."""

    def __init__(self, made: Compiler, formula: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs, shlex.join(made.command), formula), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, question: str) -> Any:
        """Return the answer to one of the questions of :func:`serve`.

        Raises:
            EOFError: the process has failed.
        """
        self._pipe.send(question)
        return self._pipe.recv()

    def close(self) -> None:
        """Let the process end."""
        with contextlib.suppress(OSError):
            self._pipe.send("end")
        self._process.join()


def serve(pipe: Connection, command: str, formula_name: str) -> None:
    """Answer questions until the last.

    ``build`` of both passes and each pass: seconds. ``error``: beside float64. ``bits``: of all numbers.
    """
    torch.set_num_threads(1)
    formula = FORMULAS[formula_name]
    way, (x, params) = ours(formula, LAYER), tensors(formula, LAYER)
    answers: dict[str, Callable[[], object]] = {
        "build": lambda: _seconds_of_children(lambda: step(way, x, params)),
        "forward": lambda: _seconds(lambda: _forward(way, x, params)),
        "step": lambda: _seconds(lambda: step(way, x, params)),
        "error": lambda: error_of(formula, SMALL, way),
        "bits": lambda: _digest(step(way, x, params)),
    }
    with tempfile.TemporaryDirectory() as cold:
        os.environ.update(ANYCONV_CXX=command, ANYCONV_CACHE_DIR=cold)
        while (question := pipe.recv()) != "end":
            pipe.send(answers[question]())


def _seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


def _seconds_of_children(action: Callable[[], object]) -> float:
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    action()
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime


def _forward(way: Way, x: Tensor, params: tuple[Tensor, ...]) -> Tensor:
    with torch.no_grad():
        return way(x, *params)


def _digest(numbers: list[Tensor]) -> str:
    """Return a text that differs where one bit does; all that is not a number counts as one."""
    digest = hashlib.sha256()
    for values in numbers:
        digest.update(values.nan_to_num(nan=math.pi, posinf=math.inf, neginf=-math.inf).numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def workers(found: dict[str, Compiler], formula: str) -> Iterator[dict[str, Worker]]:
    """Start a process for each compiler."""
    started = {name: Worker(made, formula) for name, made in found.items()}
    try:
        yield started
    finally:
        for worker in started.values():
            worker.close()


def measure(found: dict[str, Compiler], formula: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Return seconds of builds and passes by compiler, and whether all bits are equal; or what is wrong."""
    with workers(found, formula) as asked:
        built = {name: worker.ask("build") for name, worker in asked.items()}
        errors = {name: worker.ask("error") for name, worker in asked.items()}
        if not all(error <= 1 for error in errors.values()):  # NaN is no number that agrees
            return {"wrong": errors}
        result: dict[str, Any] = {"build": built, "same bits": len({w.ask("bits") for w in asked.values()}) == 1}
        for pass_ in PASSES:
            result[pass_] = in_turns({n: functools.partial(w.ask, pass_) for n, w in asked.items()}, seconds)
        return result


def in_turns(asked: dict[str, Callable[[], float]], seconds: float) -> dict[str, float]:
    """Return the median time of each."""
    taken: dict[str, list[float]] = {name: [] for name in asked}
    deadline = time.perf_counter() + seconds * len(asked)
    while time.perf_counter() < deadline or any(len(times) < 5 for times in taken.values()):
        for name, ask in asked.items():
            taken[name].append(ask())
    return {name: statistics.median(times) for name, times in taken.items()}


def table(cells: dict[str, dict[str, Any]], names: list[str]) -> str:
    """Return one line for each formula: what each compiler takes to build, and how many times as long as the first."""
    first, *others = names
    heads = [f"build {name}" for name in names] + [f"{pass_} {other}" for other in others for pass_ in PASSES]
    lines = [f"{'formula':<16}" + "".join(f"{head:>15}" for head in heads) + f"{'same bits':>12}"]
    ratios: dict[str, list[float | None]] = {f"{pass_} {other}": [] for other in others for pass_ in PASSES}
    for formula, cell in cells.items():
        if "wrong" in cell:
            lines.append(f"{formula:<16}wrong: {cell['wrong']}")
            continue
        row = [f"{cell['build'][name]:.2f} s" for name in names]
        for other in others:
            for pass_ in PASSES:
                found = cell[pass_][other] / cell[pass_][first]
                ratios[f"{pass_} {other}"].append(found)
                row.append(f"{found:.2f}")
        bits = "yes" if cell["same bits"] else "no"
        lines.append(f"{formula:<16}" + "".join(f"{value:>15}" for value in row) + f"{bits:>12}")
    means = [mean(found) for found in ratios.values()]
    row = ["" for _ in names] + [f"{m:.2f}" if m else "" for m in means]
    lines.append(f"{'geometric mean':<16}" + "".join(f"{value:>15}" for value in row))
    return "\n".join(lines)


def main() -> None:
    """Measure what is asked for; print it and keep it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--formula", action="append", choices=FORMULAS, metavar="NAME", help=f"of {', '.join(FORMULAS)}"
    )
    parser.add_argument("--label", default="now", help="under which the results are kept")
    options = parser.parse_args()
    found = compilers()
    if len(found) < 2:
        raise SystemExit(f"two compilers are needed, and these run: {', '.join(found) or 'none'}")
    kept: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    entry = kept.setdefault(options.label, {"cells": {}})
    entry["machine"] = f"{processor()}, 1 thread, torch {torch.__version__}, {date.today()}"
    entry["compilers"] = {name: made.version.splitlines()[0] for name, made in found.items()}
    for formula in tqdm(options.formula or FORMULAS, unit="formula"):
        entry["cells"][formula] = measure(found, formula)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(f"times over those of {next(iter(found))}, {entry['machine']}\n{table(entry['cells'], list(found))}")


def processor() -> str:
    """Return the name of the processor, if the system tells it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return machine()


if __name__ == "__main__":
    main()
