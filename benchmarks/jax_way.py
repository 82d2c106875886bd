"""The tap loop in JAX, compiled by XLA: the formulas once more, as a user of JAX writes them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch.utils.dlpack
from torch import Tensor

from .cases import FORMULAS, Layer

Array = Any
WAIT: Any = jax.block_until_ready  # its types say less than Any


def _derivative_of_abs(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return jnp.abs(primals[0]), tangents[0] * jnp.sign(primals[0])


# with the derivative 0 at 0, as in torch; JAX's own is 1 there, and pixels do meet weights
_abs: Any = jax.custom_jvp(jnp.abs)
_abs.defjvp(_derivative_of_abs)


def _spline(x: Array, *weights: Array) -> Array:
    place = (x + 2) * 1.75
    return sum(w * jnp.maximum(1 - _abs(place - i), 0) for i, w in enumerate(weights))


MAPS: dict[str, Callable[..., Array]] = {
    "-|x-w|": lambda x, w: -_abs(x - w),
    "max x+w": lambda x, w: x + w,
    "(x-w)^2": lambda x, w: (x - w) ** 2,
    "tanh(wx+b)": lambda x, w, b: jnp.tanh(w * x + b),
    "prod tan(x+w)": lambda x, w: jnp.tan(x + w),
    "gaussian": lambda x, w, s: jnp.exp(-(((x - w) * s) ** 2)),
    "logsumexp x+w": lambda x, w: x + w,
    "rational": lambda x, w: (x + w) / (1 + x * x * w * w),
    "spline of 8": _spline,
    "where": lambda x, w: jnp.where(x > w, x * w, 0.1 * x),
    "|x-w|^p": lambda x, w, p: _abs(x - w) ** p,
    "xw/|xw|": lambda x, w: x * w * jax.lax.rsqrt(x * x * w * w + 1e-3),
    "sin(wx)": lambda x, w: jnp.sin(w * x),
}
REDUCE: dict[str, Callable[..., Array]] = {
    "sum": jnp.sum, "max": jnp.max, "logsumexp": jax.nn.logsumexp, "prod": jnp.prod,
}  # fmt: skip
JOIN: dict[str, Callable[[Array, Array], Array]] = {
    "sum": jnp.add, "max": jnp.maximum, "logsumexp": jnp.logaddexp, "prod": jnp.multiply,
}  # fmt: skip


class JaxTapLoop:
    """A way that takes and gives tensors, without copies, and computes its own training step."""

    def __init__(self, name: str, layer: Layer) -> None:
        forward = _tap_loop(name, layer)
        self._forward = jax.jit(forward)

        def step(*given: Array) -> tuple[Array, ...]:
            y, pull = jax.vjp(forward, *given)
            return (y, *pull(jnp.ones_like(y)))

        self._step = jax.jit(step)

    def __call__(self, *given: Tensor) -> Tensor:
        """The output."""
        y: Tensor = torch.utils.dlpack.from_dlpack(WAIT(self._forward(*_arrays(given))))
        return y

    def step(self, *given: Tensor) -> list[Tensor]:
        """The output and every gradient."""
        return [torch.utils.dlpack.from_dlpack(value) for value in WAIT(self._step(*_arrays(given)))]


def _arrays(given: tuple[Tensor, ...]) -> list[Array]:
    return [jnp.from_dlpack(tensor.detach()) for tensor in given]


def _tap_loop(name: str, layer: Layer) -> Callable[..., Array]:
    dims, stride, padding = len(layer.size), layer.stride, layer.padding
    sites = [(n + 2 * padding - layer.kernel) // stride + 1 for n in layer.size]
    formula = FORMULAS[name]
    reduce, axes = formula.reduction.name, [operand.axes for operand in formula.parameters.values()]

    def run(x: Array, *params: Array) -> Array:
        padded = jnp.pad(x, [(0, 0), (0, 0), *[(padding, padding)] * dims])
        padded = padded.reshape(x.shape[0], layer.groups, 1, -1, *padded.shape[2:])
        y = None
        for tap in itertools.product(range(layer.kernel), repeat=dims):
            strided = (slice(k, k + stride * (s - 1) + 1, stride) for k, s in zip(tap, sites, strict=True))
            window = (Ellipsis, *strided)
            seen = padded[window]
            at = []
            for p, along in zip(params, axes, strict=True):
                here = (Ellipsis, *tap)
                whole = p[here] if "k" in along else p[:, None]
                at.append(whole.reshape(1, layer.groups, -1, whole.shape[1], *(1,) * dims))
            v = REDUCE[reduce](MAPS[name](seen, *at), axis=3)
            y = v if y is None else JOIN[reduce](y, v)
        assert y is not None
        return y.reshape(x.shape[0], -1, *sites)

    return run
