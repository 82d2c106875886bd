"""Ties, zeros, infinities and NaN, through a whole convolution."""

import math

import pytest
import torch
import torch.nn.functional as F
from checks import assert_near, assert_same
from test_battery import SPELLED

import anyconv
from anyconv import Formula
from anyconv.expr.ops import TABLE
from anyconv.reductions import BUILTIN

INF = math.inf


@pytest.mark.sample(5)
@pytest.mark.parametrize("reduce", BUILTIN)
@pytest.mark.parametrize("mode", [pytest.param("zeros", marks=pytest.mark.thorough), "skip", "replicate"])
def test_nan_stays_in_the_fields_that_see_it(reduce, mode):
    x = torch.rand(2, 2, 8, 8)
    w = torch.rand(3, 2, 3, 3)
    formula = Formula(lambda x, w: torch.tanh(x * w), reduce)
    clean = anyconv.conv2d(x, w, formula, padding=1, padding_mode=mode)
    x[0, 1, 4, 5] = math.nan
    x.requires_grad_()
    y = anyconv.conv2d(x, w, formula, padding=1, padding_mode=mode)
    sees = torch.zeros_like(y, dtype=torch.bool)
    sees[0, :, 3:6, 4:7] = True
    assert y.isnan().equal(sees)
    assert_same(y[~sees], clean[~sees])
    (gx,) = torch.autograd.grad(y[~sees].sum(), x)
    assert gx[1].isfinite().all()


def test_max_of_x_is_max_pool_and_ties_share():
    x = torch.randint(0, 3, (2, 1, 7, 7)).double().requires_grad_()
    y = anyconv.conv2d(x, torch.zeros(1, 1, 3, 3, dtype=torch.float64), Formula(lambda x, w: x + w, "max"), stride=2)
    assert_same(y.detach(), F.max_pool2d(x.detach(), 3, 2))
    grad = torch.randn_like(y)
    (ours,) = torch.autograd.grad(y, x, grad)
    (theirs,) = torch.autograd.grad(anyconv.receptive_fields(x, 3, 2).amax((-2, -1)), x, grad)
    assert_near(ours, theirs, terms=9)


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_the_gradient_of_a_product_with_zeros(zeros):
    x = torch.tensor([[[2.0, 3.0, 5.0, 7.0]]], dtype=torch.float64)
    x[..., :zeros] = 0.0
    x.requires_grad_()
    y = anyconv.conv1d(x, torch.ones(1, 1, 4, dtype=torch.float64), Formula(lambda x, w: x * w, "prod"))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    (want,) = torch.autograd.grad(x.prod(), x)
    assert_near(gradient, want, terms=4)


def test_a_product_of_many_factors_neither_over_nor_underflows_on_the_way():
    """The product is 1, its parts reach 2**16000 and back: torch.prod of it is not finite in float32."""
    x = torch.cat([torch.full((16000,), 2.0), torch.full((16000,), 0.5)])[None, :, None].requires_grad_()
    y = anyconv.conv1d(x, torch.zeros(1, 32000, 1), Formula(lambda x, w: x + w, "prod"))
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert not x.prod().isfinite()
    assert y.item() == 1.0
    assert_same(gradient, 1 / x.detach())


def test_logsumexp_of_nothing_but_minus_infinity():
    x = torch.full((1, 1, 4, 4), -INF, requires_grad=True)
    w = torch.zeros(2, 1, 2, 2, requires_grad=True)
    y = anyconv.conv2d(x, w, Formula(lambda x, w: x + w, "logsumexp"))
    gx, gw = torch.autograd.grad(y.sum(), (x, w))
    assert (y == -INF).all()
    assert (gx == 0).all()
    assert (gw == 0).all()


def test_logsumexp_is_shifted():
    x = torch.full((1, 1, 3), 1000.0, requires_grad=True)
    y = anyconv.conv1d(x, torch.zeros(1, 1, 3), Formula(lambda x, w: x + w, "logsumexp"))
    assert_near(y.detach(), torch.full((1, 1, 1), 1000 + math.log(3), dtype=torch.float64))
    assert_near(torch.autograd.grad(y.sum(), x)[0], torch.full((1, 1, 3), 1 / 3, dtype=torch.float64))


@pytest.mark.parametrize(("reduce", "infinity"), [("max", -INF), ("min", INF)])
def test_true_infinities_are_kept(reduce, infinity):
    y = anyconv.conv1d(torch.full((1, 1, 3), infinity), torch.zeros(1, 1, 3), Formula(lambda x, w: x + w, reduce))
    assert y.item() == infinity


def test_zero_padding_goes_through_the_map_and_skip_does_not():
    x, w = torch.zeros(1, 1, 1, dtype=torch.float64), torch.full((1, 1, 3), 0.5, dtype=torch.float64)
    formula = Formula(lambda x, w: torch.tan(x + w))
    padded = anyconv.conv1d(x, w, formula, padding=1)
    skipped = anyconv.conv1d(x, w, formula, padding=1, padding_mode="skip")
    assert padded.item() == pytest.approx(3 * math.tan(0.5), rel=1e-15)
    assert skipped.item() == pytest.approx(math.tan(0.5), rel=1e-15)


def test_a_skipped_tap_cannot_spoil_a_gradient():
    """log(0) of a padded zero would; the tap outside is not computed at all."""
    x = torch.rand(1, 1, 3) + 0.5
    w = torch.rand(1, 1, 3, requires_grad=True)
    y = anyconv.conv1d(x, w, Formula(lambda x, w: torch.log(x) * w), padding=1, padding_mode="skip")
    assert torch.autograd.grad(y.sum(), w)[0].isfinite().all()


@pytest.mark.parametrize(
    ("reduce", "value"),
    [("sum", 0.0), ("mean", math.nan), ("prod", 1.0), ("max", -INF), ("min", INF), ("logsumexp", -INF)],
)
def test_a_site_that_sees_no_pixel_is_the_identity(reduce, value):
    y = anyconv.conv1d(torch.rand(1, 1, 3), torch.rand(1, 1, 1), Formula(lambda x, w: x * w, reduce), padding=1,
                       padding_mode="skip")  # fmt: skip
    assert y[0, 0, 0].item() == value or (math.isnan(value) and y[0, 0, 0].isnan())


def test_half_precision_accumulates_in_float32():
    """4096 ones and small changes: float16 itself stops counting at 2048."""
    x = torch.full((1, 4096, 1), 1.0, dtype=torch.float16)
    y = anyconv.conv1d(x, torch.zeros(1, 4096, 1, dtype=torch.float16), Formula(lambda x, w: torch.abs(x - w)))
    assert y.dtype == torch.float16
    assert y.item() == 4096.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_takes_its_dtype(dtype):
    layer = anyconv.Conv2d(2, 3, 3, lambda x, w: -torch.abs(x - w))
    with torch.autocast("cpu", dtype=dtype):
        y = layer(torch.randn(1, 2, 5, 5))
    assert y.dtype == dtype
    y.float().sum().backward()
    assert layer.w.grad.dtype == torch.float32


def test_autocast_leaves_float64_alone():
    x, w = torch.randn(1, 2, 5, 5, dtype=torch.float64), torch.randn(3, 2, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert anyconv.conv2d(x, w.double(), lambda x, w: x - w).dtype == torch.float64
        with pytest.raises(anyconv.AnyConvError, match="Convert one of them"):
            anyconv.conv2d(x, w, lambda x, w: x - w)


def alone_and_in_company(name, dtype, count):
    """The values of an operation of pixels and guides, among mild numbers and among hostile ones."""
    torch.manual_seed(0)
    values = [2 * torch.rand(1, 1, 40, dtype=dtype) + 0.1 for _ in range(count)]
    function = SPELLED.get(name) or next(
        filter(None, (getattr(place, name, None) for place in (torch, F, torch.special)))
    )
    formula = Formula(
        (lambda x, g, h: function(*(x, g, h)[:count]) + 0 * (g + h)),
        operands={"g": anyconv.guide(), "h": anyconv.guide()},
    )
    found = []
    for company in (0.5, 1e30, math.inf, math.nan):
        mixed = [torch.stack([v, torch.full_like(v, company)], -1).flatten(-2) for v in values]
        mixed += [torch.zeros_like(mixed[0])] * (3 - count)
        x, g, h = mixed
        found.append(anyconv.Pool1d(1, formula, backend="cpp")(x, g=g, h=h)[..., ::2])
    return found


BRANCH = [
    "sin",
    "cos",
    "tan",
    "pow",
    "ldexp",
]  # kernels look at all lanes at once, and go another way where one needs it
OPERATIONS = [
    row.name
    for row in TABLE.values()
    if row.result == "real" and all(p.kind == "real" for p in row.params) and row.name not in BRANCH
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BRANCH + [pytest.param(n, marks=pytest.mark.thorough) for n in OPERATIONS])
def test_a_number_does_not_depend_on_its_neighbors(name, dtype):
    """Which are others in the backward pass, where a maximum is known by being equal."""
    alone, *others = alone_and_in_company(name, dtype, len(TABLE[name].params))
    assert alone.isfinite().any()
    assert all(torch.equal(alone.nan_to_num(7.0), other.nan_to_num(7.0)) for other in others)


def test_a_kernels_maximum_is_found_again_beside_huge_numbers():
    """The sine of a huge number is computed in double; the others beside it, as ever."""
    x = torch.rand(1, 1, 64)
    w = torch.full((1, 1, 3), 0.5)
    x[..., ::9] = 1e6
    x.requires_grad_()
    y = anyconv.conv1d(x, w, Formula(lambda x, w: torch.where(x > 10, -1, torch.sin(x)) + w, "max"), backend="cpp")
    (gx,) = torch.autograd.grad(y.sum(), x)
    gold = x.detach().double().requires_grad_()
    fields = torch.where(gold > 10, -1, torch.sin(gold)).unfold(-1, 3, 1).amax(-1)
    (want,) = torch.autograd.grad(fields.sum(), gold)
    assert_near(gx, want, terms=3)


def test_the_reference_backends_maximum_is_found_again_where_a_number_is_spread():
    """Some of torch's functions round in another way where memory lies in another way."""
    formula = Formula(
        lambda x, w, a: (torch.atan2(x, torch.abs(a) + 0.1).tanh(), w), "argmax", operands={"a": anyconv.shared()}
    )
    for _ in range(30):
        x, w, a = (torch.randn(shape).bfloat16().requires_grad_() for shape in ((2, 2, 3, 3), (2, 2, 2, 2), ()))
        y = anyconv.conv2d(x, {"w": w, "a": a}, formula, backend="reference")
        (gw,) = torch.autograd.grad(y.sum(), w)
        assert gw.sum() == y.numel()  # each output is a weight


def test_torchs_faults_are_not_those_of_the_reference_backend():
    x = torch.tensor([[[math.nan, 2.0, -2.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    shrunk = anyconv.Pool1d(1, Formula(lambda x: F.hardshrink(x)), backend="reference")
    (gx,) = torch.autograd.grad(shrunk(x).sum(), x)
    assert gx[0, 0].tolist() == [1, 1, 1, 0]
    squashed = anyconv.Pool1d(1, Formula(lambda x: F.hardsigmoid(x)), backend="reference")
    (gx,) = torch.autograd.grad(squashed(x).sum(), x)
    assert gx[0, 0, 1:].tolist() == [1 / 6] * 3  # torch's is that of float32
    s = torch.zeros(2, requires_grad=True)
    clamped = Formula(lambda x, w, s: w * torch.clamp(s, s - 1, x + 3), operands={"s": anyconv.per_filter()})
    y = anyconv.conv1d(torch.zeros(1, 1, 4), {"w": torch.ones(2, 1, 1), "s": s}, clamped, backend="reference")
    (gs,) = torch.autograd.grad(y.sum(), s)  # torch's clamp cannot broadcast there
    assert gs.tolist() == [4, 4]


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_the_key_of_an_argmin_has_no_gradient_whatever_its_slope(backend):
    """The exponential of 1000 overflows: its slope, an infinity over an infinity, times 0 is no number."""
    x = torch.tensor([[[1000.0, 2.0, 1000.0]]], requires_grad=True)
    formula = Formula(lambda x: (torch.log1p(torch.exp(x)), 3 * x), "argmin")
    y = anyconv.Pool1d(3, formula, backend=backend)(x)
    (gx,) = torch.autograd.grad(y.sum(), x)
    assert gx.tolist() == [[[0, 3, 0]]]


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_a_sign_that_is_copied_has_derivatives_at_zero(backend):
    x = torch.tensor([[[0.0, 2.0, -3.0]]], dtype=torch.float64, requires_grad=True)
    formula = Formula(lambda x, w: torch.copysign(x, w) * x)
    y = anyconv.conv1d(x, -torch.ones(1, 1, 1, dtype=torch.float64), formula, backend=backend)  # -|x| x
    (gx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert gx.tolist() == [[[0, -4, -6]]]
    assert torch.autograd.grad(gx.sum(), x)[0].tolist() == [[[0, -2, 2]]]


@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("p", [2.0, 3.0])
def test_a_norm_is_curved_where_a_value_is_zero(p, backend):
    """As after a ReLU: the second derivative of the norm of (3, v) at v = 0 is 1 / 3 for p = 2."""
    x = torch.tensor([[[3.0, 0.0, 0.0, 0.0, -2.0]]], dtype=torch.float64, requires_grad=True)
    direction = torch.tensor([[[0.5, 1.0, -2.0, 1.5, 1.0]]], dtype=torch.float64)
    layer = anyconv.Pool1d(2, Formula(lambda x: x, anyconv.norm(p)), stride=1, backend=backend)
    (gx,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    (got,) = torch.autograd.grad((gx * direction).sum(), x)
    a, b = (1.0, 0.5) if p == 2 else (0.0, 0.0)  # (p - 1) / size, of the neighbors of 3 and of -2
    want = [0.0, a / 3 * direction[0, 0, 1], 0.0, b * direction[0, 0, 3], 0.0]
    assert_near(got.flatten(), torch.stack([torch.as_tensor(v, dtype=torch.float64) for v in want]), terms=4)


def test_a_floored_pole_has_no_gradient():
    x = torch.tensor([[[0.0, 2.0]]], requires_grad=True)
    layer = anyconv.Pool1d(1, Formula(lambda x: x // (torch.abs(torch.relu(1 / x)) + 0.1)), backend="reference")
    assert torch.autograd.grad(layer(x).sum(), x)[0].tolist() == [[[0, 0]]]
