"""The prototype layer of ProtoPNet: a similarity that rises where the squared distance to a template vanishes."""

import torch

from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe


def _make(eps: float = 1e-4) -> Formula:
    """``eps`` bounds the similarity, at ``log(1 / eps)``."""
    return Formula(
        lambda x, w: torch.square(x - w),
        epilogue=lambda distance: torch.log((distance + 1) / (distance + eps)),
        operands={"w": per_tap(init=lambda w: w.uniform_(0, 1))},
    )


RECIPE = Recipe(
    "prototype",
    title="ProtoPNet's prototype layer",
    equation=r"y = \log \frac{d^2 + 1}{d^2 + \varepsilon}, \quad d^2 = \sum_t (x_t - w_t)^2",
    reference="""@inproceedings{chen2019this,
  title = {This Looks Like That: Deep Learning for Interpretable Image Recognition},
  author = {Chen, Chaofan and Li, Oscar and Tao, Daniel and Barnett, Alina and Rudin, Cynthia and Su, Jonathan K.},
  booktitle = {NeurIPS}, year = {2019}}""",
    make=_make,
    defaults={"bias": False},
    pixels=(0.0, 1.0),
)
