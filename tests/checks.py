"""The checkers. Each raises, none returns a verdict that could be dropped; `test_checks.py` shows that each can fail."""

import torch
from torch import Tensor


def assert_same(got: Tensor, want: Tensor) -> None:
    """The same shape, dtype and numbers, NaN equal to NaN."""
    assert got.dtype == want.dtype, f"dtype {got.dtype}, want {want.dtype}"
    assert got.shape == want.shape, f"shape {tuple(got.shape)}, want {tuple(want.shape)}"
    same = (got == want) | (got.isnan() & want.isnan())
    assert same.all(), f"{int((~same).sum())} of {same.numel()} numbers differ, {_first(got, want, ~same)}"


def assert_identical(got: Tensor, want: Tensor) -> None:
    """As :func:`assert_same`, and zeros have the same sign."""
    assert_same(got, want)
    signs = got.isnan() | (got.signbit() == want.signbit())
    assert signs.all(), f"the sign of a zero differs, {_first(got, want, ~signs)}"


def assert_near(got: Tensor, gold: Tensor, *, terms: int = 1) -> None:
    """Within the rounding that a sum of ``terms`` numbers of ``got``'s dtype may have; NaN and infinities equal.

    The scale is the largest finite number of ``gold``, which is float64: the numbers summed may be larger than
    their sum, so a bound relative to each number would promise what no order of summation keeps.
    """
    assert got.shape == gold.shape, f"shape {tuple(got.shape)}, want {tuple(gold.shape)}"
    assert gold.dtype == torch.float64, "the gold standard is computed in float64"
    finite = gold.isfinite()
    scale = gold[finite].abs().max().clamp(min=1.0).item() if finite.any() else 1.0
    bound = 4 * (terms + 8) * torch.finfo(got.dtype).eps * scale
    got = got.double()
    wrong = torch.where(finite, ~((got - gold).abs() <= bound), ~((got == gold) | (got.isnan() & gold.isnan())))
    assert not wrong.any(), f"beyond {bound:.3g} at {int(wrong.sum())} of {gold.numel()}, {_first(got, gold, wrong)}"


def assert_as_good_as(got: Tensor, plain: Tensor, gold: Tensor, *, scale: float) -> None:
    """``got`` is at most twice as far from the float64 ``gold`` as the ``plain`` computation in ``got``'s own dtype.

    Both errors are relative to ``scale``, the size of the numbers that were summed.
    """
    assert got.dtype == plain.dtype, f"dtype {got.dtype}, want {plain.dtype}"
    assert got.shape == gold.shape, f"shape {tuple(got.shape)}, want {tuple(gold.shape)}"
    floor = (plain.double() - gold).abs().max() / scale
    error = (got.double() - gold).abs().max() / scale
    bound = 2 * floor + 2 * torch.finfo(got.dtype).eps
    assert error <= bound, f"error {error:.3g} of the scale, {bound:.3g} allowed"


def _first(got: Tensor, want: Tensor, wrong: Tensor) -> str:
    index = tuple(wrong.nonzero()[0].tolist())
    return f"first at {index}: {got[index].item()}, want {want[index].item()}"
