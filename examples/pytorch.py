"""The page docs/pytorch.md, what of PyTorch works with our layers in which version: ``python -m examples.pytorch``.

Each cell is decided by tests that compare values; ``pytest --record-cells`` writes what they found to docs/pytorch/,
under the version of torch that ran them. A cell *refuses* where a test shows that it ends in an error that says why.
"""

from __future__ import annotations

import json
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs"
HEAD = """# What of PyTorch works with layers of AnyConv

Made by `python -m examples.pytorch` of what `pytest --record-cells` found, once for each version of torch; every cell
is one or more tests that compare *values*. *refuses*: a clear error, and a test that shows it.
"""


def records() -> dict[str, dict[str, dict[str, str]]]:
    """By the version of torch, the oldest first: for each section, its cells."""
    paths = sorted((FOLDER / "pytorch").glob("*.json"), key=lambda p: [int(n) for n in p.stem.split(".")])
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def page(found: dict[str, dict[str, dict[str, str]]]) -> str:
    """The page in Markdown."""
    sections = dict.fromkeys(section for table in found.values() for section in table)
    lines = [
        HEAD,
        "| | | " + " | ".join(f"torch {version}" for version in found) + " |",
        "|---" * (2 + len(found)) + "|",
    ]
    for section in sections:
        for what in dict.fromkeys(what for table in found.values() for what in table.get(section, {})):
            cells = [table.get(section, {}).get(what, "not there") for table in found.values()]
            lines.append(f"| {section} | {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (FOLDER / "pytorch.md").write_text(page(records()), encoding="utf-8")
