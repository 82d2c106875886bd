"""share: sums of products, taken apart and put together so that they have more in common.

    >>> from anyconv.expr.parse import read
    >>> [str(e) for e in share([read("g * (2 * (x - w))"), read("g * (-2 * (x - w))")], outer={"g"})]
    ['2 * g * (x - w)', '-(2 * g * (x - w))']

The gradients of one formula are products of much the same factors, which the chain rule leaves in another order each
time: nothing in `a * (b * c)` and `(a * c) * d` is shared. Here a product is a multiset of factors; the pair of factors
that most products have is multiplied first, for all of them, until no two products have a pair in common (the greedy
extraction of Hosangadi, Fallah and Kastner, Optimizing polynomial expressions by algebraic factorization, 2006). A
denominator that several fractions have is divided by once.

The results are equal up to rounding, so this is for gradients: a value stays what its author wrote. What a function or
a condition is given (a comparison with a saved maximum, say) is not touched either.
"""

from __future__ import annotations

import functools
from collections import Counter

from .expr import Expr, apply, const
from .factor import Atom, Over, Pair, Product, Reader, Sum, Term


def share(roots: list[Expr], outer: set[str]) -> list[Expr]:
    """Expressions equal to ``roots`` up to rounding, as cheap together as this way finds.

    Args:
        roots: real expressions.
        outer: names that vary less often than others: what depends on them alone is multiplied together first.
    """
    reader = Reader(roots, outer)
    return _Writer(reader, [reader.read(root) for root in roots]).exprs()


class _Writer:
    """Puts products together, common pairs first."""

    def __init__(self, reader: Reader, terms: list[Term]) -> None:
        self._reader = reader
        tops = [*terms, *(term for branches in reader.choices.values() for term in branches)]
        sizes = {abs(k) for product, k in tops if product}
        all_outer = all(self._outer(product) for product, _ in tops if product)
        self._unit = sizes.pop() if len(sizes) == 1 and all_outer else 1.0
        self._roots = [self._weighed(term) for term in terms]
        self._choices = {node: tuple(map(self._weighed, branches)) for node, branches in reader.choices.items()}
        self._parts: dict[Product, Counter[Atom]] = {}
        for product, _ in (*self._roots, *(term for branches in self._choices.values() for term in branches)):
            self._collect(product)
        over = Counter(atom for part in self._parts.values() for atom in part.elements() if isinstance(atom, Over))
        self._fractions = {atom for atom, uses in over.items() if uses == 1}  # these are divided by last
        while pair := self._best_pair():
            self._extract(pair)
        self._built: dict[Atom, Expr] = {}

    def exprs(self) -> list[Expr]:
        """The expressions."""
        return [self._term(term) for term in self._roots]

    def _outer(self, product: Product) -> list[Expr]:
        return [atom for atom in product if isinstance(atom, Expr) and self._reader.is_outer(atom)]

    def _weighed(self, term: Term) -> Term:
        """A term whose outer factors are one, with the coefficient if all agree on it: that is no work inside."""
        product, coefficient = term
        outer = self._outer(product)
        if not outer or (len(outer) == 1 and self._unit == 1):
            return term
        weight = functools.reduce(lambda a, b: apply("mul", a, b), outer)
        if self._unit != 1:
            weight = apply("mul", const(self._unit), weight)
        self._reader.stand_for(outer, weight)
        rest = Counter(product) - Counter(outer)
        return self._reader.product((weight, *rest.elements())), coefficient / self._unit

    def _collect(self, product: Product) -> None:
        if product in self._parts:
            return
        self._parts[product] = Counter(product)
        for atom in product:
            for inner, _ in atom.terms if isinstance(atom, Sum) else ():
                self._collect(inner)

    def _best_pair(self) -> tuple[Atom, Atom] | None:
        """The pair of factors that most products have; first of all a pair that is multiplied in any case."""
        scores: dict[tuple[Atom, Atom], int] = {}
        for part in self._parts.values():
            atoms = sorted((a for a in part if a not in self._fractions), key=self._reader.rank)
            for i, a in enumerate(atoms):
                for b in atoms[i:]:
                    times = part[a] // 2 if a is b else min(part[a], part[b])
                    if times and not (isinstance(a, Over) and isinstance(b, Over)):  # 1 / d^2 is soon too large
                        scores[a, b] = scores.get((a, b), 0) + times
        for pair in scores:
            if self._given(pair):
                return pair
        best = max(scores, key=lambda pair: scores[pair], default=None)
        return best if best is not None and scores[best] > 1 else None

    def _given(self, pair: tuple[Atom, Atom]) -> Expr | None:
        a, b = (self._given((p.first, p.second)) if isinstance(p, Pair) else p for p in pair)
        if isinstance(a, Expr) and isinstance(b, Expr):
            return next((n for n in (apply("mul", a, b), apply("mul", b, a)) if n in self._reader.closed), None)
        return None

    def _extract(self, pair: tuple[Atom, Atom]) -> None:
        a, b = pair
        made = self._given(pair) or Pair(a, b)
        for part in self._parts.values():
            times = part[a] // 2 if a is b else min(part[a], part[b])
            if times:
                part -= Counter({a: 2 * times} if a is b else {a: times, b: times})
                part[made] += times

    def _term(self, term: Term) -> Expr:
        product, coefficient = term
        atoms = sorted(self._parts[product].elements(), key=self._reader.rank)
        below = [atom for atom in atoms if atom in self._fractions]
        factors = [self._atom(atom) for atom in atoms if atom not in self._fractions]
        size, total = abs(coefficient), None
        for factor in factors:
            total = factor if total is None else apply("mul", total, factor)
        if total is None:
            total = const(size)
        elif size == 2:
            total = apply("add", total, total)
        elif size != 1:
            total = apply("mul", const(size), total)
        for atom in below:
            total = apply("div", total, atom.denominator)
        return apply("neg", total) if coefficient < 0 else total

    def _atom(self, atom: Atom) -> Expr:
        if atom not in self._built:
            self._built[atom] = self._made(atom)
        return self._built[atom]

    def _made(self, atom: Atom) -> Expr:
        if isinstance(atom, Over):
            return apply("div", const(1.0), atom.denominator)
        if isinstance(atom, Pair):
            return apply("mul", self._atom(atom.first), self._atom(atom.second))
        if isinstance(atom, Sum):
            total = None
            for product, coefficient in atom.terms:
                part = self._term((product, abs(coefficient)))
                if total is None:
                    total = part if coefficient > 0 else apply("neg", part)
                else:
                    total = apply("add" if coefficient > 0 else "sub", total, part)
            assert total is not None
            return total
        if atom in self._choices:
            return apply("where", atom.args[0], *map(self._term, self._choices[atom]))
        return atom
