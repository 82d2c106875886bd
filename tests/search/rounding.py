"""How much rounding may move the numbers of a case, derived from the user's own program.

The user's function, its reduction and autograd's backward pass run in float64, and every result of an operation is moved by
up to one ``eps`` of the working precision, at random (Monte Carlo arithmetic, Parker 1997). What comes out moves as much as
rounding *as the user wrote it* can move it; inputs are exact, so a rewriting that cancels (``x * w - level * w`` for
``(x - level) * w``) exceeds it. Three rules make it sharp:

* A result that the working precision holds exactly is not moved: sums and products of small numbers, and exact
  differences, are exact. A sum of many terms is exact where all of them are multiples of one number that fits often enough.
* Equal results of an operation move equally, so that ties stay ties. What flips by rounding moves far, and is undecided.
* A sum moves by ``eps`` of the sum of its terms' sizes, and more where they are many, for one after the other is added:
  by the root of their number, as a random walk, from 16 on; a product of many by ``eps`` times their number.

The bound of a number is ``FACTOR`` times the farthest it moved in some runs, and ``FACTOR`` roundings of itself. Runs are
added as long as a difference exceeds the bound, up to ``RUNS[-1]``: a right number is not refused by bad luck.
In half precisions inputs are rounded, arithmetic is float32's, and the result is rounded once: half an eps of its dtype more.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

FACTOR = 8.0
RUNS = (0, 2, 10, 60)
_MIXERS = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93)
EXACT = {
    "neg", "abs", "sign", "sgn", "max", "min", "amax", "amin", "maximum", "minimum", "fmax", "fmin", "where", "clamp",
    "clamp_min", "clamp_max", "relu", "round", "floor", "ceil", "trunc", "zeros_like", "ones_like", "full", "full_like",
    "zeros", "ones", "clone", "_to_copy", "cat", "stack", "index", "index_select", "gather", "masked_fill", "copysign",
    "index_copy", "constant_pad_nd", "repeat", "new_zeros", "new_empty", "empty", "empty_like", "empty_strided", "new_full",
    "_unsafe_view", "threshold_backward", "fill", "copy", "nonzero", "arange", "scalar_tensor", "lift_fresh", "hardtanh",
    "hardtanh_backward", "threshold", "_local_scalar_dense", "new_empty_strided", "select_backward", "slice_backward",
    "new_ones", "unsqueeze_copy", "lift_fresh_copy", "fmod", "frexp", "hardshrink", "heaviside", "rand_like", "isnan",
}  # fmt: skip

SUMS = ("sum", "nansum", "cumsum", "index_add", "index_put", "_index_put_impl")
POLYGAMMA = 1e-9  # torch's is good to nine digits, in float64 too


def eps_of(dtype: torch.dtype) -> float:
    """The precision of the arithmetic in a dtype."""
    return torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps


class Rounding(TorchDispatchMode):
    """Under it, every result of a floating-point operation moves by up to one ``eps``, as a seed says.

    Args:
        narrow: the dtype whose numbers are exact.
    """

    def __init__(self, eps: float, seed: int, narrow: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.eps, self.narrow, self.count = eps, narrow, itertools.count(seed * 7919 + 1)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        inplace = name.endswith("_") and not name.endswith("__")
        name = name.rstrip("_") if inplace else name
        of = args[0] if args and isinstance(args[0], Tensor) else None
        if name in EXACT or func.is_view or (of is not None and not of.is_floating_point()):
            return func(*args, **kwargs)
        scale = self._scale(func, name, args, kwargs)
        out = func(*args, **kwargs)
        if not isinstance(out, Tensor):
            return out
        if out.dtype != torch.float64 or out.numel() == 0 or out._is_zerotensor():  # which has no memory
            return out
        moved = self._moved(out, scale, _grain(args) if name in SUMS else None)
        return out.copy_(moved) if inplace else moved

    def _moved(self, out: Tensor, scale: Tensor | None, grain: Tensor | None) -> Tensor:
        mixer = _MIXERS[next(self.count) % 4] * (2 * next(self.count) + 1) % 2**64
        mixer = mixer - 2**64 if mixer >= 2**63 else mixer
        seen = out if scale is None else torch.where(out == 0, scale, out)  # terms that cancel do so by luck
        way = (seen.contiguous().view(torch.int64) * mixer).double()  # between -2 ** 63 and 2 ** 63
        moved = torch.addcmul(out, way, out if scale is None else scale, value=self.eps * 2.0**-63)
        exact = out.to(self.narrow) == out
        if grain is not None and scale is not None:
            exact &= scale * torch.finfo(self.narrow).eps < grain
        elif scale is not None:  # partial products need as many bits as all together, or a few more
            exact &= (5 * scale).to(self.narrow) == 5 * scale
        return torch.where(exact, out, moved)

    def _scale(self, func: Any, name: str, args: Any, kwargs: Any) -> Tensor | None:
        """The size of a sum's terms, or None: that of the result."""
        if name in ("sum", "mean", "nansum", "cumsum"):
            scale = func(args[0].abs(), *args[1:], **kwargs)
            return scale * max(1.0, math.sqrt(args[0].numel() / max(1, scale.numel())) / 4)
        if name == "index_add":
            return torch.index_add(args[0].abs(), args[1], args[2], args[3].abs())
        if name in ("index_put", "_index_put_impl"):
            return torch.index_put(args[0].abs(), list(args[1]), args[2].abs(), *args[3:4])
        if name in ("logaddexp", "logaddexp2"):  # the larger one, and what is added to it
            return torch.maximum(func(*args, **kwargs).abs(), torch.maximum(args[0].abs(), args[1].abs()))
        if name in ("mish_backward", "silu_backward", "gelu_backward"):  # a sum of two terms, of which one is about 1
            return torch.maximum(func(*args, **kwargs).abs(), args[0].abs())
        if name == "sinc":  # the sine of a rounded multiple of pi
            return func(*args, **kwargs).abs().clamp(min=1.0)
        if name == "polygamma":
            return func(*args, **kwargs).abs() * max(1.0, POLYGAMMA / self.eps)
        if name == "prod":
            return func(*args, **kwargs).abs() * max(1, args[0].shape[args[1]] if len(args) > 1 else args[0].numel())
        return None


def _grain(args: Any) -> Tensor | None:
    """The largest power of two that divides all terms of a sum; infinity where all are zero."""
    terms = [t.flatten() for t in args if isinstance(t, Tensor) and t.dtype == torch.float64]
    if not terms:
        return None
    mantissa, exponent = torch.frexp(torch.cat(terms))
    bits = (mantissa * 2.0**53).long()
    lowest = (bits & -bits).double() * 2.0 ** (exponent.double() - 53)
    return torch.where(lowest == 0, math.inf, lowest).min() if lowest.numel() else None
