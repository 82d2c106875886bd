"""A morphological layer: each channel is dilated by a kernel of its own, and the channels are summed."""

from ...formula import Formula
from ...reductions import over
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(lambda x, w: x + w, over(taps="max", channels="sum"))


RECIPE = Recipe(
    "morphological",
    title="morphological layer",
    equation=r"y = \sum_c \max_k\; (x_{c,k} + w_{c,k})",
    gradient="ties share it evenly",
    reference="""@article{mondal2019dense,
  title = {Dense Morphological Networks: An Universal Function Approximator},
  author = {Mondal, Ranjan and Santra, Sanchayan and Chanda, Bhabatosh},
  journal = {arXiv:1901.00109}, year = {2019}}""",
    make=_make,
    defaults={"padding_mode": "skip"},
)
