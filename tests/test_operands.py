"""Operands in layers and functions: frozen ones, images of a call, numbers that change, what is refused and how."""

import copy
import pickle

import pytest
import torch

import anyconv
from anyconv import Formula, Reduction, check_laws, guide, over, per_filter, per_site, per_tap, shared
from anyconv.backends.cpp import kernel
from anyconv.backends.torch_library import torch_library
from anyconv.reductions import BUILTIN, OF_TWO, norm

LIBRARY = torch_library(torch.float64)


def masked(x, m, w):
    return x * m * w, m


PARTIAL = Formula(
    masked, ("sum", "sum"), epilogue=lambda s, n: s / n.clamp(min=1), operands={"m": guide()}, name="partial"
)  # partial convolution (Liu et al. 2018)


def test_a_hyper_parameter_changes_a_thousand_times_and_builds_once(monkeypatch):
    built = []
    make = kernel._make
    monkeypatch.setattr(kernel, "_make", lambda source: built.append(source.title) or make(source))
    monkeypatch.setattr(kernel, "_loaded", {})
    formula = Formula(lambda x, w, p: (x - w).abs() ** p, operands={"p": shared(init=2.0, frozen=True)})
    layer = anyconv.Conv2d(1, 2, 3, formula)
    x = torch.randn(1, 1, 6, 6)
    seen = []
    for i in range(1000):
        layer.p.fill_(2.0 - i / 1000)
        y = layer(x)
        seen.append(y.detach())
    y.sum().backward()
    assert len(built) == 2  # a library for each pass
    passes = sorted(title.split(", ")[-1] for title in built)
    assert passes == ["backward (lanes of sites) in float32", "forward (lanes of sites) in float32"]
    assert not torch.equal(seen[0], seen[-1])
    assert layer.p.grad is None
    want = anyconv.conv2d(x, {"w": layer.w, "p": 1.001}, formula, layer.bias, backend="reference")
    torch.testing.assert_close(y, want)


def test_frozen_operands_are_buffers():
    formula = Formula(lambda x, w, v: x * w * v, operands={"v": per_tap(init=torch.nn.init.ones_, frozen=True)})
    layer = anyconv.Conv2d(2, 3, 3, formula)
    assert [name for name, _ in layer.named_parameters()] == ["w", "bias"]
    assert [name for name, _ in layer.named_buffers()] == ["v"]
    assert torch.equal(layer.v, torch.ones(3, 2, 3, 3))
    assert layer.double().v.dtype == torch.float64
    y = layer(torch.randn(1, 2, 5, 5, dtype=torch.float64))
    y.sum().backward()
    again = pickle.loads(pickle.dumps(layer.state_dict()))
    assert set(again) == {"w", "v", "bias"}


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_no_gradient_goes_to_what_is_frozen(backend):
    formula = Formula(lambda x, w, v: x * w * v, operands={"v": per_filter(frozen=True)})
    x, w, v = (torch.randn(s, requires_grad=True) for s in ((1, 2, 5), (3, 2, 3), (3,)))
    gx, gw, gv = torch.autograd.grad(anyconv.conv1d(x, (w, v), formula, backend=backend).sum(), (x, w, v))
    assert gx.any()
    assert gw.any()
    assert not gv.any()


def test_images_are_passed_with_each_call():
    layer = anyconv.Conv2d(2, 3, 3, PARTIAL, padding=1)
    x, m = torch.randn(4, 2, 6, 6), (torch.rand(4, 1, 6, 6) > 0.4).float()
    assert [name for name, _ in layer.named_parameters()] == ["w", "bias"]
    want = anyconv.conv2d(x, {"w": layer.w, "m": m}, PARTIAL, layer.bias, padding=1)
    assert torch.equal(layer(x, m=m), want)
    torch.testing.assert_close(layer(x[0], m=m[0]), want[0])  # unbatched
    with pytest.raises(anyconv.AnyConvError, match=r"called with the images \[\], its formula takes \['m'\]") as error:
        layer(x)
    assert "Pass each by name: `layer(x, m=...)`." in str(error.value)
    with pytest.raises(anyconv.AnyConvError, match=r"the images \['m', 'q'\], its formula takes \['m'\]"):
        layer(x, m=m, q=m)
    with pytest.raises(anyconv.AnyConvError, match=r"`m` must have shape \(4, 2, 6, 6\) \(guide"):
        layer(x, m=m[:, :, 1:])


def test_partial_convolution_ignores_what_is_masked():
    x, m, w = torch.randn(2, 3, 8, 8), (torch.rand(2, 1, 8, 8) > 0.5).float(), torch.randn(4, 3, 3, 3)
    other = torch.where(m > 0, x, torch.randn_like(x) * 100)
    one, two = (anyconv.conv2d(image, {"w": w, "m": m}, PARTIAL, padding=1) for image in (x, other))
    assert torch.equal(one, two)
    count = torch.nn.functional.conv2d(m.expand(-1, 3, -1, -1), torch.ones(1, 3, 3, 3), padding=1)
    want = torch.nn.functional.conv2d(x * m, w, padding=1) / count.clamp(min=1)
    torch.testing.assert_close(one, want)


class Bilateral(anyconv.Conv2d):
    """The style the question asked for, with everything a formula may have."""

    reduce = ("sum", "sum")
    operands = {"c": anyconv.center(), "sigma": per_filter(init=1.0), "gain": shared(init=1.0)}

    def map(self, x, c, sigma, w):
        near = w * torch.exp(-(((x - c) * sigma) ** 2))
        return near * x, near

    def epilogue(self, weighted, total, gain):
        return gain * weighted / total


def test_a_subclass_says_all_of_it():
    layer = Bilateral(3, 8, 5, padding=2, padding_mode="skip", bias=False)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {
        "sigma": (8,), "w": (8, 3, 5, 5), "gain": (),
    }  # fmt: skip
    torch.nn.init.uniform_(layer.w, 0.5, 1.0)
    x = torch.full((1, 3, 6, 6), 0.7)
    torch.testing.assert_close(layer(x), torch.full((1, 8, 6, 6), 0.7))  # a mean of equal pixels is that pixel
    again = copy.deepcopy(layer)
    assert torch.equal(again(x), layer(x))
    assert "y = gain * weighted / total where weighted = sum(" in repr(layer)


def test_formulas_are_equal_by_their_mathematics():
    def one():
        return Formula(
            lambda x, w: (x * w, w),
            ("sum", "sum"),
            epilogue=lambda a, b: a / b,
            gradient={"x": lambda x, w: (w, 0 * w)},
        )

    assert one() == one()
    assert hash(one()) == hash(one())
    plain = Formula(lambda x, w: (x * w, w), ("sum", "sum"), epilogue=lambda a, b: a / b)
    assert plain != one()
    assert Formula(lambda x: x, over(taps="max", channels="sum")) != Formula(
        lambda x: x, over(taps="sum", channels="max")
    )
    assert pickle.loads(
        pickle.dumps(Formula(masked, ("sum", "mean"), epilogue=ratio, operands={"m": guide()}))
    ) == Formula(masked, ("sum", "mean"), epilogue=ratio, operands={"m": guide()})


def ratio(a, b):
    return a / b


# --- a user's own reduction


ENERGY = Reduction(
    "energy", identity=0.0, step=lambda s, v: s + v * v, merge=lambda a, b: a + b, result=torch.sqrt,
    adjoint=lambda s, v: v / torch.sqrt(s),
)  # fmt: skip
HARMONIC = Reduction(
    "harmonic", identity=(0.0, 0.0), step=lambda s, v: (s[0] + 1 / v, s[1] + 1),
    merge=lambda a, b: (a[0] + b[0], a[1] + b[1]), result=lambda s: s[1] / s[0],
    adjoint=lambda s, v: s[1] / (s[0] * s[0] * v * v),
)  # fmt: skip
FIRST = Reduction(  # of two values
    "weighted", identity=(0.0, 0.0), step=lambda s, weight, value: (s[0] + weight * value, s[1] + weight),
    merge=lambda a, b: (a[0] + b[0], a[1] + b[1]), result=lambda s: s[0] / s[1],
    adjoint=lambda s, weight, value: ((value - s[0] / s[1]) / s[1], weight / s[1]),
)  # fmt: skip


@pytest.mark.parametrize("r", [ENERGY, HARMONIC, norm(2), norm(3.5)], ids=lambda r: r.name)
def test_laws_of_ones_own(r):
    check_laws(r, LIBRARY, [[1.0, 2.0, 2.0, 0.5], [3.0], [0.25, 4.0]])


@pytest.mark.parametrize("r", [FIRST, *OF_TWO.values()], ids=lambda r: r.name)
def test_laws_of_two_values(r):
    check_laws(
        r, LIBRARY, [[(1.0, 2.0), (2.0, -1.0), (0.5, 3.0)], [(1.5, 1.0)], [(1.0, 2.0), (-1.0, 4.0), (0.5, -7.0)]]
    )


def test_broken_laws_are_found():
    def broken(**change):
        parts = {
            "identity": 0.0, "step": lambda s, v: s + v, "merge": lambda a, b: a + b, "result": lambda s: s,
            "adjoint": lambda s, v: 1.0,
        } | change  # fmt: skip
        return Reduction("broken", **parts)

    check_laws(broken(), LIBRARY, [[1.0, 2.0, 3.0]])
    for change, law in (
        ({"adjoint": lambda s, v: v}, "adjoint at"),
        ({"merge": lambda a, b: a + 2 * b}, "fails on"),
        ({"identity": 1.0}, "identity fails"),
        ({"step": lambda s, v: s / 2 + v}, "fails on"),
    ):
        with pytest.raises(anyconv.AnyConvError, match=law):
            check_laws(broken(**change), LIBRARY, [[1.0, 2.0, 3.0]])


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_a_reduction_of_ones_own_computes(backend):
    x, w = torch.rand(2, 3, 6, dtype=torch.float64) + 0.5, torch.rand(4, 3, 2, dtype=torch.float64) + 0.5
    v = (anyconv.receptive_fields(x, 2)[:, None] * w[:, :, None]).movedim(2, -1).flatten(-2)  # (n, o, sites, values)
    for r, want in ((ENERGY, v.square().sum(-1).sqrt()), (HARMONIC, v.shape[-1] / (1 / v).sum(-1))):
        leaves = [x.clone().requires_grad_(), w.clone().requires_grad_()]
        y = anyconv.conv1d(*leaves, Formula(lambda x, w: x * w, r), backend=backend)
        torch.testing.assert_close(y, want)
        assert torch.autograd.gradcheck(
            lambda x, w, r=r: anyconv.conv1d(x, w, Formula(lambda x, w: x * w, r), backend=backend), leaves
        )
    y = anyconv.conv1d(x, w, Formula(lambda x, w: (w, x), FIRST), backend=backend)
    want = anyconv.conv1d(x, w, Formula(lambda x, w: x * w)) / w.sum((1, 2))[:, None]
    torch.testing.assert_close(y, want)


# --- what is refused


def layer_with(**arguments):
    return lambda: anyconv.Conv2d(2, 3, 3, Formula(**arguments))


REFUSED = {
    "two values, one reduction": (lambda: Formula(lambda x, w: (x, w)), "returns 2 numbers, sum takes 1"),
    "one value, a pair wanted": (lambda: Formula(lambda x, w: x, "softmax"), "returns 1 numbers, softmax takes 2"),
    "no epilogue": (lambda: Formula(lambda x, w: (x, w), ("sum", "max")), r"makes 2 values: \(sum, max\)"),
    "an epilogue too small": (
        lambda: Formula(lambda x, w: (x, w), ("sum", "sum"), epilogue=lambda a: a), "takes 1 values, `reduce` makes 2"
    ),
    "an epilogue of a weight": (
        lambda: Formula(lambda x, w: x, epilogue=lambda y, v: y * v), "the epilogue's operand `v` is per_tap"
    ),
    "two outputs": (lambda: Formula(lambda x, w: x, epilogue=lambda y: (y, y)), "returns 2 numbers; it makes one"),
    "a gradient of nothing": (lambda: Formula(lambda x, w: x, gradient={"q": lambda x: x}), "`gradient` names `q`"),
    "a gradient that is no function": (lambda: Formula(lambda x, w: x, gradient={"x": 1.0}), "a dict of functions"),
    "a gradient of a vector": (
        lambda: Formula(lambda x, w: x * w[0], operands={"w": per_tap(size=2)}, gradient={"w": lambda x: x}),
        "`gradient` names `w`, which is no single number",
    ),
    "a center of no guide": (
        lambda: Formula(lambda x, c, w: x - c, operands={"c": anyconv.center("w")}), "the center of `w`, which is no guide"
    ),
    "a norm of zero": (lambda: norm(0), "`p` of a norm must be a positive number, got 0"),
    "over two results": (
        lambda: over(taps="sum", channels="softmax"), "does not reduce one value to one value"
    ),
    "axes of a site": (lambda: per_site("kn"), "`along` must name some of the axes n, o, c, k, in that order, got 'kn'"),
    "a size of nothing": (lambda: per_tap(size=0), "`size` of a per_tap operand must be a positive int, got 0"),
    "a field of nothing": (lambda: Formula(lambda x: x[0], field=(0, 3)), "`field` must be a kernel of 1 to 3 positive"),
    "a field of another kernel": (layer_with(map=lambda x: x[0], field=(2, 2)), r"sees fields of \(2, 2\), the kernel is \(3, 3\)"),
    "a field with holes": (
        lambda: anyconv.Conv2d(2, 3, 3, Formula(lambda x: x[0], field=(3, 3)), padding=1, padding_mode="skip"),
        "needs all of a field",
    ),
    "a field's taps reduced": (
        lambda: Formula(lambda x: x[0], over(taps="sum", channels="sum"), field=2), "leaves no taps to reduce"
    ),
    "a pixel too far": (lambda: Formula(lambda x: x[9], field=(3, 3)), "IndexError"),
    "offsets of other axes": (
        layer_with(map=lambda x, d: x * d[0], operands={"d": anyconv.offsets(1)}), r"`d` is offsets\(1\), the convolution has 2"
    ),
    "a pool with filters": (lambda: anyconv.Pool2d(2, lambda x, w: x * w), "a pooling layer has no filters"),
    "a pool of unknown channels": (
        lambda: anyconv.Pool2d(2, Formula(lambda x, q: x * q, operands={"q": anyconv.per_channel()})), "how many there are is unknown"
    ),
    "a transposed center": (
        lambda: anyconv.ConvTranspose2d(2, 3, 3, Formula(lambda x, c, w: x - c, operands={"c": anyconv.center()})),
        "its fields have no middle",
    ),
    "a transposed field": (
        lambda: anyconv.ConvTranspose2d(2, 3, 3, Formula(lambda x: x[0], field=(3, 3))), "has no transposed convolution"
    ),
    "output_padding": (
        lambda: anyconv.ConvTranspose2d(2, 3, 3, stride=2, output_padding=2), "`output_padding` must be smaller than stride"
    ),
    "padding of a transposed convolution": (
        lambda: anyconv.ConvTranspose2d(2, 3, 3, padding="same"), "`padding` must be made of ints, got 'same'"
    ),
    "a transposed weight": (
        lambda: anyconv.conv_transpose2d(torch.ones(1, 4, 5, 5), torch.ones(3, 4, 3, 3), lambda x, w: x - w),
        r"`w` must have shape \(4, 4, 3, 3\) \(per_tap\), got \(3, 4, 3, 3\)",
    ),
    "no filters known": (
        lambda: anyconv.conv1d(torch.ones(1, 2, 5), {"k": torch.ones(3)}, Formula(lambda x, k: x * k, operands={"k": anyconv.per_offset()})),
        "no operand of .* varies per filter, so the number of filters is unknown",
    ),
    "a map too large for a kernel": (
        lambda: anyconv.Pool2d(9, Formula(lambda x: anyconv.sort_network(x)[40], field=(9, 9)), backend="cpp")(torch.ones(1, 1, 9, 9)),
        r"its map has \d+ operations; kernels unroll up to 400",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(what):
    function, message = REFUSED[what]
    with pytest.raises(anyconv.AnyConvError, match=message):
        function()


@pytest.mark.thorough
def test_a_field_too_large_for_a_kernel_is_computed_all_the_same():
    formula = Formula(lambda x: anyconv.sort_network(x)[24], field=(7, 7))
    x = torch.randn(1, 2, 9, 8)
    want = anyconv.receptive_fields(x, 7).flatten(-2).median(-1).values
    assert torch.equal(anyconv.Pool2d(7, formula, stride=1)(x), want)
    assert "kernels unroll up to" in anyconv.explain(anyconv.Conv2d(1, 1, 7, formula))


def test_explain_shows_all_of_it(golden):
    functions = Bilateral.map.__get__(Bilateral), Bilateral.epilogue.__get__(Bilateral)
    formulas = [
        Formula(functions[0], ("sum", "sum"), epilogue=functions[1], operands=Bilateral.operands, name="bilateral"),
        Formula(
            lambda x, w: -(x - w).abs(), over(taps="sum", channels="max"),
            gradient={"x": lambda x, w: (w - x).clamp(-1, 1)}, name="adder",
        ),
        Formula(lambda x: anyconv.sort_network(x)[1], field=3, name="median"),
    ]  # fmt: skip
    lines = "\n\n".join(map(anyconv.explain, formulas)).splitlines()
    golden("explain_language", "\n".join(line for line in lines if line[:12].strip() or not _is_source(line)))


def _is_source(line):
    return any(mark in line for mark in ("test_operands.py", "def map", "lambda", "Formula("))


def test_builtin_and_named_reductions_agree():
    assert set(BUILTIN) == {"sum", "mean", "prod", "max", "min", "logsumexp"}
    assert set(OF_TWO) == {"softmax", "argmax", "argmin"}
