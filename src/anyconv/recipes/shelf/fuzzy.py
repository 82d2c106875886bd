"""Fuzzy dilation: a maximum of conjunctions, by one of three t-norms."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import FormulaError
from ...formula import Formula
from ...operands import per_tap
from ..recipe import Recipe

T_NORMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "goedel": torch.minimum,
    "product": torch.mul,
    "lukasiewicz": lambda x, w: torch.relu(x + w - 1),
}


def _make(t_norm: str = "goedel") -> Formula:
    """``t_norm``: ``"goedel"`` (the smaller), ``"product"``, ``"lukasiewicz"`` (what the sum has above 1)."""
    if t_norm not in T_NORMS:
        raise FormulaError(f"`t_norm` must be one of {', '.join(T_NORMS)}, got {t_norm!r}")
    conjunction = T_NORMS[t_norm]

    def tap(x: Tensor, w: Tensor) -> Tensor:
        return conjunction(x, w)

    return Formula(tap, "max", operands={"w": per_tap(init=lambda w: w.uniform_(0, 1))}, name="fuzzy")


RECIPE = Recipe(
    "fuzzy",
    title="fuzzy dilation",
    equation=r"y = \max_t\; T(x_t, w_t)",
    gradient="ties share it evenly",
    reference="""@incollection{debaets1997fuzzy,
  title = {Fuzzy Morphology: A Logical Approach},
  author = {De Baets, Bernard},
  booktitle = {Uncertainty Analysis in Engineering and Sciences}, year = {1997}}""",
    make=_make,
    defaults={"bias": False},
    pixels=(0.0, 1.0),
)
