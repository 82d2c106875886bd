"""flops: what counters of PyTorch count of a convolution.

>>> with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
...     _ = Conv2d(3, 4, 3, lambda x, w: torch.abs(x - w))(images)
>>> counter.get_total_flops() == 3 * (2 * 4 * 6 * 6) * (3 * 3 * 3)
True

An operation of the map counts one, however long a processor takes for it, and so does what a reduction does with each
value; for ``x * w`` that is the two of each weight that PyTorch counts of its own convolutions.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from torch.utils.flop_counter import register_flop_formula

from . import operators
from .backends.functor import Functor, functor
from .expr import Expr
from .formula import Formula


def _operations(exprs: tuple[Expr, ...]) -> int:
    """Of all that is computed for them; a fused multiplication and addition are two."""
    nodes = dict.fromkeys(node for expr in exprs for node in expr.nodes() if node.args)
    return sum(2 if node.op == "fma" else 1 for node in nodes)


@functools.lru_cache(maxsize=256)
def _functor(text: str) -> Functor:
    return functor(Formula.of_text(text).mathematics)


def _evaluations(x: Any, told: tuple[Any, ...]) -> int:
    """Of the map: each output's, each channel's of a group, each tap's."""
    _, kernel, stride, dilation, before, after, groups, _, out_channels, *_ = told
    axes = zip(x[2:], kernel, stride, dilation, before, after, strict=True)
    sites = math.prod((n + b + a - d * (k - 1) - 1) // s + 1 for n, k, s, d, b, a in axes)
    return int(x[0] * out_channels * sites * (x[1] // groups) * math.prod(kernel))


@register_flop_formula([operators.CONVOLVE, operators.FORWARD])
def forward(x: Any, operands: Any, bias: Any, *told: Any, **_: Any) -> int:
    """Of shapes, as PyTorch passes them."""
    f = _functor(told[0])
    return _evaluations(x, told) * _operations((*f.inner_step, *f.step))


@register_flop_formula(operators.GRADIENTS)
def gradients(x: Any, operands: Any, kept: Any, grad: Any, *told: Any, **_: Any) -> int:
    """Of those that are wanted: each evaluation's derivatives, and their sums."""
    text, wanted = told[0], told[-1]
    formula, f = Formula.of_text(text), _functor(text)
    named = zip((formula.pixel, *formula.parameters), wanted, strict=True)
    sources = {name for name, flag in named if flag}
    asked = [v for v in formula.mathematics.variables if v.source in sources and not v.frozen]
    return _evaluations(x, told) * (_operations(tuple(f.gradients[v.name] for v in asked)) + len(asked))
