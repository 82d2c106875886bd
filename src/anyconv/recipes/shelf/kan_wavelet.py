"""Wav-KAN: wavelets of the pixel, with a scale and a shift for each pair of filter and channel."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import FormulaError
from ...formula import Formula
from ...operands import per_pair
from ..recipe import Recipe

WAVELETS: dict[str, Callable[[Tensor], Tensor]] = {
    "mexican_hat": lambda u: (2 / (math.sqrt(3) * math.pi**0.25)) * (torch.square(u) - 1) * torch.exp(-0.5 * u * u),
    "morlet": lambda u: torch.cos(5 * u) * torch.exp(-0.5 * u * u),
    "dog": lambda u: -u * torch.exp(-0.5 * u * u),
}


def _make(wavelet: str = "mexican_hat") -> Formula:
    """``wavelet``: ``"mexican_hat"``, ``"morlet"`` or ``"dog"`` (a derivative of a Gaussian)."""
    if wavelet not in WAVELETS:
        raise FormulaError(f"`wavelet` must be one of {', '.join(WAVELETS)}, got {wavelet!r}")
    psi = WAVELETS[wavelet]
    return Formula(
        lambda x, w, shift, scale: w * psi((x - shift) / scale),
        operands={"shift": per_pair(init=0.0), "scale": per_pair(init=1.0)},
        name=f"kan_wavelet({wavelet})",
    )


RECIPE = Recipe(
    "kan_wavelet",
    title="Wav-KAN convolution",
    equation=r"y = \sum_t w_t\, \psi(\frac{x_t - \tau}{s}), \quad \psi(u) \propto (u^2 - 1)\, e^{-u^2/2}",
    reference="""@article{bozorgasl2024wav,
  title = {Wav-KAN: Wavelet Kolmogorov-Arnold Networks},
  author = {Bozorgasl, Zavareh and Chen, Hao},
  journal = {arXiv:2405.12832}, year = {2024}}""",
    make=_make,
)
