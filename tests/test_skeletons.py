"""The loop nests as ordinary C++: right as they stand, for every instruction set that runs here, and clean of sanitizers."""

import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch
from checks import assert_as_good_as, assert_near

import anyconv
from anyconv import Formula
from anyconv.backends.cpp import build, kernel, launch
from anyconv.backends.cpp.render import SKELETONS
from anyconv.backends.cpp.spell import CPP
from anyconv.backends.spell import CALLED
from anyconv.expr.expr import INFIX, PREFIX
from anyconv.expr.ops import TABLE
from anyconv.plan.machine import machine_of, this_machine
from numerics import ulp

pytestmark = pytest.mark.usefixtures("as_users")
TEXT = Path(__file__).with_name("skeletons.cpp")
x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="these are instruction sets of x86")
SANITIZERS = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
COMPILERS = [name for name in build.CANDIDATES if name != "c++"]  # which is one of the others
SETS = {"native": (), "x86-64-v3": ("avx2", "fma"), "x86-64": ()}


def march_of(name):
    """The flag for an instruction set, as the compiler in use writes it."""
    return f"-march={name.replace('-', '_') if build.is_zig(build.compiler().command) else name}"


def compile_and_run(tmp_path, *more, arguments=()):
    made = tmp_path / "skeletons"
    flags = [f for f in build.flags() if f not in ("-shared", build.OPTIMIZATION)]
    command = [*build.compiler().command, "-O1", *flags, *more, f"-I{SKELETONS}", str(TEXT), "-o", str(made), "-lm"]
    subprocess.run(command, check=True)
    return subprocess.run([str(made), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(
    params=[
        ("CHANNELS", 60),
        ("GROUPS", 18),
        ("SITES", 42),
        ("SITES SKIPS=true", 18),
        ("SITES IMAGES", 42),
        ("SITES SKIPS=true IMAGES", 18),
    ],
    ids=lambda param: param[0],
)
def library(request):
    """Flags of a library for some calls, and the number of runs there are for it."""
    lanes, *more = request.param[0].split()
    return [f"-DANYCONV_{setting}" for setting in (f"LANES={lanes}", *more)], request.param[1]


@pytest.mark.sample(7)
@x86
@pytest.mark.parametrize("march", SETS)
def test_the_skeletons_are_the_ordinary_convolution(tmp_path, march, library):
    flags, runs = library
    done = compile_and_run(tmp_path, march_of(march), *flags)
    assert done.stdout == f"{runs} runs, 0 failures\n"
    assert done.returncode == 0


@pytest.mark.thorough
def test_the_skeletons_are_clean_of_address_and_undefined_behavior(tmp_path, library):
    if build.is_zig(build.compiler().command):
        pytest.skip("zig brings no library of clang's address sanitizer")
    flags, runs = library
    done = compile_and_run(tmp_path, *SANITIZERS, *flags)
    assert done.stderr == ""
    assert done.stdout == f"{runs} runs, 0 failures\n"


def test_that_program_can_fail(tmp_path):
    done = compile_and_run(tmp_path, arguments=["wrong"])
    assert done.returncode == 1
    assert "a wrong number: 2.1 at 1, want 2" in done.stdout


@pytest.fixture
def instruction_set(request, monkeypatch, as_users):
    """Kernels for another instruction set than this machine's best."""
    march = request.param
    flags = (*build.FLAGS, build.OPTIMIZATION, march_of(march))
    machine = this_machine() if march == "native" else machine_of(platform.machine(), SETS[march])
    monkeypatch.setattr(build, "flags", lambda: flags)
    for module in (kernel, launch):
        monkeypatch.setattr(module, "this_machine", lambda: machine)
    monkeypatch.setattr(kernel, "_loaded", {})


FORMULAS = {
    "tan": Formula(lambda x, w: torch.tan(x + w), "prod"),
    "many": Formula(
        lambda x, w: torch.sigmoid(x) * torch.erf(w) + torch.log1p(x * x) - torch.pow(w * w + 0.1, x), "mean"
    ),
    "max": Formula(lambda x, w: torch.maximum(x, w) * 2 - torch.abs(x - w), "max"),
    "logsumexp": Formula(lambda x, w: torch.round(x * 4) / 4 * w, "logsumexp"),
}


@pytest.mark.sample(7)
@x86
@pytest.mark.parametrize("instruction_set", SETS, indirect=True)
@pytest.mark.parametrize(
    ("name", "dtype"),
    [*((name, torch.float32) for name in FORMULAS), ("many", torch.float64), ("logsumexp", torch.float64)],
)
@pytest.mark.usefixtures("instruction_set")
def test_kernels_for_other_instruction_sets(name, dtype):
    assert_kernels_are_right(name, dtype)


@x86
@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize(
    ("name", "dtype"), [("tan", torch.float32), ("max", torch.float32), ("logsumexp", torch.float64)]
)
def test_kernels_of_each_compiler(name, dtype, compiler, monkeypatch):
    """A sample of the tests by all that can be found; `make thorough` runs all tests of kernels by clang."""
    if not build.find(compiler, os.environ.get("PATH", "")):
        pytest.skip(f"{compiler} is not here" + "; `pip install ziglang` brings it" * (compiler == "ziglang"))
    monkeypatch.setenv("ANYCONV_CXX", compiler)
    monkeypatch.setattr(kernel, "_loaded", {})
    assert_kernels_are_right(name, dtype)


def assert_kernels_are_right(name, dtype):
    drawn = []
    for seed in range(8):  # one draw may be lucky: a product is as exact as its largest factors happen to be
        torch.manual_seed(seed)
        drawn.append([(torch.randn(shape) * 8).round() / 8 for shape in ((2, 5, 7, 6), (9, 5, 3, 3))])  # exact maxima

    def run(dtype, backend, *tensors):
        leaves = [t.detach().to(dtype).requires_grad_() for t in tensors]
        y = anyconv.conv2d(*leaves, FORMULAS[name], padding=1, backend=backend)
        grad = torch.linspace(-1, 1, y.numel(), dtype=dtype).reshape(y.shape)
        return [y.detach(), *torch.autograd.grad(y, leaves, grad)]

    def runs(dtype, backend):
        """Each output of all draws, in units of its draw's largest number."""
        found = zip(*(run(dtype, backend, *tensors) for tensors in drawn), strict=True)
        return [torch.stack(each) / scales.to(dtype).reshape(-1, *[1] * each[0].dim()) for each in found]

    largest = [max(g.abs().max().item() for g in run(torch.float64, "reference", *tensors)) for tensors in drawn]
    scales = torch.tensor(largest, dtype=torch.float64).log2().ceil().exp2()  # powers of two: nothing is rounded
    gold = runs(torch.float64, "reference")
    for got, plain, want in zip(runs(dtype, "cpp"), runs(dtype, "reference"), gold, strict=True):
        if dtype == torch.float64:
            assert_near(got, want, terms=got.numel())
        else:
            assert_as_good_as(got, plain, want, scale=1.0)


@pytest.mark.sample(8)
@pytest.mark.parametrize("name", [*ulp.ONE, *ulp.TWO])
def test_functions_are_within_two_units(name, tmp_path_factory):
    """A sample of what `numerics/ulp.py` tries in full."""
    (worst,) = ulp.measure([name], stride=65537)
    assert worst.is_good, worst.row()


def test_that_measure_can_fail():
    worst = ulp.Worst("double")
    worst.see(
        (torch.ones(4),),
        torch.tensor([1.0, 1.0, torch.inf, 0.0]),
        torch.tensor([1.0, 1.0 + 2.0**-22, 2.0, -0.0]).double(),
    )
    assert worst.error == torch.inf
    assert worst.special == 1
    assert not worst.is_good


def test_every_operation_has_a_function_or_a_symbol():
    """What `spell` does not write in symbols is a function of that name in the skeletons."""
    text = "\n".join((SKELETONS / name).read_text() for name in ("simd.hpp", "math.hpp", "lanes.hpp", "ops.hpp"))
    written = (set(INFIX) - CALLED) | set(PREFIX) | set(CPP.templates)
    missing = [n for n in TABLE if n not in written and f" {n}(" not in text and f"OF_DOUBLES({n}," not in text]
    assert missing == []
