"""Distances in an l_p norm whose p rises during training, to the l-infinity distance nets end as."""

import math

import torch
from torch import Tensor

from ...formula import Formula
from ...operands import per_tap, shared
from ..recipe import Recipe

FIRST, LAST = 8.0, 1000.0


def _make(p: float = FIRST) -> Formula:
    """``p`` is the start; ``math.inf`` makes the layer that the schedule ends in."""
    weight = per_tap(init=torch.nn.init.normal_)
    if math.isinf(p):
        return Formula(lambda x, w: torch.abs(x - w), "max", operands={"w": weight})

    def slope(x: Tensor, w: Tensor, p: Tensor) -> Tensor:
        # of p log|x - w|; where the two agree the distance does not change with either
        return torch.where(x == w, 0, p / torch.where(x == w, 1, x - w))

    return Formula(  # by logarithms: no power of any p over- or underflows, and p can change without a new build
        lambda x, w, p: p * torch.log(torch.abs(x - w)),
        "logsumexp",
        epilogue=lambda soft, p: torch.exp(soft / p),
        operands={"w": weight, "p": shared(init=p, frozen=True)},
        gradient={"x": slope, "w": lambda x, w, p: -slope(x, w, p)},
    )


RECIPE = Recipe(
    "lp_distance",
    title="l-infinity distance net",
    equation=r"y = (\sum_t |x_t - w_t|^p)^{1/p}, \quad p: 8 \to 1000",
    reference="""@inproceedings{zhang2021linf,
  title = {Towards Certifying L-infinity Robustness using Neural Networks with L-inf-dist Neurons},
  author = {Zhang, Bohang and Cai, Tianle and Lu, Zhou and He, Di and Wang, Liwei},
  booktitle = {ICML}, year = {2021}}""",
    make=_make,
    schedule=lambda done: {"p": FIRST * (LAST / FIRST) ** done},
)
