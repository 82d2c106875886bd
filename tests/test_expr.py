"""The language of maps: text and back, simplify, differentiate, hash-consing."""

import copy
import math
import pickle
import time

import pytest
import strategies
import torch
from checks import assert_identical
from hypothesis import given
from hypothesis import strategies as st

from anyconv.backends.torch_library import torch_library
from anyconv.errors import ExprError
from anyconv.expr import differentiate, evaluate, parse, share, simplify
from anyconv.expr.differentiate import times
from anyconv.expr.evaluate import PLAIN
from anyconv.expr.expr import MAX_DEPTH, apply, const, var
from anyconv.expr.parse import read
from anyconv.expr.simplify import RULES
from anyconv.expr.trace import trace

POINTS = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 1e-30, -1e30, math.inf, -math.inf, math.nan]
X, W = (t.flatten() for t in torch.meshgrid(*[torch.tensor(POINTS, dtype=torch.float64)] * 2, indexing="ij"))
SMOOTH = {"add", "sub", "mul", "div", "neg", "sin", "cos", "tanh", "atan", "sigmoid", "exp", "sqrt", "log1p", "abs",
          "maximum", "where", "lt", "silu", "hypot", "pow", "real", "logical_and", "square", "softplus"}  # fmt: skip


def value(expr, x=X, w=W):
    y = evaluate(expr, {"x": x, "w": w}, torch_library(x.dtype))
    return torch.as_tensor(y, dtype=x.dtype).expand(x.shape)


@given(strategies.exprs())
def test_text_parses_back_to_the_same_object(expr):
    assert parse(str(expr)) is expr


@given(strategies.exprs())
def test_simplify_keeps_every_value_to_the_last_bit(expr):
    assert_identical(value(simplify(expr)), value(expr))


@given(strategies.exprs())
def test_simplify_is_idempotent(expr):
    assert simplify(simplify(expr)) is simplify(expr)


@pytest.mark.parametrize(("before", "after"), RULES)
def test_each_rule_keeps_every_value(before, after):
    for condition in (True, False):
        env = {"a": X, "b": W, "c": torch.full(X.shape, condition)}
        library = torch_library(torch.float64)
        got, want = (torch.as_tensor(evaluate(read(text), env, library)).expand(X.shape) for text in (after, before))
        if "0.5" in before:  # no library rounds every power correctly: two good ones differ by a unit in the last place
            got = torch.where((got - want).abs() <= torch.finfo(got.dtype).eps * want.abs(), want, got)
        assert_identical(got.double(), want.double())


@given(strategies.exprs(ops=SMOOTH), st.integers(0, 2**31))
def test_derivative_agrees_with_autograd(expr, seed):
    generator = torch.Generator().manual_seed(seed)
    x, w = torch.rand(2, 16, dtype=torch.float64, generator=generator) * 2 + 0.2
    want, single = (_autograd(expr, x.to(dtype), w.to(dtype)).double() for dtype in (torch.float64, torch.float32))
    got = value(differentiate(expr, "x"), x, w)
    # float32's own error says how ill-conditioned the point is; float64's may be that much smaller, and not more
    eps64, eps32 = torch.finfo(torch.float64).eps, torch.finfo(torch.float32).eps
    allowed = 64 * ((single - want).abs() * eps64 / eps32 + eps64 * (1 + want.abs()))
    fair = want.isfinite() & single.isfinite()
    assert ((got - want).abs() <= allowed)[fair].all()


def _autograd(expr, x, w):
    x = x.clone().requires_grad_()
    y = value(expr, x, w)
    return torch.autograd.grad(y.sum(), x, allow_unused=True, materialize_grads=True)[0] if y.requires_grad else x * 0


@pytest.mark.parametrize("text", ["where(x > 0, sqrt(x), 0)", "sqrt(where(x > 0, x, 0))", "relu(x) * relu(x) ** 0.5"])
def test_differentiate_selects_instead_of_weighing(text):
    """A pole of the branch not taken stays out, where 0 * inf would be NaN (as in autograd, for the first)."""
    x = torch.tensor([-1.0, -0.5, -3.0], dtype=torch.float64)
    assert (value(differentiate(parse(text), "x"), x, x) == 0).all()


@pytest.mark.parametrize(
    ("text", "name", "slope"),
    [
        ("x * w", "x", "w"),
        ("tan(x + w)", "w", "t0 = tan(x + w); 1 + t0 * t0"),
        ("-abs(x - w)", "x", "-sign(x - w)"),
        ("-abs(x - w)", "w", "sign(x - w)"),
        ("x ** 3", "x", "3 * (x * x)"),
        ("floor(x) + w", "x", "0"),
        ("where(x > w, x * x, w)", "x", "where(x > w, x + x, 0)"),
        ("2.5", "x", "0"),
        ("real(x > 0) * w", "x", "0"),
        ("x * exp(x)", "x", "t0 = exp(x); t0 + x * t0"),
    ],
)
def test_derivatives_read_well(text, name, slope):
    assert str(differentiate(parse(text), name)) == slope


@pytest.mark.parametrize(
    ("text", "simple"),
    [
        ("x * 1 - -w", "x + w"),
        ("(2 * 3) * x", "6 * x"),
        ("x + 0", "x + 0"),
        ("x * 0", "x * 0"),
        ("--x", "x"),
        ("x ** 2 / 1", "x * x"),
        ("where(1 < 2, x, w)", "x"),
        ("0 / 0 * x", "nan * x"),
        ("1 / 0 - x", "inf - x"),
        ("(-x) ** -2", "1 / (x * x)"),
    ],
)
def test_simplify(text, simple):
    assert str(simplify(parse(text))) == simple


def test_equal_expressions_are_one_object():
    assert parse("tan(x + w)") is apply("tan", apply("add", var("x"), var("w")))
    assert const(0.0) is not const(-0.0)
    assert const(True) is not const(1.0)
    assert const(math.nan) is const(math.nan)
    expr = parse("t0 = x * w; t0 * exp(t0)")
    assert pickle.loads(pickle.dumps(expr)) is copy.deepcopy(expr) is copy.copy(expr) is expr


def test_text_shows_sharing_and_avoids_the_users_names():
    a = apply("mul", var("t0"), var("t1"))
    assert str(apply("add", a, a)) == "t2 = t0 * t1; t2 + t2"


def test_a_shared_chain_is_no_exponential_text():
    expr = var("x")
    for _ in range(200):
        expr = apply("mul", expr, expr)
    assert len(str(expr)) < 5000
    assert parse(str(expr)) is expr
    assert len(differentiate(expr, "x").nodes()) < 1000


def test_deep_nests_are_written_and_read():
    expr = var("x")
    for _ in range(20 * MAX_DEPTH):
        expr = apply("sin", apply("neg", expr))
    assert parse(str(expr)) is expr
    assert simplify(expr) is expr


def test_long_loops_trace():
    def horner(x, w):
        y = x
        for _ in range(3000):
            y = y * x + w
        return y

    expr = trace(horner, ("x", "w"))
    assert len(expr.nodes()) == 6002
    start = time.monotonic()
    assert len(differentiate(expr, "x").nodes()) < 20_000
    assert time.monotonic() - start < 5, "differentiation is not linear in the size of the map"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x +", "cannot read 'x +' as a map"),
        ("", "the text of a map ends with an expression, got ''"),
        ("import os", "the text of a map ends with an expression, got 'import os'"),
        ("__import__('os')", "`__import__(...)` is no operation of the table, in \"__import__('os')\""),
        ("x.real", "`x.real` is outside the grammar of maps, in 'x.real'"),
        ("x[w]", "`x[w]` is outside the grammar of maps, in 'x[w]'"),
        ("x[0][1]", "`x[0][1]` is outside the grammar of maps, in 'x[0][1]'"),
        ("lambda: 0", "`lambda: 0` is outside the grammar of maps, in 'lambda: 0'"),
        ("'text'", "`'text'` is outside the grammar of maps, in \"'text'\""),
        ("x < w < 1", "`x < w < 1` is outside the grammar of maps, in 'x < w < 1'"),
        ("tan(x, k=1)", "`tan(...)` is no operation of the table, in 'tan(x, k=1)'"),
        ("x; w", "only `name = value` may stand before the last `;`, in 'x; w'"),
        ("tan(x, w)", "`tan` takes 1 arguments, got 2 in `tan(x, w)`"),
        ("where(x, 1, 2)", "`c` of `where` must be bool, got `x`"),
        ("leaky_relu(x, w)", "`negative_slope` of `leaky_relu` must be a number, got `w`"),
        ("(x > 0) + 1", "`x` of `add` must be real, got `x > 0`"),
        ("(" * 300 + "x" + ")" * 300, "cannot read"),
        ("x @ w", "`x @ w` is outside the grammar of maps, in 'x @ w'"),
        ("1j * x", "`1j` is outside the grammar of maps, in '1j * x'"),
    ],
)
def test_the_grammar_is_closed(text, message):
    with pytest.raises(ExprError) as error:
        parse(text)
    assert str(error.value).startswith(message)


def test_evaluate_names_what_a_library_lacks():
    with pytest.raises(ExprError, match="this library has no `tan`"):
        evaluate(parse("tan(x)"), {"x": 1.0}, PLAIN)


@given(strategies.functions())
def test_tracing_keeps_the_meaning_to_the_last_bit(function):
    x, w = torch.randn(2, 32, dtype=torch.float64)
    want = torch.as_tensor(function(x, w)).double().expand(32)
    assert_identical(value(trace(function, ("x", "w")), x, w).contiguous(), want)


def nodes(roots):
    return list(dict.fromkeys(node for root in roots for node in root.nodes()))


def test_shared_gradients_take_fewer_operations():
    """What the chain rule leaves in different orders is computed once: one division, one product of what is common."""
    fractions = [read(text) for text in ("g * ((x + w) / d / d)", "g * (1 / d)", "g * (w / d)")]
    assert sum(node.op == "div" for node in nodes(share(fractions, outer={"g"}))) == 1
    products = [read(text) for text in ("g * (a * (b * x))", "g * ((x * w) * a)", "g * ((a * x) * (b * w))")]
    assert sum(node.op == "mul" for node in nodes(products)) == 10
    assert sum(node.op == "mul" for node in nodes(share(products, outer={"g"}))) == 5


@pytest.mark.parametrize("text", ["where(x > w * x, w * x, 0)", "abs(x - w) * (x - w)", "exp(-((x - w) * s * s))"])
def test_sharing_leaves_what_conditions_and_functions_are_given(text):
    """A comparison must see the very number that it saw in the forward pass."""
    expr = read(text)
    given_ = {arg for node in expr.nodes() if node.op in ("gt", "abs", "exp") for arg in node.args}
    assert given_ <= set(nodes(share([expr, read("w * x + s * s")], outer={"g"})))


def error_of_sharing(plain, shared, x, w):
    """The largest difference over the largest number on the way, at points where nothing on the way is huge."""
    env = {"x": x, "w": w, "g": torch.full_like(x, 0.7)}
    way = [
        torch.as_tensor(evaluate(n, env, torch_library(x.dtype))).double().expand(x.shape).abs() for n in nodes(plain)
    ]
    sizes = torch.stack(way).amax(0)
    fair = sizes < 1e6
    values = [[evaluate(e, env, torch_library(x.dtype)) for e in exprs] for exprs in (plain, shared)]
    errors = [
        torch.as_tensor(a - b).expand(x.shape)[fair].abs() / sizes[fair].clamp(min=1)
        for a, b in zip(*values, strict=True)
    ]
    return max((e.max().item() for e in errors if e.numel()), default=0.0)


@given(strategies.exprs(ops=SMOOTH), st.integers(0, 2**31))
def test_shared_gradients_are_the_gradients(expr, seed):
    generator = torch.Generator().manual_seed(seed)
    x, w = torch.rand(2, 40, generator=generator, dtype=torch.float64) + 0.3
    plain = [times(var("g"), differentiate(expr, name)) for name in ("x", "w")]
    assert error_of_sharing(plain, share(plain, outer={"g"}), x, w) < 1e-8


def test_a_wrong_sharing_is_seen():
    x, w = torch.rand(2, 40, dtype=torch.float64) + 0.3
    assert error_of_sharing([read("g * x * x")], [read("g * x * w")], x, w) > 1e-3
