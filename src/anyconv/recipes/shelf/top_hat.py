"""The white top-hat: what an opening takes away."""

import functools

from ..morphology import Morphology
from ..recipe import Recipe

RECIPE = Recipe(
    "top_hat",
    title="white top-hat",
    equation=r"y = x - \delta_w(\varepsilon_w(x))",
    gradient="ties share it evenly",
    reference="""@book{serra1982image,
  title = {Image Analysis and Mathematical Morphology},
  author = {Serra, Jean},
  publisher = {Academic Press}, year = {1982}}""",
    layers={
        "Pool": functools.partial(Morphology, name="top_hat", compose=lambda x, erode, dilate: x - dilate(erode(x)))
    },
)
