"""Compute convolutions of our own making in IEEE float32, whatever torch is told about those of ``nn.Conv2d``.

On a GPU torch rounds the factors of a convolution to the eleven bits of TensorFloat-32 unless it is told otherwise.
Who writes ``x * w`` means torch's convolution, and gets what torch's switch says. Who writes another map did not ask
for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_lock = threading.Lock()
_inside = 0  # how many are in the context, in all threads: the switch is one for all of them
_before: Any = None


@contextmanager
def ieee(needed: bool = True) -> Iterator[None]:
    """Keep torch's convolutions in IEEE float32 inside the context.

    Args:
        needed: whether to; otherwise torch's switch stands.
    """
    if not needed:
        yield
        return
    global _inside, _before  # noqa: PLW0603
    with _lock:
        if _inside == 0:
            _before = _switch()
            _turn("ieee" if isinstance(_before, str) else False)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _turn(_before)


def _switch() -> str | bool:
    """What torch is told: since 2.9 a precision of convolutions alone, before that one of all of cuDNN."""
    cudnn: Any = torch.backends.cudnn
    found: str | bool = cudnn.conv.fp32_precision if hasattr(cudnn, "conv") else cudnn.allow_tf32
    return found


def _turn(to: str | bool) -> None:
    cudnn: Any = torch.backends.cudnn
    if isinstance(to, str):
        cudnn.conv.fp32_precision = to
    else:
        cudnn.allow_tf32 = to
