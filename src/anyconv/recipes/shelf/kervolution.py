"""Kervolution with a polynomial kernel: a power of the product, in place of the product."""

from ...formula import Formula
from ...operands import shared
from ..recipe import Recipe


def _make(degree: int = 3) -> Formula:
    """``degree`` of the polynomial; what balances its orders is learned."""
    return Formula(
        lambda x, w: w * x,
        epilogue=lambda product, balance: (product + balance) ** degree,
        operands={"balance": shared(init=0.5)},
    )


RECIPE = Recipe(
    "kervolution",
    title="polynomial kervolution",
    equation=r"y = (\sum_t w_t x_t + c)^d",
    reference="""@inproceedings{wang2019kervolutional,
  title = {Kervolutional Neural Networks},
  author = {Wang, Chen and Yang, Jianfei and Xie, Lihua and Yuan, Junsong},
  booktitle = {CVPR}, year = {2019}}""",
    make=_make,
    keeps_weights=True,
)
