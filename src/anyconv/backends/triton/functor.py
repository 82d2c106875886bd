"""The functor block of a kernel: what `skeletons/functor.py` is for x * w, for any formula."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from ...expr import Expr, evaluate
from ...expr.evaluate import PLAIN
from ...expr.expr import apply
from ...mathematics import Mathematics
from ..functor import INNER, OUTER, USER, ZERO, Functor
from ..layout import Layout
from ..spell import Speller, names
from .readers import LOOPS, contexts, function, give, readers, samples
from .spell import dialect, literal

AXES = (("g", 1), ("o", 2), ("c", 3), ("t", 4))  # where the strides of a view are


class Block:
    """Writes the functions of a functor."""

    def __init__(self, functor: Functor, m: Mathematics, dtype: str, *, saves: bool) -> None:
        f = self._functor = functor
        self._parts = f.parts if saves else f.parts[: f.result_parts]
        self._m, self._layout, self._real = m, Layout.of(m), "float64" if dtype == "float64" else "float32"
        self._dialect = dialect(self._real)
        states, outputs = [f"state_{p}" for p in f.parts], [f"c{i}" for i in range(len(f.contexts))]
        self._seen = (*self._layout.inputs, *self._layout.operands)
        own = names([v.name for v in self._seen], self._dialect, taken=[*states, *outputs])
        self._own = list(own.values())
        self._known = {USER + name: spelled for name, spelled in own.items()}
        self._of_channel = {INNER + part: f"inner_{part}" for part in f.inner}
        self._after = {OUTER + v.name: f"after{i}" for i, v in enumerate(self._layout.outer)}

    def constants(self) -> str:
        """What the skeletons know of the formula beside its functions."""
        f = self._functor
        constants = {
            "R": (f"tl.{self._real}", "in what numbers are computed"),
            "WHOLE": (self._m.field is not None, "whether the map sees all taps at once"),
            "INNER": (bool(f.inner), "whether channels are reduced one by one"),
            "COUNTS": (f.counts, "whether the number of values in a field is needed"),
        }
        lines = [f"{name}: tl.constexpr = tl.constexpr({value})  # {why}" for name, (value, why) in constants.items()]
        return "\n".join(lines)

    def functions(self, kernel: str) -> list[str]:
        """The functions that a skeleton may call."""
        f = self._functor
        own = [
            *self._states("", self._parts, f.identity[: len(self._parts)]), self._fold(), self._result(), self._save(),
            self._saved(),
            self._after_all(), self._context(), self._gradient(),
            *(self._inner() if f.inner else self._no_inner()),
        ]  # fmt: skip
        tiled = kernel in LOOPS
        more = readers(self._m, *LOOPS[kernel]) if tiled else [self._see()]
        if tiled or kernel in ("tiled_weights", "contexts"):
            more += [*contexts(len(f.contexts)), *self._weights()]
        if kernel == "limit":
            more += [*samples(self._m, len(f.contexts)), *self._weights()]
        return [*more, *own]

    def _speller(self, *known: dict[str, str]) -> Speller:
        return Speller(dict(itertools.chain.from_iterable(k.items() for k in known)), self._dialect)

    @property
    def _state(self) -> dict[str, str]:
        return {f"state_{p}": f"state_{p}" for p in self._parts}

    def _see(self) -> str:
        lines, kernel = [], self._m.field
        for i, (v, name) in enumerate(zip(self._seen, self._own, strict=True)):
            pixels = "seen"
            if v.slides and v.tap is not None and kernel is not None:
                tap = list(itertools.product(*map(range, (*(1,) * (3 - len(kernel)), *kernel))))[v.tap]
                lines.append(f"seen{i} = pixel_of(place[5], {tap}, axes)")
                pixels = f"seen{i}"
            flags = f"{v.slides}, {'s' in v.axes}, {'o' in v.axes}"
            lines.append(f"{name} = look(tensors[{i}], strides[{i}], place, {pixels}, {flags}, FILL, R)")
        return function("see(tensors, strides, place, seen, axes, FILL: tl.constexpr)", [*lines, _return(self._own)])

    def _states(self, prefix: str, parts: tuple[str, ...], identity: tuple[Expr, ...]) -> list[str]:
        values = [evaluate(one, {}, PLAIN) for one in identity]
        full = [f"tl.full(SHAPE, {literal(float(value))}, R)" for value in values]
        kept = [f"tl.where(mask, new[{i}], old[{i}])" for i in range(len(parts))]
        return [
            function(f"{prefix}identity(SHAPE: tl.constexpr)", [_return(full)]),
            function(f"{prefix}kept(mask, new, old)", [_return(kept)]),
        ]

    def _fold(self) -> str:
        f = self._functor
        reads = _reads(self._of_channel.values(), "seen") if f.inner else _reads(self._own, "seen")
        return self._step(
            "fold(state, seen)", "state", self._state, reads, dict(zip(self._parts, f.step, strict=False))
        )

    def _step(self, signature: str, of: str, state: dict[str, str], reads: list[str], steps: dict[str, Expr]) -> str:
        speller = self._speller(self._known, self._of_channel, state)
        update = speller.update({f"{of}_{part}": step for part, step in steps.items()})
        full = [_full(f"{of}_{part}", f"{of}[{i}]", step) for i, (part, step) in enumerate(steps.items())]
        return function(signature, [*_reads(state.values(), of), *reads, *update, _return(full)])

    def _result(self) -> str:
        f = self._functor
        parts = {f"state_{p}": f"state_{p}" for p in f.parts[: f.result_parts]}
        speller = self._speller(parts, self._after, {"count": "count"})
        lines = [*_reads(parts.values(), "state"), *_reads(self._after.values(), "outer")]
        return function("result(state, count, outer)", [*lines, *speller.give(f.result)])

    def _save(self) -> str:
        f = self._functor
        places = [self._parts.index(p) for p in f.saved if p in self._parts]
        lines = [f"tl.store(pointer + {i} * pitch, state[{q}], mask=mask)" for i, q in enumerate(places)]
        return function("save(pointer, pitch, mask, state)", lines or ["pass"])

    def _saved(self) -> str:
        loads = [f"tl.load(pointer + {i} * pitch, mask=mask, other=1.0)" for i in range(len(self._functor.saved))]
        return function("saved(pointer, pitch, mask)", [_return(loads or ["0.0"])])

    def _after_all(self) -> str:
        looks = [
            f"look(tensors[{i}], strides[{i}], place, (0, 0), False, {'s' in v.axes}, {'o' in v.axes}, 0.0, R)"
            for i, v in enumerate(self._layout.outer)
        ]
        return function("after(tensors, strides, place)", [_return(looks or ["0.0"])])

    def _context(self) -> str:
        f = self._functor
        parts = {f"state_{p}": f"state_{p}" for p in f.saved}
        known = ({name: name for name in ("g", "count")}, parts, self._after, self._of_channel)
        made = self._speller(*known).assign({f"c{i}": expr for i, expr in enumerate(f.contexts)})
        lines = [
            *_reads(parts.values(), "state"), *_reads(self._after.values(), "outer"),
            *_reads(self._of_channel.values(), "inner"),
        ]  # fmt: skip
        given = _return([f"c{i}" for i in range(len(f.contexts))] or ["0.0"])
        return function("context(g, state, count, outer, inner)", [*lines, *made, given])

    def _gradient(self) -> str:
        contexts = [f"c{i}" for i in range(len(self._functor.contexts))]
        lines = [*_reads(contexts, "context"), *_reads(self._own, "seen")]
        for i, v in enumerate(self._seen):
            speller = self._speller(self._known, {name: name for name in contexts})
            added = speller.add({"total": turned(self._functor.gradients[v.name])})
            if added:
                lines += [f"if TARGET == {i}:", *(f"    {line}" for line in added)]
        return function("gradient_of(context, seen, total, TARGET: tl.constexpr)", [*lines, "return total"])

    def _weights(self) -> list[str]:
        """Of a tile whose sums are those of the operands."""
        operands = self._layout.operands
        own = self._own[len(self._layout.inputs) :]
        contexts = [f"c{i}" for i in range(len(self._functor.contexts))]
        learned = [i for i, v in enumerate(operands) if not v.frozen]
        loads = [
            f"tl.load(operands[{i}] + "
            + " + ".join(f"{axis} * strides[{i}][{at}]" for axis, at in AXES if axis in f"g{v.axes}".replace("k", "t"))
            + ").to(R)"
            for i, v in enumerate(operands)
        ]
        speller = self._speller(self._known, {name: name for name in contexts})
        added = speller.add({f"d{i}": turned(self._functor.gradients[operands[i].name]) for i in learned})
        guards = [f"    d{i} = tl.where(mask, d{i}, totals[{j}])" for j, i in enumerate(learned)]
        puts = [
            f"put(outs[{j}], strides[{j}], totals[{j}], part, t, g, o, c, o_block, c_block, filters, channels, "
            f"{'o' in operands[i].axes}, {'c' in operands[i].axes})"
            for j, i in enumerate(learned)
        ]  # fmt: skip
        lines = [
            *_reads(contexts, "context"), f"{self._own[0]} = pixel", *_reads(own, "weights"),
            *_reads([f"d{i}" for i in learned], "totals"), *added, "if GUARD:", *(guards or ["    pass"]),
            _return([f"d{i}" for i in learned]),
        ]  # fmt: skip
        return [
            function("weights_at(operands, strides, g, o, c, t)", [_return(loads)]),
            function("zeros(SHAPE: tl.constexpr)", [_return(["tl.full(SHAPE, 0.0, R)" for _ in learned])]),
            function("weight_gradients(context, pixel, weights, totals, mask, GUARD: tl.constexpr)", lines),
            function(
                "put_all(outs, strides, totals, part, t, g, o, c, o_block, c_block, filters, channels)",
                puts or ["pass"],
            ),
        ]

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
            function("inner_identity(SHAPE: tl.constexpr)", ["return (0.0,)"]),
            function("inner_kept(mask, new, old)", ["return new"]),
            function("inner_fold(inner, seen)", ["return inner"]),
        ]


def turned(expr: Expr) -> Expr:
    """``expr`` with each product by a sign as a choice: a sum with it is one instruction, which a condition holds back.

    >>> print(turned(apply("sign_times", parse("x"), var("g"))))
    where(abs(x) > 0, turned(x, g), 0)
    """
    done: dict[Expr, Expr] = {}
    for node in expr.nodes():
        args = [done[arg] for arg in node.args]
        new = apply(node.op, *args) if node.args else node
        if node.op == "sign_times":
            new = apply("where", apply("gt", apply("abs", args[0]), ZERO), apply("turned", *args), ZERO)
        elif node.op == "neg" and node.args[0].op == "sign_times":
            condition, product, _ = args[0].args
            new = apply("where", condition, apply("neg", product), ZERO)
        done[node] = new
    return done[expr]


def _full(name: str, old: str, step: Expr) -> str:
    """A new part of a state in the shape of the old one, which it has where it is made of any part."""
    if step.op == "const":
        return f"tl.full({old}.shape, {literal(float(step.value))}, R)"  # type: ignore[arg-type]
    return (
        name if any(n.startswith(("state_", INNER)) for n in step.names()) else f"tl.broadcast_to({name}, {old}.shape)"
    )


def _reads(spelled: Iterable[str], source: str) -> list[str]:
    return [f"{name} = {source}[{i}]" for i, name in enumerate(spelled)]


def _return(values: Iterable[str]) -> str:
    return f"return {give(list(values))}"
