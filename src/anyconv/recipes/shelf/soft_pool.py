"""SoftPool: a mean weighted by the exponentials of the pixels themselves."""

from ...formula import Formula
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(lambda x: (x, x), "softmax", name="soft_pool")


RECIPE = Recipe(
    "soft_pool",
    title="SoftPool",
    equation=r"y = \frac{\sum_t e^{x_t} x_t}{\sum_t e^{x_t}}",
    reference="""@inproceedings{stergiou2021refining,
  title = {Refining Activation Downsampling with SoftPool},
  author = {Stergiou, Alexandros and Poppe, Ronald and Kalliatakis, Grigorios},
  booktitle = {ICCV}, year = {2021}}""",
    make=_make,
)
