"""Hypothesis strategies: maps as people write them, expressions, geometries."""

import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from anyconv.expr.expr import apply, const, var
from anyconv.expr.ops import TABLE

NUMBERS = st.sampled_from([-2.0, -1.0, -0.5, 0.25, 0.5, 1.0, 2.0, 3.0])
UNARY = [
    torch.tanh, torch.sin, torch.cos, torch.atan, torch.sigmoid, torch.abs, torch.neg, F.softplus, F.relu, F.silu,
    torch.erf, torch.square, lambda a: a.clamp(-1.5, 1.5), lambda a: torch.exp(-(a * a)), lambda a: a**3,
    lambda a: torch.log1p(a * a), lambda a: torch.where(a > 0.3, a, 0.1 * a), lambda a: (a > 0).to(a.dtype) * a,
    lambda a: F.gelu(a, approximate="tanh"), lambda a: torch.sqrt(a * a + 1),
]  # fmt: skip
BINARY = [
    torch.add, torch.sub, torch.mul, torch.maximum, torch.minimum, lambda a, b: a / (1 + b * b), torch.logaddexp,
    lambda a, b: torch.where(a > b, a, b * b), lambda a, b: torch.lerp(a, b, 0.3), lambda a, b: torch.hypot(a, b + 4),
]  # fmt: skip


@st.composite
def functions(draw, depth=4):
    """A Python function of tensors, composed of torch calls; the pixel always takes part."""
    tree = _tree(draw, ("x", "w"), depth)

    def compute(node, values):
        if isinstance(node, str):
            return values[node]
        if isinstance(node, float):
            return node
        function, *children = node
        return function(*(compute(child, values) for child in children))

    return lambda x, w: x * 0.5 + compute(tree, {"x": x, "w": w})


def _tree(draw, names, depth):
    kind = draw(st.integers(0, 5)) if depth else 0
    if kind == 0:
        return draw(st.sampled_from(names))
    if kind in (1, 2):
        return (draw(st.sampled_from(UNARY)), _tree(draw, names, depth - 1))
    if kind == 3:
        number = draw(NUMBERS)
        operation = draw(
            st.sampled_from([lambda a, n=number: a * n, lambda a, n=number: n - a, lambda a, n=number: a + n])
        )
        return (operation, _tree(draw, names, depth - 1))
    return (draw(st.sampled_from(BINARY)), _tree(draw, names, depth - 1), _tree(draw, names, depth - 1))


CONSTANTS = st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 0.5, -0.5, -2.0, 0.1, 1e-30, 1e30, float("inf"), float("nan")]
)


@st.composite
def exprs(draw, names=("x", "w"), depth=5, kind="real", ops=None):
    """Any well-formed Expr over the whole table, or over some of its rows."""
    rows = [row for row in TABLE.values() if row.result == kind and (ops is None or row.name in ops)]
    if depth == 0 or draw(st.integers(0, 4)) == 0 or not rows:
        if kind == "bool":
            return const(draw(st.booleans()))
        return draw(st.one_of(st.sampled_from([var(name) for name in names]), CONSTANTS.map(const)))
    row = draw(st.sampled_from(rows))
    args = []
    for param in row.params:
        if param.kind == "number":
            args.append(const(param.default))
        else:
            args.append(draw(exprs(names, depth - 1, param.kind, ops)))
    return apply(row.name, *args)


@st.composite
def geometries(draw):
    """The arguments of a convolution that fit together, and a small input size."""
    dims = draw(st.integers(1, 3))
    most = {1: 9, 2: 5, 3: 3}[dims]

    def ints(low, high):
        return tuple(draw(st.integers(low, high)) for _ in range(dims))

    kernel, stride, dilation = ints(1, 3), ints(1, 3), ints(1, 2)
    padding = draw(st.one_of(st.just("valid"), st.just(ints(0, 2)), st.just("same")))
    if padding == "same":
        stride = (1,) * dims
    mode = draw(st.sampled_from(["zeros", "skip", "replicate", "circular", "reflect", 0.5]))
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(draw(st.integers(max(span, 3), span + most)) for span in spans)
    groups = draw(st.sampled_from([1, 1, 2, 3]))
    return {
        "dims": dims, "kernel_size": kernel, "stride": stride, "padding": padding, "dilation": dilation,
        "groups": groups, "padding_mode": mode,
    }, size  # fmt: skip
