"""What torch rounds to TensorFloat-32 on a GPU, and what it must not: seen here by the switch at each convolution."""

import threading

import pytest
import torch

import anyconv
from anyconv import Formula
from anyconv.backends import convolutions, ieee, native, separated
from anyconv.expr import parse
from anyconv.plan.affine import affine

SEPARABLE = Formula(lambda x, w, v: w * torch.sin(x) + v * x * x * x)


def switch():
    return ieee._switch()


IEEE = ("ieee", False)


@pytest.fixture
def seen(monkeypatch):
    """What the switch says at each of torch's convolutions, forward and backward, as if all tensors were on a GPU."""
    found = []
    monkeypatch.setattr(native, "ieee", lambda x: ieee._turned())
    monkeypatch.setattr(separated, "ieee", lambda x: ieee._turned())

    def watched(function):
        def run(*args, **kwargs):
            found.append(switch())
            return function(*args, **kwargs)

        return run

    for module, name in (
        (convolutions, "_CONV"),
        (convolutions, "_INPUT"),
        (convolutions, "_WEIGHT"),
        (native, "_CONV"),
    ):
        monkeypatch.setattr(module, name, tuple(map(watched, getattr(module, name))))
    return found


def step(formula, count):
    x = torch.randn(1, 2, 6, 6, requires_grad=True)
    weights = [torch.randn(3, 2, 3, 3, requires_grad=True) for _ in range(count)]
    y = anyconv.conv2d(x, weights, formula, backend="native")
    return torch.autograd.grad(y.sum(), [x, *weights])


def test_a_product_follows_torchs_switch(seen):
    before = switch()
    step(Formula(lambda x, w: x * w), 1)
    assert set(seen) == {before}


@pytest.mark.parametrize(
    ("formula", "count"),
    [(SEPARABLE, 2), (Formula(lambda x, w: torch.tanh(w) * x), 1), (Formula(lambda x, w: (x - 0.5) * w), 1)],
    ids=["separable", "of another weight", "with an offset"],
)
def test_what_is_rewritten_is_computed_in_ieee_float32(seen, monkeypatch, formula, count):
    """As on a GPU: there torch differentiates by itself only what is a product."""
    monkeypatch.setattr(native, "follows_torch", lambda line, x: native.is_product(line))
    before = switch()
    step(formula, count)
    assert len(seen) >= 2
    assert set(seen) <= set(IEEE)
    assert switch() == before


def test_on_a_gpu_torch_differentiates_only_products_by_itself():
    there = torch.empty(1, device="meta")
    lines = [affine(parse(text), "x") for text in ("x * w", "x * tanh(w)", "x * w + w")]
    assert [native.follows_torch(line, there) for line in lines] == [True, False, False]
    assert all(native.follows_torch(line, torch.empty(1)) for line in lines)


def test_the_switch_is_turned_for_float32_on_a_gpu_alone():
    """Elsewhere it would not matter, and stays as it was inherited."""
    before = switch()
    with ieee.ieee(torch.empty(1)):
        assert switch() == before
    with ieee._turned():
        assert switch() in IEEE
        assert torch.backends.cudnn.allow_tf32 is False  # another thread may ask
    assert switch() == before


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="this torch has one switch for all of cuDNN")
def test_a_precision_of_convolutions_alone_is_kept():
    torch.backends.cudnn.conv.fp32_precision = "none"
    try:
        with ieee._turned():
            assert torch.backends.cudnn.conv.fp32_precision in ("ieee", "none")
        assert torch.backends.cudnn.conv.fp32_precision == "none"
    finally:
        torch.backends.cudnn.allow_tf32 = True


def test_threads_leave_the_switch_as_it_was():
    before, inside = switch(), threading.Barrier(2)

    def enter(first):
        with ieee._turned():
            inside.wait()
            if first:
                last.wait()
        if not first:
            last.set()

    last = threading.Event()
    threads = [threading.Thread(target=enter, args=(first,)) for first in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert switch() == before


def test_an_error_leaves_the_switch_as_it_was():
    before = switch()
    with pytest.raises(ValueError, match="in the middle"), ieee._turned():
        raise ValueError("in the middle")
    assert switch() == before


@pytest.mark.gpu
def test_rewritten_convolutions_on_a_gpu_are_as_good_as_float32():
    """By numbers: TensorFloat-32 would be wrong in the fourth digit."""
    x, w, v = (torch.randn(shape, device="cuda") for shape in ((2, 64, 16, 16), (32, 64, 3, 3), (32, 64, 3, 3)))
    torch.backends.cudnn.allow_tf32 = True
    got = anyconv.conv2d(x, (w, v), SEPARABLE, backend="native")
    want = anyconv.conv2d(x.double().cpu(), (w.double().cpu(), v.double().cpu()), SEPARABLE)
    assert (got.cpu() - want).abs().max() < 1e-5 * want.abs().max()
