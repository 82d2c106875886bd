"""An image larger than memory, filtered a tile at a time: ``python -m examples.large_image``.

A made-up star field of 20,000 x 20,000 pixels is written to disk, tile by tile, as a zarr array; a bilateral filter (a
A made-up star field of 20,000 x 20,000 pixels is written to disk, row by row, as a zarr array; a bilateral filter (a
Regions drawn at random are then computed directly and compared, and the largest memory that the process took is
printed. ``--size 2000`` takes seconds.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from tqdm import tqdm

import anyconv

CHUNK, RADIUS, REGIONS, SEEN = 1000, 2, 12, 300


def bilateral() -> anyconv.Conv2d:
    """Tomasi and Manduchi 1998, with a Gaussian of distances and one of differences; the border is left out."""
    formula = anyconv.Formula(
        lambda x, c, d: (
            x * torch.exp(-((x - c) ** 2) * 8 - (d[0] ** 2 + d[1] ** 2) / 4),
            torch.exp(-((x - c) ** 2) * 8 - (d[0] ** 2 + d[1] ** 2) / 4),
        ),
        ("sum", "sum"),
        epilogue=lambda weighed, weights: weighed / weights,
        operands={"c": anyconv.center(), "d": anyconv.offsets(2)},
    )
    side = 2 * RADIUS + 1
    return anyconv.Conv2d(1, 1, side, formula, padding=RADIUS, padding_mode="skip", bias=False)


def new_array(path: Path, size: int) -> Any:
    """An empty array on disk, ``(1, size, size)``."""
    shutil.rmtree(path, ignore_errors=True)
    return zarr.create_array(store=str(path), shape=(1, size, size), chunks=(1, CHUNK, CHUNK), dtype="float32")


def star_field(path: Path, size: int) -> Any:
    """Noise, a slope of light, and a star in every ten thousand pixels; written one row of chunks at a time."""
    image, random = new_array(path, size), np.random.default_rng(0)
    for first in tqdm(range(0, size, CHUNK), desc="stars", unit="row"):
        rows = min(CHUNK, size - first)
        part = random.normal(0.1, 0.02, (rows, size)).astype(np.float32)
        part += np.linspace(0.0, 0.2, size, dtype=np.float32)
        count = part.size // 10_000
        part[random.integers(0, rows, count), random.integers(0, size, count)] += 1.0
        image[0, first : first + rows] = part
    return image


def largest_difference(layer: anyconv.Conv2d, image: Any, filtered: Any) -> float:
    """Between regions of the result and the layer on just these, with what they see around them."""
    random, size, worst = np.random.default_rng(1), image.shape[1], 0.0
    seen = min(SEEN, size - 2 * RADIUS)
    for _ in range(REGIONS):
        a, b = random.integers(0, size - seen - 2 * RADIUS + 1, 2)
        region = torch.from_numpy(image[:, a : a + seen + 2 * RADIUS, b : b + seen + 2 * RADIUS])
        with torch.no_grad():
            want = layer(region)[:, RADIUS:-RADIUS, RADIUS:-RADIUS]
        got = filtered[:, a + RADIUS : a + RADIUS + seen, b + RADIUS : b + RADIUS + seen]
        worst = max(worst, float((torch.from_numpy(got) - want).abs().max()))
    return worst


def main(given: Sequence[str] | None = None) -> float:
    """From the command line; the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=20_000, help="pixels along each side")
    parser.add_argument("--folder", type=Path, default=Path("output") / "large", help="room for two such images")
    arguments = parser.parse_args(given)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    image = star_field(arguments.folder / "image.zarr", arguments.size)
    filtered, layer = new_array(arguments.folder / "filtered.zarr", arguments.size), bilateral()
    start = time.perf_counter()
    anyconv.tiled(layer, image, filtered, tile=2 * CHUNK, progress=True)
    took = time.perf_counter() - start
    difference = largest_difference(layer, image, filtered)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{arguments.size} x {arguments.size} pixels in {took:.0f} s; {REGIONS} regions differ by {difference}; "
        f"{memory:.2f} GiB at most"
    )
    return difference


if __name__ == "__main__":
    main()
