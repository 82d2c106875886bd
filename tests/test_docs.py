"""Every Python block of the documents runs, and what follows it as `output` is what it prints."""

import contextlib
import doctest
import importlib
import inspect
import io
import linecache
import re
from pathlib import Path

import pytest
import torch

import anyconv
from anyconv import expr, formula, functional, modules, operands
from anyconv.backends.cpp.spell import CPP
from anyconv.backends.torch_library import torch_library
from anyconv.call import Call
from anyconv.expr.evaluate import PLAIN
from anyconv.expr.expr import apply, const, var
from anyconv.expr.spellings import spell
from anyconv.expr.trace import trace
from anyconv.geometry import Geometry
from anyconv.plan import Problem, choose
from anyconv.plan.affine import affine
from anyconv.plan.machine import Machine, this_machine
from anyconv.reductions import BUILTIN, Reduction, check_laws
from anyconv.store import fetch, key

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
    assert [s.splitlines()[0] for s in sections] == [
        "Add an operation",
        "Add a reduction",
        "Add a scope",
        "Add a recipe",
    ]
    for section in sections:
        assert len([line for line in section.splitlines()[1:] if line.strip()]) <= 10


def namespace():
    """What the examples in docstrings may use without importing it."""
    names = {"torch": torch, "anyconv": anyconv, "PLAIN": PLAIN, "MAX": BUILTIN["max"], "check_laws": check_laws}
    for module in (anyconv, expr, formula, functional, modules, operands):
        found = {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
        names |= {name: thing for name, thing in found.items() if not inspect.ismodule(thing) or name == "torch"}
    x = torch.tensor([-1.0, 2.0])
    images, w = torch.rand(2, 3, 8, 8), torch.rand(4, 3, 3, 3)
    problem = Problem(formula.Formula(lambda x, w: x * w), Geometry.of(2, 3), 3, 4, "float32", "cpu")
    return names | {
        "x": x, "images": images, "w": w, "problem": problem, "choose": choose, "affine": affine, "spell": spell,
        "trace": trace, "var": var, "apply": apply, "const": const, "Reduction": Reduction, "Geometry": Geometry,
        "build": lambda folder: (folder / "kernel.so").write_bytes(b""), "fetch": fetch, "key": key, "BUILTIN": BUILTIN,
        "this_machine": this_machine, "Machine": Machine, "torch_library": torch_library, "library": torch_library(torch.float64), "Call": Call,
        "CPP": CPP,
    }  # fmt: skip


SOURCES = sorted((ROOT / "src" / "anyconv").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT / "src" / "anyconv")))
def test_examples_in_docstrings_run(path):
    name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    printed = io.StringIO()
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, name, extraglobs=namespace()):
        runner.run(test, out=printed.write)
    assert runner.failures == 0, printed.getvalue()


def test_a_wrong_example_is_found():
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", "wrong", 0)
    runner = doctest.DocTestRunner()
    runner.run(test, out=lambda text: None)
    assert runner.failures == 1
