"""How the kernels of tiles read operands: once, once for each tap, or four at a time with what is summed over."""

from __future__ import annotations

from ...mathematics import Mathematics
from ...variables import Variable
from ..layout import Layout

# kernel -> the axis that its inner loop runs along, and the one that is spread over the lanes of a tile
LOOPS = {"tiled_forward": ("c", "o"), "tiled_pixels": ("o", "c")}


def level(v: Variable, loop: str) -> int:
    """How often an operand is read: 0 once, 1 for each tap, 2 in the inner loop."""
    return 2 if loop in v.axes else 1 if "k" in v.axes else 0


def readers(m: Mathematics, loop: str, lanes: str) -> list[str]:
    """The functions that read operands, as texts."""
    operands = Layout.of(m).operands
    groups: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for i, v in enumerate(operands):
        groups[level(v, loop)].append(i)
    of_tile = [lanes in v.axes for v in operands]

    def once(i: int, *, tap: bool) -> str:
        at = f"operands[{i}] + {_base(i, tap=tap)}"
        return f"lane(tl.load({at} + lanes))" if of_tile[i] else f"tl.load({at})"

    four, one = [], []
    for i in groups[2]:
        base = f"operands[{i}] + {_base(i, tap=True)}"
        wide = f"lane_quarters(tl.load(at{i} + lanes[:, :, None] * 4 + tl.arange(0, 4)[None, None, :]))"
        four += [f"at{i} = {base} + step * strides[{i}][3]", f"v{i} = {wide if of_tile[i] else f'four_numbers(at{i})'}"]
        single = f"lane(tl.load(at{i} + lanes * 4 + channel % 4))" if of_tile[i] else f"tl.load(at{i} + channel % 4)"
        one += [f"at{i} = {base} + channel // 4 * strides[{i}][3]", f"v{i} = {single}"]
    quarters = ", ".join(give([f"v{i}[{q}]" for i in groups[2]]) for q in range(4))
    places = {
        i: f"{name}[{j}]"
        for name, of in zip(("first", "second", "third"), groups.values(), strict=True)
        for j, i in enumerate(of)
    }
    return [
        function(
            "fixed(operands, strides, g, block, lanes)", [f"return {give([once(i, tap=False) for i in groups[0]])}"]
        ),
        function(
            "at_tap(operands, strides, g, block, lanes, t)", [f"return {give([once(i, tap=True) for i in groups[1]])}"]
        ),
        function("at_four(operands, strides, g, block, lanes, t, step)", [*four, f"return {quarters}"]),
        function(
            "at_one(operands, strides, g, block, lanes, t, channel)",
            [*one, f"return {give([f'v{i}' for i in groups[2]])}"],
        ),
        function(
            "joined(x, first, second, third)", [f"return {give(['x', *(places[i] for i in range(len(operands)))])}"]
        ),
    ]


def contexts(count: int) -> list[str]:
    """The functions that write contexts, and read them for the rows of a tile, as texts."""
    every = range(count)
    stores = [f"tl.store(pointer + {i} * pitch, tl.broadcast_to(made[{i}], like.shape), mask=mask)" for i in every]
    loads = [f"tl.load(pointer + {i} * pitch, mask=mask, other=0.0).to(R)" for i in every]
    four = ", ".join(give([f"c{i}[{q}]" for i in every]) for q in range(4))
    return [
        function("put_contexts(pointer, pitch, mask, made, like)", stores),
        function("contexts_at(pointer, pitch, mask)", [f"return {give(loads)}"]),
        function("context_quarters(made)", [*(f"c{i} = row_quarters(made[{i}])" for i in every), f"return {four}"]),
        function("context_rows(made)", [f"return {give([f'row(made[{i}])' for i in every])}"]),
    ]


def samples(m: Mathematics, contexts: int) -> list[str]:
    """The functions that give a functor some numbers to compute with, as texts."""
    seen = (*Layout.of(m).inputs, *Layout.of(m).operands)
    numbers = [
        f"tl.load(numbers + {1024 * i}" + (" + row" if v.is_image else " + lane" if "o" in v.axes else "") + ")"
        for i, v in enumerate(seen)
    ]
    made = [f"tl.load(numbers - {1024 * (i + 1)} + row)" for i in range(contexts)]
    return [
        function("sample(numbers, row, lane)", [f"return {give(numbers)}"]),
        function("sample_contexts(numbers, row)", [f"return {give(made)}"]),
        function("operands_of(seen)", [f"return {give([f'seen[{i}]' for i in range(1, len(seen))])}"]),
        function("changed(seen, step)", [f"return {give([f'seen[{i}] + step' for i in range(len(seen))])}"]),
    ]


def _base(i: int, *, tap: bool) -> str:
    return f"g * strides[{i}][0] + " + (f"t * strides[{i}][1] + " if tap else "") + f"block * strides[{i}][2]"


def give(values: list[str]) -> str:
    """A tuple of Triton's; never an empty one, which it does not know."""
    return f"({', '.join(values or ['0'])},)"


def function(signature: str, lines: list[str]) -> str:
    """The text of a function."""
    return "\n".join(["@triton.jit", f"def {signature}:", *(f"    {line}" for line in lines)])
