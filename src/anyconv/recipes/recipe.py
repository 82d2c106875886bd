"""Recipe: a published layer as data, and the layers that can be made of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from .. import modules, pooling, transposed_layers
from ..errors import FormulaError
from ..formula import Formula

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KINDS = {"Conv": modules, "ConvTranspose": transposed_layers, "Pool": pooling}
Factory = Callable[..., nn.Module]


@dataclass(frozen=True, eq=False)
class Recipe:
    """A published layer: its formula with the authors' start values and gradients, its equation, its source.

        >>> anyconv.recipes.adder
        Recipe(adder: y = sum(-abs(x - w)))
        >>> anyconv.recipes.adder.Conv2d(16, 32, 3, padding=1)
        Conv2d(16, 32, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), y = sum(-abs(x - w)))
        >>> anyconv.recipes.kervolution(degree=2).formula
        Formula(y = (product + balance) ** 2 where product = sum(w * x))

    ``Conv1d/2d/3d`` and ``ConvTranspose1d/2d/3d`` are there where the layer has filters, ``Pool1d/2d/3d`` where it has
    none; they take the arguments of :class:`anyconv.Conv2d` and its siblings, but for the formula.

    Args:
        name: as an attribute of ``anyconv.recipes``.
        title: what its authors call it.
        equation: in LaTeX; t is a tap, in all channels.
        reference: a BibTeX entry.
        make: the formula, of the options of the recipe; of ``dims`` too where it depends on the number of axes.
        layers: for what is no single formula, a function of ``dims`` and further arguments for each kind of layer.
        defaults: arguments of the layers that differ from theirs: morphology has no bias and skips the border.
        gradient: the published gradient, where it is not the derivative of the equation.
        schedule: hyper-parameters by the share of the training that is done, 0 to 1: the values of frozen operands.
        images: what a layer is called with beside ``x``, made of ``x``: for pictures, benchmarks and tests.
        pixels: the range of pixels it is meant for.
        kernel: the only kernel size it has, if there is one.
        keeps_weights: whether the weight of an ordinary convolution is a sensible start for its own.
    """

    name: str
    title: str
    equation: str
    reference: str
    make: Callable[..., Formula] | None = None
    layers: Mapping[str, Factory] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    gradient: str = ""
    schedule: Callable[[float], dict[str, float]] | None = None
    images: Callable[[Tensor], dict[str, Tensor]] | None = None
    pixels: tuple[float, float] = (-1.0, 1.0)
    kernel: int | None = None
    keeps_weights: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> dict[str, Any]:
        """What a call of the recipe can set, and what it is set to."""
        if self.make is None:
            return {}
        parameters = inspect.signature(self.make).parameters.values()
        return {p.name: self.settings.get(p.name, p.default) for p in parameters if p.name != "dims"}

    def __call__(self, **settings: Any) -> Recipe:
        """The recipe with other options.

        Raises:
            FormulaError: it has no such option.
        """
        if unknown := sorted(set(settings) - set(self.options)):
            known = ", ".join(f"{name}={value!r}" for name, value in self.options.items())
            raise FormulaError(
                f"the recipe `{self.name}` has no option `{unknown[0]}`",
                way_out=f"Its options are {known}." if known else "It has none; its layers have arguments.",
            )
        changed = replace(self, settings={**self.settings, **settings})
        changed.formula_of(2)  # what cannot be is refused here
        return changed

    @property
    def formula(self) -> Formula:
        """The formula, of images with two axes."""
        return self.formula_of(2)

    def formula_of(self, dims: int) -> Formula:
        """The formula for so many spatial axes.

        Raises:
            FormulaError: the recipe is a composition, and has no formula of its own.
        """
        if self.make is None:
            raise FormulaError(
                f"the recipe `{self.name}` is composed of several formulas", way_out=f"Use {self._layers_known()}."
            )
        by_dims = {"dims": dims} if "dims" in inspect.signature(self.make).parameters else {}
        return self.make(**by_dims, **self.settings)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of layers it can make."""
        if self.layers:
            return tuple(self.layers)
        operands = self.formula.parameters.values()
        if not any("o" in operand.axes for operand in operands):
            return ("Pool",)
        derived = any(o.scope in ("center", "offsets") for o in self.formula.derived.values())
        whole = self.formula.field is not None
        return ("Conv",) if derived or whole else ("Conv", "ConvTranspose")

    def __getattr__(self, name: str) -> Factory:
        kind, axes = name[:-2], name[-2:]
        if axes not in ("1d", "2d", "3d") or kind not in _KINDS:
            raise AttributeError(f"a Recipe has no attribute {name!r}")
        if kind not in self.kinds:
            raise AttributeError(f"the recipe `{self.name}` makes no {name}; it makes {self._layers_known()}")
        dims = int(axes[0])
        if kind in self.layers:
            return functools.partial(self.layers[kind], dims, **self.defaults)
        made = getattr(_KINDS[kind], name)
        defaults = {k: v for k, v in self.defaults.items() if not (kind == "ConvTranspose" and k == "padding_mode")}
        return functools.partial(made, formula=self.formula_of(dims), **defaults)

    def _layers_known(self) -> str:
        return ", ".join(f"{kind}1d/2d/3d" for kind in self.kinds)

    def draw(self) -> Figure:
        """The map, the derivative that training uses, and the equation; needs matplotlib."""
        from .picture import draw  # noqa: PLC0415 - matplotlib is an extra

        return draw(self)

    def __repr__(self) -> str:
        what = self.title if self.make is None else str(self.formula)
        return f"Recipe({self.name}: {what})"
