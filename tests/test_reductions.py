"""The reductions keep their laws, and the rules that are part of the contract."""

import math

import pytest
import torch
from checks import assert_near, assert_same
from hypothesis import given
from hypothesis import strategies as st

import anyconv
from anyconv import Formula
from anyconv.backends.torch_library import torch_library
from anyconv.errors import FormulaError
from anyconv.expr import evaluate
from anyconv.reductions import BUILTIN, Reduction, check_laws, reduction
from anyconv.reductions.laws import fold, result

LIBRARY = torch_library(torch.float64)
INF, NAN = math.inf, math.nan
SAMPLES = [
    [1.5], [1.0, 2.0, -0.5, 3.0], [2.0, 2.0, -1.0], [-1.0, -1.0], [0.0, 1.0, 2.0], [0.0, 0.0, 3.0], [-0.0, 2.0],
    [INF, 1.0], [-INF, 1.0], [INF, INF, 2.0], [-INF, -INF], [NAN, 1.0], [1.0, NAN, INF], [1e300, 1e300, 1e-300],
    [1e-200, 1e-200, 1e-200, 3.0], [700.0, 710.0, -700.0], [5e-324, 2.0],
]  # fmt: skip
TORCH = {"sum": torch.sum, "mean": torch.mean, "prod": torch.prod, "max": torch.amax, "min": torch.amin,
         "logsumexp": lambda v: torch.logsumexp(v, 0)}  # fmt: skip


@pytest.mark.parametrize("name", BUILTIN)
def test_laws(name):
    check_laws(BUILTIN[name], LIBRARY, SAMPLES)


@given(
    st.sampled_from(sorted(BUILTIN)),
    st.lists(st.sampled_from([-2.0, -0.5, 0.0, 1.0, 1.0, 3.0]), min_size=1, max_size=6),
)
def test_laws_on_any_values(name, values):
    check_laws(BUILTIN[name], LIBRARY, [values])


def adjoints(name, values):
    """The value of a field and the derivative with respect to each of its values, by the reduction's own texts."""
    r = BUILTIN[name]
    state = fold(r, values, LIBRARY)
    env = dict(zip(r.state, state, strict=True))
    slopes = [float(evaluate(r.exprs["adjoint"][0], {**env, "v": v}, LIBRARY)) for v in values]
    return result(r, state, LIBRARY), torch.tensor(slopes, dtype=torch.float64)


@pytest.mark.parametrize("name", BUILTIN)
@pytest.mark.parametrize("values", [s for s in SAMPLES if all(map(math.isfinite, s))], ids=str)
def test_values_and_gradients_are_torchs(name, values):
    """Where torch's own are finite: it overflows in products of large and small numbers, see below."""
    v = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    want = TORCH[name](v)
    (slopes,) = torch.autograd.grad(want, v)
    if name == "logsumexp":  # whose gradient torch takes from the rounded result; softmax is exact
        slopes = torch.softmax(v.detach(), 0)
    got, adjoint = adjoints(name, values)
    if want.isfinite() and slopes.isfinite().all() and (name != "prod" or want.abs() > 1e-290 or 0.0 in values):
        assert_near(torch.tensor(got, dtype=torch.float64), want.detach(), terms=len(values))
        assert_near(adjoint, slopes, terms=len(values))


@pytest.mark.parametrize(
    ("name", "values", "value", "slopes"),
    [
        ("max", [2.0, 2.0, 1.0], 2.0, [0.5, 0.5, 0.0]),
        ("min", [2.0, 2.0, 1.0, 1.0, 1.0], 1.0, [0.0, 0.0, 1 / 3, 1 / 3, 1 / 3]),
        ("max", [-INF, -INF], -INF, [0.5, 0.5]),
        ("max", [INF, 1.0], INF, [1.0, 0.0]),
        ("max", [NAN, 1.0], NAN, [NAN, NAN]),
        ("max", [0.0, -0.0], 0.0, [0.5, 0.5]),
        ("prod", [0.0, 2.0, 3.0], 0.0, [6.0, 0.0, 0.0]),
        ("prod", [0.0, 0.0, 3.0], 0.0, [0.0, 0.0, 0.0]),
        ("prod", [-0.0, 2.0], -0.0, [2.0, -0.0]),
        ("prod", [1e200, 1e200, 1e-300], 1e100, [1e-100, 1e-100, INF]),
        ("prod", [1e-200, 1e-200, 1e300], 1e-100, [1e100, 1e100, 0.0]),
        ("prod", [1e200, 1e200, 0.0], 0.0, [0.0, 0.0, INF]),
        ("prod", [INF, 0.0], NAN, [0.0, INF]),
        ("prod", [2.0**-1070, 2.0, 2.0], 2.0**-1068, [4.0, 2.0**-1069, 2.0**-1069]),
        ("logsumexp", [-INF, -INF], -INF, [0.0, 0.0]),
        ("logsumexp", [1000.0, 1000.0], 1000.0 + math.log(2.0), [0.5, 0.5]),
        ("logsumexp", [-1000.0, -INF], -1000.0, [1.0, 0.0]),
        ("logsumexp", [INF, 1.0], INF, [1.0, 0.0]),
        ("logsumexp", [NAN, 1.0], NAN, [NAN, NAN]),
        ("mean", [INF, 1.0], INF, [0.5, 0.5]),
    ],
)
def test_the_rules_of_the_contract(name, values, value, slopes):
    got, adjoint = adjoints(name, values)
    assert_near(torch.tensor(got, dtype=torch.float64), torch.tensor(value, dtype=torch.float64))
    if name == "prod" and values == [INF, 0.0]:
        assert adjoint[1] == INF
        return  # the slope at the infinity is inf / inf, as torch's
    want = torch.tensor(slopes, dtype=torch.float64)
    assert_same(adjoint.isnan(), want.isnan())
    torch.testing.assert_close(adjoint, want, rtol=1e-14, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "value"), [("sum", 0.0), ("mean", NAN), ("prod", 1.0), ("max", -INF), ("min", INF), ("logsumexp", -INF)]
)
def test_an_empty_field_is_the_identity(name, value):
    got = result(BUILTIN[name], fold(BUILTIN[name], [], LIBRARY), LIBRARY)
    assert got == value or (math.isnan(got) and math.isnan(value))


def test_only_what_the_adjoint_needs_is_saved():
    assert {name: r.saved for name, r in BUILTIN.items()} == {
        "sum": (), "mean": ("n",), "prod": ("m", "e", "z"), "max": ("m", "n"), "min": ("m", "n"), "logsumexp": ("m", "s"),
    }  # fmt: skip


def test_unknown_names_are_refused():
    with pytest.raises(
        FormulaError, match=r"`reduce` is 'median'\n  It must be one of sum, mean, prod, max, min, logsumexp, softmax"
    ):
        reduction("median")
    with pytest.raises(FormulaError, match="`step` of reduction 'r' uses q"):
        Reduction("r", "0", "s + q", "a_s + b_s", "s", "1")
    with pytest.raises(FormulaError, match="`merge` of reduction 'r' needs 1 values, got 2"):
        Reduction("r", "0", "s + v", ("a_s", "b_s"), "s", "1")


@pytest.mark.parametrize("name", ["sum", "mean", "(sum, mean)"])
@pytest.mark.parametrize("backend", ["auto", "reference", "cpp"])
def test_a_users_reduction_is_not_known_by_its_name(name, backend):
    """It was computed as torch's convolution, which sums, and its derivative as that of a sum."""
    own = anyconv.Reduction(
        name, identity=0.0, step=lambda s, v: s + torch.tanh(v), merge=lambda a, b: a + b, result=lambda s: s,
        adjoint=lambda s, v: 1 - torch.tanh(v) ** 2,
    )  # fmt: skip
    x = torch.randn(2, 3, 8, dtype=torch.float64, requires_grad=True)
    w = torch.randn(4, 3, 3, dtype=torch.float64, requires_grad=True)
    for function in (lambda x, w: x * w, lambda x, w: w * torch.sin(x) + x**3):
        got = anyconv.conv1d(x, w, Formula(function, own), backend=backend)
        want = function(x.unfold(-1, 3, 1)[:, None], w[:, :, None, :]).tanh().sum((2, 4))
        assert_near(got.detach(), want.detach(), terms=9)
        slopes = [torch.autograd.grad(y.square().sum(), (x, w), create_graph=True) for y in (got, want)]
        for ours, theirs in zip(*slopes, strict=True):
            assert_near(ours.detach(), theirs.detach(), terms=100)
    (ours,), (theirs,) = (torch.autograd.grad(s[0].sum(), w) for s in slopes)
    assert_near(ours, theirs, terms=1000)


def test_a_users_reduction_may_have_the_name_of_a_norm():
    own = anyconv.Reduction(
        "norm(2)", identity=0.0, step=lambda s, v: s + v**3, merge=lambda a, b: a + b, result=lambda s: s,
        adjoint=lambda s, v: 3 * v**2,
    )  # fmt: skip
    x = torch.randn(1, 1, 4, dtype=torch.float64, requires_grad=True)
    layer = anyconv.Pool1d(2, Formula(lambda x: x, own), backend="reference")
    (gx,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
    assert_near(torch.autograd.grad(gx.sum(), x)[0], 6 * x.detach(), terms=4)
