"""render: the file of a kernel: what it needs of the library, the functor, and a skeleton.

>>> print(render(Formula(lambda x, w: -torch.abs(x - w)), "float32", "forward").text)
# y = sum(-abs(x - w))
# forward in float32; rendered by anyconv
...
"""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass

from ...formula import Formula
from ...mathematics import Mathematics
from ..functor import functor
from .functor import Block
from .library import functions, functions_of, needed, skeleton


@dataclass(frozen=True)
class Source:
    """A complete file of Triton, and what it was made from.

    Args:
        formula: as mathematics.
        text: of the file.
        dtype: of the tensors.
        kernel: the function in it that is called.
    """

    formula: str
    text: str
    dtype: str
    kernel: str

    @property
    def title(self) -> str:
        """What is in it, in a line."""
        return f"{self.formula}, {self.kernel} in {self.dtype}"


def render(formula: Formula | Mathematics, dtype: str, kernel: str, *, saves: bool = True) -> Source:
    """The source of one kernel of a formula, for any shape.

    Args:
        kernel: the name of a skeleton.
        saves: what gradients will need of the state is folded too.
    """
    return _render(formula.mathematics if isinstance(formula, Formula) else formula, dtype, kernel, saves)


@functools.lru_cache(maxsize=1024)
def _render(m: Mathematics, dtype: str, kernel: str, saves: bool) -> Source:
    block = Block(functor(m), m, dtype, saves=saves)
    own = "\n\n\n".join(block.functions(kernel))
    pool = {**functions(), **functions_of(skeleton("places")), **functions_of(skeleton("tiles")), **functions_of(own)}
    body = _parts(skeleton(kernel))
    head = f"# {m}\n# {kernel} in {dtype}; rendered by anyconv\nimport triton\nimport triton.language as tl\n"
    parts = [head, block.constants() + "\n", *(f"{text}\n" for text in [*needed(pool, "\n".join(body)), *body])]
    return Source(str(m), "\n\n".join(parts), dtype, kernel)


def _parts(text: str) -> list[str]:
    """What a skeleton says itself, without its imports and its docstring."""
    lines = text.splitlines()
    found = []
    for node in ast.parse(text).body:
        if not isinstance(node, ast.Import | ast.ImportFrom | ast.Expr):
            first = node.decorator_list[0].lineno if isinstance(node, ast.FunctionDef) else node.lineno
            found.append("\n".join(lines[first - 1 : node.end_lineno]))
    return found
