"""A case of a seed and an index: formulas in blocks, so that a build serves many cases; pairs of values in turn.

Formula ``f`` has the scope and the reduction of pair number ``f``; its cases take padding mode, layout and dtype in turn. So
every pair of values that can meet is met, whatever else chance decides.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from random import Random

from . import maps, reductions
from .case import Case, Ints, Operand, Own, Place, Reduce, Source
from .numbers import LAYOUTS, RANGES

SCOPES = (
    "per_tap", "per_filter", "per_channel", "per_pair", "per_offset", "shared", "guide", "mask", "guide of several",
    "center", "center of guide", "offsets", "per_site nock", "per_site ock", "per_site nk", "per_site nc", "per_site o",
    "per_site",
)  # fmt: skip
REDUCTIONS = (
    "sum", "mean", "prod", "max", "min", "logsumexp", "norm", "softmax", "argmax", "argmin", "tuple", "over", "own",
    "own that counts",
)  # fmt: skip
MODES: tuple[str | float, ...] = ("zeros", "skip", "reflect", "replicate", "circular", 0.5)
DTYPES = ("float64", "float32", "float16", "bfloat16")
# mild names, and some that a generator of code might use itself
NAMES = (
    "w",
    "a",
    "b",
    "v",
    "q",
    "r",
    "s",
    "t0",
    "m",
    "d",
    "y",
    "k",
    "n",
    "o",
    "c",
    "s0",
    "e",
    "acc",
    "x0",
    "grad",
    "t",
    "z",
)
PIXELS = ("x", "x", "x", "p", "s", "v", "pixel")


@dataclass(frozen=True)
class Shares:
    """What share of the search each kind has."""

    cpp: float = 0.5
    triton: float = 0.01
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
        cpp: whether its cases are computed by kernels, in ``dtype``.
    """

    source: Source
    kinds: tuple[str, ...]
    dims: int | None
    cpp: bool
    dtype: str
    depthwise: bool
    channels: int | None = field(default=None)


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
    vectors = 0.05 if convolves else shares.vectors
    operands = _operands(rng, scope, shape, dims, vectors, pooled=pooled, images=not convolves)
    whole = rng.random() < shares.field and reduction != "over"
    kernel = _field(rng, dims) if whole else None
    if whole:
        operands = tuple(o for o in operands if o.scope not in ("center", "offsets") or o.scope == "center") or operands
        operands = tuple(
            o for o in operands if o.scope != "offsets" and not (o.size and ("k" in o.axes or o.scope == "guide"))
        )
        operands = tuple(o for o in operands if o.of is None)
    source = _source(rng, shape, operands, reduction, kernel, shares, pooled=pooled)
    if all(not set(o.axes) & set("o") for o in source.operands) and rng.random() < 0.5:
        pooled = True
    kinds = ["conv"]
    if pooled and not any(set(o.axes) & set("o") for o in source.operands):
        kinds = ["pool", "conv"] if rng.random() < 0.3 else ["pool"]
    elif kernel is None and not any(o.scope in ("center", "offsets", "per_site") for o in source.operands):
        kinds.append("transposed")
    fixed = dims if kernel is not None or any(o.scope == "offsets" for o in source.operands) else None
    depthwise = kinds[0] == "pool" or rng.random() < 0.2
    return Drawn(source, tuple(kinds), fixed, cpp, rng.choice(DTYPES), depthwise)


def _operands(
    rng: Random, scope: str, shape: str, dims: int, vectors: float, *, pooled: bool, images: bool
) -> tuple[Operand, ...]:
    count = rng.choice((0, 1, 1, 1, 2)) + (shape in ("hoist", "products"))
    plain = ("per_tap", "per_tap", "per_tap", "per_filter", "per_channel", "per_pair", "per_offset", "shared")
    scopes = [scope]
    for _ in range(count):
        scopes.append(rng.choice(plain) if rng.random() < 0.8 or not images else rng.choice(SCOPES))
    if pooled and not scope.startswith("per_site") and scope not in ("per_tap", "per_filter", "per_pair"):
        scopes = [
            s
            for s in scopes
            if s not in ("per_tap", "per_filter", "per_pair", "per_site nock", "per_site ock", "per_site o")
        ]
    rng.shuffle(scopes)
    names = rng.sample(NAMES, len(scopes))
    if len(scopes) > 1 and len(names[0]) == 1 and rng.random() < 0.25:  # `w0` beside a vector `w`, and the like
        names[1:] = [names[0][0] + rng.choice("01"), *(n for n in names[1:] if n[0] != names[0][0])]
        names += [n for n in ("u", "g", "h", "j") if n not in names]
    spare = next(n for n in ("f", "i", "l") if n not in names)
    found: list[Operand] = []
    for one, name in zip(scopes, names, strict=False):
        size = rng.choice((2, 3)) if rng.random() < vectors else None
        if one in ("guide", "mask"):
            found.append(Operand(name, "guide", mask=one == "mask", frozen=False))
        elif one == "guide of several":
            found.append(Operand(name, "guide", size=rng.choice((2, 3))))
        elif one == "center":
            found.append(Operand(name, "center"))
        elif one == "center of guide":
            guides = [o for o in found if o.scope == "guide" and not o.mask] or [Operand(spare, "guide")]
            found += [g for g in guides[:1] if g not in found] + [
                Operand(name, "center", size=guides[0].size, of=guides[0].name)
            ]
        elif one == "offsets":
            if not any(o.scope == "offsets" for o in found):
                found.append(Operand(name, "offsets", size=dims))
        elif one.startswith("per_site"):
            found.append(Operand(name, "per_site", size=size if rng.random() < 0.3 else None, along=one[9:]))
        else:
            found.append(Operand(name, one, size=size, frozen=rng.random() < 0.08))
    return tuple(found)


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


# --- places


def place(rng: Random, drawn: Drawn, mode: str | float, shares: Shares, *, long: bool = False) -> Place:
    """A random place where a formula can be applied."""
    kind = rng.choice(drawn.kinds[:1])
    if "transposed" in drawn.kinds and rng.random() < 1.5 * shares.transposed:
        kind, mode = "transposed", "skip"
    elif len(drawn.kinds) > 1 and "transposed" not in drawn.kinds:
        kind = rng.choice(drawn.kinds)
    dims = drawn.dims or rng.choice((1, 2, 2, 2, 3))
    most = {1: 12, 2: 6, 3: 4}[dims]
    ints = lambda choices: tuple(rng.choice(choices) for _ in range(dims))
    kernel = drawn.source.field or ints({1: (1, 2, 3, 5), 2: (1, 2, 3, 3), 3: (1, 2, 2, 3)}[dims])
    stride, dilation = ints((1, 1, 1, 2, 3)), ints((1, 1, 1, 2))
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
    size = tuple(rng.randint(1, most) for _ in range(dims))
    padding: Ints | str = ints((0, 0, 1, 2))
    word = rng.random()
    if kind != "transposed" and word < 0.12:
        padding, stride = "same", (1,) * dims
    elif kind != "transposed" and word < 0.2:
        padding = "valid"
    groups, channels, filters = rng.choice(
        ((1, 1, 1), (1, 2, 3), (1, 3, 2), (2, 2, 1), (2, 1, 2), (3, 1, 1), (1, 1, 9), (1, 9, 2), (2, 3, 2), (1, 4, 4))
    )
    if drawn.depthwise:
        groups, channels, filters = rng.choice(((2, 1, 1), (3, 1, 1), (9, 1, 1), (17, 1, 1)))
    if kind == "pool":
        channels = filters = 1
    if long:
        groups, channels, filters = (1, 150, 2) if not drawn.depthwise else (groups, channels, filters)
        size = tuple(max(s, min(n, s + 1)) for s, n in zip(spans, size, strict=True))
    p = Place(
        size=size, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, channels=channels,
        filters=filters, batch=rng.choice((1, 1, 2, 2, 2, 3, 0) if rng.random() < 0.25 else (1, 2)), mode=mode, kind=kind,
        more=(0,) * dims, bias=kind != "pool" and rng.random() < 0.4,
    )  # fmt: skip
    if kind == "pool":
        centered = any(o.scope == "center" for o in drawn.source.operands)  # whose fields may end beyond the padding
        p = replace(p, ceil=rng.random() < 0.3 and not centered)
    if kind == "transposed":
        p = replace(p, more=tuple(rng.randrange(max(s, d)) for s, d in zip(stride, dilation, strict=True)))
    return _fitting(replace(p, unbatched=p.batch == 1 and rng.random() < 0.1), spans)


def _fitting(p: Place, spans: Ints) -> Place:
    """The place with an image that is large enough for its kernel, and padding that the image can give."""
    size = list(p.size)
    if p.kind == "transposed":
        out = p.sites
        return replace(p, size=tuple(n + max(0, 1 - o) for n, o in zip(size, out, strict=True)))
    if not isinstance(p.padding, str) and p.kind == "pool":
        p = replace(p, padding=tuple(min(a, k // 2) for a, k in zip(p.padding, p.kernel, strict=True)))
    before, after = p.around
    for axis, (b, a, span) in enumerate(zip(before, after, spans, strict=True)):
        least = {"reflect": max(b, a) + 1, "circular": max(b, a)}.get(str(p.mode), 1)
        size[axis] = max(size[axis], least, span - b - a, 1)
    return replace(p, size=tuple(size))


def case(seed: int, index: int, per_formula: int = 30, shares: Shares = Shares()) -> Case:
    """Case ``index`` of a seed."""
    number, turn = divmod(index, per_formula)
    drawn, rng = formula(seed, number, shares), Random(f"{seed}/case/{index}")
    whole = drawn.source.field is not None
    modes = [m for m in MODES if m != "skip"] if whole else list(MODES)
    mode = modes[(turn + number) % len(modes)]
    if whole and mode == "skip":
        mode = "zeros"
    numbers = rng.choice([n for n in RANGES if n != "unit"]) if rng.random() < shares.hostile else "unit"
    if drawn.source.kind in ("kinks", "pole") and rng.random() < 0.5:
        numbers = rng.choice(("grid", "zeros"))
    p = place(rng, drawn, mode, shares, long=numbers == "long")
    layout = list(LAYOUTS)[(turn // 2 + number) % len(LAYOUTS)]
    backend, dtype = _backend(rng, drawn, p, turn, number, shares)
    second = rng.random() < shares.second and backend == "reference"
    return Case(
        drawn.source, p, dtype, numbers, layout, rng.choice(("xwg", "xwg", "x", "w", "g", "xg")), backend, second,
        rng.choice((1, 1, 1, 2, 3)), seed=rng.randrange(2**31), origin=(seed, index),
    )  # fmt: skip


def _backend(rng: Random, drawn: Drawn, p: Place, turn: int, number: int, shares: Shares) -> tuple[str, str]:
    any_dtype = DTYPES[(turn + number // 3) % len(DTYPES)]
    is_depthwise = p.groups > 1 and p.channels == p.filters == 1
    if rng.random() < shares.triton:
        return "triton", any_dtype
    if drawn.cpp and is_depthwise == drawn.depthwise and turn % 4 and p.kind != "transposed":
        return rng.choice(("auto", "cpp")), drawn.dtype
    if (
        drawn.source.kind in ("linear", "products")
        and turn % 2
        and drawn.source.reduction in ("sum", "mean")
        and not drawn.cpp
    ):
        return "native", any_dtype
    return "reference", any_dtype


__all__ = ["DTYPES", "MODES", "PAIRS", "REDUCTIONS", "SCOPES", "Drawn", "Own", "Shares", "case", "formula", "place"]
