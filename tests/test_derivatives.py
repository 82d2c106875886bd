"""Second derivatives, forward mode and torch.func, of every reduction and scope, against the float64 oracle's autograd."""

import functools
import itertools

import pytest
import torch
from cells import cell
from checks import assert_near
from test_language import ADDER, GEOMETRIES, REDUCTIONS, SCOPES, VECTORS, AdderByHand, Case, quadratic, total, with_one
from test_reductions import LIBRARY
from torch.autograd.forward_ad import dual_level, make_dual, unpack_dual

import anyconv
from anyconv import Formula
from anyconv.errors import AnyConvError
from anyconv.reductions import BUILTIN, Reduction, check_laws, norm, tangent

BACKENDS = ["reference", "cpp"]
on_both = pytest.mark.parametrize("backend", BACKENDS)
SMALL = {"kernel_size": (2, 2), "padding": (1, 0), "groups": 2}


def directions(tensors, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, dtype=t.dtype, generator=generator) for t in tensors]


def twice(y, leaves):
    """The gradient of a combination of all first gradients, in the leaves and in the gradient of the output."""
    (grad,) = directions([y], 1)
    grad.requires_grad_()
    first = torch.autograd.grad(y, leaves, grad, create_graph=True, allow_unused=True, materialize_grads=True)
    combined = sum((g * d).sum() for g, d in zip(first, directions(first, 2), strict=True))
    return torch.autograd.grad(combined, [*leaves, grad], allow_unused=True, materialize_grads=True)


def moved(run, leaves, names):
    """How the output moves with all leaves."""
    with dual_level():
        duals = [make_dual(t.detach(), d) for t, d in zip(leaves, directions(leaves, 3), strict=True)]
        return unpack_dual(run(duals[0], dict(zip(names, duals[1:], strict=True)))).tangent


def assert_derivatives(case, backend):
    leaves = [case.x, *case.tensors.values()]
    for got, want in zip(twice(case.ours(backend), leaves), twice(case.gold(), leaves), strict=True):
        assert_near(got, want, terms=10 * want.numel() + case.x.numel())
    ours = moved(lambda x, tensors: case.ours(backend, x, tensors), leaves, case.tensors)
    gold = moved(lambda x, tensors: case.gold(x, tensors), leaves, case.tensors)
    assert_near(ours, gold, terms=10 * gold.numel() + case.x.numel())


def test_that_comparison_can_fail():
    case = Case(with_one, "sum", {"w": "per_tap", "v": "shared"}, SMALL, (3, 3))
    case.gold, gold = lambda *a: 1.0001 * gold(*a), case.gold
    with pytest.raises(AssertionError, match="beyond"):
        assert_derivatives(case, "reference")


@pytest.mark.sample(7)
@cell("autograd", "double backward and forward mode: every reduction")
@pytest.mark.parametrize(
    ("reduce", "mode", "backend"),
    [(r, mode, "reference") for r in [*BUILTIN, *REDUCTIONS] for mode in ("zeros", "skip")]
    + [(r, "skip", "cpp") for r in ("sum", "prod", "max", "logsumexp")]
    + [pytest.param(r, "zeros", "cpp", marks=pytest.mark.thorough) for r in [*BUILTIN, *REDUCTIONS]],
)
def test_reductions(reduce, mode, backend):
    function, names = (
        (with_one, {"w": "per_tap", "v": "per_pair"}) if reduce in BUILTIN else (REDUCTIONS[reduce], {"w": "per_tap"})
    )
    assert_derivatives(Case(function, reduce, names, {**SMALL, "padding_mode": mode}, (3, 3)), backend)


@pytest.mark.sample(7)
@cell("autograd", "double backward and forward mode: every scope, vectors, whole fields")
@pytest.mark.parametrize("scope", [*SCOPES, *VECTORS])
def test_scopes(scope):
    function = with_one if scope in SCOPES else (lambda x, w, v: torch.tanh(x * w) * total(v))
    case = Case(function, "logsumexp", {"w": "per_tap", "v": scope}, SMALL, (3, 3))
    assert_derivatives(case, "reference")


@pytest.mark.sample(3)
@pytest.mark.parametrize("backend", ["cpp"])
@pytest.mark.parametrize("scope", ["center", "per_site nk", "shared of 2"])
def test_scopes_by_kernels(scope, backend):
    function = with_one if scope in SCOPES else (lambda x, w, v: torch.tanh(x * w) * total(v))
    assert_derivatives(Case(function, "max", {"w": "per_tap", "v": scope}, SMALL, (3, 3)), backend)


@pytest.mark.sample(7)
@cell("autograd", "double backward and forward mode: every geometry and padding mode")
@pytest.mark.parametrize(("arguments", "size"), GEOMETRIES, ids=str)
@pytest.mark.parametrize("mode", ["zeros", "skip", "reflect", "replicate", "circular", 0.5])
def test_geometries(arguments, size, mode):
    """A number outside the image does not move, though the pixels and guides inside do."""
    names = {"w": "per_tap", "v": "guide", "c": "center"}
    function = lambda x, w, v, c: torch.tanh(x * w + v) * torch.cos(c)
    case = Case(function, "sum", names, {**arguments, "padding_mode": mode}, size, c_in=2, c_out=2)
    assert_derivatives(case, "reference")
    if mode == 0.5 and len(size) == 2:
        assert_derivatives(case, "cpp")


@pytest.mark.sample(3)
@cell("autograd", "double backward and forward mode: two levels, epilogues")
@pytest.mark.parametrize(
    ("taps", "channels"),
    [("max", "sum"), ("mean", "prod"), ("logsumexp", "max"), ("softmax", "mean"), ("mean", "logsumexp")],
)
def test_two_levels(taps, channels):
    function = REDUCTIONS["softmax"] if taps == "softmax" else (lambda x, w: torch.tanh(x + w))
    assert_derivatives(Case(function, ("over", taps, channels), {"w": "per_tap"}, SMALL, (3, 3)), "auto")


@cell("autograd", "double backward and forward mode: two levels, epilogues")
@pytest.mark.parametrize(
    ("reduce", "backend"),
    [(r, "reference") for r in (("sum", "sum"), ("max", "logsumexp"), ("prod", "mean"))]
    + [(("max", "logsumexp"), "cpp")],
)
def test_an_epilogue(reduce, backend):
    case = Case(
        lambda x, w, s: (w * torch.exp(-((x * s) ** 2)) * x, torch.exp(-((x * s) ** 2))), reduce,
        {"w": "per_tap", "s": "per_filter", "gain": "shared", "power": "per_filter"}, {**SMALL, "groups": 1}, (3, 3), c_in=2, c_out=3,
        epilogue=lambda a, b, gain, power: gain * torch.tanh(a / (b + 1.5)) * torch.exp(power), outer=("gain", "power"),
    )  # fmt: skip
    assert_derivatives(case, backend)


def test_an_epilogue_with_a_value_per_site():
    case = Case(
        lambda x, w: torch.tanh(x * w), "sum", {"w": "per_tap", "p": "per_site o"}, {"kernel_size": (2, 2)}, (3, 3),
        epilogue=lambda y, p: y * torch.sin(p), outer=("p",),
    )  # fmt: skip
    assert_derivatives(case, "auto")


SEPARATED = {
    "a spline": Formula(
        lambda x, w: w[0] * torch.tanh(x) + w[1] * torch.sin(2 * x), operands={"w": anyconv.per_tap(size=2)}
    ),
    "sums that an epilogue joins": Formula(
        lambda x, w: (torch.sin(x) * w, torch.tanh(x) * w), ("sum", "mean"), epilogue=lambda a, b: a / (b * b + 1)
    ),
}


@cell("autograd", "double backward and forward mode: formulas that run as torch's convolutions")
@pytest.mark.parametrize("name", SEPARATED)
def test_sums_of_convolutions(name):
    """A formula that runs as torch's convolutions differentiates as the reference does."""
    formula, found = SEPARATED[name], []
    x = torch.randn(2, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn((3, 2, 2, 2) + ((2,) if name == "a spline" else ()), dtype=torch.float64, requires_grad=True)
    for backend in ("native", "reference"):
        run = functools.partial(anyconv.conv2d, formula=formula, padding=1, backend=backend)
        found.append([*twice(run(x, w), [x, w]), moved(lambda a, t, run=run: run(a, t["w"]), [x, w], ["w"])])
    for got, want in zip(*found, strict=True):
        assert_near(got, want, terms=1000)


@pytest.mark.thorough
@cell("autograd", "gradcheck, gradgradcheck, forward over reverse")
def test_whole_fields():
    formula = Formula(quadratic, "sum", operands={"q": anyconv.per_pair(size=16)}, field=(2, 2))
    shapes = (1, 1, 3, 3), (2, 1, 2, 2), (2, 1, 16)
    leaves = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    run = lambda x, w, q: anyconv.conv2d(x, {"w": w, "q": q}, formula, padding=1)
    assert torch.autograd.gradcheck(run, leaves, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, leaves, check_fwd_over_rev=True, fast_mode=True)


@cell("autograd", "double backward through gradients of one's own")
@on_both
@pytest.mark.parametrize("reduce", ["sum", "logsumexp"])
def test_gradients_of_ones_own(reduce, backend):
    """What autograd makes of a gradient that is no derivative: the derivative of that gradient."""
    case = Case(AdderByHand.apply, reduce, {"w": "per_tap"}, SMALL, (3, 3))
    formula = Formula(lambda x, w: -(x - w).abs(), reduce, gradient=ADDER)
    y = anyconv.conv2d(case.x, case.tensors["w"], formula, padding=(1, 0), groups=2, backend=backend)
    leaves = [case.x, case.tensors["w"]]
    for got, want in zip(twice(y, leaves), twice(case.gold(), leaves), strict=True):
        assert_near(got, want, terms=1000)


def test_how_a_gradient_of_ones_own_moves():
    """Forward over backward is the derivative of the gradient too, in the other order: no Hessian, so not symmetric."""
    formula = Formula(lambda x, w: -(x - w).abs(), gradient=ADDER)
    x, w = torch.randn(1, 1, 4, dtype=torch.float64), torch.randn(2, 1, 2, dtype=torch.float64)
    gradient = torch.func.grad(lambda x, w: (anyconv.conv1d(x, w, formula) * weights).sum(), (0, 1))
    weights = torch.randn(1, 2, 3, dtype=torch.float64)

    def by_hand(x, w):
        fields = x.unfold(2, 2, 1)[:, None, 0]
        gx, gw = (w[None, :, 0, None] - fields).clamp(-1, 1), fields - w[None, :, 0, None]
        columns = (gx * weights[..., None]).sum(1)[0]
        first = torch.nn.functional.pad(columns[:, 0], (0, 1)) + torch.nn.functional.pad(columns[:, 1], (1, 0))
        return first[None, None], (gw * weights[..., None]).sum((0, 2))[:, None]

    moves = (torch.randn_like(x), torch.randn_like(w))
    for got, want in zip(*(torch.func.jvp(f, (x, w), moves)[1] for f in (gradient, by_hand)), strict=True):
        assert_near(got, want, terms=100)


# --- ties, zeros and infinities


@on_both
@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_the_second_derivative_of_a_product_with_zeros(zeros, backend):
    x = torch.tensor([[[2.0, 3.0, 5.0, 7.0]]], dtype=torch.float64)
    x[..., :zeros] = 0.0
    y = lambda x: anyconv.conv1d(
        x, torch.ones(1, 1, 4, dtype=torch.float64), Formula(lambda x, w: x * w, "prod"), backend=backend
    )
    ours = torch.func.hessian(lambda x: y(x).sum())(x).reshape(4, 4)
    for i, j in itertools.product(range(4), repeat=2):
        rest = [x[0, 0, k].item() for k in range(4) if k not in (i, j)]
        want = 0.0 if i == j else rest[0] * rest[1]
        assert ours[i, j] == pytest.approx(want, rel=1e-14)


@on_both
def test_ties_of_a_maximum_move_evenly(backend):
    x, w = torch.ones(1, 1, 3, dtype=torch.float64), torch.ones(1, 1, 3, dtype=torch.float64)
    run = lambda x: anyconv.conv1d(x, w, Formula(lambda x, w: x * w, "max"), backend=backend)
    _, move = torch.func.jvp(run, (x,), (torch.tensor([[[3.0, 0.0, 0.0]]], dtype=torch.float64),))
    assert move.item() == 1.0


@pytest.mark.sample(3)
@on_both
@pytest.mark.parametrize("reduce", ["logsumexp", "norm2"])
def test_equal_values_have_a_curvature(reduce, backend):
    """Where the state of a reduction changes hands between equal values, its derivative must not."""
    x = torch.full((1, 1, 4), 0.7, dtype=torch.float64)
    formula = Formula(lambda x, w: x * w, norm(2) if reduce == "norm2" else reduce)
    ours = torch.func.hessian(
        lambda x: anyconv.conv1d(x, torch.ones(1, 1, 4, dtype=torch.float64), formula, backend=backend).sum()
    )
    gold = torch.func.hessian(
        lambda x: torch.logsumexp(x, -1).sum() if reduce == "logsumexp" else x.square().sum().sqrt()
    )
    assert_near(ours(x), gold(x), terms=16)


# --- what tangents are made of

ENERGY = Reduction(
    "energy", identity=0.0, step=lambda s, v: s + v * v, merge=lambda a, b: a + b, result=torch.sqrt,
    adjoint=lambda s, v: v / torch.sqrt(s),
)  # fmt: skip
VARIANCE = Reduction(
    "variance", identity=(0.0, 0.0, 0.0), step=lambda s, v: (s[0] + 1, s[1] + v, s[2] + v * v),
    merge=lambda a, b: tuple(p + q for p, q in zip(a, b, strict=True)), result=lambda s: s[2] / s[0] - (s[1] / s[0]) ** 2,
    adjoint=lambda s, v: 2 * (v - s[1] / s[0]) / s[0],
)  # fmt: skip


@pytest.mark.parametrize("r", [*BUILTIN.values(), norm(2), norm(2.5), ENERGY, VARIANCE], ids=lambda r: r.name)
def test_a_tangent_obeys_the_laws(r):
    """Its merge, its order and its adjoint, which is a second derivative, by differences."""
    found = tangent(r)
    for values in ([0.3, -1.2, 2.1, 0.9], [0.5], [2.0, 1.0]):
        moves = [0.7, -0.2, 1.1, 0.4]
        sample = [tuple((m if kind else v) for _, kind in found.takes) for v, m in zip(values, moves, strict=False)]
        check_laws(found.reduction, LIBRARY, [[s if len(s) > 1 else s[0] for s in sample]])


def test_a_part_that_only_counts_has_no_derivative():
    assert tangent(VARIANCE).reduction.state == ("s0", "s1", "s2", "d_s1", "d_s2")


@pytest.mark.sample(3)
@cell("autograd", "third derivatives, but of prod, norm, and fourth of logsumexp")
@pytest.mark.parametrize("reduce", ["prod", "logsumexp", "sum", "max"])
def test_the_third_derivative_is_right_or_refused(reduce):
    x, w = torch.rand(1, 1, 3, dtype=torch.float64) + 0.5, torch.rand(1, 1, 2, dtype=torch.float64)
    run = lambda x: anyconv.conv1d(x, w, Formula(lambda x, w: torch.tanh(x * w), reduce)).sum()
    third = lambda f: torch.func.jacrev(torch.func.hessian(f))(x)
    if reduce == "prod":
        with pytest.raises(AnyConvError, match="has none of its own"):
            third(run)
        return
    fields = lambda x: torch.tanh(torch.stack([x[..., :2], x[..., 1:]], -1) * w[:, :, None])
    gold = lambda x: getattr(torch, {"max": "amax"}.get(reduce, reduce))(fields(x), -1).sum()
    assert_near(third(run), third(gold), terms=200)


@pytest.mark.sample(5)
@cell("autograd", "gradcheck, gradgradcheck, forward over reverse")
@pytest.mark.parametrize(
    "recipe", ["adder", "sharpened_cosine", "kan_chebyshev", "smooth_morphology", "gaussian_kervolution"]
)
def test_recipes_differentiate_twice(recipe):
    formula = getattr(anyconv.recipes, recipe).formula
    if recipe == "adder":
        formula = Formula(lambda x, w: -((x - w) ** 2))  # its published gradient is no derivative
    layer = anyconv.Conv2d(1, 2, 2, formula, dtype=torch.float64, padding=1)
    x = torch.rand(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    params = dict(layer.named_parameters())

    def run(x, *values):
        return torch.func.functional_call(layer, dict(zip(params, values, strict=True)), (x,))

    leaves = [x, *(p.detach().requires_grad_() for p in params.values())]
    assert torch.autograd.gradcheck(run, leaves, check_forward_ad=True, fast_mode=True)
    assert torch.autograd.gradgradcheck(run, leaves, check_fwd_over_rev=True, fast_mode=True)
