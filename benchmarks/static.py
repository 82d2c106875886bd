"""How good the kernels of GPUs are, seen without a GPU: registers, spills, and the instructions of the inner loop.

Triton compiles for a GPU that is not there, and brings the disassembler along. An *issue slot* is one instruction of
one warp; a multiprocessor has four a cycle. Slots of the inner loop, divided by the evaluations in it, say how far a
kernel is from what its arithmetic needs; the least that can be is that of the functor by itself, compiled in the same
way.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from anyconv import Formula
from anyconv.backends.functor import functor
from anyconv.backends.layout import Layout
from anyconv.backends.triton.cut import tile_of
from anyconv.backends.triton.kernel import load
from anyconv.backends.triton.render import render
from anyconv.plan.tiles import Tile

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
WIDTH = 256  # filters and channels
LOADS = {  # and waiting for them
    "LDS", "LDSM", "STS", "STSM", "LDG", "STG", "LDGSTS", "LDC", "ULDC", "BAR", "DEPBAR", "LDGDEPBAR", "LDL", "STL",
    "WARPSYNC",
}  # fmt: skip
ALIGNED = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Loop:
    """What a kernel is made of.

    Args:
        registers: of a thread.
        spills: instructions that move registers to memory and back.
        shared: bytes of a program.
        slots: instructions of the inner loop for each evaluation; ``arithmetic``, ``loads`` and what is left, places.
        special: of the arithmetic, those of the special-function units, which are a quarter as many.
        least: slots of the functor by itself.
    """

    registers: int
    spills: int
    shared: int
    slots: float
    arithmetic: float
    loads: float
    special: float
    least: float


PASSES = {  # pass -> skeleton, and the names of its rows and lanes
    "forward": ("tiled_forward", "SITES", "FILTERS"), "forward, training": ("tiled_forward", "SITES", "FILTERS"),
    "pixel gradient": ("tiled_pixels", "PIXELS", "CHANNELS"),
    "weight gradients": ("tiled_weights", "FILTERS", "CHANNELS"),
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """What is compiled: a pass of a formula in float32, for a wide layer on a GPU of some capability (80, 90, 100)."""

    formula: Formula
    name: str
    capability: int = 90
    channels_last: bool = True

    @property
    def kernel(self) -> str:
        """The name of its skeleton."""
        return PASSES[self.name][0]

    @property
    def saves(self) -> bool:
        """Whether what gradients will need is folded too."""
        return self.name != "forward"

    @property
    def layout(self) -> Layout:
        """What the map sees."""
        return Layout.of(self.formula.mathematics)

    @property
    def tile(self) -> Tile:
        """How it is cut."""
        m = self.formula.mathematics
        return tile_of(m, self.kernel, channels=WIDTH, filters=WIDTH, saves=self.saves)


def targets(formula: Formula, capability: int = 90) -> list[Target]:
    """The passes of a formula; that of training only where it is another than that of inference."""
    f = functor(formula.mathematics)
    return [
        Target(formula, name, capability)
        for name in PASSES
        if name != "forward, training" or len(f.parts) > f.result_parts
    ]


def measure(target: Target) -> Loop:
    """Compile a kernel, and look at it."""
    compiled, tile = _compile(target), target.tile
    body, everything = _inner_loop(compiled)
    evaluations = 4 * tile.own_rows * tile.own_lanes
    kinds = Counter(map(_kind, body))
    return Loop(
        registers=_registers(compiled), spills=sum(_opcode(i) in ("LDL", "STL") for i in everything),
        shared=compiled.metadata.shared, slots=len(body) / evaluations, arithmetic=kinds["arithmetic"] / evaluations,
        loads=kinds["loads"] / evaluations, special=sum(_opcode(i) == "MUFU" for i in body) / evaluations,
        least=_least(target),
    )  # fmt: skip


def row(loop: Loop) -> dict[str, float]:
    """As it is kept."""
    return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(loop).items()}


@dataclass
class _Arguments:
    """The types of a kernel's arguments, constants among them, and which are multiples of 16."""

    function: Any
    types: dict[str, Any] = field(default_factory=dict)
    values: dict[tuple[int, ...], object] = field(default_factory=dict)
    aligned: dict[tuple[int, ...], object] = field(default_factory=dict)

    def compiled(self, warps: int, capability: int) -> Any:
        """By Triton, for a GPU."""
        source = ASTSource(self.function, self.types, constexprs=self.values, attrs=self.aligned)
        options = {"num_warps": warps, "num_stages": 1, "enable_fp_fusion": False}
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)

    def constant(self, name: str, value: object) -> None:
        """A constant of the kernel."""
        self.types[name] = "constexpr"
        self.values[self.function.arg_names.index(name),] = value


def _compile(target: Target) -> Any:
    tile, layout = target.tile, target.layout
    given = _Arguments(load(render(target.formula, "float32", target.kernel, saves=target.saves)))
    _, rows, lanes = PASSES[target.name]
    saves = bool(functor(target.formula.mathematics).saved) and target.saves
    constants: dict[str, object] = {
        "FILL": 0.0, "HAS_BIAS": True, "SAVES": saves, "SKIP": False, "PADS": True, "WIDE": False, "GUARD": False,
        "STAGES": 2, f"OWN_{rows}": tile.own_rows, f"OWN_{lanes}": tile.own_lanes, rows: tile.rows, lanes: tile.lanes,
    }  # fmt: skip
    count, outer = len(layout.operands), max(1, len(layout.outer))
    eight, packed = ("i32",) * 8, target.kernel != "tiled_weights"
    types: dict[str, Any] = {
        "axes": (("i32",) * 6,) * 3, "phases": ("i32",) * 3, "lattice": ("i32",) * 3, "operands": ("*fp32",) * count,
        "strides": (("i32",) * 4 if packed else eight,) * count, "outer": ("*fp32",) * outer,
        "outer_strides": (eight,) * outer, "outs": ("*fp32",) * count, "out_strides": (("i32",) * 5,) * count,
        **dict.fromkeys(("y", "gx", "contexts", "saved_at", "bias", "x"), "*fp32"),
        **dict.fromkeys(("y_strides", "gx_strides", "saved_strides"), eight),
    }  # fmt: skip
    for place, name in enumerate(given.function.arg_names):
        if name in constants:
            given.constant(name, constants[name])
        elif name in ("x_strides", "context_strides"):
            _image_strides(given, place, name, one=(3 if name == "x_strides" else 2) if target.channels_last else None)
        else:
            given.types[name] = types.get(name, "i32")
            if given.types[name] == "*fp32":
                given.aligned[place,] = ALIGNED
    for i in range(count):
        given.aligned[given.function.arg_names.index("operands"), i] = ALIGNED
        strides = given.function.arg_names.index("strides")
        given.aligned.update({(strides, i, j): ALIGNED for j in range(4) if packed})
    return given.compiled(tile.warps, target.capability)


def _image_strides(given: _Arguments, place: int, name: str, one: int | None) -> None:
    """All multiples of 16, but that of neighbors: of channels where they are last, of sites elsewhere."""
    neighbors = 7 if one is None else one
    given.types[name] = tuple("constexpr" if i == neighbors else "i32" for i in range(8))
    given.values[place, neighbors] = 1
    given.aligned.update({(place, i): ALIGNED for i in range(8) if i != neighbors})


def _least(target: Target) -> float:
    """Slots of the functor by itself, without the changes of its numbers and the loop's own three."""
    seen = (*target.layout.inputs, *target.layout.operands)
    rows = lanes = 4
    given = _Arguments(load(render(target.formula, "float32", "limit", saves=target.saves)))
    given.types = dict(zip(given.function.arg_names, ("*fp32", "*fp32", "fp32", "i32"), strict=False))
    values = {"WHICH": target.kernel, "OWN_ROWS": rows, "OWN_LANES": lanes, "ROWS": 16, "LANES": 8}
    for name, value in values.items():
        given.constant(name, value)
    body, _ = _inner_loop(given.compiled(4, target.capability))
    changes = sum(rows if v.is_image else lanes if "o" in v.axes else 1 for v in seen)
    return (len(body) - changes - 3) / (rows * lanes)


def _disassembled(compiled: Any, tool: str, *arguments: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        command = [str(TOOLS / tool), *arguments, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _registers(compiled: Any) -> int:
    found = re.search(r"REG:(\d+)", _disassembled(compiled, "cuobjdump", "-res-usage"))
    assert found is not None, "no registers are reported"
    return int(found.group(1))


def _inner_loop(compiled: Any) -> tuple[list[str], list[str]]:
    """The instructions of the longest loop that has no other in it, and all instructions."""
    labels: dict[str, int] = {}
    instructions: list[str] = []
    for line in _disassembled(compiled, "nvdisasm", "-c").splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label.group(1)] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?);", line):
            instructions.append(instruction.group(1))
    loops = []
    for end, text in enumerate(instructions):
        jump = re.search(r"BRA.*?`\((\.L_x_\d+)\)", text)
        if jump and labels.get(jump.group(1), end + 1) < end:
            loops.append((labels[jump.group(1)], end))
    inner = [(a, b) for a, b in loops if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops)]
    first, last = max(inner, key=lambda loop: loop[1] - loop[0])
    return instructions[first : last + 1], instructions


def _opcode(instruction: str) -> str:
    return re.sub(r"^@!?U?P\w+\s+", "", instruction).split()[0].split(".")[0]


def _kind(instruction: str) -> str:
    code = _opcode(instruction)
    if code in LOADS:
        return "loads"
    is_arithmetic = code == "MUFU" or code[0] in "FD" or code in ("LOP3", "SHF", "SGXT", "I2FP", "I2F")
    return "arithmetic" if is_arithmetic else "places"
