"""Handwritten digits, learned by a small network with each formula in front."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import anyconv

from .formulas import LEARNED

CHANNELS, BATCH, EPOCHS = 16, 64, 12


@dataclass(frozen=True)
class Digits:
    """Images ``(N, 1, 8, 8)`` in [-0.2, 0.2], around the 0 that padding adds, and their labels, in two parts."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class Run:
    """One network after training: the loss of each step, the share of held-out digits it knows, its front layer."""

    losses: list[float]
    accuracy: float
    front: nn.Module


def load() -> Digits:
    """The 1797 digits that ship inside scikit-learn, a quarter of them held out."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=0.25, random_state=0, stratify=labels)
    x_train, x_test, y_train, y_test = (torch.as_tensor(part) for part in parts)
    return Digits(_images(x_train), y_train, _images(x_test), y_test)


def _images(flat: Tensor) -> Tensor:
    return (flat.float() / 16 - 0.5).reshape(-1, 1, 8, 8) * 0.4


def fronts() -> dict[str, Callable[[], nn.Module]]:
    """What stands in front of the same network: each formula, and two yardsticks."""

    def ours(formula: anyconv.Formula) -> Callable[[], nn.Module]:
        return lambda: anyconv.Conv2d(1, CHANNELS, 3, formula, padding=1)

    made = {title: ours(formula) for title, formula in LEARNED.items()}
    return made | {"nn.Conv2d": lambda: nn.Conv2d(1, CHANNELS, 3, padding=1), "nothing": nn.Identity}


def train(make: Callable[[], nn.Module], digits: Digits, epochs: int, step: Callable[[], object]) -> Run:
    """Train a network with this front; ``step`` is called after each step."""
    torch.manual_seed(0)
    front = make()
    channels = 1 if isinstance(front, nn.Identity) else CHANNELS
    network = nn.Sequential(
        front, nn.BatchNorm2d(channels), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(channels * 16, 10)
    )
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    losses = []
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(digits.train)), BATCH):
            loss = nn.functional.cross_entropy(network(digits.train[batch]), digits.train_labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses.append(loss.item())
            step()
    network.eval()
    with torch.no_grad():
        right = network(digits.test).argmax(1) == digits.test_labels
    return Run(losses, right.float().mean().item(), front)


def steps(digits: Digits, epochs: int) -> int:
    """Optimizer steps of one training."""
    return epochs * -(-len(digits.train) // BATCH)


def draw(runs: dict[str, Run], path: Path) -> None:
    """The loss of every network, and the filters it learned."""
    learned = {title: run for title, run in runs.items() if not isinstance(run.front, nn.Identity)}
    figure = plt.figure(figsize=(15, 8), layout="constrained")
    left, right = np.asarray(figure.subfigures(1, 2, width_ratios=(1, 1.1))).tolist()
    curves = left.subplots()
    for title, run in runs.items():
        smooth = torch.tensor(run.losses).unfold(0, 20, 1).mean(1)
        curves.plot(smooth.numpy(), label=f"{title}: {run.accuracy:.1%}", linestyle="-" if title in LEARNED else "--")
    curves.set(xlabel="step", ylabel="training loss (mean of 20 steps)", yscale="log", title="learning 1347 digits")
    curves.legend(title="front layer: held-out accuracy")
    rows = right.subplots(len(learned), 1)
    for axis, (title, run) in zip(rows, learned.items(), strict=True):
        weight = run.front.weight if isinstance(run.front, nn.Conv2d) else run.front.w
        assert isinstance(weight, Tensor)
        framed = nn.functional.pad(weight.detach()[:, 0], (0, 1), value=float("nan"))
        axis.imshow(framed.permute(1, 0, 2).flatten(1).numpy(), cmap="gray")
        axis.set_axis_off()
        axis.set_title(f"{title}: {_mathematics(run.front)}", fontsize=8, loc="left")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _mathematics(front: nn.Module) -> str:
    return str(front.formula) if isinstance(front, anyconv.Conv2d) else "y = sum(w * x)"
