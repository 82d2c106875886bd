"""The value and gradients of a case by autograd: the user's own function on whole gathered fields.

Nothing is shared with the library. Indices are plain arithmetic; every argument of the map becomes a tensor that
broadcasts to ``(n, g, o, c, p)``, where ``p`` counts pairs of a tap and a site that take part. Each branch of a ``where`` is
evaluated only where it is taken, which is the rule for its derivative. Given gradients are an autograd function.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .case import Operand, Own, Place, Reduce, Source
from .reductions import values_of

Argument = Tensor | list[Tensor]


# --- texts


def compiled(text: str) -> Callable[..., Any]:
    """The function of a text, as a user's."""
    return eval(text, {"torch": _Torch(), "F": _Functional(), "math": math})


class _Torch:
    """``torch``, but for the poles of a function, at which torch's is large."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def polygamma(n: int, x: Tensor) -> Tensor:
        return torch.where((x <= 0) & (x == x.round()), (-1) ** (n + 1) * math.inf, torch.polygamma(n, x))


class _Functional:
    """``torch.nn.functional``, but for two functions.

    The gradient of ``hardshrink`` at NaN depends on where the number lies in memory. That of ``hardsigmoid`` in float64 is
    a sixth as float32 knows it.
    """

    def __getattr__(self, name: str) -> Any:
        return getattr(F, name)

    @staticmethod
    def hardshrink(x: Tensor, lambd: float = 0.5) -> Tensor:
        return torch.where(x.abs() <= lambd, 0.0, x)

    @staticmethod
    def hardsigmoid(x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6


@functools.lru_cache(maxsize=4096)
def selecting(text: str) -> Callable[..., Any]:
    """The function of a text, each ``where`` of which evaluates its branches where they are taken."""
    tree = ast.fix_missing_locations(_Selecting().visit(ast.parse(text, mode="eval")))
    return eval(
        compile(tree, "<oracle>", "eval"),
        {"torch": _Torch(), "F": _Functional(), "math": math, "_select": _select, "_floor": _floor},
    )


class _Selecting(ast.NodeTransformer):
    """``torch.where(c, a, b)`` and ``a.where(c, b)`` become ``_select(c, lambda ...: a, lambda ...: b, ...)``.

    A floored quotient has the derivative 0; torch has none for ``a // b``.
    """

    def __init__(self) -> None:
        self.names: list[str] = []

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        outer, self.names = self.names, [a.arg for a in node.args.args]
        self.generic_visit(node)
        self.names = outer
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.FloorDiv):
            return ast.Call(ast.Name("_floor", ast.Load()), [node.left, node.right], [])
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "floor_divide":
            return ast.Call(ast.Name("_floor", ast.Load()), node.args, [])
        if not (isinstance(node.func, ast.Attribute) and node.func.attr == "where"):
            return node
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "torch":
            condition, left, right = node.args
        else:
            left, (condition, right) = node.func.value, node.args
        names = ast.arguments(
            posonlyargs=[], args=[ast.arg(n) for n in self.names], kwonlyargs=[], kw_defaults=[], defaults=[]
        )
        branches = [ast.Lambda(names, branch) for branch in (left, right)]
        loads = [ast.Name(n, ast.Load()) for n in self.names]
        return ast.Call(ast.Name("_select", ast.Load()), [condition, *branches, *loads], [])


def _floor(left: Any, right: Any) -> Tensor:
    detached = [torch.as_tensor(v).detach() for v in (left, right)]
    return torch.floor_divide(*detached)


def _select(condition: Tensor, left: Callable[..., Any], right: Callable[..., Any], *given: Any) -> Tensor:
    numbers = [t for a in given for t in (a if isinstance(a, (list, tuple)) else [a]) if isinstance(t, Tensor)]
    shape = torch.broadcast_shapes(condition.shape, *(t.shape for t in numbers))
    condition = condition.expand(shape)
    made = torch.zeros(shape, dtype=numbers[0].dtype)
    for mask, branch in ((condition, left), (~condition, right)):
        where = mask.nonzero(as_tuple=True)
        value = torch.as_tensor(branch(*(_at(a, where, shape) for a in given)), dtype=made.dtype)
        made = made.index_put(where, value.expand(where[0].shape))
    return made


def _at(given: Any, where: tuple[Tensor, ...], shape: torch.Size) -> Any:
    if isinstance(given, (list, tuple)):
        return [_at(one, where, shape) for one in given]
    return given.expand(shape)[where] if isinstance(given, Tensor) else given


# --- where taps look


class Index:
    """Which pairs of a tap and a site take part, and the pixel that each sees; -1 stands for the padding's value."""

    def __init__(self, place: Place) -> None:
        self.place = place
        along = [self._axis(axis) for axis in range(place.dims)]
        pixel, outside, beyond = (
            torch.zeros(1, 1, dtype=torch.long),
            torch.zeros(1, 1, dtype=torch.bool),
            torch.zeros(1, 1, dtype=torch.bool),
        )
        for (i, out, gone), n in zip(along, place.size, strict=True):
            pixel = _combined(pixel * n, i, torch.add)
            outside = _combined(outside, out, torch.logical_or)
            beyond = _combined(beyond, gone, torch.logical_or)
        self.pixels = torch.where(outside, -1, pixel)
        self.taken = ~(beyond | outside) if place.mode == "skip" or place.kind == "transposed" else ~beyond
        self.all = bool(self.taken.all())
        tap, site = self.taken.nonzero(as_tuple=True)
        self.tap, self.site, self.pixel = tap, site, self.pixels[tap, site]

    def _axis(self, axis: int) -> tuple[Tensor, Tensor, Tensor]:
        """Along one axis ``[tap, site]``: the pixel, whether it lies in the padding, whether it is beyond that."""
        p = self.place
        n, k, s, d = p.size[axis], p.kernel[axis], p.stride[axis], p.dilation[axis]
        before, after = p.around[0][axis], p.around[1][axis]
        taps, sites = torch.arange(k)[:, None], torch.arange(p.sites[axis])[None]
        if p.kind == "transposed":
            reach = sites + before - taps * d
            i = torch.div(reach, s, rounding_mode="floor")
            lost = (reach % s != 0) | (i < 0) | (i >= n)
            return i.clamp(0, n - 1), lost, lost
        i = sites * s + taps * d - before
        beyond = i >= n + after
        outside = (i < 0) | (i >= n)
        if p.mode == "replicate":
            return i.clamp(0, n - 1), outside & False, beyond
        if p.mode == "circular":
            return i % n, outside & False, beyond
        if p.mode == "reflect":
            folded = i.abs() if n > 1 else i * 0
            folded = torch.where(folded > n - 1, 2 * (n - 1) - folded, folded)
            return folded.clamp(0, n - 1), outside & False, beyond
        return i.clamp(0, n - 1), outside, beyond


def _combined(a: Tensor, b: Tensor, how: Callable[..., Tensor]) -> Tensor:
    """Both along taps and sites, the last axis fastest."""
    return how(a[:, None, :, None], b[None, :, None, :]).reshape(a.shape[0] * b.shape[0], a.shape[1] * b.shape[1])


@functools.lru_cache(maxsize=512)
def index_of(place: Place) -> Index:
    """The index of a place, remembered."""
    return Index(place)


# --- what the map is called with


class Scene:
    """The tensors of a case, as arguments of its functions."""

    def __init__(self, source: Source, place: Place, tensors: dict[str, Tensor]) -> None:
        self.source, self.place, self.tensors = source, place, tensors
        self.index = index_of(place)
        self.whole = source.field is not None

    def image(self, image: Tensor, pixels: Tensor, *, split: bool = True) -> Tensor:
        """``(n, g, 1, c, p)`` of an image that slides; one channel is all channels."""
        p = self.place
        flat = image.flatten(2)
        if bool((pixels < 0).any()):
            value = 0.0 if isinstance(p.mode, str) else p.mode
            flat = torch.cat([flat, torch.full((*flat.shape[:2], 1), value, dtype=flat.dtype)], -1)
            pixels = torch.where(pixels < 0, flat.shape[-1] - 1, pixels)
        seen = flat.index_select(-1, pixels)
        if split and image.shape[1] == p.in_channels:
            return seen.reshape(seen.shape[0], p.groups, 1, p.channels, len(pixels))
        return seen.reshape(seen.shape[0], 1, 1, 1, len(pixels))

    def number(self, value: Tensor, o: Operand, tap: Tensor, site: Tensor) -> Tensor:
        """``(n, g, o, c, p)`` of an operand that has a number for each of some axes."""
        p, axes = self.place, o.axes
        n, spatial = (p.batch if "n" in axes else 1), (p.taps if "k" in axes else 1)
        sites = math.prod(p.sites) if "s" in axes else 1
        if p.kind == "transposed" and "o" in axes and "c" in axes and o.scope != "per_site":
            value = value.reshape(1, p.groups, p.channels, p.filters, spatial, 1).transpose(2, 3)
        else:
            g = p.groups if set("oc") & set(axes) else 1
            value = value.reshape(
                n, g, p.filters if "o" in axes else 1, p.channels if "c" in axes else 1, spatial, sites
            )
        if "k" in axes and "s" in axes:
            return value.flatten(-2).index_select(-1, tap * sites + site)
        if "k" in axes:
            return value.flatten(-2).index_select(-1, tap)
        return value.flatten(-2).index_select(-1, site) if "s" in axes else value.flatten(-2)

    def argument(self, o: Operand, tap: Tensor, site: Tensor, pixel: Tensor) -> Argument:
        """What the map sees of an operand at some pairs of tap and site."""
        p = self.place
        if o.scope == "offsets":
            offsets = torch.tensor(list(itertools.product(*map(range, p.kernel))), dtype=torch.long).reshape(-1, p.dims)
            return [
                ((offsets[:, a] - p.kernel[a] // 2) * p.dilation[a]).to(self.dtype).index_select(0, tap)
                for a in range(p.dims)
            ]
        if o.scope == "center":
            image = self.tensors["x" if o.of is None else o.of]
            middle = 0
            for k in p.kernel:
                middle = middle * k + k // 2
            pixel = self.index.pixels[middle].index_select(0, site)
            return self._guide(image, o.size, pixel)
        value = self.tensors[o.name]
        if o.scope == "guide":
            return self._guide(value, o.size, pixel)
        if o.size is not None:
            return [self.number(v, o, tap, site) for v in value.unbind(-1)]
        return self.number(value, o, tap, site)

    def _guide(self, image: Tensor, size: int | None, pixel: Tensor) -> Argument:
        """An image with channels of its own is that many images, each for all channels."""
        if size is None:
            return self.image(image, pixel)
        return [self.image(image[:, j : j + 1], pixel, split=False) for j in range(size)]

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the arithmetic."""
        return self.tensors["x"].dtype

    def arguments(self, names: Sequence[str]) -> list[Any]:
        """The map's arguments after the pixel, and the pixel first."""
        operands = {o.name: o for o in self.source.operands}
        i = self.index
        if not self.whole:
            pixel = self.image(self.tensors["x"], i.pixel)
            return [pixel, *(self.argument(operands[name], i.tap, i.site, i.pixel) for name in names)]
        return [self._taps(None), *(self._taps(operands[name]) for name in names)]

    def _taps(self, o: Operand | None) -> Any:
        """A list of what is seen at each tap; an operand without taps is one number, or one vector."""
        i = self.index
        sites = torch.arange(math.prod(self.place.sites))
        if o is None:
            return [self.image(self.tensors["x"], i.pixels[t]) for t in range(self.place.taps)]
        if "k" in o.axes or o.scope in ("guide", "offsets"):
            return [self.argument(o, torch.full_like(sites, t), sites, i.pixels[t]) for t in range(self.place.taps)]
        return self.argument(o, torch.zeros_like(sites), sites, i.pixels[0])

    def outer(self, names: Sequence[str]) -> list[Any]:
        """The epilogue's operands, ``(n, g, o, s)``."""
        operands = {o.name: o for o in self.source.operands}
        sites = torch.arange(math.prod(self.place.sites))
        found = [self.argument(operands[name], torch.zeros_like(sites), sites, sites) for name in names]
        return [[v[..., 0, :] for v in one] if isinstance(one, list) else one[..., 0, :] for one in found]


class _Slope(torch.autograd.Function):
    """Zeros whose derivative in an argument is given."""

    @staticmethod
    def forward(ctx: Any, argument: Tensor, slope: Tensor) -> Tensor:
        ctx.shape = argument.shape
        ctx.save_for_backward(slope)
        return torch.zeros_like(slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return (grad * slope).sum_to_size(ctx.shape), None


def names_of(text: str) -> list[str]:
    """The parameters of a lambda's text."""
    node = ast.parse(text, mode="eval").body
    assert isinstance(node, ast.Lambda)
    return [a.arg for a in node.args.args]


def evaluate(
    source: Source, place: Place, tensors: dict[str, Tensor], *, merges: bool = False, plain: bool = False
) -> Tensor:
    """``y[n, o, *sites]``; ``tensors`` holds ``x``, the operands, and ``bias`` if there is one.

    Args:
        plain: a ``where`` evaluates both of its branches everywhere, and what is not taken may spoil a gradient.
        merges: a user's own reduction folds two values at a time, and merges what came of them.
    """
    scene = Scene(source, place, tensors)
    pixel, *names = names_of(source.map)
    arguments = _spread(scene.arguments(names))  # torch.clamp cannot be differentiated for every broadcast
    given = [
        a.detach() if name in dict(source.gradient) else a for name, a in zip([pixel, *names], arguments, strict=True)
    ]
    program = compiled if plain else selecting
    made = program(source.map)(*given)
    pairs = math.prod(place.sites) if scene.whole else len(scene.index.tap)
    shape = (place.batch, place.groups, place.filters, place.channels, pairs)
    values = [torch.as_tensor(v).to(scene.dtype).expand(shape) for v in (made if isinstance(made, tuple) else (made,))]
    for name, text in source.gradient:
        read = names_of(text)
        by_name = dict(zip([pixel, *names], arguments, strict=True))
        extra = [n for n in read if n not in by_name]
        by_name |= dict(zip(extra, scene.arguments(extra)[1:], strict=True))
        slopes = selecting(text)(*(by_name[n].detach() for n in read))
        for at, slope in enumerate(slopes if isinstance(slopes, tuple) else (slopes,)):
            slope = torch.as_tensor(slope).to(scene.dtype).expand(shape)
            values[at] = values[at] + _Slope.apply(by_name[name], slope)
    results = _reduced(source, place, scene, values, merges=merges)
    y = results[0]
    if source.epilogue is not None:
        outer = scene.outer(names_of(source.epilogue)[len(results) :])
        y = program(source.epilogue)(*results, *outer)
    y = torch.as_tensor(y).to(scene.dtype).expand(place.batch, place.groups, place.filters, math.prod(place.sites))
    y = y.reshape(place.batch, place.out_channels, *place.sites)
    if "bias" in tensors:
        y = y + tensors["bias"].reshape(-1, *(1,) * place.dims)
    return y


def reached(source: Source, place: Place, tensors: dict[str, Tensor], sites: Tensor) -> dict[str, Tensor]:
    """Return, for each tensor, which of its numbers some sites of ``y`` see, as a derivative of a plain sum of all."""
    operands, taps = {o.name: o for o in source.operands}, None if source.field is None else math.prod(source.field)
    pixel, *names = names_of(source.map)
    terms = [pixel] if taps is None else [f"{pixel}[{t}]" for t in range(taps)]
    for name in names:
        o = operands[name]
        count = taps if taps and ("k" in o.axes or o.scope == "guide") else o.size
        terms += [name] if count is None else [f"{name}[{i}]" for i in range(count)]
    seen = tuple(operands[name] for name in names)
    linear = Source(f"lambda {', '.join([pixel, *names])}: {' + '.join(terms)}", seen, field=source.field)
    leaves = {n: torch.zeros_like(t).requires_grad_() for n, t in tensors.items() if n != "bias"}
    y = evaluate(linear, place, leaves)
    slopes = torch.autograd.grad(y, list(leaves.values()), sites.to(y.dtype), allow_unused=True, materialize_grads=True)
    found = {n: slope != 0 for n, slope in zip(leaves, slopes, strict=True)}
    elsewhere = {n: torch.ones_like(t, dtype=torch.bool) for n, t in tensors.items() if n not in ("x", *names)}
    return found | elsewhere


def _spread(arguments: list[Any]) -> list[Any]:
    """Arguments of one shape."""
    flat = [t for a in arguments for t in (a if isinstance(a, list) else [a])]
    shape = torch.broadcast_shapes(*(t.shape for t in flat))
    return [[t.expand(shape) for t in a] if isinstance(a, list) else a.expand(shape) for a in arguments]


def _reduced(source: Source, place: Place, scene: Scene, values: list[Tensor], *, merges: bool) -> list[Tensor]:
    """The result of each reduction, ``(n, g, o, s)``."""
    sites, taken = math.prod(place.sites), scene.index.taken
    if scene.whole:
        taken = torch.ones(1, sites, dtype=torch.bool)
        values = [v[..., None, :] for v in values]
    elif scene.index.all:
        values = [v.unflatten(-1, (place.taps, sites)) for v in values]
    else:  # what is left out gets any number; `_reduce` knows which it is
        at = scene.index.tap * sites + scene.index.site
        values = [
            torch.ones(*v.shape[:-1], place.taps * sites, dtype=v.dtype)
            .index_copy(-1, at, v)
            .unflatten(-1, (place.taps, sites))
            for v in values
        ]
    if source.over is not None:  # the taps of a channel, then channels
        inner = _reduce(source.reduce[0], values, taken, merges=merges)
        return [_reduce(source.over, [inner], torch.ones(place.channels, sites, dtype=torch.bool), merges=merges)]
    flat = [v.flatten(-3, -2) for v in values]
    taken = taken.repeat(place.channels, 1)
    found, start = [], 0
    for one in source.reduce:
        count = values_of(one)
        found.append(_reduce(one, flat[start : start + count], taken, merges=merges))
        start += count
    return found


def masked(source: Source, place: Place, tensors: dict[str, Tensor]) -> Tensor:
    """Return where in ``y`` a softmax, argmax or argmin has no key that is better than the worst infinity."""
    found = torch.zeros(place.batch, place.out_channels, *place.sites, dtype=torch.bool)
    node, at = ast.parse(source.map, mode="eval"), 0
    for one in source.reduce:
        if one in ("softmax", "argmax", "argmin"):
            key = ast.Expression(ast.Lambda(node.body.args, node.body.body.elts[at]))  # type: ignore[attr-defined]
            best, worst = ("min", math.inf) if one == "argmin" else ("max", -math.inf)
            channels = (
                None if source.over is None else "max" if one == "argmin" else "min"
            )  # one masked channel is enough
            keys = replace(source, map=ast.unparse(key), reduce=(best,), over=channels, epilogue=None, gradient=())
            plain = {name: t for name, t in tensors.items() if name != "bias"}
            found |= evaluate(keys, place, plain) == worst
        at += values_of(one)
    return found


def _filled(v: Tensor, taken: Tensor, value: float) -> Tensor:
    return v if bool(taken.all()) else torch.where(taken, v, value)


def _reduce(one: Reduce, values: list[Tensor], taken: Tensor, *, merges: bool) -> Tensor:
    """Values ``(..., field, site)`` to ``(..., site)``; those that are not taken take no part."""
    if isinstance(one, Own):
        return _own(one, values, taken, merges=merges)
    if one in ("softmax", "argmax", "argmin"):
        return _weighted(one, values, taken)
    (v,) = values
    if one == "sum":
        return _filled(v, taken, 0.0).sum(-2)
    if one == "mean":
        return _filled(v, taken, 0.0).sum(-2) / taken.sum(-2)
    if one == "prod":
        return _filled(v, taken, 1.0).prod(-2)
    if v.shape[-2] == 0:
        empty = {"max": -math.inf, "min": math.inf, "logsumexp": -math.inf}.get(one, 0.0)
        return torch.full((*v.shape[:-2], v.shape[-1]), empty, dtype=v.dtype)
    if one in ("max", "min"):
        return _extreme(v, taken, one)
    if one == "logsumexp":
        return _logsumexp(_filled(v, taken, -math.inf))
    return torch.linalg.vector_norm(_filled(v, taken, 0.0), float(one[4:]), -2)


def _extreme(v: Tensor, taken: Tensor, one: str) -> Tensor:
    """The largest or smallest; values that are not taken share no gradient, be it that all others are infinite."""
    worst = -math.inf if one == "max" else math.inf
    filled = _filled(v, taken, worst)
    y = filled.amax(-2) if one == "max" else filled.amin(-2)
    lost = (y == worst) & taken.any(0)
    if not bool(lost.any()):
        return y
    return torch.where(lost, torch.where(taken, v, 0.0).sum(-2) / taken.sum(-2).clamp(min=1), torch.where(lost, 0.0, y))


def _logsumexp(v: Tensor) -> Tensor:
    """Its gradient is the softmax, and zero where all values are ``-inf``."""
    most = v.detach().amax(-2, keepdim=True)
    shift = torch.where(most.isfinite(), most, 0.0)
    total = (v - shift).exp().sum(-2)
    empty = total == 0
    return torch.where(empty, -math.inf, torch.where(empty, 1.0, total).log() + shift[..., 0, :])


def _weighted(one: str, values: list[Tensor], taken: Tensor) -> Tensor:
    """A softmax, in which equal infinities weigh the same, and all masked give 0; or the value at the best key."""
    key, value = values
    if key.shape[-2] == 0:
        return torch.full((*key.shape[:-2], key.shape[-1]), math.nan, dtype=key.dtype)
    value = _filled(value, taken, 0.0)
    if one == "softmax":
        key = _filled(key, taken, -math.inf)
        most = key.detach().amax(-2, keepdim=True)
        weight = torch.where(
            most.isinf(), (key == most).to(key.dtype), (key - torch.where(most.isfinite(), most, 0.0)).exp()
        )
        if bool((most == -math.inf).any()):  # all are masked, or there are none
            weight = torch.where(most == -math.inf, 0.0, weight)
            total = torch.where(taken.any(0) & (most[..., 0, :] == -math.inf), 1.0, weight.sum(-2))
            return (weight * value).sum(-2) / total
        return (weight * value).sum(-2) / weight.sum(-2)
    key = key.detach()
    best = (
        _filled(key, taken, -math.inf).amax(-2, keepdim=True)
        if one == "argmax"
        else _filled(key, taken, math.inf).amin(-2, keepdim=True)
    )
    tied = ((key == best) & taken).to(value.dtype)
    mean = (tied * torch.where(tied > 0, value, 0.0)).sum(-2) / tied.sum(-2)
    return torch.where(best[..., 0, :].isnan(), math.nan, mean)


def _own(own: Own, values: list[Tensor], taken: Tensor, *, merges: bool) -> Tensor:
    """A user's own reduction."""
    several = isinstance(compiled(own.identity), tuple)
    count = values[0].shape[-2]
    piece = 2 if merges else max(1, count)
    merge, state = selecting(own.merge), None
    for start in range(0, max(1, count), piece):
        part = _fold(own, [v[..., start : start + piece, :] for v in values], taken[start : start + piece])
        if state is not None:
            part = merge(*((state, part) if several else (state[0], part[0])))
            part = part if several else (part,)
        state = part
    y: Tensor = selecting(own.result)(state if several else state[0])
    return y


def _fold(own: Own, values: list[Tensor], taken: Tensor) -> tuple[Tensor, ...]:
    """The state after one value after the other."""
    identity, step = compiled(own.identity), selecting(own.step)
    several = isinstance(identity, tuple)
    shape = (*values[0].shape[:-2], values[0].shape[-1])
    state = tuple(torch.full(shape, part, dtype=values[0].dtype) for part in (identity if several else (identity,)))
    for at in range(values[0].shape[-2]):
        seen = step(state if several else state[0], *(v[..., at, :] for v in values))
        seen = seen if several else (seen,)
        state = (
            seen
            if bool(taken[at].all())
            else tuple(torch.where(taken[at], new, old) for new, old in zip(seen, state, strict=True))
        )
    return state


def derivatives(
    y: Tensor, leaves: dict[str, Tensor], grad: Tensor, moves: dict[str, Tensor] | None
) -> dict[str, Tensor]:
    """The value, every gradient, and, with ``moves``, the derivative of ``<gradients, moves>``; by name."""
    found = {"y": y.detach()}
    first = (
        torch.autograd.grad(
            y, list(leaves.values()), grad, allow_unused=True, materialize_grads=True, create_graph=moves is not None
        )
        if y.requires_grad
        else [torch.zeros_like(t) for t in leaves.values()]
    )
    found |= {f"gradient of {name}": g.detach() for name, g in zip(leaves, first, strict=True)}
    if moves is None:
        return found
    total = sum((g * moves[name]).sum() for name, g in zip(leaves, first, strict=True))
    if not total.requires_grad:
        second = [torch.zeros_like(t) for t in leaves.values()]
    else:
        second = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return found | {f"second derivative in {name}": g for name, g in zip(leaves, second, strict=True)}
