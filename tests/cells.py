"""Cells: what PyTorch offers, and whether it works with a layer of ours; `docs/pytorch.md` is the table of them.

A test that is marked with a cell decides it: it holds if all tests of the cell pass, and *refuses* if they show a clear error.
"""

import json
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "docs" / "pytorch"
VERSION = torch.__version__.split("+")[0]


def cell(section, what, *, refuses=False):
    """Mark a test as one that decides a cell."""
    return pytest.mark.cell(section, what, refuses=refuses)


class Recorder:
    """Collects the outcomes of a run, and writes them under the version of torch."""

    def __init__(self):
        self.outcomes = {}

    def pytest_runtest_makereport(self, item, call):
        mark = item.get_closest_marker("cell")
        if mark is None or call.when == "teardown" or (call.when == "setup" and call.excinfo is None):
            return
        said = "refuses" if mark.kwargs.get("refuses") else "holds"
        if call.excinfo is not None:
            skipped = call.excinfo.errisinstance(pytest.skip.Exception)
            said = f"not tried: {call.excinfo.value.msg}" if skipped else "fails"
        self.outcomes.setdefault(mark.args, []).append(said)

    def pytest_sessionfinish(self, session, exitstatus):
        rank = ["fails", "holds", "refuses"]
        table = {}
        for (section, what), said in sorted(self.outcomes.items()):
            worst = "fails" if "fails" in said else next((s for s in rank if s in said), said[0])
            table.setdefault(section, {})[what] = worst
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{VERSION}.json").write_text(json.dumps(table, indent=1) + "\n")
