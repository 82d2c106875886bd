"""The tensors of a case: numbers from a range, friendly or hostile, in a memory layout."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .case import Case, Ints

Draw = Callable[[torch.Generator, Ints], Tensor]


def _unit(g: torch.Generator, shape: Ints) -> Tensor:
    return torch.randn(shape, generator=g, dtype=torch.float64)


def _grid(g: torch.Generator, shape: Ints) -> Tensor:
    """Halves between -2 and 2: zeros and ties, and sums and products of them are exact."""
    return torch.randint(-4, 5, shape, generator=g).double() / 2


def _offset(g: torch.Generator, shape: Ints) -> Tensor:
    return 100 + torch.randn(shape, generator=g, dtype=torch.float64)


def _far(g: torch.Generator, shape: Ints) -> Tensor:
    return 1e5 + 10 * torch.randn(shape, generator=g, dtype=torch.float64)


def _tiny(g: torch.Generator, shape: Ints) -> Tensor:
    return 1e-6 * torch.randn(shape, generator=g, dtype=torch.float64)


def _large(g: torch.Generator, shape: Ints) -> Tensor:
    return 255 * torch.rand(shape, generator=g, dtype=torch.float64)


def _special(g: torch.Generator, shape: Ints) -> Tensor:
    """One number in eight is a zero of either sign, an infinity or NaN."""
    numbers = torch.randn(shape, generator=g, dtype=torch.float64)
    kinds = torch.tensor([0.0, -0.0, math.inf, -math.inf, math.nan, 0.0, 1.0, -1.0], dtype=torch.float64)
    special = kinds[torch.randint(0, 8, shape, generator=g)]
    return torch.where(torch.rand(shape, generator=g) < 0.12, special, numbers)


def _zeros(g: torch.Generator, shape: Ints) -> Tensor:
    """Half of them zero."""
    return torch.randn(shape, generator=g, dtype=torch.float64) * (torch.rand(shape, generator=g) < 0.5)


# of a range: how pixels and guides are drawn, how operands are, and how the incoming gradient is, if not as `_unit`
RANGES: dict[str, tuple[Draw, ...]] = {
    "unit": (_unit, _unit),
    "grid": (_grid, _grid, _grid),
    "zeros": (_zeros, _zeros),
    "offset": (_offset, _unit),
    "far": (_far, _unit),
    "tiny": (_tiny, _unit),
    "tiny weights": (_unit, _tiny),
    "large": (_large, _unit),
    "long": (_unit, _unit),
    "special": (_special, _zeros),
    "special gradient": (_grid, _grid, _special),
}


def _contiguous(t: Tensor) -> Tensor:
    return t.contiguous()


def _channels_last(t: Tensor) -> Tensor:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    if t.dim() in formats:
        return t.contiguous(memory_format=formats[t.dim()])
    return t.transpose(0, -1).contiguous().transpose(0, -1) if t.dim() > 1 else t


def _sliced(t: Tensor) -> Tensor:
    """Every second number of a tensor that is twice as long along its last axis; NaN lies between."""
    if t.dim() == 0:
        return t
    wide = torch.full((*t.shape[:-1], 2 * t.shape[-1] + 1), math.nan, dtype=t.dtype)
    view = wide[..., 1::2]
    return view.copy_(t)


def _expanded(t: Tensor) -> Tensor:
    """The first numbers along the first axis longer than one, again and again, with stride 0."""
    for axis, n in enumerate(t.shape):
        if n > 1:
            return t.narrow(axis, 0, 1).contiguous().expand(t.shape)
    return t


def _shifted(t: Tensor) -> Tensor:
    """One number into its storage, so that it is aligned to nothing."""
    flat = torch.full((t.numel() + 1,), math.nan, dtype=t.dtype)
    return flat[1:].copy_(t.reshape(-1)).view(t.shape)


def _transposed(t: Tensor) -> Tensor:
    """Its last two axes exchanged in memory."""
    return t.mT.contiguous().mT if t.dim() > 1 else t


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": _contiguous, "channels last": _channels_last, "sliced": _sliced, "expanded": _expanded,
    "offset": _shifted, "transposed": _transposed,
}  # fmt: skip


def tensors_of(case: Case) -> tuple[dict[str, Tensor], Tensor]:
    """``x``, the operands and ``bias`` by name, in the case's dtype and layout; and the incoming gradient."""
    g, p, dtype = torch.Generator().manual_seed(case.seed), case.place, getattr(torch, case.dtype)
    pixels, weights, gradient = (*RANGES[case.numbers], _unit)[:3]
    if case.numbers == "far" and case.dtype in ("float16", "bfloat16"):
        pixels = _offset
    found = {"x": pixels(g, (p.batch, p.in_channels, *p.size))}
    for o in case.source.operands:
        if o.passed:
            found[o.name] = (pixels if o.scope == "guide" else weights)(g, p.shape(o))
    if p.bias:
        found["bias"] = weights(g, (p.out_channels,))
    grad = gradient(g, (p.batch, p.out_channels, *p.sites))
    for name, t in found.items():
        laid = case.laid.find("x" if name == "x" else "w") >= 0
        found[name] = _laid(t.to(dtype), case.layout if laid else "contiguous")
    return found, _laid(grad.to(dtype), case.layout if "g" in case.laid else "contiguous")


def _laid(t: Tensor, layout: str) -> Tensor:
    return LAYOUTS[layout](t)
