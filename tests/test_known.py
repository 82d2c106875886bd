"""Special cases equal functions that people know and trust: of torch, of scipy, and limits of each other."""

import itertools

import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from checks import assert_near

import anyconv
from anyconv import Formula, norm, over, per_site, sort_network

BACKENDS = ["reference", "cpp"]
every_backend = pytest.mark.parametrize("backend", BACKENDS)
MAX, MEAN = Formula(lambda x: x, "max"), Formula(lambda x: x, "mean")


@every_backend
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize(("k", "s", "p", "d"), [(2, 2, 0, 1), (3, 1, 1, 1), (3, 2, 1, 2), (2, 3, 1, 1), (3, 2, 0, 1)])
def test_max_pooling(k, s, p, d, ceil_mode, backend):
    x = torch.randn(2, 3, 9, 10, requires_grad=True)
    ours = anyconv.Pool2d(k, MAX, stride=s, padding=p, dilation=d, ceil_mode=ceil_mode, backend=backend)(x)
    theirs = F.max_pool2d(x, k, s, p, d, ceil_mode=ceil_mode)
    assert torch.equal(ours, theirs)
    grad = torch.randn_like(ours)
    got, want = (torch.autograd.grad(y, x, grad)[0] for y in (ours, theirs))
    torch.testing.assert_close(got, want)  # without ties, that is; torch gives all to one of them


@every_backend
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("count_include_pad", [False, True])
def test_average_pooling(dims, ceil_mode, count_include_pad, backend):
    pool, theirs = getattr(anyconv, f"Pool{dims}d"), getattr(F, f"avg_pool{dims}d")
    x = torch.randn(2, 3, *(8, 9, 7)[:dims], dtype=torch.float64, requires_grad=True)
    for k, s, p in ((2, 2, 0), (3, 2, 1), (3, 1, 1), (2, 3, 1)):
        mode = "zeros" if count_include_pad else "skip"
        ours = pool(k, MEAN, stride=s, padding=p, ceil_mode=ceil_mode, padding_mode=mode, backend=backend)(x)
        want = theirs(x, k, s, p, ceil_mode=ceil_mode, count_include_pad=count_include_pad)
        grad = torch.randn_like(want)
        assert_near(ours.detach(), want.detach(), terms=k**dims)
        assert_near(torch.autograd.grad(ours, x, grad)[0], torch.autograd.grad(want, x, grad)[0], terms=k**dims)


@every_backend
@pytest.mark.parametrize("p", [1, 2, 4])
def test_power_pooling(p, backend):
    x = torch.rand(2, 3, 8, 9, dtype=torch.float64, requires_grad=True)
    ours, theirs = (
        anyconv.Pool2d(3, Formula(lambda x: x, norm(p)), stride=2, backend=backend)(x),
        F.lp_pool2d(x, p, 3, 2),
    )
    assert_near(ours.detach(), theirs.detach(), terms=9)
    assert_near(*(torch.autograd.grad(y.sum(), x)[0] for y in (ours, theirs)), terms=9)


@every_backend
@pytest.mark.parametrize("size", [(3, 3), (2, 4), (5, 1), (4, 2)])
@pytest.mark.parametrize("mode", ["reflect", "nearest", "wrap", "constant"])
def test_flat_dilation_is_scipys(size, mode, backend):
    """Even kernels and borders too. scipy's structuring element is reflected, and its origin is the later middle."""
    image = np.random.default_rng(0).normal(size=(9, 8))
    want = scipy.ndimage.grey_dilation(image, size=size, mode=mode, cval=-np.inf)
    padded, before = _padded(image, size, mode, late=True)
    y = anyconv.Pool2d(size, MAX, stride=1, backend=backend)(padded)
    assert before >= 0
    assert np.array_equal(y[0, 0].numpy(), want)


@pytest.mark.sample(5)
@every_backend
@pytest.mark.parametrize("size", [(3, 3), (1, 5), (5, 3)])
@pytest.mark.parametrize("mode", ["reflect", "nearest", "wrap", "constant"])
def test_the_median_is_scipys(size, mode, backend):
    image = np.random.default_rng(1).normal(size=(9, 8))
    want = scipy.ndimage.median_filter(image, size=size, mode=mode, cval=0.25)
    middle = size[0] * size[1] // 2
    formula = Formula(lambda x: sort_network(x)[middle], field=size)
    if mode == "reflect":  # scipy repeats the border
        padded, _ = _padded(image, size, mode, late=False)
        y = anyconv.Pool2d(size, formula, stride=1, backend=backend)(padded)
    else:
        ours = {"nearest": "replicate", "wrap": "circular", "constant": 0.25}[mode]
        padding = tuple(k // 2 for k in size)
        y = anyconv.Pool2d(size, formula, stride=1, padding=padding, padding_mode=ours, backend=backend)(
            torch.from_numpy(image)[None, None]
        )
    assert np.array_equal(y[0, 0].numpy(), want)


def _padded(image, size, mode, *, late):
    """The image with its border, as scipy thinks of it; of an even kernel the later or the earlier middle."""
    names = {"reflect": "symmetric", "nearest": "edge", "wrap": "wrap", "constant": "constant"}
    pads = [((k - 1) // 2, k // 2) if late else (k // 2, (k - 1) // 2) for k in size]
    kwargs = {"constant_values": -np.inf} if mode == "constant" else {}
    padded = np.pad(image, pads, mode=names[mode], **kwargs)
    return torch.from_numpy(padded)[None, None], pads[0][0]


@pytest.mark.sample(5)
@pytest.mark.parametrize("backend", ["auto", "reference", "cpp"])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("k", "s", "p", "more", "d", "groups"),
    [(3, 1, 1, 0, 1, 1), (4, 2, 1, 0, 1, 1), (3, 2, 1, 1, 1, 2), (3, 3, 0, 2, 2, 1), (2, 3, 0, 1, 1, 1), (3, 2, 2, 0, 3, 1), (1, 3, 0, 0, 1, 2)],
)  # fmt: skip
def test_transposed_products(dims, k, s, p, more, d, groups, backend):
    ours, theirs = getattr(anyconv, f"conv_transpose{dims}d"), getattr(F, f"conv_transpose{dims}d")
    size = (5, 4, 3)[:dims]
    x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 6 // groups, *(k,) * dims, dtype=torch.float64, requires_grad=True)
    b = torch.randn(6, dtype=torch.float64, requires_grad=True)
    arguments = {"stride": s, "padding": p, "output_padding": more, "groups": groups, "dilation": d}
    want = theirs(x, w, b, **arguments)
    got = ours(x, w, lambda x, w: x * w, b, backend=backend, **arguments)
    assert_near(got.detach(), want.detach(), terms=4 * k**dims)
    grad = torch.randn_like(want)
    for one, other in zip(
        torch.autograd.grad(got, (x, w, b), grad), torch.autograd.grad(want, (x, w, b), grad), strict=True
    ):
        assert_near(one, other, terms=want.numel())


@every_backend
def test_transposed_maxima(backend):
    """Every output by hand: the largest of all pixels that a tap of their own sends there."""
    x, w = torch.randn(2, 3, 4, 3, dtype=torch.float64), torch.randn(3, 5, 3, 2, dtype=torch.float64)
    formula = Formula(lambda x, w: x + w, "max")
    y = anyconv.conv_transpose2d(x, w, formula, stride=(2, 3), padding=(1, 0), output_padding=(0, 1), backend=backend)
    want = torch.full((2, 5, 7, 9), -torch.inf, dtype=torch.float64)
    for i, j, k, m in itertools.product(range(4), range(3), range(3), range(2)):
        at = (2 * i + k - 1, 3 * j + m)
        if at[0] in range(7) and at[1] in range(9):
            value = (x[:, :, None, i, j] + w[None, :, :, k, m]).amax(1)
            want[:, :, at[0], at[1]] = torch.maximum(want[:, :, at[0], at[1]], value)
    assert torch.equal(y, want)
    assert want.isinf().any()  # outputs that no pixel reaches are the identity


@every_backend
def test_transposition_is_the_gradient_of_a_convolution(backend):
    """<conv(x), y> = <x, conv_transpose(y)>, for weights of any of our scopes."""
    formula = Formula(lambda x, w, a, c, k: x * w * a * c * k, operands={
        "a": anyconv.per_filter(), "c": anyconv.per_channel(), "k": anyconv.per_offset(),
    })  # fmt: skip
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64, requires_grad=True)
    w, a, c, k = (torch.randn(s, dtype=torch.float64) for s in ((5, 3, 3, 2), (5,), (3,), (3, 2)))
    arguments = {"stride": (2, 3), "padding": (1, 1)}
    y = anyconv.conv2d(x, {"w": w, "a": a, "c": c, "k": k}, formula, backend=backend, **arguments)
    grad = torch.randn_like(y)
    (want,) = torch.autograd.grad(y, x, grad)
    got = anyconv.conv_transpose2d(
        grad, {"w": w, "a": c, "c": a, "k": k}, formula, output_padding=(0, 0), backend=backend, **arguments
    )
    assert_near(got, want[:, :, : got.shape[2], : got.shape[3]], terms=30)
    assert not want[:, :, got.shape[2] :].any()


@every_backend
def test_locally_connected(backend):
    formula = Formula(lambda x, w: x * w, operands={"w": per_site("ock")})
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 3, 3, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    fields = anyconv.receptive_fields(x, 3)  # (n, c, *sites, *kernel)
    want = torch.einsum("nchwij,ocijhw->nohw", fields, w)
    got = anyconv.conv2d(x, w, formula, backend=backend)
    assert_near(got.detach(), want.detach(), terms=27)
    grad = torch.randn_like(want)
    for one, other in zip(torch.autograd.grad(got, (x, w), grad), torch.autograd.grad(want, (x, w), grad), strict=True):
        assert_near(one, other, terms=27)


@every_backend
def test_involution(backend):
    """Each site has a kernel of its own, which the channels share (Li et al. 2021)."""
    formula = Formula(lambda x, k: x * k, operands={"k": per_site("nk")})
    x, k = torch.randn(2, 3, 6, 5, dtype=torch.float64), torch.randn(2, 3, 3, 6, 5, dtype=torch.float64)
    want = torch.einsum("nchwij,nijhw->nchw", anyconv.receptive_fields(x, 3, padding=1), k)
    layer = anyconv.Pool2d(3, formula, stride=1, padding=1, padding_mode="zeros", backend=backend)
    assert_near(layer(x, k=k), want, terms=9)


@every_backend
def test_limits(backend):
    """Softmax of a large temperature and a norm of a large power tend to the maximum, logsumexp's quotient too."""
    x = torch.rand(1, 1, 8, 8, dtype=torch.float64) + 0.5
    largest = F.max_pool2d(x, 3, 1)
    errors = {}
    for t in (10.0, 100.0, 1000.0):
        hyper = anyconv.shared(init=t, frozen=True)
        pools = {
            "softmax": Formula(lambda x, t: (t * x, x), "softmax", operands={"t": hyper}),
            "norm": Formula(lambda x: x, norm(t)),
            "logsumexp": Formula(lambda x, t: t * x, "logsumexp", epilogue=lambda y, t: y / t, operands={"t": hyper}),
        }
        for name, formula in pools.items():
            y = anyconv.Pool2d(3, formula, stride=1, backend=backend, dtype=x.dtype)(x)
            errors.setdefault(name, []).append((y - largest).abs().max().item())
    for name, found in errors.items():
        assert found[0] > found[1] > found[2], name
        assert found[2] < 5e-3, name
    everywhere = Formula(lambda x: x, over(taps="max", channels="max"))
    assert torch.equal(anyconv.Pool2d(3, everywhere, stride=1, backend=backend)(x), largest)


@every_backend
def test_norms_neither_overflow_nor_underflow(backend):
    x = torch.tensor([[[3e30, 4e30, 0.0, 0.0, 3e-30, 4e-30, torch.inf, 1.0]]], requires_grad=True)
    y = anyconv.Pool1d(2, Formula(lambda x: x, norm(2)), backend=backend)(x)
    torch.testing.assert_close(y, torch.tensor([[[5e30, 0.0, 5e-30, torch.inf]]]))
    (g,) = torch.autograd.grad(y[..., :3].sum(), x)
    torch.testing.assert_close(g[0, 0, :6], torch.tensor([0.6, 0.8, 0.0, 0.0, 0.6, 0.8]))


@every_backend
def test_softmax_of_large_and_infinite_scores(backend):
    x = torch.tensor([[[1e4, 9e3, -torch.inf, -torch.inf, -torch.inf, 2.0]]], requires_grad=True)
    v = torch.tensor([[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]]])
    formula = Formula(lambda x, v: (x, v), "softmax", operands={"v": anyconv.guide()})
    y = anyconv.Pool1d(2, formula, backend=backend)(x, v=v)
    torch.testing.assert_close(y, torch.tensor([[[1.0, 3.5, 6.0]]]))  # all scores alike, even if -inf: the mean
    (g,) = torch.autograd.grad(y.sum(), x)
    assert g.isfinite().all()
