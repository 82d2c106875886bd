"""Maps that are sums of products of images and weights: ordinary convolutions, with the same numbers as any other way."""

import itertools

import pytest
import torch
from checks import assert_near

import anyconv
from anyconv import Formula, center, guide, offsets, per_channel, per_filter, per_offset, per_pair, per_tap, shared
from anyconv.errors import BackendError
from anyconv.functional import convolve
from anyconv.geometry import Geometry
from anyconv.plan import Problem, choose
from anyconv.plan.separate import terms_of

POLYNOMIAL = Formula(lambda x, w: x * (w[0] + x * (w[1] + x * w[2])), operands={"w": per_tap(size=3)})
COSINE = Formula(
    lambda x, w: (w * x, x * x, w * w), ("sum",) * 3, epilogue=lambda a, b, c: a * torch.rsqrt(b * c + 0.1)
)
SCOPES = Formula(
    lambda x, w, f, c, p, k, s: w * torch.exp(-x * x) * p + torch.cos(x) * f * c + k * s,
    operands={"f": per_filter(), "c": per_channel(), "p": per_pair(), "k": per_offset(), "s": shared()},
)
GUIDED = Formula(
    lambda x, m, w, b: (w * (x * m), m, b * w),
    ("sum", "mean", "sum"),
    epilogue=lambda s, n, b, t: s / (1 + n * n) + torch.tanh(b) * t,
    operands={"m": guide(), "b": per_filter(), "t": per_filter()},
)
FEATURES = Formula(lambda x, f, w: w * x * torch.exp(-f[0] * f[1]) - w / 2, operands={"f": guide(size=2)})
PLACES = Formula(
    lambda x, w, d: w * torch.sin(x) * torch.exp(-d[0] * d[0]) + x / (1 + w * w), operands={"d": offsets(2)}
)
FORMULAS = {
    "polynomial": POLYNOMIAL, "cosine": COSINE, "scopes": SCOPES, "guided": GUIDED, "features": FEATURES, "places": PLACES,
    "an image without weights": Formula(lambda x, w: (torch.exp(x), w * x), ("sum", "sum"), epilogue=lambda a, b: b / a),
    "mean": Formula(lambda x, w: w * torch.exp(x) + torch.sin(x), "mean"),
    "ones": Formula(lambda x, w: (x.new_ones(()) if False else 1.0 + 0 * w, w * torch.exp(x)), ("sum", "sum"), epilogue=lambda a, b: b / a),
}  # fmt: skip
GEOMETRIES = {
    "plain": {},
    "padded": {"padding": 1},
    "skip": {"padding": (2, 1), "padding_mode": "skip"},
    "reflect": {"padding": 1, "padding_mode": "reflect"},
    "a number": {"padding": 1, "padding_mode": 0.5},
    "strided": {"stride": (2, 1), "padding": (2, 0), "dilation": (1, 2)},
    "groups": {"groups": 2, "padding": 1},
    "same": {"padding": "same"},
}


def given(formula, geometry, dtype=torch.float64, channels=4, filters=6):
    size = (7, 8)
    x = torch.randn(2, channels, *size, dtype=dtype, requires_grad=True)
    params = {}
    for name, operand in formula.parameters.items():
        shape = operand.shape(channels, filters, geometry, 2, size)
        params[name] = torch.randn(shape, dtype=dtype, requires_grad=True)
    return x, params


def both(formula, geometry, **tensors):
    x, params = given(formula, geometry, **tensors)
    arguments = {"formula": formula, "geometry": geometry, "out_channels": 6}
    for backend in ("native", "reference"):
        y = convolve(x, params, None, backend=backend, **arguments)
        grad = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
        yield [y.detach(), *torch.autograd.grad(y, (x, *params.values()), grad)]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("name", FORMULAS)
def test_it_computes_what_the_reference_does(name, geometry):
    arguments = GEOMETRIES[geometry]
    formula, shape = FORMULAS[name], Geometry.of(2, (3, 2), **arguments)
    if geometry == "skip" and "mean" in formula.reduction.name:
        with pytest.raises(BackendError, match="native backend cannot compute"):
            list(both(formula, shape))
        return
    for got, want in zip(*both(formula, shape), strict=True):
        assert_near(got, want, terms=500)


@pytest.mark.parametrize("dims", [1, 3])
def test_one_and_three_axes(dims):
    x = torch.randn(2, 3, *(6, 5, 4)[:dims], dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 3, *(3,) * dims, 3, dtype=torch.float64, requires_grad=True)
    conv = getattr(anyconv, f"conv{dims}d")
    found = []
    for backend in ("native", "reference"):
        y = conv(x, w, POLYNOMIAL, padding=1, backend=backend)
        found.append([y.detach(), *torch.autograd.grad(y.square().sum(), (x, w))])
    for got, want in zip(*found, strict=True):
        assert_near(got, want, terms=500)


def test_what_has_terms():
    def count(map, **arguments):
        terms = terms_of(Formula(map, **arguments).mathematics)
        return terms and [len(value) for value in terms]

    assert count(lambda x, w: x * w) == [1]
    assert count(lambda x, w: torch.sin(x) * w + torch.cos(x) / w - torch.sin(x)) == [2]
    assert count(lambda x, w: -(x - w) * x) == [2]
    assert count(lambda x, w: (x - w) * (x + w)) is None  # its expansion would cancel
    assert count(lambda x, w: torch.square(x - w)) is None
    assert count(lambda x, w: torch.abs(x - w)) is None
    assert count(lambda x, w: torch.where(x > 0, w, 0)) is None
    assert count(lambda x, w: w / (1 + x) + torch.tanh(x)) == [2]
    assert count(lambda x, w: 1 / (x + w)) is None
    assert count(lambda x, w: x * w, reduce="max") is None
    assert count(lambda x, c, w: w * (x - c), operands={"c": center()}) is None
    assert count(lambda x, w: sum(w * x**i for i in range(20))) is None  # too many
    assert count(lambda x, w: x * w, gradient={"w": lambda x, w: x}) is None


def test_when_it_is_chosen():
    def backend(formula, dtype="float32", **geometry):
        return choose(Problem(formula, Geometry.of(2, 3, **geometry), 4, 4, dtype, "cpu")).backend

    assert backend(POLYNOMIAL) == "cpp"  # its powers are free beside its products
    spline = anyconv.recipes.kan_spline.formula
    assert backend(spline) == "native"
    assert backend(spline, "float64") == "native"
    assert backend(spline, "bfloat16") == "cpp"  # its arithmetic is float32, and a convolution would round images
    assert backend(spline, groups=4) == "cpp"
    assert backend(spline, padding=3, padding_mode="skip") == "cpp"  # some fields are empty
    plan = choose(Problem(POLYNOMIAL, Geometry.of(2, 3), 4, 4, "float32", "cuda"))  # where there is no such kernel
    assert plan.reason == "3 ordinary convolutions, of images alone and weights alone"


def test_frozen_operands_and_guides_without_gradients():
    geometry = Geometry.of(2, 3)
    x, params = given(GUIDED, geometry, torch.float32)
    params["m"] = params["m"].detach()
    y = convolve(x, params, None, formula=GUIDED, geometry=geometry, out_channels=6, backend="native")
    y.sum().backward()
    assert params["w"].grad is not None
    assert params["m"].grad is None
    with torch.no_grad():
        bias = torch.randn(6)
        z = convolve(x, params, bias, formula=GUIDED, geometry=geometry, out_channels=6, backend="native")
    torch.testing.assert_close(z, y.detach() + bias[:, None, None])


def test_nan_stays_in_the_fields_that_see_it():
    x = torch.randn(1, 2, 9, 9)
    x[0, 1, 4, 4] = torch.nan
    y = anyconv.conv2d(x, torch.randn(3, 2, 3, 3, 3), POLYNOMIAL, backend="native")
    seen = torch.zeros(7, 7, dtype=torch.bool)
    seen[2:5, 2:5] = True
    assert torch.equal(y.isnan(), seen.expand(1, 3, 7, 7))


def test_empty_batches_and_unbatched_images():
    w = torch.randn(3, 2, 3, 3, 3)
    assert anyconv.conv2d(torch.randn(0, 2, 6, 6), w, POLYNOMIAL, backend="native").shape == (0, 3, 4, 4)
    x = torch.randn(2, 6, 6)
    y, z = (anyconv.conv2d(x, w, POLYNOMIAL, backend="native") for x in (x, x[None]))
    torch.testing.assert_close(y, z[0])


def test_nothing_of_the_size_of_all_images_is_kept():
    """What is saved between the passes is what was given, however many products there are."""
    saved = []
    x, w = torch.randn(1, 4, 16, 16, requires_grad=True), torch.randn(4, 4, 3, 3, 8, requires_grad=True)
    spline = anyconv.recipes.kan_spline.formula
    base = torch.randn(4, 4, 3, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        anyconv.conv2d(x, {"base": base, "c": w}, spline, backend="native")
    large = {t.data_ptr() for t in saved if t.numel() >= x.numel() and t.shape[2:] == x.shape[2:]}
    assert large == {x.data_ptr()}


def test_all_ways_agree_in_float32():
    for name, formula in itertools.islice(FORMULAS.items(), 4):
        geometry = Geometry.of(2, 3, padding=1)
        x, params = given(formula, geometry, torch.float32)
        arguments = {"formula": formula, "geometry": geometry, "out_channels": 6}
        y, z = (convolve(x, params, None, backend=b, **arguments) for b in ("native", "cpp"))
        torch.testing.assert_close(y, z, rtol=1e-4, atol=1e-4, msg=name)
