"""The command line of the search."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported
os.environ["MALLOC_PERTURB_"] = "128"  # of workers: what C allocates is full of 3e38

from . import draw, planted
from .block import begin, confirmed, died, run_block
from .report import report
from .tally import Tally, is_new


def main(argv: list[str] | None = None) -> int:
    """Search; return 1 where something is wrong that is not known."""
    options = _options().parse_args(argv)
    shares = draw.Shares(**{f.name: getattr(options, f.name) for f in fields(draw.Shares) if f.name != "shapes"})
    tally = Tally(options.tally)
    numbers = [f for f in range(options.first, options.first + options.formulas) if _is_left(tally, options, f)]
    end = time.monotonic() + 60 * options.minutes
    with tqdm(total=len(numbers) * options.per_formula, unit="case", disable=options.quiet) as bar:
        for records in _blocks(numbers, options, shares, end):
            tally.add(_caused(records, options, shares))
            bar.update(len(records))
            bar.set_postfix_str(f"{len(tally.formulas)} formulas, {len(tally.built)} on cpp, {tally.faults} faults")
            if tally.faults and options.stop:
                break
    print("\n".join(tally.lines()))
    if tally.faults and not options.no_report:
        report(tally, shares, options.per_formula, seconds=options.shrink)
    return 1 if tally.faults else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m tests.search", description=sys.modules[__package__].__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="the first formula's number")
    parser.add_argument("--formulas", type=int, default=3400, help="how many formulas")
    parser.add_argument("--per-formula", type=int, default=30, help="cases of a formula")
    parser.add_argument("--minutes", type=float, default=600.0, help="a limit of time")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    parser.add_argument("--tally", type=Path, help="a file of records; what it holds already is not done again")
    parser.add_argument("--shrink", type=float, default=60.0, help="seconds to shrink each kind of failure")
    parser.add_argument("--stop", action="store_true", help="stop at the first fault that is not known")
    parser.add_argument("--no-report", action="store_true", help="count failures, and do not shrink them")
    parser.add_argument("--quiet", action="store_true", help="no progress")
    parser.add_argument("--plant", choices=sorted(planted.PLANTED), help="plant a bug first, to calibrate the search")
    for share in fields(draw.Shares):
        if share.name != "shapes":
            parser.add_argument(f"--{share.name}", type=float, default=share.default, help=f"the share of {share.name}")
    return parser


def _caused(records: list[dict[str, Any]], options: argparse.Namespace, shares: draw.Shares) -> list[dict[str, Any]]:
    """The records of a block; with a planted bug, failures that show without it are marked, by a process without it."""
    if not options.plant or not any(is_new(one) for one in records):
        return records
    with ProcessPoolExecutor(1, get_context("spawn"), begin, (None, None)) as pool:
        return pool.submit(confirmed, records, options.per_formula, shares).result()


def _is_left(tally: Tally, options: argparse.Namespace, number: int) -> bool:
    first = number * options.per_formula
    return any((options.seed, first + turn) not in tally.done for turn in range(options.per_formula))


def _blocks(
    numbers: list[int], options: argparse.Namespace, shares: draw.Shares, end: float
) -> Iterator[list[dict[str, Any]]]:
    """The records of each formula's cases; a process that dies is a failure of the case it was at."""
    left = iter(numbers)
    pools: dict[int, tuple[ProcessPoolExecutor, Any]] = {}
    running: dict[Future[list[dict[str, Any]]], tuple[int, int]] = {}

    def start(worker: int) -> None:
        number = next(left, None)
        if number is None or time.monotonic() > end:
            return
        if worker not in pools:
            at = get_context("spawn").Value("q", 0)
            pools[worker] = (
                ProcessPoolExecutor(1, get_context("spawn"), begin, (at, options.plant), max_tasks_per_child=150),
                at,
            )
        pool, _ = pools[worker]
        running[pool.submit(run_block, options.seed, number, options.per_formula, shares, end)] = (worker, number)

    for worker in range(options.workers):
        start(worker)
    try:
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                worker, _number = running.pop(future)
                try:
                    yield future.result()
                except BrokenProcessPool:
                    pool, at = pools.pop(worker)
                    pool.shutdown()
                    yield [died(options.seed, at.value, options.per_formula, shares)]
                start(worker)
    finally:
        for pool, _ in pools.values():
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    sys.exit(main())
