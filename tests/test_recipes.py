"""The shelf: each recipe is what its paper says, trains, and stays finite; and what a recipe is."""

import itertools
import math
import re

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
import torch.nn.functional as F
from checks import assert_near
from scipy.interpolate import BSpline
from skimage.feature import local_binary_pattern
from torch import nn

import anyconv
from anyconv import recipes
from anyconv.errors import FormulaError, GeometryError
from anyconv.recipes.shelf.involution import Involution
from anyconv.recipes.shelf.kan_wavelet import WAVELETS
from anyconv.recipes.shelf.locally_connected import LocallyConnected
from anyconv.recipes.shelf.operational import NODAL
from benchmarks.recipes import Case, disagreement, ours, values_and_gradients
from benchmarks.usual import BY_CONVOLUTION, USUAL
from examples import digits

every = pytest.mark.parametrize("name", recipes.SHELF)
SHELF = {name: getattr(recipes, name) for name in recipes.SHELF}


def small(name):
    return Case(name, batch=2, channels=3, filters=3 if "Pool" in SHELF[name].kinds else 4, size=9)


# --- against the way it is usually written


@pytest.mark.sample(9)
@every
def test_it_is_what_is_published(name):
    """Values and every gradient, published ones too, in the dtype that people train in."""
    assert disagreement(small(name), ours(small(name))) <= 1


@pytest.mark.sample(3)
@every
def test_it_is_what_is_published_to_float64(name):
    case = small(name)
    layer = case.layer()
    for module in layer.modules():
        if hasattr(module, "backend"):
            module.backend = "reference"
    x, params = case.tensors(torch.float64)
    held = {n: v for n, v in params.items() if n in layer.state_dict()}
    images = {n: v for n, v in params.items() if n not in held}
    found = values_and_gradients(lambda x, p: torch.func.functional_call(layer, held, (x,), images), x, params)
    for got, want in zip(found, values_and_gradients(USUAL[name], x, params), strict=True):
        assert_near(got, want, terms=1000)  # of a shared operand's gradient, all evaluations


def test_a_wrong_recipe_is_found():
    case = small("adder")
    right = ours(case)
    assert disagreement(case, lambda x, p: right(x, p) * 1.001) > 1
    assert disagreement(case, lambda x, p: right(x, p) * torch.nan) == torch.inf
    plain = anyconv.Formula(lambda x, w: -torch.abs(x - w))  # without the published gradients
    assert disagreement(case, lambda x, p: anyconv.conv2d(x, p["w"], plain)) > 1


# --- it trains, and stays finite


def layer_for(name, channels, filters, size):
    """The layer that a user would put into a network, which keeps the size of the image or nearly so."""
    recipe = SHELF[name]
    if name == "involution":
        return recipe.Pool2d(channels, 3)
    if name == "locally_connected":
        return recipe.Conv2d(channels, filters, 3, size=size)
    if "Conv" in recipe.kinds:
        return recipe.Conv2d(channels, filters, 3)
    return recipe.Pool2d(3, channels=channels) if recipe.layers else recipe.Pool2d(3, stride=1)


def pixels(name, x):
    """Digits, in the range that the recipe is meant for."""
    low, high = SHELF[name].pixels
    return low + (x / 0.4 + 0.5) * (high - low)


@pytest.mark.sample(7)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.thorough if i % 2 else ()) for i, name in enumerate(recipes.SHELF)]
)
def test_ten_steps_on_digits_lower_the_loss(name):
    data, recipe = digits.load(), SHELF[name]
    torch.manual_seed(0)
    filters = 8 if "Conv" in recipe.kinds else 1
    layer = layer_for(name, 1, filters, 8)
    x, labels = pixels(name, data.train[:256]), data.train_labels[:256]
    images = {} if recipe.images is None else recipe.images(x)
    head = nn.Sequential(nn.BatchNorm2d(filters), nn.Flatten(), nn.LazyLinear(10))
    head(layer(x, **images).detach())  # the linear layer learns its size
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.01)
    losses = []
    for _ in range(11):
        loss = F.cross_entropy(head(layer(x, **images)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(p.grad.isfinite().all() for p in layer.parameters())


def hard_images():
    yield "all equal", torch.full((2, 2, 6, 6), 0.5)
    yield "all zero", torch.zeros(2, 2, 6, 6)
    yield "very large", torch.where(torch.rand(2, 2, 6, 6) < 0.5, -1e6, 1e6)
    yield "very small", torch.full((2, 2, 6, 6), 1e-30)
    yield "empty", torch.zeros(0, 2, 6, 6)


@pytest.mark.sample(11)
@every
def test_values_and_gradients_are_finite(name):
    recipe = SHELF[name]
    layer = layer_for(name, 2, 3, 6)
    for what, x in hard_images():
        x.requires_grad_()
        images = {} if recipe.images is None else recipe.images(x.detach())
        y = layer(x, **images)
        assert y.shape[0] == x.shape[0]
        grads = torch.autograd.grad(y.sum(), (x, *layer.parameters()))
        for value in (y, *grads):
            assert value.isfinite().all(), f"{what}: {value}"


def test_weights_that_are_all_zero_or_hit_a_template_exactly_are_finite():
    x = torch.full((1, 1, 5, 5), 0.5, requires_grad=True)
    for name, fill in itertools.product(
        ("adder", "lp_distance", "rbf", "cosine", "sharpened_cosine", "energy", "shift", "prototype"), (0.0, 0.5)
    ):
        layer = SHELF[name].Conv2d(1, 2, 3)
        with torch.no_grad():
            next(layer.parameters()).fill_(fill)
        y = layer(x)
        assert all(v.isfinite().all() for v in (y, *torch.autograd.grad(y.sum(), (x, *layer.parameters())))), name


@pytest.mark.sample(4)
@every
@pytest.mark.parametrize("dims", [1, 3])
def test_it_has_one_and_three_axes(name, dims):
    recipe, size = SHELF[name], (6, 5, 4)[:dims]
    x = torch.rand(1, 2, *size) * 0.5 + 0.2
    if name == "local_binary_pattern":
        with pytest.raises(FormulaError, match="with 2 axes"):
            getattr(recipe, f"Pool{dims}d")(3)
        return
    if name == "involution":
        layer = getattr(recipe, f"Pool{dims}d")(2, 3, backend="reference").eval()
    elif name == "locally_connected":
        layer = getattr(recipe, f"Conv{dims}d")(2, 3, 3, size=size, backend="reference")
    elif "Conv" in recipe.kinds:
        layer = getattr(recipe, f"Conv{dims}d")(2, 3, 3, backend="reference")
    else:
        layer = getattr(recipe, f"Pool{dims}d")(3, backend="reference")
    images = {} if recipe.images is None else recipe.images(x)
    y = layer(x, **images)
    assert y.dim() == dims + 2
    assert y.isfinite().all()


# --- against libraries, and laws


@pytest.mark.sample(5)
@pytest.mark.parametrize("size", [(3, 3), (2, 4), (5, 2)])
@pytest.mark.parametrize("mode", ["skip", "replicate", "circular", "reflect", 0.25])
@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(("name", "theirs"), [
    ("dilation", "grey_dilation"), ("erosion", "grey_erosion"), ("opening", "grey_opening"), ("closing", "grey_closing"),
    ("top_hat", "white_tophat"), ("bottom_hat", "black_tophat"), ("morphological_gradient", "morphological_gradient"),
])  # fmt: skip
def test_morphology_is_scipys(name, theirs, learned, mode, size):
    """Even kernels and borders too; what lies outside is nothing where scipy pads a flat element by reflection."""
    if mode == "skip" and learned:
        pytest.skip("scipy has no border that is nothing")
    layer = SHELF[name].Pool2d(size, channels=2 if learned else None, padding_mode=mode, backend="reference").double()
    x = torch.randn(1, 2, 9, 8, dtype=torch.float64)
    kind = {"skip": "reflect", "replicate": "nearest", "circular": "wrap", "reflect": "mirror"}.get(mode, "constant")
    arguments = {"mode": kind, "cval": mode if kind == "constant" else 0.0}
    with torch.no_grad():
        y = layer(x)[0]
    for channel in range(2):
        element = {"structure": layer.w[channel, 0].detach().numpy()} if learned else {"size": size}
        want = getattr(scipy.ndimage, theirs)(x[0, channel].numpy(), **element, **arguments)
        np.testing.assert_allclose(y[channel].numpy(), want, rtol=0, atol=1e-15)


def test_an_opening_is_idempotent_and_below_and_a_closing_above():
    x = torch.randn(2, 3, 9, 9)
    for name, sign in (("opening", -1), ("closing", 1)):
        layer = SHELF[name].Pool2d((3, 2), channels=3, backend="reference")
        once = layer(x)
        torch.testing.assert_close(layer(once), once)
        assert (sign * (once - x) >= -1e-6).all()


def test_hard_binary_patterns_are_scikit_images():
    x = (torch.rand(1, 1, 12, 11) * 8).round()  # with ties
    hard = recipes.local_binary_pattern(points=4, hard=True).Pool2d(3)
    want = local_binary_pattern(x[0, 0].numpy().astype(np.uint8), 4, 1)
    assert np.array_equal(hard(x)[0, 0].numpy(), want[1:-1, 1:-1])
    x = torch.rand(1, 1, 12, 11)
    for points in (4, 8):  # the sigmoid tends to the step
        hard = recipes.local_binary_pattern(points=points, hard=True).Pool2d(3)(x)
        soft = recipes.local_binary_pattern(points=points).Pool2d(3)
        soft.sharpness.fill_(1e6)
        assert (soft(x) == hard).float().mean() > 0.99


@pytest.mark.parametrize(("rank", "theirs"), [(0.0, np.min), (0.25, None), (0.5, np.median), (1.0, np.max)])
def test_ranks_are_scipys(rank, theirs):
    x = torch.randn(1, 1, 9, 8)
    y = recipes.median(rank=rank).Pool2d(3, stride=1, backend="reference")(x)
    want = scipy.ndimage.rank_filter(x[0, 0].numpy(), round(rank * 8), size=3)[1:-1, 1:-1]
    assert np.array_equal(y[0, 0].numpy(), want)
    if theirs is not None:
        assert y[0, 0, 0, 0] == theirs(x[0, 0, :3, :3].numpy())


def test_limits():
    """Log-sum-exp, SMorph and the l_p distance tend to maxima; EuclidNet and the central difference begin as products."""
    x, w = torch.rand(1, 2, 6, 6, dtype=torch.float64), torch.rand(3, 2, 3, 3, dtype=torch.float64)
    reference = {"backend": "reference"}
    largest = anyconv.conv2d(x, w, recipes.max_plus.formula, **reference)
    smallest = anyconv.conv2d(x, w, recipes.min_plus.formula, **reference)
    farthest = anyconv.conv2d(x, w, recipes.lp_distance(p=math.inf).formula, **reference)
    product = F.conv2d(x, w)
    for t in (1e2, 1e4):
        for name, operand, sign, limit in (
            ("log_sum_exp", "mu", 1, largest), ("log_sum_exp", "mu", -1, smallest),
            ("smooth_morphology", "alpha", 1, largest), ("smooth_morphology", "alpha", -1, smallest),
        ):  # fmt: skip
            params = {"w": w, operand: torch.full((3,), sign * t, dtype=torch.float64)}
            y = anyconv.conv2d(x, params, SHELF[name].formula, **reference)
            assert (y - limit).abs().max() <= math.log(18) / t, (name, sign)
        y = anyconv.conv2d(x, {"w": w, "p": t}, recipes.lp_distance.formula, **reference)
        assert (y / farthest).log().max() <= math.log(18) / t
        assert (y >= farthest * (1 - 1e-12)).all()
    assert_near(anyconv.conv2d(x, {"w": w, "homotopy": 0.0}, recipes.euclidean.formula, **reference), product, terms=18)
    distance = anyconv.conv2d(x, {"w": w, "homotopy": 1.0}, recipes.euclidean.formula, **reference)
    assert_near(distance, anyconv.conv2d(x, w, lambda x, w: -0.5 * (x - w) ** 2, **reference), terms=36)
    assert_near(
        anyconv.conv2d(x, {"w": w, "theta": 0.0}, recipes.central_difference.formula, **reference), product, terms=18
    )


def test_means_of_pixels():
    x = torch.rand(1, 1, 5, 5, dtype=torch.float64) + 0.1
    fields = x.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)
    harmonic = 9 / (1 / fields).sum(-1)
    for p, want in ((1.0, fields.mean(-1)), (-1.0, harmonic), (2.0, fields.square().mean(-1).sqrt())):
        layer = recipes.generalized_mean(p=p).Pool2d(3, stride=1, backend="reference").double()
        assert_near(layer(x).detach(), want, terms=9)
    geometric = torch.from_numpy(scipy.stats.gmean(fields.numpy(), axis=-1))
    layer = recipes.generalized_mean(p=1e-7).Pool2d(3, stride=1, backend="reference").double()
    torch.testing.assert_close(layer(x).detach(), geometric, rtol=1e-6, atol=0)


def test_schedules():
    """The hyper-parameters of a training, from its first step to its last; they are operands of the layer."""
    assert recipes.euclidean.schedule(0.25) == {"homotopy": 0.25}
    assert recipes.lp_distance.schedule(0.0) == {"p": 8.0}
    assert recipes.lp_distance.schedule(1.0) == {"p": pytest.approx(1000)}
    for recipe in SHELF.values():
        if recipe.schedule is not None:
            layer = recipe.Conv2d(1, 1, 3)
            assert set(recipe.schedule(0.5)) == {name for name, _ in layer.named_buffers()}


# --- options

GELU_LIKE = torch.linspace(-2, 2, 41, dtype=torch.float64)


def at_one_tap(recipe, **operands):
    """The map of a pixel, by a convolution of one tap, for pixels from -2 to 2."""
    params = {
        n: torch.tensor(v, dtype=torch.float64).reshape(1, 1, 1)
        if np.ndim(v) == 0
        else torch.tensor(v, dtype=torch.float64)[None, None, None]
        for n, v in operands.items()
    }
    return anyconv.conv1d(GELU_LIKE[None], params, recipe.formula_of(1), backend="reference")[0]


@pytest.mark.parametrize("nodal", NODAL)
def test_nodal_operators(nodal):
    x, w = GELU_LIKE.numpy(), 0.3
    with np.errstate(invalid="ignore"):
        want = {
            "cubic": 100 * w * x**3,
            "sine": np.sin(100 * w * x),
            "exponential": np.exp(w * x) - 1,
            "sinh": np.sinh(0.1 * w * x),
            "sinc": np.where(x == 0, 10, 0.01 * np.sin(1000 * w * x) / (w * x)),
            "chirp": np.sin(1e4 * w * x * x),
            "harmonic": np.sin(w * x),
        }[nodal]
    np.testing.assert_allclose(at_one_tap(recipes.operational(nodal=nodal), w=w).numpy(), want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wavelet", WAVELETS)
def test_wavelets(wavelet):
    """They integrate to zero (the Morlet wavelet nearly), and are what Wav-KAN's authors use."""
    u = np.linspace(-12, 12, 4001)
    psi = WAVELETS[wavelet](torch.from_numpy(u)).numpy()
    assert abs(np.trapezoid(psi, u)) < 1e-5
    if wavelet == "mexican_hat":
        assert np.trapezoid(psi**2, u) == pytest.approx(1)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_splines_are_scipys(order):
    grid, step = 5, 2 / 5
    knots = np.arange(-order, grid + order + 1) * step - 1
    c = np.random.default_rng(0).normal(size=grid + order)
    spline = BSpline(knots, c, order, extrapolate=False)
    inside = np.abs(GELU_LIKE.numpy()) < 1
    y = at_one_tap(recipes.kan_spline(order=order), base=0.0, c=c).numpy()
    np.testing.assert_allclose(y[inside], spline(GELU_LIKE.numpy()[inside]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("degree", [1, 2, 5])
def test_chebyshev_polynomials_are_numpys(degree):
    c = np.random.default_rng(0).normal(size=degree + 1)
    want = np.polynomial.chebyshev.chebval(np.tanh(GELU_LIKE.numpy()), c)
    np.testing.assert_allclose(
        at_one_tap(recipes.kan_chebyshev(degree=degree), c=c).numpy(), want, rtol=1e-12, atol=1e-12
    )


def test_t_norms():
    """On truth values each is a conjunction; between, Lukasiewicz <= product <= the smaller."""
    x = torch.rand(1, 1, 30, dtype=torch.float64)
    by = {}
    for name in ("lukasiewicz", "product", "goedel"):
        formula = recipes.fuzzy(t_norm=name).formula_of(1)
        for a, b in itertools.product((0.0, 1.0), repeat=2):
            truth = anyconv.conv1d(torch.tensor([[a]]), torch.tensor([[[b]]]), formula, backend="reference")
            assert truth.item() == (a and b)
        by[name] = anyconv.conv1d(x, torch.tensor([[[0.6]]], dtype=torch.float64), formula, backend="reference")
    assert (by["lukasiewicz"] <= by["product"]).all()
    assert (by["product"] <= by["goedel"]).all()


@pytest.mark.parametrize(
    ("recipe", "option", "value"),
    [
        ("fuzzy", "t_norm", "none"),
        ("operational", "nodal", "none"),
        ("kan_wavelet", "wavelet", "none"),
        ("local_binary_pattern", "points", 5),
    ],
)
def test_options_that_do_not_exist(recipe, option, value):
    with pytest.raises(FormulaError, match=f"`{option}` must be"):
        SHELF[recipe](**{option: value})


def test_other_options():
    assert recipes.kervolution(degree=2).options == {"degree": 2}
    assert recipes.kervolution.options == {"degree": 3}
    assert "** 2" in str(recipes.kervolution(degree=2).formula)
    assert recipes.self_onn(q=5).Conv2d(2, 3, 3).w.shape == (3, 2, 3, 3, 5)
    assert recipes.pixel_adaptive(features=4).formula.parameters["f"].size == 4
    assert recipes.log_sum_exp(mu=-1.0).Conv2d(1, 2, 3).mu.tolist() == [-1.0, -1.0]
    assert recipes.rbf(width=0.5).Conv2d(1, 1, 3).s.unique().tolist() == [pytest.approx(2 / 3)]
    with pytest.raises(
        FormulaError, match=r"the recipe `kervolution` has no option `power`\s+Its options are degree=3"
    ):
        recipes.kervolution(power=2)
    with pytest.raises(FormulaError, match="It has none"):
        recipes.opening(flat=True)


# --- what a recipe is


@every
def test_a_recipe_is_data(name):
    recipe = SHELF[name]
    assert recipe.name == name
    kind, key, body = re.fullmatch(r"@(\w+)\{(\w+),(.*)\}", recipe.reference, re.DOTALL).groups()
    fields = dict(re.findall(r"(\w+) = \{(.*?)\}(?=,|$)", body, re.DOTALL))
    assert "title" in fields
    assert recipe.equation.startswith("y")
    if kind != "misc":
        year = int(fields["year"])
        assert 1950 < year < 2027
        assert key.startswith(re.sub(r"\W", "", fields["author"].split(",")[0]).lower()[:4])
    assert name in repr(recipe)


@pytest.mark.sample(20)
@every
def test_it_draws_itself(name, tmp_path):
    figure = SHELF[name].draw()
    figure.savefig(tmp_path / "recipe.png", dpi=40)
    assert (tmp_path / "recipe.png").stat().st_size > 3000
    lines = [line for axis in figure.axes for line in axis.get_lines()]
    assert len(lines) >= 2
    assert all(np.isfinite(line.get_ydata()).all() for line in lines)


def test_which_twins_are_convolutions(monkeypatch):
    called = []
    conv2d = F.conv2d
    for name, way in USUAL.items():
        monkeypatch.setattr(F, "conv2d", lambda *a, name=name, **k: called.append(name) or conv2d(*a, **k))
        way(*small(name).tensors())
    assert set(called) == BY_CONVOLUTION


def test_every_recipe_has_an_independent_twin():
    assert set(USUAL) == set(recipes.SHELF)
    assert len(recipes.SHELF) >= 40


def test_recipes_are_found_by_name():
    assert recipes.adder is recipes.adder
    assert {"adder", "Recipe"} <= set(dir(recipes))
    with pytest.raises(AttributeError, match="there is no recipe 'addder'; there are adder, "):
        _ = recipes.addder
    with pytest.raises(AttributeError, match="the recipe `soft_pool` makes no Conv2d; it makes Pool1d/2d/3d"):
        _ = recipes.soft_pool.Conv2d
    with pytest.raises(AttributeError, match="a Recipe has no attribute 'Conv4d'"):
        _ = recipes.adder.Conv4d
    with pytest.raises(FormulaError, match="is composed of several formulas"):
        _ = recipes.opening.formula


def test_layers_of_a_recipe_are_layers():
    layer = recipes.adder.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=True)
    assert isinstance(layer, anyconv.Conv2d)
    assert layer(torch.randn(1, 4, 8, 8)).shape == (1, 6, 4, 4)
    assert isinstance(recipes.max_plus.ConvTranspose2d(4, 6, 3), anyconv.ConvTranspose2d)
    assert isinstance(recipes.soft_pool.Pool1d(2), anyconv.Pool1d)
    assert recipes.max_plus.Conv2d(1, 1, 3, padding=1).geometry.mode == "skip"
    assert recipes.max_plus.Conv2d(1, 1, 3, padding=1, padding_mode="zeros").geometry.mode == "zeros"


def test_compositions_describe_and_refuse():
    assert repr(recipes.top_hat.Pool2d(3, channels=2)) == "Morphology(top_hat, kernel_size=(3, 3), channels=2)"
    assert "flat" in repr(recipes.opening.Pool1d(2))
    unbatched = torch.randn(2, 6, 6)
    layer = recipes.closing.Pool2d(3, channels=2, backend="reference")
    torch.testing.assert_close(layer(unbatched), layer(unbatched[None])[0])
    with pytest.raises(GeometryError, match="`channels` must be a positive int, got 0"):
        recipes.opening.Pool2d(3, channels=0)
    with pytest.raises(GeometryError, match="`kernel_size` must be odd, got 2"):
        Involution(2, 4, 2)
    with pytest.raises(GeometryError, match="`groups` must divide the 4 channels, got 3"):
        Involution(2, 4, 3, groups=3)
    layer = LocallyConnected(2, 2, 3, 3, size=(6, 5), stride=2)
    assert layer.w.shape == (3, 2, 3, 3, 2, 2)
    assert layer(torch.randn(1, 2, 6, 5)).shape == (1, 3, 2, 2)


def test_involution_of_groups():
    """Each group of channels has kernels of its own, from a network that sees all channels."""
    layer = recipes.involution.Pool2d(4, 3, groups=2, reduction=2).double().eval()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    kernels = layer.kernels(x).reshape(2, 2, 9, 5, 6)
    fields = F.unfold(x, 3, padding=1).reshape(2, 2, 2, 9, 5, 6)
    want = (fields * kernels[:, :, None]).sum(3).reshape(x.shape)
    assert_near(layer(x).detach(), want.detach(), terms=9)
