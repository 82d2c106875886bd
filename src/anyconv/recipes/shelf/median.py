"""The median of a field: a sorting network, whose gradient goes to the pixel that is the median."""

from ...formula import Formula
from ...networks import sort_network
from ..recipe import Recipe


def _make(rank: float = 0.5, dims: int = 2) -> Formula:
    """``rank``: 0 the smallest of the field, 1 the largest."""
    last = 3**dims - 1
    place = round(rank * last)
    return Formula(lambda x: sort_network(x)[place], field=(3,) * dims, name="median" if place == last // 2 else "rank")


RECIPE = Recipe(
    "median",
    title="median filter",
    equation=r"y = \mathrm{median}_t\; x_t",
    gradient="ties share it evenly",
    reference="""@article{huang1979fast,
  title = {A Fast Two-Dimensional Median Filtering Algorithm},
  author = {Huang, Thomas S. and Yang, George J. and Tang, Gregory Y.},
  journal = {IEEE Transactions on Acoustics, Speech, and Signal Processing}, year = {1979}}""",
    make=_make,
    defaults={"padding_mode": "replicate"},
    kernel=3,
)
