"""Calls of kernels with tensors: memory formats, views, sums of many terms, what is refused."""

from pathlib import Path

import pytest
import torch

import anyconv
from anyconv import Formula
from anyconv.backends.cpp import call


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_memory_formats_are_kept(memory_format):
    x = torch.randn(2, 5, 6, 7).to(memory_format=memory_format).requires_grad_()
    w = torch.randn(4, 5, 3, 3, requires_grad=True)
    y = anyconv.conv2d(x, w, Formula(lambda x, w: torch.abs(x - w), "max"))
    want = anyconv.conv2d(x, w, Formula(lambda x, w: torch.abs(x - w), "max"), backend="reference")
    assert torch.equal(y, want)
    assert y.is_contiguous(memory_format=memory_format)
    (gx,) = torch.autograd.grad(y.sum(), x)
    assert gx.is_contiguous(memory_format=memory_format)


def test_depthwise_layers_in_both_memory_formats():
    """Lanes are groups in each; twenty are more than a vector, and no whole number of them."""
    formula = Formula(lambda x, w: torch.abs(x - w), "max")
    w = torch.randn(20, 1, 3, 3, requires_grad=True)
    base = torch.randn(2, 20, 6, 40)
    outputs = []
    for memory_format, width, backend in (
        (torch.contiguous_format, 32, "cpp"), (torch.channels_last, 40, "cpp"), (torch.contiguous_format, 40, "reference"),
    ):  # fmt: skip
        x = base[..., :width].contiguous(memory_format=memory_format).requires_grad_()
        y = anyconv.conv2d(x, w, formula, groups=20, padding=1, backend=backend)
        assert y.is_contiguous(memory_format=memory_format)
        outputs.append((y.detach(), *torch.autograd.grad(y.square().sum(), (x, w))))
    narrow, wide, want = outputs
    for got, expected in zip(wide, want, strict=True):
        torch.testing.assert_close(got, expected)
    torch.testing.assert_close(narrow[0][..., :31], want[0][..., :31])  # the last column sees its border


def test_views_are_read_where_they_lie():
    base, w = torch.randn(4, 6, 9, 10), torch.randn(3, 3, 2, 2)
    formula = Formula(lambda x, w: torch.abs(x - w) * 1.5)
    for x in (base[::2, 1::2, :, ::3], base.flip(0)[:, :3].mT, base[:, :1].expand(4, 3, 9, 10), base[1:2, :3].conj()):
        got = anyconv.conv2d(x, w.mT, formula)
        torch.testing.assert_close(got, anyconv.conv2d(x, w.mT, formula, backend="reference"))


def test_thousands_of_filters_are_not_summed_in_a_row():
    """Equal terms are rounded alike: one after the other, 18432 of them are off by more than this."""
    filters, taps = 2048, 9
    formula = Formula(lambda x, w: torch.where(x > w, 0.1 * x, 0.2 * x))
    x, w = torch.rand(1, 16, 4, 4, requires_grad=True), torch.full((filters, 16, 3, 3), -1.0)
    (gx,) = torch.autograd.grad(anyconv.conv2d(x, w, formula, padding=1, backend="cpp").sum(), x)
    want = filters * taps * torch.tensor(0.1).double()
    bound = (2 * 512 + filters * taps / 512) * torch.finfo(torch.float32).eps / 2  # additions within sums, and of sums
    assert (gx[:, :, 1:3, 1:3].double() / want - 1).abs().max() < bound
    in_a_row = torch.zeros(())
    for _ in range(filters * taps):
        in_a_row = in_a_row + 0.1
    assert (in_a_row.double() / want - 1).abs() > bound


def test_a_lazily_negated_tensor():
    x, w = torch.imag(torch.randn(1, 2, 5, 5, dtype=torch.complex64).conj()), torch.randn(3, 2, 3, 3)
    assert x.is_neg()
    formula = Formula(lambda x, w: torch.abs(x - w) * 1.5)
    torch.testing.assert_close(anyconv.conv2d(x, w, formula), anyconv.conv2d(x, w, formula, backend="reference"))


# --- where threads come from


@pytest.fixture
def without_maps(monkeypatch):
    """A system that does not tell which libraries a process has loaded, as macOS."""
    real = open

    def opened(name, *args, **kwargs):
        if name == "/proc/self/maps":
            raise FileNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(call, "open", opened, raising=False)
    call._parallel.cache_clear()
    yield
    call._parallel.cache_clear()


def test_threads_are_found_beside_torch_where_no_system_tells(without_maps):
    assert call._parallel() != 0
    mapped = Path("/proc/self/maps").read_text()
    assert all(str(Path(library).resolve()) in mapped for library in call._runtimes()[:1])


def test_without_a_runtime_one_thread_is_used_and_said_aloud(without_maps, monkeypatch, tmp_path):
    x, w = torch.randn(1, 3, 40), torch.randn(4, 3, 3)
    formula = anyconv.Formula(lambda x, w: -torch.abs(x - w))
    torch.set_num_threads(2)
    want = anyconv.conv1d(x, w, formula, backend="cpp")
    call._parallel.cache_clear()
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "torch" / "__init__.py"))
    with pytest.warns(UserWarning, match="OpenMP runtime was not found, so that kernels of the cpp backend run on one"):
        got = anyconv.conv1d(x, w, formula, backend="cpp")
    assert torch.equal(got, want)
