"""The triton backend against the float64 oracle: under Triton's interpreter where there is no GPU, on the GPU where there is one."""

import importlib
import itertools
from dataclasses import replace

import pytest
import torch
from checks import assert_as_good_as, assert_near
from test_battery import BETTER, GEOMETRIES, MODES, inputs, maps_of, mixed, run_oracle, run_ours, some_at_a_time
from test_language import ADDER, REDUCTIONS, SCOPES, VECTORS, Case, quadratic, total, values_and_gradients, with_one

import anyconv
from anyconv import Formula, call
from anyconv.backends import compute
from anyconv.backends.triton import general, tiled
from anyconv.backends.triton import launch as on_gpu
from anyconv.functional import convolve
from anyconv.geometry import Geometry
from anyconv.plan import Plan, Problem, choose
from anyconv.reductions import BUILTIN

pytest.importorskip("triton", minversion="3.4", reason="Triton is not installed, or older than 3.4")
# lanes whose results are dropped compute with what is there, which numpy remarks upon
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
choose_module = importlib.import_module("anyconv.plan.choose")  # the package has a function of that name
HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"


def there(run, x, tensors, *rest):
    """The value and gradients of what runs where Triton does, for leaves on the CPU."""
    moved = {name: t.to(DEVICE) for name, t in tensors.items()}
    return values_and_gradients(run(x.to(DEVICE), moved, *rest).cpu(), [x, *tensors.values()])


def assert_agrees(case):
    ours = there(lambda x, tensors: case.ours("triton", x, tensors), case.x, case.tensors)
    gold = values_and_gradients(case.gold(), [case.x, *case.tensors.values()])
    for got, want in zip(ours, gold, strict=True):
        assert_near(got, want, terms=want.numel() + gold[0].numel())


def paired(*lists):
    """Every value of each list at least once, those of the longest list each with another neighbor; half of them always."""
    length = max(map(len, lists))
    rows = zip(*(itertools.islice(itertools.cycle(values), length) for values in lists), strict=True)
    return [pytest.param(*row, marks=pytest.mark.thorough if i % 2 else ()) for i, row in enumerate(rows)]


@pytest.mark.sample(4)
@pytest.mark.parametrize(
    ("geometry", "reduce", "groups"),
    paired(GEOMETRIES, ["logsumexp", "prod", "sum", "max", "min", "mean"], [1, 2, 2]),
    ids=str,
)
def test_geometry(geometry, reduce, groups):
    arguments, size = geometry
    arguments = {**arguments, "groups": groups}
    x, params = inputs(size, arguments, c_in=2 * groups, c_out=2 * groups)
    ours = there(lambda x, p: run_ours(x, p, mixed, reduce, arguments, "triton"), x, params)
    gold = values_and_gradients(run_oracle(x, params, mixed, reduce, arguments), [x, *params.values()])
    for got, want in zip(ours, gold, strict=True):
        assert_near(got, want, terms=want.numel() + gold[0].numel())


@pytest.mark.sample(17)
@some_at_a_time
def test_every_operation(rows):
    """In float32, whose values and gradients the exact ones round to."""
    arguments = {"kernel_size": (2,)}
    x, params = inputs((6,), arguments, c_in=1, c_out=3, names="w", dtype=torch.float32)
    ours = there(lambda x, p: run_ours(x, p, maps_of(rows), "sum", arguments, "triton"), x, params)
    exact = x.detach().double().requires_grad_(), {"w": params["w"].detach().double().requires_grad_()}
    gold = values_and_gradients(run_oracle(*exact, maps_of(rows, BETTER), "sum", arguments), [exact[0], exact[1]["w"]])
    for got, want in zip(ours, gold, strict=True):
        assert_near(got, want, terms=64)


@pytest.mark.sample(9)
@pytest.mark.parametrize(
    ("scope", "reduce", "mode"),
    paired(
        [s for s in SCOPES if s != "per_tap"] + list(VECTORS), ["sum", "max", "mean", "logsumexp"], ["zeros", "skip"]
    ),
    ids=str,
)
def test_scope(scope, reduce, mode):
    arguments = {
        "kernel_size": (2, 3),
        "stride": (2, 1),
        "padding": (1, 2),
        "dilation": (1, 2),
        "groups": 2,
        "padding_mode": mode,
    }
    function = with_one if scope in SCOPES else lambda x, w, v: torch.tanh(x * w + total(v))
    assert_agrees(Case(function, reduce, {"w": "per_tap", "v": scope}, arguments, (3, 4), c_in=2, c_out=4))


@pytest.mark.sample(5)
@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_reduction_of_two_values_or_a_norm(reduce):
    arguments = {"kernel_size": (2, 2), "stride": (1, 2), "padding": (1, 0), "padding_mode": "skip", "groups": 2}
    assert_agrees(Case(REDUCTIONS[reduce], reduce, {"w": "per_tap"}, arguments, (3, 4), c_in=2, c_out=4))


@pytest.mark.sample(5)
@pytest.mark.parametrize("mode", MODES)
def test_padding_mode(mode):
    arguments = {"kernel_size": (3, 2), "padding": (2, 1), "stride": (1, 2), "padding_mode": mode}
    names = {"w": "per_tap", "v": "guide"}
    assert_agrees(Case(with_one, "max" if mode == "skip" else "mean", names, arguments, (3, 3), c_in=2, c_out=3))


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    ("taps", "channels", "mode"), [("max", "sum", "zeros"), ("softmax", "mean", "skip"), ("mean", "prod", "skip")]
)
def test_two_levels(taps, channels, mode):
    function = REDUCTIONS["softmax"] if taps == "softmax" else (lambda x, w: torch.tanh(x + w))
    arguments = {"kernel_size": (2, 2), "padding": (1, 1), "groups": 2, "padding_mode": mode}
    assert_agrees(Case(function, ("over", taps, channels), {"w": "per_tap"}, arguments, (3, 3), c_out=4))


@pytest.mark.thorough
@pytest.mark.parametrize("mode", ["zeros", "skip"])
def test_an_epilogue_of_two_values(mode):
    """Also with an operand for each site, and where only a depthwise filter sees a channel."""
    case = Case(
        lambda x, w, c, s: (w * torch.exp(-(((x - c) * s) ** 2)) * x, torch.exp(-(((x - c) * s) ** 2))), ("sum", "mean"),
        {"w": "per_tap", "c": "center", "s": "per_filter", "gain": "shared", "power": "per_site o"},
        {"kernel_size": (2, 2), "padding": (1, 1), "groups": 4, "padding_mode": mode}, (3, 3), c_out=4,
        epilogue=lambda a, b, gain, power: gain * torch.tanh(a / (b + 1)) * torch.exp(power), outer=("gain", "power"),
    )  # fmt: skip
    assert_agrees(case)


def assert_as_reference(run, leaves):
    """``run(backend, *leaves)`` gives the same value and gradients in two backends."""
    want = values_and_gradients(run("reference", *leaves), leaves)
    got = values_and_gradients(run("triton", *(leaf.to(DEVICE) for leaf in leaves)).cpu(), leaves)
    for a, b in zip(got, want, strict=True):
        assert_near(a, b.double(), terms=400)


@pytest.mark.thorough
@pytest.mark.parametrize("reduce", ["sum", "max"])
def test_whole_fields(reduce):
    formula = Formula(quadratic, reduce, operands={"q": anyconv.per_pair(size=16)}, field=(2, 2))
    leaves = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 2, 4, 4), (4, 1, 2, 2), (4, 1, 16))]

    def run(backend, x, w, q):
        return anyconv.conv2d(
            x, {"w": w, "q": q}, formula, backend=backend, stride=(2, 1), padding=1, dilation=(1, 2), groups=2
        )

    assert_as_reference(run, leaves)


@pytest.mark.sample(3)
@pytest.mark.parametrize("scope", ["guide", "per_site nk", "per_offset"])
def test_operands_of_whole_fields(scope):
    formula = Formula(
        lambda x, v: torch.tanh(x[0] * v[0]) - x[2] * torch.cos(v[2]) + x[1], operands={"v": SCOPES[scope][0]}, field=3
    )
    shape = {"guide": (2, 3, 7), "per_site nk": (2, 3, 7), "per_offset": (3,)}[scope]
    leaves = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 3, 7), shape)]

    def run(backend, x, v):
        geometry = Geometry.of(1, 3, padding=1)
        return convolve(x, {"v": v}, None, formula=formula, geometry=geometry, out_channels=2, backend=backend)

    assert_as_reference(run, leaves)


@pytest.mark.thorough
def test_gradients_of_ones_own():
    formula = Formula(lambda x, w: -(x - w).abs(), gradient=ADDER)
    leaves = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((2, 4, 3, 4), (2, 2, 2, 2))]
    assert_as_reference(
        lambda backend, x, w: anyconv.conv2d(x, w, formula, padding=1, groups=2, backend=backend), leaves
    )


@pytest.mark.thorough
def test_a_bias_and_tensors_of_any_strides():
    x = torch.randn(2, 5, 4, 6, dtype=torch.float64)[:, 1:, :, ::2].contiguous(memory_format=torch.channels_last)
    leaves = [
        x.requires_grad_(),
        torch.randn(2, 2, 4, 3, dtype=torch.float64).transpose(0, 2).requires_grad_(),
        torch.randn(4, dtype=torch.float64, requires_grad=True),
    ]
    formula = Formula(lambda x, w: torch.maximum(x, w), "max")

    def run(backend, x, w, b):
        y = anyconv.conv2d(x, w[..., :2], formula, bias=b, padding=1, groups=2, backend=backend)
        assert backend != "triton" or y.is_contiguous(memory_format=torch.channels_last)
        return y[:, :, ::2]

    assert_as_reference(run, leaves)


def test_pooling_has_no_weights():
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    formula = Formula(lambda x: x * x, "logsumexp")
    assert_as_reference(lambda b, x: anyconv.Pool2d((2, 3), formula, stride=2, padding=1, backend=b)(x), [x])


def test_one_image_and_a_gradient_that_is_no_memory_of_its_own():
    leaves = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in ((3, 5), (2, 3, 2))]

    def run(backend, x, w):
        y = anyconv.conv1d(x, w, lambda x, w: torch.abs(x - w), backend=backend)
        return -(y.sum() * torch.ones(2, dtype=torch.float64, device=y.device))

    assert_as_reference(run, leaves)


@pytest.mark.parametrize("way", ["tiled", "general"])
def test_the_skeletons_run_as_they_stand(way, monkeypatch):
    """Without a rendered functor they are the ordinary convolution."""

    def skeleton(source):
        return getattr(importlib.import_module(f"anyconv.backends.triton.skeletons.{source.kernel}"), source.kernel)

    monkeypatch.setattr(tiled, "load", skeleton)
    monkeypatch.setattr(general, "load", skeleton)
    monkeypatch.setattr(on_gpu, "is_tiled", lambda m: way == "tiled")
    x, w = (torch.randn(s, requires_grad=True) for s in ((2, 5, 4, 4), (3, 5, 2, 2)))
    ours = there(lambda x, p: anyconv.conv2d(x, p, lambda x, w: x * w, padding=1, backend="triton"), x, {"w": w})
    exact = [leaf.detach().double().requires_grad_() for leaf in (x, w)]
    gold = values_and_gradients(torch.nn.functional.conv2d(*exact, padding=1), exact)
    for got, want in zip(ours, gold, strict=True):
        assert_near(got, want, terms=64)


@pytest.mark.thorough
def test_two_runs_give_the_same_bits():
    case = Case(
        with_one, "logsumexp", {"w": "per_tap", "v": "shared"}, {"kernel_size": (3,)}, (40,), dtype=torch.float32
    )
    runs = [there(lambda x, tensors: case.ours("triton", x, tensors), case.x, case.tensors) for _ in range(2)]
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("reduce", BUILTIN)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(reduce, dtype):
    """As good as float32 that is rounded once."""
    arguments = {"kernel_size": (3, 3), "padding": (1, 1)}
    x, params = inputs((5, 5), arguments, dtype=dtype)

    def at(dtype):
        leaves = (
            x.detach().to(dtype).requires_grad_(),
            {n: p.detach().to(dtype).requires_grad_() for n, p in params.items()},
        )
        return values_and_gradients(run_oracle(*leaves, mixed, reduce, arguments), [leaves[0], *leaves[1].values()])

    gold, plain = at(torch.float64), at(torch.float32)
    ours = there(lambda x, p: run_ours(x, p, mixed, reduce, arguments, "triton"), x, params)
    for got, rounded, want in zip(ours, plain, gold, strict=True):
        assert_as_good_as(got, rounded.to(dtype), want, scale=max(g.abs().max().item() for g in gold))


@pytest.mark.parametrize(
    ("function", "change", "message"),
    [
        (lambda x, w: torch.atan(x * w), {}, "atan is computed in float32"),
        (lambda x, w: torch.abs(x * w), {"device": "mps"}, "knows no device of the type mps"),
        (lambda x, w: torch.abs(x * w), {"dtype": "int32"}, "dtype int32"),
        (lambda x, w: torch.abs(x * w), {"geometry": replace(Geometry.of(1, 3), groups=70000)}, "70000 groups"),
    ],
)
def test_what_it_cannot_compute(function, change, message):
    problem = Problem(Formula(function), Geometry.of(1, 3), 2, 2, "float64", "cuda")
    with pytest.raises(anyconv.AnyConvError, match=message):
        choose(replace(problem, **change), "triton")


def test_auto_takes_it_on_gpus():
    problem = Problem(Formula(lambda x, w: torch.abs(x - w)), Geometry.of(1, 3), 2, 2, "float32", "cuda")
    assert choose(problem).backend == "triton"
    assert choose(replace(problem, device="xpu")).backend == "triton"
    assert choose(replace(problem, device="mps")).backend == "reference"
    assert choose(replace(problem, device="cpu")).backend == "cpp"
    arc = replace(problem, formula=Formula(lambda x, w: torch.atan(x - w)))
    assert [choose(replace(arc, dtype=d)).backend for d in ("float32", "float64")] == ["triton", "reference"]


def test_on_the_cpu_it_wants_the_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(anyconv.AnyConvError, match="computes on GPUs, `x` is on the CPU"):
        anyconv.conv1d(torch.randn(1, 2, 5), torch.randn(3, 2, 3), lambda x, w: torch.abs(x - w), backend="triton")


def test_it_differentiates_twice():
    x = torch.randn(1, 1, 4, requires_grad=True, device=DEVICE)
    w = torch.randn(1, 1, 2, device=DEVICE)
    found = []
    for backend in ("triton", "reference"):
        y = anyconv.conv1d(x, w, lambda x, w: torch.tanh(x * w), backend=backend)
        (gx,) = torch.autograd.grad(y.sum(), x, create_graph=True)
        found.append(torch.autograd.grad(gx.square().sum(), x)[0])
    torch.testing.assert_close(*found)


def test_a_device_without_kernels_is_told_of_once(monkeypatch):
    """On Apple's GPUs, say; here a tensor on the CPU stands in for one there."""
    compute._notice.cache_clear()
    call._known.clear()
    lacking = Plan("reference", "Triton knows no device of the type mps", falls_back=True)
    monkeypatch.setattr(call, "choose", lambda problem, backend: lacking)
    monkeypatch.setattr(call, "Problem", lambda *parts: Problem(*parts[:-1], "mps"))
    x, w = torch.randn(1, 2, 5), torch.randn(3, 2, 3)
    with pytest.warns(UserWarning, match="no device of the type mps; on mps the reference backend computes instead"):
        got = anyconv.conv1d(x, w, lambda x, w: torch.abs(x - w))
    anyconv.conv1d(x, w, lambda x, w: torch.abs(x - w))  # warnings are errors here
    call._known.clear()
    assert torch.equal(got, anyconv.conv1d(x, w, lambda x, w: torch.abs(x - w), backend="reference"))


@pytest.mark.parametrize(
    "formula",
    [Formula(lambda x, w: torch.abs(x - w)), Formula(lambda x, w, c: x * w - c, operands={"c": anyconv.center()})],
)
def test_a_bias_may_lie_anywhere(formula):
    """One number for all filters, and every second of a row: neighbors in memory were added."""
    x, w, row = torch.randn(1, 2, 6, device=DEVICE), torch.randn(4, 2, 3, device=DEVICE), torch.randn(8, device=DEVICE)
    for bias in (row[:1].expand(4), row[::2]):
        got, want = (anyconv.conv1d(x, w, formula, bias, backend=b) for b in ("triton", "reference"))
        torch.testing.assert_close(got, want)


def test_gradients_that_need_no_state_read_none():
    """That of a sum of sizes, ``norm(1)``, has a state which its gradient does not need."""
    x = torch.randn(1, 2, 7, dtype=torch.float64, device=DEVICE, requires_grad=True)
    w = torch.randn(3, 2, 3, dtype=torch.float64, device=DEVICE, requires_grad=True)
    found = []
    for backend in ("triton", "reference"):
        y = anyconv.conv1d(x, w, Formula(lambda x, w: x - w, anyconv.norm(1)), backend=backend)
        found.append(torch.autograd.grad(y.square().sum(), (x, w)))
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want)


# --- what only a GPU has


def layer_and_input():
    torch.manual_seed(0)
    layer = anyconv.Conv2d(8, 16, 3, formula=lambda x, w: -torch.abs(x - w), padding=1).cuda()
    return layer, torch.randn(2, 8, 12, 12, device="cuda", requires_grad=True)


def values_of(layer, x):
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])]


@pytest.mark.gpu
def test_it_is_captured_in_a_graph():
    layer, x = layer_and_input()
    want = values_of(layer, x)
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        values_of(layer, x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = values_of(layer, x)
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.gpu
def test_it_runs_on_a_stream_of_its_own():
    layer, x = layer_and_input()
    want, side = values_of(layer, x), torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        got = values_of(layer, x)
    torch.cuda.current_stream().wait_stream(side)
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="this machine has no second GPU")
def test_it_runs_where_its_tensors_are():
    layer, x = layer_and_input()
    want = values_of(layer, x)
    got = values_of(layer.to("cuda:1"), x.detach().to("cuda:1").requires_grad_())
    assert all(b.device.index == 1 and torch.equal(a.cpu(), b.cpu()) for a, b in zip(want, got, strict=True))


@pytest.mark.gpu
def test_a_network_around_it_is_compiled():
    layer, x = layer_and_input()
    network = torch.nn.Sequential(torch.nn.Conv2d(8, 8, 1), layer, torch.nn.ReLU()).cuda()
    got, want = values_of(torch.compile(network), x), values_of(network, x)
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.gpu
def test_places_beyond_32_bits():
    """The last sites of a tensor of more than 2**31 numbers."""
    x = torch.zeros(2**31 // 2**20 + 1, 1, 1024, 1024, dtype=torch.float16, device="cuda")
    x[-1].normal_()
    w = torch.randn(1, 1, 3, 3, dtype=torch.float16, device="cuda")
    formula = Formula(lambda x, w: torch.abs(x - w), "max")
    with torch.no_grad():
        got, want = (anyconv.conv2d(part, w, formula) for part in (x, x[-1:]))
    assert torch.equal(got[-1:], want)


def test_triton_may_be_missing_or_old(monkeypatch):
    problem = Problem(Formula(lambda x, w: torch.abs(x - w)), Geometry.of(1, 3), 2, 2, "float32", "cuda")
    monkeypatch.setattr(choose_module, "_triton_version", lambda: (3, 2))
    assert choose(problem) == Plan("reference", "Triton 3.2 is older than 3.4", falls_back=True)
    monkeypatch.setattr(choose_module.importlib.util, "find_spec", lambda name: None)
    assert choose(problem).reason == "Triton is not installed"
    with pytest.raises(anyconv.AnyConvError, match=r"the triton backend has no kernel for .*: Triton is not installed"):
        choose(problem, "triton")
