"""The demo's parts, made small."""

import matplotlib as mpl
import pytest
import torch

from anyconv import recipes
from examples import convert, demo, digits, gallery, photographs
from examples.formulas import FILTERS, LEARNED

mpl.use("Agg")


def test_digits_are_learned_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(
        digits, "fronts", lambda: {k: v for k, v in ALL().items() if k in ("adder", "nn.Conv2d", "nothing")}
    )
    runs = demo.learn(epochs=3)
    assert runs["adder"].accuracy > 0.8
    assert runs["adder"].losses[-1] < 0.5 * runs["adder"].losses[0]
    digits.draw(runs, tmp_path / "digits.png")
    assert (tmp_path / "digits.png").stat().st_size > 10_000
    text = demo.table(runs)
    assert "adder" in text
    assert f"{runs['adder'].accuracy:.1%}" in text


ALL = digits.fronts


@pytest.mark.parametrize("title", LEARNED)
def test_each_learned_formula_has_finite_gradients(title):
    layer = digits.fronts()[title]()
    data = digits.load()
    layer(data.train[:32]).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("title", FILTERS)
def test_each_filter_makes_a_picture(title):
    photograph = photographs.load("camera")[:, :64, :64]
    picture = photographs.apply(title, photograph)
    assert picture.shape == photograph.shape
    assert picture.isfinite().all()
    assert picture.std() > 0.05


def test_the_gallery_is_drawn(tmp_path):
    gallery.draw(["adder", "opening"], tmp_path / "recipes.png")
    assert (tmp_path / "recipes.png").stat().st_size > 3000


@pytest.mark.thorough
def test_twins_are_trained_and_drawn(tmp_path):
    conversion, runs = convert.twins(recipes.cosine, epochs=1)
    assert len(conversion.changed) == 7
    assert list(conversion.left) == ["0.0"]
    assert all(run.losses[-1] < 0.9 * run.losses[0] for run in runs.values())
    convert.draw(runs, tmp_path / "convert.png")
    assert (tmp_path / "convert.png").stat().st_size > 10_000


def test_photographs_are_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", ("camera", "chelsea"))
    monkeypatch.setattr(photographs, "load", lambda name: torch.rand(3, 16, 16))
    photographs.draw(tmp_path / "photographs.png")
    assert (tmp_path / "photographs.png").stat().st_size > 10_000
