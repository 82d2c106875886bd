"""The library in ten seconds: the pre-commit test, and the shortest tour of what it does."""

import math

import pytest
import torch

import anyconv

pytestmark = pytest.mark.tiny


def test_tour():
    def tangent(x, w):
        return torch.tan(x + w)

    formula = anyconv.Formula(tangent, reduce="prod")
    assert str(formula) == "y = prod(tan(x + w))"

    layer = anyconv.Conv2d(3, 16, kernel_size=3, formula=formula, padding=1)
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    y = layer(images)
    assert y.shape == (2, 16, 8, 8)
    y.sum().backward()
    assert images.grad.shape == images.shape
    assert layer.w.grad.shape == layer.w.shape

    x, w = torch.tensor([[[0.1, 0.2]]]), torch.tensor([[[0.3, 0.4]]])
    assert anyconv.conv1d(x, w, formula).item() == pytest.approx(math.tan(0.4) * math.tan(0.6), rel=1e-6)

    assert "d/dw        t0 = tan(x + w)" in anyconv.explain(layer)
    assert torch.equal(anyconv.conv2d(images, layer.w, lambda x, w: x * w), torch.nn.functional.conv2d(images, layer.w))


def test_a_mistake_is_told_with_the_way_out():
    with pytest.raises(anyconv.AnyConvError, match=r"write `torch.where\(condition, a, b\)`"):
        anyconv.Formula(lambda x, w: x * w if x > 0 else 0)
