"""The max-times convolution: the best match of a tap."""

from ...formula import Formula
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(lambda x, w: w * x, "max")


RECIPE = Recipe(
    "max_times",
    title="max-times convolution",
    equation=r"y = \max_t\; w_t x_t",
    gradient="ties share it evenly",
    reference="""@book{cuninghame1979minimax,
  title = {Minimax Algebra},
  author = {Cuninghame-Green, Raymond},
  publisher = {Springer}, year = {1979}}""",
    make=_make,
)
