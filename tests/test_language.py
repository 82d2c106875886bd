"""The full language on both backends against the float64 oracle: every scope, reduction, epilogue and whole field."""

import hypothesis
import oracle
import pytest
import torch
from checks import assert_as_good_as, assert_near
from hypothesis import given
from hypothesis import strategies as st

import anyconv
from anyconv import Formula
from anyconv.functional import convolve
from anyconv.geometry import Geometry

GEOMETRIES = [
    ({"kernel_size": (3,), "padding": (1,)}, (6,)),
    ({"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}, (5, 6)),
    ({"kernel_size": (3, 3)}, (5, 4)),
    ({"kernel_size": (2, 1, 3), "padding": (1, 0, 1), "stride": (1, 2, 1)}, (3, 3, 3)),
]
every_backend = pytest.mark.parametrize("backend", ["reference", "channels", "sites"], indirect=True)

SCOPES = {  # a name for each scope -> as ours, and as the oracle's
    "per_tap": (anyconv.per_tap(), "per_tap"),
    "per_filter": (anyconv.per_filter(), "per_filter"),
    "per_channel": (anyconv.per_channel(), "per_channel"),
    "per_pair": (anyconv.per_pair(), "per_pair"),
    "per_offset": (anyconv.per_offset(), "per_offset"),
    "shared": (anyconv.shared(), "shared"),
    "center": (anyconv.center(), ("center", None)),
    "guide": (anyconv.guide(), ("guide",)),
    "mask": (anyconv.guide(), ("guide",)),  # with a single channel for all
    **{
        f"per_site {along}": (anyconv.per_site(along), ("per_site", along))
        for along in ("nock", "ock", "nk", "nc", "o", "")
    },
}
VECTORS = {
    "per_tap of 3": (anyconv.per_tap(size=3), ("per_tap", 3)),
    "per_filter of 2": (anyconv.per_filter(size=2), ("per_filter", 2)),
    "shared of 2": (anyconv.shared(size=2), ("shared", 2)),
    "guide of 3": (anyconv.guide(size=3), ("guide", 3)),
}


class Case:
    """A formula with its tensors, for ours and for the oracle."""

    def __init__(
        self, function, reduce, names, arguments, size, *, epilogue=None, outer=(), c_in=4, c_out=6, dtype=torch.float64
    ):
        self.function, self.names, self.epilogue, self.outer = function, names, epilogue, outer
        self.arguments, self.reduce = arguments, reduce
        self.scopes = {n: (SCOPES | VECTORS | OFFSETS)[kind] for n, kind in names.items()}
        self.geometry = g = Geometry.of(len(size), **arguments)
        self.c_out, sites = c_out, g.sites(size)
        self.x = torch.randn(2, c_in, *size, dtype=dtype, requires_grad=True)
        self.tensors = {}
        for name, kind in names.items():
            operand = self.scopes[name][0]
            if operand.scope in ("center", "offsets"):
                continue
            shape = operand.shape(c_in, c_out, g, 2, size)
            shape = (2, 1, *size) if kind == "mask" else shape
            self.tensors[name] = torch.randn(shape, dtype=dtype, requires_grad=True)
        self.sites = sites

    def formula(self):
        reduce = self.reduce
        if isinstance(reduce, tuple) and reduce[0] == "over":
            reduce = anyconv.over(taps=_ours(reduce[1]), channels=_ours(reduce[2]))
        elif isinstance(reduce, tuple):
            reduce = tuple(map(_ours, reduce))
        else:
            reduce = _ours(reduce)
        operands = {name: ours for name, (ours, _) in self.scopes.items()}
        return Formula(self.function, reduce, epilogue=self.epilogue, operands=operands)

    def ours(self, backend, x=None, tensors=None):
        return convolve(
            self.x if x is None else x, self.tensors if tensors is None else tensors, None, formula=self.formula(),
            geometry=self.geometry, out_channels=self.c_out, backend=backend,
        )  # fmt: skip

    def gold(self, x=None, tensors=None):
        g = self.geometry
        scene = oracle.Scene(
            self.x if x is None else x, self.tensors if tensors is None else tensors,
            {name: theirs for name, (_, theirs) in self.scopes.items()}, kernel=g.kernel, stride=g.stride, before=g.before,
            dilation=g.dilation, groups=g.groups, mode=g.mode, out_channels=self.c_out, sites=self.sites,
        )  # fmt: skip
        inside = [name for name in self.names if name not in self.outer]
        return scene.run(self.function, inside, self.reduce, self.epilogue, self.outer)


OFFSETS = {f"offsets{d}": (anyconv.offsets(d), ("offsets",)) for d in (1, 2, 3)}


def _ours(name):
    return anyconv.norm(float(name[4:])) if name.startswith("norm") else name


def values_and_gradients(y, leaves):
    grad = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(y.dtype)
    return [y.detach(), *torch.autograd.grad(y, leaves, grad, allow_unused=True, materialize_grads=True)]


def assert_agrees(case, backend):
    """The value, and the gradient of the pixels and of every operand."""
    leaves = [case.x, *case.tensors.values()]
    ours = values_and_gradients(case.ours(backend), leaves)
    gold = values_and_gradients(case.gold(), leaves)
    for got, want in zip(ours, gold, strict=True):
        assert_near(got, want, terms=want.numel() + gold[0].numel())


def with_one(x, w, v):
    return torch.tanh(x * w + 0.3 * v) * torch.cos(v) + 0.1 * x


@pytest.mark.sample(7)
@every_backend
@pytest.mark.parametrize(
    ("scope", "reduce"),
    [(scope, "max") for scope in SCOPES]
    + [("per_pair", "mean"), ("center", "prod"), ("per_site nk", "logsumexp"), ("per_pair", "norm3")],
)
@pytest.mark.parametrize("groups", [pytest.param(1, marks=pytest.mark.thorough), 2])
def test_scope_by_reduction(scope, reduce, groups, backend):
    arguments = {"kernel_size": (3, 2), "padding": (1, 1), "groups": groups}
    assert_agrees(Case(with_one, reduce, {"w": "per_tap", "v": scope}, arguments, (4, 5)), backend)


@pytest.mark.sample(31)
@every_backend
@pytest.mark.parametrize(
    ("scope", "mode", "arguments", "size"),
    [
        (scope, ("zeros", "skip")[(i + j) % 2], *geometry)
        for i, scope in enumerate(SCOPES)
        for j, geometry in enumerate(GEOMETRIES)
    ]
    + [
        (scope, mode, *geometry)  # padded as x is
        for scope in ("center", "guide", "mask")
        for mode in ("reflect", 0.5)
        for geometry in GEOMETRIES
    ],
    ids=str,
)
def test_scope_by_geometry(scope, mode, arguments, size, backend):
    arguments = {**arguments, "padding_mode": mode}
    assert_agrees(Case(with_one, "sum", {"w": "per_tap", "v": scope}, arguments, size, c_in=2, c_out=3), backend)


@pytest.mark.sample(4)
@every_backend
@pytest.mark.parametrize("scope", ["per_pair", "mask", "per_site nock"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_scope_by_dtype(scope, dtype, backend):
    """As good as torch in that dtype, and the half precisions as good as float32 that is rounded once."""
    case = Case(
        with_one, "sum", {"w": "per_tap", "v": scope}, {"kernel_size": (3, 3), "padding": (1, 1)}, (5, 5), dtype=dtype
    )

    def at(dtype, run):
        x = case.x.detach().to(dtype).requires_grad_()
        tensors = {n: t.detach().to(dtype).requires_grad_() for n, t in case.tensors.items()}
        return values_and_gradients(run(x, tensors), [x, *tensors.values()])

    gold, plain = at(torch.float64, case.gold), at(torch.float32, case.gold)
    ours = at(dtype, lambda x, tensors: case.ours(backend, x, tensors))
    for got, rounded, want in zip(ours, plain, gold, strict=True):
        assert_as_good_as(got, rounded.to(dtype), want, scale=max(g.abs().max().item() for g in gold))


def total(v):
    return v[0] + 2 * v[-1] * v[0]


@pytest.mark.sample(7)
@every_backend
@pytest.mark.parametrize("scope", VECTORS)
@pytest.mark.parametrize("mode", ["zeros", "skip"])
def test_vectors(scope, mode, backend):
    arguments = {"kernel_size": (3, 2), "padding": (1, 1), "groups": 2, "padding_mode": mode}
    assert_agrees(
        Case(lambda x, w, v: torch.tanh(x * w) * total(v), "sum", {"w": "per_tap", "v": scope}, arguments, (4, 5)),
        backend,
    )


@every_backend
@pytest.mark.parametrize(("arguments", "size"), GEOMETRIES, ids=str)
def test_offsets(arguments, size, backend):
    function = lambda x, w, d: w * x * torch.exp(-0.1 * sum(a * a for a in d) + 0.2 * d[0])
    names = {"w": "per_tap", "d": f"offsets{len(size)}"}
    assert_agrees(Case(function, "sum", names, arguments, size, c_in=2, c_out=3), backend)


def test_the_center_of_a_guide():
    """Pixel-adaptive convolution (Su et al. 2019): a kernel of the difference of guides at the tap and at the middle."""
    formula = Formula(
        lambda x, f, m, w: w * x * torch.exp(-0.5 * sum((a - b) ** 2 for a, b in zip(f, m, strict=True))),
        operands={"f": anyconv.guide(size=3), "m": anyconv.center("f", size=3)},
    )
    x, w, f = (
        torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 4, 5, 6), (6, 4, 3, 3), (2, 3, 5, 6))
    )
    scopes = {"f": ("guide", 3), "m": ("center", "f", 3)}
    scene = oracle.Scene(
        x, {"w": w, "f": f}, scopes, kernel=(3, 3), stride=(1, 1), before=(1, 1), dilation=(1, 1), groups=1,
        mode="zeros", out_channels=6, sites=(5, 6),
    )  # fmt: skip
    gold = values_and_gradients(scene.run(formula.map, ["f", "m", "w"], "sum"), [x, w, f])
    for backend in ("reference", "cpp"):
        ours = values_and_gradients(anyconv.conv2d(x, {"w": w, "f": f}, formula, padding=1, backend=backend), [x, w, f])
        for got, want in zip(ours, gold, strict=True):
            assert_near(got, want, terms=400)


REDUCTIONS = {
    "softmax": lambda x, w: (x * w, torch.tanh(x - w)),
    "argmax": lambda x, w: (torch.round(2 * x * w), torch.tanh(x - w)),  # with ties
    "argmin": lambda x, w: (x * w, torch.tanh(x - w)),
    "norm3": lambda x, w: x - w,
    "norm1.5": lambda x, w: x - w,
}


@pytest.mark.sample(17)
@every_backend
@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize(("arguments", "size"), GEOMETRIES, ids=str)
@pytest.mark.parametrize("mode", ["zeros", "skip"])
def test_reduction_by_geometry(reduce, arguments, size, mode, backend):
    arguments = {**arguments, "padding_mode": mode, "groups": 2}
    if mode == "skip" and any(
        p >= k for p, k in zip(arguments.get("padding", (0,)), arguments["kernel_size"], strict=False)
    ):
        pytest.skip("some fields are empty, and torch's functions have no value for them")
    assert_agrees(Case(REDUCTIONS[reduce], reduce, {"w": "per_tap"}, arguments, size), backend)


@pytest.mark.sample(5)
@every_backend
@pytest.mark.parametrize(
    ("taps", "channels"),
    [("max", "sum"), ("max", "mean"), ("mean", "prod"), ("mean", "max"), ("logsumexp", "sum"), ("softmax", "prod"), ("softmax", "mean")],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["zeros", "skip"])
def test_two_levels(taps, channels, mode, backend):
    function = REDUCTIONS["softmax"] if taps == "softmax" else (lambda x, w: torch.tanh(x + w))
    arguments = {"kernel_size": (3, 2), "padding": (1, 1), "groups": 2, "padding_mode": mode}
    assert_agrees(Case(function, ("over", taps, channels), {"w": "per_tap"}, arguments, (4, 5), c_in=6), backend)


@every_backend
@pytest.mark.parametrize("mode", ["zeros", "skip"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_several_accumulators_and_an_epilogue(mode, groups, backend):
    """Bilateral: two sums in one pass, joined at the end; a depthwise case among them."""
    case = Case(
        lambda x, w, c, s: (w * torch.exp(-(((x - c) * s) ** 2)) * x, torch.exp(-(((x - c) * s) ** 2))), ("sum", "sum"),
        {"w": "per_tap", "c": "center", "s": "per_filter", "gain": "shared", "power": "per_filter"},
        {"kernel_size": (3, 3), "padding": (1, 1), "groups": groups, "padding_mode": mode}, (4, 5), c_out=4,
        epilogue=lambda a, b, gain, power: gain * torch.tanh(a / (b + 1)) * torch.exp(power), outer=("gain", "power"),
    )  # fmt: skip
    assert_agrees(case, backend)


@pytest.mark.sample(5)
@every_backend
@pytest.mark.parametrize(
    ("reduce", "lanes"), [("mean", (4, 6, 1)), ("mean", (6, 6, 6)), ("max", (6, 6, 6)), ("logsumexp", (4, 6, 1))]
)
def test_an_epilogue_of_one_value(reduce, lanes, backend):
    """Its slope needs the reduced value, of which a mean keeps no count; also where lanes are groups."""
    c_in, c_out, groups = lanes
    case = Case(
        lambda x, w: x * w + 0.5, reduce, {"w": "per_tap", "p": "per_filter"},
        {"kernel_size": (3, 3), "padding": (1, 1), "groups": groups, "padding_mode": "skip"}, (4, 5), c_in=c_in, c_out=c_out,
        epilogue=lambda y, p: y * y * torch.sin(p) + y, outer=("p",),
    )  # fmt: skip
    assert_agrees(case, backend)


@pytest.mark.parametrize("backend", ["reference", "auto"])
def test_an_epilogue_with_a_value_per_site(backend):
    case = Case(
        lambda x, w: x * w, "sum", {"w": "per_tap", "p": "per_site o"}, {"kernel_size": (3, 3)}, (4, 5),
        epilogue=lambda y, p: y * torch.sin(p), outer=("p",),
    )  # fmt: skip
    assert_agrees(case, backend)


def test_that_the_comparison_can_fail():
    case = Case(with_one, "sum", {"w": "per_tap", "v": "per_pair"}, {"kernel_size": (3, 3)}, (5, 5))
    case.function = lambda x, w, v: with_one(x, w, v) * (1 if hasattr(x, "expr") else 1.001)
    with pytest.raises(AssertionError, match="beyond"):
        assert_agrees(case, "reference")


# --- whole fields


def quadratic(x, w, q):
    """Pairwise terms of a field of four (quadratic convolution, Zoumpourlis et al. 2017)."""
    pairs = sum(x[i] * x[j] * q[3 * i + j] for i in range(3) for j in range(i, 3))
    return torch.tanh(pairs) + sum(a * b for a, b in zip(x, w, strict=True))


@pytest.mark.sample(7)
@every_backend
@pytest.mark.parametrize("reduce", ["sum", "max", "mean"])
@pytest.mark.parametrize("mode", ["zeros", "reflect", 0.5])
@pytest.mark.parametrize("groups", [1, 2])
def test_whole_fields(reduce, mode, groups, backend):
    formula = Formula(quadratic, reduce, operands={"q": anyconv.per_pair(size=16)}, field=(2, 2))
    x, w, q = (
        torch.randn(s, dtype=torch.float64, requires_grad=True)
        for s in ((2, 4, 5, 4), (6, 4 // groups, 2, 2), (6, 4 // groups, 16))
    )
    arguments = {"stride": (2, 1), "padding": (1, 1), "dilation": (1, 2), "groups": groups, "padding_mode": mode}
    sites = Geometry.of(2, 2, **arguments).sites((5, 4))
    scene = oracle.Scene(
        x, {"w": w, "q": q}, {"q": ("per_pair", 16)}, kernel=(2, 2), stride=(2, 1), before=(1, 1), dilation=(1, 2),
        groups=groups, mode=mode, out_channels=6, sites=sites, whole=True,
    )  # fmt: skip
    gold = values_and_gradients(scene.run(quadratic, ["w", "q"], reduce), [x, w, q])
    ours = values_and_gradients(anyconv.conv2d(x, {"w": w, "q": q}, formula, backend=backend, **arguments), [x, w, q])
    for got, want in zip(ours, gold, strict=True):
        assert_near(got, want, terms=400)


@pytest.mark.sample(5)
@every_backend
@pytest.mark.parametrize("scope", ["guide", "per_site nk", "per_offset", "center"])
def test_operands_of_whole_fields(scope, backend):
    ours, theirs = SCOPES[scope]
    several = scope != "center"

    def function(x, v):
        return torch.tanh(x[0] * (v[0] if several else v)) - x[2] * torch.cos(v[2] if several else v) + x[1]

    formula = Formula(function, "sum", operands={"v": ours}, field=(3,))
    x = torch.randn(2, 3, 7, dtype=torch.float64, requires_grad=True)
    shapes = {"guide": (2, 3, 7), "per_site nk": (2, 3, 7), "per_offset": (3,)}
    tensors = {"v": torch.randn(shapes[scope], dtype=torch.float64, requires_grad=True)} if several else {}
    geometry = Geometry.of(1, 3, padding=1)
    scene = oracle.Scene(
        x, tensors, {"v": theirs}, kernel=(3,), stride=(1,), before=(1,), dilation=(1,), groups=1, mode="zeros",
        out_channels=2, sites=(7,), whole=True,
    )  # fmt: skip
    gold = values_and_gradients(scene.run(function, ["v"], "sum"), [x, *tensors.values()])
    y = convolve(x, tensors, None, formula=formula, geometry=geometry, out_channels=2, backend=backend)
    for got, want in zip(values_and_gradients(y, [x, *tensors.values()]), gold, strict=True):
        assert_near(got, want, terms=100)


# --- gradients of one's own


class AdderByHand(torch.autograd.Function):
    """AdderNet's inner operation (Chen et al. 2020, equations 5 to 7) with its own derivatives."""

    @staticmethod
    def forward(ctx, x, w):
        ctx.save_for_backward(x, w)
        return -(x - w).abs()

    @staticmethod
    def backward(ctx, grad):
        x, w = ctx.saved_tensors
        return (grad * (w - x).clamp(-1, 1)).sum_to_size(x.shape), (grad * (x - w)).sum_to_size(w.shape)


ADDER = {"x": lambda x, w: (w - x).clamp(-1, 1), "w": lambda x, w: x - w}


@pytest.mark.sample(5)
@every_backend
@pytest.mark.parametrize(
    ("reduce", "which"), [("sum", ("x",)), ("sum", ("w",)), ("mean", ("x", "w")), ("logsumexp", ("x", "w"))]
)
def test_gradients_of_ones_own(reduce, which, backend):
    arguments = {"kernel_size": (3, 2), "padding": (1, 1), "groups": 2}
    case = Case(lambda x, w: -(x - w).abs(), reduce, {"w": "per_tap"}, arguments, (4, 5))
    formula = Formula(case.function, reduce, gradient={name: ADDER[name] for name in which})
    y = anyconv.conv2d(case.x, case.tensors["w"], formula, padding=1, groups=2, backend=backend)
    leaves = [case.x, case.tensors["w"]]
    ours = values_and_gradients(y, leaves)
    plain = values_and_gradients(case.gold(), leaves)
    case.function = AdderByHand.apply
    by_hand = values_and_gradients(case.gold(), leaves)
    for i, name in enumerate(("y", "x", "w")):
        want = by_hand[i] if name in which else plain[i]
        assert_near(ours[i], want, terms=want.numel() + plain[0].numel())


def test_a_gradient_may_follow_a_schedule():
    """AdderNet V2's exponent of the gradient runs during training: a frozen operand that only the gradient reads."""
    formula = Formula(
        lambda x, w: -(x - w).abs(), operands={"p": anyconv.shared(init=2.0, frozen=True)},
        gradient={"x": lambda x, w, p: torch.sign(w - x) * torch.abs(w - x) ** (p - 1)},
    )  # fmt: skip
    x, w = torch.randn(1, 2, 5, dtype=torch.float64, requires_grad=True), torch.randn(3, 2, 3, dtype=torch.float64)
    for p in (2.0, 1.5, 1.0):
        for backend in ("reference", "cpp"):
            (gx,) = torch.autograd.grad(anyconv.conv1d(x, {"w": w, "p": p}, formula, backend=backend).sum(), x)
            want = torch.zeros_like(x)
            for s in range(3):
                d = w - x.detach()[:, :, s : s + 3]
                want[:, :, s : s + 3] += (d.sign() * d.abs() ** (p - 1)).sum(0)
            assert_near(gx, want, terms=30)


def test_straight_through():
    """The map quantizes, the gradient does not see it (Courbariaux et al. 2016)."""
    formula = Formula(lambda x, w: torch.sign(x) * torch.sign(w), gradient={
        "x": lambda x, w: torch.sign(w) * (x.abs() <= 1), "w": lambda x, w: torch.sign(x) * (w.abs() <= 1),
    })  # fmt: skip
    x, w = torch.randn(2, 3, 6, requires_grad=True), torch.randn(4, 3, 3, requires_grad=True)

    def hard(a):  # the same by torch's own means
        return a.clamp(-1, 1) + (a.sign() - a.clamp(-1, 1)).detach()

    gold = torch.nn.functional.conv1d(hard(x.double()), hard(w.double()))
    grad = torch.randn(gold.shape)
    want = torch.autograd.grad(gold, (x, w), grad.double())
    for backend in ("reference", "cpp"):
        y = anyconv.conv1d(x, w, formula, backend=backend)
        assert torch.equal(y.double(), gold)
        for got, g in zip(torch.autograd.grad(y, (x, w), grad), want, strict=True):
            torch.testing.assert_close(got, g)


def test_what_becomes_of_a_whole_gradient():
    seen = []

    def scaled(g):
        seen.append(g.shape)
        return g / g.norm()

    formula = Formula(lambda x, w: -(x - w).abs(), operands={"w": anyconv.per_tap(on_gradient=scaled)})
    layer = anyconv.Conv2d(2, 3, 3, formula)
    x = torch.randn(1, 2, 6, 6)
    layer(x).sum().backward()
    assert seen == [(3, 2, 3, 3)]
    torch.testing.assert_close(layer.w.grad.norm(), torch.tensor(1.0))
    w = layer.w.detach().requires_grad_()
    anyconv.conv2d(x, w, formula, layer.bias).sum().backward()
    assert torch.equal(w.grad, layer.w.grad)
    wrong = Formula(lambda x, w: x - w, operands={"w": anyconv.per_tap(on_gradient=lambda g: g.sum())})
    with pytest.raises(anyconv.AnyConvError, match=r"`on_gradient` must give a tensor of shape \(3, 2, 3, 3\)"):
        anyconv.conv2d(x, w, wrong).sum().backward()


# --- what holds for every formula


EVERYTHING = {
    "w": "per_tap",
    "c": "center",
    "m": "mask",
    "g": "guide",
    "l": "per_site ock",
    "k": "per_site nk",
    "s": "shared",
}


def everything(x, w, c, m, g, l, k, s):  # noqa: E741
    return torch.tanh(x * w + s * c) * torch.cos(m) + 0.1 * g * l * k


@pytest.mark.sample(4)
@every_backend
@pytest.mark.parametrize(
    "reduce", [pytest.param("mean", marks=pytest.mark.thorough), "logsumexp", ("over", "max", "sum")]
)
def test_two_runs_give_the_same_bits_for_any_thread_count(reduce, backend):
    case = Case(
        everything, reduce, EVERYTHING, {"kernel_size": (3, 3), "padding": (1, 1), "padding_mode": "skip"}, (12, 9),
        c_in=8, c_out=8, dtype=torch.float32,
    )  # fmt: skip
    runs = []
    for threads in (1, 2, 3, 2):
        torch.set_num_threads(threads)
        runs.append(values_and_gradients(case.ours(backend), [case.x, *case.tensors.values()]))
    for one, *others in zip(*runs, strict=True):
        assert all(torch.equal(one, other) for other in others)


@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_tensors_of_any_strides(backend):
    """Channels-last and expanded images, transposed weights: what is computed does not depend on how numbers lie."""
    case = Case(everything, "sum", EVERYTHING, {"kernel_size": (3, 3), "padding": (1, 1)}, (5, 6))
    want = values_and_gradients(case.ours(backend), [case.x, *case.tensors.values()])

    def laid_out(t):
        order = list(range(t.dim()))[::-1]
        return t.detach().permute(order).contiguous().permute(order).requires_grad_()

    x, tensors = laid_out(case.x), {name: laid_out(t) for name, t in case.tensors.items()}
    got = values_and_gradients(case.ours(backend, x, tensors), [x, *tensors.values()])
    for one, other in zip(got, want, strict=True):
        assert_near(one, other, terms=500)
    mask = case.tensors["m"].detach()[:1].expand(2, -1, -1, -1)  # one mask for all images, without a copy
    plain = case.ours(backend, None, case.tensors | {"m": mask.contiguous()})
    assert torch.equal(case.ours(backend, None, case.tensors | {"m": mask}), plain)


# --- any formula


@st.composite
def formulas(draw):
    """Several operands of mixed scopes in one map."""
    kinds = draw(st.lists(st.sampled_from([s for s in SCOPES if s != "per_tap"]), min_size=1, max_size=3))
    names = {"w": "per_tap"} | {f"v{i}": kind for i, kind in enumerate(kinds)}
    parts = [
        draw(st.sampled_from([torch.tanh, torch.sin, torch.abs, lambda a: torch.exp(-a * a), lambda a: a]))
        for _ in names
    ]
    join = draw(st.sampled_from([torch.add, torch.mul, torch.maximum, torch.sub]))
    reduce = draw(st.sampled_from(["sum", "mean", "max", "prod", "logsumexp", ("over", "max", "sum")]))

    def function(x, w, *others):
        value = x * w
        for part, other in zip(parts, others, strict=False):
            value = join(value, 0.5 * part(other) + 0.2 * x)
        return value

    arguments = ", ".join(names)
    scope = {"function": function}
    exec(f"def written(x, {arguments}): return function(x, {arguments})", scope)  # a signature of its own
    return names, scope["written"], reduce


@pytest.mark.thorough
@pytest.mark.parametrize("backend", ["reference", "cpp"])
@hypothesis.settings(max_examples=8)
@given(
    formulas(), st.sampled_from(GEOMETRIES), st.sampled_from(["zeros", "skip", "replicate"]), st.sampled_from([1, 2])
)
def test_any_scopes_together(backend, drawn, geometry, mode, groups):
    names, function, reduce = drawn
    arguments, size = geometry
    case = Case(function, reduce, names, {**arguments, "padding_mode": mode, "groups": groups}, size, c_in=2, c_out=4)
    if mode == "skip":
        hypothesis.assume(all(p < k for p, k in zip(case.geometry.before, case.geometry.kernel, strict=True)))
    assert_agrees(case, backend)
