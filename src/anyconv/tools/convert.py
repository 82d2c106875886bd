"""convert: the convolutions of a network become layers of a recipe.

>>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3))
>>> print(convert(network, anyconv.recipes.cosine))
2 of 2 convolutions converted to cosine normalization
  0: Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1)) -> cosine, its weights and bias kept
  2: Conv2d(16, 16, kernel_size=(3, 3), stride=(1, 1)) -> cosine, its weights and bias kept
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize

from ..errors import FormulaError
from ..interchange import Ordinary, arguments_of, take_over
from ..layer import Layer
from ..operands import FROM_CALL
from ..recipes import Recipe

Where = Callable[[str, nn.Module], bool]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_RELATIVES = (*_CONVOLUTIONS, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


@dataclass(frozen=True)
class Conversion:
    """A converted network, and a report of it; ``str`` shows the report.

    Args:
        model: the network, with the new layers in it.
        title: of the recipe.
        changed: by the name of a layer, what became of it.
        left: by the name of a layer, what it is and why it was left.
    """

    model: nn.Module
    title: str
    changed: dict[str, str]
    left: dict[str, str]

    def __str__(self) -> str:
        total = len(self.changed) + len(self.left)
        lines = [f"{len(self.changed)} of {total} convolutions converted to {self.title}"]
        lines += [f"  {name or 'the model'}: {text}" for name, text in self.changed.items()]
        lines += [f"  {name or 'the model'}: left, {text}" for name, text in self.left.items()]
        return "\n".join(lines)


def convert(model: nn.Module, recipe: Recipe, *, where: Where | None = None) -> Conversion:
    """A copy of ``model`` whose ``nn.Conv1d/2d/3d`` are layers of ``recipe``, of the same geometry.

        >>> network = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3))
        >>> print(convert(network, anyconv.recipes.adder, where=lambda name, layer: name != "0"))
        1 of 2 convolutions converted to AdderNet
          2: Conv2d(8, 8, kernel_size=(3, 3), stride=(1, 1)) -> adder, its bias kept, its weights begin anew
          0: left, `where` leaves it out

    A weight is kept where it means much the same in the new layer (``Recipe.keeps_weights``), and a bias always. A
    layer that the network uses twice is still one layer. Dtypes, devices and frozen parameters stay as they are.

    Args:
        model: any module; it is not changed.
        recipe: one with layers of filters, called with an image alone.
        where: of a layer's name and the layer, whether to convert it: AdderNet leaves its first as it is.

    Raises:
        FormulaError: the recipe pools, or needs images beside ``x``, or sizes that a convolution does not know.
    """
    _check(recipe)
    model = copy.deepcopy(model)
    changed: dict[str, str] = {}
    left: dict[str, str] = {}
    made: dict[nn.Module, nn.Module] = {}
    for name, layer in list(model.named_modules()):
        if not isinstance(layer, _RELATIVES):
            continue
        if reason := _reason_to_leave(name, layer, where):
            left[name] = reason
        else:
            assert isinstance(layer, _CONVOLUTIONS)
            made[layer], kept = _converted(layer, recipe)
            changed[name] = f"{layer} -> {recipe.name}, {kept}"
    return Conversion(_replaced(model, made), recipe.title, changed, left)


def _check(recipe: Recipe) -> None:
    if not isinstance(recipe, Recipe):
        raise FormulaError(f"`recipe` must be a recipe such as anyconv.recipes.adder, got {recipe!r}")
    way_out = "Build the layers by hand."
    if "Conv" not in recipe.kinds:
        raise FormulaError(f"the recipe `{recipe.name}` has no filters and cannot stand for a convolution")
    if recipe.layers:
        raise FormulaError(
            f"the layers of the recipe `{recipe.name}` need to know more than a convolution", way_out=way_out
        )
    images = [n for n, o in recipe.formula.parameters.items() if o.scope in FROM_CALL]
    if images:
        raise FormulaError(f"the recipe `{recipe.name}` is called with `{images[0]}=` beside `x`", way_out=way_out)


def _reason_to_leave(name: str, layer: nn.Module, where: Where | None) -> str:
    if where is not None and not where(name, layer):
        return "`where` leaves it out"
    if isinstance(layer, nn.modules.lazy.LazyModuleMixin):
        return "it is lazy, and has no shape yet"
    if parametrize.is_parametrized(layer):
        return "its weight is parametrized"
    if type(layer) not in _CONVOLUTIONS:
        transposed = not isinstance(layer, _CONVOLUTIONS)
        return "it is transposed" if transposed else f"{type(layer).__name__} is a subclass, and may do more"
    return ""


def _converted(layer: Ordinary, recipe: Recipe) -> tuple[Layer, str]:
    """The new layer, and what it kept."""
    make = getattr(recipe, type(layer).__name__)
    arguments = arguments_of(layer)
    if layer.padding_mode == "zeros":  # the default of nn.ConvNd says nothing; the recipe's own is better
        del arguments["padding_mode"]
    made: Layer = make(**arguments)
    kept = take_over(made, layer, "w" if recipe.keeps_weights else None)
    words = [f"its {' and '.join(kept)} kept"] if kept else []
    return made, ", ".join(words + ([] if recipe.keeps_weights else ["its weights begin anew"]))


def _replaced(model: nn.Module, made: dict[nn.Module, nn.Module]) -> nn.Module:
    """The model with the new layers in every place of the old."""
    if model in made:
        return made[model]
    for path, layer in list(model.named_modules(remove_duplicate=False)):
        if layer in made:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, made[layer])
    return model
