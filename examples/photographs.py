"""Photographs, filtered by formulas and drawn as a grid."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from skimage import data
from torch import Tensor
from tqdm import tqdm

import anyconv

from .formulas import FILTERS

PHOTOGRAPHS = ("camera", "astronaut", "chelsea")  # they ship inside scikit-image


def load(name: str) -> Tensor:
    """A photograph as ``(C, H, W)`` in [0, 1], half its size."""
    pixels = torch.from_numpy(getattr(data, name)().copy()).float() / 255
    channels = pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1)
    return channels[:, ::2, ::2].contiguous()


def apply(title: str, photograph: Tensor) -> Tensor:
    """Each color channel filtered on its own, then stretched to what can be shown."""
    formula, kernel = FILTERS[title]
    channels = photograph.shape[0]
    w = kernel.expand(channels, 1, *kernel.shape)
    y = anyconv.conv2d(photograph, w, formula, groups=channels, padding="same", padding_mode="skip")
    y = torch.log1p(y) if formula.reduction.name == "prod" else y
    low, high = torch.quantile(y, torch.tensor([0.01, 0.99]))
    stretched: Tensor = ((y - low) / (high - low)).clamp(0, 1)
    return stretched


def draw(path: Path) -> None:
    """Every photograph under every formula, on one sheet."""
    rows, columns = len(PHOTOGRAPHS), 1 + len(FILTERS)
    figure, axes = plt.subplots(rows, columns, figsize=(2.3 * columns, 2.35 * rows), layout="constrained")
    with tqdm(total=rows * len(FILTERS), desc="photographs", unit="filter") as progress:
        for line, name in zip(axes, PHOTOGRAPHS, strict=True):
            photograph = load(name)
            pictures = {name: photograph}
            for title in FILTERS:
                pictures[title] = apply(title, photograph)
                progress.update()
            for axis, (title, picture) in zip(line, pictures.items(), strict=True):
                axis.imshow(picture.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1)
                axis.set_axis_off()
                formula = str(FILTERS[title][0]).replace(" where ", "\nwhere ") if title in FILTERS else "photograph"
                axis.set_title(f"{title}\n{formula}", fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
