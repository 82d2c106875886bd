"""factor: a sum of products as data, its factors in one order whatever the order in which the chain rule met them.

>>> from anyconv.expr.parse import read
>>> product = read("w * (x * x)")
>>> [str(atom) for atom in Reader([product], outer=set()).read(product)[0]]
['w', 'x', 'x']
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from .differentiate import ZERO
from .expr import Expr
from .verify import kind

_OPEN = {"add", "sub", "mul", "neg", "div", "where"}


@dataclass(frozen=True)
class Over:
    """``1 / denominator``."""

    denominator: Expr


@dataclass(frozen=True)
class Sum:
    """A sum of products with coefficients."""

    terms: tuple[tuple[Product, float], ...]


@dataclass(frozen=True)
class Pair:
    """Two factors that are multiplied first."""

    first: Atom
    second: Atom


Atom = Expr | Over | Sum | Pair
Product = tuple[Atom, ...]  # with repetitions, in the order in which the factors were first met
Term = tuple[Product, float]  # a product and its coefficient


class Reader:
    """Takes expressions apart, down to `closed` nodes: what must be computed as it is in any case."""

    def __init__(self, roots: Iterable[Expr], outer: set[str]) -> None:
        self._outer = outer
        self.closed: set[Expr] = set()
        self.choices: dict[Expr, tuple[Term, Term]] = {}  # each open `where` and its branches
        self._rank: dict[Atom, int] = {}
        self._done: dict[Expr, Term] = {}
        self._uses: Counter[Expr] = Counter()
        self._look(list(roots))

    def is_outer(self, node: Expr) -> bool:
        """Whether a node depends on outer names and on nothing else."""
        names = set(node.names())
        return bool(names) and names <= self._outer

    def rank(self, atom: Atom) -> int:
        """The place of a factor among all, in the order in which they were met."""
        return self._rank.setdefault(atom, len(self._rank))

    def stand_for(self, others: list[Expr], atom: Expr) -> None:
        """Give ``atom`` the place of those that it is made of."""
        self._rank[atom] = self.rank(others[0])

    def product(self, factors: Iterable[Atom]) -> Product:
        """Factors in their order."""
        return tuple(sorted(factors, key=self.rank))

    def read(self, node: Expr) -> Term:
        """A node as one product; a sum of several is one factor."""
        if node is ZERO:
            return (), 0.0
        if node not in self._done:
            product, coefficient = self._taken_apart(node)
            usable = math.isfinite(coefficient) and coefficient != 0
            self._done[node] = (product, coefficient) if usable else (self.product([node]), 1.0)
        return self._done[node]

    def _look(self, roots: list[Expr]) -> None:
        seen: set[Expr] = set()
        todo = roots
        self._uses.update(roots)
        while todo:
            node = todo.pop()
            if node in seen:
                continue
            seen.add(node)
            open_args, closed_args = self._split(node)
            self._uses.update(open_args)
            todo += open_args
            for arg in closed_args:
                self.closed.update(arg.nodes())
        self.closed = {node for node in self.closed if node.args}

    def _split(self, node: Expr) -> tuple[list[Expr], list[Expr]]:
        """The arguments that may be taken apart, and those that may not."""
        if node.op not in _OPEN or self.is_outer(node):
            return [], list(node.args)
        if node.op == "where":
            return list(node.args[1:]), [node.args[0]]
        if node.op != "div":
            return list(node.args), []
        top, bottom = node.args
        # an inner value over an outer one may be a safe way to a moderate number: it stays
        return ([], [top, bottom]) if self.is_outer(bottom) else ([top], [bottom])

    def _taken_apart(self, node: Expr) -> Term:
        if node.op == "const" and kind(node) == "real":
            return (), float(node.value)  # type: ignore[arg-type]
        # the factors of a closed product are worth knowing: it is there for free
        is_product = node.op in ("mul", "neg")
        take = self._TAKE.get(node.op) if self._split(node)[0] and (is_product or node not in self.closed) else None
        return take(self, node) if take else (self.product([node]), 1.0)

    def _mul(self, node: Expr) -> Term:
        (a, k), (b, m) = (self.read(arg) for arg in node.args)
        return self.product((*a, *b)), k * m

    def _neg(self, node: Expr) -> Term:
        product, coefficient = self.read(node.args[0])
        return product, -coefficient

    def _div(self, node: Expr) -> Term:
        product, coefficient = self.read(node.args[0])
        return self.product((*product, Over(node.args[1]))), coefficient

    def _choice(self, node: Expr) -> Term:
        branches = node.args[1:]
        terms = [self.read(branch) for branch in branches]
        if ZERO in branches:  # then a coefficient can stand outside
            product, coefficient = terms[branches[0] is ZERO]
            terms[branches[0] is ZERO] = product, 1.0
        else:
            coefficient = 1.0
        self.choices[node] = (terms[0], terms[1])
        return self.product([node]), coefficient

    def _sum(self, node: Expr) -> Term:
        terms: dict[Product, float] = {}
        for product, coefficient in self._summands(node, 1.0):
            terms[product] = terms.get(product, 0.0) + coefficient
        if not all(terms.values()):  # x - x is NaN for an infinite x
            return self.product([node]), 1.0
        if len(terms) == 1:
            return next(iter(terms.items()))
        common = Counter(next(iter(terms)))
        for product in terms:
            common &= Counter(product)
        rest = sorted(
            ((self.product((Counter(product) - common).elements()), k) for product, k in terms.items()),
            key=lambda term: [self.rank(atom) for atom in term[0]],
        )
        sizes = {abs(k) for _, k in rest}
        unit = math.copysign(sizes.pop() if len(sizes) == 1 else 1.0, rest[0][1])
        total = Sum(tuple((product, k / unit) for product, k in rest))
        return self.product((*common.elements(), total)), unit

    _TAKE: ClassVar[dict[str, Callable[[Reader, Expr], Term]]] = {
        "mul": _mul, "neg": _neg, "div": _div, "add": _sum, "sub": _sum, "where": _choice,
    }  # fmt: skip

    def _summands(self, node: Expr, sign: float) -> Iterator[Term]:
        left, right = node.args
        for arg, factor in ((left, sign), (right, sign if node.op == "add" else -sign)):
            if arg.op in ("add", "sub") and self._uses[arg] == 1 and arg not in self.closed and not self.is_outer(arg):
                yield from self._summands(arg, factor)
            else:
                product, coefficient = self.read(arg)
                yield product, factor * coefficient
