"""The functor block of a kernel: what `skeletons/functor.py` is for x * w, for any formula."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from ...expr import Expr, evaluate
from ...expr.evaluate import PLAIN
from ...mathematics import Mathematics
from ...variables import Variable
from ..functor import INNER, OUTER, USER, Functor
from ..layout import Layout
from ..spell import Speller, names
from .spell import dialect, literal

REAL = {"float64": "float64"}  # in what numbers are computed; float32 where nothing is said


class Block:
    """Writes the functions of a functor."""

    def __init__(self, functor: Functor, m: Mathematics, dtype: str) -> None:
        f = self._functor = functor
        self._m, self._layout, self._real = m, Layout.of(m), REAL.get(dtype, "float32")
        self._dialect = dialect(self._real)
        states, contexts = [f"state_{p}" for p in f.parts], [f"c{i}" for i in range(len(f.contexts))]
        self.seen = (*self._layout.inputs, *self._layout.operands)
        own = names([v.name for v in self.seen], self._dialect, taken=[*states, *contexts])
        self._own = list(own.values())
        self._known = {USER + name: spelled for name, spelled in own.items()}
        self._of_channel = {INNER + part: f"inner_{part}" for part in f.inner}
        self._after = {OUTER + v.name: f"after{i}" for i, v in enumerate(self._layout.outer)}

    def text(self) -> str:
        """The constants and functions."""
        f = self._functor
        constants = {
            "R": (f"tl.{self._real}", "in what numbers are computed"),
            "WHOLE": (self._m.field is not None, "whether the map sees all taps at once"),
            "INNER": (bool(f.inner), "whether channels are reduced one by one"),
            "COUNTS": (f.counts, "whether the number of values in a field is needed"),
        }
        lines = [f"{name}: tl.constexpr = tl.constexpr({value})  # {why}" for name, (value, why) in constants.items()]
        functions = [
            self._see(), *self._states("", f.parts, f.identity), self._fold(), self._result(), self._save(),
            self._saved(), self._after_all(), self._context(), self._gradient(),
            *(self._inner() if f.inner else self._no_inner()),
        ]  # fmt: skip
        return "\n".join(lines) + "\n" + "".join("\n\n" + function + "\n" for function in functions)

    def _speller(self, *known: dict[str, str]) -> Speller:
        return Speller(dict(itertools.chain.from_iterable(k.items() for k in known)), self._dialect)

    @property
    def _state(self) -> dict[str, str]:
        return {f"state_{p}": f"state_{p}" for p in self._functor.parts}

    def _see(self) -> str:
        lines, kernel = [], self._m.field
        for i, (v, name) in enumerate(zip(self.seen, self._own, strict=True)):
            pixels = "seen"
            if v.slides and v.tap is not None and kernel is not None:
                tap = list(itertools.product(*map(range, (*(1,) * (3 - len(kernel)), *kernel))))[v.tap]
                lines.append(f"seen{i} = pixel_of(place[5], {tap}, axes)")
                pixels = f"seen{i}"
            flags = f"{v.slides}, {'s' in v.axes}, {'o' in v.axes}"
            lines.append(f"{name} = look(tensors[{i}], strides[{i}], place, {pixels}, {flags}, FILL, R)")
        return _function("see(tensors, strides, place, seen, axes, FILL: tl.constexpr)", [*lines, _give(self._own)])

    def _states(self, prefix: str, parts: tuple[str, ...], identity: tuple[Expr, ...]) -> list[str]:
        values = [evaluate(one, {}, PLAIN) for one in identity]
        full = [f"tl.full((SITES, FILTERS), {literal(float(value))}, R)" for value in values]
        kept = [f"tl.where(mask, new[{i}], old[{i}])" for i in range(len(parts))]
        return [
            _function(f"{prefix}identity(SITES: tl.constexpr, FILTERS: tl.constexpr)", [_give(full)]),
            _function(f"{prefix}kept(mask, new, old)", [_give(kept)]),
        ]

    def _fold(self) -> str:
        f = self._functor
        reads = _reads(self._of_channel.values(), "seen") if f.inner else _reads(self._own, "seen")
        return self._step("fold(state, seen)", "state", self._state, reads, dict(zip(f.parts, f.step, strict=True)))

    def _step(self, signature: str, of: str, state: dict[str, str], reads: list[str], steps: dict[str, Expr]) -> str:
        speller = self._speller(self._known, self._of_channel, state)
        update = speller.update({f"{of}_{part}": step for part, step in steps.items()})
        full = [_full(f"{of}_{part}", f"{of}[{i}]", step) for i, (part, step) in enumerate(steps.items())]
        return _function(signature, [*_reads(state.values(), of), *reads, *update, _give(full)])

    def _result(self) -> str:
        f = self._functor
        parts = {f"state_{p}": f"state_{p}" for p in f.parts[: f.result_parts]}
        speller = self._speller(parts, self._after, {"count": "count"})
        lines = [*_reads(parts.values(), "state"), *_reads(self._after.values(), "outer")]
        return _function("result(state, count, outer)", [*lines, *speller.give(f.result)])

    def _save(self) -> str:
        f = self._functor
        places = [f.parts.index(p) for p in f.saved]
        lines = [f"tl.store(pointer + {i} * pitch, state[{q}], mask=mask)" for i, q in enumerate(places)]
        return _function("save(pointer, pitch, mask, state)", lines or ["pass"])

    def _saved(self) -> str:
        loads = [f"tl.load(pointer + {i} * pitch, mask=mask, other=1.0)" for i in range(len(self._functor.saved))]
        return _function("saved(pointer, pitch, mask)", [_give(loads or ["0.0"])])

    def _after_all(self) -> str:
        looks = [
            f"look(tensors[{i}], strides[{i}], place, (0, 0), False, {'s' in v.axes}, {'o' in v.axes}, 0.0, R)"
            for i, v in enumerate(self._layout.outer)
        ]
        return _function("after(tensors, strides, place)", [_give(looks or ["0.0"])])

    def _context(self) -> str:
        f = self._functor
        parts = {f"state_{p}": f"state_{p}" for p in f.saved}
        known = ({name: name for name in ("g", "count")}, parts, self._after, self._of_channel)
        made = self._speller(*known).assign({f"c{i}": expr for i, expr in enumerate(f.contexts)})
        lines = [
            *_reads(parts.values(), "state"), *_reads(self._after.values(), "outer"),
            *_reads(self._of_channel.values(), "inner"),
        ]  # fmt: skip
        given = _give([f"c{i}" for i in range(len(f.contexts))] or ["0.0"])
        return _function("context(g, state, count, outer, inner)", [*lines, *made, given])

    def _gradient(self) -> str:
        contexts = [f"c{i}" for i in range(len(self._functor.contexts))]
        lines = [*_reads(contexts, "context"), *_reads(self._own, "seen")]
        for i, v in enumerate(self.seen):
            speller = self._speller(self._known, {name: name for name in contexts})
            added = speller.add({"total": self._functor.gradients[v.name]})
            if added:
                lines += [f"if TARGET == {i}:", *(f"    {line}" for line in added)]
        return _function("gradient_of(context, seen, total, TARGET: tl.constexpr)", [*lines, "return total"])

    def _inner(self) -> list[str]:
        f = self._functor
        steps = dict(zip(f.inner, f.inner_step, strict=True))
        reads, state = _reads(self._own, "seen"), self._of_channel
        return [
            *self._states("inner_", f.inner, f.inner_identity),
            self._step("inner_fold(inner, seen)", "inner", state, reads, steps),
        ]

    def _no_inner(self) -> list[str]:
        """Never called, but named by the skeletons."""
        return [
            _function("inner_identity(SITES: tl.constexpr, FILTERS: tl.constexpr)", ["return (0.0,)"]),
            _function("inner_kept(mask, new, old)", ["return new"]),
            _function("inner_fold(inner, seen)", ["return inner"]),
        ]


def _full(name: str, old: str, step: Expr) -> str:
    """A new part of a state in the shape of the old one, which it has where it is made of any part."""
    if step.op == "const":
        return f"tl.full({old}.shape, {literal(float(step.value))}, R)"  # type: ignore[arg-type]
    return (
        name if any(n.startswith(("state_", INNER)) for n in step.names()) else f"tl.broadcast_to({name}, {old}.shape)"
    )


def _reads(spelled: Iterable[str], source: str) -> list[str]:
    return [f"{name} = {source}[{i}]" for i, name in enumerate(spelled)]


def _give(values: Iterable[str]) -> str:
    return f"return ({', '.join(values)},)"


def _function(signature: str, lines: list[str]) -> str:
    return "\n".join(["@triton.jit", f"def {signature}:", *(f"    {line}" for line in lines)])


def variables(m: Mathematics) -> tuple[Variable, ...]:
    """What a kernel sees, in the order of its tensors."""
    layout = Layout.of(m)
    return (*layout.inputs, *layout.operands)
