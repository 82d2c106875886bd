"""What every test runs under: deterministic torch, uninitialized memory full of NaN, golden texts."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch
from cells import Recorder
from sampling import mark_thorough

from anyconv.backends.cpp import build, kernel
from anyconv.plan import schedule

GOLDEN = Path(__file__).parent / "golden"
# kernels of the tests, kept from run to run, and not among the user's
os.environ["ANYCONV_CACHE_DIR"] = str(Path(__file__).parents[1] / ".pytest_cache" / "kernels")
# without a GPU, Triton's kernels are followed line by line on the CPU; to be said before Triton is imported
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# what was chosen before us; workers of xdist inherit what is set below
CHOSEN = os.environ.setdefault("ANYCONV_TEST_CXX", os.environ.get("ANYCONV_CXX", ""))
# nine tenths of a build are the optimizer's, which changes no value, and without it clang takes a third of g++'s time:
# test_optimized.py and test_compilers.py compare the bits; `make thorough` builds as users do
build.OPTIMIZATION = os.environ.get("ANYCONV_TEST_OPTIMIZATION", "-O0")
if build.OPTIMIZATION == "-O0" and build.find("ziglang", os.environ.get("PATH", "")):
    os.environ.setdefault("ANYCONV_CXX", "ziglang")

hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.register_profile("long", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser):
    parser.addoption(
        "--record-cells", action="store_true", help="write which cells of docs/pytorch.md hold, for this torch"
    )
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden texts with what is generated now")


def pytest_configure(config):
    if config.getoption("--record-cells"):
        config.pluginmanager.register(Recorder())


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    mark_thorough(items)
    if not torch.cuda.is_available():
        alone = pytest.mark.skip(
            reason="this machine has no GPU, and an interpreter no half precisions, streams or graphs"
        )
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(alone)


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
    torch.use_deterministic_algorithms(True)  # fills what torch.empty returns with NaN


@pytest.fixture
def as_users(monkeypatch):
    """Build kernels as users do from here on: with the optimizer, by the first compiler of the stated order."""
    monkeypatch.setattr(build, "OPTIMIZATION", "-O2")
    monkeypatch.setattr(kernel, "_loaded", {})
    if not CHOSEN:
        monkeypatch.delenv("ANYCONV_CXX", raising=False)


def forget_schedules():
    for function in (schedule.forward, schedule.backward, schedule.forward_lanes, schedule.backward_lanes):
        function.cache_clear()


@pytest.fixture
def backend(request, monkeypatch):
    """A backend by name; ``channels`` (or groups of one) and ``sites`` are cpp with its lanes forced, and the smallest chunks."""
    name = request.param
    if name in ("channels", "sites"):
        forced = (name, "groups" if name == "channels" else name)
        monkeypatch.setattr(schedule, "_lanes", lambda work, across, lanes: forced[work.depthwise])
        monkeypatch.setattr(schedule, "_chunk", lambda work, *_, **__: tuple(min(2, s) for s in work.sites))
        forget_schedules()
    yield "reference" if name == "reference" else "cpp"
    forget_schedules()


@pytest.fixture
def golden(request):
    """A function that compares a text with the one stored under a name."""

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        assert path.exists(), f"no golden text {path.name}; make it with pytest --update-golden, and read it"
        assert text + "\n" == path.read_text()

    return compare
