"""The morphological gradient: a dilation less an erosion."""

import functools

from ..morphology import Morphology
from ..recipe import Recipe

RECIPE = Recipe(
    "morphological_gradient",
    title="morphological gradient",
    equation=r"y = \delta_w(x) - \varepsilon_w(x)",
    gradient="ties share it evenly",
    reference="""@book{serra1982image,
  title = {Image Analysis and Mathematical Morphology},
  author = {Serra, Jean},
  publisher = {Academic Press}, year = {1982}}""",
    layers={
        "Pool": functools.partial(
            Morphology, name="morphological_gradient", compose=lambda x, erode, dilate: dilate(x) - erode(x)
        )
    },
)
