"""The tropical (Hilbert) distance to a template: how far the largest difference is from the smallest."""

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make() -> Formula:
    return Formula(
        lambda x, w: (x - w, x - w),
        ("max", "min"),
        epilogue=lambda most, least: most - least,
        operands={"w": per_tap(init=lambda w: w.normal_())},
    )


RECIPE = Recipe(
    "tropical_distance",
    title="tropical embedding layer",
    equation=r"y = \max_t (x_t - w_t) - \min_t (x_t - w_t)",
    gradient="ties share it evenly",
    reference="""@article{pasque2024tropical,
  title = {Tropical Decision Boundaries for Neural Networks Are Robust Against Adversarial Attacks},
  author = {Pasque, Kurt and Teska, Christopher and Yoshida, Ruriko and Miura, Keiji and Huang, Jefferson},
  journal = {arXiv:2402.00576}, year = {2024}}""",
    make=_make,
)
