"""limit: how fast a functor could be if nothing had to be loaded or stored: the yardstick of its kernels.

>>> limit(Formula(lambda x, w: -torch.abs(x - w)), "float32")
Limit(forward=..., training=..., backward=...)
"""

from __future__ import annotations

import ctypes
import functools
import time
from dataclasses import dataclass

from ...formula import Formula
from ...mathematics import Mathematics
from ...plan.machine import this_machine
from .kernel import open_library
from .render import Source, render

SECONDS = 0.01  # of one measurement
TRIES = 5


@dataclass(frozen=True)
class Limit:
    """Evaluations per second of one thread, operands and sums in registers.

    Args:
        forward: of the map and the step of the reduction.
        training: the same, with all that the gradients will ask for.
        backward: of the gradients of the pixel and of all operands together.
    """

    forward: float
    training: float
    backward: float


def limit(formula: Formula | Mathematics, dtype: str) -> Limit:
    """Measure a formula's functor, for a fraction of a second; once per process.

    Raises:
        BuildError: there is no compiler, or it failed.
    """
    return _measure(render(formula, dtype, this_machine(), ("limit",)))


@functools.cache
def _measure(source: Source) -> Limit:
    library = open_library(source)
    function = library.anyconv_limit
    function.argtypes, function.restype = [ctypes.c_long, ctypes.c_long], ctypes.c_long
    found = []
    for which in range(3):
        rounds, took, done = 100, 0.0, 0
        while took < SECONDS:
            rounds *= 2
            start = time.perf_counter()
            done = function(which, rounds)
            took = time.perf_counter() - start
        best = done / took
        for _ in range(TRIES):
            start = time.perf_counter()
            done = function(which, rounds)
            best = max(best, done / (time.perf_counter() - start))
        found.append(best)
    return Limit(*found)
