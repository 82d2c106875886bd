"""spell: Exprs as statements of C++.

>>> print("\\n".join(Speller(names(parse("tan(x + w)").names())).define({"y": parse("tan(x + w)")})))
const F y = tan(x + w);

A name may be taken by the language or by the skeletons; `names` finds free ones, close to the user's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from ...expr import Expr
from ...expr.expr import INFIX, MAX_DEPTH, PREFIX, apply, const
from ...expr.ops import TABLE
from ...expr.verify import kind

_CALLED = {"pow", "floor_divide", "remainder"}  # infix in texts, functions in C++
_TEMPLATES = {"where": "where({}, {}, {})", "real": "truth<F>({})"}
_KEYWORDS = """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl const constexpr continue
    decltype default delete do double else enum explicit export extern false float for friend goto if inline int long
    mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register return short
    signed sizeof static struct switch template this throw true try typedef typeid typename union unsigned using
    virtual void volatile wchar_t while xor xor_eq
    F R T V N O C K Mask Real Bits Traits state pixel operand outer context
    g count dx dp splat splat_mask select fma truth bits
    accumulate deduct sign_times store load lanes up least any scale polynomial linux unix INF PI HUGE
"""
RESERVED = frozenset(_KEYWORDS.split()) | set(TABLE)


def names(wanted: Iterable[str], taken: Iterable[str] = ()) -> dict[str, str]:
    """A C++ name for each name of the user: the same, unless it means something else there."""
    used = RESERVED | set(taken)
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
        known: the C++ text of each variable.
        adders_are_free: sums go to the adders; else to the multipliers, with a factor of 1, where there is a choice.
    """

    def __init__(self, known: Mapping[str, str], *, adders_are_free: bool = False) -> None:
        self.known = dict(known)
        self._adders_are_free = adders_are_free
        self._text: dict[Expr, str] = {}
        self._count = 0

    def texts(self, roots: Iterable[Expr]) -> list[str]:
        """Each root as one expression."""
        return [self._inline(root) for root in roots]

    def define(self, roots: Mapping[str, Expr]) -> list[str]:
        """``const F name = ...;`` for each root."""
        return [
            *self._temporaries(roots.values()),
            *(f"const F {n} = {self._inline(root)};" for n, root in roots.items()),
        ]

    def assign(self, roots: Mapping[str, Expr]) -> list[str]:
        """``name = ...;`` for each root; none of them may depend on another's name."""
        return [*self._temporaries(roots.values()), *(f"{n} = {self._inline(root)};" for n, root in roots.items())]

    def give(self, root: Expr) -> list[str]:
        """``return ...;``"""
        return [*self._temporaries([root]), f"return {self._inline(root)};"]

    def update(self, roots: Mapping[str, Expr]) -> list[str]:
        """``name = ...;`` for each root, all from the old values; a sum with the name itself is added to it."""
        lines = self._temporaries(roots.values())
        news = {}
        for i, (name, root) in enumerate(roots.items()):
            text = self._sum(name, rest) if (rest := self._increment(name, root)) else self._inline(root)
            news[name] = text if len(roots) == 1 else f"next{i}"
            lines += [] if len(roots) == 1 else [f"const F next{i} = {text};"]
        return [*lines, *(f"{name} = {text};" for name, text in news.items())]

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
            lines.append(f"{name} = {self._sum(name, root, plainly=i == 0)};")
        return lines

    def _sum(self, name: str, root: Expr, *, plainly: bool = False) -> str:
        if root.op == "where" and root not in self._text and const(0.0) in root.args[1:]:  # a masked instruction
            condition, *branches = root.args
            sums = [name if b is const(0.0) else self._sum(name, b, plainly=plainly) for b in branches]
            return f"where({self._inline(condition)}, {', '.join(sums)})"
        negative, term = (True, root.args[0]) if root.op == "neg" else (False, root)
        if term.op == "mul" and term not in self._text:
            a, b = (self._inline(arg) for arg in term.args)
            if negative:
                a = f"-{_grouped(a, term.args[0], self._text)}"
            return f"fma({a}, {b}, {name})"
        if plainly or self._adders_are_free:
            return f"{name} {'-' if negative else '+'} {_grouped(self._inline(term), term, self._text)}"
        return f"{'deduct' if negative else 'accumulate'}({name}, {self._inline(term)})"

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
                lines.append(f"const auto {name} = {text};")
                self._text[node] = name
        return lines

    def _inline(self, node: Expr) -> str:
        if node in self._text:
            return self._text[node]
        if not node.args:
            return self.known[str(node.value)] if node.op == "var" else _constant(node.value)  # type: ignore[arg-type]
        parts = [self._inline(arg) for arg in node.args]
        if node.op in _TEMPLATES:
            return _TEMPLATES[node.op].format(*parts)
        if node.op in PREFIX:
            return f"{'-' if node.op == 'neg' else '~'}{_grouped(parts[0], node.args[0], self._text)}"
        if node.op in INFIX and node.op not in _CALLED:
            left, right = (_grouped(p, a, self._text) for p, a in zip(parts, node.args, strict=True))
            return f"{left} {INFIX[node.op][0]} {right}"
        return f"{node.op}({', '.join(parts)})"


def fused(expr: Expr) -> Expr:
    """``expr`` with each product by a sign as one operation: the sign is moved, not multiplied."""
    done: dict[Expr, Expr] = {}
    for node in expr.nodes():
        args = [done[arg] for arg in node.args]
        new = apply(node.op, *args) if node.args else node
        if new.op == "mul":
            for a, b in (args, args[::-1]):
                if a.op == "sign":
                    new = apply("sign_times", a.args[0], b)
                    break
        done[node] = new
    return done[expr]


def contracted(exprs: list[Expr], values: list[Expr]) -> list[Expr]:
    """The same with each product that is used once, in a sum, as one operation with it: rounded once, not twice.

    A difference of two products in the ``values`` stays: ``a * a - b * b`` is zero where a and b are equal, and a root
    of it is a number. Their own nodes come out alike in every list, and so compare equal to themselves.
    """
    order = list(dict.fromkeys(node for expr in exprs for node in expr.nodes()))
    own = list(dict.fromkeys(node for value in values for node in value.nodes()))
    own_uses = Counter(arg for node in own for arg in node.args)
    uses = Counter(arg for node in order for arg in node.args) + Counter(exprs)
    kept = set(own)
    done: dict[Expr, Expr] = {}
    for node in order:
        done[node] = apply(node.op, *(done[arg] for arg in node.args)) if node.args else node
        products = [i for i, arg in enumerate(node.args) if node.op in ("add", "sub") and arg.op == "mul"]
        if len(products) != 1 and (node in kept or not products):
            continue
        for i in products:
            arg, other = node.args[i], node.args[1 - i]
            alone = own_uses[arg] == 1 if node in kept else uses[arg] == 1 and arg not in kept
            if alone and not any(factor.op == "sign" for factor in arg.args):
                done[node] = _contraction(node.op, i, [done[factor] for factor in arg.args], done[other])
                break
    return [done[expr] for expr in exprs]


def _contraction(op: str, place: int, factors: list[Expr], rest: Expr) -> Expr:
    a, b = factors
    if op == "sub" and place == 1:
        return apply("fma", apply("neg", a), b, rest)
    return apply("fma", a, b, apply("neg", rest) if op == "sub" else rest)


def as_number(expr: Expr) -> Expr:
    """A truth value as the number that it counts for."""
    return apply("real", expr) if kind(expr) == "bool" else expr


def _grouped(text: str, node: Expr, named: Mapping[Expr, str]) -> str:
    simple = node in named or node.op in ("var", "const") or not (node.op in INFIX or node.op in PREFIX)
    return text if simple or node.op in _CALLED else f"({text})"


def _constant(value: float | bool) -> str:
    if isinstance(value, bool):
        return f"splat_mask<F>({str(value).lower()})"
    if math.isnan(value):
        return 'splat<F>(__builtin_nan(""))'
    if math.isinf(value):
        return f"splat<F>({'-' if value < 0 else ''}__builtin_inf())"
    return f"splat<F>({value!r})"
