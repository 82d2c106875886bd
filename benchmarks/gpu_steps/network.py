"""Training beside the CPU, the overhead of a call, and a cold start."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import anyconv

from .day import Day, Go, Row, Write

RECIPES = ("adder", "sinusoidal", "sharpened_cosine")


def recipes(day: Day, write: Write, go: Go) -> None:
    """Train a small network of each recipe on the CPU and on the device, and compare their losses."""
    go()
    for name in RECIPES:
        start = time.perf_counter()
        here, there = (
            losses(day, name, "cpu", "reference" if day.is_dry else "auto"),
            losses(day, name, day.device, "triton"),
        )
        apart = [abs(a - b) / abs(a) for a, b in zip(here, there, strict=True)]
        write({
            "recipe": name, "first": here[0], "cpu": here[-1], "device": there[-1], "apart at first": apart[0],
            "apart": max(apart), "seconds": time.perf_counter() - start,
        })  # fmt: skip


def losses(day: Day, name: str, device: str, backend: str) -> list[float]:
    """Return the loss of each step of training, of the same network on the same images."""
    torch.manual_seed(0)
    channels, size, batch = (2, 2, 2) if day.is_dry else (16, 16, 64)
    layer = getattr(anyconv.recipes, name).Conv2d(channels, channels, 3, padding=1, backend=backend)
    network = nn.Sequential(nn.Conv2d(3, channels, 1), layer, nn.BatchNorm2d(channels), nn.Flatten())
    network.append(nn.Linear(channels * size**2, 10))
    images, labels = torch.randn(batch, 3, size, size), torch.randint(10, (batch,))
    network, images, labels = network.to(device), images.to(device), labels.to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.02)
    found = []
    for _ in range(day.steps):
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(loss.item())
    return found


def overhead(day: Day, write: Write, go: Go) -> None:
    """Measure a call of a tiny layer: eager, compiled and in a CUDA graph, beside an ordinary convolution."""
    go()
    channels, size = (1, 3) if day.is_dry else (4, 6)
    layers = {
        "anyconv": anyconv.Conv2d(channels, channels, 3, lambda x, w: -torch.abs(x - w), backend="triton"),
        "nn.Conv2d": nn.Conv2d(channels, channels, 3),
    }
    x = torch.randn(1, channels, size, size, device=day.device)
    for name, layer in layers.items():
        write({"layer": name} | _calls(day, layer.to(day.device), x))


def _calls(day: Day, layer: nn.Module, x: Tensor) -> Row:
    """Return the microseconds of each kind of call."""
    call = functools.partial(layer, x)
    with torch.no_grad():
        row = {
            "eager": _microseconds(day, call),
            "compiled": _microseconds(day, functools.partial(day.compiled(layer), x)),
        }
        if not day.is_dry:
            row["graph"] = _microseconds(day, _captured(layer, x))
    return row | {"eager, with gradients": _microseconds(day, call)}


def _microseconds(day: Day, call: Callable[[], object]) -> float:
    """Return the time of a call, of many that do not wait for the device."""
    call()
    day.wait()
    start = time.perf_counter()
    for _ in range(day.calls):
        call()
    day.wait()
    return 1e6 * (time.perf_counter() - start) / day.calls


def _captured(layer: nn.Module, x: Tensor) -> Callable[[], object]:
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        layer(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        layer(x)
    return graph.replay


COLD = """
import json, time
start = time.perf_counter()
import torch
torch.zeros(1, device={device!r})
there = time.perf_counter()
import anyconv
x = torch.randn(1, {channels}, {size}, {size}, device={device!r}, requires_grad=True)
formula = anyconv.Formula(lambda x, w: torch.tanh(w * x))
layer = anyconv.Conv2d({channels}, {channels}, 3, formula, backend="triton").to({device!r})
ready = time.perf_counter()
y = layer(x)
float(y.sum())
forward = time.perf_counter()
y.sum().backward()
float(x.grad.sum())
print(json.dumps({{"torch": there - start, "anyconv": ready - there, "forward": forward - ready,
                  "backward": time.perf_counter() - forward}}))
"""


def cold_start(day: Day, write: Write, go: Go) -> None:
    """Measure the first call in a process that finds nothing built, and in one that finds it."""
    go()
    channels, size = (1, 3) if day.is_dry else (8, 16)
    program = COLD.format(device=day.device, channels=channels, size=size)
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {"ANYCONV_CACHE_DIR": f"{folder}/anyconv", "TRITON_CACHE_DIR": f"{folder}/triton"}
        for kind in ("cold", "warm"):
            done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=env)
            if done.returncode:
                raise SystemExit(done.stderr[-300:])
            write({"cache": kind} | json.loads(done.stdout.splitlines()[-1]))
