"""SMorph: a weighted mean that learns to be a dilation, an erosion, or something between."""

from ...formula import Formula
from ...operands import per_filter
from ..recipe import Recipe


def _make(alpha: float = 2.0) -> Formula:
    """``alpha`` is where each filter's begins: above 0 towards the maximum, below towards the minimum."""
    return Formula(lambda x, w, alpha: (alpha * (x + w), x + w), "softmax", operands={"alpha": per_filter(init=alpha)})


RECIPE = Recipe(
    "smooth_morphology",
    title="SMorph",
    equation=r"y = \frac{\sum_t (x_t + w_t)\, e^{\alpha (x_t + w_t)}}{\sum_t e^{\alpha (x_t + w_t)}}",
    reference="""@inproceedings{kirszenberg2021going,
  title = {Going beyond p-convolutions to learn grayscale morphological operators},
  author = {Kirszenberg, Alexandre and Tochon, Guillaume and Puybareau, Elodie and Angulo, Jesus},
  booktitle = {DGMM}, year = {2021}}""",
    make=_make,
    defaults={"bias": False, "padding_mode": "skip"},
)
