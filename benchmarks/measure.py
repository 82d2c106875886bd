"""What several benchmarks measure alike: memory, and the machine."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import torch


def machine() -> str:
    """What a result was measured on."""
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def peak_of(action: Callable[[], object]) -> int:
    """Bytes that an action adds to the resident set at its peak; read from /proc."""
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    action()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
