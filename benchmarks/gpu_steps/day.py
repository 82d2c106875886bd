"""What a day is about: formulas, layers and dtypes; and a few small ones for a day without a GPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from anyconv import Formula

from ..cases import FORMULAS, Layer, tensors

Row = dict[str, Any]
Write = Callable[[Row], None]
Go = Callable[[], object]

LAYERS: dict[str, Layer] = {
    "64 channels, 56x56": Layer(16, 64, 64, (56, 56), 3),
    "256 channels, 28x28": Layer(16, 256, 256, (28, 28), 3),
    "stem, 7x7/2": Layer(16, 3, 64, (224, 224), 7, stride=2),
    "depthwise, 5x5": Layer(32, 256, 256, (56, 56), 5, groups=256),
}
TINY: dict[str, Layer] = {"tiny": Layer(1, 1, 2, (3, 3), 3)}


def leaf(tensor: Tensor, to: str | torch.dtype) -> Tensor:
    """Return the tensor on a device, or in a dtype, as one that wants a gradient."""
    moved: Tensor = tensor.detach().to(to)
    return moved.requires_grad_()


@dataclass(frozen=True)
class Day:
    """What is measured, and on what.

    Args:
        formulas: names of formulas, each of which is timed on every layer in every dtype.
        rivals: names of formulas, each of which is timed as a compiled loop on every layer of ``shared``.
        shared: names of the layers on which rivals are timed.
        workers: processes that compile at a time.
        milliseconds: for which each way is timed.
        steps: of training.
        calls: whose overhead is measured.
    """

    device: str = "cuda"
    formulas: tuple[str, ...] = tuple(name for name in FORMULAS if name != "spline of 8")
    layers: tuple[str, ...] = tuple(LAYERS)
    dtypes: tuple[str, ...] = ("float32", "float16", "bfloat16")
    rivals: tuple[str, ...] = ("-|x-w|", "max x+w", "tanh(wx+b)", "logsumexp x+w")
    shared: tuple[str, ...] = ("64 channels, 56x56", "depthwise, 5x5")
    workers: int = 12
    milliseconds: int = 40
    steps: int = 50
    calls: int = 200

    @classmethod
    def dry(cls) -> Day:
        """A day of tiny shapes on the CPU, in Triton's interpreter."""
        return cls(
            "cpu", ("-|x-w|",), ("tiny",), ("float32", "float16"), ("-|x-w|",), ("tiny",), 1, 0, steps=1, calls=1
        )

    @property
    def is_dry(self) -> bool:
        """Whether there is no GPU."""
        return self.device == "cpu"

    def layer(self, name: str) -> Layer:
        """A layer by name."""
        return (LAYERS | TINY)[name]

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as ``torch.compile`` makes it; without a GPU, all but its last stage."""
        return torch.compile(function, dynamic=False, backend="eager" if self.is_dry else "inductor")

    def tensors(self, formula: Formula, layer: Layer, dtype: str = "float32") -> tuple[Tensor, tuple[Tensor, ...]]:
        """An image and operands on the device, which want gradients."""
        x, params = tensors(formula, layer, getattr(torch, dtype))
        return leaf(x, self.device), tuple(leaf(p, self.device) for p in params)

    def wait(self) -> None:
        """Wait until the device has done all that it was given."""
        if not self.is_dry:
            torch.cuda.synchronize()


@dataclass(frozen=True)
class Step:
    """A step of the day.

    Args:
        seconds: after which it is stopped, from its turn on.
        run: given the day, what writes a row, and what waits for its turn: to be called before anything is timed.
        ahead: it compiles much, and begins with that before its turn.
    """

    name: str
    seconds: float
    run: Callable[[Day, Write, Go], None]
    ahead: bool = False
