"""The benchmarks' own checks, and the promise that memory does not grow with the filters."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anyconv import Formula
from benchmarks import cpu, memory
from benchmarks.cases import FORMULAS, Layer
from benchmarks.ways import ours, tap_loop, unfold

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
@pytest.mark.parametrize("way", [pytest.param("anyconv, reference", marks=pytest.mark.thorough), "anyconv, cpp"])
def test_memory_does_not_grow_with_the_filters(way):
    assert_memory_is_bounded(way, 16, 128)


@pytest.mark.thorough
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


LAYER = Layer(1, 2, 3, (6, 6), 3)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough if i % 2 else ()) for i, name in enumerate(FORMULAS)]
)
def test_the_ways_agree(name):
    for way in (ours, tap_loop, unfold):
        assert cpu.disagreement(name, LAYER, way(FORMULAS[name], LAYER)) <= 1


def test_a_way_without_gradients_is_checked_and_timed_forward():
    right = tap_loop(FORMULAS["-|x-w|"], LAYER)

    class Forward:
        forward_only = True

        def __init__(self, factor):
            self.factor = factor

        def __call__(self, *tensors):
            return right(*tensors).detach() * self.factor

    assert cpu.disagreement("-|x-w|", LAYER, Forward(1)) <= 1
    assert cpu.disagreement("-|x-w|", LAYER, Forward(1.001)) > 1


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("way", ["tap loop, JAX", "loops, Numba"])
def test_ways_of_others_where_they_are_installed(name, way):
    pytest.importorskip("jax" if "JAX" in way else "numba")
    assert cpu.disagreement(name, LAYER, cpu.WAYS[way](FORMULAS[name], LAYER)) <= 1


def test_numbers_that_all_overflow_prove_nothing(monkeypatch):
    endless = Formula(lambda x, w: torch.exp((x + w) * 0 + 1e4))
    monkeypatch.setitem(cpu.FORMULAS, "endless", endless)
    with pytest.raises(ValueError, match="nothing to compare"):
        cpu.disagreement("endless", LAYER, ours(endless, LAYER))


def test_a_wrong_way_is_not_timed(monkeypatch):
    right = ours(FORMULAS["-|x-w|"], LAYER)
    assert cpu.disagreement("-|x-w|", LAYER, lambda *tensors: right(*tensors) * 1.001) > 1
    monkeypatch.setitem(cpu.WAYS, "anyconv", lambda formula, layer: lambda *tensors: right(*tensors) * 1.001)
    monkeypatch.setitem(cpu.LAYERS, "small", LAYER)
    verdict = cpu.check("-|x-w|", "small", "anyconv")
    assert set(verdict) == {"wrong"}
    found, ready = cpu.first_steps(FORMULAS["-|x-w|"], LAYER, ["anyconv"], lambda name: verdict)
    assert found == {"anyconv": verdict}
    assert ready == {}


def test_a_way_that_fails_says_why(monkeypatch):
    def fails(*tensors):
        raise RuntimeError("no memory")

    monkeypatch.setitem(cpu.WAYS, "anyconv", lambda formula, layer: fails)
    found, ready = cpu.first_steps(FORMULAS["-|x-w|"], LAYER, ["anyconv", "nn.ConvNd"], lambda name: {})
    assert found["anyconv"] == {"failed": "RuntimeError: no memory"}
    assert set(ready) == {"nn.ConvNd"}
    assert found["nn.ConvNd"]["first"] > 0


def test_no_ratio_without_both_numbers():
    cells = {"a | b": {"anyconv": {"wrong": 3.0}, "nn.ConvNd": {"forward": 1.0, "step": 2.0}}}
    assert cpu.ratio(cells["a | b"], "nn.ConvNd", "forward") is None
    cells["a | c"] = {"anyconv": {"forward": 2.0, "step": 4.0}, "nn.ConvNd": {"forward": 1.0, "step": 2.0}}
    assert cpu.ratio(cells["a | c"], "nn.ConvNd", "step") == 0.5
    assert "0.50" in cpu.table(cells)
