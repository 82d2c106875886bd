"""What all layers share: a formula, its operands as parameters and buffers, and the images of a call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .arguments import autocasts, with_hooks
from .errors import FormulaError, ShapeError
from .formula import Formula
from .functional import AnyFormula
from .geometry import Geometry, Ints
from .operands import FROM_CALL, Operand
from .reductions import Over
from .reductions.builtin import Reduce


class Layer(nn.Module):
    """A module whose inner operation is a formula; a subclass says it by methods and attributes, or is given one."""

    dims: ClassVar[int]
    reduce: Reduce | Over = "sum"
    operands: Mapping[str, Operand] | None = None
    epilogue: Callable[..., Any] | None = None
    gradient: Mapping[str, Callable[..., Any]] | None = None
    formula: Formula
    backend: str
    autocast: bool
    bias: Tensor | None

    def map(self, x: Any, w: Any) -> Any:
        """The function of one pixel and its operands; a subclass overrides it."""
        return x * w

    def reset_parameters(self) -> None:
        """Fill every operand as its ``init`` says, by default uniformly as ``nn.ConvNd`` does; the bias too."""
        fan_in = self._fan_in()
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        tensors = {name: (getattr(self, name), operand.init) for name, operand in self._own_operands().items()}
        if self.bias is not None:
            tensors["bias"] = (self.bias, None)
        with torch.no_grad():
            for tensor, init in tensors.values():
                if init is None:
                    tensor.uniform_(-bound, bound)
                elif callable(init):
                    init(tensor)
                else:
                    tensor.fill_(init)

    def forward(self, x: Tensor, **images: Tensor) -> Tensor:
        """``(N, C_in, *size)`` -> ``(N, C_out, *sites)``; an unbatched ``x`` works too.

        Args:
            images: the formula's guides and operands per site, by name.
        """
        if self.autocast or not isinstance(x, Tensor) or not autocasts(x):
            return self._compute(x, images)
        with torch.autocast(x.device.type, enabled=False):
            return self._compute(x.float(), {name: image.float() for name, image in images.items()})

    def _compute(self, x: Tensor, images: dict[str, Tensor]) -> Tensor:
        raise NotImplementedError

    def _fan_in(self) -> int:
        raise NotImplementedError

    def _own_operands(self) -> dict[str, Operand]:
        return {n: o for n, o in self.formula.parameters.items() if o.scope not in FROM_CALL}

    def _register(
        self, shapes: dict[str, Ints], bias: int | None, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        """Make a parameter of each operand, a buffer of each frozen one, and the bias of so many numbers."""
        for name, operand in self._own_operands().items():
            if name == "bias" or hasattr(self, name):
                raise FormulaError(
                    f"the operand `{name}` of {self.formula} would hide an attribute of the layer",
                    way_out="Give the map's argument another name.",
                )
            values = torch.empty(shapes[name], device=device, dtype=dtype)
            if operand.frozen:
                self.register_buffer(name, values)
            else:
                self.register_parameter(name, nn.Parameter(values))
        added = None if bias is None else nn.Parameter(torch.empty(bias, device=device, dtype=dtype))
        self.register_parameter("bias", added)
        self.reset_parameters()

    def _params(self, images: dict[str, Tensor]) -> dict[str, Tensor]:
        """All operands by name: those of the layer, and the images of a call."""
        operands = self.formula.passed
        wanted = [name for name, operand in operands if operand.scope in FROM_CALL]
        if set(images) != set(wanted):
            raise FormulaError(
                f"the layer was called with the images {sorted(images)}, its formula takes {sorted(wanted)}",
                way_out="Pass each by name: `layer(x, " + ", ".join(f"{n}=..." for n in wanted or ["m"]) + ")`."
                if wanted
                else "Call it with `x` alone.",
            )
        params = {name: images[name] if name in images else getattr(self, name) for name, _ in operands}
        return with_hooks(params, self.formula)

    def _check_channels(self, x: object, wanted: int) -> None:
        if torch.compiler.is_compiling():  # which cannot raise an error of ours; the operator checks what it gets
            return
        if isinstance(x, Tensor) and x.dim() in (self.dims + 1, self.dims + 2):
            channels = x.shape[x.dim() - self.dims - 1]
            if channels != wanted:
                raise ShapeError(
                    f"`x` must have {wanted} channels (in_channels), got {channels} in shape {tuple(x.shape)}"
                )

    def _formula_of(self, formula: AnyFormula | None) -> Formula:
        """The formula given, or the one that the subclass says."""
        own = type(self).map is not Layer.map
        if formula is None:
            name = type(self).__name__ if own else None
            return Formula(
                self.map, self.reduce, epilogue=self.epilogue, operands=self.operands, gradient=self.gradient, name=name
            ).unbound()
        if own:
            raise FormulaError(
                f"`formula` was given to {type(self).__name__}, which has a map of its own",
                way_out=f"Drop the argument, or use anyconv.{public(type(self)).__name__}.",
            )
        return Formula.of(formula)

    def _described(self, leading: str, g: Geometry, **shown: object) -> str:
        """A line for ``extra_repr``: what is not as by default (None is not shown), and the mathematics with bias."""
        common = {
            "padding": g.before if any(g.before) else None,
            "dilation": g.dilation if any(d != 1 for d in g.dilation) else None,
            **shown,
            "backend": None if self.backend == "auto" else self.backend,
            "autocast": None if self.autocast else False,
        }
        parts = [leading, *(f"{name}={value!r}" for name, value in common.items() if value is not None)]
        value, *where = str(self.formula).split(" where ", 1)
        bias = "" if self.bias is None else " + bias"
        return ", ".join([*parts, " where ".join([value + bias, *where])])


def public(kind: type[Layer]) -> type:
    """The layer of this library that a class inherits from."""
    return next(base for base in kind.__mro__ if base.__module__.startswith("anyconv.") and hasattr(base, "dims"))
