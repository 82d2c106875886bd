"""All that a GPU is needed for, in four minutes: ``python -m benchmarks.gpu_day``; ``--dry-run`` does it without one.

    PYTHONPATH=src python3 -m benchmarks.gpu_day --out results-of-the-day

Nothing is installed and no network is used; pytest, tqdm and matplotlib have to be there. Each step is a process with a
time limit of its own. Its rows are written as they come, and the next step goes on where one fails. Steps that have
much to compile begin with it at once, beside the steps before them, and wait with their timing until it is their turn.

Written are ``gpu_day.json``, a table ``gpu_day.md`` and a picture ``gpu_day.png``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from .gpu_steps import STEPS, Day, Row, Step
from .gpu_steps.report import picture, table

RESULTS = Path(__file__).parent / "results"
SECONDS = 236.0  # of the whole day
DRY = 5  # times as long as a day with a GPU, at most: an interpreter on a busy machine
GRACE = 2.0  # between the ask to stop and the end


@dataclass
class Running:
    """A step's process, and where its rows go."""

    step: Step
    process: subprocess.Popen[str]
    rows: Path
    log: Path

    @classmethod
    def start(cls, step: Step, out: Path, *, dry: bool) -> Running:
        """Start a process that compiles, and then waits for its turn."""
        rows, log = out / f"{step.name}.jsonl", out / f"{step.name}.log"
        rows.write_text("")
        env = os.environ | ({"TRITON_INTERPRET": "1"} if dry else {})
        with log.open("w") as said:
            process = subprocess.Popen(
                command_of(step, out, dry=dry), stdin=subprocess.PIPE, stdout=said, stderr=subprocess.STDOUT,
                text=True, env=env, start_new_session=True,
            )  # fmt: skip
        return cls(step, process, rows, log)

    def finish(self, seconds: float) -> dict[str, Any]:
        """Give the step its turn; return its rows, how long they took, and how it ended."""
        began = time.monotonic()
        ended = "ok"
        with suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.write("go\n")
            self.process.stdin.close()
        try:
            if self.process.wait(seconds) != 0:
                ended = "failed: " + (self.log.read_text().strip().splitlines() or ["no message"])[-1][:300]
        except subprocess.TimeoutExpired:
            ended = f"stopped after {seconds:.0f} s"
        finally:  # an interrupt, too
            self.stop()
        lines = [json.loads(line) for line in self.rows.read_text().splitlines() if line.endswith("}")]
        return {"ended": ended, "seconds": round(time.monotonic() - began, 1), "rows": lines}

    def stop(self) -> None:
        """End the process, and those that it started."""
        with suppress(BrokenPipeError):
            assert self.process.stdin is not None
            self.process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
                return


def command_of(step: Step, out: Path, *, dry: bool) -> list[str]:
    """Return the command that runs a step."""
    command = [sys.executable, "-m", "benchmarks.gpu_day", "--step", step.name, "--out", str(out)]
    return [*command, *(["--dry-run"] if dry else [])]


def run_steps(out: Path, names: list[str], *, dry: bool, seconds: float) -> dict[str, Any]:
    """Run the steps one after the other; what they found is written after each."""
    out.mkdir(parents=True, exist_ok=True)
    steps = [step for step in STEPS if step.name in names]
    patience = DRY if dry else 1
    end = time.monotonic() + patience * seconds
    kept: dict[str, Any] = {"machine": machine(dry=dry), "date": str(date.today()), "dry": dry, "steps": {}}
    running = {step.name: Running.start(step, out, dry=dry) for step in steps if step.ahead}
    try:
        for step in (bar := tqdm(steps, unit="step")):
            bar.set_description(step.name)
            left = end - time.monotonic()
            if left < 1:
                kept["steps"][step.name] = {"ended": "no time was left", "seconds": 0.0, "rows": []}
                continue
            one = running.pop(step.name, None) or Running.start(step, out, dry=dry)
            kept["steps"][step.name] = one.finish(min(left, patience * step.seconds))
            (out / "gpu_day.json").write_text(json.dumps(kept, indent=1) + "\n")
    finally:
        for one in running.values():
            one.stop()
    return kept


def machine(*, dry: bool) -> str:
    """What the day's results were measured on."""
    card = "no GPU, Triton's interpreter" if dry else torch.cuda.get_device_name()
    try:
        triton = version("triton")
    except PackageNotFoundError:
        triton = "none"
    python = ".".join(map(str, sys.version_info[:3]))
    return f"{card}; torch {torch.__version__}, triton {triton}, Python {python}"


def run_one(name: str, out: Path, *, dry: bool) -> None:
    """Run a step in this process, and write each row as it comes."""
    step = next(step for step in STEPS if step.name == name)
    with (out / f"{name}.jsonl").open("a") as file:

        def write(row: Row) -> None:
            file.write(json.dumps(row) + "\n")
            file.flush()

        step.run(Day.dry() if dry else Day(), write, sys.stdin.readline)


def main(argv: list[str] | None = None) -> int:
    """The command; 1 where a step failed or was stopped."""
    parser = argparse.ArgumentParser("python -m benchmarks.gpu_day", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--dry-run", action="store_true", help="tiny shapes in Triton's interpreter: every step, no GPU"
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu_day", help="a folder for all that is written")
    parser.add_argument("--only", action="append", choices=[s.name for s in STEPS], help="a step; may be repeated")
    parser.add_argument("--step", choices=[s.name for s in STEPS], help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.step:
        run_one(options.step, options.out, dry=options.dry_run)
        return 0
    if not options.dry_run and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device; --dry-run needs none")
    names = options.only or [step.name for step in STEPS]
    found = run_steps(options.out, names, dry=options.dry_run, seconds=SECONDS)
    text = table(found)
    (options.out / "gpu_day.md").write_text(text + "\n")
    print(text)
    picture(found, options.out / "gpu_day.png")
    return int(any(step["ended"] != "ok" for step in found["steps"].values()))


if __name__ == "__main__":
    sys.exit(main())
