"""Published layers, ready to use: ``anyconv.recipes.adder.Conv2d(16, 32, 3)``.

    >>> anyconv.recipes.sharpened_cosine
    Recipe(sharpened_cosine: ...)
    >>> "adder" in dir(anyconv.recipes)
    True

One file in ``shelf`` is one layer; this page finds it by its name, when it is first asked for.
"""

import pkgutil
from importlib import import_module

from . import shelf
from .recipe import Recipe as Recipe

SHELF: tuple[str, ...] = tuple(sorted(m.name for m in pkgutil.iter_modules(shelf.__path__) if m.name[0] != "_"))
__all__ = ["Recipe", *SHELF]  # noqa: PLE0604 - strings, all of them


def __getattr__(name: str) -> Recipe:
    if name not in SHELF:
        raise AttributeError(f"there is no recipe {name!r}; there are {', '.join(SHELF)}")
    recipe: Recipe = import_module(f"{shelf.__name__}.{name}").RECIPE
    globals()[name] = recipe
    return recipe


def __dir__() -> list[str]:
    return sorted([*globals(), *SHELF])
