"""text: what a formula computes as text, and the parts of a formula of a text. Nothing is ever evaluated.

    >>> decode('{"map": [["x", "w"], ["tan(x + w)"]], "reduce": "prod"}')["reduce"].name
    'prod'

The text is what a registered operator carries, what a pickle stores, and what caches are keyed by. Expressions are in
the closed grammar of :mod:`anyconv.expr.parse`; around them is JSON.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

from .assemble import Functions
from .errors import FormulaError
from .expr import Expr, parse
from .expr.simplify import substitute
from .expr.trace import Tracer
from .mathematics import Mathematics
from .operands import Operand
from .reductions import BUILTIN, OF_TWO, Over, Reduction, norm
from .reductions.builtin import Reduce
from .reductions.reduction import joined
from .signature import argument_names

Function = Callable[..., Any]
_SAID = ("identity", "step", "merge", "result", "adjoint")
_SHAPE = ("scope", "size", "frozen", "along", "of")  # of an operand; its start values and hooks are no mathematics


class Written:
    """A function of a map's arguments that is given by its Exprs; what a formula read back from text is made of.

    It computes on tracers, which is all that a formula asks of it.
    """

    def __init__(self, names: tuple[str, ...], values: tuple[Expr, ...]) -> None:
        self.names = names
        self.values = values
        parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        self.__signature__ = inspect.Signature(parameters)
        self.__qualname__ = "<lambda>"

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns, of tracers or vectors of them."""
        given: dict[str, Expr] = {}
        for name, argument in zip(self.names, arguments, strict=True):
            if isinstance(argument, tuple):
                given |= {f"{name}[{i}]": part.expr for i, part in enumerate(argument)}
            elif isinstance(argument, Tracer):
                given[name] = argument.expr
            else:
                raise FormulaError(
                    f"this function was read back from its text, and is no function of {type(argument).__name__}",
                    way_out="Compute with the formula: anyconv.conv2d, or a layer.",
                )
        found = tuple(Tracer(_put(value, given)) for value in self.values)
        return found if len(found) > 1 else found[0]


def _put(value: Expr, given: dict[str, Expr]) -> Expr:
    unknown = set(value.names()) - set(given)
    if unknown:
        raise FormulaError(f"the text {str(value)!r} uses {', '.join(sorted(unknown))}, which is no argument")
    if all(given[name] is node for name, node in _leaves(value)):
        return value  # as it was, not simplified
    return substitute(value, given)


@functools.lru_cache(maxsize=1024)
def _leaves(value: Expr) -> tuple[tuple[str, Expr], ...]:
    return tuple((str(node.value), node) for node in value.nodes() if node.op == "var")


def encode(given: Functions, m: Mathematics) -> str:
    """The text of what a formula was given, and of the mathematics that came of it."""

    def names(function: Function, what: str) -> list[str]:
        return argument_names(function, given.operands, what)

    said: dict[str, Any] = {
        "map": [names(given.map, "map"), [str(value) for value in m.values]],
        "reduce": _encode_reduce(given.reduce),
    }
    if given.epilogue is not None:
        said["epilogue"] = [names(given.epilogue, "epilogue"), [str(m.finish)]]
    if given.gradient:
        slopes = dict(m.slopes)
        said["gradient"] = {
            name: [names(function, "gradient"), [str(slope) for slope in slopes[name]]]
            for name, function in given.gradient.items()
        }
    if given.operands:
        plain = Operand()
        said["operands"] = {
            name: {key: getattr(o, key) for key in _SHAPE if key == "scope" or getattr(o, key) != getattr(plain, key)}
            for name, o in given.operands.items()
        }
    if m.field is not None:
        said["field"] = m.field
    return json.dumps(said)


def decode(text: str) -> dict[str, Any]:
    """The arguments of a formula of this text.

    Raises:
        FormulaError: the text is none that :func:`encode` writes.
        ExprError: an expression in it is outside the grammar.
    """
    try:
        said = json.loads(text)
        found: dict[str, Any] = {"map": _function(said["map"]), "reduce": _decode_reduce(said["reduce"])}
        if "epilogue" in said:
            found["epilogue"] = _function(said["epilogue"])
        found["gradient"] = {str(name): _function(one) for name, one in said.get("gradient", {}).items()} or None
        found["operands"] = {
            str(name): Operand(**{key: one[key] for key in _SHAPE if key in one})
            for name, one in said.get("operands", {}).items()
        }
        found["field"] = tuple(said["field"]) if "field" in said else None
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormulaError(f"this is not the text of a formula ({error}): {text!r}") from None
    return found


def _function(said: Any) -> Written:
    names, texts = said
    if not all(isinstance(name, str) and name.isidentifier() for name in names) or not texts:
        raise TypeError(f"{names!r} are no names of arguments")
    return Written(tuple(names), tuple(parse(text) for text in texts))


def _encode_reduce(reduce: Reduce | Over) -> Any:
    if isinstance(reduce, str):
        return reduce
    if isinstance(reduce, Over):
        return {"taps": _encode_reduce(reduce.taps), "channels": _encode_reduce(reduce.channels)}
    if isinstance(reduce, tuple):
        return [_encode_reduce(one) for one in reduce]
    if reduce.of:
        return [_encode_reduce(one) for one in reduce.of]
    if _named(reduce.name) == reduce:
        return reduce.name
    said = {what: reduce.texts(what) for what in _SAID}
    return {"name": reduce.name, "state": reduce.state, "values": reduce.values, **said}


def _decode_reduce(said: Any) -> Reduce | Over:
    if isinstance(said, list):
        return tuple(_one(part) for part in said)
    if isinstance(said, dict) and set(said) == {"taps", "channels"}:
        return Over(_one(said["taps"]), _one(said["channels"]))
    return _one(said)


def _one(said: Any) -> Reduction:
    if isinstance(said, list):
        return joined([_one(part) for part in said])
    if isinstance(said, str):
        found = _named(said)
        if found is None:
            raise ValueError(f"there is no reduction {said!r}")
        return found
    texts: dict[str, Any] = {what: tuple(map(str, said[what])) for what in _SAID}
    return Reduction(str(said["name"]), **texts, state=tuple(said["state"]), values=tuple(said["values"]))


def _named(name: str) -> Reduction | None:
    """The reduction of the library that has this name."""
    if name.startswith("norm(") and name.endswith(")"):
        try:
            return norm(float(name[5:-1]))
        except ValueError:
            return None
    return (BUILTIN | OF_TWO).get(name)
