"""How the layers of the shelf are usually written: the paper's equation over unfolded fields, or convolutions where
their authors found some. Written apart from the recipes, which are verified and timed against these.

Each is a function of the image and the operands by name, for a 3 x 3 kernel without padding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Operands = dict[str, Tensor]
K = 3


def fields(x: Tensor) -> Tensor:
    """Receptive fields ``(N, 1, C, taps, sites)``: a copy of each pixel for each tap, as people unfold."""
    return F.unfold(x, K).reshape(x.shape[0], 1, x.shape[1], K * K, -1)


def spots(x: Tensor) -> Tensor:
    """Receptive fields of each channel by itself ``(N, C, taps, sites)``."""
    return fields(x)[:, 0]


def taps(w: Tensor) -> Tensor:
    """Weights ``(1, C_out, C_in, taps, 1)``, beside which fields are broadcast."""
    return w.flatten(2)[None, ..., None]


def filters(v: Tensor) -> Tensor:
    """A value per filter ``(1, C_out, 1)``."""
    return v[None, :, None]


def image(y: Tensor, x: Tensor) -> Tensor:
    """Sites ``(N, C_out, sites)`` as an image."""
    return y.reshape(*y.shape[:-1], *(n - K + 1 for n in x.shape[2:]))


def total(v: Tensor) -> Tensor:
    """The sum over channels and taps."""
    return v.sum((2, 3))


class AdderFunction(torch.autograd.Function):
    """As AdderNet's authors train: Algorithm 1 and equations 5, 6 and 13 of the paper."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        """Fields and weights."""
        ctx.save_for_backward(x, w)
        return -total((w - x).abs())

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        """Clipped differences for the pixels, whole ones for the weights, whose norm is set."""
        x, w = ctx.saved_tensors
        g, difference = g[:, :, None, None], x - w
        of_weights = (difference * g).sum((0, 4), keepdim=True)
        of_weights = of_weights / of_weights.norm().clamp(min=1e-12) * math.sqrt(w.numel()) / 5
        return (-difference.clamp(-1, 1) * g).sum(1, keepdim=True), of_weights


class SignFunction(torch.autograd.Function):
    """A sign whose gradient passes where its argument is within 1."""

    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        """The sign."""
        ctx.save_for_backward(v)
        return v.sign()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        """Straight through, or nothing."""
        (v,) = ctx.saved_tensors
        near: Tensor = v.abs() < 1
        return g * near


class PowerOfTwo(torch.autograd.Function):
    """The nearest power of two, by its exponent, whose gradient passes as it is."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        """Rounded."""
        return w.sign() * 2 ** w.abs().log2().round().clamp(-14, 0)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        """Straight through."""
        return g


def _adder(x: Tensor, p: Operands) -> Tensor:
    return image(AdderFunction.apply(fields(x), taps(p["w"])), x)  # type: ignore[no-untyped-call]


def _euclidean(x: Tensor, p: Operands) -> Tensor:
    X, W = fields(x), taps(p["w"])
    return image(total(X * W - p["homotopy"] * (X**2 + W**2) / 2), x)


def _lp(x: Tensor, p: Operands) -> Tensor:
    d = (fields(x) - taps(p["w"])).abs()
    largest = d.amax((2, 3), keepdim=True)  # so that no power overflows
    return image(largest[:, :, 0, 0] * total((d / largest) ** p["p"]) ** (1 / p["p"]), x)


def _shift(x: Tensor, p: Operands) -> Tensor:
    return F.conv2d(x, PowerOfTwo.apply(p["w"]))  # type: ignore[no-untyped-call]


def _xnor(x: Tensor, p: Operands) -> Tensor:
    sign: Any = SignFunction.apply
    w = p["w"]
    scale = F.avg_pool2d(x.abs().mean(1, keepdim=True), K, 1)
    return F.conv2d(sign(x), sign(w)) * scale * w.abs().mean((1, 2, 3))[None, :, None, None]


def _signs(x: Tensor, p: Operands) -> Tensor:
    return F.conv2d(x.sign(), p["w"]) + F.conv2d(x, p["w"].sign())


def _fuzzy(x: Tensor, p: Operands) -> Tensor:
    return image(torch.minimum(fields(x), taps(p["w"])).amax((2, 3)), x)


def _log_sum_exp(x: Tensor, p: Operands) -> Tensor:
    mu = filters(p["mu"])
    return image(torch.logsumexp(mu[..., None, None] * (fields(x) + taps(p["w"])), (2, 3)) / mu, x)


def _smooth_morphology(x: Tensor, p: Operands) -> Tensor:
    v = (fields(x) + taps(p["w"])).flatten(2, 3)
    return image((v * (filters(p["alpha"])[..., None] * v).softmax(2)).sum(2), x)


def _counter_harmonic(x: Tensor, p: Operands) -> Tensor:
    X, W, power = fields(x).clamp(min=1e-3), taps(p["w"]).clamp(min=1e-3), filters(p["p"])[..., None, None]
    return image(total(W * X ** (power + 1)) / total(W * X**power), x)


def _bipolar(x: Tensor, p: Operands) -> Tensor:
    above, below = fields(x.clamp(min=1e-6)).log(), fields((-x).clamp(min=1e-6)).log()
    a, b = taps(p["k1"]), taps(p["k2"])
    e = [(v + k).amax((2, 3)).exp() for v in (above, below) for k in (a, b)]
    return image(e[0] - e[1] - e[2] + e[3], x)


def _tropical(x: Tensor, p: Operands) -> Tensor:
    d = fields(x) - taps(p["w"])
    return image(d.amax((2, 3)) - d.amin((2, 3)), x)


def _hit_or_miss(x: Tensor, p: Operands) -> Tensor:
    X = fields(x)
    return image((X - taps(p["hit"])).amin((2, 3)) - (X - taps(p["miss"])).amax((2, 3)), x)


def _mam(x: Tensor, p: Operands) -> Tensor:
    v = fields(x) * taps(p["w"])
    return image(v.amax((2, 3)) + v.amin((2, 3)), x)


def _rbf(x: Tensor, p: Operands) -> Tensor:
    return image(torch.exp(-total(taps(p["s"]) ** 2 * (fields(x) - taps(p["w"])) ** 2)), x)


def _gaussian(x: Tensor, p: Operands) -> Tensor:
    return image(torch.exp(-p["gamma"] * total((fields(x) - taps(p["w"])) ** 2)), x)


def _prototype(x: Tensor, p: Operands) -> Tensor:
    distance = total((fields(x) - taps(p["w"])) ** 2)
    return image(torch.log((distance + 1) / (distance + 1e-4)), x)


def _lengths(x: Tensor) -> Tensor:
    return F.conv2d(x * x, torch.ones(1, x.shape[1], K, K, dtype=x.dtype))


def _cosine(x: Tensor, p: Operands) -> Tensor:
    w = p["w"]
    weight = (w * w).sum((1, 2, 3))[None, :, None, None]
    return F.conv2d(x, w) / ((_lengths(x) + 1e-6).sqrt() * (weight + 1e-6).sqrt())


def _sharpened_cosine(x: Tensor, p: Operands) -> Tensor:
    w, q, eps = p["w"], (p["q"] / 100) ** 2, 1e-12
    weight = ((w * w).sum((1, 2, 3)) + eps).sqrt()[None, :, None, None] + q
    s = F.conv2d(x, w) / ((_lengths(x) + eps).sqrt() + q) / weight
    return s.sign() * (s.abs() + eps) ** ((p["p"] / 10) ** 2)[None, :, None, None]


def _energy(x: Tensor, p: Operands) -> Tensor:
    return (F.conv2d(x, p["even"]) ** 2 + F.conv2d(x, p["odd"]) ** 2 + 1e-12).sqrt()


def _quadratic(x: Tensor, p: Operands) -> Tensor:
    return F.conv2d(x, p["r"], p["r0"]) * F.conv2d(x, p["g"], p["g0"]) + F.conv2d(x**2, p["b"])


def _basis(features: list[Tensor], c: Tensor) -> Tensor:
    """A convolution over functions of each pixel, stacked as channels."""
    return F.conv2d(torch.cat(features, 1), c.movedim(-1, 1).flatten(1, 2))


def _self_onn(x: Tensor, p: Operands) -> Tensor:
    return _basis([x**q for q in range(1, p["w"].shape[-1] + 1)], p["w"])


def _kan_spline(x: Tensor, p: Operands) -> Tensor:
    """The recursion of Cox and de Boor, as the KAN layers write it."""
    order, grid, low, high = 3, 5, -1.0, 1.0
    knots = [low + (high - low) / grid * i for i in range(-order, grid + order + 1)]
    bases = [((x >= a) & (x < b)).to(x.dtype) for a, b in itertools.pairwise(knots)]
    for k in range(1, order + 1):
        bases = [
            (x - knots[i]) / (knots[i + k] - knots[i]) * bases[i]
            + (knots[i + k + 1] - x) / (knots[i + k + 1] - knots[i + 1]) * bases[i + 1]
            for i in range(len(bases) - 1)
        ]
    return F.conv2d(F.silu(x), p["base"]) + _basis(bases, p["c"])


def _kan_rbf(x: Tensor, p: Operands) -> Tensor:
    step = 4 / 7
    features = [torch.exp(-(((x - (-2 + i * step)) / step) ** 2)) for i in range(8)]
    return F.conv2d(F.silu(x), p["base"]) + _basis(features, p["c"])


def _kan_chebyshev(x: Tensor, p: Operands) -> Tensor:
    angle = torch.acos(torch.tanh(x).clamp(-1 + 1e-7, 1 - 1e-7))
    return _basis([torch.cos(d * angle) for d in range(p["c"].shape[-1])], p["c"])


def _kan_wavelet(x: Tensor, p: Operands) -> Tensor:
    shift, scale = (p[name][None, :, :, None, None] for name in ("shift", "scale"))
    u = (fields(x) - shift) / scale
    wave = 2 / (math.sqrt(3) * math.pi**0.25) * (u**2 - 1) * torch.exp(-(u**2) / 2)
    return image(total(taps(p["w"]) * wave), x)


def _noisy_or(x: Tensor, p: Operands) -> Tensor:
    return image(1 - (1 - taps(p["w"]).sigmoid() * fields(x)).flatten(2, 3).prod(2), x)


def _product_unit(x: Tensor, p: Operands) -> Tensor:
    size = F.conv2d(x.abs().clamp(min=1e-3).log(), p["w"])
    return size.exp() * torch.cos(math.pi * F.conv2d((x < 0).to(x.dtype), p["w"]))


def _central_difference(x: Tensor, p: Operands) -> Tensor:
    middle = p["w"].sum((2, 3), keepdim=True)
    return F.conv2d(x, p["w"]) - p["theta"] * F.conv2d(x[:, :, 1:-1, 1:-1], middle)


def _partial(x: Tensor, p: Operands) -> Tensor:
    seen = F.conv2d(p["mask"], torch.ones(1, 1, K, K, dtype=x.dtype))
    ratio = K * K / seen.clamp(min=1e-8) * (seen > 0)
    return F.conv2d(x * p["mask"], p["w"]) * ratio


def _normalized(x: Tensor, p: Operands) -> Tensor:
    w, c = F.softplus(p["w"]), p["certainty"]
    return F.conv2d(x * c, w) / (F.conv2d(c, w) + 1e-6)


def _pixel_adaptive(x: Tensor, p: Operands) -> Tensor:
    f = fields(p["f"])
    kernel = torch.exp(-0.5 * ((f - f[..., 4:5, :]) ** 2).sum(2, keepdim=True))
    return image(total(fields(x) * kernel * taps(p["w"])), x)


def _bilateral(x: Tensor, p: Operands) -> Tensor:
    X = spots(x)
    at = torch.tensor([(i**2 + j**2) for i in (-1, 0, 1) for j in (-1, 0, 1)], dtype=x.dtype)[:, None]
    w = torch.exp(-at / (2 * p["space"] ** 2) - (X - X[:, :, 4:5]) ** 2 / (2 * p["value"] ** 2))
    return image((w * X).sum(2) / w.sum(2), x)


def _local_binary_pattern(x: Tensor, p: Operands) -> Tensor:
    X, code = spots(x), torch.tensor([8, 4, 2, 16, 0, 1, 32, 64, 128], dtype=x.dtype)[:, None]
    return image((code * torch.sigmoid(p["sharpness"] * (X - X[:, :, 4:5]))).sum(2), x)


def _involution(x: Tensor, p: Operands) -> Tensor:
    return image((spots(x) * p["kernel"].flatten(3).flatten(1, 2)[:, None]).sum(2), x)


def _locally_connected(x: Tensor, p: Operands) -> Tensor:
    return image(torch.einsum("ncks,ocks->nos", spots(x), p["w"].flatten(4).flatten(2, 3)), x)


def _dilate(x: Tensor, w: Tensor) -> Tensor:
    X = spots(F.pad(x, [1, 1, 1, 1], value=-torch.inf))
    return (X + w.flatten(2).flip(2)[None, :, 0, :, None]).amax(2).reshape(x.shape)


def _erode(x: Tensor, w: Tensor) -> Tensor:
    X = spots(F.pad(x, [1, 1, 1, 1], value=torch.inf))
    return (X - w.flatten(2)[None, :, 0, :, None]).amin(2).reshape(x.shape)


USUAL: dict[str, Callable[[Tensor, Operands], Tensor]] = {
    "adder": _adder,
    "bilateral": _bilateral,
    "bipolar_morphology": _bipolar,
    "bottom_hat": lambda x, p: _erode(_dilate(x, p["w"]), p["w"]) - x,
    "central_difference": _central_difference,
    "closing": lambda x, p: _erode(_dilate(x, p["w"]), p["w"]),
    "cosine": _cosine,
    "counter_harmonic": _counter_harmonic,
    "dendrite": lambda x, p: image(total(taps(p["v"]) * torch.tanh(taps(p["w"]) * fields(x) + taps(p["b"]))), x),
    "dilation": lambda x, p: _dilate(x, p["w"]),
    "energy": _energy,
    "erosion": lambda x, p: _erode(x, p["w"]),
    "euclidean": _euclidean,
    "fuzzy": _fuzzy,
    "gaussian_kervolution": _gaussian,
    "generalized_mean": lambda x, p: image((spots(x).clamp(min=1e-6) ** p["p"]).mean(2) ** (1 / p["p"]), x),
    "hit_or_miss": _hit_or_miss,
    "involution": _involution,
    "kan_chebyshev": _kan_chebyshev,
    "kan_rbf": _kan_rbf,
    "kan_spline": _kan_spline,
    "kan_wavelet": _kan_wavelet,
    "kervolution": lambda x, p: (F.conv2d(x, p["w"]) + p["balance"]) ** 3,
    "local_binary_pattern": _local_binary_pattern,
    "locally_connected": _locally_connected,
    "log_sum_exp": _log_sum_exp,
    "lp_distance": _lp,
    "mam": _mam,
    "max_plus": lambda x, p: image((fields(x) + taps(p["w"])).amax((2, 3)), x),
    "max_times": lambda x, p: image((fields(x) * taps(p["w"])).amax((2, 3)), x),
    "median": lambda x, p: image(spots(x).median(2).values, x),
    "min_plus": lambda x, p: image((fields(x) + taps(p["w"])).amin((2, 3)), x),
    "morphological": lambda x, p: image((fields(x) + taps(p["w"])).amax(3).sum(2), x),
    "morphological_gradient": lambda x, p: _dilate(x, p["w"]) - _erode(x, p["w"]),
    "multiplication_free": _signs,
    "noisy_or": _noisy_or,
    "normalized": _normalized,
    "opening": lambda x, p: _dilate(_erode(x, p["w"]), p["w"]),
    "operational": lambda x, p: image(total(torch.sin(100 * taps(p["w"]) * fields(x))), x),
    "partial": _partial,
    "pixel_adaptive": _pixel_adaptive,
    "product_unit": _product_unit,
    "prototype": _prototype,
    "quadratic": _quadratic,
    "rbf": _rbf,
    "self_onn": _self_onn,
    "sharpened_cosine": _sharpened_cosine,
    "shift": _shift,
    "sinusoidal": lambda x, p: image(total(taps(p["a"]) * torch.sin(taps(p["omega"]) * fields(x) + taps(p["phi"]))), x),
    "smooth_morphology": _smooth_morphology,
    "soft_pool": lambda x, p: image((spots(x).exp() * spots(x)).sum(2) / spots(x).exp().sum(2), x),
    "tangent_product": lambda x, p: image(torch.tan(fields(x) + taps(p["w"])).flatten(2, 3).prod(2), x),
    "top_hat": lambda x, p: x - _dilate(_erode(x, p["w"]), p["w"]),
    "tropical_distance": _tropical,
    "xnor": _xnor,
}

BY_CONVOLUTION = {  # those that their authors found ordinary convolutions for; all others unfold
    "central_difference", "cosine", "energy", "kan_chebyshev", "kan_rbf", "kan_spline", "kervolution",
    "multiplication_free", "normalized", "partial", "product_unit", "quadratic", "self_onn", "sharpened_cosine",
    "shift", "xnor",
}  # fmt: skip
