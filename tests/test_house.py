"""Who may import whom, what the compiler half does without, and the public surface."""

import ast
import inspect
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import anyconv

SOURCE = Path(anyconv.__file__).parent
LEVELS = [  # a room may import from rooms above it in this list, never from its own row's neighbors or below
    {"errors", "networks"},
    {"expr", "geometry"},
    {"operands", "reductions"},
    {"after_import", "variables"},
    {"mathematics", "signature"},
    {"assemble"},
    {"text"},
    {"formula"},
    {"plan", "store", "tangent"},
    {"cache"},
    {"backends"},
    {"arguments", "call"},
    {"batched", "moved", "operators", "phases"},
    {"autograd", "flops"},
    {"functional"},
    {"layer"},
    {"interchange", "pooling", "transposed"},
    {"modules"},
    {"lazy", "transposed_layers"},
    {"recipes"},
    {"tools"},
    {"__init__"},
]
MAY_IMPORT_TORCH = {
    "arguments",
    "autograd",
    "backends",
    "batched",
    "call",
    "flops",
    "functional",
    "interchange",
    "layer",
    "lazy",
    "modules",
    "moved",
    "networks",
    "operators",
    "phases",
    "pooling",
    "recipes",
    "tools",
    "transposed",
    "transposed_layers",
}
THE_ORACLE_DOES_NOT_KNOW = {"plan", "native", "functional"}


def room(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return parts[0]


def imports(tree, package):
    """Every module a file imports, also inside functions and under TYPE_CHECKING, as absolute dotted names."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            yield ".".join(module)
            yield from (".".join([*module, alias.name]) for alias in node.names)


def broken_rules(path, text):
    """The rules that a file of this text at this path would break."""
    level = {name: i for i, row in enumerate(LEVELS) for name in row}
    package = ["anyconv", *path.relative_to(SOURCE).parts[:-1]]
    here, problems = room(path), []
    for name in imports(ast.parse(text), package):
        top, *rest = name.split(".")
        if top == "torch" and here not in MAY_IMPORT_TORCH:
            problems.append(f"{here} imports torch")
        if top != "anyconv" or not rest or rest[0] == here or rest[0] not in level:
            continue
        if level[rest[0]] >= level[here]:
            problems.append(f"{here} imports {rest[0]}")
        if path.stem == "reference" and set(rest) & THE_ORACLE_DOES_NOT_KNOW:
            problems.append(f"the reference imports {name}")
    return problems


def files():
    return sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_run_downwards(path):
    assert broken_rules(path, path.read_text()) == []


@pytest.mark.parametrize(
    ("where", "text", "problem"),
    [
        ("expr/ops.py", "import torch", "expr imports torch"),
        ("expr/ops.py", "def f():\n    from torch import nn", "expr imports torch"),
        ("geometry.py", "from .formula import Formula", "geometry imports formula"),
        ("plan/choose.py", "from ..backends import native", "plan imports backends"),
        ("backends/reference.py", "from ..plan import choose", "the reference imports anyconv.plan"),
        ("reductions/laws.py", "import anyconv.functional", "reductions imports functional"),
    ],
)
def test_the_rules_can_be_broken(where, text, problem):
    assert problem in broken_rules(SOURCE / where, text)


def test_every_room_has_a_level():
    assert {room(path) for path in files()} == set().union(*LEVELS)


def test_files_are_short():
    long = {path.name: n for path in files() if (n := len(path.read_text().splitlines())) > 300}
    assert not long


COMPILER_HALF = """
    import sys
    from anyconv.expr import parse, differentiate, evaluate
    from anyconv.expr.trace import trace
    from anyconv.expr.evaluate import PLAIN
    from anyconv.formula import Formula
    from anyconv.geometry import Geometry
    from anyconv.plan import Problem, choose
    from anyconv.reductions import BUILTIN, check_laws
    import math

    library = {**PLAIN, "exp": lambda a: math.exp(a) if a < 709 else math.inf, "isnan": math.isnan,
               "log": lambda a: math.log(a) if a > 0 else -math.inf, "copysign": math.copysign, "trunc": math.trunc,
               "mantissa": lambda a: math.frexp(a)[0], "exponent": lambda a: math.frexp(a)[1],
               "ldexp": lambda a, n: math.ldexp(a, int(n)), "sqrt": lambda a: math.sqrt(a) if a >= 0 else math.nan}
    for reduction in BUILTIN.values():
        check_laws(reduction, library, [[1.0, 2.0, 2.0, -0.5], [0.0, 3.0], [0.0, -0.0, 1.0]])
    formula = Formula(lambda x, w: (x - w).exp() * 2, reduce="max")
    assert str(differentiate(formula.expr, "w")) == "-(2 * exp(x - w))"
    assert evaluate(parse("2 * x ** 3"), {"x": 2.0}, PLAIN) == 16.0
    geometry = Geometry.of(2, 3, padding="same")
    plan = choose(Problem(formula, geometry, 3, 8, "float32", "cpu"))
    assert plan.backend == "cpp"
    assert "torch" not in sys.modules, "the compiler half imported torch"
"""


def seconds_of_children():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run(code, *flags):
    command = [sys.executable, *flags, "-c", textwrap.dedent(code)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_compiler_half_needs_no_torch():
    """On an interpreter without site-packages, where there is no torch to import; in under two seconds of a processor."""
    start = seconds_of_children()
    done = run(f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r})\n" + textwrap.dedent(COMPILER_HALF), "-S", "-I")
    assert done.returncode == 0, done.stderr
    assert seconds_of_children() - start < 2


def test_that_test_can_fail():
    done = run("import anyconv.functional\n" + textwrap.dedent(COMPILER_HALF))
    assert "the compiler half imported torch" in done.stderr


def test_import_alone_loads_nothing():
    done = run("import anyconv, sys; assert 'torch' not in sys.modules; anyconv.Conv2d; assert 'torch' in sys.modules")
    assert done.returncode == 0, done.stderr


def test_the_public_surface(golden):
    lines = []
    for name in sorted(anyconv.__all__):
        thing = getattr(anyconv, name)
        if inspect.ismodule(thing):
            names = [
                n
                for n, f in vars(thing).items()
                if inspect.isfunction(f) and not n.startswith("_") and f.__module__ == thing.__name__
            ]
            lines += [f"{name}.{n}{inspect.signature(getattr(thing, n))}" for n in names]
        else:
            lines.append(f"{name}{inspect.signature(thing)}" if name != "AnyConvError" else name)
    golden("surface", "\n".join(lines))
    with pytest.raises(AttributeError, match="module 'anyconv' has no attribute 'Conv4d'"):
        getattr(anyconv, "Conv4d")  # noqa: B009 - the error is the point
    assert set(anyconv.__all__) <= set(dir(anyconv))


def test_lazy_names_and_type_checkers_agree():
    """The names under TYPE_CHECKING are those of `__all__`, from the same homes."""
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    stated = {alias.name: node.module for node in block.body for alias in node.names}
    assert stated == {**dict.fromkeys(anyconv._MODULES), **anyconv._HOME}
