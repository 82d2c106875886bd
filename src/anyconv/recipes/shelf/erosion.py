"""Erosion: what a dark pixel reaches; flat, or by a learned structuring function of each channel."""

import functools

from ..morphology import Morphology
from ..recipe import Recipe

RECIPE = Recipe(
    "erosion",
    title="erosion",
    equation=r"y(p) = \min_t\; x(p + t) - w(t)",
    gradient="ties share it evenly",
    reference="""@book{serra1982image,
  title = {Image Analysis and Mathematical Morphology},
  author = {Serra, Jean},
  publisher = {Academic Press}, year = {1982}}""",
    layers={"Pool": functools.partial(Morphology, name="erosion", compose=lambda x, erode, dilate: erode(x))},
)
