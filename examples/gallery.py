"""Every recipe at a glance: ``python -m examples.gallery`` draws `docs/recipes.png`.

Each square is what a layer makes of one pixel, over the pixels it is meant for: for five filters, or neighborhoods.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from tqdm import tqdm

from anyconv import recipes
from anyconv.recipes.picture import curves

OUTPUT = Path(__file__).parents[1] / "docs" / "recipes.png"
COLUMNS = 8


def draw(names: Sequence[str], path: Path) -> None:
    """A square for each recipe."""
    rows = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(1.9 * COLUMNS, 1.7 * rows), layout="constrained")
    squares = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for name, axis in zip(tqdm(names, unit="recipe"), squares, strict=False):
        for value, _ in curves(getattr(recipes, name)):
            axis.plot(*value, linewidth=1)
        axis.set_title(name.replace("_", " "), fontsize=8)
        axis.tick_params(labelsize=5)
    for axis in squares:  # those that are left
        axis.set_axis_off()
    figure.savefig(path, dpi=90)


def main() -> None:
    """Draw all."""
    draw(recipes.SHELF, OUTPUT)
    print(OUTPUT.name)


if __name__ == "__main__":
    main()
