"""Expr: one scalar formula as an immutable, hash-consed graph, and its text.

    >>> x, w = var("x"), var("w")
    >>> str(apply("tan", apply("add", x, w)))
    'tan(x + w)'

Equal expressions are the same object, so equality is identity, a shared value is stored once, and a
dictionary keyed by Expr is a memo table. The text is closed: :func:`anyconv.expr.parse` reads it back.
"""

from __future__ import annotations

import functools
import math
import threading
import weakref
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

INFIX = {  # op -> (symbol, precedence); the precedences are Python's, which is what the parser reads
    "lt": ("<", 1), "le": ("<=", 1), "gt": (">", 1), "ge": (">=", 1), "eq": ("==", 1), "ne": ("!=", 1),
    "logical_or": ("|", 2), "logical_xor": ("^", 3), "logical_and": ("&", 4),
    "add": ("+", 5), "sub": ("-", 5),
    "mul": ("*", 6), "div": ("/", 6), "floor_divide": ("//", 6), "remainder": ("%", 6),
    "pow": ("**", 8),
}  # fmt: skip
PREFIX = {"neg": ("-", 7), "logical_not": ("~", 7)}
ATOM = 9  # precedence of names, positive numbers and calls
MAX_DEPTH = 24  # deeper nests get a name, so that no text is too deep to be read back


@dataclass(frozen=True, eq=False, repr=False)
class Expr:
    """A node: ``var`` (value: its name), ``const`` (value: a float or a bool), or an op of the table."""

    __slots__ = ("__weakref__", "args", "op", "value")

    op: str
    args: tuple[Expr, ...]
    value: float | bool | str | None

    def nodes(self) -> list[Expr]:
        """Every distinct node once, arguments before the nodes that use them, the root last."""
        order: list[Expr] = []
        seen: set[Expr] = set()
        stack: list[tuple[Expr, Iterator[Expr]]] = [(self, iter(self.args))]
        while stack:
            node, rest = stack[-1]
            child = next((a for a in rest if a not in seen), None)
            if child is not None:
                stack.append((child, iter(child.args)))
                continue
            stack.pop()
            if node not in seen:
                seen.add(node)
                order.append(node)
        return order

    def names(self) -> tuple[str, ...]:
        """Names of the variables, in the order in which they are first met."""
        return _names(self)

    def __str__(self) -> str:
        *bindings, (_, result) = statements(self)
        return "; ".join([*(f"{name} = {text}" for name, text in bindings), result])

    def __repr__(self) -> str:
        return f"Expr({str(self)!r})"


@functools.lru_cache(maxsize=4096)
def _names(expr: Expr) -> tuple[str, ...]:
    return tuple(str(node.value) for node in expr.nodes() if node.op == "var")


_interned: weakref.WeakValueDictionary[object, Expr] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def _intern(op: str, args: tuple[Expr, ...], value: float | bool | str | None) -> Expr:
    # repr tells 0.0 from -0.0 and True from 1.0, and lets nan equal itself
    key = (op, args, repr(value))
    with _lock:
        found = _interned.get(key)
        if found is None:
            found = _interned[key] = Expr(op, args, value)
        return found


def var(name: str) -> Expr:
    """A variable: the pixel, an operand, or part of a reduction's state."""
    return _intern("var", (), name)


def const(value: float | bool) -> Expr:
    """A number, or a truth value."""
    return _intern("const", (), value if isinstance(value, bool) else float(value))


def apply(op: str, *args: Expr) -> Expr:
    """The node ``op(*args)``; well-formedness is :func:`~anyconv.expr.verify`'s business."""
    if op == "neg" and args[0].op == "const" and not isinstance(args[0].value, bool):
        return const(-args[0].value)  # type: ignore[operator]  # the text `-2` is one number
    return _intern(op, args, None)


def _number(value: float | bool) -> str:
    if isinstance(value, bool) or math.isnan(value) or math.isinf(value):
        return str(value)
    return str(int(value)) if value == int(value) and abs(value) < 1e15 and str(value) != "-0.0" else repr(value)


def _leaf(node: Expr) -> tuple[str, int]:
    if node.op == "var":
        return str(node.value), ATOM
    text = _number(node.value)  # type: ignore[arg-type]
    return text, PREFIX["neg"][1] if text.startswith("-") else ATOM


def _compose(node: Expr, parts: list[tuple[str, int]]) -> tuple[str, int]:
    def within(part: tuple[str, int], least: int) -> str:
        return part[0] if part[1] >= least else f"({part[0]})"

    if node.op in PREFIX:
        symbol, level = PREFIX[node.op]
        return symbol + within(parts[0], level), level
    if node.op in INFIX:
        symbol, level = INFIX[node.op]
        left, right = (level + 1, level - 1) if node.op == "pow" else (level + (level == 1), level + 1)
        return f"{within(parts[0], left)} {symbol} {within(parts[1], right)}", level
    return f"{node.op}({', '.join(text for text, _ in parts)})", ATOM


def statements(*roots: Expr) -> list[tuple[str, str]]:
    """The text as ``(name, text)`` pairs: temporaries first, then one line per root, named ``""``.

    A value that is used twice, or nested too deep, becomes a temporary ``t0``, ``t1``, ... counted anew
    in each text, so that a text depends on nothing but its expression.
    """
    order = list(dict.fromkeys(node for root in roots for node in root.nodes()))
    uses = Counter(arg for node in order for arg in node.args) + Counter(roots)
    taken = {str(node.value) for node in order if node.op == "var"}
    free = (name for name in (f"t{i}" for i in range(len(order) + len(taken) + 1)) if name not in taken)
    text: dict[Expr, tuple[str, int]] = {}
    depth: dict[Expr, int] = {}
    lines: list[tuple[str, str]] = []
    for node in order:
        if not node.args:
            text[node], depth[node] = _leaf(node), 0
            continue
        text[node] = _compose(node, [text[arg] for arg in node.args])
        depth[node] = 1 + max(depth[arg] for arg in node.args)
        if uses[node] > 1 or depth[node] > MAX_DEPTH:
            name = next(free)
            lines.append((name, text[node][0]))
            text[node], depth[node] = (name, ATOM), 0
    return lines + [("", text[root][0]) for root in roots]
