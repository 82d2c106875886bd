"""library: the functions of the skeletons, and which of them a text needs.

>>> len(needed(functions(), "y = sigmoid(x)"))
2
"""

from __future__ import annotations

import ast
import functools
from pathlib import Path

SKELETONS = Path(__file__).parent / "skeletons"
OPS = ("arithmetic", "exponentials", "circular", "special", "activations")


@functools.cache
def functions() -> dict[str, str]:
    """The text of each function of the table of operations, by name, in an order in which each knows those before."""
    found: dict[str, str] = {}
    for name in OPS:
        found |= functions_of(skeleton(name))
    return found


def skeleton(name: str) -> str:
    """The text of a skeleton."""
    return (SKELETONS / f"{name}.py").read_text(encoding="utf-8")


def functions_of(text: str) -> dict[str, str]:
    """The text of each function of a file, its decorators included."""
    lines = text.splitlines()
    return {
        node.name: "\n".join(lines[node.decorator_list[0].lineno - 1 : node.end_lineno])
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef)
    }


def needed(pool: dict[str, str], text: str) -> list[str]:
    """The functions of a pool that a text calls, and those that these call, in the order of the pool."""
    wanted, waiting = set[str](), [text]
    while waiting:
        called = _called(waiting.pop()) & (set(pool) - wanted)
        wanted |= called
        waiting += [pool[name] for name in called]
    return [body for name, body in pool.items() if name in wanted]


def _called(text: str) -> set[str]:
    calls = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name)}
