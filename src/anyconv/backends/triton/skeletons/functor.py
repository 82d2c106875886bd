"""y = sum(x * w): the functor of the ordinary convolution, with which the skeletons run as they stand.

A rendered kernel has one like it in this place. The skeletons know the formula by nothing else.
"""

import triton
import triton.language as tl

from .places import look

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
def identity(SITES: tl.constexpr, FILTERS: tl.constexpr):
    return (tl.full((SITES, FILTERS), 0.0, R),)


@triton.jit
def fold(state, seen):
    x, w = seen
    state_s = state[0]
    return (tl.fma(x, w, state_s),)


@triton.jit
def kept(mask, new, old):  # the new state where something was folded, the old one elsewhere
    return (tl.where(mask, new[0], old[0]),)


@triton.jit
def inner_identity(SITES: tl.constexpr, FILTERS: tl.constexpr):  # the state of one channel
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
