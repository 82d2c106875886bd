"""A functor by itself: a tile of evaluations whose operands stay in registers, as the least that a kernel can do.

The numbers change from round to round, so that nothing can be computed once; the changes themselves are counted out.
"""

import triton
import triton.language as tl

from .functor import (
    R,
    changed,
    fold,
    gradient_of,
    identity,
    operands_of,
    sample,
    sample_contexts,
    weight_gradients,
    zeros,
)
from .tiles import along_lanes, along_rows, lane, row


@triton.jit
def limit(
    out, numbers, step, rounds, WHICH: tl.constexpr, OWN_ROWS: tl.constexpr, OWN_LANES: tl.constexpr,
    ROWS: tl.constexpr, LANES: tl.constexpr,
):  # fmt: skip
    # WHICH: the kernel whose functor it is
    rows, lanes = along_rows(0, OWN_ROWS, ROWS), along_lanes(OWN_LANES, LANES)
    seen = sample(numbers, row(rows), lane(lanes))
    shape: tl.constexpr = (OWN_ROWS, OWN_LANES, ROWS, LANES)
    if WHICH == "tiled_forward":
        total = identity(shape)
    elif WHICH == "tiled_pixels":
        total = (tl.full(shape, 0.0, R),)
    else:
        total = zeros(shape)
    made = sample_contexts(numbers, row(rows))
    for _ in range(rounds):
        if WHICH == "tiled_forward":
            total = fold(total, seen)
        elif WHICH == "tiled_pixels":
            total = (gradient_of(made, seen, total[0], 0),)
        else:
            total = weight_gradients(made, seen[0], operands_of(seen), total, True, False)
        seen = changed(seen, step)
    place = row(rows) * (OWN_LANES * LANES) + lane(lanes)
    for i in tl.static_range(len(total)):
        tl.store(out + i * (OWN_ROWS * OWN_LANES * ROWS * LANES) + place, total[i])
