"""A case computed by the library and by the oracle, and compared: the value, every gradient, and what else is asked for."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from dataclasses import replace

import torch
from torch import Tensor

import anyconv
from anyconv.backends import native
from anyconv.errors import BackendError
from anyconv.functional import convolve
from anyconv.geometry import Geometry
from anyconv.plan import Problem, choose
from anyconv.transposed import Spans, transpose

from . import oracle
from .case import Case, Own, Place
from .formulas import formula_of
from .known import known, multiplies_signs, selects
from .numbers import tensors_of
from .outcome import Failure, Outcome
from .rounding import FACTOR, RUNS, Rounding, eps_of

HALF_RUNS = 2
LARGE = 1e150  # in place of infinity
SETTLED = RUNS[2]  # runs after which more of them forgive flips alone
UNDECIDED = 0.05  # a bound that is this much of the largest number decides nothing


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
    return oracle.derivatives(y, leaves, grad, moves_of(case, leaves) if case.second else None)


def moves_of(case: Case, leaves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The direction along which gradients are differentiated, for each tensor."""
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
        self.eps, self.narrow = eps_of(self.dtype), torch.float32
        tensors, grad = tensors_of(case)
        self.frozen = {o.name for o in case.source.operands if o.frozen}
        self.tensors, self.grad = {n: t.double() for n, t in tensors.items()}, grad.double()
        self.gold = self.evaluate()
        self.moved = {n: torch.zeros_like(t) for n, t in self.gold.items()}
        self.torn = {n: torch.zeros_like(t, dtype=torch.bool) for n, t in self.gold.items()}
        self.skipped: dict[str, Tensor] = {}
        self.runs, self.noted = 0, False

    def evaluate(
        self, dtype: torch.dtype = torch.float64, *, merges: bool = False, plain: bool = False
    ) -> dict[str, Tensor]:
        """The oracle's value and derivatives, computed in a dtype."""
        case = self.case
        tensors = {n: t.to(dtype).detach().requires_grad_(n not in self.frozen) for n, t in self.tensors.items()}
        y = oracle.evaluate(case.source, case.place, tensors, merges=merges, plain=plain)
        leaves = {n: t for n, t in tensors.items() if n not in self.frozen}
        moves = {n: t.to(dtype) for n, t in moves_of(case, leaves).items()} if case.second else None
        return oracle.derivatives(y, leaves, self.grad.to(dtype), moves)

    def _lawful(self, name: str) -> bool:
        """Whether there is a right number; derivatives of products and exponentials with infinities have several."""
        found = [r for r in (*self.case.source.reduce, self.case.source.over) if isinstance(r, str)]
        several = ("prod", "logsumexp", "softmax", "norm", "arg")  # weights of zero, which meet an infinity
        if self.case.numbers == "special gradient":
            several += ("max", "min")
        unsettled = any(r.startswith(several) for r in found)
        infinite = self.case.numbers.startswith("special") or not bool(self.gold["y"].isfinite().all())
        if infinite and any(isinstance(r, Own) and r.counts for r in (*self.case.source.reduce, self.case.source.over)):
            return False  # infinities are subtracted from each other, in one order or another
        return name == "y" or not (infinite and unsettled)

    @property
    def finite(self) -> bool:
        """Whether all that is given is a number."""
        return all(bool(t.isfinite().all()) for t in (*self.tensors.values(), self.grad))

    @functools.cached_property
    def _orders(self) -> bool:
        """Whether the order in which values come decides which of NaN and infinity a result is."""
        found = (*self.case.source.reduce, self.case.source.over)
        return any(isinstance(r, Own) or r == "softmax" for r in found)

    def note(self, other: dict[str, Tensor]) -> None:
        for name, gold in self.gold.items():
            away = (other[name].double() - gold).abs()
            same = (other[name].double() == gold) | (other[name].isnan() & gold.isnan())
            self.torn[name] |= ~same & ~away.isfinite()
            self.moved[name] = torch.maximum(self.moved[name], torch.where(same | ~away.isfinite(), 0.0, away))

    def sharpen(self, runs: int) -> None:
        """Run the user's program once in float32, as it stands; then with its results moved, until it ran so often."""
        if not self.noted and self.dtype != torch.float64:
            self.note(self.evaluate(torch.float32))
        self.noted = True
        for seed in range(self.runs, runs):
            with Rounding(self.eps, self.case.seed * 131 + seed, self.narrow):
                other = self.evaluate(merges=seed % 2 == 1)
            self.note(other)
        self.runs = runs

    def bound(self, name: str) -> Tensor:
        """How far each number may be from the oracle's.

        Autograd adds the parts of a second derivative in the dtype of the tensors, as it does those of torch's own functions.
        """
        if name.startswith("second") and self.dtype.itemsize == 2 and self.dtype != self.narrow:
            return self._halved.bound(name)
        gold = self.gold[name]
        info = torch.finfo(self.dtype)
        own = FACTOR * self.eps if info.eps == self.eps else info.eps
        return FACTOR * self.moved[name] + own * gold.abs() + 2 * info.smallest_normal * info.eps

    def wrong(self, name: str, got: Tensor) -> Tensor:
        """Which numbers are wrong, as far as is known."""
        gold = self.gold[name]
        rounded = gold.to(self.dtype).double()  # an infinity where the dtype ends
        same = (got == gold) | (got == rounded) | (got.isnan() & gold.isnan())
        odd = ~same & ~got.isfinite() & ~gold.isfinite()
        # which of NaN and infinity a derivative is may depend on the order of its factors
        if name == "y" and self._orders:
            same |= odd
        elif bool(odd.any()):
            self.skipped[name] = odd & ~self._decided(name)
            same |= self.skipped[name]
        if name != "y" and self.finite:  # a NaN is an overflow on the way, which another order of factors need not have
            self.skipped[name] = self.skipped.get(name, torch.zeros_like(same)) | (gold.isnan() & ~same)
            same |= self.skipped[name]
        if name != "y" and not self.finite:
            same |= self._unsettled(name, got)
        near = gold.isfinite() & ((got - gold).abs() <= self.bound(name))
        largest = torch.finfo(self.dtype).max
        over = (got.abs() == math.inf) & (gold.abs() + self.bound(name) >= largest) & (got.sign() == gold.sign())
        return ~(same | near | over | self.torn[name])

    def outcome(self, found: dict[str, Tensor], backend: str) -> Outcome:
        """The verdict on the library's numbers."""
        self.skipped.clear()
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
            if not any(bool(self.wrong(n, t).any()) for n, t in numbers.items()):
                break
            if self.runs >= SETTLED and self._settled(numbers, backend):
                break
            self.sharpen(runs)
        undecided = sum(int((self._vague(n) | self.skipped.get(n, self.torn[n])).sum()) for n in numbers)
        return Outcome(backend, "", self._failures(numbers), sum(t.numel() for t in numbers.values()), undecided)

    def _failures(self, numbers: dict[str, Tensor]) -> tuple[Failure, ...]:
        """What is wrong in each tensor: NaN where a number should be, a number where NaN should be, and the rest."""
        found = []
        for name, got in numbers.items():
            gold, wrong = self.gold[name], self.wrong(name, got)
            spoiled, lost = wrong & got.isnan() & gold.isfinite(), wrong & gold.isnan() & got.isfinite()
            parts = {"spoiled": spoiled, "lost": lost, "differs": wrong & ~spoiled & ~lost}
            found += [self._failure(name, kind, got, part) for kind, part in parts.items() if bool(part.any())]
        return tuple(found)

    def _settled(self, numbers: dict[str, Tensor], backend: str) -> bool:
        """Return whether more runs are no use: what is wrong is known, or is no finite number."""
        failures = self._failures(numbers)
        return all(f.kind in ("not finite", "spoiled", "lost") or known(self.case, backend, f) for f in failures)

    def _reach(self, name: str, sites: Tensor) -> Tensor:
        """Which numbers of a derivative some sites see; of a second one, any where there is such a site."""
        if name.startswith("second") or not bool(sites.any()):
            return torch.full_like(self.gold[name], bool(sites.any()), dtype=torch.bool)
        return oracle.reached(self.case.source, self.case.place, self.tensors, sites)[name.removeprefix("gradient of ")]

    @functools.cached_property
    def _unselected(self) -> dict[str, Tensor]:
        """The numbers where both branches of a ``where`` are evaluated, as torch itself does."""
        try:
            return self.evaluate(plain=True)
        except RuntimeError:  # torch has no derivative of a floored quotient
            return {}

    def _explained_by_branches(self, name: str, wrong: Tensor) -> bool:
        """Whether torch's own gradient is no number either; of a second derivative, whether any is none."""
        if name.startswith("second"):
            return any(not bool(t.isfinite().all()) for t in self._unselected.values())
        return name in self._unselected and not bool((wrong & self._unselected[name].isfinite()).any())

    @functools.cached_property
    def _masked(self) -> Tensor:
        return oracle.masked(self.case.source, self.case.place, self.tensors)

    @functools.cached_property
    def _halved(self) -> Comparison:
        """The comparison in which every result is rounded to the case's dtype."""
        other = Comparison(self.case)
        other.eps, other.narrow = torch.finfo(self.dtype).eps, self.dtype
        other.sharpen(HALF_RUNS)
        with contextlib.suppress(RuntimeError):  # not every function of torch takes halves
            other.note(other.evaluate(self.dtype))
        return other

    def _explained_in_half(self, name: str, got: Tensor, wrong: Tensor) -> bool:
        if self.dtype.itemsize > 2:
            return False
        return not bool((self._halved.wrong(name, got) & wrong).any())

    @functools.cached_property
    def _large(self) -> dict[str, Tensor]:
        """The numbers where infinities among the inputs are as large as finite numbers can be."""
        finite = lambda t: torch.where(t.isinf(), t.sign() * LARGE, t)
        other = Comparison.__new__(Comparison)
        vars(other).update(vars(self), tensors={n: finite(t) for n, t in self.tensors.items()}, grad=finite(self.grad))
        return other.evaluate()

    def _decided(self, name: str) -> Tensor:
        """Which numbers that are not finite are of one kind, whatever the order of factors.

        An infinity times zero is NaN, but a large number times zero is zero.
        """
        gold, other = self.gold[name], self._large[name]
        return (gold.isnan() & other.isnan()) | (
            gold.isinf() & (other.sign() == gold.sign()) & (other.abs() > LARGE**0.5)
        )

    def _unsettled(self, name: str, got: Tensor) -> Tensor:
        """Which numbers are a zero times an infinity or a NaN, which may be NaN, or a number where a branch is not taken."""
        gold = self.gold[name]
        chosen = got.isnan() & self._reach(name, self.gold["y"].isnan())
        if selects(self.case) and not multiplies_signs(self.case):
            chosen |= gold.isnan() & got.isfinite() & ~self._decided(name)
        self.skipped[name] = self.skipped.get(name, torch.zeros_like(chosen)) | chosen
        return chosen

    def _vague(self, name: str) -> Tensor:
        gold = self.gold[name]
        largest = gold[gold.isfinite()].abs().max() if gold.isfinite().any() else 0.0
        return self.torn[name] | (FACTOR * self.moved[name] > UNDECIDED * largest)

    def _failure(self, name: str, kind: str, got: Tensor, wrong: Tensor) -> Failure:
        gold, bound = self.gold[name], self.bound(name)
        ratio = torch.where(wrong, (got - gold).abs() / bound, 0.0)
        ratio = torch.where(wrong & ratio.isnan(), math.inf, ratio)
        at = tuple(int(i) for i in torch.unravel_index(ratio.flatten().argmax(), ratio.shape)) if ratio.dim() else ()
        if kind == "differs" and not bool((got.isfinite() & gold.isfinite())[wrong].any()):
            kind = "not finite"
        last = tuple(wrong.nonzero()[:, -1].unique().tolist()) if wrong.dim() else ()
        sees = self._masked if name == "y" else self._reach(name, self._masked)
        message = (
            f"{int(wrong.sum())} of {wrong.numel()} wrong, first at {at}: {got[at].item():.9g}, right is {gold[at].item():.9g} "
            f"within {bound[at].item():.2g}"
        )
        in_half = self._explained_in_half(name, got, wrong)
        return Failure(
            name, kind, message, float(ratio[at]), in_half=in_half, masked=not bool((wrong & ~sees).any()), last=last,
            unselected=self._explained_by_branches(name, wrong),
        )  # fmt: skip
