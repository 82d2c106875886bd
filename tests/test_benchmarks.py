"""The benchmarks' own checks, and the promise that memory does not grow with the filters."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anyconv import Formula
from benchmarks import cpu, gpu_day, memory
from benchmarks.cases import FORMULAS, Layer
from benchmarks.gpu_steps import report, timing
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


# --- the day with a GPU


@pytest.mark.thorough
def test_the_day_reaches_every_step_without_a_gpu(tmp_path):
    """On the day itself there are fifteen minutes, and none for a typo."""
    command = [sys.executable, "-m", "benchmarks.gpu_day", "--dry-run", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(memory.__file__).parents[1])
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu_day.json").read_text())["steps"]
    assert [name for name, step in found.items() if step["ended"] != "ok" or not step["rows"]] == []
    assert list(found) == [step.name for step in gpu_day.STEPS]
    assert all(row["error"] <= 1 for row in found["ours"]["rows"] if "error" in row)
    assert "geometric mean" in (tmp_path / "gpu_day.md").read_text()
    assert (tmp_path / "gpu_day.png").stat().st_size > 10_000


PROGRAMS = {
    "good": "input(); print('{\"a\": 1}', file=open(OUT, 'a'))",
    "bad": "raise SystemExit('it broke')",
    "slow": "print('{\"a\": 2}', file=open(OUT, 'a'), flush=True); import time; time.sleep(60)",
    "late": "input()",
}


def test_a_step_that_fails_or_hangs_does_not_keep_the_others(tmp_path, monkeypatch):
    steps = tuple(gpu_day.Step(name, 0.3 if name == "slow" else 30.0, None, ahead=name == "bad") for name in PROGRAMS)
    monkeypatch.setattr(gpu_day, "STEPS", steps)
    monkeypatch.setattr(
        gpu_day, "command_of",
        lambda step, out, dry: [sys.executable, "-c", f"OUT = {str(out / (step.name + '.jsonl'))!r}; {PROGRAMS[step.name]}"],
    )  # fmt: skip
    found = gpu_day.run_steps(tmp_path, list(PROGRAMS), dry=True, seconds=60)["steps"]
    assert {name: step["ended"] for name, step in found.items()} == {
        "good": "ok", "bad": "failed: it broke", "slow": "stopped after 2 s", "late": "ok",
    }  # fmt: skip
    assert [step["rows"] for step in found.values()] == [[{"a": 1}], [], [{"a": 2}], []]
    none = gpu_day.run_steps(tmp_path, ["good"], dry=True, seconds=0.1)["steps"]
    assert none["good"]["ended"] == "no time was left"


def test_the_day_times_nothing_that_is_wrong(monkeypatch):
    day = timing.Day.dry()
    right = timing.library
    monkeypatch.setattr(timing, "library", lambda *args: lambda *given: right(*args)(*given) * 1.001)
    timing._compile_ours(day, "-|x-w|", "float32")
    (row,) = timing._time_ours(day, "-|x-w|", "float32")
    assert row["error"] > 1
    assert "step" not in row


def test_rivals_are_compared_where_both_were_timed():
    mine = [{"formula": "f", "layer": "l", "dtype": "float32", "forward": 1.0, "step": 2.0}]
    theirs = [{"formula": "f", "layer": "l", "forward": 3.0, "step": 10.0}, {"formula": "g", "layer": "l", "step": 1.0}]
    assert report.ratios({"ours": mine, "rival": theirs}) == {("f", "l"): (3.0, 5.0)}
    wrong = [{"formula": "f", "layer": "l", "dtype": "float32", "error": 7.0}]
    assert report.ratios({"ours": wrong, "rival": theirs}) == {}
