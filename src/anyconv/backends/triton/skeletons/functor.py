"""y = sum(x * w): the functor of the ordinary convolution, with which the skeletons run as they stand.

A rendered kernel has one like it in this place. The skeletons know the formula by nothing else.
"""

import triton
import triton.language as tl

from .places import look
from .tiles import lane, lane_quarters, put, row, row_quarters

R: tl.constexpr = tl.constexpr(tl.float32)  # in what numbers are computed
WHOLE: tl.constexpr = tl.constexpr(False)  # whether the map sees all taps at once
INNER: tl.constexpr = tl.constexpr(False)  # whether channels are reduced one by one
COUNTS: tl.constexpr = tl.constexpr(False)  # whether the number of values in a field is needed


@triton.jit
def see(tensors, strides, place, seen, axes, FILL: tl.constexpr):  # what the map sees at one element of the field
    x = look(tensors[0], strides[0], place, seen, True, True, False, FILL, R)
    w = look(tensors[1], strides[1], place, seen, False, False, True, FILL, R)
    return (x, w)


@triton.jit
def fixed(
    operands, strides, g, block, lanes
):  # in a tile: operands that vary with neither taps nor what is summed over
    return ()


@triton.jit
def at_tap(operands, strides, g, block, lanes, t):  # with taps alone
    return ()


@triton.jit
def at_four(operands, strides, g, block, lanes, t, step):  # with what is summed over: of four that follow each other
    at = operands[0] + g * strides[0][0] + t * strides[0][1] + block * strides[0][2] + step * strides[0][3]
    w = lane_quarters(tl.load(at + lanes[:, :, None] * 4 + tl.arange(0, 4)[None, None, :]))
    return (w[0],), (w[1],), (w[2],), (w[3],)


@triton.jit
def at_one(operands, strides, g, block, lanes, t, channel):
    at = operands[0] + g * strides[0][0] + t * strides[0][1] + block * strides[0][2] + channel // 4 * strides[0][3]
    w = lane(tl.load(at + lanes * 4 + channel % 4))
    return (w,)


@triton.jit
def joined(x, first, second, third):  # the pixel and the operands, in the order of the map
    return (x, third[0])


@triton.jit
def identity(SHAPE: tl.constexpr):
    return (tl.full(SHAPE, 0.0, R),)


@triton.jit
def fold(state, seen):
    x, w = seen
    state_s = state[0]
    return (tl.fma(x, w, state_s),)


@triton.jit
def kept(mask, new, old):  # the new state where something was folded, the old one elsewhere
    return (tl.where(mask, new[0], old[0]),)


@triton.jit
def inner_identity(SHAPE: tl.constexpr):  # the state of one channel
    return ()


@triton.jit
def inner_fold(inner, seen):
    return ()


@triton.jit
def inner_kept(mask, new, old):
    return ()


@triton.jit
def result(state, count, outer):
    state_s = state[0]
    return state_s


@triton.jit
def save(pointer, pitch, mask, state):  # the parts of the state that gradients need
    pass


@triton.jit
def saved(pointer, pitch, mask):
    return ()


@triton.jit
def after(tensors, strides, place):  # what the epilogue sees
    return ()


@triton.jit
def context(g, state, count, outer, inner):  # what gradients take from an output alone
    return (g,)


@triton.jit
def gradient_of(context, seen, total, TARGET: tl.constexpr):  # of a number that the map sees, added to a sum
    c0 = context[0]
    x, w = seen
    if TARGET == 0:
        total = tl.fma(c0, w, total)
    if TARGET == 1:
        total = tl.fma(c0, x, total)
    return total


@triton.jit
def put_contexts(pointer, pitch, mask, made, like):
    tl.store(pointer, tl.broadcast_to(made[0], like.shape), mask=mask)


@triton.jit
def contexts_at(pointer, pitch, mask):  # 0 where there is no output
    return (tl.load(pointer, mask=mask, other=0.0).to(R),)


@triton.jit
def context_quarters(made):  # in a tile: contexts of four outputs, as four
    c0 = row_quarters(made[0])
    return (c0[0],), (c0[1],), (c0[2],), (c0[3],)


@triton.jit
def context_rows(made):
    return (row(made[0]),)


@triton.jit
def weights_at(operands, strides, g, o, c, t):
    at = operands[0] + g * strides[0][1] + o * strides[0][2] + c * strides[0][3] + t * strides[0][4]
    return (tl.load(at).to(R),)


@triton.jit
def zeros(SHAPE: tl.constexpr):  # sums of the gradients of operands
    return (tl.full(SHAPE, 0.0, R),)


@triton.jit
def weight_gradients(context, pixel, weights, totals, mask, GUARD: tl.constexpr):
    c0 = context[0]
    d0 = totals[0]
    d0 = tl.fma(c0, pixel, d0)
    if GUARD:
        d0 = tl.where(mask, d0, totals[0])
    return (d0,)


@triton.jit
def put_all(outs, strides, totals, part, t, g, o, c, o_block, c_block, filters, channels):
    put(outs[0], strides[0], totals[0], part, t, g, o, c, o_block, c_block, filters, channels, True, True)


@triton.jit
def sample(numbers, row, lane):  # to measure the functor by itself: some number for each that the map sees
    return (tl.load(numbers + row), tl.load(numbers + 1024 + lane))


@triton.jit
def sample_contexts(numbers, row):
    return (tl.load(numbers - 1024 + row),)


@triton.jit
def operands_of(seen):
    return (seen[1],)


@triton.jit
def changed(seen, step):
    return (seen[0] + step, seen[1] + step)
