"""launch: a call of a kernel with tensors, as an autograd function.

What a kernel is told stands in one array of 64-bit numbers, in the order of the structs `Forward` and `Backward` of the
skeletons; `_Fields` writes them. Tensors of any strides are read where they lie.
"""

from __future__ import annotations

import ctypes
import functools
import operator
import os
import struct
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...errors import BackendError
from ...geometry import Geometry, Ints
from ...plan import Problem, schedule
from ...plan.machine import this_machine
from ...plan.schedule import Work
from ..sums import bias_gradient
from .kernel import Kernel

_LANES = {"channels": 0, "sites": 1, "groups": 2}
_MODES = {"skip": 1, "reflect": 2, "replicate": 3, "circular": 4}
_forked = False


def convolve(x: Tensor, params: dict[str, Tensor], bias: Tensor | None, problem: Problem, kernel: Kernel) -> Tensor:
    """``y[n, o, *sites]`` of ``x[n, c, *size]``, differentiable once in ``x``, ``params`` and ``bias``."""
    # through the autograd function in any case: it refuses forward-mode derivatives and transforms aloud
    y: Tensor = _Cpp.apply(kernel, problem, bias, x, *params.values())  # type: ignore[no-untyped-call]
    return y


class _Cpp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Kernel, problem: Problem, bias: Tensor | None, *tensors: Tensor) -> Tensor:
        saves = kernel.backward is not None
        y, state = _forward(kernel, problem, tensors, bias, saves=saves)
        ctx.kernel, ctx.problem = kernel, problem
        if saves:
            ctx.save_for_backward(*tensors, *([] if state is None else [state]))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        problem: Problem = ctx.problem
        if torch.is_grad_enabled():
            raise BackendError(
                f"{problem.formula}: create_graph=True, but the cpp backend differentiates only once",
                way_out="Drop create_graph=True, or keep this layer out of what is differentiated twice.",
            )
        count = 1 + len(problem.formula.parameters)
        saved = ctx.saved_tensors
        x = saved[0]
        state = saved[count] if len(saved) > count else None
        _, _, wants_bias, *needed = ctx.needs_input_grad
        g_bias = bias_gradient(grad.to(_compute(x.dtype))).to(x.dtype) if wants_bias else None
        if not any(needed):
            return None, None, g_bias, *(None for _ in needed)
        gx, gradients = _backward(ctx.kernel, problem, saved[:count], state, grad, wants_pixels=needed[0])
        wanted = [g if need else None for g, need in zip(gradients, needed[1:], strict=True)]
        return None, None, g_bias, gx, *wanted


def _work(kernel: Kernel, problem: Problem, x: Tensor) -> Work:
    last = x.stride(1) == 1 and x.shape[1] > 1
    return Work.of(problem, x.shape[0], tuple(x.shape[2:]), kernel.source.itemsize, channels_last=last)


def _forward(
    kernel: Kernel, problem: Problem, tensors: tuple[Tensor, ...], bias: Tensor | None, *, saves: bool
) -> tuple[Tensor, Tensor | None]:
    x, *params = tensors
    work, threads = _work(kernel, problem, x), _threads()
    how = schedule.forward(work, this_machine(), threads)
    y = _like(x, (work.batch, problem.out_channels, *work.sites), x.dtype)
    state = None
    if saves and kernel.source.functor.saved:
        state = _state(len(kernel.source.functor.saved), y, filters_last=how.lanes != "sites")
    fields = _Fields(threads, work, how.chunk)
    fields.numbers(work.batch, work.geometry.groups, work.channels, work.filters)
    fields.numbers(_LANES[how.lanes], how.parts, state is not None, 0 if state is None else state.stride(0))
    image = "nc" + "k" * work.geometry.dims
    fields.tensor(x, image)
    fields.tensor(y, image)
    fields.tensor(None if state is None else state[0], image)
    fields.tensor(bias, "o")
    fields.operands(problem, params)
    fields.launch(kernel.forward)
    return y, state


def _backward(
    kernel: Kernel, problem: Problem, tensors: list[Tensor], state: Tensor | None, grad: Tensor, *, wants_pixels: bool
) -> tuple[Tensor | None, list[Tensor]]:
    x, *params = tensors
    work = _work(kernel, problem, x)
    how = schedule.backward(work, this_machine(), len(kernel.source.functor.contexts))
    gx = _like(x, tuple(x.shape), x.dtype) if wants_pixels else None
    # what varies with everything is written once; the rest is summed, in double
    operands = problem.formula.parameters.values()
    gradients = [
        torch.empty_like(p, memory_format=torch.contiguous_format)
        if operand.axes == "ock"
        else torch.zeros(p.shape, dtype=torch.float64)
        for operand, p in zip(operands, params, strict=True)
    ]
    fields = _Fields(_threads(), work, how.chunk)
    fields.numbers(work.batch, work.geometry.groups, work.channels, work.filters)
    fields.numbers(_LANES[how.lanes], how.parts, wants_pixels, 0 if state is None else state.stride(0))
    image = "nc" + "k" * work.geometry.dims
    for tensor in (x, grad, None if state is None else state[0], gx):
        fields.tensor(tensor, image)
    fields.operands(problem, params)
    fields.operands(problem, gradients)
    fields.launch(kernel.backward)
    return gx, [g.to(p.dtype) for g, p in zip(gradients, params, strict=True)]


class _Fields:
    """The numbers of a call, and the tensors that must outlive it."""

    def __init__(self, threads: int, work: Work, chunk: Ints) -> None:
        self._numbers = [_parallel(), threads, *_geometry_fields(work.geometry, work.size, chunk)]
        self._alive: list[Tensor] = []

    def numbers(self, *values: int) -> None:
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

    def operands(self, problem: Problem, values: Sequence[Tensor]) -> None:
        """A tensor for each operand, or nothing in place of the first."""
        for operand, value in zip(problem.formula.parameters.values(), values, strict=True):
            self.tensor(value, operand.axes.replace("k", "k" * problem.geometry.dims))
        if not values:
            self.tensor(None, "")

    def launch(self, function: Any) -> None:
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


def _compute(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def _like(x: Tensor, shape: Ints, dtype: torch.dtype) -> Tensor:
    """An empty tensor in the memory format of ``x``: channels last stay channels last."""
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    wanted = formats.get(x.dim())
    last = wanted is not None and not x.is_contiguous() and x.is_contiguous(memory_format=wanted)
    return torch.empty(shape, dtype=dtype, memory_format=wanted if last else torch.contiguous_format)


def _state(parts: int, y: Tensor, *, filters_last: bool) -> Tensor:
    """The saved parts ``[part, n, o, *sites]``; filters last, where lanes are, spare two transpositions."""
    n, o, *sites = y.shape
    if not filters_last:
        return y.new_empty((parts, n, o, *sites), dtype=_compute(y.dtype))
    return y.new_empty((parts, n, *sites, o), dtype=_compute(y.dtype)).movedim(-1, 2)


def _threads() -> int:
    """As many as torch uses; one in a forked child, where the runtime's threads of the parent do not exist."""
    return 1 if _forked else torch.get_num_threads()


@functools.cache
def _parallel() -> int:
    """The address of `GOMP_parallel` in the OpenMP runtime that torch has brought; 0, and one thread, without one."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            mapped = {line.split(maxsplit=5)[5].strip() for line in maps if "omp" in line and ".so" in line}
    except (OSError, IndexError):
        return 0
    for library in sorted(mapped):
        try:
            function = ctypes.CDLL(library).GOMP_parallel
        except (OSError, AttributeError):
            continue
        return ctypes.cast(function, ctypes.c_void_p).value or 0
    return 0


def _after_fork() -> None:
    global _forked  # noqa: PLW0603
    _forked = True


os.register_at_fork(after_in_child=_after_fork)
