"""Tiles of registers: how a thread gets the numbers of 8 x 8 pairs while it loads 8 and 8.

A tile of m x n values has four axes: (m's of a thread, n's of a thread, m's across threads, n's across threads). Triton
hands out the last axes to threads first, so each thread has a square of its own, and a number it has loaded serves a
row or a column of it. Channels (forward) or filters (backward) come four at a time: 16 bytes of memory, and one wait.
"""

import triton
import triton.language as tl


@triton.jit
def along_rows(block, OWN: tl.constexpr, ACROSS: tl.constexpr):  # the index of each row of a tile, [own, across]
    own, across = tl.arange(0, OWN)[:, None], tl.arange(0, ACROSS)[None, :]
    return block * (OWN * ACROSS) + own * ACROSS + across


@triton.jit
def along_lanes(OWN: tl.constexpr, ACROSS: tl.constexpr):  # of each column; those of a thread lie together
    return tl.arange(0, ACROSS)[None, :] * OWN + tl.arange(0, OWN)[:, None]


@triton.jit
def row(values):
    return values[:, None, :, None]


@triton.jit
def lane(values):
    return values[None, :, None, :]


@triton.jit
def quarters(values):  # [own, across, 4] as four of [own, across]
    even, odd = tl.split(tl.reshape(values, values.shape[0], values.shape[1], 2, 2))
    first, third = tl.split(even)
    second, fourth = tl.split(odd)
    return first, second, third, fourth


@triton.jit
def row_quarters(values):
    a, b, c, d = quarters(values)
    return row(a), row(b), row(c), row(d)


@triton.jit
def lane_quarters(values):
    a, b, c, d = quarters(values)
    return lane(a), lane(b), lane(c), lane(d)


@triton.jit
def four_numbers(pointer):
    return tl.load(pointer), tl.load(pointer + 1), tl.load(pointer + 2), tl.load(pointer + 3)


@triton.jit
def put(
    pointer, strides, total, part, t, g, o, c, o_block, c_block, filters, channels, BY_FILTER: tl.constexpr,
    BY_CHANNEL: tl.constexpr,
):  # fmt: skip
    # a tile of sums to its place, summed over the axes that an operand lacks; strides of (part, k, g, o, c)
    total = tl.where((o < filters) & (c < channels), total, 0.0)
    at = pointer + part * strides[0] + t * strides[1] + g * strides[2]
    if BY_CHANNEL:
        at += c * strides[4]
    else:
        total = tl.sum(tl.sum(total, axis=3, keep_dims=True), axis=1, keep_dims=True)
        at += c_block * strides[4]
    if BY_FILTER:
        at += o * strides[3]
    else:
        total = tl.sum(tl.sum(total, axis=2, keep_dims=True), axis=0, keep_dims=True)
        at += o_block * strides[3]
    mask = tl.full(total.shape, 1, tl.int1)
    if BY_CHANNEL:
        mask = mask & (c < channels)
    if BY_FILTER:
        mask = mask & (o < filters)
    tl.store(at + tl.full(total.shape, 0, tl.int32), total, mask=mask)
