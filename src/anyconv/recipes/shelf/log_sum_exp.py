"""The logarithmic semifield: a soft maximum of sums, and of negative temperature a soft minimum."""

from ...formula import Formula
from ...operands import per_filter
from ..recipe import Recipe


def _make(mu: float = 2.0) -> Formula:
    """``mu`` is where each filter's learned temperature begins."""
    return Formula(
        lambda x, w, mu: mu * (x + w),
        "logsumexp",
        epilogue=lambda soft, mu: soft / mu,
        operands={"mu": per_filter(init=mu)},
    )


RECIPE = Recipe(
    "log_sum_exp",
    title="logarithmic semifield convolution",
    equation=r"y = \frac{1}{\mu} \log \sum_t e^{\mu (x_t + w_t)}",
    reference="""@article{bellaard2024pde,
  title = {PDE-CNNs: Axiomatic Derivations and Applications},
  author = {Bellaard, Gijs and Sakata, Sei and Smets, Bart M. N. and Duits, Remco},
  journal = {arXiv:2403.15182}, year = {2024}}""",
    make=_make,
    defaults={"bias": False, "padding_mode": "skip"},
)
