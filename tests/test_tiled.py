"""Images in tiles: the very bits of the whole image, arrays of any library, a bar."""

import importlib

import numpy as np
import pytest
import torch
from cells import cell
from checks import assert_same

import anyconv
from anyconv import Formula, tiled

ABSOLUTE = Formula(lambda x, w: -torch.abs(x - w))
LAYERS = {
    "one channel": lambda mode: anyconv.Conv2d(1, 4, 5, ABSOLUTE, padding=2, padding_mode=mode),
    "strided, dilated": lambda mode: anyconv.Conv2d(3, 16, (3, 2), Formula(lambda x, w: torch.tanh(x * w), "logsumexp"), stride=(2, 3), dilation=(2, 1), padding=(2, 1), padding_mode=mode),
    "depthwise": lambda mode: anyconv.Conv2d(8, 8, 3, Formula(lambda x, w: x + w, "max"), groups=8, padding=1, padding_mode=mode),
    "centers": lambda mode: anyconv.Conv2d(2, 3, 3, Formula(lambda x, c, w: torch.exp(-((x - c) ** 2)) * w, operands={"c": anyconv.center()}), padding=1, padding_mode=mode),
    "median": lambda mode: anyconv.Pool2d(3, Formula(lambda x: anyconv.sort_network(x)[4], field=(3, 3)), stride=1, padding=1, padding_mode="reflect" if mode == "skip" else mode),
}  # fmt: skip
CHANNELS = {"one channel": 1, "strided, dilated": 3, "depthwise": 8, "centers": 2, "median": 2}


@pytest.mark.sample(4)
@cell("large images", "`anyconv.tiled`: the bits of the whole image, any padding but circular")
@pytest.mark.parametrize("mode", ["zeros", "skip", "reflect", "replicate", 0.5])
@pytest.mark.parametrize("name", LAYERS)
def test_seams_are_not_seen(name, mode):
    layer, image = LAYERS[name](mode), torch.randn(CHANNELS[name], 61, 47)
    whole = layer(image).detach()
    for tile in (8, (13, 40), 100):
        assert_same(tiled(layer, image, tile=tile), whole)


def test_a_wrong_seam_would_be_seen(monkeypatch):
    layer, image = LAYERS["one channel"]("zeros"), torch.randn(1, 30, 30)
    monkeypatch.setattr(
        "anyconv.tools.tiled._read", lambda image, pixels, like: torch.roll(image[(slice(None), *pixels)], 1, 2)
    )
    with pytest.raises(AssertionError, match="numbers differ"):
        assert_same(tiled(layer, image, tile=8), layer(image).detach())


@cell("large images", "arrays on disk: numpy.memmap, zarr, dask")
def test_arrays_on_disk(tmp_path):
    zarr, da = pytest.importorskip("zarr"), pytest.importorskip("dask.array")
    layer = LAYERS["one channel"]("reflect")
    image = np.random.default_rng(0).random((1, 90, 70), dtype=np.float32)
    want = layer(torch.from_numpy(image)).detach()
    mapped = np.lib.format.open_memmap(tmp_path / "image.npy", mode="w+", dtype=np.float32, shape=image.shape)
    mapped[:] = image
    stored = zarr.create_array(
        store=str(tmp_path / "image.zarr"), shape=image.shape, chunks=(1, 32, 32), dtype="float32"
    )
    stored[:] = image
    for i, given in enumerate((mapped, stored, da.from_array(image, chunks=(1, 40, 40)))):
        out = zarr.create_array(
            store=str(tmp_path / f"out{i}.zarr"),
            shape=tuple(want.shape),
            chunks=(4, 32, 32),
            dtype="float32",
        )
        assert tiled(layer, given, out, tile=25) is out
        assert_same(torch.from_numpy(np.asarray(out[:])), want)


def test_guides_and_one_or_three_axes():
    partial = Formula(lambda x, m, w: x * m * torch.tanh(w), operands={"m": anyconv.guide()})
    layer, image, mask = anyconv.Conv2d(2, 3, 3, partial, padding=1), torch.randn(2, 20, 17), torch.rand(1, 20, 17)
    assert_same(tiled(layer, image, tile=7, m=mask), layer(image, m=mask).detach())
    for dims, size in ((1, (50,)), (3, (9, 8, 7))):
        layer, image = getattr(anyconv, f"Conv{dims}d")(2, 3, 3, ABSOLUTE, stride=2, padding=1), torch.randn(2, *size)
        assert_same(tiled(layer, image, tile=3), layer(image).detach())


def test_a_bar_is_shown(capsys):
    layer = LAYERS["one channel"]("zeros")
    tiled(layer, torch.randn(1, 20, 20), tile=10, progress=True)
    assert "4/4" in capsys.readouterr().err
    tiled(layer, torch.randn(1, 20, 20), tile=10)
    assert not capsys.readouterr().err


def test_what_cannot_be_tiled():
    layer, image = LAYERS["one channel"]("zeros"), torch.randn(1, 20, 20)
    for wrong, arguments, message in (
        (torch.nn.Conv2d(1, 1, 1), (image,), "`layer` must be a convolution or a pooling of anyconv, got Conv2d"),
        (LAYERS["one channel"]("circular"), (image,), "circular"),
        (anyconv.Pool2d(3, Formula(lambda x: x, "max"), ceil_mode=True), (image,), "ceil_mode"),
        (layer, (image[0],), r"`image` must be \(C_in, \*size\)"),
        (layer, (image, torch.empty(4, 3, 3)), r"`out` must have shape \(4, 20, 20\), got \(4, 3, 3\)"),
        (
            anyconv.Conv2d(1, 1, 3, Formula(lambda x, v, w: x * w * v, operands={"v": anyconv.per_site("")})),
            (image,),
            "values per site",
        ),
    ):
        with pytest.raises(anyconv.AnyConvError, match=message):
            tiled(wrong, *arguments)
    with pytest.raises(anyconv.AnyConvError, match="too small for padding_mode='reflect'"):
        tiled(anyconv.Conv2d(1, 1, 3, ABSOLUTE, padding=2, padding_mode="reflect"), image, tile=1)


def test_the_example_of_a_large_image(tmp_path, monkeypatch):
    pytest.importorskip("zarr")
    large_image = importlib.import_module("examples.large_image")
    monkeypatch.setattr(large_image, "CHUNK", 100)
    assert large_image.main(["--size", "450", "--folder", str(tmp_path)]) == 0.0
    image, wrong = (
        large_image.star_field(tmp_path / "again.zarr", 450),
        large_image.new_array(tmp_path / "wrong.zarr", 450),
    )
    assert large_image.largest_difference(large_image.bilateral(), image, wrong) > 0.01
