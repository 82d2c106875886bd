"""Central difference convolution: what a field says beyond its middle."""

from ...formula import Formula
from ...operands import center, shared
from ..recipe import Recipe


def _make(theta: float = 0.7) -> Formula:
    """``theta`` is the share of the differences: 0 is an ordinary convolution. It can change without a new build."""
    return Formula(
        lambda x, middle, w, theta: w * (x - theta * middle),
        operands={"middle": center(), "theta": shared(init=theta, frozen=True)},
        name="central_difference",
    )


RECIPE = Recipe(
    "central_difference",
    title="central difference convolution",
    equation=r"y = \sum_t w_t (x_t - \theta\, x_{\mathrm{middle}})",
    reference="""@inproceedings{yu2020searching,
  title = {Searching Central Difference Convolutional Networks for Face Anti-Spoofing},
  author = {Yu, Zitong and Zhao, Chenxu and Wang, Zezheng and Qin, Yunxiao and Su, Zhuo and Li, Xiaobai and Zhou, Feng
    and Zhao, Guoying},
  booktitle = {CVPR}, year = {2020}}""",
    make=_make,
    keeps_weights=True,
)
