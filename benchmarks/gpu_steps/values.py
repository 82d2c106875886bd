"""The tests that run on a GPU alone."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path

from .day import Day, Go, Write

ROOT = Path(__file__).parents[2]


def tests(day: Day, write: Write, go: Go) -> None:
    """Run the tests that are marked ``gpu``; each that does not pass is a row, and so is their number."""
    go()
    if importlib.util.find_spec("pytest") is None:
        raise SystemExit("pytest is not installed here")
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.xml"
        # versions of torch warn of other things; results of an earlier day are of no use
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-W", "default", "-p", "no:cacheprovider"]
        files = [str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if "mark.gpu" in path.read_text()]
        parallel = importlib.util.find_spec("xdist") is not None and not day.is_dry
        command += [f"--junitxml={found}", *files, *(["-n", "4"] if parallel else [])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if not found.exists():
            raise SystemExit((done.stdout + done.stderr)[-300:])
        cases = list(ET.parse(found).getroot().iter("testcase"))
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in cases:
        wrong = [child for child in case if child.tag in ("failure", "error")]
        kind = "failed" if wrong else "skipped" if case.find("skipped") is not None else "passed"
        counts[kind] += 1
        if wrong:
            write({"test": case.get("name"), "message": (wrong[0].get("message") or "")[:400]})
    write(counts)
    if counts["failed"] or not cases:
        raise SystemExit(f"{counts['failed']} of {len(cases)} tests failed")
