"""convert: what becomes of the convolutions of a network, and what is said of it."""

import copy

import pytest
import torch
from checks import assert_same
from torch import nn

import anyconv
from anyconv import recipes
from anyconv.errors import FormulaError

KEEPING = [n for n in recipes.SHELF if (r := getattr(recipes, n)).keeps_weights and r.images is None]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.again = self.first
        self.second = nn.Conv2d(4, 4, (1, 3), stride=2, padding="valid", dilation=2, bias=False, padding_mode="reflect")

    def forward(self, x):
        return self.second(self.again(self.first(x)))


class Special(nn.Conv2d):
    pass


def network():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), Block(), nn.ConvTranspose2d(4, 4, 2), nn.LazyConv2d(3, 1), Special(4, 4, 1),
        nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)), nn.Flatten(), nn.LazyLinear(3),
    )  # fmt: skip


def test_the_report():
    conversion = anyconv.convert(network(), recipes.adder, where=lambda name, layer: name != "0")
    assert str(conversion) == "\n".join([
        "2 of 7 convolutions converted to AdderNet",
        "  1.first: Conv2d(4, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), groups=2) -> adder, its bias kept, its weights begin anew",
        "  1.second: Conv2d(4, 4, kernel_size=(1, 3), stride=(2, 2), padding=valid, dilation=(2, 2), bias=False, padding_mode=reflect) -> adder, its weights begin anew",
        "  0: left, `where` leaves it out",
        "  2: left, it is transposed",
        "  3: left, it is lazy, and has no shape yet",
        "  4: left, Special is a subclass, and may do more",
        "  5: left, its weight is parametrized",
    ])  # fmt: skip


def test_it_keeps_geometry_and_leaves_the_model_alone():
    model = network()
    before = copy.deepcopy(model[1].state_dict())
    block = anyconv.convert(model, recipes.adder).model[1]
    assert isinstance(model[1].first, nn.Conv2d)
    for name, value in model[1].state_dict().items():
        assert_same(value, before[name])
    assert block.first is block.again
    assert isinstance(block.first, anyconv.Conv2d)
    x = torch.randn(2, 4, 9, 9)
    assert block(x).shape == model[1](x).shape
    assert block.second.geometry.mode == "reflect"
    assert block.second.bias is None
    assert_same(block.first.bias, model[1].first.bias)


@pytest.mark.parametrize("name", KEEPING)
def test_weights_that_mean_the_same_are_kept(name):
    layer = nn.Conv2d(3, 4, 3, dtype=torch.float64)
    layer.weight.requires_grad_(False)
    conversion = anyconv.convert(layer, getattr(recipes, name))
    assert "its weights and bias kept" in str(conversion)
    assert "the model: " in str(conversion)
    made = conversion.model
    assert_same(made.w, layer.weight)
    assert not made.w.requires_grad
    assert made.bias.requires_grad
    assert made.w is not layer.weight


def test_a_converted_product_is_the_same_network():
    """EuclidNet's homotopy begins as the product."""
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval()
    converted = anyconv.convert(model, recipes.euclidean).model
    assert not converted[0].training
    for layer in (converted[0], converted[2]):
        layer.homotopy.fill_(0.0)
    x = torch.randn(1, 2, 8, 8)
    torch.testing.assert_close(converted(x), model(x))


def test_one_and_three_axes():
    for dims in (1, 3):
        model = nn.Sequential(getattr(nn, f"Conv{dims}d")(2, 3, 3))
        made = anyconv.convert(model, recipes.cosine).model[0]
        assert isinstance(made, getattr(anyconv, f"Conv{dims}d"))


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (recipes.soft_pool, "has no filters"),
        (recipes.opening, "has no filters"),
        (recipes.locally_connected, "need to know more than a convolution"),
        (recipes.partial, "is called with `mask=` beside `x`"),
        ("adder", "`recipe` must be a recipe such as anyconv.recipes.adder, got 'adder'"),
    ],
)
def test_recipes_that_cannot_stand_for_a_convolution(recipe, message):
    with pytest.raises(FormulaError, match=message):
        anyconv.convert(network(), recipe)
