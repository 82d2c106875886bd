"""Ties, zeros, infinities and NaN, through a whole convolution."""

import math

import pytest
import torch
import torch.nn.functional as F
from checks import assert_near, assert_same

import anyconv
from anyconv import Formula
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
