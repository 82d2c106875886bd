"""A failing case made small: fewer axes and numbers, simpler expressions and scopes, as long as it fails in the same way."""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from .case import Case, Operand, Place, Source
from .oracle import names_of


def shrink(case: Case, fails: Callable[[Case], bool], seconds: float) -> Case:
    """The smallest case found in some seconds for which ``fails`` still holds."""
    end, tried = time.monotonic() + seconds, {case}
    while True:
        for smaller in candidates(case):
            if time.monotonic() > end:
                return case
            if smaller in tried:
                continue
            tried.add(smaller)
            if _holds(fails, smaller):
                case = smaller
                break
        else:
            return case


def _holds(fails: Callable[[Case], bool], case: Case) -> bool:
    try:
        return fails(case)
    except Exception:
        return False  # no case at all: an operand without a name, an image too small


def candidates(case: Case) -> Iterator[Case]:
    """Simpler cases, the boldest steps and those that need no build first."""
    for changes in (
        {"second": False}, {"layout": "contiguous", "laid": "xwg"}, {"threads": 1}, {"numbers": "unit"}, {"numbers": "grid"},
        {"numbers": "zeros"},
    ):  # fmt: skip
        if any(getattr(case, key) != value for key, value in changes.items()):
            yield replace(case, **changes)
    for place in _places(case.place):
        yield replace(case, place=place)
    for source in _sources(case.source):
        yield replace(case, source=source)
    for dtype in ("float64", "float32"):
        if case.dtype not in ("float64", dtype):
            yield replace(case, dtype=dtype)
    for axis in range(case.place.dims if case.place.dims > 1 else 0):
        source = replace(case.source, field=_without(case.source.field, axis))
        yield replace(case, place=_dropped(case.place, axis), source=source)


def _without(values: tuple[int, ...] | None, axis: int) -> tuple[int, ...] | None:
    return None if values is None else values[:axis] + values[axis + 1 :]


def _dropped(p: Place, axis: int) -> Place:
    along = {key: _without(getattr(p, key), axis) for key in ("size", "kernel", "stride", "dilation", "more")}
    padding = p.padding if isinstance(p.padding, str) else _without(p.padding, axis)
    return replace(p, padding=padding, **along)


def _places(p: Place) -> Iterator[Place]:
    if p.kind != "conv":
        yield replace(p, kind="conv", more=(0,) * p.dims, ceil=False)
    for changes in (
        {"bias": False}, {"unbatched": False}, {"ceil": False}, {"batch": 1}, {"groups": 1}, {"channels": 1}, {"filters": 1},
        {"mode": "zeros"}, {"mode": "skip"}, {"padding": (0,) * p.dims}, {"padding": (1,) * p.dims}, {"stride": (1,) * p.dims},
        {"dilation": (1,) * p.dims}, {"more": (0,) * p.dims}, {"channels": 2}, {"filters": 2}, {"groups": 2},
    ):  # fmt: skip
        smaller = replace(p, **changes)
        numbers = [v for v in changes.values() if isinstance(v, int)]
        if smaller != p and all(v <= getattr(p, k) for k, v in changes.items() if numbers and isinstance(v, int)):
            yield smaller
    for axis in range(p.dims):
        for key in ("kernel", "size"):
            now = getattr(p, key)[axis]
            for value in {1, 2, now // 2, now - 1}:
                if 0 < value < now:
                    yield replace(p, **{key: (*getattr(p, key)[:axis], value, *getattr(p, key)[axis + 1 :])})


def _sources(s: Source) -> Iterator[Source]:
    yield from _fewer_parts(s)
    for key in ("map", "epilogue"):
        text = getattr(s, key)
        for simpler in expressions(text) if text is not None else ():
            yield _used(replace(s, **{key: simpler}))
    for name, text in s.gradient:
        for simpler in expressions(text):
            yield replace(s, gradient=tuple((n, simpler if n == name else t) for n, t in s.gradient))
    for o in s.operands:
        for simpler in _scopes(o):
            yield replace(s, operands=tuple(simpler if other == o else other for other in s.operands))
    yield from _plain_names(s)


def _fewer_parts(s: Source) -> Iterator[Source]:
    if s.gradient:
        yield replace(s, gradient=())
    if s.epilogue is not None and len(s.reduce) == 1:
        yield _used(replace(s, epilogue=None))
    if s.over is not None:
        yield replace(s, over=None)
    if s.reduce != ("sum",) and s.over is None and s.epilogue is None:
        yield replace(s, reduce=("sum",))


def _plain_names(s: Source) -> Iterator[Source]:
    for number, o in enumerate(s.operands):
        plain = "wabcd"[number % 5]
        if o.name not in "wabcd" and plain not in [other.name for other in s.operands]:
            yield renamed(s, o.name, plain)
    pixel = names_of(s.map)[0]
    if pixel != "x" and "x" not in names_of(s.map):
        yield renamed(s, pixel, "x")


def _scopes(o: Operand) -> Iterator[Operand]:
    if o.frozen:
        yield replace(o, frozen=False)
    for scope in ("per_tap", "shared"):
        if o.passed and o.scope != scope and o.scope != "shared":
            yield replace(o, scope=scope, along="", mask=False)


def renamed(s: Source, old: str, new: str) -> Source:
    """The source with another name for an argument."""
    swap = lambda text: text if text is None else re.sub(rf"(?<![\w.]){old}(?!\w)", new, text)
    return replace(
        s, map=swap(s.map), epilogue=swap(s.epilogue),
        operands=tuple(replace(o, name=new if o.name == old else o.name, of=new if o.of == old else o.of) for o in s.operands),
        gradient=tuple((new if n == old else n, swap(t)) for n, t in s.gradient),
    )  # fmt: skip


def _used(s: Source) -> Source:
    """The source without the operands that no function reads, and without those arguments."""
    texts = [s.map, s.epilogue, *(t for _, t in s.gradient)]
    bodies = " ".join(ast.unparse(ast.parse(t, mode="eval").body.body) for t in texts if t)
    kept = [
        o
        for o in s.operands
        if re.search(rf"(?<![\w.]){o.name}(?!\w)", bodies) or any(o.name == c.of for c in s.operands)
    ]
    gone = {o.name for o in s.operands} - {o.name for o in kept}
    if not gone:
        return s
    return replace(
        s, map=_fewer(s.map, gone), epilogue=s.epilogue and _fewer(s.epilogue, gone), operands=tuple(kept),
        gradient=tuple((n, _fewer(t, gone)) for n, t in s.gradient if n not in gone),
    )  # fmt: skip


def _fewer(text: str, gone: set[str]) -> str:
    tree = ast.parse(text, mode="eval")
    tree.body.args.args = [a for a in tree.body.args.args if a.arg not in gone]  # type: ignore[attr-defined]
    return ast.unparse(tree)


def expressions(text: str) -> Iterator[str]:
    """A lambda's text with one of its expressions replaced by a part of it, the largest first."""
    body = ast.parse(text, mode="eval").body.body  # type: ignore[attr-defined]
    count = sum(1 for node in ast.walk(body) if isinstance(node, ast.expr))
    for at in range(count):
        for part in range(4):
            tree = ast.parse(text, mode="eval")
            swap = _Swap(at, part)
            tree.body.body = swap.visit(tree.body.body)  # type: ignore[attr-defined]
            if swap.done:
                yield ast.unparse(ast.fix_missing_locations(tree))


class _Swap(ast.NodeTransformer):
    """Put part ``part`` of expression number ``at`` in its place."""

    def __init__(self, at: int, part: int) -> None:
        self.at, self.part, self.count, self.done = at, part, -1, False

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.expr):
            return self.generic_visit(node)
        self.count += 1
        if self.count == self.at and not isinstance(node, (ast.Subscript, ast.Tuple)):
            parts = [child for child in _parts(node) if _is_number(child)]
            if self.part < len(parts):
                self.done = True
                return parts[self.part]
        return self.generic_visit(node)


def _parts(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.Call):
        receiver = [node.func.value] if isinstance(node.func, ast.Attribute) else []
        return [*(r for r in receiver if not (isinstance(r, ast.Name) and r.id in ("torch", "F"))), *node.args]
    return [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _is_number(node: ast.expr) -> bool:
    """Whether a part may stand alone; a bare name of a module may not."""
    return not (isinstance(node, ast.Attribute) or (isinstance(node, ast.Name) and node.id in ("torch", "F")))
