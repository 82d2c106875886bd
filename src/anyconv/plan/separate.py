"""separate: a map that is a sum of products, of images alone and of weights alone, is a few ordinary convolutions.

    >>> terms_of(Formula(lambda x, w: w[0] * torch.sin(x) + w[1] * x**2, operands={"w": per_tap(size=2)}).mathematics)
    ((Term(image=Expr('sin(x)'), weight=Expr('w[0]')), Term(image=Expr('x ** 2'), weight=Expr('w[1]'))),)

Splines, polynomials and wavelets of fixed places are such maps: what they make of a pixel is the same for all filters,
and need not be computed for each. Sums are distributed over a product only where one factor is of one kind, as written:
``(x - w) ** 2`` stays what it is, since its expansion would cancel.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ..expr import Expr
from ..expr.expr import apply, const
from ..expr.verify import kind
from ..mathematics import Mathematics
from ..reductions.builtin import MEAN, SUM
from .problem import Problem
from .schedule import cost

ONE = const(1.0)
MOST = 16  # products of one value
WORTH = 3  # instructions of an image, for each convolution that it saves a kernel of ours to compute it in


@dataclass(frozen=True)
class Term:
    """``image * weight``: the first sees pixels and guides, the second what does not vary from pixel to pixel."""

    image: Expr
    weight: Expr


Terms = tuple[tuple[Term, ...], ...]  # of each value that the map returns


def separated(problem: Problem) -> Terms | None:
    """The terms of a problem, where it has some and convolutions can sum them.

    Half precisions are computed in float32 by kernels, and would be rounded between two convolutions. Depthwise layers
    have little for an image to be computed for once, and for torch to be quick at.
    """
    m, g = problem.formula.mathematics, problem.geometry
    if problem.dtype not in ("float32", "float64") or problem.depthwise or any(v.is_image for v in m.outer):
        return None
    if g.mode == "skip" and any(g.before + g.after):
        spans = [d * (k - 1) + 1 for d, k in zip(g.dilation, g.kernel, strict=True)]
        if MEAN in m.reduction.parts or any(p >= span for p, span in zip(g.before + g.after, 2 * spans, strict=True)):
            return None  # it would have to count the taps of each site, or to leave out fields that are empty
    return terms_of(m)


def is_worth(terms: Terms, device: str) -> bool:
    """Whether convolutions are quicker than what else there is.

    On the CPU that is where the images cost something: one of our kernels computes them anew for each filter, but has
    an epilogue for nothing. Elsewhere there is no kernel, and they always are.
    """
    convolutions = sum(bool(t.image.names()) for value in terms for t in value)
    nodes = dict.fromkeys(node for value in terms for t in value for node in t.image.nodes() if node.args)
    return device != "cpu" or sum(map(cost, nodes)) >= WORTH * convolutions


@functools.lru_cache(maxsize=256)
def terms_of(m: Mathematics) -> Terms | None:
    """The terms of each value, or None where it has none, or is not summed."""
    sums = all(part in (SUM, MEAN) for part in m.reduction.parts)
    if m.inner is not None or m.field is not None or m.slopes or not sums:
        return None
    if any(v.is_image and not v.slides for v in m.variables):
        return None  # a value for each site meets each pixel at another tap
    images = frozenset(v.name for v in m.variables if v.is_image)
    found = [_terms(value, images) for value in m.values]
    return None if any(terms is None for terms in found) else tuple(terms for terms in found if terms is not None)


def _terms(value: Expr, images: frozenset[str]) -> tuple[Term, ...] | None:
    known: dict[Expr, tuple[Term, ...] | None] = {}
    for node in value.nodes():
        seen = set(node.names())
        if not seen & images:
            known[node] = (Term(ONE, node),)
        elif seen <= images:
            known[node] = (Term(node, ONE),)
        else:
            known[node] = _composed(node, [known[arg] for arg in node.args])
    terms = known[value]
    if terms is None or kind(value) == "bool":
        return None
    weights: dict[Expr, Expr] = {}
    for term in terms:  # images that are the same are convolved once
        weights[term.image] = apply("add", weights[term.image], term.weight) if term.image in weights else term.weight
    return None if len(weights) > MOST else tuple(Term(image, weight) for image, weight in weights.items())


def _composed(node: Expr, args: list[tuple[Term, ...] | None]) -> tuple[Term, ...] | None:
    match node.op, args:
        case "add", [tuple() as a, tuple() as b]:
            return (*a, *b)
        case "sub", [tuple() as a, tuple() as b]:
            return (*a, *map(_negative, b))
        case "neg", [tuple() as a]:
            return tuple(map(_negative, a))
        case "mul", [tuple() as a, tuple() as b] if len(a) == 1 or len(b) == 1:
            return tuple(Term(_product(s.image, t.image), _product(s.weight, t.weight)) for s in a for t in b)
        case "div", [tuple() as a, (Term(image, weight),)]:
            return tuple(Term(_quotient(t.image, image), _quotient(t.weight, weight)) for t in a)
    return None


def _negative(term: Term) -> Term:
    return Term(term.image, apply("neg", term.weight))


def _product(a: Expr, b: Expr) -> Expr:
    return b if a is ONE else a if b is ONE else apply("mul", a, b)


def _quotient(a: Expr, b: Expr) -> Expr:
    return a if b is ONE else apply("div", a, b)
