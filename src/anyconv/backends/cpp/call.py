"""call: what a kernel is told: one array of 64-bit numbers, in the order of the structs of the skeletons.

Tensors of any strides are read where they lie.
"""

from __future__ import annotations

import ctypes
import functools
import operator
import os
import struct
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...geometry import Geometry, Ints
from ...plan import Problem
from ...plan.schedule import Work
from ...variables import Variable
from ..layout import Layout
from ..spread import Spread
from .kernel import Kernel

_MODES = {"skip": 1, "reflect": 2, "replicate": 3, "circular": 4}
_forked = False


@dataclass(frozen=True)
class Call:
    """Hold what the two passes of a call share, beside tensors.

    Args:
        names: of the tensors: the pixel's, and the operands'.
    """

    problem: Problem
    work: Work
    kernel: Kernel
    names: tuple[str, ...]

    @functools.cached_property
    def layout(self) -> Layout:
        """Say in which order the kernel is given what the map sees."""
        return Layout.of(self.problem.mathematics)

    @functools.cached_property
    def spread(self) -> Spread:
        """Say how an operand's numbers are found in its tensor."""
        return Spread(self.problem.geometry, (), self.problem.out_channels)

    def named(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Tensors by name."""
        return dict(zip(self.names, tensors, strict=True))


def work_of(problem: Problem, x: Tensor) -> Work:
    """Return what there is to do on an input."""
    last = x.stride(1) == 1 and x.shape[1] > 1
    return Work.of(problem, x.shape[0], tuple(x.shape[2:]), channels_last=last)


class Fields:
    """The numbers of a call, and the tensors that must outlive it."""

    def __init__(self, threads: int, work: Work, chunk: Ints) -> None:
        self._numbers = [_parallel(), threads, *_geometry_fields(work.geometry, work.size, chunk)]
        self._alive: list[Tensor] = []

    def numbers(self, *values: int) -> None:
        """Plain numbers."""
        self._numbers += values

    def tensor(self, value: Tensor | None, along: str) -> None:
        """A pointer and five strides: (n or o, c, d, h, w); 0 along what the tensor has not."""
        if value is None:
            self._numbers += (0, 0, 0, 0, 0, 0)
            return
        if value.is_neg():  # its numbers in memory are not yet negated
            value = value.resolve_neg()
        self._alive.append(value)
        self._numbers.append(value.data_ptr())
        self._numbers += _five_of(along)((*value.stride(), 0))

    def operands(self, call: Call, values: dict[str, Any]) -> None:
        """A tensor for each operand, or nothing in place of the first."""
        for v in call.layout.operands:
            self.tensor(call.spread.part(v, values[v.source]), v.axes.replace("k", "k" * call.problem.geometry.dims))
        if not call.layout.operands:
            self.tensor(None, "")

    def images(self, call: Call, tensors: dict[str, Tensor]) -> None:
        """Add what a call ends with: what the epilogue sees, and the images beside that of the pixel."""
        for v in call.layout.outer:
            self.tensor(call.spread.part(v, tensors[v.source]), v.axes)
        for v in call.layout.images[1:]:
            self.image(v, call, tensors[v.source])

    def slots(self, call: Call, slots: dict[str, Tensor]) -> None:
        """The gradients of images, each with the distance from piece to piece."""
        for v in call.layout.images[1:]:
            slot = slots.get(v.source)
            self.image(v, call, None if slot is None else slot[0])
            self._numbers.append(0 if slot is None or len(slot) == 1 else slot.stride(0))

    def image(self, v: Variable, call: Call, value: Tensor | None) -> None:
        """A pointer and nine strides: (n, o, c, kd, kh, kw, d, h, w); 0 along what the tensor has not."""
        if value is None:
            self._numbers += (0,) * 10
            return
        if value.is_neg():
            value = value.resolve_neg()
        self._alive.append(value)
        dims = call.problem.geometry.dims
        strides = dict.fromkeys(("n", "o", "c"), 0)
        spatial = {"k": [0, 0, 0], "s": [0, 0, 0]}
        if v.slides:
            part = value if v.part is None else value[:, v.part : v.part + 1]
            strides["n"], strides["c"] = part.stride(0), part.stride(1) if part.shape[1] > 1 else 0
            spatial["s"] = [0] * (3 - dims) + list(part.stride()[2:])
        else:
            part = call.spread.part(v, value)
            left = list(part.stride())
            for axis in v.axes:
                if axis in strides:
                    strides[axis] = left.pop(0)
                else:
                    spatial[axis] = [0] * (3 - dims) + [left.pop(0) for _ in range(dims)]
        self._numbers += (part.data_ptr(), *strides.values(), *spatial["k"], *spatial["s"])

    def launch(self, function: Any) -> None:
        """Call a function of a kernel.

        Raises:
            MemoryError: there was none for its buffers.
        """
        numbers = self._numbers
        if function((ctypes.c_int64 * len(numbers))(*numbers)) != 0:
            raise MemoryError("a kernel of anyconv could not allocate its buffers")


@functools.cache
def _five_of(along: str) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    """Picks a tensor's five strides out of those it has and, last, a 0."""
    places = {letter: i for i, letter in enumerate(along) if letter != "k"}
    first, spatial = len(places), along.count("k")
    lead = places.get("n", places.get("o", -1))
    axes = [-1] * (3 - spatial) + list(range(first, first + spatial))
    return operator.itemgetter(lead, places.get("c", -1), *axes)


@functools.lru_cache(maxsize=1024)
def _geometry_fields(geometry: Geometry, size: Ints, chunk: Ints) -> tuple[int, ...]:
    """The struct `Geometry`: three axes of (pixels, sites, kernel, stride, dilation, before, chunk), mode, fill."""
    axes = zip(
        size,
        geometry.sites(size),
        geometry.kernel,
        geometry.stride,
        geometry.dilation,
        geometry.before,
        chunk,
        strict=True,
    )
    fill = geometry.mode if isinstance(geometry.mode, float) else 0.0
    bits = struct.unpack("q", struct.pack("d", fill))[0]
    mode = 0 if isinstance(geometry.mode, float) else _MODES.get(geometry.mode, 0)
    front = (1, 1, 1, 1, 1, 0, 1) * (3 - geometry.dims)
    return (*front, *(number for axis in axes for number in axis), mode, bits)


def threads() -> int:
    """Return as many as torch uses; one in a forked child, where the runtime's threads of the parent do not exist."""
    return 1 if _forked else torch.get_num_threads()


@functools.cache
def _parallel() -> int:
    """Return the address of `GOMP_parallel` in torch's OpenMP runtime; 0, and one thread, without one."""
    for library in _runtimes():
        try:
            function = ctypes.CDLL(library).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    if torch.get_num_threads() > 1:
        warnings.warn(
            "torch's OpenMP runtime was not found, so that kernels of the cpp backend run on one thread. Say "
            "torch.set_num_threads(1) if that is meant.",
            stacklevel=2,
        )
    return 0


def _runtimes() -> list[str]:
    """List the OpenMP runtimes that this process has loaded; where no system tells, those that lie beside torch."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            columns = (line.split(maxsplit=5) for line in maps)
            found = {parts[5].strip() for parts in columns if len(parts) > 5}
    except OSError:  # no Linux
        home = Path(torch.__file__).parent
        folders = (home / "lib", home.parent / "torch.libs", home / ".dylibs")
        found = {str(file) for folder in folders for file in folder.glob("lib*")}
    return sorted(file for file in found if Path(file).name.startswith(("libgomp", "libomp", "libiomp")))


def _after_fork() -> None:
    global _forked  # noqa: PLW0603
    _forked = True


os.register_at_fork(after_in_child=_after_fork)
