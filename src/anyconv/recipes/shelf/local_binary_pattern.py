"""Local binary patterns: a bit for each neighbor, 1 where it is at least the middle; soft, so that it can train."""

import torch
from torch import Tensor

from ...errors import FormulaError
from ...formula import Formula
from ...operands import center, per_offset, shared
from ..recipe import Recipe

# counter-clockwise from the right, as the ring of a 3 x 3 field
RINGS = {
    4: ((1, 2), (0, 1), (1, 0), (2, 1)),
    8: ((1, 2), (0, 2), (0, 1), (0, 0), (1, 0), (2, 0), (2, 1), (2, 2)),
}


def _make(points: int = 8, *, hard: bool = False, dims: int = 2) -> Formula:
    """``points``: 4 or 8 neighbors. ``hard`` is the step as published, without a gradient; soft it is a sigmoid."""
    if points not in RINGS or dims != 2:
        raise FormulaError(f"`points` must be 4 or 8 of an image with 2 axes, got {points!r} of {dims}")

    def bits(code: Tensor) -> Tensor:
        code.zero_()
        for i, place in enumerate(RINGS[points]):
            code[place] = 2.0**i
        return code

    code = {"middle": center(), "code": per_offset(init=bits, frozen=True)}
    if hard:
        return Formula(lambda x, middle, code: torch.where(x >= middle, code, 0), operands=code, name="lbp")
    return Formula(
        lambda x, middle, code, sharpness: code * torch.sigmoid(sharpness * (x - middle)),
        operands={**code, "sharpness": shared(init=10.0, frozen=True)},
        name="soft_lbp",
    )


RECIPE = Recipe(
    "local_binary_pattern",
    title="local binary patterns",
    equation=r"y = \sum_t 2^t\, [x_t \geq x_{\mathrm{middle}}], \quad [u \geq 0] \approx \sigma(\beta u)",
    gradient="of the step: that of a sigmoid",
    reference="""@article{ojala2002multiresolution,
  title = {Multiresolution Gray-Scale and Rotation Invariant Texture Classification with Local Binary Patterns},
  author = {Ojala, Timo and Pietikainen, Matti and Maenpaa, Topi},
  journal = {IEEE TPAMI}, year = {2002}}""",
    make=_make,
    defaults={"stride": 1},
    kernel=3,
)
