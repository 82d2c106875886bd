"""The black top-hat: what a closing adds."""

import functools

from ..morphology import Morphology
from ..recipe import Recipe

RECIPE = Recipe(
    "bottom_hat",
    title="black top-hat",
    equation=r"y = \varepsilon_w(\delta_w(x)) - x",
    gradient="ties share it evenly",
    reference="""@book{serra1982image,
  title = {Image Analysis and Mathematical Morphology},
  author = {Serra, Jean},
  publisher = {Academic Press}, year = {1982}}""",
    layers={
        "Pool": functools.partial(Morphology, name="bottom_hat", compose=lambda x, erode, dilate: erode(dilate(x)) - x)
    },
)
