"""Sorting networks: rank order for maps of whole fields, of minima and maxima alone.

>>> Formula(lambda x: sort_network(x)[1], field=3)
Formula(y = sum(minimum(maximum(x[0], x[1]), maximum(minimum(x[0], x[1]), x[2]))))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch


def sort_network(values: Sequence[Any]) -> list[Any]:
    """The values in ascending order: numbers of a map, or tensors of one shape, element by element.

        >>> median = Formula(lambda x: sort_network(x)[4], field=(3, 3))
        >>> Pool2d(3, median, stride=1, padding=1, padding_mode="reflect")(torch.randn(8, 3, 32, 32)).shape
        torch.Size([8, 3, 32, 32])

    Batcher's odd-even merge sort (Sorting networks and their applications, 1968). What a map does not use of the
    result is not computed: of nine values, the median alone takes 40 minima and maxima. NaN makes each value that it
    meets NaN; equal values share the gradient, as ``torch.minimum`` and ``torch.maximum`` do.
    """
    wires = list(values)
    for i, j in _exchanges(len(wires)):
        wires[i], wires[j] = torch.minimum(wires[i], wires[j]), torch.maximum(wires[i], wires[j])
    return wires


def _exchanges(count: int) -> Iterator[tuple[int, int]]:
    """Pairs of wires, each to be put in order."""
    block = 1
    while block < count:
        step = block
        while step >= 1:
            for first in range(step % block, count - step, 2 * step):
                for i in range(first, min(first + step, count - step)):
                    if i // (2 * block) == (i + step) // (2 * block):
                        yield i, i + step
            step //= 2
        block *= 2
