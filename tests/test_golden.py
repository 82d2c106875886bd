"""Golden texts: what explain shows. Rewrite them with --update-golden, and read the difference."""

import importlib

import pytest
import torch

import anyconv
from anyconv import Formula
from anyconv.backends.cpp.build import BuildError
from anyconv.backends.cpp.limit import Limit
from anyconv.plan.machine import Machine

explain = importlib.import_module("anyconv.tools.explain")  # the package has the function under this name


def tangent(x, w):
    return torch.tan(x + w)


def without_paths(text):
    return "\n".join(line for line in text.splitlines() if ".py:" not in line)


@pytest.fixture
def _one_machine(monkeypatch):
    """What is shown depends on the machine: always the same one, and as fast."""
    monkeypatch.setattr(explain, "this_machine", lambda: Machine("x86_64", ("avx512f",), vector_bytes=64, registers=32))
    monkeypatch.setattr(explain, "limit", lambda formula, dtype: Limit(forward=2e9, training=2e9, backward=1e9))
    torch.set_num_threads(2)


@pytest.mark.usefixtures("_one_machine")
def test_explain_a_layer(golden):
    layer = anyconv.Conv2d(3, 16, 3, Formula(tangent, reduce="prod"), padding=1)
    golden("explain_tangent", without_paths(anyconv.explain(layer, (8, 3, 32, 32))))


def test_explain_a_native_layer(golden):
    layer = anyconv.Conv1d(
        4, 8, 5, lambda x, w, b: w * x / 2 + b, groups=2, dtype=torch.bfloat16, padding_mode="circular"
    )
    golden("explain_native", without_paths(anyconv.explain(layer, (4, 100))))


def test_explain_a_formula(golden):
    formula = Formula(
        lambda x, w, p: torch.where(x > w, (x - w) ** p, torch.expm1(x - w)), "logsumexp", name="kinked",
        operands={"p": anyconv.per_filter()},
    )  # fmt: skip
    golden("explain_formula", without_paths(anyconv.explain(formula)))


def test_explain_without_a_compiler(monkeypatch):
    def no_limit(formula, dtype):
        raise BuildError("no C++ compiler runs")

    monkeypatch.setattr(explain, "limit", no_limit)
    text = anyconv.explain(anyconv.Conv2d(3, 16, 3, tangent), (8, 3, 32, 32))
    assert "\nlimit       no C++ compiler runs\n" in text


def test_explain_shows_where_the_map_stands():
    assert f"{__file__}:" in anyconv.explain(tangent)
