"""The registered operators: opcheck, torch.compile, caches, torch.export, AOTInductor and ONNX; always by values."""

import os
import subprocess
import sys
import textwrap

import pytest
import torch
from cells import cell
from test_language import Case, with_one
from torch import nn

import anyconv
from anyconv import Formula, call
from anyconv.geometry import Geometry

ABSOLUTE = Formula(lambda x, w: -torch.abs(x - w))
TANGENT = Formula(lambda x, w: torch.tan(0.3 * x + w), "prod")
BILATERAL = Formula(
    lambda x, c, s, w: (w * torch.exp(-(((x - c) * s) ** 2)) * x, w * torch.exp(-(((x - c) * s) ** 2))),
    ("sum", "sum"), epilogue=lambda a, b, gain: gain * a / (1 + b * b),
    operands={"c": anyconv.center(), "s": anyconv.per_filter(init=0.7), "gain": anyconv.shared(init=1.3)},
)  # fmt: skip
ADDER = Formula(
    ABSOLUTE.map, gradient={"x": lambda x, w: (w - x).clamp(-1, 1)},
    operands={"w": anyconv.per_tap(on_gradient=lambda g: g / g.norm())},
)  # fmt: skip
needs_more = pytest.mark.filterwarnings("ignore")  # of PyTorch's exporters, about themselves


class Smallest(anyconv.Conv2d):
    reduce = "min"

    def map(self, x, w):
        return torch.tanh(x + w)


def network():
    """One layer of each kind, between layers of PyTorch."""
    return nn.Sequential(
        anyconv.Conv2d(3, 4, 3, ABSOLUTE, padding=1), nn.LeakyReLU(), anyconv.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4),
        anyconv.Conv2d(4, 4, 3, ADDER, stride=2), anyconv.Conv2d(4, 4, 3, BILATERAL, padding=1, padding_mode="skip"),
        anyconv.Pool2d(2, Formula(lambda x: x, "max"), stride=1), anyconv.recipes.kan_chebyshev.Conv2d(4, 4, 2),
        anyconv.ConvTranspose2d(4, 3, 2, lambda x, w: torch.tanh(x * w), stride=2), nn.Hardtanh(),
        anyconv.ConvTranspose2d(3, 3, 2), Smallest(3, 2, 2), anyconv.Conv2d(2, 2, 1, lambda x, w: x * w.exp()),
    )  # fmt: skip


def values_and_gradients(run, model, x):
    model.zero_grad()
    y = run(x)
    y.square().sum().backward()
    return [y.detach(), *(p.grad.clone() for p in model.parameters())]


@pytest.fixture
def compiled():
    torch.compiler.reset()
    yield torch.compile
    torch.compiler.reset()


# --- operators


FORMATS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "sliced": lambda x: torch.cat([x, x], 3)[..., ::2],
    "transposed": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "empty": lambda x: x[:0],
}


def arguments(formula, x, w, mode="zeros"):
    geometry = Geometry.of(2, 2, padding=1, padding_mode=mode)
    return call.Call.of(formula, geometry, x, out_channels=3, backend="auto").arguments


@pytest.mark.thorough
@cell("torch.library", "opcheck: dtype x gradients x memory format x empty")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck of torch 2.14
@pytest.mark.parametrize("gradients", [True, pytest.param(False, marks=pytest.mark.thorough)])
@pytest.mark.parametrize(
    ("memory", "dtype"),
    [*((memory, torch.float32) for memory in FORMATS), ("channels last", torch.float64), ("sliced", torch.bfloat16)],
)
def test_opcheck(memory, dtype, gradients):
    for formula in (Formula(lambda x, w: torch.tanh(x * w), "logsumexp"), Formula(lambda x, w: torch.sin(x) * w)):
        x = FORMATS[memory](torch.randn(2, 2, 4, 4, dtype=dtype)).requires_grad_(gradients)
        w = torch.randn(3, 2, 2, 2, dtype=dtype, requires_grad=gradients)
        told = arguments(formula, x, w)
        torch.library.opcheck(torch.ops.anyconv.convolve.default, (x, [w], None, *told, gradients))
        torch.library.opcheck(torch.ops.anyconv.forward.default, (x.detach(), [w.detach()], None, *told, True))
        y, kept = torch.ops.anyconv.forward.default(x.detach(), [w.detach()], None, *told, True)
        given = (x.detach(), [w.detach()], kept, torch.ones_like(y), *told, [True, True])
        torch.library.opcheck(torch.ops.anyconv.gradients.default, given)


@pytest.mark.sample(3)
@pytest.mark.parametrize("scope", ["per_tap", "shared", "center", "mask", "per_site nock"])
def test_the_fakes_know_every_scope(scope):
    """Shapes, dtypes, strides of outputs and gradients, and the length of what is kept, without computing."""
    case = Case(with_one, "prod", {"w": "per_tap", "v": scope}, {"kernel_size": (2, 2), "padding": (1, 1)}, (3, 3))
    told = call.Call.of(case.formula(), case.geometry, case.x, out_channels=6, backend="auto").arguments
    tensors = (case.x.detach(), [t.detach() for t in case.tensors.values()])
    real = torch.ops.anyconv.forward.default(*tensors, None, *told, True)
    with torch._subclasses.FakeTensorMode() as mode:
        fakes = torch.utils._pytree.tree_map(mode.from_tensor, tensors)
        fake = torch.ops.anyconv.forward.default(*fakes, None, *told, True)
    for got, want in zip(fake, real, strict=True):
        assert (got.shape, got.dtype, got.stride()) == (want.shape, want.dtype, want.stride())


def test_what_a_graph_may_hold_is_checked():
    """An operator is called by programs that were saved: nothing there was checked by us."""
    x, w = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 2, 2)
    told = arguments(ABSOLUTE, x, w)
    forward = torch.ops.anyconv.forward.default
    with pytest.raises(anyconv.AnyConvError, match="must have shape"):
        forward(x, [w[:, :1]], None, *told, False)
    with pytest.raises(anyconv.AnyConvError, match="1 operands, 2 were passed"):
        forward(x, [w, w], None, *told, False)
    with pytest.raises(anyconv.AnyConvError, match="not the text of a formula"):
        forward(x, [w], None, "import os", *told[1:], False)
    with pytest.raises(anyconv.AnyConvError, match="no operation of the table"):
        forward(x, [w], None, told[0].replace("abs(", "system("), *told[1:], False)


# --- torch.compile


@pytest.mark.sample(2)
@cell("torch.compile", "fullgraph, training, a network of mixed layers")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_training(compiled, backend):
    model, x = network().double(), torch.randn(3, 3, 12, 12, dtype=torch.float64)
    run = compiled(model, backend=backend, fullgraph=True)
    for got, want in zip(values_and_gradients(run, model, x), values_and_gradients(model, model, x), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-11 * max(1.0, want.abs().max().item()))


@cell("torch.compile", "inference: no_grad and inference_mode")
def test_inference(compiled):
    model, x = network().eval(), torch.randn(3, 3, 12, 12)
    run = compiled(model, backend="aot_eager", fullgraph=True)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(run(x), model(x))


class Counter:
    """A backend that counts graphs."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, _):
        self.graphs += 1
        return graph.forward


@pytest.mark.sample(2)
@cell("torch.compile", "dynamic shapes, with one recompilation at most")
@pytest.mark.parametrize("dynamic", [None, True])
def test_dynamic_shapes(compiled, dynamic):
    counter = Counter()
    model = network()[:7].eval()
    run = compiled(model, backend=counter, fullgraph=True, dynamic=dynamic)
    for n, size in ((2, 12), (3, 13), (5, 12), (4, 17)):
        x = torch.randn(n, 3, size, size)
        torch.testing.assert_close(run(x), model(x))
    assert counter.graphs <= 2


@cell("torch.compile", "functions, unbatched images, guides")
def test_functions(compiled):
    partial = Formula(lambda x, m, w: x * m * torch.tanh(w), operands={"m": anyconv.guide()})
    w = torch.randn(4, 3, 3, 3)

    def run(x, m):
        return anyconv.conv2d(x, w, ABSOLUTE, padding=1) + anyconv.conv2d(x, {"w": w, "m": m}, partial, padding=1)

    for shape in ((2, 3, 8, 8), (3, 8, 8)):
        x, m = torch.randn(shape), torch.rand(shape)
        torch.testing.assert_close(compiled(run, backend="aot_eager", fullgraph=True)(x, m), run(x, m))


@cell("torch.compile", "autocast inside")
def test_autocast(compiled):
    layer = anyconv.Conv2d(3, 4, 3, ABSOLUTE)
    exact = anyconv.Conv2d(3, 4, 3, ABSOLUTE, autocast=False)

    def run(x):
        with torch.autocast("cpu", torch.bfloat16):
            return layer(x), exact(x)

    x = torch.randn(2, 3, 6, 6)
    for got, want, dtype in zip(
        compiled(run, backend="aot_eager", fullgraph=True)(x), run(x), (torch.bfloat16, torch.float32), strict=True
    ):
        assert got.dtype == want.dtype == dtype
        torch.testing.assert_close(got, want)


@cell("torch.compile", "vmap inside")
def test_vmap_inside(compiled):
    w, x = torch.randn(4, 3, 2, 2), torch.randn(3, 2, 3, 5, 5)
    run = lambda x: torch.func.vmap(lambda a: anyconv.conv2d(a, w, ABSOLUTE))(x)
    torch.testing.assert_close(compiled(run, backend="aot_eager", fullgraph=True)(x), run(x))


TRANSFORMS = {
    "grad": torch.func.grad, "jvp": lambda f: lambda x: torch.func.jvp(f, (x,), (x,))[1], "hessian": torch.func.hessian,
}  # fmt: skip


@cell("torch.compile", "torch.func.grad, jvp, hessian inside", refuses=True)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_derivatives_inside_are_refused_aloud(compiled, name):
    """PyTorch calls no autograd.Function of an operator there; to drop a derivative would be a wrong number."""
    w, x = torch.randn(2, 1, 2, 2), torch.randn(1, 1, 3, 3)
    run = TRANSFORMS[name](lambda x: anyconv.conv2d(x, w, ABSOLUTE).square().sum())
    assert run(x).abs().sum() > 0
    with pytest.raises(Exception, match=r"custom_function_call|anyconv"):
        compiled(run, backend="aot_eager", fullgraph=True)(x)


@cell("torch.compile", "an error of shapes names the argument")
def test_errors(compiled):
    layer = anyconv.Conv2d(3, 4, 3, ABSOLUTE)
    with pytest.raises(Exception, match=r"`w` must have shape \(4, 5, 3, 3\)"):
        compiled(layer, backend="aot_eager", fullgraph=True)(torch.randn(1, 5, 8, 8))


IN_A_PROCESS = """
    import sys, torch, anyconv
    from torch._dynamo.utils import counters
    torch.manual_seed(0)
    layer = anyconv.Conv2d(3, 4, 3, {formula})
    x = torch.randn(2, 3, 6, 6)
    got = torch.compile(layer, fullgraph=True)(x).relu()
    assert torch.allclose(got, layer(x).relu(), atol=1e-6), "a stale graph"
    print(counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""


@pytest.mark.thorough
@cell("torch.compile", "Inductor's cache: found by a second process, and not by another formula")
def test_inductors_cache(tmp_path):
    def run(formula):
        environment = {
            **os.environ,
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
            "TORCHINDUCTOR_FX_GRAPH_CACHE": "1",
            "TORCHINDUCTOR_AUTOGRAD_CACHE": "0",
        }
        code = textwrap.dedent(IN_A_PROCESS).replace("{formula}", formula)
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout.split()

    assert run("lambda x, w: torch.tanh(x - w)") == ["0", "1"]
    assert run("lambda x, w: torch.tanh(x - w)") == ["1", "0"]
    assert run("lambda x, w: torch.tanh(x + w)") == ["0", "1"]


# --- export


def exported(model, x, *, dynamic=False):
    shapes = ({0: torch.export.Dim("n", min=2, max=64)},) if dynamic else None
    with torch.no_grad():
        return torch.export.export(model, (x,), dynamic_shapes=shapes)


def targets(program):
    return {str(node.target) for node in program.graph.nodes if node.op == "call_function"}


@cell("torch.export", "our operator is kept; dynamic batch")
@needs_more
def test_export():
    model, x = network().eval(), torch.randn(3, 3, 12, 12)
    program = exported(model, x, dynamic=True)
    assert "anyconv.convolve.default" in targets(program)
    assert any("conv2d" in name for name in targets(program)), "what is an ordinary convolution stays one"
    more = torch.randn(5, 3, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(more), model(more))


@pytest.mark.thorough
@cell("torch.export", "decompose: a program that runs without anyconv")
@needs_more
def test_decompose(tmp_path):
    model, x = network().eval(), torch.randn(3, 3, 12, 12)
    program = anyconv.decompose(exported(model, x, dynamic=True))
    assert not any("anyconv" in name for name in targets(program))
    more = torch.randn(5, 3, 12, 12)
    torch.export.save(program, tmp_path / "network.pt2")
    with torch.no_grad():
        torch.save((more, model(more)), tmp_path / "values.pt")
    code = f"""
        import sys, torch
        sys.modules["anyconv"] = None
        x, want = torch.load({str(tmp_path / "values.pt")!r})
        got = torch.export.load({str(tmp_path / "network.pt2")!r}).module()(x)
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@needs_more
@pytest.mark.parametrize(
    ("mode", "reduce"),
    [
        ("zeros", "sum"),
        ("skip", "mean"),
        ("reflect", "prod"),
        (0.5, "max"),
        ("skip", "logsumexp"),
        ("skip", ("over", "max", "mean")),
    ],
    ids=str,
)
def test_what_is_decomposed_is_the_same(mode, reduce):
    reduce = anyconv.over(taps="max", channels="mean") if isinstance(reduce, tuple) else reduce
    formula = Formula(
        lambda x, w, c, s: torch.tanh(x * w + s * c), reduce, operands={"c": anyconv.center(), "s": anyconv.shared()}
    )
    layer = anyconv.Conv2d(2, 4, (3, 2), formula, stride=(1, 2), padding=(2, 1), groups=2, padding_mode=mode)
    x = torch.randn(2, 2, 5, 6)
    with torch.no_grad():
        torch.testing.assert_close(anyconv.decompose(exported(layer, x)).module()(x), layer(x), equal_nan=True)


def test_decompose_wants_a_program():
    with pytest.raises(anyconv.AnyConvError, match=r"`program` must be an ExportedProgram, got Conv2d"):
        anyconv.decompose(anyconv.Conv2d(1, 1, 1))


@pytest.mark.thorough
@cell("torch.export", "AOTInductor, once decomposed")
@needs_more
def test_aot_inductor(tmp_path):
    if torch.__version__ < "2.7":
        pytest.skip("Inductor of torch 2.6 cannot reshape a constant number")
    model, x = (
        nn.Sequential(anyconv.Conv2d(2, 3, 2, BILATERAL), anyconv.Conv2d(3, 2, 1, TANGENT)).eval(),
        torch.randn(3, 2, 6, 6),
    )
    program = anyconv.decompose(exported(model, x))
    path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "network.pt2"))
    with torch.no_grad():
        torch.testing.assert_close(torch._inductor.aoti_load_package(path)(x), model(x), rtol=1e-4, atol=1e-5)


@pytest.mark.thorough
@cell("ONNX", "once decomposed, by torch.onnx.export, in onnxruntime; dynamic batch")
@needs_more
def test_onnx(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    layers = (
        anyconv.Conv2d(2, 3, 2, BILATERAL), anyconv.Conv2d(3, 2, 1, TANGENT), anyconv.Conv2d(2, 2, 2, ABSOLUTE),
        anyconv.Pool2d(2, Formula(lambda x: x, "max"), stride=1), anyconv.recipes.kan_chebyshev.Conv2d(2, 2, 1),
    )  # fmt: skip
    model, x = nn.Sequential(*layers).eval(), torch.randn(3, 2, 6, 6)
    program = anyconv.decompose(exported(model, x, dynamic=True))
    torch.onnx.export(program, dynamo=True, verbose=False).save(str(tmp_path / "network.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "network.onnx"))
    for n in (2, 5):
        more = torch.randn(n, 2, 6, 6)
        (got,) = session.run(None, {session.get_inputs()[0].name: more.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(got), model(more), rtol=1e-4, atol=1e-5)
