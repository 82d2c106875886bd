"""tiles: how the kernels of GPUs are cut; pure functions of the formula's cost and the shapes.

>>> forward_tile(cost=3, parts=1, lanes=256)
Tile(own_rows=8, own_lanes=8, rows=16, lanes=8, warps=4)

What is chosen here was measured without a GPU, by the instructions of the inner loop and the registers of its thread
(`python -m benchmarks.gpu --static`). A tile has rows (sites, pixels, filters) and lanes (filters, channels).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

Shapes = tuple[tuple[int, int], ...]
SHAPES = ((8, 8), (8, 4), (4, 4), (4, 2), (2, 2), (2, 1))  # of a thread: rows, lanes
ACROSS = ((8, 8), (4, 8), (4, 4), (2, 4), (2, 2), (1, 2))  # where a row costs more than a lane
ROOM = 64  # numbers that a thread of a tile may hold while it loads others, of its 255 registers
LONG = 1500  # instructions of an inner loop, beyond which it leaves the instruction cache


@dataclass(frozen=True)
class Tile:
    """Registers and threads of a program.

    Args:
        own_rows, own_lanes: of one thread.
        rows, lanes: how many threads there are along each.
        warps: of 32 threads.
    """

    own_rows: int
    own_lanes: int
    rows: int
    lanes: int
    warps: int

    @property
    def all_rows(self) -> int:
        """Of a program."""
        return self.own_rows * self.rows

    @property
    def all_lanes(self) -> int:
        """Of a program."""
        return self.own_lanes * self.lanes


def forward_tile(*, cost: int, parts: int, lanes: int) -> Tile:
    """The tile of a forward pass.

    Args:
        cost: of an evaluation, from :func:`.schedule.cost`.
        parts: of the state.
        lanes: filters of a group.
    """
    return _wide(cost, parts, lanes)


def pixel_tile(*, cost: int, contexts: int, lanes: int) -> Tile:
    """The tile of the gradient to pixels, which it holds beside their sums; ``lanes`` are channels.

    A row of it has contexts, of which there may be several, a lane has weights.
    """
    return _wide(cost, 2 + (contexts > 1), lanes, ACROSS)


def weight_tile(*, cost: int, contexts: int, operands: int, rows: int, lanes: int) -> Tile:
    """The tile of the gradients to operands; ``rows`` are filters, ``lanes`` channels.

    A thread holds twice as much as elsewhere: what it loads is the less, and two warps of such threads find room
    beside others.

    Where there are several contexts, they are what is worth using more than once; else what pixels become.
    """
    numbers = 2 * operands + contexts - 1
    own_rows, own_lanes = _own(cost, numbers, 2 * ROOM, ACROSS if contexts > 1 else SHAPES)
    own_rows, own_lanes = min(own_rows, _power(rows)), min(own_lanes, _power(lanes))
    across = min(8, _power(rows) // own_rows)
    return Tile(own_rows, own_lanes, across, 64 // across, 2)


def _wide(cost: int, numbers: int, lanes: int, shapes: Shapes = SHAPES) -> Tile:
    """A tile of four warps, no wider than there are lanes."""
    own_rows, own_lanes = _own(cost, numbers, ROOM, shapes)
    own_lanes = min(own_lanes, _power(lanes))
    across = min(8, _power(lanes) // own_lanes)
    return Tile(own_rows, own_lanes, 128 // across, across, 4)


def _own(cost: int, numbers: int, room: int, shapes: Shapes = SHAPES) -> tuple[int, int]:
    """The largest rectangle of a thread that its registers and the instruction cache have room for."""
    fits = (s for s in shapes if numbers * math.prod(s) <= room and 4 * cost * math.prod(s) <= LONG)
    return next(fits, shapes[-1])


def _power(count: int) -> int:
    """The power of two that holds so many."""
    return int(2 ** math.ceil(math.log2(max(1, count))))


def weight_parts(*, lines: int, programs: int, images: int, weights: int) -> int:
    """In how many parts the lines of sites are summed: enough to occupy a GPU, and small beside the images.

    Args:
        programs: of one part.
        images, weights: numbers.
    """
    return max(1, min(lines, math.ceil(1000 / programs), images // (2 * max(1, weights)) + 1))
