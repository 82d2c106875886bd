"""The table of what of PyTorch works says what the tests found, and no less than they ask."""

import ast
from pathlib import Path

import pytest
from cells import FOLDER, VERSION

from examples import pytorch

TESTS = Path(__file__).parent


def asked(texts):
    """The cells that tests are marked with."""
    found = set()
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "cell":
                found.add(tuple(argument.value for argument in node.args))
    return found


def recorded(table):
    return {(section, what) for section, cells in table.items() for what in cells}


def test_the_page_is_what_was_recorded():
    assert (FOLDER.parent / "pytorch.md").read_text() == pytorch.page(pytorch.records())


def test_every_cell_was_tried_on_every_version():
    cells = asked(path.read_text() for path in TESTS.glob("test_*.py"))
    assert len(cells) > 30
    for version, table in pytorch.records().items():
        assert recorded(table) == cells, f"torch {version}: pytest --record-cells, and python -m examples.pytorch"
        assert "fails" not in {said for row in table.values() for said in row.values()} - KNOWN.get(version, set())


KNOWN: dict[str, set[str]] = {}


def test_a_missing_cell_would_be_seen():
    assert asked(['@cell("a", "b", refuses=True)\ndef test(): ...']) == {("a", "b")} != recorded({"a": {}})


@pytest.mark.skipif(not (FOLDER / f"{VERSION}.json").exists(), reason="this version of torch has not been recorded")
def test_this_version_is_in_the_table():
    assert VERSION in (FOLDER.parent / "pytorch.md").read_text()
