"""The cases of one formula, computed in a worker process."""

from __future__ import annotations

import time
import traceback
from typing import Any

import torch

from anyconv.backends.cpp import build

from . import draw, planted
from .case import Case
from .check import run
from .outcome import Failure, Outcome
from .tally import is_new, record

_at: Any = None


def begin(at: Any, plant: str | None) -> None:
    """Prepare a worker: all memory that torch hands out is full of NaN, and a bug is planted if one is asked for.

    Kernels are built without the optimizer, which changes no value.

    Args:
        at: a shared number, in which the worker keeps the case that it is at.
    """
    global _at  # noqa: PLW0603
    _at = at
    torch.set_num_threads(1)
    build.OPTIMIZATION = "-O0"
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    if plant:
        planted.plant(plant)


def run_block(seed: int, number: int, per_formula: int, shares: draw.Shares, end: float) -> list[dict[str, Any]]:
    """The records of a formula's cases, as far as time allows."""
    records = []
    for index in range(number * per_formula, (number + 1) * per_formula):
        if time.monotonic() > end:
            break
        if _at is not None:
            _at.value = index
        case = draw.case(seed, index, per_formula, shares)
        records.append(record(case, outcome_of(case)))
    return records


def outcome_of(case: Case) -> Outcome:
    """The outcome of a case; an error of the search itself is a failure of its own kind."""
    try:
        return run(case)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = f"{type(error).__name__} at {where.name}:{where.lineno}: {error}"
        return Outcome(failures=(Failure("search", "Broken", message[:300]),))


def died(seed: int, index: int, per_formula: int, shares: draw.Shares) -> dict[str, Any]:
    """The record of a case at which a process died."""
    case = draw.case(seed, index, per_formula, shares)
    return record(case, Outcome("", failures=(Failure("process", "Died", "the process died"),)))


def confirmed(records: list[dict[str, Any]], per_formula: int, shares: draw.Shares) -> list[dict[str, Any]]:
    """Mark failures that are no fault of a planted bug: their cases fail in this process too, which has none."""
    for one in filter(is_new, records):
        case = draw.case(one["seed"], one["index"], per_formula, shares)
        if is_new(record(case, outcome_of(case))):
            for failure in one["failures"]:
                failure["known"] = failure["known"] or "without the plant"
    return records
