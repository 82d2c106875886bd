"""The reference and the cpp backend against the naive float64 oracle: reduction x geometry x dtype, scopes, every op, any function."""

import functools
from types import MappingProxyType

import mpmath
import oracle
import pytest
import strategies
import torch
import torch.nn.functional as F
from checks import assert_as_good_as, assert_near
from hypothesis import given, settings
from hypothesis import strategies as st

import anyconv
from anyconv import Formula
from anyconv.backends import reference
from anyconv.backends.torch_library import torch_library
from anyconv.expr.ops import TABLE
from anyconv.geometry import Geometry
from anyconv.reductions import BUILTIN

OURS = {1: anyconv.conv1d, 2: anyconv.conv2d, 3: anyconv.conv3d}
SCOPES = {"p": "per_filter", "q": "per_channel", "s": "shared"}
OPERANDS = {name: getattr(anyconv, scope)() for name, scope in SCOPES.items()}

GEOMETRIES = [
    ({"kernel_size": (3,)}, (6,)),
    ({"kernel_size": (4,), "stride": (3,), "padding": (2,), "dilation": (2,)}, (9,)),
    ({"kernel_size": (3, 3), "padding": (1, 1)}, (5, 4)),
    ({"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}, (5, 6)),
    ({"kernel_size": (1, 1)}, (3, 3)),
    ({"kernel_size": (5, 5), "padding": (2, 2), "stride": (4, 4)}, (3, 7)),
    ({"kernel_size": (2, 2), "padding": "same"}, (4, 3)),
    ({"kernel_size": (2, 1, 3), "padding": (1, 0, 1), "stride": (2, 1, 1)}, (3, 2, 3)),
]
MODES = ["zeros", "skip", "reflect", "replicate", "circular", 0.5]


def mixed(x, w, p, q, s):
    return torch.tanh(x * w + p) * q - s * torch.abs(x - w)


BACKENDS = ["reference", "channels", "sites"]
every_backend = pytest.mark.parametrize("backend", BACKENDS, indirect=True)


def run_ours(x, params, function, reduce, arguments, backend="reference"):
    operands = {name: OPERANDS[name] for name in params if name in OPERANDS}
    formula = Formula(function, reduce, operands=operands)
    kwargs = {k: v for k, v in arguments.items() if k != "kernel_size"}
    return OURS[x.dim() - 2](x, params, formula, backend=backend, **kwargs)


def run_oracle(x, params, function, reduce, arguments):
    g = Geometry.of(x.dim() - 2, **arguments)
    return oracle.convolve(
        x, params, function, reduce, kernel=g.kernel, stride=g.stride, before=g.before, dilation=g.dilation,
        groups=g.groups, mode=g.mode, scopes=SCOPES, out_channels=params["w"].shape[0],
        sites=oracle.out_size(x.shape[2:], g.kernel, g.stride, g.before, g.after, g.dilation),
    )  # fmt: skip


def inputs(size, arguments, c_in=4, c_out=6, dtype=torch.float64, names="wpqs"):
    groups = arguments.get("groups", 1)
    shapes = {"w": (c_out, c_in // groups, *arguments["kernel_size"]), "p": (c_out,), "q": (c_in,), "s": ()}
    x = torch.randn(2, c_in, *size, dtype=dtype, requires_grad=True)
    return x, {name: torch.randn(shapes[name], dtype=dtype, requires_grad=True) for name in names}


def values_and_gradients(run, x, params, *rest):
    y = run(x, params, *rest)
    grad = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).reshape(y.shape).to(y.dtype)
    leaves = [x, *params.values()]
    return [y.detach(), *torch.autograd.grad(y, leaves, grad, allow_unused=True, materialize_grads=True)]


def assert_matches_oracle(x, params, function, reduce, arguments, backend="reference"):
    """The value and the gradient of the pixels and of every operand."""
    ours = values_and_gradients(run_ours, x, params, function, reduce, arguments, backend)
    gold = values_and_gradients(run_oracle, x, params, function, reduce, arguments)
    for got, want in zip(ours, gold, strict=True):
        assert_near(got, want, terms=want.numel() + gold[0].numel())


def test_that_comparison_can_fail():
    x, params = inputs((6,), {"kernel_size": (3,)}, names="w")

    def two_faced(x, w):
        return x * w if hasattr(x, "expr") else 1.0001 * x * w  # one value traced, another on tensors

    with pytest.raises(AssertionError, match="beyond"):
        assert_matches_oracle(x, params, two_faced, "sum", {"kernel_size": (3,)})


@pytest.mark.sample(17)
@every_backend
@pytest.mark.parametrize("reduce", BUILTIN)
@pytest.mark.parametrize(("arguments", "size"), GEOMETRIES, ids=str)
@pytest.mark.parametrize("groups", [1, 2])
def test_reduction_by_geometry(reduce, arguments, size, groups, backend):
    arguments = {**arguments, "groups": groups}
    x, params = inputs(size, arguments)
    assert_matches_oracle(x, params, mixed, reduce, arguments, backend)


@pytest.mark.sample(7)
@every_backend
@pytest.mark.parametrize("reduce", BUILTIN)
@pytest.mark.parametrize("mode", MODES)
def test_reduction_by_padding_mode(reduce, mode, backend):
    arguments = {"kernel_size": (3, 2), "padding": (2, 1), "stride": (1, 2), "padding_mode": mode, "groups": 2}
    x, params = inputs((4, 5), arguments)
    assert_matches_oracle(x, params, mixed, reduce, arguments, backend)


@pytest.mark.sample(17)
@every_backend
@pytest.mark.parametrize("reduce", BUILTIN)
@pytest.mark.parametrize(("arguments", "size"), GEOMETRIES[1::2], ids=str)
@pytest.mark.parametrize("mode", [pytest.param("zeros", marks=pytest.mark.thorough), "skip", "circular"])
def test_depthwise(reduce, arguments, size, mode, backend):
    """A filter for each channel; ten groups are more than a vector, and no whole number of them."""
    arguments = {**arguments, "groups": 10, "padding_mode": mode}
    x, params = inputs(size, arguments, c_in=10, c_out=10)
    assert_matches_oracle(x, params, mixed, reduce, arguments, backend)


@pytest.mark.sample(7)
@every_backend
@pytest.mark.parametrize(
    ("reduce", "dtype"),
    [(reduce, torch.float32) for reduce in BUILTIN]
    + [(reduce, torch.float16) for reduce in ("sum", "prod", "max")]
    + [(reduce, torch.bfloat16) for reduce in ("mean", "min", "logsumexp")],
)
def test_reduction_by_dtype(reduce, dtype, backend):
    """As good as torch in that dtype, and the half precisions as good as float32 that is rounded once."""
    arguments = {"kernel_size": (3, 3), "padding": (1, 1)}
    x, params = inputs((5, 5), arguments, dtype=dtype)

    def at(dtype):
        return x.detach().to(dtype).requires_grad_(), {
            n: p.detach().to(dtype).requires_grad_() for n, p in params.items()
        }

    gold = values_and_gradients(run_oracle, *at(torch.float64), mixed, reduce, arguments)
    plain = values_and_gradients(run_oracle, *at(torch.float32), mixed, reduce, arguments)
    ours = values_and_gradients(run_ours, x, params, mixed, reduce, arguments, backend)
    for got, rounded, want in zip(ours, plain, gold, strict=True):
        assert_as_good_as(got, rounded.to(dtype), want, scale=max(g.abs().max().item() for g in gold))


@pytest.mark.gpu
@pytest.mark.parametrize("reduce", BUILTIN)
@pytest.mark.parametrize("mode", ["zeros", "skip"])
def test_reduction_on_a_gpu(reduce, mode):
    arguments = {"kernel_size": (3, 2), "padding": (1, 1), "groups": 2, "padding_mode": mode}
    x, params = inputs((5, 4), arguments)
    there = x.detach().cuda().requires_grad_(), {n: p.detach().cuda().requires_grad_() for n, p in params.items()}
    gold = values_and_gradients(run_oracle, x, params, mixed, reduce, arguments)

    def run(x, params, *rest):
        return run_ours(x, params, *rest).cpu()

    for got, want in zip(values_and_gradients(run, *there, mixed, reduce, arguments), gold, strict=True):
        assert_near(got.cpu(), want, terms=want.numel() + gold[0].numel())


SPELLED = {  # how a user writes the operations that no function of torch is named after
    "real": lambda c: c.float(),
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "trunc_divide": lambda x, w: torch.div(x, w, rounding_mode="trunc"),
    "floor_divide": lambda x, w: torch.div(x, w, rounding_mode="floor"),  # torch.floor_divide has no gradient
    "mantissa": lambda x: torch.frexp(x)[0],
    "exponent": lambda x: torch.frexp(x)[1].to(x.dtype),
    "clamp_min": lambda x, lo: torch.clamp(x, min=lo),
    "clamp_max": lambda x, hi: torch.clamp(x, max=hi),
    "polygamma": lambda n, x: torch.polygamma(int(n), x),
    "detach": lambda x: x.detach(),
}


class Polygamma(torch.autograd.Function):
    """In 60 digits: torch's own first polygamma, and so the gradient of its digamma, is good to nine only."""

    @staticmethod
    def forward(ctx, n, x):
        ctx.n = n
        ctx.save_for_backward(x)
        return torch.tensor([float(mpmath.polygamma(n, v)) for v in x.flatten().tolist()], dtype=x.dtype).reshape(
            x.shape
        )

    @staticmethod
    def backward(ctx, grad):
        return None, grad * Polygamma.apply(ctx.n + 1, *ctx.saved_tensors)


BETTER = {  # where torch's float64 is too coarse to be an oracle for a kernel
    "hardsigmoid": lambda x: torch.clamp(x / 6 + 0.5, 0, 1),  # torch's gradient is the sixth of a float32
    "digamma": lambda x: Polygamma.apply(0, x),
    "polygamma": lambda n, x: Polygamma.apply(int(n), x),
}


def map_of(row, spelled=None):
    """A map that uses the operation inside its domain: each real argument swings through most of its sample range."""
    named = (getattr(place, row.name, None) for place in (torch, F, torch.special, torch.Tensor))
    function = spelled or SPELLED.get(row.name) or next(filter(None, named))

    def mapped(x, w):
        swings = iter((x + 0.3 * w, w - 0.2 * x, x * w))
        args = []
        for param, (low, high) in zip(row.params, row.sample, strict=True):
            if param.kind == "number":
                args.append(param.default)
            elif param.kind == "bool":
                args.append(next(swings) > 0.1)
            else:
                args.append((high + low) / 2 + (high - low) * 0.47 * torch.sin(next(swings)))
        y = function(*args)
        return y.float() * w if row.result == "bool" else y + 0.1 * x * w

    return mapped


@pytest.mark.sample(3)
@pytest.mark.parametrize("reduce", ["sum", "max"])
@pytest.mark.parametrize("row", TABLE.values(), ids=lambda row: row.name)
def test_every_operation_in_a_convolution(row, reduce):
    arguments = {"kernel_size": (3,), "padding": (1,)}
    x, params = inputs((6,), arguments, c_in=2, c_out=3, names="w")
    ours = values_and_gradients(run_ours, x, params, map_of(row), reduce, arguments)
    gold = values_and_gradients(run_oracle, x, params, map_of(row), reduce, arguments)
    for got, want in zip(ours, gold, strict=True):
        assert_near(got, want, terms=64)


def maps_of(rows, spelled=MappingProxyType({})):
    """A map that uses several operations, so that kernels are built for several at once."""
    maps = [map_of(row, spelled.get(row.name)) for row in rows]
    return lambda x, w: functools.reduce(torch.add, [mapped(x, w) for mapped in maps])


SOME = [list(TABLE.values())[i : i + 6] for i in range(0, len(TABLE), 6)]
some_at_a_time = pytest.mark.parametrize("rows", SOME, ids=lambda rows: " ".join(row.name for row in rows))


@pytest.mark.sample(3)
@some_at_a_time
def test_every_operation_in_a_kernel(rows):
    arguments = {"kernel_size": (3,), "padding": (1,)}
    x, params = inputs((6,), arguments, c_in=2, c_out=3, names="w")
    ours = values_and_gradients(run_ours, x, params, maps_of(rows), "sum", arguments, "cpp")
    gold = values_and_gradients(run_oracle, x, params, maps_of(rows, BETTER), "sum", arguments)
    for got, want in zip(ours, gold, strict=True):
        assert_near(got, want, terms=64)


@pytest.mark.sample(2)
@pytest.mark.parametrize("backend", ["reference", "cpp"])
@settings(max_examples=settings.default.max_examples // 6)  # each is built
@given(strategies.functions(), strategies.geometries(), st.sampled_from(sorted(BUILTIN)))
def test_any_function_on_any_geometry(backend, function, drawn, reduce):
    arguments, size = drawn
    arguments = {k: v for k, v in arguments.items() if k != "dims"}
    groups = arguments["groups"]
    x, params = inputs(size, arguments, c_in=groups, c_out=2 * groups, names="w")
    if arguments["padding_mode"] in ("reflect", "circular", "replicate"):
        g = Geometry.of(len(size), **arguments)
        if any(max(b, a) >= n for b, a, n in zip(g.before, g.after, size, strict=True)):
            arguments["padding_mode"] = "zeros"
    ours = values_and_gradients(run_ours, x, params, function, reduce, arguments, backend)
    gold = values_and_gradients(run_oracle, x, params, function, reduce, arguments)
    plain = values_and_gradients(
        run_oracle, x.detach().float().requires_grad_(), {n: p.detach().float().requires_grad_() for n, p in params.items()},
        function, reduce, arguments,
    )  # fmt: skip
    for got, single, want in zip(ours, plain, gold, strict=True):
        # float32's own error says how ill-conditioned the drawn function is, float64's may be 2**29 times smaller
        fair = want.isfinite() & single.isfinite()
        allowed = 2.0**-29 * 64 * (single.double() - want).abs()[fair].max() if fair.any() else torch.tensor(0.0)
        scale = want[fair].abs().max().clamp(min=1.0) if fair.any() else 1.0
        assert ((got - want).abs()[fair] <= allowed + 1e-12 * scale).all()
        assert torch.equal(got.isfinite()[fair], want.isfinite()[fair])


@pytest.mark.sample(7)
@pytest.mark.parametrize("reduce", BUILTIN)
@pytest.mark.parametrize("budget", [1, 3000, 40000])
@pytest.mark.parametrize("mode", ["zeros", "skip"])
def test_blocks_of_any_size_give_the_same(monkeypatch, reduce, budget, mode):
    arguments = {"kernel_size": (3, 2), "padding": (1, 1), "groups": 2, "padding_mode": mode}
    x, params = inputs((5, 4), arguments)
    whole = values_and_gradients(run_ours, x, params, mixed, reduce, arguments)
    monkeypatch.setattr(reference, "BUDGET", budget)
    for got, want in zip(values_and_gradients(run_ours, x, params, mixed, reduce, arguments), whole, strict=True):
        assert_near(got, want, terms=want.numel() + whole[0].numel())


@pytest.mark.sample(5)
@every_backend
@pytest.mark.parametrize("seed", range(4))
def test_gradients_of_single_numbers_do_not_depend_on_the_thread_count(seed, backend):
    """A shared operand, one weight, one bias: torch's own sum to one number is divided among the threads."""
    torch.manual_seed(seed)
    formula = Formula(lambda x, w, s: s * torch.abs(x - w), operands={"s": anyconv.shared()})
    leaves = [torch.randn(shape, requires_grad=True) for shape in ((1, 1, 400, 400), (1, 1, 2, 2), (), (1,))]
    runs = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        x, w, s, b = leaves
        y = anyconv.conv2d(x, (w, s), formula, b, backend=backend)
        grad = torch.linspace(-1, 2, y.numel()).reshape(y.shape)
        runs.append([y.detach(), *torch.autograd.grad(y, leaves, grad)])
    for one, *others in zip(*runs, strict=True):
        assert all(torch.equal(one, other) for other in others)


@pytest.mark.sample(5)
@every_backend
@pytest.mark.parametrize("reduce", BUILTIN)
def test_two_runs_give_the_same_bits_for_any_thread_count(reduce, backend):
    arguments = {"kernel_size": (3, 3), "padding": (1, 1)}
    x, params = inputs((16, 16), arguments, c_in=8, c_out=8, dtype=torch.float32)
    runs = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        runs.append(values_and_gradients(run_ours, x, params, mixed, reduce, arguments, backend))
    for one, two, again in zip(*runs, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(two, again)


@pytest.mark.sample(5)
@every_backend
@pytest.mark.parametrize("reduce", BUILTIN)
def test_gradcheck(reduce, backend):
    arguments = {"kernel_size": (2, 2), "padding": (1, 0), "padding_mode": "skip", "stride": (2, 1)}
    x, params = inputs((3, 3), arguments, c_in=2, c_out=2)

    def run(x, *values):
        return run_ours(x, dict(zip(params, values, strict=True)), mixed, reduce, arguments, backend)

    assert torch.autograd.gradcheck(run, (x, *params.values()))


def test_a_map_need_not_see_everything():
    """Without the pixel, without a weight, and constant: the result is still a full field."""
    x, w = torch.randn(2, 3, 4, 4, requires_grad=True), torch.randn(5, 3, 2, 2, requires_grad=True)
    for function, want in (
        (lambda x, w: w, w.sum((1, 2, 3)).reshape(1, 5, 1, 1).expand(2, 5, 3, 3)),
        (lambda x, w: 1.0, torch.full((2, 5, 3, 3), 12.0)),
        (lambda x, w: x > 0, anyconv.receptive_fields((x > 0).float(), 2).sum((1, 4, 5))[:, None].expand(2, 5, 3, 3)),
    ):
        y = anyconv.conv2d(x, w, function, backend="reference")
        torch.testing.assert_close(y, want)
        grads = torch.autograd.grad(y.sum(), (x, w), allow_unused=True, materialize_grads=True)
        assert all(g.isfinite().all() for g in grads)


def test_non_contiguous_and_channels_last_inputs():
    w = torch.randn(4, 3, 3, 3)
    base = torch.randn(2, 3, 8, 8)
    formula = Formula(lambda x, w: torch.abs(x - w), "max")
    want = anyconv.conv2d(base, w, formula)
    for x in (
        base.to(memory_format=torch.channels_last),
        base.mT.contiguous().mT,
        base.repeat(1, 2, 1, 1)[:, ::2][:, [0, 2, 1]][:, [0, 2, 1]],
    ):
        if torch.equal(x, base):
            assert torch.equal(anyconv.conv2d(x, w.to(memory_format=torch.channels_last), formula), want)


def test_every_library_entry_exists():
    assert set(torch_library(torch.float32)) == set(TABLE)
