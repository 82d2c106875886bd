"""The optimizer changes no value: most tests build kernels without it; here each skeleton gives the same bits with it."""

import pytest
import torch
import torch.nn.functional as F
from checks import assert_identical

import anyconv
from anyconv import Formula
from anyconv.backends.cpp import kernel

TAN = Formula(lambda x, w: torch.tan(x + w), "prod")
SMOOTH = Formula(lambda x, w: torch.tanh(x * w) * torch.exp(-torch.abs(x - w)), "logsumexp")
GUIDED = Formula(
    lambda x, w, v: F.softplus(x * w) * torch.exp(-((v - x) ** 2)), "mean", operands={"v": anyconv.guide()}
)
TWO_LEVELS = Formula(lambda x, w: torch.sin(x) + w, anyconv.over(taps="max", channels="sum"))
WHOLE = Formula(lambda x, w: torch.atan(x[0] * w[0] + x[4]) * torch.log1p(x[8] ** 2), "max", field=(3, 3))
SCALED = Formula(
    lambda x, w: torch.abs(x - w), "max", epilogue=lambda y, v: torch.erf(y * v), operands={"v": anyconv.per_filter()}
)
CALLS = {  # what decides the skeleton -> formula, channels, filters, groups, padding mode
    "channels": (TAN, 32, 40, 1, "zeros"),
    "channels, skipping": (SMOOTH, 32, 33, 1, "skip"),
    "groups": (SMOOTH, 24, 24, 24, "zeros"),
    "sites": (TAN, 2, 3, 1, "reflect"),
    "sites, skipping": (SMOOTH, 2, 1, 1, "skip"),
    "images": (GUIDED, 3, 5, 1, "zeros"),
    "images, skipping": (GUIDED, 3, 5, 1, "skip"),
    "two levels": (TWO_LEVELS, 3, 5, 1, "skip"),
    "whole fields": (WHOLE, 3, 5, 1, "circular"),
    "an epilogue": (SCALED, 32, 40, 1, "zeros"),
}
VARIANTS = {
    "lanes of channels; saves states", "lanes of channels", "lanes of groups; saves states", "lanes of groups",
    "lanes of sites; saves states", "lanes of sites", "lanes of sites; saves states; skips padding",
    "lanes of sites; skips padding",
}  # fmt: skip


def values_and_gradients(call, dtype):
    """Return the output, the gradient of each tensor, and the sources of the kernels that were loaded for them."""
    formula, channels, filters, groups, mode = CALLS[call]
    torch.manual_seed(0)
    tensors = {"w": torch.randn(filters, channels // groups, 3, 3)}
    if "v" in formula.operands:
        tensors["v"] = torch.randn((2, channels, 6, 5) if formula is GUIDED else (filters,))
    x, *given = (t.to(dtype).requires_grad_() for t in (torch.randn(2, channels, 6, 5), *tensors.values()))
    kernel._loaded.clear()
    y = anyconv.conv2d(
        x, dict(zip(tensors, given, strict=True)), formula, padding=1, groups=groups, padding_mode=mode, backend="cpp"
    )
    grad = torch.linspace(-1, 1, y.numel()).reshape(y.shape).to(dtype)
    return [y.detach(), *torch.autograd.grad(y, (x, *given), grad)], list(kernel._loaded)


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("call", "dtype"),
    [*((call, torch.float32) for call in CALLS), ("sites", torch.float64), ("channels", torch.bfloat16)],
)
def test_the_same_bits(call, dtype, request, monkeypatch):
    """As the tests build, and as users do."""
    monkeypatch.setattr(kernel, "_loaded", {})
    plain, sources = values_and_gradients(call, dtype)
    request.getfixturevalue("as_users")
    optimized, again = values_and_gradients(call, dtype)
    assert len(sources) == len(again) == 2
    for got, want in zip(plain, optimized, strict=True):
        assert_identical(got, want)


def test_these_calls_use_every_skeleton(monkeypatch):
    """Every variant, forward with and without states, and both backward passes."""
    monkeypatch.setattr(kernel, "_loaded", {})
    sources = [source for call in CALLS for source in values_and_gradients(call, torch.float32)[1]]
    assert {str(source.variant) for source in sources} == VARIANTS
    entries = {line for source in sources for line in source.text.splitlines() if line.endswith('_entry.hpp"')}
    assert entries == {f'#include "{name}_entry.hpp"' for name in ("forward", "backward", "backward_images")}
