"""The day as a table and as a picture."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from .day import Row

GOALS = """Goals on an H100: all tests green, `-|x-w|` at 0.70 of its limit, 3 times forward and 5 times a step over the
compiled tap loop as geometric means with no cell under 1, memory of a step at most 1.25 times `nn.Conv2d`, at most 25
microseconds for an eager call."""


def table(found: dict[str, Any]) -> str:
    """Return what was found, as Markdown."""
    steps = found["steps"]
    lines = [f"# {found['machine']}, {found['date']}", "", GOALS, "", "| step | seconds | ended |", "|---|---|---|"]
    lines += [f"| {name} | {step['seconds']} | {step['ended']} |" for name, step in steps.items()]
    rows = {name: step["rows"] for name, step in steps.items()}
    for name in ("tests", "recipes", "memory", "limit", "overhead", "cold start"):
        if rows.get(name):
            lines += ["", f"## {name}", "", *(f"- {_line(row)}" for row in rows[name])]
    if rows.get("ours"):
        lines += ["", "## Milliseconds, forward and step", "", *_times(rows["ours"])]
    if rows.get("rival"):
        lines += ["", "## Times as long as ours: the compiled tap loop, forward and step", "", *_rivals(rows)]
    return "\n".join(lines)


def _line(row: Row) -> str:
    parts = (f"{key} {_number(value)}" for key, value in row.items())
    return ", ".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _number(value: Any) -> str:
    if isinstance(value, dict):
        return "(" + _line(value) + ")"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _times(rows: list[Row]) -> list[str]:
    """A line for each formula and dtype, a column for each layer."""
    layers = list(dict.fromkeys(row["layer"] for row in rows if "layer" in row))
    lines = ["| formula | dtype | " + " | ".join(layers) + " |", "|---" * (2 + len(layers)) + "|"]
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        if "layer" not in row:
            lines.append(f"| {_cell(row['formula'])} | {row['of']} | {_cell(row['failed'])} |")
            continue
        text = f"{row['forward']:.3f}, {row['step']:.3f}" if "step" in row else f"wrong by {row['error']:.3g}"
        cells.setdefault((row["formula"], row["dtype"]), {})[row["layer"]] = text
    for (formula, dtype), of_layer in cells.items():
        lines.append(
            f"| {_cell(formula)} | {dtype} | " + " | ".join(of_layer.get(layer, "") for layer in layers) + " |"
        )
    return lines


def ratios(rows: dict[str, list[Row]]) -> dict[tuple[str, str], tuple[float, float]]:
    """Return how many times as long as ours the compiled loop takes, where both were timed, by formula and layer."""
    mine = {(r["formula"], r["layer"]): r for r in rows.get("ours", []) if r.get("dtype") == "float32" and "step" in r}
    theirs = {(r["formula"], r["layer"]): r for r in rows.get("rival", []) if "step" in r}
    both = [key for key in theirs if key in mine]
    return {
        key: (theirs[key]["forward"] / mine[key]["forward"], theirs[key]["step"] / mine[key]["step"]) for key in both
    }


def _rivals(rows: dict[str, list[Row]]) -> list[str]:
    found = ratios(rows)
    lines = [f"- {formula}, {layer}: {a:.2f}, {b:.2f}" for (formula, layer), (a, b) in found.items()]
    lines += [f"- {row['formula']}, {row['of']}: {row['failed']}" for row in rows["rival"] if "failed" in row]
    if found:
        means = [statistics.geometric_mean(pair[i] for pair in found.values()) for i in (0, 1)]
        lines.append(f"- geometric mean: {means[0]:.2f}, {means[1]:.2f}")
    return lines


def picture(found: dict[str, Any], path: Path) -> None:
    """Draw the times of each formula beside those of an ordinary convolution of the same shape and dtype."""
    rows = [row for row in found["steps"].get("ours", {}).get("rows", []) if "step" in row]
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    if not rows:
        return
    figure, grid = plt.subplots(2, len(layers), figsize=(3.4 * len(layers) + 1.5, 7.5), squeeze=False, sharey=True)
    formulas = list(dict.fromkeys(row["formula"] for row in rows if row["formula"] != "nn.Conv2d"))
    dtypes = list(dict.fromkeys(row["dtype"] for row in rows if row["formula"] != "nn.Conv2d"))
    times = {(row["formula"], row["layer"], row["dtype"]): row for row in rows}
    for axes, pass_ in zip(grid, ("forward", "step"), strict=True):
        for axis, layer in zip(axes, layers, strict=True):
            for dtype, marker in zip(dtypes, "os^", strict=False):
                usual = times.get(("nn.Conv2d", layer, dtype))  # the step may have been stopped before it
                points = [
                    (times[f, layer, dtype][pass_] / usual[pass_], i)
                    for i, f in enumerate(formulas) if usual and (f, layer, dtype) in times
                ]  # fmt: skip
                axis.plot([x for x, _ in points], [y for _, y in points], marker, markersize=5, label=dtype)
            axis.axvline(1, color="black", linewidth=0.8)
            axis.set(xscale="log", title=f"{layer}, {'training step' if pass_ == 'step' else pass_}")
            axis.set_xlabel("time, in times of cuDNN's nn.Conv2d (same dtype, no TF32)", fontsize=7)
            axis.set_yticks(range(len(formulas)), formulas, fontsize=8)
            axis.grid(axis="x", alpha=0.3)
    grid[0, 0].invert_yaxis()
    grid[0, -1].legend(fontsize=8)
    figure.suptitle(f"{found['machine']}, {found['date']}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
