"""Compilers: which one is found, and that any of them gives right kernels with the same bits."""

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import anyconv
from anyconv import Formula, cache
from anyconv.backends.cpp import build, kernel
from anyconv.backends.cpp.render import render
from anyconv.plan.machine import this_machine
from numerics import ulp

CLANG = next((name for name in ("ziglang", "clang++") if build.find(name, os.environ.get("PATH", ""))), None)
GCC = "g++" if build.find("g++", os.environ.get("PATH", "")) else None
clang = pytest.mark.skipif(CLANG is None, reason="no clang is here; `pip install ziglang` brings one")
both = pytest.mark.skipif(CLANG is None or GCC is None, reason="g++ and clang (`pip install ziglang`) are needed")


# which compiler is found


def program(folder, name, answer="a compiler", rc=0):
    """A program that answers when it is asked for its version."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f'#!/bin/sh\n[ "$1" = --version ] || [ "$2" = --version ] || exit 1\necho "{answer}"\nexit {rc}\n')
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing(tmp_path, monkeypatch):
    """A machine without any compiler: its only folder of commands, and its only folder of packages."""
    for name in ("ANYCONV_CXX", "CXX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages")])
    build.find.cache_clear()
    yield tmp_path
    build.find.cache_clear()


def test_no_compiler_and_the_way_out(nothing):
    with pytest.raises(build.BuildError, match="no C\\+\\+ compiler runs; tried ") as found:
        build.compiler()
    assert "pip install anyconv[compiler]" in str(found.value)
    assert all(name in str(found.value) for name in build.CANDIDATES)


def everything(folder):
    for name in build.CANDIDATES:
        if name == "ziglang":
            program(folder / "packages" / "ziglang", "zig", name)
            (folder / "packages" / "ziglang" / "__init__.py").write_text("raise ImportError('it is not imported')")
        else:
            program(folder / "bin", name, name)


def remove(folder, name):
    if name == "ziglang":
        shutil.rmtree(folder / "packages" / "ziglang")
    else:
        (folder / "bin" / name).unlink()


def test_the_order_is_the_stated_one(nothing):
    """Each is the first once those before it are gone."""
    everything(nothing)
    found = []
    for name in build.CANDIDATES:
        build.find.cache_clear()
        found.append(build.compiler().version)
        remove(nothing, name)
    assert tuple(found) == build.CANDIDATES
    assert all(name in build.__doc__ for name in build.CANDIDATES)


def test_one_that_does_not_run_is_passed_over(nothing):
    everything(nothing)
    first, second, *_ = build.CANDIDATES
    remove(nothing, first)
    (nothing / "packages" / "ziglang").mkdir(parents=True, exist_ok=True)  # a package of the name, without a program
    if first != "ziglang":
        program(nothing / "bin", first, rc=1)
    assert build.compiler().version == second


def test_the_package_is_found_without_a_setting(nothing):
    zig = program(nothing / "packages" / "ziglang", "zig", "clang version 22.1.8")
    made = build.compiler()
    assert made.command == (str(zig), "c++")
    assert "ziglang" not in sys.modules
    assert "-nostdlib" in made.own
    assert [Path(file).name for file in made.own if file.startswith("/")] == ["libc.so.6", "libm.so.6"]


@pytest.mark.parametrize("name", ["ANYCONV_CXX", "CXX"])
def test_what_the_environment_names_wins(nothing, monkeypatch, name):
    everything(nothing)
    mine = program(nothing / "mine", "cc", "mine")
    monkeypatch.setenv(name, f"{mine} -O3")
    assert build.compiler().command == (str(mine), "-O3")
    assert build.compiler().own == ("-lm",)
    monkeypatch.setenv("ANYCONV_CXX", "ziglang")
    assert build.compiler().version == "ziglang"


def test_what_the_environment_names_is_not_replaced(nothing, monkeypatch):
    everything(nothing)
    monkeypatch.setenv("ANYCONV_CXX", "/no/such/compiler")
    with pytest.raises(build.BuildError, match="ANYCONV_CXX names does not run: /no/such/compiler"):
        build.compiler()
    monkeypatch.setenv("ANYCONV_CXX", "'unbalanced")
    with pytest.raises(build.BuildError, match="does not run: 'unbalanced"):
        build.compiler()


# kernels by each compiler


@pytest.fixture
def use(monkeypatch, as_users):
    """A function that takes another compiler for all that follows."""

    def choose(name):
        monkeypatch.setenv("ANYCONV_CXX", name)
        monkeypatch.setattr(kernel, "_loaded", {})

    return choose


@clang
def test_the_package_leaves_nothing_behind(tmp_path, monkeypatch, use):
    """Neither a home nor a folder for caches is needed; what the compiler keeps for itself is removed."""
    use(CLANG)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("tmp", "cache", "here"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("ANYCONV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path / "here")
    x, w = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3)
    anyconv.conv2d(x, w, lambda x, w: torch.abs(x - w) + 0.0625, backend="cpp")
    assert cache.info().entries == 1
    (entry,) = (path for path in (tmp_path / "cache").iterdir() if path.name != "locks")
    assert sorted(path.name for path in entry.iterdir()) == ["build.txt", "kernel.cpp", "kernel.sha256", "kernel.so"]
    assert list((tmp_path / "tmp").iterdir()) == list((tmp_path / "here").iterdir()) == []


@clang
def test_a_source_that_is_wrong_is_a_build_that_failed(tmp_path, use):
    use(CLANG)
    source = render(Formula(lambda x, w: x * w), "float32", this_machine(), ("forward",))
    with pytest.raises(build.BuildError, match="missing"):
        build.build(replace(source, text="int main() { return missing; }"), tmp_path)


DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
FORMULAS = {
    "many": Formula(
        lambda x, w: torch.sigmoid(x) * torch.erf(w) + torch.log1p(x * x) - torch.pow(w * w + 0.1, x), "mean"
    ),
    "prod tan": Formula(lambda x, w: torch.tan(x + w), "prod"),
    "where": Formula(lambda x, w: torch.where(x > w, x - w, 0.1 * x)),
    "max": Formula(lambda x, w: torch.maximum(x, w) * 2 - torch.abs(x - w), "max"),
    "logsumexp": Formula(lambda x, w: torch.round(x * 4) / 4 * w, "logsumexp"),
    "norm": Formula(lambda x, w: torch.sin(x) - w, anyconv.reductions.norm(3)),
    "center": Formula(lambda x, c, w: torch.exp(-((x - c) ** 2)) * w, operands={"c": anyconv.center()}),
    "rsqrt": Formula(lambda x, w: x * w * torch.rsqrt(x * x * w * w + 1e-3)),
    "lgamma": Formula(lambda x, w: torch.lgamma(x * w) + torch.atan2(x, w)),
}
SAMPLE = {("many", "float32", 1), ("max", "float64", 6)}


def numbers(name, dtype, groups, backend="cpp"):
    """The output and every gradient, of a stride and a padding that leave no tile whole."""
    torch.manual_seed(0)
    x, w = torch.randn(2, 6, 9, 21), torch.randn(18, 6 // groups, 3, 3)
    leaves = [t.to(DTYPES[dtype]).requires_grad_() for t in (x, w)]
    y = anyconv.conv2d(*leaves, FORMULAS[name], padding=1, groups=groups, backend=backend)
    grad = torch.linspace(-1, 1, y.numel()).reshape(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad)]


def bits(tensor):
    """The bits of numbers; every NaN is one."""
    whole = {8: torch.int64, 4: torch.int32, 2: torch.int16}[tensor.element_size()]
    return torch.where(tensor.isnan(), torch.full_like(tensor, torch.nan), tensor).view(whole)


def assert_same_bits(found, wanted):
    for got, want in zip(found, wanted, strict=True):
        assert torch.equal(bits(got), bits(want)), f"{(bits(got) != bits(want)).sum()} of {got.numel()} numbers differ"


@both
@pytest.mark.parametrize(
    ("name", "dtype", "groups"),
    [
        pytest.param(*case, marks=() if case in SAMPLE else pytest.mark.thorough)
        for case in ((name, dtype, groups) for name in FORMULAS for dtype in DTYPES for groups in (1, 6))
    ],
)
def test_both_compilers_give_the_same_bits(name, dtype, groups, use):
    """And right ones: nothing is contracted or reassociated, and both call the same C library."""
    found = []
    for compiler in (GCC, CLANG):
        use(compiler)
        found.append(numbers(name, dtype, groups))
    assert_same_bits(*found)
    if dtype == "float64":
        for got, want in zip(found[0], numbers(name, dtype, groups, "reference"), strict=True):
            torch.testing.assert_close(got, want)


def test_that_comparison_can_fail():
    one = torch.tensor([1.0, torch.nan, 0.0])
    assert_same_bits([one], [one.clone()])
    for other in ([1.0, torch.nan, -0.0], [1.0 + 2**-23, torch.nan, 0.0], [1.0, 2.0, 0.0]):
        with pytest.raises(AssertionError, match="1 of 3 numbers differ"):
            assert_same_bits([one], [torch.tensor(other)])


@both
def test_every_function_of_floats_has_the_same_bits(tmp_path, use):
    """At every 65537th float, special ones among them."""
    found = {}
    for compiler in (GCC, CLANG):
        use(compiler)
        (tmp_path / compiler).mkdir()
        functions = ulp.library(str(tmp_path / compiler))
        x = ulp.floats(0, 65537, 2**16)
        x = torch.cat([x, x.new_tensor([0.0, -0.0, 1.0, -1.0, 0.5, torch.inf, -torch.inf, torch.nan] * 2)])
        for name in (*ulp.ONE, *ulp.TWO):
            found.setdefault(name, []).append(ulp.apply(functions, name, x, x.flip(0).contiguous()))
    different = [name for name, (one, other) in found.items() if not torch.equal(bits(one), bits(other))]
    assert different == []
