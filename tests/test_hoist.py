"""Parts of a map that are computed before the kernel: which, how often, and that nothing else changes."""

import pytest
import torch
from checks import assert_near

import anyconv
from anyconv import Formula
from anyconv.backends import prepare
from anyconv.plan.hoist import hoist


def parts(function, **operands):
    found = hoist(Formula(function, operands=operands).mathematics)
    return {part.variable.name: (str(part.expr), part.variable.axes) for part in found.parts}, found.mathematics


def test_what_sees_only_weights_is_computed_for_each_of_them():
    found, left = parts(lambda x, w, s: x * torch.exp(w) * torch.sigmoid(s), s=anyconv.per_filter())
    assert found == {"h0": ("exp(w)", "ock"), "h1": ("sigmoid(s)", "o")}
    assert [v.name for v in left.variables] == ["x", "h0", "h1"]
    assert str(left.values[0]) == "x * h0 * h1"


def test_the_largest_part_is_taken_and_has_the_axes_of_all_it_sees():
    found, _ = parts(
        lambda x, d, s, q: x * torch.exp(-(d[0] ** 2 + d[1] ** 2) * s) + torch.tanh(q), d=anyconv.offsets(2),
        s=anyconv.per_filter(), q=anyconv.per_channel(),
    )  # fmt: skip
    assert sorted(axes for _, axes in found.values()) == ["c", "ok"]


def test_images_without_filters_and_channels_are_worth_it_others_not():
    kernel, _ = parts(
        lambda x, f, m, w: x * w * torch.exp(-((f[0] - m[0]) ** 2)),
        f=anyconv.guide(size=1),
        m=anyconv.center("f", size=1),
    )
    assert kernel == {"h0": ("exp(-(f[0] - m[0]) ** 2)", "nks")}
    for guide in (anyconv.guide(), anyconv.center()):
        assert parts(lambda x, m, w: x * w * torch.exp(m), m=guide)[0] == {}  # as many as there are pixels and channels


def test_what_is_cheap_stays():
    assert parts(lambda x, w, v: x * (w + v) * v)[0] == {}


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_a_given_gradient_does_not_come_through_a_part(backend):
    formula = Formula(lambda x, w, v: x * torch.exp(w + v), gradient={"w": lambda x, w, v: x * torch.exp(v)})
    found = hoist(formula.mathematics)
    assert [str(part.expr) for part in found.parts] == ["exp(w + v)", "exp(v)"]
    assert [v.frozen for v in found.mathematics.variables] == [False, False, False, False]
    x, w, v = (
        torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((1, 2, 5, 5), (3, 2, 3, 3), (3, 2, 3, 3))
    )
    gw, gv = torch.autograd.grad(anyconv.conv2d(x, (w, v), formula, backend=backend).sum(), (w, v))
    fields = x.detach().unfold(2, 3, 1).unfold(3, 3, 1).sum((0, 2, 3))
    torch.testing.assert_close(gw, fields * v.detach().exp())
    torch.testing.assert_close(gv, fields * (w + v).detach().exp())


def test_a_frozen_part_has_no_gradient():
    m = hoist(Formula(lambda x, d: x * torch.exp(d[0]), operands={"d": anyconv.offsets(1)}).mathematics).mathematics
    assert [v.frozen for v in m.variables] == [False, True]


OPERANDS = {
    "s": anyconv.per_filter(), "q": anyconv.per_channel(), "k": anyconv.per_offset(), "v": anyconv.per_pair(size=2),
    "f": anyconv.guide(size=2), "m": anyconv.center("f", size=2), "d": anyconv.offsets(2),
}  # fmt: skip
FORMULA = Formula(
    lambda x, w, s, q, k, v, f, m, d: (
        torch.tanh(x * torch.sin(w) * torch.exp(0.1 * s * q)) * torch.sigmoid(k - d[0] * 0.1) + x * torch.cos(v[0] * v[1])
        + w * torch.exp(-((f[0] - m[0]) ** 2) - (f[1] - m[1]) ** 2)
    ),
    operands=OPERANDS,
)  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "skip"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nothing_else_changes(groups, mode, dtype):
    shapes = {
        "w": (6, 8 // groups, 3, 2), "s": (6,), "q": (8,), "k": (3, 2), "v": (6, 8 // groups, 2), "f": (2, 2, 5, 6),
    }  # fmt: skip
    torch.manual_seed(0)
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)
    tensors = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}

    def run(backend, dtype):
        leaves = {n: t.to(dtype).requires_grad_() for n, t in {"x": x, **tensors}.items()}
        pixels, *_ = leaves.values()
        params = {n: t for n, t in leaves.items() if n != "x"}
        y = anyconv.conv2d(
            pixels, params, FORMULA, stride=(1, 2), padding=1, groups=groups, padding_mode=mode, backend=backend
        )
        grad = torch.linspace(-1, 1, y.numel(), dtype=dtype).reshape(y.shape)
        return [y.detach(), *torch.autograd.grad(y, list(leaves.values()), grad)]

    for got, want in zip(run("cpp", dtype), run("reference", torch.float64), strict=True):
        assert_near(got, want, terms=500)


def test_parts_per_site_are_taken_where_they_are_small(monkeypatch):
    taken = []
    value = prepare._value
    monkeypatch.setattr(prepare, "_value", lambda part, *rest: taken.append(part.variable.axes) or value(part, *rest))
    formula = Formula(
        lambda x, f, w: torch.abs(x - w) * torch.exp(f[0]), operands={"f": anyconv.guide(size=1)}
    )  # a guide's exponential
    for channels, padding_mode in ((8, "zeros"), (1, "zeros"), (8, "skip")):
        x, f = torch.randn(1, channels, 6, 6), torch.randn(1, 1, 6, 6)
        anyconv.conv2d(x, {"w": torch.randn(4, channels, 3, 3), "f": f}, formula, padding=1, padding_mode=padding_mode)
    assert taken == ["nks"]  # not where x has one channel, nor where taps are left out


def test_explain_says_what_is_computed_before():
    formula = Formula(lambda x, w, s: x * w * torch.exp(-s), operands={"s": anyconv.per_filter()}, reduce="max")
    text = anyconv.explain(anyconv.Conv2d(2, 3, 3, formula))
    assert "before      h0 = exp(-s), once for each (o)" in text


@pytest.mark.parametrize(
    "function",
    [
        lambda x, c: torch.exp(-torch.square((x - c[0]) * torch.exp(c[1]))),
        lambda x, c: torch.exp(c[0]) * torch.sin(c[1] * x),
    ],
)
def test_components_that_only_a_hoisted_part_sees_have_the_right_gradient(function):
    """Memory that nobody wrote is full of NaN in tests; it was part of these gradients."""
    formula = Formula(function, operands={"c": anyconv.per_tap(size=2)})
    x, c = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 2, 2, 2, requires_grad=True)
    (got,) = torch.autograd.grad(anyconv.conv2d(x, c, formula, backend="cpp").sum(), c)
    leaf = c.detach().double().requires_grad_()
    (want,) = torch.autograd.grad(anyconv.conv2d(x.double(), leaf, formula, backend="reference").sum(), leaf)
    assert_near(got, want, terms=2 * want.numel())
