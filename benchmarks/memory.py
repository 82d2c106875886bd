"""Peak memory of a training step as the number of filters grows: ``python -m benchmarks.memory``.

Each cell is a process of its own. Its peak is the resident set's high-water mark during one forward and backward pass,
less what was resident before, so it counts outputs, gradients and every intermediate. The ways that compute the
same are checked against float64 before anything is measured. The largest cell needs 7 GiB.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from tqdm import tqdm

import anyconv
from anyconv.backends import reference

from .measure import machine, peak_of

FILTERS = (16, 32, 64, 128, 256)
BATCH, CHANNELS, SIZE, KERNEL = 4, 16, 64, 3
MIB = 2**20
OUTPUT = Path("output") / "benchmarks"

Step = Callable[[Tensor, Tensor], Tensor]
ADDER = anyconv.Formula(lambda x, w: -torch.abs(x - w))


def unfold(x: Tensor, w: Tensor) -> Tensor:
    """What people are told to do: every receptive field times every filter, at once."""
    fields = anyconv.receptive_fields(x, KERNEL, padding=1)[:, None]
    return -torch.abs(fields - w[:, :, None, None]).sum((2, 5, 6))


WAYS: dict[str, Step] = {
    "anyconv, reference": lambda x, w: anyconv.conv2d(x, w, ADDER, padding=1, backend="reference"),
    "anyconv, cpp": lambda x, w: anyconv.conv2d(x, w, ADDER, padding=1, backend="cpp"),
    "unfold, eager": unfold,
    "nn.Conv2d (w * x)": lambda x, w: nn.functional.conv2d(x, w, padding=1),
}


def tensors(filters: int, batch: int = BATCH, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """An input and a weight that want gradients."""
    torch.manual_seed(0)
    x = torch.randn(batch, CHANNELS, size, size, requires_grad=True)
    return x, torch.randn(filters, CHANNELS, KERNEL, KERNEL, requires_grad=True)


def check() -> None:
    """Refuse to measure ways that do not compute the same; the float64 sum says what rounding may do."""
    x, w = tensors(8, batch=1, size=9)
    gold = unfold(x.double(), w.double())
    bound = 8 * torch.finfo(torch.float32).eps * CHANNELS * KERNEL**2 * gold.abs().max()
    for way in ("anyconv, reference", "anyconv, cpp", "unfold, eager"):
        error = (WAYS[way](x, w).double() - gold).abs().max()
        if not error <= bound:
            raise SystemExit(f"{way} is wrong by {error}; nothing was measured")


def measure(way: str, filters: int) -> int:
    """Bytes that one training step adds at its peak, in this process."""
    small = tensors(filters, batch=1, size=8)
    WAYS[way](*small).sum().backward()  # type: ignore[no-untyped-call]  # libraries and threads are loaded now
    x, w = tensors(filters)
    return peak_of(lambda: WAYS[way](x, w).sum().backward())  # type: ignore[no-untyped-call]


def main() -> None:
    """Measure every cell, print the table, write JSON and a picture."""
    if not Path("/proc/self/clear_refs").exists():
        raise SystemExit("peak memory is read from /proc, which this system has not")
    check()
    cells = [(way, filters) for way in WAYS for filters in FILTERS]
    peaks: dict[str, dict[int, float]] = {way: {} for way in WAYS}
    for way, filters in tqdm(cells, unit="process"):
        command = [sys.executable, "-m", "benchmarks.memory", way, str(filters)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[way][filters] = int(done.stdout) / MIB
    outputs = {f: BATCH * f * SIZE**2 * 4 / MIB for f in FILTERS}
    report(peaks, outputs)


def report(peaks: dict[str, dict[int, float]], outputs: dict[int, float]) -> None:
    """The table, and what is kept of it."""
    step = f"{BATCH} x {CHANNELS} x {SIZE} x {SIZE}, k={KERNEL}, float32"
    print(f"\nMiB at the peak of a training step, {step} ({machine()})")
    print(f"{'C_out':<24}" + "".join(f"{f:>9}" for f in FILTERS))
    for way, row in [("the output alone", outputs), *peaks.items()]:
        print(f"{way:<24}" + "".join(f"{row[f]:>9.1f}" for f in FILTERS))
    OUTPUT.mkdir(parents=True, exist_ok=True)
    text = json.dumps(
        {"machine": machine(), "output": outputs, "peak": peaks, "budget": reference.BUDGET / MIB}, indent=1
    )
    (OUTPUT / "memory.json").write_text(text + "\n")
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for way, row in peaks.items():
        axis.loglog(list(row), list(row.values()), marker="o", label=way)
    axis.loglog(list(outputs), list(outputs.values()), linestyle=":", label="the output alone")
    axis.set(xlabel="C_out", ylabel="MiB at the peak of a training step", xticks=FILTERS, xticklabels=FILTERS)
    axis.legend()
    figure.savefig(OUTPUT / "memory.png", dpi=110)
    print(f"\n{OUTPUT / 'memory.json'}, {OUTPUT / 'memory.png'}")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(measure(sys.argv[1], int(sys.argv[2])))
    else:
        main()
