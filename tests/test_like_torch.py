"""`x * w` with `sum` is `F.convNd`: what PyTorch accepts, forward and gradients, and what it refuses."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from checks import assert_near, assert_same
from torch import nn

import anyconv
from anyconv import Formula
from anyconv.errors import AnyConvError, BackendError, DtypeError
from anyconv.geometry import Geometry
from anyconv.plan import Problem, choose

OURS = {1: anyconv.conv1d, 2: anyconv.conv2d, 3: anyconv.conv3d}
THEIRS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


def product(x, w):
    return x * w


ARGUMENTS = [
    {"stride": s, "padding": p, "dilation": d}
    for s, p, d in itertools.product((1, 2), (0, 1, "same", "valid"), (1, 2))
    if not (p == "same" and s != 1)
]


@pytest.mark.sample(11)
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
def test_forward_and_all_gradients(dims, arguments, groups, batched, backend):
    size, kernel = (9, 7, 6)[:dims], (3, 2, 3)[:dims]
    x = torch.randn(*(2,) * batched, 4, *size, dtype=torch.float64, requires_grad=True)
    w = torch.randn(6, 4 // groups, *kernel, dtype=torch.float64, requires_grad=True)
    b = torch.randn(6, dtype=torch.float64, requires_grad=True)
    got = OURS[dims](x, w, product, b, groups=groups, backend=backend, **arguments)
    want = THEIRS[dims](x, w, b, groups=groups, **arguments)
    grad = torch.randn_like(want)
    pairs = zip(
        (got, *torch.autograd.grad(got, (x, w, b), grad)),
        (want, *torch.autograd.grad(want, (x, w, b), grad)),
        strict=True,
    )
    for ours, theirs in pairs:
        assert_near(ours.detach(), theirs.detach(), terms=want.numel())
    assert OURS[dims](x, w, product, groups=groups, backend=backend, **arguments).shape == want.shape


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, (1,), [2, 1, 0], torch.Size([1, 1, 1]), "same", "valid"], ids=str)
@pytest.mark.parametrize("stride", [1, (2,), [1, 2, 3], (1, 1, 1)], ids=str)
def test_every_form_of_an_argument_is_read_as_torch_reads_it(dims, padding, stride):
    fit = lambda a: a[:dims] if isinstance(a, (tuple, list)) and len(a) == 3 else a
    x, w = torch.randn(1, 2, *(8, 7, 6)[:dims]), torch.randn(3, 2, *(3,) * dims)
    arguments = {"stride": fit(stride), "padding": fit(padding)}
    try:
        want = THEIRS[dims](x, w, **arguments)
    except RuntimeError:
        with pytest.raises(AnyConvError):
            OURS[dims](x, w, product, **arguments)
    else:
        assert_same(OURS[dims](x, w, product, **arguments), want)


WRONG = [
    {"x": (3, 8)}, {"x": (1, 2, 3, 8, 8)}, {"w": (2, 3, 3)}, {"w": (2, 2, 3, 3)}, {"w": (0, 3, 3, 3)}, {"w": (2, 3, 3, 0)},
    {"x": (1, 3, 0, 8)}, {"x": (0, 3, 2, 2)}, {"x": (1, 3, 2, 2)}, {"w": (3, 1, 3, 3), "groups": 2}, {"groups": 0}, {"groups": -1},
    {"groups": 3}, {"groups": 1.0}, {"stride": 0}, {"stride": -1}, {"stride": (1, 1, 1)}, {"stride": True}, {"stride": 1.5},
    {"stride": None}, {"padding": -1}, {"padding": 1.5}, {"padding": "full"}, {"padding": [[1, 1], [1, 1]]}, {"padding": None},
    {"padding": "same", "stride": 2}, {"dilation": 0}, {"dilation": (1, 2, 3)}, {"dilation": "1"}, {"bias": (3,)}, {"bias": (2, 1)},
    {"bias": ()}, {"dtype": torch.bool}, {"w_dtype": torch.float64}, {"w_dtype": torch.int64},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_torch_refuses_is_refused(wrong):
    arguments = {k: v for k, v in wrong.items() if k in ("stride", "padding", "dilation", "groups")}
    dtype = wrong.get("dtype", torch.float32)
    x = torch.ones(wrong.get("x", (1, 3, 8, 8)), dtype=dtype)
    w = torch.ones(wrong.get("w", (2, 3, 3, 3)), dtype=wrong.get("w_dtype", dtype))
    bias = torch.ones(wrong["bias"]) if "bias" in wrong else None
    with pytest.raises((RuntimeError, TypeError)):
        F.conv2d(x, w, bias, **arguments)
    with pytest.raises(AnyConvError):
        anyconv.conv2d(x, w, product, bias, **arguments)


@pytest.mark.parametrize(
    "dtype", [torch.int64, torch.uint8, torch.complex64, torch.float16, torch.bfloat16, torch.float32]
)
def test_dtypes_are_torchs(dtype):
    x, w = torch.ones(1, 3, 5, 5, dtype=dtype), torch.ones(2, 3, 3, 3, dtype=dtype)
    want = F.conv2d(x, w)
    got = anyconv.conv2d(x, w, product)
    assert got.dtype == want.dtype
    assert torch.equal(got, want)


def test_integers_have_no_other_formula():
    x, w = torch.ones(1, 3, 5, 5, dtype=torch.int64), torch.ones(2, 3, 3, 3, dtype=torch.int64)
    with pytest.raises(DtypeError, match="`x` has dtype int64"):
        anyconv.conv2d(x, w, lambda x, w: x * w * 0.5)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 3, 8, 8)])
@pytest.mark.parametrize("filters", [1, 4])
@pytest.mark.parametrize("backend", ["native", "reference"])
def test_empty_batches(shape, filters, backend):
    leaves = x, w, b = [torch.randn(s, requires_grad=True) for s in (shape, (filters, 3, 3, 3), (filters,))]
    got, want = anyconv.conv2d(x, w, product, b, padding=1, backend=backend), F.conv2d(x, w, b, padding=1)
    assert got.shape == want.shape
    gradients = [torch.autograd.grad(y.sum(), leaves) for y in (got, want)]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_padding_modes_are_nn_conv_nds(mode, dims):
    theirs = getattr(nn, f"Conv{dims}d")(
        2, 4, 3, padding=(2, 1, 2)[:dims], padding_mode=mode, stride=2, dtype=torch.float64
    )
    ours = getattr(anyconv, f"Conv{dims}d")(
        2,
        4,
        3,
        lambda x, weight: x * weight,
        padding=(2, 1, 2)[:dims],
        padding_mode=mode,
        stride=2,
        dtype=torch.float64,
    )
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 2, *(7, 6, 5)[:dims], dtype=torch.float64)
    assert_same(ours(x), theirs(x))


WRITTEN = [
    lambda x, w: x * w,
    lambda x, w: w * x,
    lambda x, w: torch.mul(x, w),
    lambda x, w: x.mul(w),
    lambda x, w: torch.multiply(w, x) * 1,
    lambda x, w: -(x * -w),
    lambda x, w: (x * w + w * x) / 2,
    lambda x, w: x / (1 / w),
    lambda x, w: (x**1) * w,
    lambda x, w: x * w - 0,
    lambda x, w: 2 * x * w - x * w,
    lambda x, w: torch.addcmul(torch.zeros_like(x), x, w),
    lambda x, w: torch.add(x * w, x * w, alpha=0.5) / 1.5,
]


@pytest.mark.parametrize("formula", WRITTEN)
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_the_product_is_recognized_however_it_is_written(formula, reduce):
    x, w = torch.randn(2, 4, 6, 6, dtype=torch.float64), torch.randn(6, 2, 3, 3, dtype=torch.float64)
    got = anyconv.conv2d(x, w, Formula(formula, reduce), groups=2, backend="native")
    want = F.conv2d(x, w, groups=2) / (18 if reduce == "mean" else 1)
    assert_near(got, want, terms=18)


NOT_PRODUCTS = [
    lambda x, w: x * x * w,
    lambda x, w: torch.abs(x) * w,
    lambda x, w: torch.floor(x) + x * w,
    lambda x, w: torch.where(x > 0, x, 0.1 * x) * w,
    lambda x, w: w / x,
    lambda x, w: x**w,
    lambda x, w: x.detach() * w,
    lambda x, w: torch.round(x) * 0 + x * w,
]


@pytest.mark.parametrize("formula", NOT_PRODUCTS)
def test_nothing_else_is_taken_for_a_product(formula):
    """Some of these are products of images that are computed first, and have the values and gradients of the map."""
    x = (torch.rand(1, 2, 5, 5, dtype=torch.float64) + 0.1).requires_grad_()
    w = torch.randn(3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    backend = "cpp" if str(Formula(formula).expr) == "x ** w" else "native"
    plan = choose(Problem(Formula(formula), Geometry.of(2, 3), 2, 3, "float64", "cpu"), backend)
    assert plan.line is None
    found = []
    for way in (backend, "reference"):
        y = anyconv.conv2d(x, w, formula, backend=way)
        found.append([y.detach(), *torch.autograd.grad(y.square().sum(), (x, w), allow_unused=True)])
    for got, want in zip(*found, strict=True):
        assert_near(
            torch.zeros(()).double() if got is None else got,
            torch.zeros(()).double() if want is None else want,
            terms=1000,
        )


def test_affine_maps_of_any_operands_are_native():
    """The slope is the weight, whatever it is made of; the offset becomes a bias."""
    operands = {"p": anyconv.per_filter(), "q": anyconv.per_channel(), "s": anyconv.shared()}
    formula = Formula(lambda x, w, p, q, s: (torch.tanh(w) * x * q + p) * s - x / 3, operands=operands)
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64, requires_grad=True)
    params = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((6, 2, 3, 2), (6,), (4,), ())]
    native, reference = (
        anyconv.conv2d(x, params, formula, groups=2, padding=1, padding_mode=0.5, backend=b)
        for b in ("native", "reference")
    )
    assert_near(native.detach(), reference.detach(), terms=12)
    grad = torch.randn_like(native)
    ours, theirs = (torch.autograd.grad(y, (x, *params), grad) for y in (native, reference))
    for a, b in zip(ours, theirs, strict=True):
        assert_near(a, b, terms=native.numel())


def test_the_plan_says_why():
    def plan(function, reduce="sum", backend="auto", mode="zeros"):
        geometry = anyconv.Conv2d(2, 4, 3, padding=1, padding_mode=mode).geometry
        return choose(Problem(Formula(function, reduce), geometry, 2, 4, "float32", "cpu"), backend)

    assert plan(product).reason == "a sum of w * x is an ordinary convolution"
    assert plan(product, "max").reason == "it reduces by max, an ordinary convolution by sum"
    assert plan(product, mode="skip").reason == "padding_mode='skip' leaves taps out"
    native = plan(product, mode="skip", backend="native")
    assert native.reason == "an ordinary convolution, of images alone and weights alone"
    assert plan(product, "mean", mode="skip").reason == "padding_mode='skip' leaves taps out"
    assert plan(product, backend="reference").reason == "asked for"
    assert plan(lambda x, w: torch.tan(x + w)).reason == "its map is not linear in x"
    with pytest.raises(BackendError, match="`backend` must be one of auto, native, cpp, triton, reference, got 'cuda'"):
        plan(product, backend="cuda")
