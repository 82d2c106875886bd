"""EuclidNet: squared distances, reached from products by a homotopy."""

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import shared
from ..recipe import Recipe


def _make() -> Formula:
    def tap(x: Tensor, w: Tensor, homotopy: Tensor) -> Tensor:
        return x * w - 0.5 * homotopy * (torch.square(x) + torch.square(w))

    return Formula(tap, operands={"homotopy": shared(init=1.0, frozen=True)}, name="euclidean")


RECIPE = Recipe(
    "euclidean",
    title="EuclidNet",
    equation=r"y = \sum_t x_t w_t - \frac{\lambda}{2} (x_t^2 + w_t^2), \quad \lambda: 0 \to 1",
    reference="""@article{li2022euclidnets,
  title = {EuclidNets: An Alternative Operation for Efficient Inference of Deep Learning Models},
  author = {Li, Xinlin and Parazeres, Mariana and Oberman, Adam and Ghaffari, Alireza and Asgharian, Masoud and
    Partovi Nia, Vahid},
  journal = {arXiv:2212.11803}, year = {2022}}""",
    make=_make,
    defaults={"bias": False},
    schedule=lambda done: {"homotopy": done},
    keeps_weights=True,
)
