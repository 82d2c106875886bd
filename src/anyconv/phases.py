"""Phases of a transposed convolution: sites that are equal modulo the stride, and the taps that they see."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from .operands import Operand


@dataclass(frozen=True)
class Phase:
    """Along one axis: the sites that are equal modulo the stride, and the taps that they see, nearest pixel first."""

    sites: slice
    count: int
    taps: slice  # of the kernel, in its own order: the last of them sees the nearest pixel
    size: int  # how many they are; none is one tap that sees no pixel
    dilation: int
    first: int  # the pixel that the first site sees at the first tap

    def geometry(self, pixels: int) -> tuple[int, int, int, int]:
        """Kernel, dilation and padding of the convolution; padding below zero leaves pixels out."""
        before, span = -self.first, self.dilation * (self.size - 1) + 1
        return self.size, self.dilation, before, self.count - 1 + span - pixels - before


def phases_of(pixels: int, out: int, axis: tuple[int, int, int, int]) -> list[Phase]:
    """Along one axis, of its kernel, stride, dilation and padding."""
    kernel, stride, dilation, padding = axis
    common = math.gcd(stride, dilation)
    """Those along one axis, of its kernel, stride, dilation and padding."""
    phases = []
    for r in range(min(stride, out)):
        sites, count = slice(r, None, stride), len(range(r, out, stride))
        seen = [k for k in range(kernel) if (r + padding - k * dilation) % stride == 0]
        if seen:
            first = (r + padding - seen[-1] * dilation) // stride
            taps = slice(seen[0], seen[-1] + 1, stride // common)
            phases.append(Phase(sites, count, taps, len(seen), dilation // common, first))
        else:
            phases.append(Phase(sites, count, slice(0, 1), 1, 1, pixels))
    return phases


def of_phase(value: Tensor, operand: Operand, phases: tuple[Phase, ...]) -> Tensor:
    """What the sites of a phase see of an operand: some of its taps, the nearest pixel first; their own values."""
    if operand.scope == "guide":
        return value
    lead = len(set(operand.axes) & set("noc"))
    index: list[slice] = [slice(None)] * lead
    if "k" in operand.axes:
        index += [p.taps for p in phases]
    if "s" in operand.axes:
        index += [p.sites for p in phases]
    value = value[tuple(index)]
    several = [lead + axis for axis, p in enumerate(phases) if "k" in operand.axes and p.size > 1]
    return value.flip(several) if several else value
