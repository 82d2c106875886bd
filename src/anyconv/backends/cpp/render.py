"""render: the source of a formula's kernels. The skeletons are included; the functor is written here.

>>> print(render(Formula(lambda x, w: -torch.abs(x - w)), "float32", this_machine()).text)
// y = sum(-abs(x - w))
// forward and backward in float32; rendered by anyconv
...
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from pathlib import Path

from ...expr import Expr
from ...formula import Formula, written
from ...plan.machine import Machine
from ...plan.schedule import Tile, cost, multiplies, tile
from ...reductions import Reduction
from .functor import USER, Functor, functor
from .spell import Speller, names

SKELETONS = Path(__file__).parent / "skeletons"
STORAGE = {"float32": ("float", "float"), "float64": ("double", "double"), "float16": ("Half", "float"),
           "bfloat16": ("BFloat16", "float")}  # fmt: skip
PASSES = ("forward", "backward")


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
        depthwise: whether each group has one channel and one filter: such layers have loop nests of their own.
    """

    formula: str
    text: str
    functor: Functor = field(compare=False)
    tile: Tile = field(compare=False)
    dtype: str
    passes: tuple[str, ...]
    depthwise: bool = False

    @property
    def title(self) -> str:
        """What is in it, in a line."""
        where = " of depthwise layers" if self.depthwise else ""
        return f"{self.formula}, {' and '.join(self.passes)}{where} in {self.dtype}"

    @property
    def itemsize(self) -> int:
        """Bytes of a number in the arithmetic."""
        return 8 if self.dtype == "float64" else 4


Operands = tuple[tuple[str, str], ...]  # names and axes


def render(
    formula: Formula, dtype: str, machine: Machine, passes: tuple[str, ...] = PASSES, *, depthwise: bool = False
) -> Source:
    """The source of a formula's kernels in one dtype, for any shape.

    Args:
        passes: what it will compute: ``"forward"``, ``"backward"``, or the ``"limit"`` of both.
        depthwise: each group will have one channel and one filter.
    """
    # not cached by the formula itself: its map may be a method of a layer, which a cache would keep alive
    operands = tuple((name, operand.axes) for name, operand in formula.parameters.items())
    return _render((formula.expr, formula.pixel, operands, formula.reduction), dtype, machine, passes, depthwise)


@functools.lru_cache(maxsize=1024)
def _render(
    of: tuple[Expr, str, Operands, Reduction], dtype: str, machine: Machine, passes: tuple[str, ...], depthwise: bool
) -> Source:
    expr, pixel, operands, reduction = of
    made = functor(expr, pixel, tuple(name for name, _ in operands), reduction)
    values = [*made.step, *made.gradients.values()]
    shared = cost(*values, of=USER + pixel)
    tiles = tile(cost=cost(*values), parts=len(made.parts), operands=len(operands), machine=machine, shared=shared)
    stored, computed = STORAGE[dtype]
    body = "\n".join(f"    {line}".rstrip() for line in _Writer(made, pixel, operands).functor(tiles))
    title = written(expr, reduction)
    settings = "#define ANYCONV_FUNCTOR" + "\n#define ANYCONV_DEPTHWISE" * depthwise
    text = f"""\
// {title}
// {" and ".join(passes)} in {dtype}; rendered by anyconv
{settings}
#include "ops.hpp"
#include "storage.hpp"

namespace anyconv {{

typedef {stored} T;  // how numbers lie in memory
typedef {computed} R;  // in what they are computed

struct Functor {{
{body}
}};

}}  // namespace anyconv

{chr(10).join(f'#include "{name}_entry.hpp"' for name in passes)}
"""
    return Source(title, text, made, tiles, dtype, passes, depthwise)


def skeletons() -> str:
    """All that a source includes: part of the key of its build."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(SKELETONS.glob("*.hpp")))


class _Writer:
    """Writes the members of a functor."""

    def __init__(self, functor: Functor, pixel: str, operands: Operands) -> None:
        f = self._functor = functor
        self._operands = operands
        states, contexts = [f"state_{p}" for p in f.parts], [f"c{i}" for i in range(len(f.contexts))]
        own = names([pixel, *(name for name, _ in operands)], taken=[*states, *contexts])
        self._known = {USER + name: spelled for name, spelled in own.items()}
        self._pixel = own[pixel]
        self._inputs = [f"const F {own[name]} = operand[{i}];" for i, (name, _) in enumerate(operands)]
        self._count = max(1, len(operands))  # no array of C++ is empty
        self._contexts = max(1, len(f.contexts))

    def functor(self, t: Tile) -> list[str]:
        """All lines between the braces of the struct."""
        f = self._functor
        axes = [sum({"o": 1, "c": 2, "k": 4}[axis] for axis in axes) for _, axes in self._operands]
        lines = [
            f"static constexpr int OPERANDS = {len(axes)};",
            (
                f"static constexpr int AXES[] = {{{', '.join(map(str, axes or [0]))}}};"
                "  // of each operand: 1 if it varies with o, 2 with c, 4 with k"
            ),
            (
                f"static constexpr int PARTS = {len(f.parts)}, RESULT = {f.result_parts};"
                "  // of the state; those of the result come first"
            ),
            f"static constexpr int SAVED[] = {{{', '.join(str(f.parts.index(p)) for p in f.saved) or '0'}}};",
            f"static constexpr int SAVES = {len(f.saved)}, CONTEXTS = {self._contexts};",
            f"static constexpr bool COUNTS = {str(f.counts).lower()};",
            f"static constexpr int SITES = {t.sites}, VECTORS = {t.vectors};",
            f"static constexpr int FILTERS = {t.filters}, CHANNELS = {t.channels};",
        ]
        for size in sorted({f.result_parts, len(f.parts)}):
            lines += ["", *self._identity(size), *self._fold(size)]
        return [*lines, "", *self._result(), "", *self._context(), "", *self._gradients()]

    def _identity(self, size: int) -> list[str]:
        values = Speller({}).texts(self._functor.identity[:size])
        return _function(f"void identity(F (&state)[{size}])", [f"state[{i}] = {v};" for i, v in enumerate(values)])

    def _fold(self, size: int) -> list[str]:
        f = self._functor
        known = {**self._known, **{f"state_{p}": f"state[{i}]" for i, p in enumerate(f.parts[:size])}}
        speller = Speller(known, adders_are_free=multiplies(*f.step[:size]))
        step = speller.update({f"state[{i}]": f.step[i] for i in range(size)})
        signature = f"void fold(F (&state)[{size}], F {self._pixel}, const F (&operand)[{self._count}])"
        return _function(signature, [*self._inputs, *step])

    def _result(self) -> list[str]:
        parts = [f"state_{p}" for p in self._functor.parts[: self._functor.result_parts]]
        reads = [f"const F {name} = state[{i}];" for i, name in enumerate(parts)]
        speller = Speller({**{name: name for name in parts}, "count": "count"})
        return _function("F result(const F* state, F count)", [*reads, *speller.give(self._functor.result)])

    def _context(self) -> list[str]:
        parts = [f"state_{p}" for p in self._functor.saved]
        reads = [f"const F {name} = state[{i}];" for i, name in enumerate(parts)]
        speller = Speller({name: name for name in (*parts, "g", "count")})
        made = speller.assign({f"context[{i}]": expr for i, expr in enumerate(self._functor.contexts)})
        return _function(f"void context(F g, const F* state, F count, F (&context)[{self._contexts}])", [*reads, *made])

    def _gradients(self) -> list[str]:
        contexts = [f"c{i}" for i in range(len(self._functor.contexts))]
        reads = [f"const F {name} = context[{i}];" for i, name in enumerate(contexts)]
        pixel, *operands = self._functor.gradients.values()
        known = {**self._known, **{name: name for name in contexts}}
        speller = Speller(known, adders_are_free=multiplies(*self._functor.gradients.values()))
        sums = speller.add({"dx": pixel, **{f"dp[{i}]": expr for i, expr in enumerate(operands)}})
        signature = (
            f"void gradients(const F (&context)[{self._contexts}], F {self._pixel}, "
            f"const F (&operand)[{self._count}], F& dx, F (&dp)[{self._count}])"
        )
        return _function(signature, [*reads, *self._inputs, *sums])


def _function(signature: str, lines: list[str]) -> list[str]:
    return [f"template <class F> INLINE static {signature} {{", *(f"    {line}" for line in lines), "}"]
