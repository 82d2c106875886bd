"""The main job on real input: ``python -m examples.demo`` filters photographs, then learns handwritten digits."""

from __future__ import annotations

from pathlib import Path

import torch
from tqdm import tqdm

from . import digits, photographs
from .formulas import LEARNED

OUTPUT = Path("output") / "demo"


def main() -> None:
    """Draw two pictures, and end with the table of accuracies and where the pictures lie."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    photographs.draw(OUTPUT / "photographs.png")
    runs = learn()
    digits.draw(runs, OUTPUT / "digits.png")
    print(table(runs))
    print(f"\nphotographs, filtered     {OUTPUT / 'photographs.png'}")
    print(f"learning curves, filters  {OUTPUT / 'digits.png'}")


def learn(epochs: int = digits.EPOCHS) -> dict[str, digits.Run]:
    """One training per front layer, under one progress bar."""
    data, fronts = digits.load(), digits.fronts()
    runs = {}
    with tqdm(total=len(fronts) * digits.steps(data, epochs), unit="step") as progress:
        for title, make in fronts.items():
            progress.set_description(f"digits, {title}")
            runs[title] = digits.train(make, data, epochs, progress.update)
    return runs


def table(runs: dict[str, digits.Run]) -> str:
    """A row per front layer."""
    lines = [f"\n{'front layer':<22}{'formula':<40}{'held-out digits':>16}{'last loss':>12}"]
    for title, run in runs.items():
        formula = str(LEARNED[title]) if title in LEARNED else "(yardstick)"
        loss = torch.tensor(run.losses[-20:]).mean()
        lines.append(f"{title:<22}{formula:<40}{run.accuracy:>16.1%}{loss:>12.4f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
