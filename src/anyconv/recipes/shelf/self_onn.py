"""Self-ONN: generative neurons, a polynomial of its own at each tap."""

from torch import Tensor, nn

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make(q: int = 3) -> Formula:
    """``q`` is the degree of the polynomials; pixels are meant to be within -1 and 1, as after a tanh."""

    def tap(x: Tensor, w: Tensor) -> Tensor:
        y = w[q - 1]
        for i in reversed(range(q - 1)):
            y = w[i] + x * y
        return x * y

    return Formula(tap, operands={"w": per_tap(init=lambda w: w.copy_(_xavier(w)), size=q)}, name=f"self_onn(q={q})")


def _xavier(w: Tensor) -> Tensor:
    """As for a convolution of q times as many channels, one for each power."""
    stacked = w.new_empty(w.shape[0], w.shape[1] * w.shape[-1], *w.shape[2:-1])
    nn.init.xavier_uniform_(stacked)
    return stacked.reshape(*w.shape[:2], w.shape[-1], *w.shape[2:-1]).movedim(2, -1)


RECIPE = Recipe(
    "self_onn",
    title="Self-ONN",
    equation=r"y = \sum_t \sum_{q=1}^{Q} w_{t,q}\, x_t^q",
    reference="""@article{kiranyaz2021self,
  title = {Self-organized Operational Neural Networks with Generative Neurons},
  author = {Kiranyaz, Serkan and Malik, Junaid and Abdallah, Habib Ben and Ince, Turker and Iosifidis, Alexandros and
    Gabbouj, Moncef},
  journal = {Neural Networks}, year = {2021}}""",
    make=_make,
)
