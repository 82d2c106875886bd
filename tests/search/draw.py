"""A case of a seed and an index: formulas in blocks, so that a build serves many cases; pairs of values in turn.

Formula ``f`` has the scope and the reduction of pair number ``f``; its cases take padding mode, layout and dtype in turn. So
every pair of values that can meet is met, whatever else chance decides.

``SHARED`` cases in a row have the same numbers at the same place, on different backends and in different layouts: the
oracle computes them once.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from random import Random

from . import maps, reductions
from .case import Case, Ints, Operand, Own, Reduce, Source
from .numbers import LAYOUTS, RANGES
from .places import MODES, lanes_of, place

SCOPES = (
    "per_tap", "per_filter", "per_channel", "per_pair", "per_offset", "shared", "guide", "mask", "guide of several",
    "center", "center of guide", "offsets", "per_site nock", "per_site ock", "per_site nk", "per_site nc", "per_site o",
    "per_site",
)  # fmt: skip
REDUCTIONS = (
    "sum", "mean", "prod", "max", "min", "logsumexp", "norm", "softmax", "argmax", "argmin", "tuple", "over", "own",
    "own that counts",
)  # fmt: skip
DTYPES = ("float64", "float32", "float16", "bfloat16")
# mild names, and some that a generator of code might use itself
NAMES = (
    "w", "a", "b", "v", "q", "r", "s", "t0", "m", "d", "y", "k", "n", "o", "c", "s0", "e", "acc", "x0", "grad", "t", "z",
)  # fmt: skip
SHARED = 6
PIXELS = ("x", "x", "x", "p", "s", "v", "pixel")


@dataclass(frozen=True)
class Shares:
    """What share of the search each kind has."""

    cpp: float = 0.5
    triton: float = 0.0002  # a case takes an interpreter up to minutes
    second: float = 0.02
    transposed: float = 0.12
    pool: float = 0.12
    hostile: float = 0.4
    field: float = 0.08
    gradient: float = 0.08
    vectors: float = 0.25
    shapes: tuple[float, ...] = (3, 1.5, 2, 2, 1.5, 1.5)


@dataclass(frozen=True)
class Drawn:
    """A formula, and what its cases have in common.

    Args:
        kinds: of places that it can be applied at.
        dims: the number of axes, where the formula has one.
        cpp: whether kernels compute its cases, in ``dtype``.
        depthwise: groups of one channel and one filter.
        lanes: of its kernels, a key of ``places.CHANNELS``: one for all its cases, so that few kernels are built.
        skips: whether kernels with lanes of sites leave padding out, which takes a kernel of its own.
    """

    source: Source
    kinds: tuple[str, ...]
    dims: int | None
    cpp: bool
    dtype: str
    depthwise: bool
    lanes: str = "any"
    skips: bool = False


PAIRS = tuple((scope, reduction) for scope in SCOPES for reduction in REDUCTIONS)


@functools.lru_cache(maxsize=8)
def _order(seed: int) -> tuple[int, ...]:
    order = list(range(len(PAIRS)))
    Random(f"{seed}/pairs").shuffle(order)
    return tuple(order)


@functools.lru_cache(maxsize=4)
def formula(seed: int, number: int, shares: Shares = Shares()) -> Drawn:
    """Formula ``number`` of a seed."""
    rng = Random(f"{seed}/formula/{number}")
    scope, reduction = PAIRS[_order(seed)[number % len(PAIRS)]]
    weights = list(shares.shapes)
    if reduction in ("sum", "mean"):  # what may run as ordinary convolutions
        weights[1:3] = [weights[1] * 3, weights[2] * 3]
    shape = rng.choices(maps.SHAPES, weights)[0]
    dims = rng.choice((1, 2, 2, 2, 3))
    pooled, cpp = rng.random() < shares.pool, rng.random() < shares.cpp
    convolves = shape in ("linear", "products") and reduction in ("sum", "mean")
    vectors = 0.05 if convolves else 0.5 if shape == "hoist" else shares.vectors
    operands = _operands(rng, scope, shape, dims, vectors, pooled=pooled, images=not convolves)
    whole = rng.random() < shares.field and reduction != "over"
    kernel = _field(rng, dims) if whole else None
    if whole:
        vectors_of_taps = lambda o: o.size and ("k" in o.axes or o.scope == "guide")
        operands = tuple(o for o in operands if o.scope != "offsets" and o.of is None and not vectors_of_taps(o))
    source = _source(rng, shape, operands, reduction, kernel, shares, pooled=pooled)
    if all(not set(o.axes) & set("o") for o in source.operands) and rng.random() < 0.5:
        pooled = True
    kinds = ["conv"]
    if pooled and not any(set(o.axes) & set("o") for o in source.operands):
        kinds = ["pool", "conv"] if rng.random() < 0.3 else ["pool"]
    elif kernel is None and not any(o.scope in ("center", "offsets", "per_site") for o in source.operands):
        kinds.append("transposed")
    fixed = dims if kernel is not None or any(o.scope == "offsets" for o in source.operands) else None
    if cpp and "transposed" in kinds:  # whose phases have kernels of their own
        kinds = ["transposed"] if rng.random() < shares.transposed else ["conv"]
    depthwise = kinds[0] == "pool" or rng.random() < 0.2
    lanes = lanes_of(rng, source, depthwise=depthwise) if cpp else "groups" if depthwise else "any"
    return Drawn(source, tuple(kinds), fixed, cpp, rng.choice(DTYPES), depthwise, lanes, rng.random() < 0.2)


def _operands(
    rng: Random, scope: str, shape: str, dims: int, vectors: float, *, pooled: bool, images: bool
) -> tuple[Operand, ...]:
    scopes = _scopes(rng, scope, shape, pooled=pooled, images=images)
    names = rng.sample(NAMES, len(scopes))
    if len(scopes) > 1 and len(names[0]) == 1 and rng.random() < 0.25:  # `w0` beside a vector `w`, and the like
        names[1:] = [names[0][0] + rng.choice("01"), *(n for n in names[1:] if n[0] != names[0][0])]
        names += [n for n in ("u", "g", "h", "j") if n not in names]
    found: list[Operand] = []
    for one, name in zip(scopes, names, strict=False):
        size = rng.choice((2, 3)) if rng.random() < vectors else None
        if one == "center of guide":
            spare = next(n for n in ("f", "i", "l") if n not in names)
            found += _center_of_guide(name, spare, found)
        elif one != "offsets" or not any(o.scope == "offsets" for o in found):
            found.append(_operand(rng, one, name, size, dims))
    return tuple(found)


def _scopes(rng: Random, scope: str, shape: str, *, pooled: bool, images: bool) -> list[str]:
    """The scopes of a map's operands: the one to be tried, and a few others."""
    count = rng.choice((0, 1, 1, 1, 2)) + (shape in ("hoist", "products"))
    plain = ("per_tap", "per_tap", "per_tap", "per_filter", "per_channel", "per_pair", "per_offset", "shared")
    scopes = [scope]
    for _ in range(count):
        scopes.append(rng.choice(plain) if rng.random() < 0.8 or not images else rng.choice(SCOPES))
    of_filters = ("per_tap", "per_filter", "per_pair", "per_site nock", "per_site ock", "per_site o")
    if pooled and not scope.startswith("per_site") and scope not in of_filters:
        scopes = [s for s in scopes if s not in of_filters]
    rng.shuffle(scopes)
    return scopes


def _operand(rng: Random, kind: str, name: str, size: int | None, dims: int) -> Operand:
    if kind in ("guide", "mask"):
        return Operand(name, "guide", mask=kind == "mask")
    if kind == "guide of several":
        return Operand(name, "guide", size=rng.choice((2, 3)))
    if kind == "center":
        return Operand(name, "center")
    if kind == "offsets":
        return Operand(name, "offsets", size=dims)
    if kind.startswith("per_site"):
        return Operand(name, "per_site", size=size if rng.random() < 0.3 else None, along=kind[9:])
    return Operand(name, kind, size=size, frozen=rng.random() < 0.08)


def _center_of_guide(name: str, spare: str, found: list[Operand]) -> list[Operand]:
    """The center of a guide that there is, or of a new one that comes before it."""
    guide = next((o for o in found if o.scope == "guide" and not o.mask), Operand(spare, "guide"))
    center = Operand(name, "center", size=guide.size, of=guide.name)
    return [center] if guide in found else [guide, center]


def _field(rng: Random, dims: int) -> Ints:
    return {1: ((3,), (2,)), 2: ((2, 2), (1, 3), (2, 1)), 3: ((1, 2, 1), (2, 1, 2))}[dims][rng.randrange(2)]


def _reduce(rng: Random, kind: str) -> tuple[tuple[Reduce, ...], Reduce | None]:
    if kind == "tuple":
        return tuple(rng.choice(reductions.TUPLES)), None
    if kind == "over":
        taps, channels = rng.choice(reductions.OVERS)
        return (taps,), channels
    if kind in ("own", "own that counts"):
        return (rng.choice([own for own in reductions.OWN if own.counts == (kind == "own that counts")]),), None
    return (rng.choice(("norm2", "norm1.5", "norm3", "norm1")) if kind == "norm" else kind,), None


def _source(
    rng: Random,
    shape: str,
    operands: tuple[Operand, ...],
    kind: str,
    kernel: Ints | None,
    shares: Shares,
    *,
    pooled: bool,
) -> Source:
    reduce, over = _reduce(rng, kind)
    pixel = rng.choice([p for p in PIXELS if p not in [o.name for o in operands]])
    atoms = _atoms(pixel, operands, kernel)
    texts = [maps.expression(rng, shape, atoms)]
    while len(texts) < sum(map(reductions.values_of, reduce)):
        texts.append(maps.tree(rng, atoms.all, rng.choice((0, 1, 2))))
    rng.shuffle(texts)
    body = texts[0] if len(texts) == 1 else f"({', '.join(texts)})"
    names = [pixel, *(o.name for o in operands)]
    convolves = shape in ("linear", "products") and kind in ("sum", "mean")
    epilogue, more = _epilogue(rng, len(reduce), 0.02 if convolves else 0.2, pooled=pooled)
    gradient: tuple[tuple[str, str], ...] = ()
    if len(texts) == 1 and kernel is None and rng.random() < shares.gradient:
        single = [pixel, *(o.name for o in operands if o.size is None and o.passed and not o.frozen)]
        chosen = rng.choice(single)
        plain = maps.Atoms(
            tuple(a for a in atoms.pixels if "[" not in a), tuple(a for a in atoms.weights if "[" not in a)
        )
        gradient = ((chosen, f"lambda {', '.join(plain.all)}: {maps.tree(rng, plain.all, 1)}"),)
    return Source(
        f"lambda {', '.join(names)}: {body}", operands + more, reduce, over, epilogue, gradient, kernel, shape
    )


def _atoms(pixel: str, operands: tuple[Operand, ...], kernel: Ints | None) -> maps.Atoms:
    taps = None if kernel is None else math.prod(kernel)
    pixels, weights = [pixel] if taps is None else [f"{pixel}[{t}]" for t in range(taps)], []
    for o in operands:
        count = o.size
        if taps is not None and ("k" in o.axes or o.scope == "guide"):
            count = taps
        names = [o.name] if count is None else [f"{o.name}[{i}]" for i in range(count)]
        (pixels if o.scope in ("guide", "center", "per_site") else weights).extend(names)
    return maps.Atoms(tuple(pixels), tuple(weights))


def _epilogue(rng: Random, results: int, share: float, *, pooled: bool) -> tuple[str | None, tuple[Operand, ...]]:
    if results == 1 and rng.random() > share:
        return None, ()
    text = rng.choice(reductions.EPILOGUES[results])
    values = ["y"] if results == 1 else ["a", "b", "c"][:results]
    found: list[Operand] = []
    for slot in ("p", "q"):
        if "{" + slot + "}" in text:
            name = {"p": "gain", "q": "level"}[slot]
            scope = rng.choice(("shared",) if pooled else ("per_filter", "shared", "per_filter", "per_site"))
            along = rng.choice(("o", "", "no", "n")) if scope == "per_site" else ""
            found.append(Operand(name, scope, along=along))
    body = text.format(p="gain", q="level")
    return f"lambda {', '.join([*values, *(o.name for o in found)])}: {body}", tuple(found)


def case(seed: int, index: int, per_formula: int = 30, shares: Shares = Shares()) -> Case:
    """Case ``index`` of a seed."""
    number, turn = divmod(index, per_formula)
    group, way = divmod(turn, SHARED)
    drawn = formula(seed, number, shares)
    shared, rng = Random(f"{seed}/numbers/{number}/{group}"), Random(f"{seed}/case/{index}")
    modes = _modes(drawn)
    mode = modes[(group + number) % len(modes)]
    on_triton = shared.random() < SHARED * shares.triton
    second = shared.random() < shares.second and not drawn.source.gradient  # which is no derivative
    numbers = _numbers(shared, drawn, shares)
    kind = _kind(shared, drawn, shares)
    p = place(shared, drawn, kind, mode, long=numbers == "long", small=on_triton)
    dtype = drawn.dtype if drawn.cpp else DTYPES[(group + number // 3) % len(DTYPES)]
    backend = "triton" if on_triton and way == 0 else "reference" if on_triton else _backend(rng, drawn, way)
    return Case(
        drawn.source, p, dtype, numbers, list(LAYOUTS)[(way + group + number) % len(LAYOUTS)],
        rng.choice(("xwg", "xwg", "x", "w", "g", "xg")), backend, second and backend != "triton",
        rng.choice((1, 1, 1, 1, 1, 2, 3)), seed=shared.randrange(2**31), origin=(seed, index),
    )  # fmt: skip


def _modes(drawn: Drawn) -> list[str | float]:
    """The padding modes of a formula's cases."""
    if drawn.source.field is not None:
        return [m for m in MODES if m != "skip"]
    if drawn.cpp and drawn.lanes in ("sites", "planes"):
        return ["skip"] if drawn.skips else [m for m in MODES if m != "skip"]
    return list(MODES)


def _numbers(rng: Random, drawn: Drawn, shares: Shares) -> str:
    """A range of numbers; sums of many terms only where they need no kernel of their own."""
    hostile = [n for n in RANGES if n != "unit" and (n != "long" or drawn.lanes in ("any", "channels", "planes"))]
    numbers = rng.choice(hostile) if rng.random() < shares.hostile else "unit"
    if "100000" in drawn.source.map and rng.random() < 0.5:  # a level that is taken off pixels of about its size
        return "far"
    if drawn.source.kind in ("kinks", "pole") and rng.random() < 0.5:
        numbers = rng.choice(("grid", "zeros", "special"))
    return numbers


def _kind(rng: Random, drawn: Drawn, shares: Shares) -> str:
    if "transposed" in drawn.kinds and not drawn.cpp:
        return "transposed" if rng.random() < 1.5 * shares.transposed else drawn.kinds[0]
    return rng.choice(drawn.kinds)


def _backend(rng: Random, drawn: Drawn, way: int) -> str:
    """The backend to ask for: a third of the cases of kernels, and of convolutions, goes to the reference backend."""
    if way % 3 == 2:
        return "reference"
    if drawn.cpp:
        return rng.choice(("auto", "cpp"))
    convolves = drawn.source.kind in ("linear", "products") and drawn.source.reduction in ("sum", "mean")
    return "native" if convolves else "reference"


__all__ = [
    "DTYPES",
    "MODES",
    "PAIRS",
    "REDUCTIONS",
    "SCOPES",
    "SHARED",
    "Drawn",
    "Own",
    "Shares",
    "case",
    "formula",
    "place",
]
