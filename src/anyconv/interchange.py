"""interchange: what layers and PyTorch's own convolutions give each other: arguments, weights, state dicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .errors import FormulaError
from .formula import Formula
from .functional import AnyFormula
from .layer import Layer, public

if TYPE_CHECKING:
    from typing_extensions import Self

Ordinary = nn.Conv1d | nn.Conv2d | nn.Conv3d
Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


def weight_of(formula: Formula) -> str | None:
    """The operand that stands where an ordinary convolution has its weight: ``weight``, or the only one per tap."""
    per_tap = [n for n, o in formula.parameters.items() if o.scope == "per_tap" and o.size is None]
    return "weight" if "weight" in per_tap else per_tap[0] if len(per_tap) == 1 else None


def arguments_of(layer: Ordinary | Transposed) -> dict[str, Any]:
    """The arguments that make a layer of this library like one of PyTorch's."""
    padding = layer.padding if isinstance(layer.padding, str) else tuple(layer.padding)
    found: dict[str, Any] = {
        "in_channels": layer.in_channels, "out_channels": layer.out_channels, "kernel_size": layer.kernel_size,
        "stride": layer.stride, "padding": padding, "dilation": layer.dilation, "groups": layer.groups,
        "bias": layer.bias is not None, "device": layer.weight.device, "dtype": layer.weight.dtype,
    }  # fmt: skip
    if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        return found | {"output_padding": layer.output_padding}
    return found | {"padding_mode": layer.padding_mode}


def take_over(made: nn.Module, layer: Ordinary | Transposed, weight: str | None) -> list[str]:
    """Copy the weight into the operand of this name, and the bias; what was copied."""
    pairs = {"weights": (weight and getattr(made, weight), layer.weight), "bias": (made.bias, layer.bias)}
    kept = []
    with torch.no_grad():
        for what, (to, of) in pairs.items():
            if isinstance(to, Tensor) and isinstance(of, Tensor):
                to.copy_(of)
                to.requires_grad_(of.requires_grad and isinstance(to, nn.Parameter))
                kept.append(what)
    made.train(layer.training)
    return kept


class Interchangeable(Layer):
    """A layer with filters, which stands where one of PyTorch's own did."""

    @classmethod
    def from_torch(
        cls, layer: Ordinary | Transposed, formula: AnyFormula | None = None, *, backend: str = "auto"
    ) -> Self:
        """A layer with the arguments, the weight and the bias of one of PyTorch's.

            >>> ordinary = torch.nn.Conv2d(3, 16, 3, stride=2)
            >>> torch.equal(Conv2d.from_torch(ordinary, lambda x, w: torch.tanh(x * w)).w, ordinary.weight)
            True

        The weight goes to the operand called ``weight``, or to the only one per tap; all others are filled as their
        ``init`` says.

        Args:
            layer: an ``nn.ConvNd`` or ``nn.ConvTransposeNd`` of the same number of axes, and no subclass of it.
            formula, backend: as of the class.

        Raises:
            FormulaError: it is another layer, or the formula has no such operand.
        """
        kind = getattr(nn, public(cls).__name__)
        if type(layer) is not kind:
            raise FormulaError(f"`layer` must be an nn.{kind.__name__}, got {type(layer).__name__}")
        made = cls(**arguments_of(layer), formula=formula, backend=backend)
        weight = weight_of(made.formula)
        if weight is None:
            raise FormulaError(
                f"{made.formula} has no operand that stands for the weight of an ordinary convolution",
                way_out="It is the one called `weight`, or the only one per tap. Build the layer, and copy by hand.",
            )
        take_over(made, layer, weight)
        return made

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """What PyTorch's layers call ``weight`` is the weight, whatever the map calls it."""
        name = weight_of(self.formula)
        if name is not None and prefix + name not in state_dict and prefix + "weight" in state_dict:
            state_dict[prefix + name] = state_dict.pop(prefix + "weight")
        super()._load_from_state_dict(state_dict, prefix, *rest)
