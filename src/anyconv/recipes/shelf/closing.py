"""Closing: dark details smaller than the structuring function vanish."""

import functools

from ..morphology import Morphology
from ..recipe import Recipe

RECIPE = Recipe(
    "closing",
    title="closing",
    equation=r"y = \varepsilon_w(\delta_w(x))",
    gradient="ties share it evenly",
    reference="""@book{serra1982image,
  title = {Image Analysis and Mathematical Morphology},
  author = {Serra, Jean},
  publisher = {Academic Press}, year = {1982}}""",
    layers={"Pool": functools.partial(Morphology, name="closing", compose=lambda x, erode, dilate: erode(dilate(x)))},
)
