"""Digits on one process, several, or several machines; stops anywhere and goes on where it was.

    python -m examples.train_distributed
    torchrun --nproc_per_node 2 -m examples.train_distributed
    torchrun --nnodes 2 --nproc_per_node 8 --rdzv_endpoint HOST:29500 -m examples.train_distributed --strategy fsdp

The script is the same for all. Each step takes one global batch, of which every process has its share, so that the
losses do not depend on how many there are. After each epoch the state is saved with ``torch.distributed.checkpoint``;
a run that finds one goes on from there, on any number of processes. The bar and the files are those of rank 0.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

import anyconv

from .digits import load

WIDTH, RATE = 16, 0.02


def network(dtype: torch.dtype) -> nn.Sequential:
    """Differences, soft signs, and a linear layer; nothing in it looks at the batch."""
    return nn.Sequential(
        anyconv.Conv2d(1, WIDTH, 3, lambda x, w: -torch.abs(x - w), padding=1), nn.GroupNorm(4, WIDTH), nn.ReLU(),
        anyconv.Conv2d(WIDTH, WIDTH, 3, lambda x, w: torch.tanh(x * w), stride=2), nn.GroupNorm(4, WIDTH), nn.ReLU(),
        nn.Flatten(), nn.Linear(9 * WIDTH, 10),
    ).to(dtype)  # fmt: skip


def begin() -> torch.device:
    """Join the other processes, if there are any; the device of this one."""
    on_gpu = torch.cuda.is_available()
    if "RANK" in os.environ:
        dist.init_process_group("nccl" if on_gpu else "gloo")
    else:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)  # type: ignore[attr-defined]
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(device)
    return device


def build_kernels_once(model: nn.Module, image: Tensor) -> None:
    """The first process of each machine builds what all will load: cold builds are done once."""
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local == 0:
        model(image).sum().backward()
        model.zero_grad()
    dist.barrier()


def distributed(model: nn.Module, strategy: str, device: torch.device) -> nn.Module:
    """The model on all processes: a copy on each, or a part of each layer."""
    if strategy == "ddp":
        return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for layer in model.modules():
        if layer is not model and any(True for _ in layer.parameters(recurse=False)):
            fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


def batches(count: int, size: int, epoch: int) -> Iterator[Tensor]:
    """This process's share of each global batch of an epoch; all have as many."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(epoch))
    for first in range(0, count - size + 1, size):
        yield order[first : first + size][dist.get_rank() :: dist.get_world_size()]


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write a state; it counts as saved once it is whole, whenever the process dies."""
    fresh = folder / "fresh"
    if dist.get_rank() == 0:
        shutil.rmtree(fresh, ignore_errors=True)
    dist.barrier()
    dcp.save(state, checkpoint_id=fresh)  # type: ignore[attr-defined]
    dist.barrier()
    if dist.get_rank() == 0:
        old = folder / "old"
        shutil.rmtree(old, ignore_errors=True)
        if (folder / "latest").exists():
            (folder / "latest").rename(old)
        fresh.rename(folder / "latest")
    dist.barrier()


def restore(folder: Path, state: dict[str, Any]) -> None:
    """Read the last state that is whole into ``state``, if there is one."""
    for name in ("latest", "old"):  # between two renames there is only the old one
        if (folder / name / ".metadata").exists():
            dcp.load(state, checkpoint_id=folder / name)  # type: ignore[attr-defined]
            return


def train(arguments: argparse.Namespace) -> list[float]:
    """The loss of each step, of this run and of those that it goes on from."""
    device, dtype = begin(), getattr(torch, arguments.dtype)
    torch.manual_seed(0)
    model = network(dtype).to(device)
    digits = load()
    images, labels = digits.train.to(device, dtype), digits.train_labels.to(device)
    build_kernels_once(model, images[:2])
    parallel = distributed(model, arguments.strategy, device)
    optimizer = torch.optim.Adam(parallel.parameters(), RATE)
    losses = torch.zeros(arguments.epochs * (len(images) // arguments.batch), dtype=torch.float64)
    done = torch.zeros((), dtype=torch.int64)  # epochs

    weights, moments = get_state_dict(parallel, optimizer)
    state = {"model": weights, "optimizer": moments, "losses": losses, "done": done}
    restore(arguments.checkpoint, state)
    set_state_dict(parallel, optimizer, model_state_dict=weights, optim_state_dict=moments)

    step = int(done) * (len(images) // arguments.batch)
    bar = tqdm(total=len(losses), initial=step, desc="steps", disable=dist.get_rank() != 0)
    for epoch in range(int(done), arguments.epochs):
        for share in batches(len(images), arguments.batch, epoch):
            loss = F.cross_entropy(parallel(images[share]), labels[share])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            mean = loss.detach().double() / dist.get_world_size()
            dist.all_reduce(mean)
            losses[step] = mean.cpu()
            step += 1
            bar.update()
            bar.set_postfix(loss=f"{losses[step - 1]:.3f}")
        done.fill_(epoch + 1)
        weights, moments = get_state_dict(parallel, optimizer)
        save(arguments.checkpoint, {"model": weights, "optimizer": moments, "losses": losses, "done": done})
    bar.close()
    dist.destroy_process_group()
    return losses.tolist()


def main(given: Sequence[str] | None = None) -> list[float]:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch", type=int, default=64, help="of all processes together")
    parser.add_argument(
        "--strategy", choices=("ddp", "fsdp"), default="ddp", help="copies of the model, or parts of it"
    )
    parser.add_argument("--dtype", default="float32", help="in float64 the losses of any number of processes agree")
    parser.add_argument("--checkpoint", type=Path, default=Path("output") / "digits")
    arguments = parser.parse_args(given)
    arguments.checkpoint.mkdir(parents=True, exist_ok=True)
    rank = int(os.environ.get("RANK", "0"))
    losses = train(arguments)
    if rank == 0:
        (arguments.checkpoint / "losses.json").write_text(json.dumps(losses))
        print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    main()
