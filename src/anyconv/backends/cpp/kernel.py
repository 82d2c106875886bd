"""Kernel: libraries that are loaded, and how they come to be: from memory, from the cache, or by a build.

Each pass is a library, so that inference waits for the forward pass alone, and where both are wanted two compilers work
side by side. A library serves the calls that have the same lanes, so that a first call waits for no code that it cannot
use. A formula whose build fails is computed by the reference backend, after one warning; this process does not try
again.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ... import store
from ...errors import BackendError
from ...plan import Problem, schedule
from ...plan.machine import this_machine
from ...plan.schedule import Work
from ..functor import functor
from .build import BuildError, build, compiler
from .render import Source, Variant, render, skeletons


@dataclass(frozen=True)
class Kernel:
    """The functions that compute a call, each of one pointer to its arguments.

    Args:
        source: of the forward pass.
        backward: None where no gradient will be asked for.
    """

    source: Source
    forward: Any
    backward: Any


_lock = threading.Lock()
_loaded: dict[Source, Any] = {}  # functions, or the BuildError that stood in the way
_building: dict[Source, threading.Lock] = {}


def load(source: Source) -> Any:
    """The function of a source of one pass; the first call of any process builds it, one call at a time.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    found = _loaded.get(source)
    if found is None:
        with _lock:
            mine = _building.setdefault(source, threading.Lock())
        with mine:
            found = _loaded.get(source)
            if found is None:
                found = _loaded[source] = _make(source)
    if isinstance(found, BuildError):
        raise found
    return found


def kernel_of(problem: Problem, work: Work, *, trains: bool, required: bool) -> Kernel | None:
    """Load or build the kernel of a problem for some work; where that fails, return None after one warning.

    Args:
        trains: gradients will be asked for.
        required: no other backend will do.

    Raises:
        BackendError: it cannot be built, and is ``required``.
    """
    sources = _sources(problem, work, trains=trains)
    try:
        forward, *backward = _side_by_side(sources)
    except BuildError as error:
        if required:
            raise BackendError(f"the cpp backend has no kernel for {problem.formula}: {error}") from error
        _warn(str(error))
        return None
    return Kernel(sources[0], forward, backward[0] if trains else None)


def _sources(problem: Problem, work: Work, *, trains: bool) -> list[Source]:
    """Write the source of the forward pass and, if it ``trains``, of the backward pass."""
    m, machine = problem.mathematics, this_machine()
    lanes = {"forward": schedule.forward_lanes(work, machine)}
    if trains:
        lanes["backward"] = schedule.backward_lanes(work, machine)
    saves = trains and bool(functor(m).saved)
    variants = {
        name: Variant(each, saves and name == "forward", each == "sites" and problem.geometry.mode == "skip")
        for name, each in lanes.items()
    }
    return [render(m, problem.dtype, machine, (name,), variant) for name, variant in variants.items()]


def _side_by_side(sources: list[Source]) -> list[Any]:
    if all(source in _loaded for source in sources):
        return [load(source) for source in sources]
    with ThreadPoolExecutor(len(sources)) as pool:
        return list(pool.map(load, sources))


@functools.cache
def _warn(why: str) -> None:
    warnings.warn(
        f"{why}\n  The reference backend computes instead: the same numbers, some hundred times slower.", stacklevel=2
    )


def _make(source: Source) -> Any:
    try:
        function = getattr(open_library(source), f"anyconv_{source.passes[0]}")
    except BuildError as error:
        return error
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    return function


def open_library(source: Source) -> ctypes.CDLL:
    """The library of a source, from the cache or built.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    start, machine, made = time.perf_counter(), this_machine(), compiler()
    parts = (
        source.text,
        skeletons(),
        *made.command,
        *made.arguments(costly=source.costly),
        made.version,
        machine.name,
        *machine.features,
    )
    try:
        path = store.fetch(store.key(*parts), lambda folder: build(source, folder))
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"the kernel of {source.formula} cannot be kept or loaded: {error}") from error
    if os.environ.get("ANYCONV_VERBOSE", "0") not in ("", "0"):
        took = time.perf_counter() - start
        text = path.with_name("kernel.cpp")
        print(f"anyconv: {source.title}: {text}, ready in {took:.2f} s", file=sys.stderr)
    return library


def _reset_after_fork() -> None:
    """Another thread of the parent may have held a lock."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _building.clear()


os.register_at_fork(after_in_child=_reset_after_fork)
