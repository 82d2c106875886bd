"""A small residual network on digits, and its twin without multiplications: ``python -m examples.convert``.

The same network is trained twice, once as it is and once after ``anyconv.convert(network, recipe)``; prints what was
converted and how many held-out digits each knows, and draws their losses. ``--recipe`` names another recipe.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

import anyconv
from anyconv import recipes

from .digits import Digits, load

WIDTH, BATCH, EPOCHS, RATE = 16, 64, 20, 0.05
OUTPUT = Path("output") / "convert.png"


class Block(nn.Module):
    """Two convolutions of 3 x 3 beside what passes by them."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, filters, 3, stride=stride, padding=1, bias=False)
        self.second = nn.Conv2d(filters, filters, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(filters), nn.BatchNorm2d(filters)])
        same = stride == 1 and channels == filters
        across = nn.Sequential(nn.Conv2d(channels, filters, 1, stride=stride, bias=False), nn.BatchNorm2d(filters))
        self.beside = nn.Identity() if same else across

    def forward(self, x: Tensor) -> Tensor:
        """``(N, channels, H, W)`` -> ``(N, filters, H / stride, W / stride)``."""
        y = F.relu(self.norms[0](self.first(x)))
        return F.relu(self.norms[1](self.second(y)) + self.beside(x))


def network() -> nn.Sequential:
    """ResNet's plan, made small: a stem, three stages, a mean, a linear layer."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()),
        Block(WIDTH, WIDTH, 1),
        Block(WIDTH, 2 * WIDTH, 2),
        Block(2 * WIDTH, 2 * WIDTH, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(2 * WIDTH, 10),
    )


@dataclass(frozen=True)
class Run:
    """The loss of each step, and the share of held-out digits that are known at the end."""

    losses: list[float]
    accuracy: float


def train(model: nn.Module, digits: Digits, epochs: int, bar: tqdm[None]) -> Run:
    """Stochastic gradient descent with momentum, at a rate that falls along a cosine."""
    optimizer = torch.optim.SGD(model.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    losses = []
    model.train()
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(digits.train)), BATCH):
            loss = F.cross_entropy(model(digits.train[batch] / 0.2), digits.train_labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
            bar.update()
        schedule.step()
    model.eval()
    with torch.no_grad():
        right = model(digits.test / 0.2).argmax(1) == digits.test_labels
    return Run(losses, right.float().mean().item())


def twins(
    recipe: recipes.Recipe, epochs: int, seed: int = 0
) -> tuple[anyconv.tools.convert.Conversion, dict[str, Run]]:
    """Both networks, trained alike; AdderNet's authors leave the first layer as it is, and so does this."""
    torch.manual_seed(seed)
    digits, plain = load(), network()
    conversion = anyconv.convert(plain, recipe, where=lambda name, layer: not name.startswith("0."))
    steps = -(-len(digits.train) // BATCH) * epochs
    runs = {}
    with tqdm(total=2 * steps, unit="step") as bar:
        for title, model in (("nn.Conv2d", plain), (recipe.title, conversion.model)):
            bar.set_description(title)
            torch.manual_seed(seed)
            runs[title] = train(model, digits, epochs, bar)
    return conversion, runs


def draw(runs: dict[str, Run], path: Path) -> None:
    """The losses of both, smoothed."""
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    for title, run in runs.items():
        smooth = torch.tensor(run.losses).unfold(0, 20, 1).mean(1)
        axis.plot(smooth.numpy(), label=f"{title}: {run.accuracy:.1%} of held-out digits")
    axis.set(xlabel="step", ylabel="training loss (mean of 20 steps)", yscale="log")
    axis.legend()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    """Train, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    able = [name for name in recipes.SHELF if "Conv" in getattr(recipes, name).kinds]
    parser.add_argument("--recipe", default="adder", choices=able, metavar="NAME", help=f"of {', '.join(able)}")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    conversion, runs = twins(getattr(recipes, options.recipe), options.epochs, options.seed)
    print(conversion)
    for title, run in runs.items():
        print(f"{title:<30}{run.accuracy:.1%} of held-out digits")
    draw(runs, OUTPUT)
    print(f"losses: {OUTPUT}")


if __name__ == "__main__":
    main()
