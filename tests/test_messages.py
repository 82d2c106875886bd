"""Whole error messages: every wrong call names the argument, the value seen, the user's line and the way out."""

import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import anyconv
from anyconv import Formula
from anyconv.errors import AnyConvError

CAPTURED = torch.ones(3)


def branch(x, w):
    return x * w if x > 0 else 0


def nothing(x, w):
    x * w


class Base(anyconv.Conv2d):
    def map(self, x, w):
        return x + w


def image(*shape, dtype=torch.float32):
    return torch.zeros(shape or (1, 3, 8, 8), dtype=dtype)


def weight(*shape, dtype=torch.float32):
    return torch.zeros(shape or (2, 3, 3, 3), dtype=dtype)


def absolute(x, w):
    return torch.abs(x - w)


MAPS = {
    "if on a pixel": branch,
    "and": lambda x, w: x > 0 and w > 0,
    "chained comparison": lambda x, w: torch.where(0 < x < 1, x, w),
    "python's max": lambda x, w: max(x, w),
    "math.tan": lambda x, w: math.tan(x),
    "np.tan": lambda x, w: np.tan(x),
    "float": lambda x, w: float(x),
    "item": lambda x, w: x.item(),
    "x.sum()": lambda x, w: x.sum(),
    "torch.max of a pixel": lambda x, w: torch.max(x),
    "shape": lambda x, w: x.view(-1),
    "index": lambda x, w: x[0],
    "iteration": lambda x, w: sum(x),
    "captured tensor": lambda x, w: x * CAPTURED,
    "captured 0-d tensor": lambda x, w: x * torch.tensor(2.0),
    "captured array": lambda x, w: x * np.ones(2),
    "random tensor": lambda x, w: x * torch.rand(()),
    "rand_like": lambda x, w: torch.rand_like(x) * w,
    "dropout": lambda x, w: F.dropout(x),
    "in-place method": lambda x, w: x.add_(w),
    "in-place argument": lambda x, w: F.relu(x, inplace=True),
    "out=": lambda x, w: torch.tan(x, out=None) + torch.add(x, w, out=x),
    "returns nothing": nothing,
    "returns a tuple": lambda x, w: (x, w),
    "returns text": lambda x, w: "x",
    "unknown function": lambda x, w: torch.fft.fft(x),
    "unknown method": lambda x, w: x.foo(),
    "matmul": lambda x, w: x @ w,
    "number where torch wants a tensor": lambda x, w: torch.maximum(x, 0.0),
    "misspelled name": lambda x, w: x * weigth,  # noqa: F821
    "complex": lambda x, w: x * 1j,
    "text": lambda x, w: x + "1",
    "too many arguments": lambda x, w: x.tan(w),
    "unknown argument": lambda x, w: torch.tan(x).clamp(minimum=0),
    "precision": lambda x, w: x.double(),
    "condition wanted": lambda x, w: torch.where(x, x, w),
    "minus a condition": lambda x, w: -(x > 0),
    "a number wanted": lambda x, w: F.leaky_relu(x, w),
    "huge number": lambda x, w: x * 10**400,
    "rounding mode": lambda x, w: torch.div(x, w, rounding_mode="up"),
}
CALLS = {
    "formula: stride by position": lambda: anyconv.Conv2d(3, 16, 3, 1),
    "formula: text": lambda: anyconv.conv2d(image(), weight(), "x * w"),
    "formula: map is no function": lambda: Formula(3),
    "formula: unknown reduce": lambda: Formula(absolute, reduce="median"),
    "formula: unknown operand": lambda: Formula(absolute, operands={"v": anyconv.per_filter()}),
    "formula: the pixel as operand": lambda: Formula(absolute, operands={"x": anyconv.per_filter()}),
    "formula: scope not called": lambda: Formula(absolute, operands={"w": anyconv.per_filter}),
    "formula: operands is no dict": lambda: Formula(absolute, operands=[anyconv.per_filter()]),
    "formula: no pixel": lambda: Formula(lambda: 1.0),
    "formula: *args": lambda: Formula(lambda x, *ws: x),
    "formula: keyword only": lambda: Formula(lambda x, *, w: x * w),
    "formula: reserved name": lambda: Formula(lambda x, inf: x * inf),
    "formula: no signature": lambda: Formula(max),
    "formula: subclass and formula": lambda: Base(3, 4, 3, absolute),
    "formula: operand hides an attribute": lambda: anyconv.Conv2d(3, 4, 3, lambda x, padding: x * padding),
    "formula: operand called bias": lambda: anyconv.Conv2d(3, 4, 3, lambda x, bias: x * bias),
    "formula: bad init": lambda: anyconv.per_filter(init="ones"),
    "params: too few": lambda: anyconv.conv2d(image(), weight(), lambda x, w, b: x * w + b),
    "params: unknown name": lambda: anyconv.conv2d(image(), {"v": weight()}, absolute),
    "params: no tensor": lambda: anyconv.conv2d(image(), (3.0,), absolute),
    "params: no sequence": lambda: anyconv.conv2d(image(), 3.0, absolute),
    "params: wrong axes": lambda: anyconv.conv2d(image(), weight(2, 3, 3), absolute),
    "params: wrong channels": lambda: anyconv.conv2d(image(), weight(2, 4, 3, 3), absolute),
    "params: per_filter of a wrong size": lambda: anyconv.conv2d(
        image(), (weight(), torch.zeros(3)), Formula(lambda x, w, p: x * w * p * x, operands={"p": anyconv.per_filter()})
    ),
    "params: no kernel": lambda: anyconv.conv2d(
        image(), torch.zeros(2), Formula(lambda x, p: x * p, operands={"p": anyconv.per_filter()})
    ),
    "bias: wrong size": lambda: anyconv.conv2d(image(), weight(), absolute, torch.zeros(3)),
    "bias: no tensor": lambda: anyconv.conv2d(image(), weight(), absolute, 1.0),
    "x: no tensor": lambda: anyconv.conv2d([[1.0]], weight(), absolute),
    "x: an array": lambda: anyconv.conv2d(np.zeros((1, 3, 64, 64)), weight(), absolute),
    "x: sparse": lambda: anyconv.conv2d(image().to_sparse(), weight(), absolute),
    "x: wrong axes": lambda: anyconv.conv2d(image(8, 8), weight(), absolute),
    "x: no pixels": lambda: anyconv.conv2d(image(1, 3, 0, 8), weight(), absolute),
    "x: too small": lambda: anyconv.conv2d(image(1, 3, 2, 8), weight(), absolute),
    "x: integers": lambda: anyconv.conv2d(image(dtype=torch.int32), weight(dtype=torch.int32), absolute),
    "x: complex": lambda: anyconv.conv2d(image(dtype=torch.complex64), weight(dtype=torch.complex64), absolute),
    "x: wrong channels for the layer": lambda: anyconv.Conv2d(4, 2, 3)(image()),
    "x: another dtype": lambda: anyconv.conv2d(image(), weight(dtype=torch.float64), absolute),
    "x: another device": lambda: anyconv.conv2d(image(), weight().to("meta"), absolute),
    "groups: do not divide": lambda: anyconv.conv2d(image(), weight(4, 1, 3, 3), absolute, groups=2),
    "groups: do not divide the layer's": lambda: anyconv.Conv2d(3, 4, 3, groups=2),
    "channels: none": lambda: anyconv.Conv2d(3, 0, 3),
    "channels: no int": lambda: anyconv.Conv2d(3.0, 2, 3),
    "stride: zero": lambda: anyconv.conv2d(image(), weight(), absolute, stride=0),
    "padding: negative": lambda: anyconv.Conv2d(3, 2, 3, padding=-1),
    "padding: same with stride": lambda: anyconv.Conv2d(3, 2, 3, stride=2, padding="same"),
    "padding_mode: unknown": lambda: anyconv.Conv2d(3, 2, 3, padding_mode="mirror"),
    "padding_mode: too small an image": lambda: anyconv.conv2d(image(1, 3, 3, 8), weight(), absolute, padding=3, padding_mode="reflect"),
    "backend: unknown": lambda: anyconv.conv2d(image(), weight(), absolute, backend="cuda"),
    "backend: cannot": lambda: anyconv.conv2d(image(), weight(), absolute, backend="native"),
    "receptive_fields: wrong axes": lambda: anyconv.receptive_fields(torch.zeros(8, 8), 3),
    "explain: a shape without a layer": lambda: anyconv.explain(absolute, (1, 3, 8, 8)),
}  # fmt: skip


def message(call):
    """The whole text of the error, with the class, and this file's path and line numbers left out."""
    with pytest.raises(AnyConvError) as error:
        call()
    text = re.sub(r"at 0x[0-9a-f]+", "at 0x...", f"{type(error.value).__name__}: {error.value}")
    return re.sub(re.escape(__file__) + r":\d+", "test_messages.py:N", text)


@pytest.mark.parametrize(("kind", "cases"), [("maps", MAPS), ("calls", CALLS)])
def test_messages_are_whole(golden, kind, cases):
    texts = []
    for title, case in cases.items():
        call = case if kind == "calls" else lambda case=case: Formula(case)
        texts.append(f"--- {title}\n{message(call)}")
    golden(f"messages_{kind}", "\n".join(texts))


@pytest.mark.parametrize("case", [c for c in MAPS if c not in ("returns nothing", "returns a tuple", "returns text")])
def test_a_map_s_message_shows_the_users_line(case):
    assert "test_messages.py:N\n" in message(lambda: Formula(MAPS[case]))


def test_errors_are_what_python_would_raise():
    """So that code which catches ValueError or TypeError goes on working."""
    with pytest.raises(ValueError, match="`stride` must be at least 1"):
        anyconv.Conv2d(3, 2, 3, stride=0)
    with pytest.raises(TypeError, match="`x` must be a tensor"):
        anyconv.conv2d(3, weight(), absolute)
