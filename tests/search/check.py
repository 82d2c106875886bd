"""A case computed by the library and by the oracle, and compared: the value, every gradient, and what else is asked for."""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

import anyconv
from anyconv.backends import native
from anyconv.errors import BackendError
from anyconv.functional import convolve
from anyconv.geometry import Geometry
from anyconv.plan import Problem, choose
from anyconv.transposed import Spans, transpose

from . import oracle
from .case import Case, Place, Source
from .numbers import tensors_of
from .rounding import FACTOR, RUNS, Rounding, eps_of

UNDECIDED = 0.05  # a bound that is this much of the largest number decides nothing


@dataclass(frozen=True)
class Failure:
    """One way in which a case is wrong.

    Args:
        what: which tensor: ``y``, ``gradient of w``, ...
        kind: ``differs``, ``not finite``, ``dtype``, ``shape``, or the name of an exception.
        ratio: the difference by what rounding allows.
    """

    what: str
    kind: str
    message: str
    ratio: float = math.inf


@dataclass(frozen=True)
class Outcome:
    """What came of a case.

    Args:
        backend: the one that computed: native, separated, cpp, triton or reference; nothing where it was refused.
        refused: why the library does not compute the case, with an error of its own.
        numbers, undecided: how many numbers were compared, and how many of them rounding decides.
    """

    backend: str = ""
    refused: str = ""
    failures: tuple[Failure, ...] = ()
    numbers: int = 0
    undecided: int = 0


@functools.lru_cache(maxsize=64)
def formula_of(source: Source) -> anyconv.Formula:
    """The library's formula of a source text."""
    return eval(source.text, {"torch": torch, "F": F, "math": math, "anyconv": anyconv})


def backend_of(case: Case) -> str:
    """The backend that a case will be computed by."""
    p = case.place
    problem = Problem(formula_of(case.source), _geometry(p), p.in_channels, p.out_channels, case.dtype, "cpu")
    if p.kind == "transposed" and case.backend in ("auto", "native"):
        if native.transposed_line(problem) is not None:
            return "native"
        return _of_phases(problem, case)
    plan = choose(problem, case.backend)
    return "separated" if plan.terms is not None else plan.backend


def _settled(case: Case) -> tuple[Case, str]:
    """The case, and its backend; what torch's convolutions cannot compute goes to the reference backend."""
    try:
        return case, backend_of(case)
    except BackendError:
        if case.backend != "native":
            raise
        case = replace(case, backend="reference")
        return case, backend_of(case)


def _of_phases(problem: Problem, case: Case) -> str:
    """The backend of a transposed convolution's phases."""
    g = replace(problem.geometry, stride=(1,) * problem.geometry.dims, mode="skip")
    plan = choose(replace(problem, geometry=g), case.backend)
    return "separated" if plan.terms is not None else plan.backend


def _geometry(p: Place) -> Geometry:
    mode = "skip" if p.kind == "transposed" else p.mode
    return Geometry.of(
        p.dims, p.kernel, stride=p.stride, padding=p.padding, dilation=p.dilation, groups=p.groups, padding_mode=mode
    )


def ours(case: Case, tensors: dict[str, Tensor]) -> Tensor:
    """The library's value."""
    p, formula = case.place, formula_of(case.source)
    given = {name: t for name, t in tensors.items() if name not in ("x", "bias")}
    x, bias = tensors["x"], tensors.get("bias")
    given = {name: given[name] for name in formula.parameters}
    if p.unbatched:
        alone = {o.name for o in case.source.operands if "n" in o.axes or o.scope == "guide"}
        x, given = x[0], {n: t[0] if n in alone else t for n, t in given.items()}
    if p.kind == "pool" and (p.ceil or case.backend in ("auto", "cpp")):
        y = _pooled(case, x, given)
    elif p.kind == "transposed":
        spans = Spans.of(
            p.dims,
            p.kernel,
            stride=p.stride,
            padding=p.padding,
            output_padding=p.more,
            groups=p.groups,
            dilation=p.dilation,
        )
        y = transpose(x, given, bias, formula=formula, spans=spans, out_channels=p.out_channels, backend=case.backend)
    else:
        y = convolve(
            x, given, bias, formula=formula, geometry=_geometry(p), out_channels=p.out_channels, backend=case.backend
        )
    return y[None] if p.unbatched else y


def _pooled(case: Case, x: Tensor, given: dict[str, Tensor]) -> Tensor:
    p = case.place
    kind = (anyconv.Pool1d, anyconv.Pool2d, anyconv.Pool3d)[p.dims - 1]
    layer = kind(
        p.kernel, formula_of(case.source), stride=p.stride, padding=p.padding, dilation=p.dilation, ceil_mode=p.ceil,
        channels=p.in_channels, padding_mode=p.mode, backend=case.backend, dtype=x.dtype,
    )  # fmt: skip
    own = {n: t for n, t in given.items() if n in dict(layer.named_parameters()) | dict(layer.named_buffers())}
    images = {n: t for n, t in given.items() if n not in own}
    return torch.func.functional_call(layer, own, (x,), images)


def run(case: Case) -> Outcome:
    """Compute a case both ways, and compare."""
    torch.set_num_threads(case.threads)
    try:
        case, backend = _settled(case)
        found = _run(case)
    except anyconv.AnyConvError as error:
        if isinstance(error, KeyError):
            raise
        return Outcome(refused=f"{type(error).__name__}: {error}")
    except (KeyboardInterrupt, MemoryError):
        raise
    except Exception as error:
        return Outcome("", failures=(Failure("call", type(error).__name__, str(error)[:300]),))
    try:
        return comparison_of(case).outcome(found, backend)
    except RuntimeError as error:
        if case.second and "derivative for aten::" in str(error):
            return Outcome(refused="torch has no second derivative")
        raise


def _run(case: Case) -> dict[str, Tensor]:
    tensors, grad = tensors_of(case)
    frozen = {o.name for o in case.source.operands if o.frozen}
    tensors = {n: t.detach().requires_grad_(n not in frozen) for n, t in tensors.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*reference backend computes instead.*")
        y = ours(case, tensors)
    if y.shape != grad.shape or y.dtype != grad.dtype:
        return {"y": y.detach()}
    leaves = {n: t for n, t in tensors.items() if n not in frozen}
    return oracle.derivatives(y, leaves, grad, _moves(case, leaves) if case.second else None)


def _moves(case: Case, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(case.seed + 1)
    return {n: torch.randn(t.shape, generator=g, dtype=torch.float64).to(t.dtype) for n, t in leaves.items()}


def comparison_of(case: Case) -> Comparison:
    """The oracle's numbers of a case: the same for every backend, and for each layout that keeps numbers."""
    laid = case.laid if case.layout == "expanded" else ""
    layout = case.layout if case.layout == "expanded" else "contiguous"
    return _comparison(replace(case, backend="", layout=layout, laid=laid, threads=1, origin=()))


@functools.lru_cache(maxsize=4)
def _comparison(case: Case) -> Comparison:
    return Comparison(case)


class Comparison:
    """The oracle's numbers of a case, and how far rounding may move each."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.dtype = getattr(torch, case.dtype)
        self.eps = eps_of(self.dtype)
        tensors, grad = tensors_of(case)
        self.frozen = {o.name for o in case.source.operands if o.frozen}
        self.tensors, self.grad = {n: t.double() for n, t in tensors.items()}, grad.double()
        self.gold = self.evaluate()
        self.moved = {n: torch.zeros_like(t) for n, t in self.gold.items()}
        self.torn = {n: torch.zeros_like(t, dtype=torch.bool) for n, t in self.gold.items()}
        self.runs, self.noted = 0, False

    def evaluate(self, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """The oracle's value and derivatives, computed in a dtype."""
        case = self.case
        tensors = {n: t.to(dtype).detach().requires_grad_(n not in self.frozen) for n, t in self.tensors.items()}
        y = oracle.evaluate(case.source, case.place, tensors)
        leaves = {n: t for n, t in tensors.items() if n not in self.frozen}
        moves = {n: t.to(dtype) for n, t in _moves(case, leaves).items()} if case.second else None
        return oracle.derivatives(y, leaves, self.grad.to(dtype), moves)

    def _lawful(self, name: str) -> bool:
        """Whether there is a right number; derivatives of products and exponentials with infinities have several."""
        found = [r for r in (*self.case.source.reduce, self.case.source.over) if isinstance(r, str)]
        unsettled = any(r.startswith(("prod", "logsumexp", "softmax", "norm")) for r in found)
        infinite = self.case.numbers == "special" or not bool(self.gold["y"].isfinite().all())
        return name == "y" or not (infinite and unsettled)

    def _note(self, other: dict[str, Tensor]) -> None:
        for name, gold in self.gold.items():
            away = (other[name].double() - gold).abs()
            same = (other[name].double() == gold) | (other[name].isnan() & gold.isnan())
            self.torn[name] |= ~same & ~away.isfinite()
            self.moved[name] = torch.maximum(self.moved[name], torch.where(same | ~away.isfinite(), 0.0, away))

    def sharpen(self, runs: int) -> None:
        """Run the user's program once in float32, as it stands; then with its results moved, until it ran so often."""
        if not self.noted and self.dtype != torch.float64:
            self._note(self.evaluate(torch.float32))
        self.noted = True
        for seed in range(self.runs, runs):
            with Rounding(self.eps, self.case.seed * 131 + seed):
                other = self.evaluate()
            self._note(other)
        self.runs = runs

    def bound(self, name: str) -> Tensor:
        """How far each number may be from the oracle's."""
        gold = self.gold[name]
        info = torch.finfo(self.dtype)
        own = FACTOR * self.eps if info.eps == self.eps else info.eps
        return FACTOR * self.moved[name] + own * gold.abs() + 2 * info.smallest_normal * info.eps

    def wrong(self, name: str, got: Tensor) -> Tensor:
        """Which numbers are wrong, as far as is known."""
        gold = self.gold[name]
        rounded = gold.to(self.dtype).double()  # an infinity where the dtype ends
        same = (got == gold) | (got == rounded) | (got.isnan() & gold.isnan())
        if name != "y":  # which of NaN and infinity a derivative is depends on the order of its factors
            same |= ~got.isfinite() & ~gold.isfinite()
        near = gold.isfinite() & ((got - gold).abs() <= self.bound(name))
        largest = torch.finfo(self.dtype).max
        over = (got.abs() == math.inf) & (gold.abs() + self.bound(name) >= largest) & (got.sign() == gold.sign())
        return ~(same | near | over | self.torn[name])

    def outcome(self, found: dict[str, Tensor], backend: str) -> Outcome:
        """The verdict on the library's numbers."""
        failures = []
        for name, got in found.items():
            if got.dtype != self.dtype:
                failures.append(Failure(name, "dtype", f"{got.dtype}, want {self.dtype}"))
            elif got.shape != self.gold[name].shape:
                failures.append(Failure(name, "shape", f"{tuple(got.shape)}, want {tuple(self.gold[name].shape)}"))
        if failures:
            return Outcome(backend, failures=tuple(failures))
        numbers = {n: t.double() for n, t in found.items() if self._lawful(n)}
        for runs in RUNS:
            wrong = [t[self.wrong(n, t)] for n, t in numbers.items()]
            if not any(t.numel() for t in wrong) or (
                self.runs >= RUNS[2] and not any(t.isfinite().any() for t in wrong)
            ):
                break
            self.sharpen(runs)
        undecided = 0
        for name, got in numbers.items():
            wrong = self.wrong(name, got)
            if bool(wrong.any()):
                failures.append(self._failure(name, got, wrong))
            undecided += int(self._vague(name).sum())
        return Outcome(backend, "", tuple(failures), sum(t.numel() for t in numbers.values()), undecided)

    def _vague(self, name: str) -> Tensor:
        gold = self.gold[name]
        largest = gold[gold.isfinite()].abs().max() if gold.isfinite().any() else 0.0
        return self.torn[name] | (FACTOR * self.moved[name] > UNDECIDED * largest)

    def _failure(self, name: str, got: Tensor, wrong: Tensor) -> Failure:
        gold, bound = self.gold[name], self.bound(name)
        ratio = torch.where(wrong, (got - gold).abs() / bound, 0.0)
        ratio = torch.where(ratio.isnan(), math.inf, ratio)
        at = tuple(int(i) for i in torch.unravel_index(ratio.flatten().argmax(), ratio.shape)) if ratio.dim() else ()
        kind = "differs" if bool((got.isfinite() & gold.isfinite())[wrong].any()) else "not finite"
        message = (
            f"{int(wrong.sum())} of {wrong.numel()} wrong, first at {at}: {got[at].item():.9g}, right is {gold[at].item():.9g} "
            f"within {bound[at].item():.2g}"
        )
        return Failure(name, kind, message, float(ratio[at]))
