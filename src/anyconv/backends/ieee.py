"""Compute convolutions of our own making in IEEE float32, whatever torch is told about those of ``nn.Conv2d``.

On a GPU torch rounds the factors of a convolution to the eleven bits of TensorFloat-32 unless it is told otherwise.
Who writes ``x * w`` means torch's convolution, and gets what torch's switch says. Who writes another map did not ask
for it.

The switch is one for all threads. It is turned only where it would matter. Turning it back states what torch may have
inherited: who says ``torch.backends.fp32_precision = "ieee"`` later has to say it to ``torch.backends.cudnn.conv``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

_lock = threading.Lock()
_inside = 0  # how many are in the context, in all threads
_before: str | bool = True


def ieee(x: Tensor) -> contextlib.AbstractContextManager[None]:
    """Return a context in which torch's convolutions of images like ``x`` are computed in IEEE float32."""
    rounds = x.device.type == "cuda" and x.dtype == torch.float32
    return _turned() if rounds else contextlib.nullcontext()


@contextmanager
def _turned() -> Iterator[None]:
    global _inside, _before  # noqa: PLW0603
    with _lock:
        if _inside == 0:
            _before = _switch()
            _turn(False if isinstance(_before, bool) else "ieee")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _turn(_before)


def _switch() -> str | bool:
    """Read what torch is told: whether cuDNN rounds, or a precision where convolutions have one of their own."""
    cudnn: Any = torch.backends.cudnn
    try:
        return bool(cudnn.allow_tf32)
    except RuntimeError:  # torch refuses to answer where convolutions and recurrences differ
        return str(cudnn.conv.fp32_precision)


def _turn(to: str | bool) -> None:
    cudnn: Any = torch.backends.cudnn
    if to == _switch():
        return
    if isinstance(to, bool):
        cudnn.allow_tf32 = to
    else:
        cudnn.conv.fp32_precision = to
