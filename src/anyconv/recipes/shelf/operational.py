"""Operational neural networks: a library of nodal operators in the place of the product."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import FormulaError
from ...formula import Formula
from ..recipe import Recipe

LARGEST = 30.0  # of an exponent: what the exponential nodes see beyond it they see as this
NODAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cubic": lambda x, w: 100 * w * x**3,
    "sine": lambda x, w: torch.sin(100 * w * x),
    "exponential": lambda x, w: torch.expm1((w * x).clamp(max=LARGEST)),
    "sinh": lambda x, w: torch.sinh((0.1 * w * x).clamp(-LARGEST, LARGEST)),
    "sinc": lambda x, w: 10 * torch.sinc((1000 / torch.pi) * (w * x)),
    "chirp": lambda x, w: torch.sin(1e4 * w * x * x),
    "harmonic": lambda x, w: torch.sin(w * x),
}


def _make(nodal: str = "sine", pool: str = "sum") -> Formula:
    """``nodal`` is a key of ``NODAL``; ``pool`` a reduction: ``"sum"``, ``"max"``, ..."""
    if nodal not in NODAL:
        raise FormulaError(f"`nodal` must be one of {', '.join(NODAL)}, got {nodal!r}")
    operator = NODAL[nodal]

    def tap(x: Tensor, w: Tensor) -> Tensor:
        return operator(x, w)

    return Formula(tap, pool, name=f"operational({nodal})")


RECIPE = Recipe(
    "operational",
    title="operational layer",
    equation=r"y = P_t\; \Psi(x_t, w_t), \quad \Psi \mathrm{\ one\ of\ } \sin(100\, w x),\; e^{w x} - 1,\; \ldots",
    reference="""@article{kiranyaz2020operational,
  title = {Operational Neural Networks},
  author = {Kiranyaz, Serkan and Ince, Turker and Iosifidis, Alexandros and Gabbouj, Moncef},
  journal = {Neural Computing and Applications}, year = {2020}}""",
    make=_make,
)
