"""decompose: an exported program without operators of this library.

>>> program = torch.export.export(Conv2d(3, 4, 1, lambda x, w: torch.tanh(x * w)), (images,))
>>> any("anyconv" in str(node.target) for node in decompose(program).graph.nodes)
False
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..backends import plain
from ..call import Call
from ..errors import FormulaError


def decompose(program: ExportedProgram) -> ExportedProgram:
    """The program with every convolution of this library as a list of torch's own functions.

    It runs in a process without anyconv, and goes where programs of torch go: to AOTInductor, or to ONNX by
    ``torch.onnx.export(program, ...)``. It takes more memory and time than our kernels: each tap is computed for all
    filters at once. Its batch may be dynamic, as that of the program; a product is folded without our guard
    against overflow on the way.

    Args:
        program: of ``torch.export.export``.

    Raises:
        FormulaError: it is no such program.
    """
    if not isinstance(program, ExportedProgram):
        raise FormulaError(
            f"`program` must be an ExportedProgram, got {type(program).__name__}",
            way_out="Export it first: torch.export.export(network, (images,)).",
        )
    table = {torch.ops.anyconv.convolve.default: _plain, torch.ops.anyconv.forward.default: _plain}
    decomposed: ExportedProgram = program.run_decompositions(table)
    return decomposed


def _plain(x: Tensor, operands: list[Tensor], bias: Tensor | None, *told: Any) -> tuple[Tensor, Tensor]:
    *arguments, _ = told
    call = Call.read(x, tuple(arguments))
    y = plain.forward(call.problem, call.plan, call.named((x, *operands)), bias)
    return y, x.new_empty(0)
