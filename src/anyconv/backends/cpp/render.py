"""render: the source of a formula's kernels. The skeletons are included; the functor is written here.

>>> print(render(Formula(lambda x, w: -torch.abs(x - w)), "float32", this_machine()).text)
// y = sum(-abs(x - w))
// forward and backward in float32; rendered by anyconv
...
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...formula import Formula
from ...mathematics import Mathematics
from ...plan.machine import Machine
from ...plan.schedule import CHEAP, Tile, cost, multiplies, tile
from ...variables import Variable
from ..functor import INNER, OUTER, USER, Functor, functor
from ..layout import Layout
from ..spell import Speller, names
from .spell import CPP

SKELETONS = Path(__file__).parent / "skeletons"
STORAGE = {"float32": ("float", "float"), "float64": ("double", "double"), "float16": ("Half", "float"),
           "bfloat16": ("BFloat16", "float")}  # fmt: skip
PASSES = ("forward", "backward")
LANES = {"channels": "CHANNELS", "sites": "SITES", "groups": "GROUPS"}  # of a schedule -> as the skeletons call them
ENTRY = {  # (pass, whether the map sees images) -> the skeleton that it is called by
    ("forward", False): "forward", ("forward", True): "forward", ("limit", False): "limit", ("limit", True): "limit",
    ("backward", False): "backward", ("backward", True): "backward_images",
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """The calls that a library serves. Calls that need something else have a library of their own.

    Args:
        lanes: of the schedule: ``"channels"``, ``"sites"`` or ``"groups"``.
        saves: the forward pass stores the states that the backward pass reads.
        skips: taps outside the image are left out; only lanes of sites need code for it.
    """

    lanes: str = "channels"
    saves: bool = False
    skips: bool = False

    @property
    def settings(self) -> str:
        """The macros that tell the skeletons."""
        values = {"LANES": LANES[self.lanes], "SAVES": str(self.saves).lower(), "SKIPS": str(self.skips).lower()}
        return "\n".join(f"#define ANYCONV_{name} {value}" for name, value in values.items())

    def __str__(self) -> str:
        return f"lanes of {self.lanes}" + "; saves states" * self.saves + "; skips padding" * self.skips


@dataclass(frozen=True)
class Source:
    """A complete text for a compiler, and what it was made from.

    Args:
        formula: as mathematics.
        text: C++17, which includes the skeletons.
        functor: what it computes at one pixel.
        tile: its registers.
        dtype: of the tensors.
        passes: what it computes.
        variant: the calls it serves.
        costly: the map takes so many instructions that loads do not decide.
    """

    formula: str
    text: str
    functor: Functor = field(compare=False)
    tile: Tile = field(compare=False)
    dtype: str
    passes: tuple[str, ...]
    variant: Variant
    costly: bool = field(default=False, compare=False)

    @property
    def title(self) -> str:
        """The content in a line."""
        return f"{self.formula}, {' and '.join(self.passes)} ({self.variant}) in {self.dtype}"


def render(
    formula: Formula | Mathematics, dtype: str, machine: Machine, passes: tuple[str, ...] = PASSES,
    variant: Variant = Variant(),
) -> Source:  # fmt: skip
    """Write the source of a formula's kernels in one dtype, for any shape.

    Args:
        passes: what it will compute: ``"forward"``, ``"backward"``, or the ``"limit"`` of both.
        variant: the calls it will serve; maps that see images have lanes of sites whatever it says.
    """
    # not cached by the formula itself: its map may be a method of a layer, which a cache would keep alive
    m = formula.mathematics if isinstance(formula, Formula) else formula
    return _render(m, dtype, machine, passes, replace(variant, lanes="sites") if m.needs_planes else variant)


@functools.lru_cache(maxsize=1024)
def _render(m: Mathematics, dtype: str, machine: Machine, passes: tuple[str, ...], variant: Variant) -> Source:
    made = functor(m)
    values = [*made.inner_step, *made.step, *made.gradients.values()]
    layout = Layout.of(m)
    shared = cost(*values, of=USER + m.variables[0].name)
    parts, seen = len(made.parts) + len(made.inner), len(layout.operands) + len(layout.inputs) - 1
    tiles = tile(cost=cost(*values), parts=parts, operands=seen, machine=machine, shared=shared)
    stored, computed = STORAGE[dtype]
    body = "\n".join(f"    {line}".rstrip() for line in _Writer(made, m, layout).functor(tiles))
    title = str(m)
    text = f"""\
// {title}
// {" and ".join(passes)} in {dtype}; rendered by anyconv
#define ANYCONV_FUNCTOR
{variant.settings}
#include "ops.hpp"
#include "storage.hpp"

namespace anyconv {{

typedef {stored} T;  // how numbers lie in memory
typedef {computed} R;  // in what they are computed

struct Functor {{
{body}
}};

}}  // namespace anyconv

{chr(10).join(f'#include "{ENTRY[name, m.needs_planes]}_entry.hpp"' for name in passes)}
"""
    return Source(title, text, made, tiles, dtype, passes, variant, costly=cost(*values) > CHEAP)


def skeletons() -> str:
    """All that a source includes: part of the key of its build."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(SKELETONS.glob("*.hpp")))


class _Writer:
    """Writes the members of a functor."""

    def __init__(self, functor: Functor, m: Mathematics, layout: Layout) -> None:
        f = self._functor = functor
        self._layout, self._whole = layout, m.field is not None
        states, contexts = [f"state_{p}" for p in f.parts], [f"c{i}" for i in range(len(f.contexts))]
        own = names([v.name for v in m.variables], CPP, taken=[*states, *contexts])
        self._known = {USER + name: spelled for name, spelled in own.items()}
        self._inputs = [f"const F {own[v.name]} = pixel[{i}];" for i, v in enumerate(layout.inputs)]
        self._inputs += [f"const F {own[v.name]} = operand[{i}];" for i, v in enumerate(layout.operands)]
        self._count = max(1, len(layout.operands))  # no array of C++ is empty
        self._pixels = len(layout.inputs)
        self._contexts = max(1, len(f.contexts))
        self._outer = max(1, len(layout.outer))

    def functor(self, t: Tile) -> list[str]:
        """All lines between the braces of the struct."""
        f, layout = self._functor, self._layout
        axes = [_bits(v) for v in layout.operands]
        lines = [
            f"static constexpr int OPERANDS = {len(axes)}, OUTER = {len(layout.outer)};",
            f"static constexpr int AXES[] = {_array(axes)};  // of operands: 1 if it varies with o, 2 with c, 4 with k",
            f"static constexpr int INPUTS = {len(layout.inputs)}, IMAGES = {len(layout.images)};",
            f"static constexpr int IMAGE[] = {_array(layout.image_of)}, TAP[] = {_array(layout.taps)};  // of inputs",
            f"static constexpr int IMAGE_AXES[] = {_array([_bits(v) for v in layout.images])};  // 8: a value per site",
            f"static constexpr bool WHOLE = {str(self._whole).lower()};  // the map sees all taps at once",
            f"static constexpr bool LEARNS[] = {_array(layout.learns)};  // whether an image may have a gradient",
            f"static constexpr int INNER = {len(f.inner)};  // parts of the state of a channel",
            f"static constexpr int PARTS = {len(f.parts)}, RESULT = {f.result_parts};  // the result's come first",
            f"static constexpr int SAVED[] = {_array([f.parts.index(p) for p in f.saved])};",
            f"static constexpr int SAVES = {len(f.saved)}, CONTEXTS = {self._contexts};",
            f"static constexpr bool COUNTS = {str(f.counts).lower()};",
            f"static constexpr int SITES = {t.sites}, VECTORS = {t.vectors};",
            f"static constexpr int FILTERS = {t.filters}, CHANNELS = {t.channels};",
        ]
        if f.inner:
            lines += ["", *self._inner()]
        for size in sorted({f.result_parts, len(f.parts)}):
            lines += ["", *self._identity(size), *self._fold(size)]
        return [*lines, "", *self._result(), "", *self._context(), "", *self._gradients()]

    @property
    def _seen(self) -> str:
        return f"const F (&pixel)[{self._pixels}], const F (&operand)[{self._count}]"

    @property
    def _after(self) -> tuple[list[str], dict[str, str]]:
        """Render what the epilogue sees: its names, read from an array."""
        spelled = {OUTER + v.name: f"after{i}" for i, v in enumerate(self._layout.outer)}
        return [f"const F {name} = outer[{i}];" for i, name in enumerate(spelled.values())], spelled

    def _identity(self, size: int) -> list[str]:
        values = Speller({}, CPP).texts(self._functor.identity[:size])
        return _function(f"void identity(F (&state)[{size}])", [f"state[{i}] = {v};" for i, v in enumerate(values)])

    def _fold(self, size: int) -> list[str]:
        f = self._functor
        known = {
            **self._known,
            **{f"state_{p}": f"state[{i}]" for i, p in enumerate(f.parts[:size])},
            **self._of_channel,
        }
        speller = Speller(known, CPP, adders_are_free=multiplies(*f.step[:size]))
        step = speller.update({f"state[{i}]": f.step[i] for i in range(size)})
        if f.inner:
            return _function(f"void fold(F (&state)[{size}], const F (&inner)[{len(f.inner)}])", step)
        return _function(f"void fold(F (&state)[{size}], {self._seen})", [*self._inputs, *step])

    @property
    def _of_channel(self) -> dict[str, str]:
        return {INNER + part: f"inner[{i}]" for i, part in enumerate(self._functor.inner)}

    def _inner(self) -> list[str]:
        """The state of one channel."""
        f, size = self._functor, len(self._functor.inner)
        values = Speller({}, CPP).texts(f.inner_identity)
        identity = [f"inner[{i}] = {value};" for i, value in enumerate(values)]
        speller = Speller({**self._known, **self._of_channel}, CPP, adders_are_free=multiplies(*f.inner_step))
        step = speller.update({f"inner[{i}]": f.inner_step[i] for i in range(size)})
        return [
            *_function(f"void inner_identity(F (&inner)[{size}])", identity),
            *_function(f"void inner_fold(F (&inner)[{size}], {self._seen})", [*self._inputs, *step]),
        ]

    def _result(self) -> list[str]:
        parts = [f"state_{p}" for p in self._functor.parts[: self._functor.result_parts]]
        reads = [f"const F {name} = state[{i}];" for i, name in enumerate(parts)]
        outer, spelled = self._after
        speller = Speller({**{name: name for name in parts}, **spelled, "count": "count"}, CPP)
        signature = f"F result(const F* state, F count, const F (&outer)[{self._outer}])"
        return _function(signature, [*reads, *outer, *speller.give(self._functor.result)])

    def _context(self) -> list[str]:
        parts = [f"state_{p}" for p in self._functor.saved]
        reads = [f"const F {name} = state[{i}];" for i, name in enumerate(parts)]
        outer, spelled = self._after
        speller = Speller({**{name: name for name in (*parts, "g", "count")}, **spelled, **self._of_channel}, CPP)
        made = speller.assign({f"context[{i}]": expr for i, expr in enumerate(self._functor.contexts)})
        inner = f"const F (&inner)[{len(self._of_channel)}], " if self._of_channel else ""
        signature = (
            f"void context(F g, const F* state, F count, const F (&outer)[{self._outer}], "
            f"{inner}F (&context)[{self._contexts}])"
        )
        return _function(signature, [*reads, *outer, *made])

    def _gradients(self) -> list[str]:
        contexts = [f"c{i}" for i in range(len(self._functor.contexts))]
        reads = [f"const F {name} = context[{i}];" for i, name in enumerate(contexts)]
        found = self._functor.gradients
        known = {**self._known, **{name: name for name in contexts}}
        speller = Speller(known, CPP, adders_are_free=multiplies(*found.values()))
        to = {f"dx[{i}]": found[v.name] for i, v in enumerate(self._layout.inputs)}
        to |= {f"dp[{i}]": found[v.name] for i, v in enumerate(self._layout.operands)}
        signature = (
            f"void gradients(const F (&context)[{self._contexts}], {self._seen}, "
            f"F (&dx)[{self._pixels}], F (&dp)[{self._count}])"
        )
        return _function(signature, [*reads, *self._inputs, *speller.add(to)])


def _bits(v: Variable) -> int:
    return sum({"o": 1, "c": 2, "k": 4, "s": 8}.get(axis, 0) for axis in v.axes)


def _array(values: Sequence[int | bool]) -> str:
    return "{" + ", ".join(str(v).lower() for v in values or [0]) + "}"


def _function(signature: str, lines: list[str]) -> list[str]:
    return [f"template <class F> INLINE static {signature} {{", *(f"    {line}" for line in lines), "}"]
