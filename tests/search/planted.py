"""Bugs to plant, which the search must find: each changes the library in this process, before anything is traced or built."""

from __future__ import annotations

import functools
import itertools
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import anyconv.backends.cpp.build
import anyconv.backends.cpp.render
import anyconv.transposed
from anyconv import call, functional, variables
from anyconv.backends import formats
from anyconv.backends.cpp import launch
from anyconv.backends.cpp.call import Fields
from anyconv.expr.ops import TABLE
from anyconv.reductions import builtin


def plant(name: str) -> None:
    """Plant a bug in this process."""
    PLANTED[name]()


def _derivative(op: str, *texts: str) -> None:
    TABLE[op] = replace(TABLE[op], derivative=texts)


def _everywhere(name: str, old: Any, new: Any) -> None:
    """Replace a function in every module of the library that has imported it."""
    for module in [m for key, m in sys.modules.items() if key.startswith("anyconv")]:
        if vars(module).get(name) is old:
            setattr(module, name, new)


def _skeleton(file: str, old: str, new: str) -> None:
    """Compile against a copy of the skeletons in which a text is another."""
    render = anyconv.backends.cpp.render
    folder = Path(tempfile.mkdtemp(prefix="planted")) / "skeletons"
    shutil.copytree(render.SKELETONS, folder)
    text = (folder / file).read_text()
    assert text.count(old) == 1, f"{file} has `{old}` {text.count(old)} times"
    (folder / file).write_text(text.replace(old, new))
    render.SKELETONS = anyconv.backends.cpp.build.SKELETONS = folder


def _uninitialized_component() -> None:
    right = launch.gradients

    def wrong(call: Any, tensors: Any, kept: Any, grad: Any, wanted: Any) -> Any:
        found = right(call, tensors, kept, grad, wanted)
        for name, operand in call.problem.formula.parameters.items():
            if operand.size is not None and name in found:
                found[name] = found[name].clone(memory_format=torch.contiguous_format)
                found[name][..., -1] = torch.empty(found[name].shape[:-1], dtype=found[name].dtype)
        return found

    launch.gradients = wrong


def _transposed_strides() -> None:
    right = Fields.tensor

    def wrong(self: Any, value: Any, along: str) -> None:
        if value is not None and value.dim() >= 4 and not value.is_contiguous() and value.shape[-1] == value.shape[-2]:
            value = value.mT
        right(self, value, along)

    Fields.tensor = wrong


def _half_precision() -> None:
    _everywhere("compute_dtype", formats.compute_dtype, lambda dtype: dtype)


def _captured_name() -> None:
    right = variables.variables_of

    def wrong(source: str, operand: Any, taps: int | None = None) -> Any:
        return tuple(replace(v, name=v.name.replace("[", "").replace("]", "")) for v in right(source, operand, taps))

    _everywhere("variables_of", right, wrong)


def _tie_rule() -> None:
    builtin.BUILTIN["max"] = replace(builtin.MAX, adjoint="where(v == m, 1, 0)")


def _bias_of_a_phase() -> None:
    right, turns = anyconv.transposed.convolve, itertools.count()

    def wrong(x: Any, params: Any, bias: Any, **more: Any) -> Any:
        return right(x, params, None if next(turns) % 2 else bias, **more)

    anyconv.transposed.convolve = wrong


def _stale_memo() -> None:
    def wrong(told: Any, tensors: Any, make: Any) -> Any:
        return call.remembered((told[0], *told[2:]), tensors, make)

    functional.remembered = wrong


PLANTED: dict[str, Callable[[], None]] = {
    "wrong sign": functools.partial(_derivative, "sin", "-cos(x)"),
    "dropped term": functools.partial(_derivative, "sigmoid", "y"),
    "uninitialized component": _uninitialized_component,
    "off-by-one halo": functools.partial(_skeleton, "geometry.hpp", "return p < 0 ? -p :", "return p < 0 ? -p - 1 :"),
    "wrong group": functools.partial(_skeleton, "image_planes.hpp", "image_varies(m, C) ? g * channels : 0;", "0;"),
    "transposed strides": _transposed_strides,
    "half precision": _half_precision,
    "captured name": _captured_name,
    "inverted mask": functools.partial(
        _skeleton,
        "forward.hpp",
        "select<F>(load<F>(mask) != F{}, next[q], state[q])",
        "select<F>(load<F>(mask) == F{}, next[q], state[q])",
    ),
    "tie rule": _tie_rule,
    "bias of a phase": _bias_of_a_phase,
    "stale memo": _stale_memo,
    "memory not cleared": functools.partial(
        _skeleton, "windows.hpp", "for (i64 i = 0; i < width * V; ++i) sum[i] = R(0);", ""
    ),
}
