"""The picture that several benchmarks draw: how many times as long as ours everything else takes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt


def ratio(found: dict[str, Any], other: str, pass_: str) -> float | None:
    """How many times as long the other way takes; None where one of them was not timed."""
    ours, theirs = found.get("anyconv", {}).get(pass_), found.get(other, {}).get(pass_)
    return theirs / ours if ours and theirs else None


def draw(cells: dict[str, dict[str, Any]], ways: Iterable[str], title: str, path: Path) -> None:
    """A point for each cell and way; left of the line we lose."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 1.5 + 0.2 * len(cells)), sharey=True, layout="constrained")
    for axis, pass_ in zip(axes, ("forward", "step"), strict=True):
        for way in (way for way in ways if way != "anyconv"):
            points = [(r, i) for i, found in enumerate(cells.values()) if (r := ratio(found, way, pass_))]
            if points:
                axis.plot(*zip(*points, strict=True), linestyle="", marker="o", markersize=4, label=way)
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set(xscale="log", xlabel="times as long as anyconv", title="training step" if pass_ == "step" else pass_)
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(cells)), list(cells), fontsize=7)
    axes[0].invert_yaxis()
    axes[1].legend(fontsize=8)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path, dpi=110)
    plt.close(figure)
