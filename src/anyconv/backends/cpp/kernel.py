"""Kernel: a library that is loaded, and how it comes to be: from memory, from the cache, or by a build.

A formula whose build fails is computed by the reference backend, after one warning; this process does not try again.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ... import store
from ...errors import BackendError
from ...plan import Problem
from ...plan.machine import this_machine
from .build import BuildError, build, compiler, flags
from .render import Source, render, skeletons


@dataclass(frozen=True, eq=False)
class Kernel:
    """A loaded library: its source, where it lies, and its functions, each of one pointer to a call."""

    source: Source
    path: Path
    forward: Any
    backward: Any


_lock = threading.Lock()
_loaded: dict[Source, Kernel | BuildError] = {}
_building: dict[Source, threading.Lock] = {}


def load(source: Source) -> Kernel:
    """The kernel of a source; the first call of any process builds it, one call at a time.

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


def kernel_of(problem: Problem, *, required: bool) -> Kernel | None:
    """The kernel of a problem; where none can be built, None after one warning.

    Raises:
        BackendError: it cannot be built, and is ``required``.
    """
    try:
        return load(render(problem.formula, problem.dtype, this_machine()))
    except BuildError as error:
        if required:
            raise BackendError(f"the cpp backend has no kernel for {problem.formula}: {error}") from error
        _warn(str(error))
        return None


@functools.cache
def _warn(why: str) -> None:
    warnings.warn(
        f"{why}\n  The reference backend computes instead: the same numbers, some hundred times slower.", stacklevel=2
    )


def _make(source: Source) -> Kernel | BuildError:
    try:
        path, library = open_library(source)
    except BuildError as error:
        return error
    functions = [getattr(library, f"anyconv_{name}") for name in ("forward", "backward")]
    for function in functions:
        function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int
    return Kernel(source, path, *functions)


def open_library(source: Source) -> tuple[Path, ctypes.CDLL]:
    """The library of a source, from the cache or built, and where it lies.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    start, machine, made = time.perf_counter(), this_machine(), compiler()
    parts = (source.text, skeletons(), *flags(), *made.command, made.version, machine.name, *machine.features)
    try:
        path = store.fetch(store.key(*parts), lambda folder: build(source, folder))
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise BuildError(f"the kernel of {source.formula} cannot be kept or loaded: {error}") from error
    if os.environ.get("ANYCONV_VERBOSE", "0") not in ("", "0"):
        took = time.perf_counter() - start
        text = path.with_name("kernel.cpp")
        print(f"anyconv: {source.formula} in {source.dtype}: {text}, ready in {took:.2f} s", file=sys.stderr)
    return path, library


def _reset_after_fork() -> None:
    """Another thread of the parent may have held a lock."""
    global _lock  # noqa: PLW0603
    _lock = threading.Lock()
    _building.clear()


os.register_at_fork(after_in_child=_reset_after_fork)
