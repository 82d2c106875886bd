"""Every Python block of the documents runs, and what follows it as `output` is what it prints."""

import contextlib
import io
import linecache
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n(.*?)```(?:\n```output\n(.*?)```)?", re.DOTALL)


def run(name, text):
    """Run the blocks of a document in one namespace; each sees its own lines in messages."""
    namespace = {"__name__": "document"}
    for code, output in BLOCK.findall(text):
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name, "exec"), namespace)
        if output:
            assert printed.getvalue() == output


@pytest.mark.parametrize("name", ["README.md", "ARCHITECTURE.md"])
def test_documents_run(name):
    text = (ROOT / name).read_text()
    assert BLOCK.search(text), f"{name} shows no code"
    run(name, text)


def test_that_test_can_fail():
    with pytest.raises(AssertionError):
        run("wrong.md", "```python\nprint(1)\n```\n```output\n2\n```")


@pytest.mark.parametrize("path", list(ROOT.glob("*.md")), ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_guides_fit_ten_lines():
    sections = re.split(r"^## ", (ROOT / "CONTRIBUTING.md").read_text(), flags=re.MULTILINE)[1:]
    assert [s.splitlines()[0] for s in sections] == ["Add an operation", "Add a reduction", "Add a recipe"]
    for section in sections:
        assert len([line for line in section.splitlines()[1:] if line.strip()]) <= 10
