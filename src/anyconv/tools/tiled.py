"""tiled: a layer on an image that is larger than memory, a tile at a time.

>>> layer = Conv2d(3, 4, 3, lambda x, w: -torch.abs(x - w), padding=1)
>>> whole = layer(images[0])
>>> torch.equal(tiled(layer, images[0], tile=3), whole)
True
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..errors import FormulaError, GeometryError, ShapeError
from ..functional import convolve
from ..geometry import Geometry, Ints, ints
from ..layer import Layer
from ..modules import Conv1d, Conv2d, Conv3d
from ..pooling import Pool1d, Pool2d, Pool3d


def tiled(
    layer: Layer, image: Any, out: Any = None, *, tile: int | tuple[int, ...] = 1024, progress: bool | None = None,
    **guides: Any,
) -> Any:  # fmt: skip
    """What ``layer`` makes of one image, of which a tile is read, computed and written at a time.

    The image may be a tensor, or an array on disk of any library whose arrays have a ``shape`` and are sliced like
    NumPy's: ``numpy.memmap``, zarr, h5py, dask. A tile is read with the pixels around it that its receptive fields see,
    so nothing is seen of the seams; a layer that runs kernels of this library gives the very bits of the whole image.
    (A *native* layer is torch's own convolution, which rounds as its size suggests.) No gradient is kept.

    Args:
        layer: a ``Conv1d/2d/3d`` or ``Pool1d/2d/3d`` of this library.
        image: ``(C_in, *size)``.
        out: where the output goes, ``(C_out, *sites)``, assigned to by slices; by default a new tensor. ``sites`` are
            ``layer.geometry.sites(size)``.
        tile: sites of a tile along each axis.
        progress: whether to show a bar, which needs tqdm; by default where a terminal looks on and tqdm is there.
        guides: the images that the layer's formula sees beside ``x``, like ``image``.

    Returns:
        ``out``.

    Raises:
        FormulaError: the layer is none of these, or sees values per site.
        GeometryError: its padding comes from the far side of the image.
        ShapeError: ``image`` or ``out`` has another shape.
    """
    cut = _Cut.of(layer, image, ints("tile", tile, layer.dims if isinstance(layer, Layer) else 1, least=1), guides)
    channels = cut.channels
    if out is None:
        like = next(iter(layer.parameters()), torch.empty(0))
        out = torch.empty((channels, *cut.sites), dtype=like.dtype)
    if tuple(out.shape) != (channels, *cut.sites):
        raise ShapeError(f"`out` must have shape {(channels, *cut.sites)}, got {tuple(out.shape)}")
    with torch.no_grad():
        for sites in _shown(cut.tiles(), cut.count, progress):
            y = cut.compute(sites)
            place = (slice(None), *sites)
            out[place] = y.to(out.device) if isinstance(out, Tensor) else y.cpu().numpy()
    return out


@dataclass(frozen=True)
class _Cut:
    """A layer, an image, and how the sites are cut."""

    layer: Any
    images: dict[str, Any]  # the image that is ``x``, called "", and the guides
    geometry: Geometry
    channels: int
    size: Ints
    sites: Ints
    tile: Ints

    @classmethod
    def of(cls, layer: Layer, image: Any, tile: Ints, guides: dict[str, Any]) -> _Cut:
        if not isinstance(layer, Conv1d | Conv2d | Conv3d | Pool1d | Pool2d | Pool3d):
            raise FormulaError(f"`layer` must be a convolution or a pooling of anyconv, got {type(layer).__name__}")
        if any(operand.scope == "per_site" for operand in layer.formula.parameters.values()):
            raise FormulaError(f"{layer.formula} sees values per site, of which nobody has an array that large")
        if len(image.shape) != layer.dims + 1:
            raise ShapeError(f"`image` must be (C_in, *size) with {layer.dims} axes, got shape {tuple(image.shape)}")
        size, channels, geometry = tuple(image.shape[1:]), int(image.shape[0]), layer.geometry
        if geometry.mode == "circular" and any(geometry.before + geometry.after):
            raise GeometryError(
                "padding_mode='circular' sees the far side of the image, which no tile holds",
                way_out="Pad the array, and give the layer no padding.",
            )
        if isinstance(layer, Pool1d | Pool2d | Pool3d):
            if layer.ceil_mode:
                raise GeometryError("`ceil_mode` sees beyond the image, which no tile holds", way_out="Pad the array.")
            geometry = replace(geometry, groups=channels)
        out_channels = channels if isinstance(layer, Pool1d | Pool2d | Pool3d) else layer.out_channels
        return cls(layer, {"": image, **guides}, geometry, out_channels, size, geometry.sites(size), tile)

    @property
    def count(self) -> int:
        """How many tiles there are."""
        return math.prod(math.ceil(s / t) for s, t in zip(self.sites, self.tile, strict=True))

    def tiles(self) -> Iterable[tuple[slice, ...]]:
        """The sites of each."""
        along = [[slice(a, min(a + t, s)) for a in range(0, s, t)] for s, t in zip(self.sites, self.tile, strict=True)]
        return itertools.product(*along)

    def compute(self, sites: tuple[slice, ...]) -> Tensor:
        """The output of a tile: its pixels and those around it, padded only where the image ends."""
        g = self.geometry
        pixels, before, after = [], [], []
        for s, n, k, d, stride, pad in zip(sites, self.size, g.kernel, g.dilation, g.stride, g.before, strict=True):
            first, last = s.start * stride - pad, (s.stop - 1) * stride - pad + d * (k - 1) + 1
            pixels.append(slice(max(first, 0), min(last, n)))
            before.append(max(-first, 0))
            after.append(max(last - n, 0))
        spans = zip(pixels, before, after, strict=True)
        if g.mode == "reflect" and any(max(b, a) >= p.stop - p.start for p, b, a in spans):
            raise GeometryError(  # what a border reflects has to lie in its tile; more pixels would be more sites
                f"tiles of {self.tile} sites are too small for padding_mode='reflect'", way_out="Use larger tiles."
            )
        layer = self.layer
        like = next(iter(layer.parameters()), None)
        images = {name: _read(image, pixels, like) for name, image in self.images.items()}
        x = images.pop("")
        return convolve(
            x, layer._params(images), layer.bias, formula=layer.formula,
            geometry=replace(g, before=tuple(before), after=tuple(after)), out_channels=self.channels,
            backend=layer.backend,
        )  # fmt: skip


def _read(image: Any, pixels: list[slice], like: Tensor | None) -> Tensor:
    place = (slice(None), *pixels)
    part = image[place]
    if not isinstance(part, Tensor):
        import numpy as np  # noqa: PLC0415 - who has arrays has it

        part = torch.from_numpy(np.ascontiguousarray(part))
    return part if like is None else part.to(like.device, like.dtype)


def _shown(tiles: Iterable[Any], count: int, progress: bool | None) -> Iterable[Any]:
    if progress is None:
        progress = sys.stderr.isatty() and importlib.util.find_spec("tqdm") is not None
    if not progress:
        return tiles
    try:
        from tqdm import tqdm  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise FormulaError("`progress=True` needs tqdm", way_out="pip install tqdm") from error
    shown: Iterable[Any] = tqdm(tiles, total=count, desc="tiles", unit="tile")
    return shown
