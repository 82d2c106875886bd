"""Autocast, scaling, memory formats, strides and determinism: values, dtypes and layouts."""

import pytest
import torch
from cells import cell
from checks import assert_same
from torch import nn

import anyconv
from anyconv import Formula

ABSOLUTE = Formula(lambda x, w: -torch.abs(x - w))
KERNELS = {
    "channels": (16, 32), "sites": (1, 2), "a few ordinary convolutions": (8, 8), "native": (4, 4), "whole images": (4, 4),
}  # fmt: skip
FORMULAS = {
    "a few ordinary convolutions": anyconv.recipes.kan_chebyshev.formula, "native": Formula(lambda x, w: x * w),
    "whole images": Formula(lambda x, c, w: torch.tanh(x - c) * w, operands={"c": anyconv.center()}),
}  # fmt: skip


def layer_and_input(kind, dtype=torch.float32, **arguments):
    c_in, c_out = KERNELS[kind]
    layer = anyconv.Conv2d(c_in, c_out, 3, FORMULAS.get(kind, ABSOLUTE), padding=1, dtype=dtype, **arguments)
    return layer, torch.randn(2, c_in, 6, 5, dtype=dtype)


@cell("precision", "autocast in bfloat16 and float16: dtype of the output, float32 inside")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["channels", "whole images"])
def test_autocast(kind, dtype):
    layer, x = layer_and_input(kind)
    with torch.autocast("cpu", dtype):
        y = layer(x)
        assert y.dtype == dtype
        y.float().square().sum().backward()
    assert layer.w.grad.dtype == torch.float32
    rounded = layer_and_input(kind)[0]
    rounded.load_state_dict({name: p.to(dtype).float() for name, p in layer.state_dict().items()})
    want = rounded(x.to(dtype).float())  # the arithmetic is float32, what goes in and out is rounded once
    torch.testing.assert_close(
        y.float(), want.to(dtype).float(), rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps
    )


@cell("precision", "a layer of one's own precision under autocast: autocast=False")
def test_a_layer_that_stays_in_float32():
    layer, x = layer_and_input("channels", autocast=False)
    pool = anyconv.Pool2d(2, Formula(lambda x: x, "max"), autocast=False)
    up = anyconv.ConvTranspose2d(32, 4, 2, ABSOLUTE, autocast=False)
    want = up(pool(layer(x)))
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(up(pool(layer(x))), want)
        half = x.bfloat16()
        assert layer(half).dtype == torch.float32
    assert "autocast=False" in repr(layer)


@cell("precision", "GradScaler")
def test_grad_scaler():
    layer, x = layer_and_input("channels")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    before = layer.w.detach().clone()
    with torch.autocast("cpu", torch.bfloat16):
        loss = layer(x).float().mean()
    scaler.scale(loss).backward()
    scaled = layer.w.grad.clone()
    scaler.step(optimizer)
    scaler.update()
    torch.testing.assert_close(layer.w.detach(), before - 0.1 * scaled / 1024)
    optimizer.zero_grad()
    scaler.scale((layer(x) * float("inf")).mean()).backward()
    after = layer.w.detach().clone()
    scaler.step(optimizer)  # skips what is not finite
    scaler.update()
    assert_same(layer.w.detach(), after)
    assert scaler.get_scale() == 512.0


@cell("memory format", "channels_last in, channels_last out, gradients too")
@pytest.mark.parametrize("kind", KERNELS)
def test_channels_last(kind):
    layer, x = layer_and_input(kind, torch.float64)
    want = layer(x)
    last = x.clone(memory_format=torch.channels_last).requires_grad_()
    y = layer(last)
    ambiguous = last.is_contiguous()
    assert y.is_contiguous(memory_format=torch.contiguous_format if ambiguous else torch.channels_last)
    torch.testing.assert_close(y, want, rtol=1e-12, atol=1e-12)
    y.square().sum().backward()
    assert last.grad.is_contiguous(memory_format=torch.contiguous_format if ambiguous else torch.channels_last)
    plain = x.detach().clone().requires_grad_()
    layer(plain).square().sum().backward()
    torch.testing.assert_close(last.grad, plain.grad, rtol=1e-12, atol=1e-12)


VIEWS = {
    "sliced": lambda x: torch.cat([x, x], 3)[..., ::2], "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda x: x[:1].expand(2, -1, -1, -1), "flipped": lambda x: x.flip(0), "narrowed": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "channels last, sliced": lambda x: torch.cat([x, x], 1).contiguous(memory_format=torch.channels_last)[:, : x.shape[1]],
}  # fmt: skip


@cell("memory format", "sliced, transposed and expanded tensors, weights too")
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("kind", ["channels", "sites", "whole images"])
def test_views(kind, view):
    layer, x = layer_and_input(kind, torch.float64)
    x = VIEWS[view](x)
    w = VIEWS[view](layer.w.detach().repeat(2, 1, 1, 1))[: layer.out_channels]
    run = lambda x, w: anyconv.conv2d(x, w, layer.formula, padding=1)
    found = []
    for a, b in ((x, w), (x.contiguous(), w.contiguous())):
        leaves = a.detach().requires_grad_(), b.detach().requires_grad_()
        y = run(*leaves)
        found.append([y.detach(), *torch.autograd.grad(y, leaves, torch.ones_like(y))])
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


@cell("memory format", "a gradient of any strides")
@pytest.mark.parametrize("view", VIEWS)
def test_gradients_of_any_strides(view):
    layer, x = layer_and_input("channels", torch.float64)
    x.requires_grad_()
    grad = VIEWS[view](torch.randn(2, 32, 6, 5, dtype=torch.float64))
    for tensor in (x, layer.w):
        got, want = (torch.autograd.grad(layer(x), tensor, g)[0] for g in (grad, grad.contiguous()))
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_no_hidden_copy_of_the_input():
    """What a convolution allocates on an input of channels last is what it allocates on a contiguous one."""
    layer = anyconv.Conv2d(32, 32, 3, ABSOLUTE, padding=1)
    used = {}
    for name, x in {
        "contiguous": torch.randn(1, 32, 64, 64),
        "last": torch.randn(1, 32, 64, 64).contiguous(memory_format=torch.channels_last),
    }.items():
        with torch.no_grad():
            layer(x)
            with torch.profiler.profile(profile_memory=True) as seen:
                layer(x)
        used[name] = sum(max(0, e.self_cpu_memory_usage) for e in seen.events())
    output = 32 * 64 * 64 * 4
    assert used["last"] <= used["contiguous"] <= 1.01 * output + 4096


@cell("determinism", "use_deterministic_algorithms; the same bits for any number of threads")
@pytest.mark.parametrize("kind", ["channels", "sites", "whole images"])
def test_deterministic(kind):
    layer, x = layer_and_input(kind)
    x = x.repeat(3, 1, 5, 5).requires_grad_()
    runs = []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        y = layer(x)
        runs.append([y.detach(), *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])])
    for again in runs[1:]:
        for got, want in zip(again, runs[0], strict=True):
            assert_same(got, want)


@cell("memory", "torch.utils.checkpoint, both kinds")
@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoint(reentrant):
    model = nn.Sequential(
        anyconv.Conv2d(3, 8, 3, ABSOLUTE),
        nn.ReLU(),
        anyconv.Conv2d(8, 4, 3, Formula(lambda x, w: torch.tanh(x * w), "logsumexp")),
    )
    x = torch.randn(2, 3, 9, 9, requires_grad=True)
    want = torch.autograd.grad(model(x).square().sum(), [x, *model.parameters()])
    got_x = x.detach().requires_grad_()
    y = torch.utils.checkpoint.checkpoint(model, got_x, use_reentrant=reentrant)
    model.zero_grad()
    y.square().sum().backward()
    for got, gold in zip([got_x.grad, *(p.grad for p in model.parameters())], want, strict=True):
        assert_same(got, gold)
