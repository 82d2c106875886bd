"""The layers, as a user of torch.nn expects them."""

import copy
import gc
import pickle
import warnings
import weakref

import pytest
import torch
from checks import assert_near, assert_same
from torch import nn
from torch.utils.checkpoint import checkpoint

import anyconv
from anyconv import Formula
from anyconv.reductions import BUILTIN


def absolute(x, w):
    return -torch.abs(x - w)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_parameters_begin_as_nn_conv_nds(dims):
    torch.manual_seed(3)
    theirs = getattr(nn, f"Conv{dims}d")(4, 6, 3, groups=2)
    torch.manual_seed(3)
    ours = getattr(anyconv, f"Conv{dims}d")(4, 6, 3, lambda x, weight: x * weight, groups=2)
    assert list(ours.state_dict()) == list(theirs.state_dict()) == ["weight", "bias"]
    assert_same(ours.weight, theirs.weight)
    assert_same(ours.bias, theirs.bias)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    theirs.load_state_dict(ours.state_dict(), strict=True)


def test_each_operand_is_a_parameter_of_its_own_name_shape_and_start():
    formula = Formula(
        lambda x, w, p, q, s: torch.abs(x * q - w) ** p * s,
        operands={
            "p": anyconv.per_filter(init=2.0),
            "q": anyconv.per_channel(init=nn.init.ones_),
            "s": anyconv.shared(init=-1),
            "w": anyconv.per_tap(init=lambda t: nn.init.normal_(t, std=0.1)),
        },
    )
    layer = anyconv.Conv2d(4, 6, (3, 5), formula, groups=2)
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes == {"w": (6, 2, 3, 5), "p": (6,), "q": (4,), "s": (), "bias": (6,)}
    assert (layer.p == 2).all()
    assert (layer.q == 1).all()
    assert layer.s == -1
    assert 0.05 < layer.w.std() < 0.15
    before = layer.w.clone()
    layer.reset_parameters()
    assert not torch.equal(before, layer.w)


def test_without_a_formula_it_is_the_ordinary_convolution():
    layer = anyconv.Conv2d(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(layer(x), nn.functional.conv2d(x, layer.w, layer.bias, padding=1))


def test_a_layer_trains():
    torch.manual_seed(0)
    layer = anyconv.Conv2d(1, 2, 3, absolute)
    target = anyconv.Conv2d(1, 2, 3, absolute)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    x = torch.randn(16, 1, 8, 8)
    losses = []
    for _ in range(60):
        loss = (layer(x) - target(x).detach()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.05 * losses[0]


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (lambda: anyconv.Conv2d(3, 16, 3, Formula(lambda x, w: torch.tan(x + w), "prod"), padding=1),
         "Conv2d(3, 16, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), y = prod(tan(x + w)) + bias)"),
        (lambda: anyconv.Conv1d(4, 8, 5, absolute, stride=2, dilation=3, groups=4, bias=False, padding="valid"),
         "Conv1d(4, 8, kernel_size=(5,), stride=(2,), padding='valid', dilation=(3,), groups=4, y = sum(-abs(x - w)))"),
        (lambda: anyconv.Conv3d(1, 1, 2, lambda x, w: (x - w) * (x - w), padding_mode="skip", backend="reference"),
         "Conv3d(1, 1, kernel_size=(2, 2, 2), stride=(1, 1, 1), padding_mode='skip', backend='reference', "
         "y = sum(t0 * t0) + bias where t0 = x - w)"),
    ],
)  # fmt: skip
def test_repr_shows_the_mathematics(layer, text):
    assert repr(layer()) == text


def test_inheritance():
    class Power(anyconv.Conv2d):
        reduce = "mean"
        operands = {"p": anyconv.per_filter(init=1.5)}

        def map(self, x, w, p):
            return torch.abs(x - w) ** p

    layer = Power(2, 3, 3)
    assert str(layer.formula) == "y = mean(abs(x - w) ** p)"
    assert layer.formula.name == "Power"
    want = anyconv.conv2d(x := torch.randn(1, 2, 5, 5), (layer.w, layer.p), Formula(
        lambda x, w, p: torch.abs(x - w) ** p, "mean", operands={"p": anyconv.per_filter()}), layer.bias)  # fmt: skip
    assert_same(layer(x), want)


def test_a_formulas_meaning_is_fixed_when_it_is_made():
    scale = 2.0
    layer = anyconv.Conv1d(1, 1, 1, lambda x, w: torch.abs(x) * scale, bias=False)
    x = torch.ones(1, 1, 1)
    assert layer(x).item() == 2.0
    scale = 5.0
    assert layer(x).item() == 2.0
    assert str(layer.formula) == "y = sum(abs(x) * 2)"


def test_formulas_are_values():
    one, two = Formula(lambda x, w: x + w, "max"), Formula(lambda x, w: torch.add(x, w), "max")
    assert one == two
    assert hash(one) == hash(two)
    assert one != Formula(lambda x, w: x + w, "min")
    assert one != Formula(lambda x, w: x + w, "max", operands={"w": anyconv.per_filter()})
    assert repr(one) == "Formula(y = max(x + w))"
    with pytest.raises(AttributeError):
        one.reduce = "min"


def test_arguments_with_a_default_keep_it():
    def power(x, w, p=3.0):
        return (x - w) ** p

    assert list(Formula(power).parameters) == ["w"]
    assert list(Formula(power, operands={"p": anyconv.shared()}).parameters) == ["w", "p"]
    exponents = [Formula(lambda x, w, p=p: (x - w) ** p) for p in (1.5, 2.5)]
    assert [str(f) for f in exponents] == ["y = sum((x - w) ** 1.5)", "y = sum((x - w) ** 2.5)"]


def test_copies_moves_and_state():
    layer = anyconv.Conv2d(2, 3, 3, absolute)
    twin = copy.deepcopy(layer)
    x = torch.randn(1, 2, 5, 5)
    assert_same(twin(x), layer(x))
    assert_same(pickle.loads(pickle.dumps(layer))(x), layer(x))
    other = anyconv.Conv2d(2, 3, 3, absolute)
    other.load_state_dict(layer.state_dict())
    assert_same(other(x), layer(x))
    assert layer.double()(x.double()).dtype == torch.float64
    assert anyconv.Conv2d(2, 3, 3, absolute, dtype=torch.bfloat16, device="cpu").w.dtype == torch.bfloat16
    assert anyconv.Conv2d(2, 3, 3, absolute, device="meta")(x.to("meta")).shape == (1, 3, 3, 3)


def test_activation_checkpointing():
    layer = anyconv.Conv2d(2, 3, 3, Formula(lambda x, w: torch.tanh(x - w), "max"))
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    want = torch.autograd.grad(layer(x).square().sum(), (x, layer.w))
    got = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).square().sum(), (x, layer.w))
    for a, b in zip(got, want, strict=True):
        assert_same(a, b)


def test_compiled_it_computes_the_same():
    layer = anyconv.Conv2d(2, 3, 3, Formula(lambda x, w: torch.tanh(x - w), "logsumexp"))
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    want = layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.compile's own, of torch's parts and of our cache of plans
        got = torch.compile(layer, backend="aot_eager")(x)
        gradients = torch.autograd.grad(got.square().sum(), (x, layer.w))
    assert_near(got.detach(), want.detach().double(), terms=18)
    for a, b in zip(gradients, torch.autograd.grad(want.square().sum(), (x, layer.w)), strict=True):
        assert_near(a, b.double(), terms=18 * 27)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # torch.func.jvp's own
def test_frozen_parameters_get_no_gradient():
    layer = anyconv.Conv2d(2, 3, 3, absolute)
    layer.w.requires_grad_(False)
    x = torch.randn(1, 2, 5, 5)
    layer(x).sum().backward()
    assert layer.w.grad is None
    assert layer.bias.grad is not None
    with torch.no_grad():
        assert not layer(x).requires_grad


@pytest.mark.parametrize("reduce", BUILTIN)
def test_an_in_place_activation_may_follow(reduce):
    layer = anyconv.Conv2d(2, 3, 3, Formula(lambda x, w: torch.tanh(x - w), reduce), bias=False)
    x = torch.randn(1, 2, 5, 5, requires_grad=True)
    want = torch.autograd.grad(torch.relu(layer(x)).sum(), (x, layer.w))
    for a, b in zip(torch.autograd.grad(torch.relu_(layer(x)).sum(), (x, layer.w)), want, strict=True):
        assert_same(a, b)


def test_layers_are_let_go():
    class Tangent(anyconv.Conv2d):
        def map(self, x, w):
            return torch.tan(x + w)

    layer = Tangent(1, 1, 1)
    layer(torch.rand(1, 1, 2, 2)).sum().backward()
    gone = weakref.ref(layer)
    del layer
    gc.collect()
    assert gone() is None


def test_an_operand_may_be_called_bias_in_a_function():
    x, w, own, added = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3), torch.randn(3, 2, 3, 3), torch.randn(3)
    got = anyconv.conv2d(x, (w, own), lambda x, w, bias: torch.tanh(w * x + bias), added)
    assert_same(got, anyconv.conv2d(x, (w, own), lambda x, w, b: torch.tanh(w * x + b), added))


def test_params_by_tensor_tuple_or_name():
    x, w, b = torch.randn(1, 2, 5, 5), torch.randn(3, 2, 3, 3), torch.randn(3, 2, 3, 3)
    formula = Formula(lambda x, w, b: torch.tanh(w * x + b))
    want = anyconv.conv2d(x, (w, b), formula)
    assert_same(anyconv.conv2d(x, [w, b], formula), want)
    assert_same(anyconv.conv2d(x, {"b": b, "w": w}, formula), want)
    assert_same(anyconv.conv2d(x[0], (w, b), lambda x, w, b: torch.tanh(w * x + b)), want[0])
    assert_same(anyconv.conv2d(x, w, absolute), anyconv.conv2d(x, (w,), absolute))


def test_explain_needs_no_shape_and_checks_the_one_given():
    layer = anyconv.Conv2d(3, 16, 3, absolute, padding=1)
    assert "x (8, 3, 32, 32) -> y (8, 16, 32, 32)" in anyconv.explain(layer, (8, 3, 32, 32))
    assert "x (3, 32, 32) -> y (16, 32, 32)" in anyconv.explain(layer, (3, 32, 32))
    with pytest.raises(anyconv.AnyConvError, match="`x_shape` must be"):
        anyconv.explain(layer, (8, 4, 32, 32))
    with pytest.raises(anyconv.AnyConvError, match="a formula alone has no geometry"):
        anyconv.explain(absolute, (8, 4, 32, 32))
