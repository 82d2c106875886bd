"""What was tried: a record per case on disk, and how often each pair of values met."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from . import draw
from .case import Case
from .known import HALVES, KNOWN, known, met
from .outcome import Outcome

AXES = ("scope", "reduction", "mode", "dtype", "layout", "backend")
BACKENDS = ("native", "separated", "cpp", "reference", "triton")
WANTED = 10


def record(case: Case, outcome: Outcome) -> dict[str, Any]:
    """A case's line of the tally."""
    source = case.source
    return {
        "seed": case.origin[0] if case.origin else 0,
        "index": case.origin[1] if case.origin else 0,
        "formula": source.text,
        "scope": sorted({o.kind for o in source.operands}),
        "reduction": source.reduction,
        "mode": str(case.place.mode),
        "dtype": case.dtype,
        "layout": case.layout,
        "backend": outcome.backend,
        "kind": case.place.kind,
        "second": case.second,
        "refused": outcome.refused.splitlines()[0] if outcome.refused else "",
        "numbers": outcome.numbers,
        "undecided": outcome.undecided,
        "met": met(case, outcome.backend),
        "failures": [
            {
                "what": f.what,
                "kind": f.kind,
                "message": f.message,
                "ratio": str(f.ratio),
                "known": known(case, outcome.backend, f),
            }
            for f in outcome.failures
        ],
    }


def is_new(one: dict[str, Any]) -> bool:
    """Return whether a record has a failure that is not known."""
    return any(not failure["known"] for failure in one["failures"])


class Tally:
    """All records, on disk as lines of JSON where a path is given."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.done: set[tuple[int, int]] = set()
        self.formulas: set[str] = set()
        self.built: set[str] = set()
        self.pairs: Counter[tuple[str, str, str, str]] = Counter()
        self.counts: Counter[str] = Counter()
        self.met: Counter[str] = Counter()
        self.clusters: dict[tuple[str, ...], list[dict[str, Any]]] = defaultdict(list)
        self.sizes: Counter[tuple[str, ...]] = Counter()
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                self._count(json.loads(line))

    def add(self, records: Iterable[dict[str, Any]]) -> None:
        """Count records, and append them to the file; those of a block that a limit of time broke off come again."""
        lines = []
        for one in (r for r in records if (r["seed"], r["index"]) not in self.done):
            self._count(one)
            lines.append(json.dumps(one) + "\n")
        if self.path is not None:
            with self.path.open("a") as file:
                file.writelines(lines)

    def _count(self, one: dict[str, Any]) -> None:
        self.done.add((one["seed"], one["index"]))
        self.formulas.add(one["formula"])
        self.counts["numbers"] += one["numbers"]
        self.counts["undecided"] += one["undecided"]
        if one["refused"]:
            self.counts["refused"] += 1
            self.sizes["refused", one["refused"]] += 1
            return
        self.counts["cases"] += 1
        self.counts[f"backend {one['backend']}"] += 1
        self.counts[f"kind {one['kind']}"] += 1
        self.counts["second derivatives"] += one["second"]
        if one["backend"] == "cpp":
            self.built.add(one["formula"])
        values = [(axis, v) for axis in AXES for v in (one[axis] if axis == "scope" else [one[axis]])]
        for (a, v), (b, w) in itertools.combinations(values, 2):
            if a != b:
                self.pairs[a, v, b, w] += 1
        self.met.update(one["met"])
        for failure in sorted(one["failures"], key=lambda f: bool(f["known"]))[:1]:  # a new one, if there is any
            key = cluster(one, failure)
            self.sizes[key] += 1
            if len(self.clusters[key]) < 5:
                self.clusters[key].append(one)

    @property
    def faults(self) -> int:
        """Cases that fail in a way that is not known."""
        return sum(n for key, n in self.sizes.items() if key[0] == "new")

    def least(self, count: int = 12) -> list[tuple[int, str]]:
        """The pairs of values that can meet and met least."""
        found = []
        for (a, many), (b, more) in itertools.combinations(VALUES.items(), 2):
            for v, w in itertools.product(many, more):
                if _can_meet({a: v, b: w}):
                    found.append((self.pairs[a, v, b, w], f"{a} {v or 'per_site'} x {b} {w}"))
        return sorted(found)[:count]

    def lines(self) -> list[str]:
        """The tally as text: what was tried, what failed, and the tables of pairs."""
        c = self.counts
        out = [
            f"{c['cases']} cases, {c['refused']} refused; {len(self.formulas)} formulas, {len(self.built)} of them on cpp; "
            f"{c['second derivatives']} with second derivatives",
            "  ".join(
                f"{name.removeprefix('backend ')}: {n}" for name, n in sorted(c.items()) if name.startswith("backend ")
            ),
            "  ".join(
                f"{name.removeprefix('kind ')}: {n}" for name, n in sorted(c.items()) if name.startswith("kind ")
            ),
            f"{c['numbers']} numbers compared, {c['undecided']} of them decided by rounding alone",
        ]
        for a, b in itertools.combinations(AXES, 2):
            out += ["", *self._table(a, b)]
        few = [line for n, line in self.least(10**6) if n < WANTED]
        out += [
            "",
            f"pairs met fewer than {WANTED} times: {len(few)}",
            *(f"  {n:6} {line}" for n, line in self.least()),
        ]
        for key, size in sorted(self.sizes.items(), key=lambda item: (item[0][0], -item[1])):
            first = "" if key[0] == "refused" else " " + ", ".join(str(one["index"]) for one in self.clusters[key])
            out.append(f"{size:6} {' | '.join(key)}{first}")
        shown = {key[1] for key in self.sizes if key[0] == "known"}
        for fault in KNOWN:
            state = "shows" if fault.name in shown else "NO LONGER SHOWS" if self.met[fault.name] else "was not met"
            out.append(f"known fault {fault.name}: {state} ({fault.says}; met {self.met[fault.name]} times)")
        return out

    def _table(self, a: str, b: str) -> list[str]:
        columns = [(w, max(len(str(w)), 6)) for w in VALUES[b]]
        out = [f"{a + ' x ' + b:28}" + " ".join(f"{w:>{width}}" for w, width in columns)]
        for v in VALUES[a]:
            cells = [
                f"{self.pairs[a, v, b, w]:>{width}}" if _can_meet({a: v, b: w}) else " " * (width - 1) + "-"
                for w, width in columns
            ]
            out.append(f"  {v:26}" + " ".join(cells))
        return out


VALUES: dict[str, tuple[str, ...]] = {
    "scope": draw.SCOPES, "reduction": draw.REDUCTIONS, "mode": tuple(map(str, draw.MODES)), "dtype": draw.DTYPES,
    "layout": tuple(draw.LAYOUTS), "backend": BACKENDS,
}  # fmt: skip


def _can_meet(pair: dict[str, str]) -> bool:
    """Whether two values can meet: torch's own convolution sums and leaves nothing out; halves are not separated."""
    if pair.get("backend") == "separated" and pair.get("dtype") in HALVES:
        return False
    if pair.get("backend") not in ("native", "separated"):
        return True
    scope = pair.get("scope", "shared")
    weights = ("per_tap", "per_filter", "per_channel", "per_pair", "per_offset", "shared")
    slides = (*weights, "guide", "mask", "guide of several", "offsets")
    if scope not in (weights if pair["backend"] == "native" else slides):
        return False
    return pair.get("reduction", "sum") in ("sum", "mean") and not (
        pair["backend"] == "native" and pair.get("mode") == "skip"
    )


def cluster(one: dict[str, Any], failure: dict[str, Any]) -> tuple[str, ...]:
    """What a failure is counted as."""
    if failure["known"]:
        return ("known", failure["known"])
    what = failure["what"].split()[0]
    half = "half" if one["dtype"] in ("float16", "bfloat16") else "full"
    message = failure["message"][:80] if failure["kind"][0].isupper() else ""
    return ("new", one["backend"], what, failure["kind"], half, one["kind"], *([message] if message else []))
