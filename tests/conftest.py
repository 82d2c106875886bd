"""What every test runs under: deterministic torch, uninitialized memory full of NaN, golden texts."""

import os
from pathlib import Path

import hypothesis
import pytest
import torch

GOLDEN = Path(__file__).parent / "golden"

hypothesis.settings.register_profile("default", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.register_profile("long", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_addoption(parser):
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden texts with what is generated now")


@pytest.fixture(autouse=True)
def _deterministic():
    torch.manual_seed(0)
    torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
    torch.use_deterministic_algorithms(True)  # fills what torch.empty returns with NaN


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
