"""The benchmarks' own checks, and the promise that the reference backend's memory does not grow with the filters."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import memory

linux = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from /proc")


def peak(way, filters):
    command = [sys.executable, "-m", "benchmarks.memory", way, str(filters)]
    root = Path(memory.__file__).parents[1]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout) / memory.MIB


def assert_memory_is_bounded(way, few, many):
    """Three tensors of the output's size (y, its gradient, a state), and what blocks of other sizes may differ by."""
    output = memory.BATCH * memory.SIZE**2 * 4 / memory.MIB
    growth = peak(way, many) - peak(way, few)
    assert growth <= 3 * output * (many - few) + 32, (
        f"{way} takes {growth:.0f} MiB more for {many} filters than for {few}"
    )


@linux
def test_memory_does_not_grow_with_the_filters():
    assert_memory_is_bounded("anyconv, reference", 16, 256)


@linux
def test_that_test_can_fail():
    with pytest.raises(AssertionError, match="MiB more for 64 filters"):
        assert_memory_is_bounded("unfold, eager", 16, 64)


def test_nothing_is_measured_when_numbers_disagree(monkeypatch):
    memory.check()
    right = memory.WAYS["anyconv, reference"]
    monkeypatch.setitem(memory.WAYS, "anyconv, reference", lambda x, w: right(x, w) * 1.001)
    with pytest.raises(SystemExit, match="is wrong by"):
        memory.check()
