"""What a well-formed Expr is; called between stages, so that a mistake is named where it is made."""

from __future__ import annotations

import re

from ..errors import ExprError
from .expr import Expr
from .ops import TABLE


def kind(node: Expr) -> str:
    """``"bool"`` for a truth value, ``"real"`` for a number."""
    if node.op == "const":
        return "bool" if isinstance(node.value, bool) else "real"
    return "real" if node.op == "var" else TABLE[node.op].result


def verify(expr: Expr) -> Expr:
    """Return ``expr`` if it is well formed.

    Raises:
        ExprError: an unknown op, a wrong number or kind of arguments, a name that is no identifier.
    """
    for node in expr.nodes():
        _verify_node(node)
    return expr


def _verify_node(node: Expr) -> None:
    if node.op == "var":
        if not re.sub(r"\[\d+\]$", "", str(node.value)).isidentifier():  # `w[2]` is a variable too
            raise ExprError(f"{node.value!r} is no name for a variable; a name is a Python identifier")
        return
    if node.op == "const":
        return
    row = TABLE.get(node.op)
    if row is None:
        raise ExprError(f"`{node.op}` is no operation of the table")
    if len(node.args) != len(row.params):
        raise ExprError(f"`{node.op}` takes {len(row.params)} arguments, got {len(node.args)} in `{node}`")
    for param, arg in zip(row.params, node.args, strict=True):
        if param.kind == "number" and arg.op != "const":
            raise ExprError(f"`{param.name}` of `{node.op}` must be a number, got `{arg}`")
        if param.kind in ("real", "bool") and kind(arg) != param.kind:
            raise ExprError(f"`{param.name}` of `{node.op}` must be {param.kind}, got `{arg}`")
