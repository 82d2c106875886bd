"""The kernels of GPUs as compilers see them, without a GPU: instructions, registers, and the shape of tiles."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from anyconv import Formula
from anyconv.backends.triton.library import SKELETONS, functions, functions_of, needed
from anyconv.backends.triton.render import render
from anyconv.backends.triton.spell import dialect
from anyconv.expr.expr import INFIX, PREFIX
from anyconv.expr.ops import TABLE
from anyconv.plan import tiles

triton = pytest.importorskip("triton", minversion="3.4", reason="Triton is not installed, or older than 3.4")
GOLDEN = Path(__file__).parent / "golden" / "gpu_static.json"
FORMULAS = ("-|x-w|", "max x+w")
TOLERANCE = 0.05  # what another version of the compiler may add


def measured():
    """What the benchmark sees now; in a process of its own, since here kernels are interpreted."""
    found = {}
    for name in FORMULAS:
        command = [sys.executable, "-m", "benchmarks.gpu", "--static", "--json", "--capability=90", f"--formula={name}"]
        env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
        root = Path(__file__).parents[1]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=env, cwd=root)
        found |= json.loads(done.stdout.splitlines()[-1])["sm_90"]
    return found


def worse(now, then):
    """Which kernels need more instructions, or keep more registers in memory, than they did."""
    return [
        f"{name}, {pass_}: {what} {m[what]}, was {then[name][pass_][what]}"
        for name, passes in now.items()
        for pass_, m in passes.items()
        for what in ("slots", "spills")
        if m[what] > then[name][pass_][what] * (1 + TOLERANCE)
    ]


@pytest.mark.thorough
@pytest.mark.skipif(
    not triton.__version__.startswith("3.9."), reason="what was stored is what Triton 3.9 makes of the texts"
)
def test_no_kernel_is_worse_than_it_was(request):
    now = measured()
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(json.dumps(now, indent=1) + "\n")
    assert worse(now, json.loads(GOLDEN.read_text())) == []


def test_a_worse_one_is_found():
    now, then = json.loads(GOLDEN.read_text()), json.loads(GOLDEN.read_text())
    assert worse(now, then) == []
    now["-|x-w|"]["forward"]["slots"] *= 1.06
    now["max x+w"]["forward"]["spills"] += 1
    assert [line.split(":")[0] for line in worse(now, then)] == ["-|x-w|, forward", "max x+w, forward"]


def test_the_targets():
    """2.2 slots for a difference's size, 1.2 times the least for its gradients, and no spills."""
    kept = json.loads(GOLDEN.read_text())
    passes = kept["-|x-w|"]
    assert passes["forward"]["slots"] <= 2.2
    assert all(passes[name]["slots"] <= 1.2 * passes[name]["least"] for name in ("pixel gradient", "weight gradients"))
    assert all(m["spills"] == 0 for m in passes.values())
    assert all(m["slots"] >= 0.95 * m["least"] for formula in kept.values() for m in formula.values())


# --- texts


def test_every_operation_has_a_function_or_a_symbol():
    written = (set(INFIX) - {"pow", "floor_divide", "remainder"}) | set(PREFIX) | set(dialect("float32").templates)
    assert [name for name in TABLE if name not in written and name not in functions()] == []


@pytest.mark.parametrize(
    "kernel", ["forward", "gradient", "tiled_forward", "tiled_pixels", "tiled_weights", "contexts", "limit"]
)
def test_a_file_is_complete_and_has_nothing_that_is_not_used(kernel):
    text = render(Formula(lambda x, w: torch.tanh(x - w), "max"), "float32", kernel).text
    compile(text, kernel, "exec")
    found = functions_of(text)
    assert set(found) == {name for name in found if name == kernel or f"{name}(" in text.replace(f"def {name}(", "")}


def test_what_a_function_calls_comes_before_it():
    names = list(functions_of("\n\n".join(needed(functions(), "y = mish(x)"))))
    assert names[-2:] == ["softplus", "mish"]
    assert {"exp", "log", "tanh"} <= set(names)


def test_inference_folds_only_what_the_result_needs():
    formula = Formula(lambda x, w: x + w, "max")
    assert "state_n" in render(formula, "float32", "tiled_forward").text
    assert "state_n" not in render(formula, "float32", "tiled_forward", saves=False).text


def test_the_skeletons_functor_has_all_that_they_ask_for():
    """They run as they stand, for x * w: what they import from it is there, and everything in it is imported."""
    own = set(functions_of((SKELETONS / "functor.py").read_text()))
    kernels = ("forward", "gradient", "tiled_forward", "tiled_pixels", "tiled_weights", "contexts", "limit")
    asked = set()
    for name in kernels:
        text = (SKELETONS / f"{name}.py").read_text()
        start = text.index("from .functor import")
        asked |= set(
            text[start : text.index("from .", start + 5)].replace("(", " ").replace(")", " ").replace(",", " ").split()
        )
    assert own <= asked


# --- tiles


@pytest.mark.parametrize("cost", [1, 3, 10, 40, 200, 2000])
@pytest.mark.parametrize("rows", [1, 3, 16, 64, 1000])
@pytest.mark.parametrize("lanes", [1, 2, 7, 64, 1000])
def test_tiles_have_a_thread_for_each_square(cost, rows, lanes):
    for tile in (
        tiles.forward_tile(cost=cost, parts=2, lanes=lanes),
        tiles.pixel_tile(cost=cost, contexts=2, lanes=lanes),
        tiles.weight_tile(cost=cost, contexts=2, operands=1, rows=rows, lanes=lanes),
    ):
        assert tile.rows * tile.lanes == 32 * tile.warps
        sides = (tile.own_rows, tile.own_lanes, tile.rows, tile.lanes)
        assert all(side & (side - 1) == 0 for side in sides), "Triton's tiles are powers of two"
        assert tile.own_rows * tile.own_lanes <= 64
        assert tile.own_lanes <= 2 ** math.ceil(math.log2(lanes)), "no thread computes lanes that nobody has"


def test_parts_are_few_and_enough():
    assert tiles.weight_parts(lines=5, programs=1, images=10**9, weights=10) == 5
    assert tiles.weight_parts(lines=10**6, programs=4, images=10**9, weights=10) == 250
    assert tiles.weight_parts(lines=10**6, programs=1, images=1000, weights=1000) == 1
