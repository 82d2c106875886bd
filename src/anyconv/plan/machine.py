"""Machine: what a schedule needs to know of a processor."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """A processor, as far as schedules and builds care.

    Args:
        name: the instruction set, as ``platform.machine()`` calls it.
        features: the names of its extensions, as the system lists them; part of the key of a build.
        vector_bytes: of one register, as the skeletons choose it.
        registers: how many vector registers there are.
        cache_bytes: second-level cache of one core.
    """

    name: str
    features: tuple[str, ...]
    vector_bytes: int
    registers: int
    cache_bytes: int = 2**20

    def lanes(self, itemsize: int) -> int:
        """Numbers of ``itemsize`` bytes in one vector."""
        return self.vector_bytes // itemsize


def machine_of(name: str, features: tuple[str, ...]) -> Machine:
    """The machine with these features: the same choice that `simd.hpp` makes."""
    known = set(features)
    if "avx512f" in known:
        return Machine(name, features, vector_bytes=64, registers=32)
    if {"avx2", "fma"} <= known:
        return Machine(name, features, vector_bytes=32, registers=16)
    return Machine(name, features, vector_bytes=16, registers=16 if name in ("x86_64", "AMD64") else 32)


@functools.cache
def this_machine() -> Machine:
    """The processor that runs this."""
    features: set[str] = set()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                features.update(line.split(":", 1)[1].split())
                break
    except OSError:
        pass  # no such list elsewhere: the narrowest vectors are right everywhere
    return machine_of(platform.machine(), tuple(sorted(features)))
