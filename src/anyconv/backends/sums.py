"""Sums whose order does not depend on the number of threads, as torch's own do where the result is a single number."""

from __future__ import annotations

import torch
from torch import Tensor

_LANES = 256  # sums that run side by side, each in a fixed order; their own sum is too short to be divided


def sum_in_order(values: Tensor) -> Tensor:
    """The sum of all values."""
    flat = values.flatten()
    whole = flat.numel() // _LANES * _LANES
    return torch.cat([flat[:whole].reshape(whole // _LANES, _LANES).sum(0), flat[whole:]]).sum()


def bias_gradient(grad: Tensor) -> Tensor:
    """``grad[n, o, *sites]`` summed over all but ``o``."""
    filters = grad.transpose(0, 1).flatten(1)
    return filters.sum(1) if len(filters) > 1 else sum_in_order(filters)[None]


def add(place: Tensor, d: Tensor) -> None:
    """``place`` <- ``place`` + ``d``, summed over the axes that ``place`` lacks."""
    if place.numel() == 1 and d.numel() > 1:
        place += sum_in_order(d)
    else:
        place += d if d.shape == place.shape else d.sum_to_size(place.shape)
