"""The hit-or-miss transform: an erosion by what has to be there less a dilation by what must not."""

from ...formula import Formula
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(lambda x, hit, miss: (x - hit, x - miss), ("min", "max"), epilogue=lambda least, most: least - most)


RECIPE = Recipe(
    "hit_or_miss",
    title="hit-or-miss layer",
    equation=r"y = \min_t (x_t - h_t) - \max_t (x_t - m_t)",
    gradient="ties share it evenly",
    reference="""@article{islam2020extending,
  title = {Extending the Morphological Hit-or-Miss Transform to Deep Neural Networks},
  author = {Islam, Muhammad Aminul and Murray, Bryce and Buck, Andrew and Anderson, Derek T. and Scott, Grant J. and
    Popescu, Mihail and Keller, James},
  journal = {IEEE TNNLS}, year = {2020}}""",
    make=_make,
    defaults={"padding_mode": "skip"},
)
