"""The min-plus convolution: a minimum of sums, over taps and channels."""

from ...formula import Formula
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(lambda x, w: x + w, "min")


RECIPE = Recipe(
    "min_plus",
    title="min-plus convolution",
    equation=r"y = \min_t\; (x_t + w_t)",
    gradient="ties share it evenly",
    reference="""@inproceedings{ritter1996introduction,
  title = {An Introduction to Morphological Neural Networks},
  author = {Ritter, Gerhard X. and Sussner, Peter},
  booktitle = {ICPR}, year = {1996}}""",
    make=_make,
    defaults={"bias": False, "padding_mode": "skip"},
)
