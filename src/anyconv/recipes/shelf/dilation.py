"""Dilation: what a bright pixel reaches; flat, or by a learned structuring function of each channel."""

import functools

from ..morphology import Morphology
from ..recipe import Recipe

RECIPE = Recipe(
    "dilation",
    title="dilation",
    equation=r"y(p) = \max_t\; x(p - t) + w(t)",
    gradient="ties share it evenly",
    reference="""@book{serra1982image,
  title = {Image Analysis and Mathematical Morphology},
  author = {Serra, Jean},
  publisher = {Academic Press}, year = {1982}}""",
    layers={"Pool": functools.partial(Morphology, name="dilation", compose=lambda x, erode, dilate: dilate(x))},
)
