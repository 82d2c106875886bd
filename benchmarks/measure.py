"""What several benchmarks measure alike: memory, and the machine."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def machine() -> str:
    """What a result was measured on."""
    return f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def in_own_process(*arguments: str, timeout: int) -> dict[str, Any]:
    """What ``python -m`` with these arguments prints last, as JSON; it finds nothing that was compiled before."""
    with tempfile.TemporaryDirectory() as cold:
        env = os.environ | {"ANYCONV_CACHE_DIR": f"{cold}/anyconv", "TORCHINDUCTOR_CACHE_DIR": f"{cold}/inductor"}
        command = [sys.executable, "-m", *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=env)
        except subprocess.TimeoutExpired:
            return {"failed": f"more than {timeout} s"}
    if done.returncode != 0:
        return {"failed": done.stderr[-500:]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def peak_of(action: Callable[[], object]) -> int:
    """Bytes that an action adds to the resident set at its peak; read from /proc.

    What the allocator keeps of earlier actions is given back first: it would hide what this one takes.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc
        libc.malloc_trim(0)
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew
    action()
    return _resident("VmHWM") - before


def _resident(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
