"""PConv: the counter-harmonic mean, whose exponent moves it from erosion over convolution to dilation."""

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import per_filter, per_tap
from ..recipe import Recipe

SMALLEST = 1e-3  # of pixels and weights, which the mean needs positive


def _make(p: float = 0.0) -> Formula:
    """``p`` is where each filter's learned exponent begins; at 0 it is a convolution whose weights sum to 1."""

    def tap(x: Tensor, w: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        pixel, weight = x.clamp(min=SMALLEST), w.clamp(min=SMALLEST)
        share = weight * torch.exp(p * torch.log(pixel))
        return share * pixel, share

    return Formula(
        tap,
        ("sum", "sum"),
        epilogue=lambda above, below: above / below,
        operands={"w": per_tap(init=lambda w: w.uniform_(0.1, 1)), "p": per_filter(init=p)},
        name="counter_harmonic",
    )


RECIPE = Recipe(
    "counter_harmonic",
    title="PConv",
    equation=r"y = \frac{\sum_t w_t x_t^{P + 1}}{\sum_t w_t x_t^P}, \quad x, w > 0",
    reference="""@inproceedings{masci2013learning,
  title = {A Learning Framework for Morphological Operators Using Counter-Harmonic Mean},
  author = {Masci, Jonathan and Angulo, Jesus and Schmidhuber, Juergen},
  booktitle = {ISMM}, year = {2013}}""",
    make=_make,
    defaults={"bias": False, "padding_mode": "skip"},
    pixels=(0.05, 1.0),
)
