"""spell: Exprs as statements of a language with infix operators and functions: of C++, of Triton.

    >>> Speller({"x": "x", "w": "w"}, CPP).define({"y": parse("tan(x + w)")})
    ['const F y = tan(x + w);']

What the languages differ in is a `Dialect`; a name that one of them or its skeletons have taken, `names` changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ..expr import Expr
from ..expr.expr import INFIX, MAX_DEPTH, PREFIX, apply, const

CALLED = {"pow", "floor_divide", "remainder"}  # infix in texts, functions in both languages


@dataclass(frozen=True)
class Dialect:
    """How a language writes what the Speller says.

    Args:
        constant: the text of a number or truth value.
        argument: the same, where it is the argument of a function.
        templates: of operations that are no plain calls, each with a place for every argument.
        prefix: of a statement that gives a new name to a number, and to one of any type.
        end: of a statement.
        accumulate, deduct: templates of a sum and a difference that the multipliers compute.
        reserved: what no name may be.
    """

    constant: Callable[[float | bool], str]
    argument: Callable[[float | bool], str]
    templates: Mapping[str, str]
    prefix: tuple[str, str]
    end: str
    accumulate: str
    deduct: str
    reserved: frozenset[str]


def names(wanted: Iterable[str], dialect: Dialect, taken: Iterable[str] = ()) -> dict[str, str]:
    """A name for each name of the user: the same, unless it means something else there."""
    used = dialect.reserved | set(taken)
    found: dict[str, str] = {}
    for name in wanted:
        plain = name.replace("[", "_").replace("]", "")
        free = plain if name.isascii() and not name.startswith("_") and "__" not in name else "arg"
        while free in used:
            free += "_"
        found[name] = free
        used = used | {free}
    return found


class Speller:
    """Writes statements of one function body; what two of them share is computed once.

    Args:
        known: the text of each variable.
        dialect: the language.
        adders_are_free: sums go to the adders; else to the multipliers, with a factor of 1, where there is a choice.
    """

    def __init__(self, known: Mapping[str, str], dialect: Dialect, *, adders_are_free: bool = False) -> None:
        self.known = dict(known)
        self._dialect = dialect
        self._adders_are_free = adders_are_free
        self._text: dict[Expr, str] = {}
        self._count = 0

    def texts(self, roots: Iterable[Expr]) -> list[str]:
        """Each root as one expression."""
        return [self._inline(root) for root in roots]

    def define(self, roots: Mapping[str, Expr]) -> list[str]:
        """A new name for the number that each root is."""
        d = self._dialect
        return [
            *self._temporaries(roots.values()),
            *(f"{d.prefix[0]}{n} = {self._inline(root)}{d.end}" for n, root in roots.items()),
        ]

    def assign(self, roots: Mapping[str, Expr]) -> list[str]:
        """``name = ...`` for each root; none of them may depend on another's name."""
        end = self._dialect.end
        return [*self._temporaries(roots.values()), *(f"{n} = {self._inline(root)}{end}" for n, root in roots.items())]

    def give(self, root: Expr) -> list[str]:
        """``return ...``"""
        return [*self._temporaries([root]), f"return {self._inline(root)}{self._dialect.end}"]

    def update(self, roots: Mapping[str, Expr]) -> list[str]:
        """``name = ...`` for each root, all from the old values; a sum with the name itself is added to it."""
        lines, d = self._temporaries(roots.values()), self._dialect
        news = {}
        for i, (name, root) in enumerate(roots.items()):
            text = self._sum(name, rest) if (rest := self._increment(name, root)) else self._inline(root)
            news[name] = text if len(roots) == 1 else f"next{i}"
            lines += [] if len(roots) == 1 else [f"{d.prefix[0]}next{i} = {text}{d.end}"]
        return [*lines, *(f"{name} = {text}{d.end}" for name, text in news.items())]

    def _increment(self, name: str, root: Expr) -> Expr | None:
        """What is added to the variable of that text, where the root is such a sum."""
        if root.op in ("add", "sub") and root not in self._text:
            old, rest = root.args
            if old.op == "var" and self.known[str(old.value)] == name:
                return rest if root.op == "add" else apply("neg", rest)
        return None

    def add(self, roots: Mapping[str, Expr]) -> list[str]:
        """``name = name + ...`` for each root; a product is added by a fused operation, a zero not at all.

        Of two sums one goes to the adders and the other to the multipliers: together they are done sooner.
        """
        lines = self._temporaries(roots.values())
        for i, (name, root) in enumerate(roots.items()):
            if root.op == "const" and root.value == 0:
                continue
            lines.append(f"{name} = {self._sum(name, root, plainly=i == 0)}{self._dialect.end}")
        return lines

    def _sum(self, name: str, root: Expr, *, plainly: bool = False) -> str:
        if root.op == "where" and root not in self._text and const(0.0) in root.args[1:]:  # a masked instruction
            condition, *branches = root.args
            sums = [name if b is const(0.0) else self._sum(name, b, plainly=plainly) for b in branches]
            return self._dialect.templates["where"].format(self._inline(condition), *sums)
        negative, term = (True, root.args[0]) if root.op == "neg" else (False, root)
        if term.op == "mul" and term not in self._text:
            a, b = (self._argument(arg) for arg in term.args)
            if negative:
                a = f"-{_grouped(a, term.args[0], self._text)}"
            return self._dialect.templates["fma"].format(a, b, name)
        if plainly or self._adders_are_free:
            return f"{name} {'-' if negative else '+'} {_grouped(self._inline(term), term, self._text)}"
        return (self._dialect.deduct if negative else self._dialect.accumulate).format(name, self._inline(term))

    def _temporaries(self, given: Iterable[Expr]) -> list[str]:
        roots = list(given)
        order = list(dict.fromkeys(node for root in roots for node in root.nodes()))
        uses = Counter(arg for node in order for arg in node.args) + Counter(roots)
        depth: dict[Expr, int] = {}
        lines = []
        for node in order:
            depth[node] = 0 if node in self._text else 1 + max((depth[arg] for arg in node.args), default=0)
            if node.args and node not in self._text and (uses[node] > 1 or depth[node] > MAX_DEPTH):
                depth[node] = 0
                text = self._inline(node)
                name = f"t{self._count}"
                while name in self.known.values():
                    self._count += 1
                    name = f"t{self._count}"
                self._count += 1
                lines.append(f"{self._dialect.prefix[1]}{name} = {text}{self._dialect.end}")
                self._text[node] = name
        return lines

    def _inline(self, node: Expr) -> str:
        if node in self._text:
            return self._text[node]
        if not node.args:
            known, number = self.known, node.value
            return known[str(number)] if node.op == "var" else self._dialect.constant(number)  # type: ignore[arg-type]
        plain = node.op == "where" or (node.op in INFIX and node.op not in CALLED)
        parts = [self._inline(arg) if plain else self._argument(arg) for arg in node.args]
        if node.op in self._dialect.templates:
            return self._dialect.templates[node.op].format(*parts)
        if node.op in PREFIX:
            return f"{'-' if node.op == 'neg' else '~'}{_grouped(parts[0], node.args[0], self._text)}"
        if node.op in INFIX and node.op not in CALLED:
            left, right = (_grouped(p, a, self._text) for p, a in zip(parts, node.args, strict=True))
            return f"{left} {INFIX[node.op][0]} {right}"
        return f"{node.op}({', '.join(parts)})"

    def _argument(self, node: Expr) -> str:
        if node.op == "const" and node not in self._text:
            return self._dialect.argument(node.value)  # type: ignore[arg-type]
        return self._inline(node)


def _grouped(text: str, node: Expr, named: Mapping[Expr, str]) -> str:
    simple = node in named or node.op in ("var", "const") or not (node.op in INFIX or node.op in PREFIX)
    return text if simple or node.op in CALLED else f"({text})"
