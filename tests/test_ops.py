"""The table of operations: each row against torch, at every special point."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from checks import assert_near

from anyconv.backends.torch_library import torch_library
from anyconv.expr import evaluate, parse
from anyconv.expr.differentiate import partial
from anyconv.expr.expr import apply, const, var
from anyconv.expr.ops import MACROS, ROWS
from anyconv.expr.parse import read
from anyconv.expr.trace import trace

LIBRARY = torch_library(torch.float64)
SPECIAL = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan]
EDGES = [
    0.5,
    -0.5,
    2.0,
    -2.0,
    3.0,
    -3.0,
    6.0,
    -6.0,
    20.0,
    21.0,
    -25.0,
    0.1,
    1e-300,
    -1e-300,
    1e300,
    -1e300,
    math.pi / 2,
]
POINTS = {1: SPECIAL + EDGES, 2: [*SPECIAL, 0.5, 2.0, -2.0, 3.0, 1e-300, 1e300], 3: [*SPECIAL, 0.5, 2.0]}
REAL = [row for row in ROWS if row.result == "real"]

# where torch computes a part of a float64 gradient in float32, ours is the better: 1 / 6, and 2**exponent, which overflows
TORCH_OVERFLOWS = {"mantissa": (1e-300, 1e300), "copysign": (math.inf,)}


@pytest.mark.sample(3)
@pytest.mark.parametrize("row", REAL, ids=lambda row: row.name)
def test_derivative_is_autograds_at_every_special_point(row):
    """One number at a time: on more, torch's vectorized kernels differ from its scalar ones at NaN (elu, hardtanh, ...)."""
    if row.name in ("atan2", "hardswish") and torch.__version__ < "2.7":
        pytest.skip("torch chose otherwise then, where these have no derivative")
    if row.name in ("fmax", "fmin", "clamp", "clamp_min", "clamp_max") and torch.__version__ >= "2.14":
        pytest.skip("torch chooses otherwise since 2.14, where both arguments are equal")
    kinds = [p.kind for p in row.params]
    symbols = {"real": lambda p: var(p.name), "number": lambda p: const(p.default)}
    for condition in (True, False) if "bool" in kinds else (None,):
        node = apply(row.name, *(const(condition) if p.kind == "bool" else symbols[p.kind](p) for p in row.params))
        partials = {i: partial(node, i) for i, kind in enumerate(kinds) if kind == "real"}
        for point in itertools.product(POINTS[max(1, kinds.count("real"))], repeat=kinds.count("real")):
            values = _values(row, point, condition)
            for index, want in _autograd(row, values).items():
                env = {p.name: v.detach() for p, v in zip(row.params, values, strict=True) if p.kind == "real"}
                got = torch.as_tensor(evaluate(partials[index], env, LIBRARY), dtype=torch.float64).expand(1)
                if abs(point[0]) not in TORCH_OVERFLOWS.get(row.name, ()):
                    # 1e-15: what is left of a difference of two numbers near 1
                    torch.testing.assert_close(
                        got, want, rtol=1e-12, atol=1e-15, equal_nan=True, msg=_message(row, point)
                    )


def _values(row, point, condition):
    real = iter(point)
    make = {
        "real": lambda p: torch.tensor([next(real)], dtype=torch.float64, requires_grad=True),
        "bool": lambda p: torch.tensor([condition]),
        "number": lambda p: p.default,
    }
    return [make[p.kind](p) for p in row.params]


def _autograd(row, values):
    """torch's gradient with respect to each real argument, by its index."""
    leaves = {i: v for i, (v, p) in enumerate(zip(values, row.params, strict=True)) if p.kind == "real"}
    y = LIBRARY[row.name](*values)
    if not y.requires_grad:
        return {i: torch.zeros_like(v) for i, v in leaves.items()}
    found = torch.autograd.grad(y, list(leaves.values()), allow_unused=True)
    return {i: torch.zeros_like(v) if g is None else g for (i, v), g in zip(leaves.items(), found, strict=True)}


def _message(row, point):
    return lambda text: f"{row.name} at {point}: {text}"


@pytest.mark.parametrize(("name", "point"), [("mantissa", 1e-300)])
def test_torch_is_still_imprecise_there(name, point):
    row = next(r for r in ROWS if r.name == name)
    values = _values(row, (point,), None)
    exact = evaluate(partial(apply(name, var("x")), 0), {"x": values[0].detach()}, LIBRARY)
    assert (_autograd(row, values)[0] - exact).abs() > 1e-10


@pytest.mark.parametrize("row", [row for row in REAL if row.name not in ("real", "detach")], ids=lambda row: row.name)
def test_derivative_is_the_slope(row):
    """Against differences of the values, so that torch's autograd and the table cannot both be wrong."""
    generator = torch.Generator().manual_seed(0)
    env = {}
    for (low, high), param in zip(row.sample, row.params, strict=True):
        draw = torch.rand(20, dtype=torch.float64, generator=generator) * (high - low) + low
        env[param.name] = {"real": draw, "bool": draw == draw, "number": param.default}[param.kind]
    fixed = {p.name: const(True if p.kind == "bool" else p.default) for p in row.params if p.kind != "real"}
    node = read(f"{row.name}({', '.join(env)})", fixed)
    for index, param in enumerate(row.params):
        if param.kind == "real":
            h = 1e-6
            ends = [LIBRARY[row.name](*{**env, param.name: env[param.name] + by}.values()) for by in (-h, h)]
            slope = evaluate(partial(node, index), env, LIBRARY)
            # the error of a central difference: h**2 of truncation, eps / h of rounding, both of third derivatives < 1e4
            torch.testing.assert_close(
                torch.as_tensor(slope).double().expand(20), (ends[1] - ends[0]) / (2 * h), rtol=1e-6, atol=1e-6
            )


NAMES = sorted({name for row in ROWS for name in (row.name, *row.aliases)} | set(MACROS))
NO_SPELLING = {"real", "gelu_tanh", "trunc_divide", "mantissa", "exponent"}  # made by a cast, an argument, or frexp
PLACES = (torch, F, torch.special, torch.Tensor)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in NO_SPELLING])
def test_every_torch_spelling_traces_to_what_torch_computes(name):
    """Function, method, `torch.nn.functional` and `torch.special` twin, on the same numbers."""
    row = next((r for r in ROWS if name in (r.name, *r.aliases)), None)
    params = row.params if row else MACROS[name][0]
    places = [place for place in PLACES if hasattr(place, name)]
    assert places, f"torch has no {name}"
    for place in places:

        def function(*values, place=place):
            return _call(place, name, params, values)

        names = [p.name for p in params if p.kind != "number"]
        values = [torch.linspace(0.15, 0.85, 7, dtype=torch.float64) + 0.1 * i for i in range(len(names))]
        got = evaluate(trace(function, names), dict(zip(names, values, strict=True)), LIBRARY)
        assert_near(torch.as_tensor(got), function(*values).double())


def _call(place, name, params, values):
    """`place.name(...)`, with a condition made of each value that stands for one, and torch's defaults written out."""
    given = iter(values)
    args = [p.default if p.kind == "number" else next(given) for p in params]
    args = [a > 0.5 if p.kind == "bool" else a for a, p in zip(args, params, strict=True)]
    if name == "polygamma":
        args = [int(args[0]), args[1]] if place is not torch.Tensor else [args[1], int(args[0])]
    if name == "where" and place is torch.Tensor:
        args = [args[1], args[0], args[2]]
    if name == "prelu" and isinstance(args[1], torch.Tensor):
        args[1] = args[1][:1]  # torch wants one weight per channel, and a vector is one channel
    if name in ("addcmul", "addcdiv"):
        return _at(place, name, args[:3], value=args[3])
    return _at(place, name, args)


def _at(place, name, args, **kwargs):
    return (
        getattr(args[0], name)(*args[1:], **kwargs) if place is torch.Tensor else getattr(place, name)(*args, **kwargs)
    )


OPERATORS = [
    (lambda x, w: x + w, "x + w"), (lambda x, w: 2 + w, "2 + w"), (lambda x, w: x - w, "x - w"),
    (lambda x, w: 2 - w, "2 - w"), (lambda x, w: x * w, "x * w"), (lambda x, w: 2 * w, "2 * w"),
    (lambda x, w: x / w, "x / w"), (lambda x, w: 2 / w, "2 / w"), (lambda x, w: x // w, "x // w"),
    (lambda x, w: 2 // w, "2 // w"), (lambda x, w: x % w, "x % w"), (lambda x, w: 2 % w, "2 % w"),
    (lambda x, w: x**w, "x ** w"), (lambda x, w: 2**w, "2 ** w"), (lambda x, w: -x, "-x"), (lambda x, w: +x, "x"),
    (lambda x, w: abs(x), "abs(x)"), (lambda x, w: x < w, "real(x < w)"), (lambda x, w: x <= w, "real(x <= w)"),
    (lambda x, w: x > w, "real(x > w)"), (lambda x, w: x >= w, "real(x >= w)"), (lambda x, w: x == w, "real(x == w)"),
    (lambda x, w: x != w, "real(x != w)"), (lambda x, w: (x > 0) & (w > 0), "real((x > 0) & (w > 0))"),
    (lambda x, w: (x > 0) | (w > 0), "real((x > 0) | (w > 0))"), (lambda x, w: (x > 0) ^ (w > 0), "real((x > 0) ^ (w > 0))"),
    (lambda x, w: ~(x > 0), "real(~(x > 0))"),
    (lambda x, w: (x > 0) + (w > 0), "real((x > 0) | (w > 0))"),
    (lambda x, w: (x > 0) * (w > 0), "real((x > 0) & (w > 0))"),
    (lambda x, w: (x > 0).float() * w, "real(x > 0) * w"), (lambda x, w: (x > 0) * w, "real(x > 0) * w"),
    (lambda x, w: torch.add(x, w, alpha=2), "x + 2 * w"), (lambda x, w: x.sub(w, alpha=3), "x - 3 * w"),
    (lambda x, w: torch.div(x, w, rounding_mode="floor"), "x // w"),
    (lambda x, w: torch.div(x, w, rounding_mode="trunc"), "trunc_divide(x, w)"),
    (lambda x, w: x.clamp(min=0), "clamp_min(x, 0)"), (lambda x, w: x.clamp(max=w), "clamp_max(x, w)"),
    (lambda x, w: torch.clamp(x, -1, 1), "clamp(x, -1, 1)"), (lambda x, w: torch.clamp(x, max=1, min=-1), "clamp(x, -1, 1)"),
    (lambda x, w: F.gelu(x, approximate="tanh"), "gelu_tanh(x)"), (lambda x, w: F.gelu(x), "gelu(x)"),
    (lambda x, w: torch.round(x, decimals=2), "round(x * 100) / 100"), (lambda x, w: x.round(decimals=-1), "round(x / 10) * 10"),
    (lambda x, w: torch.logit(x, eps=0.25), "logit(clamp(x, 0.25, 0.75))"),
    (lambda x, w: torch.where(x > 0, x, 0), "where(x > 0, x, 0)"), (lambda x, w: x.where(x > 0, w), "where(x > 0, x, w)"),
    (lambda x, w: torch.where(x > 0, w > 0, w < 0), "t0 = x > 0; real(t0 & (w > 0) | ~t0 & (w < 0))"),
    (lambda x, w: x.detach() * w, "detach(x) * w"), (lambda x, w: x.clone().contiguous(), "x"),
    (lambda x, w: torch.zeros_like(x) + w, "0 + w"), (lambda x, w: torch.ones_like(x) + torch.full_like(x, 3), "1 + 3"),
    (lambda x, w: x.to(x.dtype) + w.type_as(x) + w.to(x), "x + w + w"),
    (lambda x, w: torch.frexp(x)[0] * x.frexp()[1], "mantissa(x) * exponent(x)"),
    (lambda x, w: F.leaky_relu(x, 0.2), "leaky_relu(x, 0.2)"), (lambda x, w: F.elu(x, alpha=0.5), "elu(x, 0.5)"),
    (lambda x, w: F.softplus(x, beta=2), "softplus(x, 2, 20)"), (lambda x, w: F.relu6(x), "hardtanh(x, 0, 6)"),
    (lambda x, w: F.threshold(x, 0.1, 20), "threshold(x, 0.1, 20)"), (lambda x, w: F.sigmoid(x), "sigmoid(x)"),
    (lambda x, w: torch.addcmul(x, w, w, value=2), "x + 2 * w * w"), (lambda x, w: torch.rsub(x, w), "w - x"),
    (lambda x, w: torch.add(input=x, other=w), "x + w"), (lambda x, w: torch.pow(x, exponent=2), "x ** 2"),
    (lambda x, w: torch.nn.ReLU()(x) + torch.nn.Softshrink(0.25)(w), "relu(x) + softshrink(w, 0.25)"),
    (lambda x, w: torch.logical_and(x, w > 0), "real((x != 0) & (w > 0))"),
    (lambda x, w: torch.logaddexp2(x, w) + torch.special.xlog1py(x, w), "logaddexp2(x, w) + xlog1py(x, w)"),
]  # fmt: skip


@pytest.mark.parametrize(("function", "text"), OPERATORS)
def test_spellings_of_operators_and_arguments(function, text):
    assert str(trace(function, ("x", "w"))) == text
    x = torch.tensor([-1.3, -0.2, 0.4, 0.9], dtype=torch.float64)
    w = torch.tensor([0.7, 0.3, -0.6, 0.4], dtype=torch.float64)
    got = torch.as_tensor(evaluate(parse(text), {"x": x, "w": w}, LIBRARY), dtype=torch.float64).expand(4)
    assert_near(got, torch.as_tensor(function(x, w)).double().expand(4))


def test_rows_are_well_formed():
    names = [name for row in ROWS for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names)), "a name stands for two rows"
    for row in REAL:
        for text in filter(None, row.derivative):
            free = {str(node.value) for node in read(text).nodes() if node.op == "var"}
            assert free <= {p.name for p in row.params} | {"y"}, f"{row.name}: {text}"
