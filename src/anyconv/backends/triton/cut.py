"""cut: the tile of each kernel of a formula.

>>> tile_of(Formula(lambda x, w: -torch.abs(x - w)).mathematics, "tiled_forward", channels=64, filters=256)
Tile(own_rows=8, own_lanes=8, rows=16, lanes=8, warps=4)
"""

from __future__ import annotations

import functools

from ...mathematics import Mathematics
from ...plan import tiles
from ...plan.schedule import cost
from ...plan.tiles import Tile
from ..functor import functor
from ..layout import Layout


def is_tiled(m: Mathematics) -> bool:
    """Whether a map sees nothing but one pixel and weights; all else has kernels that ask for nothing."""
    return not m.needs_planes and not any(v.is_image for v in m.outer)


@functools.lru_cache(maxsize=1024)  # asked for at every call
def tile_of(m: Mathematics, kernel: str, *, channels: int, filters: int, saves: bool = True) -> Tile:
    """The tile of a kernel.

    Args:
        kernel: ``tiled_forward``, ``tiled_pixels`` or ``tiled_weights``.
        channels, filters: of a group.
        saves: of the forward pass: what gradients will need of the state is folded too.
    """
    f, layout = functor(m), Layout.of(m)
    if kernel == "tiled_forward":
        parts = len(f.parts) if saves else f.result_parts
        return tiles.forward_tile(cost=cost(*f.step[:parts]), parts=parts, lanes=filters)
    if kernel == "tiled_pixels":
        pixel = f.gradients[layout.inputs[0].name]
        return tiles.pixel_tile(cost=cost(pixel), contexts=len(f.contexts), lanes=channels)
    learned = [f.gradients[v.name] for v in layout.operands if not v.frozen]
    return tiles.weight_tile(
        cost=cost(*learned), contexts=len(f.contexts), operands=len(layout.operands), rows=filters, lanes=channels
    )
