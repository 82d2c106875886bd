"""Text -> Expr: the closed grammar, read without ever evaluating anything.

    >>> parse("t0 = x * w; t0 + exp(-t0)")
    Expr('t0 = x * w; t0 + exp(-t0)')

Python's own parser does the syntax; of its nodes only names, numbers, the operators of the printed form, calls of
table operations and assignments to temporaries are let through.
"""

from __future__ import annotations

import ast
import copyreg
import functools
from collections.abc import Mapping

from ..errors import ExprError
from .expr import Expr, apply, const, var
from .ops import TABLE
from .verify import verify

_BINARY: dict[type[ast.AST], str] = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.Div: "div", ast.Pow: "pow",
    ast.FloorDiv: "floor_divide", ast.Mod: "remainder",
    ast.BitAnd: "logical_and", ast.BitOr: "logical_or", ast.BitXor: "logical_xor",
    ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge", ast.Eq: "eq", ast.NotEq: "ne",
}  # fmt: skip
_UNARY: dict[type[ast.AST], str] = {ast.USub: "neg", ast.Invert: "logical_not"}
_NAMED = {"inf": float("inf"), "nan": float("nan")}
RESERVED = frozenset(_NAMED)


def parse(text: str, names: Mapping[str, Expr] | None = None) -> Expr:
    """Read and verify the text of an Expr; ``names`` substitutes expressions for its variables.

    Raises:
        ExprError: for anything outside the grammar, with the part that is.
    """
    return verify(read(text, names))


def read(text: str, names: Mapping[str, Expr] | None = None) -> Expr:
    """As :func:`parse`, without asking whether a name stands for a number or a condition: for patterns."""
    known = dict(names or {})
    body = _syntax(text)
    for statement in body[:-1]:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                known[name] = _expression(value, known, text)
            case _:
                raise ExprError(f"only `name = value` may stand before the last `;`, in {text!r}")
    if not body or not isinstance(body[-1], ast.Expr):
        raise ExprError(f"the text of a map ends with an expression, got {text!r}")
    return _expression(body[-1].value, known, text)


# a pickled Expr is its text, so that reading it back interns it again
copyreg.pickle(Expr, lambda expr: (parse, (str(expr),)))


@functools.lru_cache(maxsize=1024)
def _syntax(text: str) -> list[ast.stmt]:
    try:
        return ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ExprError(f"cannot read {text!r} as a map: {error}") from None


def _expression(node: ast.AST, known: Mapping[str, Expr], text: str) -> Expr:
    def inner(child: ast.AST) -> Expr:
        return _expression(child, known, text)

    match node:
        case ast.Name() | ast.Subscript(value=ast.Name(), slice=ast.Constant(value=int())):
            name = ast.unparse(node)  # a part of a vector is a variable of its own, `w[2]`
            return known[name] if name in known else const(_NAMED[name]) if name in _NAMED else var(name)
        case ast.Constant(value=bool() | int() | float() as value):
            return const(value)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _BINARY:
            return apply(_BINARY[type(operator)], inner(left), inner(right))
        case ast.Compare(left=left, ops=[operator], comparators=[right]) if type(operator) in _BINARY:
            return apply(_BINARY[type(operator)], inner(left), inner(right))
        case ast.UnaryOp(op=operator, operand=operand) if type(operator) in _UNARY:
            return apply(_UNARY[type(operator)], inner(operand))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in TABLE:
            return apply(name, *map(inner, args))
        case ast.Call(func=ast.Name(id=name)):
            raise ExprError(f"`{name}(...)` is no operation of the table, in {text!r}")
    raise ExprError(f"`{ast.unparse(node)}` is outside the grammar of maps, in {text!r}")
