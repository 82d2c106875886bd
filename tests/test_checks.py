"""Every checker rejects a wrong answer."""

import pytest
import torch
from checks import assert_as_good_as, assert_identical, assert_near, assert_same

from anyconv.backends.torch_library import torch_library
from anyconv.errors import ExprError
from anyconv.expr.expr import apply, const, var
from anyconv.expr.verify import verify
from anyconv.reductions import Reduction, check_laws
from anyconv.reductions.laws import LawError

GOLD = torch.tensor([1.0, 2.0, float("nan"), float("inf")], dtype=torch.float64)
WRONG = [
    torch.tensor([1.0, 2.1, float("nan"), float("inf")], dtype=torch.float64),
    torch.tensor([1.0, float("nan"), float("nan"), float("inf")], dtype=torch.float64),
    torch.tensor([1.0, 2.0, 0.0, float("inf")], dtype=torch.float64),
    torch.tensor([1.0, 2.0, float("nan"), -float("inf")], dtype=torch.float64),
    torch.tensor([1.0, 2.0, float("nan")], dtype=torch.float64),
]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("check", [assert_same, assert_identical, assert_near])
def test_comparisons_reject_wrong_numbers(check, wrong):
    check(GOLD, GOLD)
    with pytest.raises(AssertionError, match="want"):
        check(wrong, GOLD)


def test_identity_sees_the_sign_of_zero():
    with pytest.raises(AssertionError, match="sign of a zero"):
        assert_identical(torch.tensor([0.0]), torch.tensor([-0.0]))


def test_sameness_sees_the_dtype():
    with pytest.raises(AssertionError, match="dtype"):
        assert_same(GOLD.float(), GOLD)


def test_nearness_is_a_few_roundings():
    one = torch.ones(1, dtype=torch.float64)
    assert_near(one + 1e-15, one)
    with pytest.raises(AssertionError, match="beyond"):
        assert_near(one + 1e-13, one)
    with pytest.raises(AssertionError, match="float64"):
        assert_near(one.float(), one.float())


@pytest.mark.parametrize("wrong", [1.001, float("nan"), float("inf"), -1.0])
def test_as_good_as_rejects_what_is_worse(wrong):
    gold = torch.tensor([1.0], dtype=torch.float64)
    assert_as_good_as(gold.float(), gold.float(), gold, scale=1.0)
    with pytest.raises(AssertionError, match="error"):
        assert_as_good_as(torch.tensor([wrong]), gold.float(), gold, scale=1.0)


@pytest.mark.parametrize(
    "broken",
    [
        {"identity": ("1",)},
        {"step": ("s + 2 * v",)},
        {"merge": ("a_s - b_s",)},
        {"result": "s * s", "adjoint": "1"},
        {"adjoint": "2"},
        {"adjoint": "nan"},
        {"step": ("s * 0.5 + v",)},
    ],
)
def test_laws_reject_a_broken_reduction(broken):
    good = {
        "state": ("s",),
        "identity": ("0",),
        "step": ("s + v",),
        "merge": ("a_s + b_s",),
        "result": "s",
        "adjoint": "1",
    }
    samples = [[1.0, 2.0, -0.5], [3.0]]
    check_laws(Reduction("good", **good), torch_library(torch.float64), samples)
    with pytest.raises(LawError, match="broken"):
        check_laws(Reduction("broken", **{**good, **broken}), torch_library(torch.float64), samples)


@pytest.mark.parametrize(
    "expr",
    [
        apply("tan", var("x"), var("w")),
        apply("frobnicate", var("x")),
        apply("where", var("x"), var("x"), var("w")),
        apply("add", apply("lt", var("x"), var("w")), var("x")),
        apply("leaky_relu", var("x"), var("w")),
        apply("tan", var("not a name")),
        apply("logical_not", const(1.0)),
    ],
)
def test_verify_rejects_what_is_malformed(expr):
    with pytest.raises(ExprError):
        verify(apply("tanh", expr) if expr.op != "lt" else expr)
