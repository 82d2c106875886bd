"""hoist: what a map computes of fewer axes than its own, computed before the kernel, once.

>>> found = hoist(Formula(lambda x, w, s: x * w * torch.exp(-s * s), operands={"s": per_filter()}).mathematics)
>>> found.mathematics.values, found.parts
((Expr('x * w * h0'),), (Part(variable=Variable(name='h0', ...), expr=Expr('exp(-s * s)'), ...),))

A part of a map that sees only weights is computed for each weight instead of each evaluation; one that sees only images
without filters and channels (a kernel of guides, say) for each site and tap. Its gradient goes on to its operands by
torch's autograd.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

from ..expr import Expr
from ..expr.expr import apply, var
from ..expr.verify import kind
from ..mathematics import Mathematics
from ..variables import Variable
from .problem import Problem
from .schedule import cost

WORTH = 6  # instructions: to load a number instead is not free either


@dataclass(frozen=True)
class Part:
    """A new variable, and what it is of the old ones.

    Args:
        held: old ones whose gradient does not come through it, but is given.
    """

    variable: Variable
    expr: Expr
    held: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Hoisted:
    """A formula that is given parts of itself; the same, where there are none."""

    mathematics: Mathematics
    parts: tuple[Part, ...]


def hoisted(problem: Problem) -> Hoisted:
    """What is taken out of a problem's formula.

    Half precisions keep all their arithmetic in the kernel, which computes in float32. A part per site and tap has to
    be small beside x and y; and a tap that is skipped has no value to differentiate.
    """
    m, g = problem.formula.mathematics, problem.geometry
    if problem.dtype not in ("float32", "float64"):
        return Hoisted(m, ())
    small = g.taps * g.groups <= problem.in_channels + problem.out_channels
    return hoist(m, images=small and (g.mode != "skip" or not any(g.before + g.after)))


@functools.lru_cache(maxsize=256)
def hoist(m: Mathematics, *, images: bool = True) -> Hoisted:
    """Take out what is worth it.

    Args:
        images: also what has a value for each site and tap.
    """
    known = {v.name: v for v in m.variables}
    given = frozenset(name for name, _ in m.slopes)
    exprs = (*m.values, *(slope for _, slopes in m.slopes for slope in slopes))
    nodes = list(dict.fromkeys(node for expr in exprs for node in expr.nodes()))
    alone = {node for node in nodes if _is_apart(node, known, images=images and m.field is None)}
    users = {arg for node in nodes if node not in alone for arg in node.args} | set(exprs)
    largest = [n for n in nodes if n in alone and n in users and n.args and kind(n) == "real" and cost(n) >= WORTH]
    if not largest:
        return Hoisted(m, ())
    free = (name for name in (f"h{i}" for i in range(len(largest) + len(known))) if name not in known)
    parts = tuple(Part(_variable(next(free), node, known, given), node, given) for node in largest)
    new = iter(_replaced(exprs, {part.expr: var(part.variable.name) for part in parts}))
    values = tuple(next(new) for _ in m.values)
    slopes = tuple((name, tuple(next(new) for _ in slopes)) for name, slopes in m.slopes)
    used = {name for expr in (*values, *(s for _, some in slopes for s in some)) for name in expr.names()} | given
    pixel, *others = m.variables
    variables = (pixel, *(v for v in others if v.name in used), *(part.variable for part in parts))
    return Hoisted(replace(m, variables=variables, values=values, slopes=slopes), parts)


def _is_apart(node: Expr, known: dict[str, Variable], *, images: bool) -> bool:
    seen = [known[name] for name in node.names()]
    if not seen:
        return False
    if not any(v.is_image for v in seen):
        return True
    return images and not any(set(v.axes) & set("oc") for v in seen)


def _variable(name: str, node: Expr, known: dict[str, Variable], given: frozenset[str]) -> Variable:
    seen = [known[of] for of in node.names()]
    axes = {axis for v in seen for axis in v.axes.replace("i", "ks")}
    return Variable(
        name, name, "".join(a for a in "nocks" if a in axes), frozen=all(v.frozen or v.name in given for v in seen)
    )


def _replaced(values: tuple[Expr, ...], new: dict[Expr, Expr]) -> tuple[Expr, ...]:
    done: dict[Expr, Expr] = {}
    for node in dict.fromkeys(node for value in values for node in value.nodes()):
        again = apply(node.op, *(done[arg] for arg in node.args)) if node.args else node
        done[node] = new.get(node, again)
    return tuple(done[value] for value in values)
