"""The grammar of maps: random expressions as source text, of a given shape.

Shapes aim at what the library does with a map: ``linear`` runs as one convolution, ``products`` as several, ``hoist``
has parts of weights alone, ``pole`` has a ``where`` that guards one, ``kinks`` is made of ties.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random

from .spellings import COMMON, CONDITIONS, GUARDED, KINKS, REAL

SHAPES = ("any", "linear", "products", "hoist", "pole", "kinks")
NUMBERS = ("0.5", "2", "-1", "0.1", "3.0", "-0.25", "1.5")


@dataclass(frozen=True)
class Atoms:
    """The names that a map may use, as text: the pixels (guides and centers too), and the weights."""

    pixels: tuple[str, ...]
    weights: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Pixels and weights."""
        return self.pixels + self.weights


def expression(rng: Random, shape: str, atoms: Atoms) -> str:
    """A random map's text, of a shape, that uses every atom."""
    made = {
        "linear": _linear, "products": _products, "hoist": _hoist, "pole": _pole, "kinks": _kinks, "any": _any,
    }[shape](rng, atoms)  # fmt: skip
    return _with_all(rng, made, atoms, exact=shape == "linear")


def _any(rng: Random, atoms: Atoms) -> str:
    return tree(rng, atoms.all, rng.choice((1, 2, 2, 3, 3, 4)))


def _linear(rng: Random, atoms: Atoms) -> str:
    x, weights = atoms.pixels[0], atoms.weights or ("0.5",)
    slope = rng.choice(weights) if rng.random() < 0.5 or weights == ("0.5",) else tree(rng, weights, 1)
    other = rng.choice(weights)
    level = rng.choice(("0.5", "3", "100", "100000", other))
    return rng.choice((
        f"{slope} * {x}", f"{x} * {slope}", f"({x} - {level}) * {slope}", f"{x} * {slope} + {other}",
        f"({x} + {level}) * {slope}", f"{slope} * ({x} / 2 - {level})", f"{slope} * {x} - {slope} * {level}",
        f"({x} - {other}) / (1 + {slope} * {slope})", f"-{x} * {slope} + 0.25 * {x}", f"{slope}",
    ))  # fmt: skip


def _products(rng: Random, atoms: Atoms) -> str:
    weights = atoms.weights or ("0.5",)
    terms = []
    for _ in range(rng.randint(1, 4)):
        seen = tree(rng, atoms.pixels, rng.choice((1, 1, 2)))
        weight = rng.choice(weights) if rng.random() < 0.7 or weights == ("0.5",) else tree(rng, weights, 1)
        terms.append(rng.choice((f"{weight} * {seen}", f"{seen} * {weight}", f"{seen} * ({weight} + 0.5)")))
    return " + ".join(terms)


def _hoist(rng: Random, atoms: Atoms) -> str:
    if not atoms.weights:
        return _any(rng, atoms)
    vectors = [w.removesuffix("[0]") for w in atoms.weights if w.endswith("[0]")]
    if vectors and rng.random() < 0.5:
        return _apart(rng, atoms.pixels[0], rng.choice(vectors))
    parts = [tree(rng, rng.sample(atoms.weights, min(len(atoms.weights), rng.randint(1, 2))), 2) for _ in range(2)]
    x, w = rng.choice(atoms.pixels), rng.choice(atoms.weights)
    return rng.choice((
        f"torch.exp(-torch.square(({x} - {w}) * torch.tanh({parts[0]})))", f"torch.tanh({x} * {parts[0]} + {parts[1]})",
        f"{parts[0]} * torch.sin({w} * {x})", f"torch.abs({x} - {parts[0]}) * {parts[1]}",
        f"torch.sigmoid({x} / (1 + torch.exp(0.5 * {w}))) * {parts[0]}",
        f"{_any(rng, atoms)} * {parts[0]}",
    ))  # fmt: skip


def _apart(rng: Random, x: str, vector: str) -> str:
    """Return a map in which one component of a vector is only in a part that no pixel is in."""
    here, there = rng.sample((f"{vector}[0]", f"{vector}[1]"), 2)
    part = rng.choice((f"torch.exp({there})", f"torch.tanh({there})", tree(rng, [there], 2)))
    return rng.choice((
        f"torch.exp(-torch.square(({x} - {here}) * {part}))", f"{part} * torch.sin({here} * {x})",
        f"torch.tanh(({x} + {here}) / (1 + {part} * {part}))",
    ))  # fmt: skip


def _pole(rng: Random, atoms: Atoms) -> str:
    first = rng.choice(atoms.all)
    guarded = rng.choice(GUARDED).format(first, rng.choice(atoms.all))
    return rng.choice(
        (guarded, f"torch.tanh({guarded}) * {rng.choice(atoms.all)}", f"{rng.choice(atoms.all)} + {guarded}")
    )


def _kinks(rng: Random, atoms: Atoms) -> str:
    a, b = rng.choice(atoms.pixels), rng.choice(atoms.all)
    inner = rng.choice((f"({a} - {b})", f"({a} * {b})", f"({a} + {b})", a, b))
    if rng.random() < 0.3:
        return rng.choice((f"torch.abs({a} - {b})", f"-abs({a} - {b})", f"torch.relu({a} - {b})"))
    for _ in range(rng.randint(1, 3)):
        inner = apply(rng, rng.choice(KINKS), [inner, rng.choice(atoms.all), rng.choice(atoms.all)], atoms.all)
    return inner


def _with_all(rng: Random, made: str, atoms: Atoms, *, exact: bool) -> str:
    """Add or multiply what a text does not use yet."""
    for atom in atoms.all:
        if re.search(r"(?<![\w.\]])" + re.escape(atom) + r"(?![\w\[])", made) or rng.random() < 0.1:
            continue
        if exact:
            form = "{0} + {1}" if atom in atoms.weights else "{0}"
        else:
            form = rng.choice(
                ("({0}) * {1}", "({0}) + {1}", "({0}) - 0.5 * {1}", "({0}) * torch.tanh({1})", "({0}) + torch.sin({1})")
            )
        made = form.format(made, atom)
    return made


def tree(rng: Random, names: tuple[str, ...] | list[str], depth: int) -> str:
    """A random expression of some names; a name, a call, or something in parentheses."""
    if depth <= 0:
        return rng.choice(list(names))
    op = rng.choice(COMMON) if rng.random() < 0.4 else rng.choice(list(REAL))
    count = len(REAL[op][1])
    # one branch goes deep, the others are short
    arguments = [tree(rng, names, depth - 1 if i == 0 else rng.randint(0, depth - 1)) for i in range(count)]
    rng.shuffle(arguments)
    return apply(rng, op, arguments, names)


def apply(rng: Random, op: str, arguments: list[str], names: tuple[str, ...] | list[str]) -> str:
    """An operation on texts, in one of its spellings, its arguments guarded nearly always."""
    templates, guards = REAL[op]
    chosen = rng.choice(templates)
    given = [rng.choice(g).format(a) if rng.random() < 0.93 else a for g, a in zip(guards, arguments, strict=False)]
    if "{c}" in chosen:
        return chosen.format(*given, c=condition(rng, names, 1))
    return chosen.format(*given)


def condition(rng: Random, names: tuple[str, ...] | list[str], depth: int) -> str:
    """A random truth value."""
    kinds = [k for k in CONDITIONS if depth > 0 or not k.startswith("logical")]
    chosen = rng.choice(CONDITIONS[rng.choice(kinds)])
    given = [tree(rng, names, rng.choice((0, 0, 1))) for _ in range(2)]
    inner = [condition(rng, names, depth - 1) if "{c}" in chosen or "{d}" in chosen else "" for _ in range(2)]
    return chosen.format(*given, c=inner[0], d=inner[1])
