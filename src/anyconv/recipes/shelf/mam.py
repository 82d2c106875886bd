"""MAM: the largest and the smallest product of a field stand for the sum of all."""

from ...formula import Formula
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(lambda x, w: (w * x, w * x), ("max", "min"), epilogue=lambda most, least: most + least, name="mam")


RECIPE = Recipe(
    "mam",
    title="multiply-and-max/min layer",
    equation=r"y = \max_t w_t x_t + \min_t w_t x_t",
    gradient="ties share it evenly",
    reference="""@article{prono2025mam,
  title = {A Multiply-And-Max/min Neuron Paradigm for Aggressively Prunable Deep Neural Networks},
  author = {Prono, Luciano and Bich, Philippe and Boretti, Chiara and Mangia, Mauro and Pareschi, Fabio and
    Rovatti, Riccardo and Setti, Gianluca},
  year = {2025}}""",
    make=_make,
    keeps_weights=True,
)
