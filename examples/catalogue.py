"""The published layers that this library was designed for, 89 of them: ``python -m examples.catalogue``.

Writes `docs/catalogue.md`: which can be expressed, and how; which are shipped as recipes, and what each was verified
against; which backend computes it on the CPU; and why, where there is no way. What is said to be expressible is a
formula below, or a few layers, and a test computes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import anyconv
from anyconv import Formula, center, guide, offsets, per_channel, per_filter, per_offset, per_pair, per_site, per_tap
from anyconv.geometry import Geometry
from anyconv.plan import Problem, choose
from anyconv.recipes import Recipe

OUTPUT = Path(__file__).parents[1] / "docs" / "catalogue.md"
Composition = Callable[[Tensor], Tensor]  # of (2, 2, 6, 6)


@dataclass(frozen=True)
class Entry:
    """One published layer.

    Args:
        layer, source: what it is called, and by whom.
        recipes: under which names it ships.
        how: a formula, or a composition of layers, where it does not ship.
        note: how, in words; or where there is neither, the reason why not.
    """

    layer: str
    source: str
    recipes: tuple[str, ...] = ()
    how: Formula | Composition | None = None
    note: str = ""

    @property
    def expressible(self) -> bool:
        """Whether there is a way."""
        return bool(self.recipes) or self.how is not None

    def shipped(self) -> list[Recipe]:
        """Its recipes."""
        return [getattr(anyconv.recipes, name) for name in self.recipes]

    def backends(self) -> list[str]:
        """What computes it on the CPU, in float32."""
        formulas = [r.formula if r.make else None for r in self.shipped()]
        if isinstance(self.how, Formula):
            formulas.append(self.how)
        found = [backend_of(f) if f else "cpp" for f in formulas]  # compositions of recipes are of morphology, and cpp
        return sorted(set(found)) or ["several"]


def backend_of(formula: Formula) -> str:
    """The backend of a layer of 16 to 16 channels."""
    kernel = formula.field or (3, 3)
    has_filters = any("o" in o.axes for o in formula.parameters.values())
    geometry = Geometry.of(len(kernel), kernel, groups=1 if has_filters else 16)
    return choose(Problem(formula, geometry, 16, 16, "float32", "cpu")).backend


# --- formulas of what does not ship


def _hats(x: Any, w: Any) -> Any:
    """Piecewise linear between 5 values at -2, -1, 0, 1, 2."""
    return sum(w[i] * torch.relu(1 - torch.abs(x - (i - 2))) for i in range(5))


def _mitchell(x: Any, w: Any) -> Any:
    """A product by Mitchell's logarithms: exponents and mantissas are added."""

    def logarithm(v: Any) -> Any:
        size = torch.abs(v).clamp(min=1e-6)
        exponent = torch.floor(torch.log2(size))
        return exponent + size / torch.exp2(exponent) - 1

    total = logarithm(x) + logarithm(w)
    whole = torch.floor(total)
    return torch.sign(x) * torch.sign(w) * torch.exp2(whole) * (1 + total - whole)


def _approximate_sign(x: Any, tau: Any) -> Any:
    """The slope of Bi-Real's sign."""
    u = x - tau
    return torch.where(torch.abs(u) < 1, 2 - 2 * torch.abs(u), 0)


def _weighted_median(x: Any, w: Any) -> Any:
    costs = [sum(w[j] * torch.abs(x[i] - x[j]) for j in range(len(x)) if j != i) for i in range(len(x))]
    best, value = costs[0], x[0]
    for cost, candidate in zip(costs[1:], x[1:], strict=True):
        value = torch.where(cost < best, candidate, value)
        best = torch.minimum(cost, best)
    return value


def _choquet(x: Any, m: Any, pairs: Any) -> Any:
    """Of a 2-additive measure: weights of taps, and of the smaller of each pair."""
    found = sum(m[i] * x[i] for i in range(3))
    return found + sum(pairs[k] * torch.minimum(x[i], x[j]) for k, (i, j) in enumerate(((0, 1), (0, 2), (1, 2))))


def _attention(x: Any, k: Any, q: Any, r: Any) -> Any:
    return q[0] * k[0] + q[1] * k[1] + r, x


def _patches(x: Any, p: Any, middle: Any) -> Any:
    distance = sum((torch.square(p[i] - middle[i]) for i in range(9)), 0 * x)
    weight = torch.exp(-distance)
    return weight * x, weight


_RATIO = ("sum", "sum")
_SIGNED = Formula(
    lambda x, w, tau: torch.sign(x - tau) * torch.sign(w),
    operands={"tau": per_channel(init=0.0)},
    gradient={
        "x": lambda x, w, tau: _approximate_sign(x, tau) * torch.sign(w),
        "tau": lambda x, w, tau: -_approximate_sign(x, tau) * torch.sign(w),
        "w": lambda x, w, tau: torch.sign(x - tau) * ((torch.abs(w) < 1) + 0.0),
    },
)
_DECOUPLED = Formula(
    lambda x, w: (w * x, x * x, w * w), ("sum",) * 3,
    epilogue=lambda s, xx, ww: torch.tanh(torch.sqrt(xx + 1e-6)) * s * torch.rsqrt(xx * ww + 1e-6),
)  # fmt: skip
_ZNCC = Formula(
    lambda x, w: (w * x, x, w, x * x, w * w), ("mean",) * 5,
    epilogue=lambda wx, x, w, xx, ww: (wx - w * x) * torch.rsqrt((xx - x * x).clamp(min=1e-6) * (ww - w * w).clamp(min=1e-6)),
)  # fmt: skip
_LMORPH = Formula(
    lambda x, w, p: ((v := (x + w).clamp(min=1e-3)) ** (p + 1), v**p), _RATIO, epilogue=lambda a, b: a / b,
    operands={"p": per_filter(init=1.0)},
)  # fmt: skip
_GDN = Formula(
    lambda x, w: torch.abs(w) * x * x, epilogue=lambda s, own, beta: own * torch.rsqrt(beta * beta + s + 1e-3),
    operands={"own": per_site("no"), "beta": per_filter(init=1.0)},
)  # fmt: skip
_VECTOR_ATTENTION = Formula(
    lambda x, f, middle, scale: (scale * (middle - f), x), "softmax",
    operands={"f": guide(), "middle": center("f"), "scale": anyconv.shared(init=1.0)},
)  # fmt: skip
_DIFFERENCES = Formula(lambda x, w: sum(w[i] * (x[i] - x[(i + 1) % 8]) for i in range(8)), field=(3, 3))


def _shift_and_add(x: Tensor) -> Tensor:
    """A shift layer, then an adder layer."""
    y: Tensor = anyconv.recipes.adder.Conv2d(4, 4, 3)(anyconv.recipes.shift.Conv2d(2, 4, 3)(x))
    return y


def _binary_patterns(x: Tensor) -> Tensor:
    """Frozen weights, and an ordinary layer of one tap."""
    frozen = Formula(lambda x, w: x * w, operands={"w": per_tap(frozen=True)})
    y: Tensor = nn.Conv2d(8, 4, 1)(torch.relu(anyconv.Conv2d(2, 8, 3, frozen)(x)))
    return y


def _dendritic_neurons(x: Tensor) -> Tensor:
    """Three branches to each of four filters: products of sigmoids, a sum over branches, a sigmoid."""
    branch = Formula(lambda x, w, q: torch.sigmoid(5 * (w * x - q)), "prod")
    return torch.sigmoid(anyconv.Conv2d(2, 12, 3, branch)(x).unflatten(1, (4, 3)).sum(2))


def _gabor(x: Tensor) -> Tensor:
    """An ordinary convolution whose weights are computed of a few numbers."""
    at = torch.linspace(-1, 1, 3)
    waves = [torch.cos(3 * (math.cos(a) * at[:, None] + math.sin(a) * at)) for a in (0.0, 0.8, 1.6, 2.4)]
    return anyconv.conv2d(x, torch.stack(waves)[:, None].expand(4, 2, 3, 3).contiguous(), lambda x, w: x * w)


def _complex(x: Tensor) -> Tensor:
    """Channels are (real, imaginary); the weight is a rotation and a scale of them."""
    a, b = torch.randn(3, 1, 3, 3), torch.randn(3, 1, 3, 3)
    weight = torch.stack([torch.cat([a, -b], 1), torch.cat([b, a], 1)], 1).flatten(0, 1)
    return anyconv.conv2d(x, weight, lambda x, w: x * w)


def _diffusion(x: Tensor) -> Tensor:
    """A step of Perona and Malik."""
    step = Formula(lambda x, c: 0.1 * (x - c) * torch.exp(-torch.square(x - c)), operands={"c": center()})
    y: Tensor = x + anyconv.Pool2d(3, step, stride=1, padding=1)(x)
    return y


# --- the table, in the order of the survey behind it

CATALOGUE: tuple[Entry, ...] = (
    Entry("convolution", "", how=Formula(lambda x, w: w * x)),
    Entry("sum or product of tangents", "the question behind this library", ("tangent_product",)),
    Entry("AdderNet", "Chen et al. 2020", ("adder",)),
    Entry("EuclidNet, L2-Adder", "Li et al. 2022", ("euclidean",)),
    Entry("adder with a falling power", "Li et al. 2021", how=Formula(
        lambda x, w, p: -(torch.abs(x - w).clamp(min=1e-6) ** p), operands={"p": anyconv.shared(init=2.0, frozen=True)})),
    Entry("ShiftAddNet", "You et al. 2020", how=_shift_and_add, note="shift, then adder"),
    Entry("AddNet's operator", "Afrasiyabi et al. 2018", ("multiplication_free",)),
    Entry("Min-MF operator", "Pan, Badawi, Cetin", how=Formula(
        lambda x, w: torch.sign(x * w) * torch.minimum(torch.abs(x), torch.abs(w)))),
    Entry("ONN nodal operators", "Kiranyaz et al. 2020", ("operational",)),
    Entry("Self-ONN", "Kiranyaz et al. 2021", ("self_onn",)),
    Entry("Super-ONN", "Kiranyaz et al. 2021", note="each connection samples at a learned place; a tap's place is fixed by the geometry"),
    Entry("XNOR-Net, BNN", "Rastegari et al. 2016", ("xnor",)),
    Entry("Bi-Real, ReActNet", "Liu et al. 2018", how=_SIGNED),
    Entry("DeepShift", "Elhoushi et al. 2021", ("shift",)),
    Entry("approximate multipliers by table", "ApproxTrain 2022", note="a map has no table to look a pair of numbers up in"),
    Entry("KAN, B-splines", "Bodner et al. 2024", ("kan_spline",)),
    Entry("FastKAN", "Li 2024", ("kan_rbf",)),
    Entry("Chebyshev KAN", "SS et al. 2024", ("kan_chebyshev",)),
    Entry("Legendre, Gram, ReLU-KAN", "Drokin 2024", how=Formula(
        lambda x, c: (t := torch.tanh(x)) * c[0] + (1.5 * t * t - 0.5) * c[1] + (2.5 * t * t - 1.5) * t * c[2],
        operands={"c": per_tap(size=3)})),
    Entry("Wav-KAN", "Bozorgasl, Chen 2024", ("kan_wavelet",)),
    Entry("sinusoidal taps", "", ("sinusoidal",)),
    Entry("piecewise linear taps", "PWLU, APL", how=Formula(_hats, operands={"w": per_tap(size=5)})),
    Entry("an activation at each tap", "dendritic", ("dendrite",)),
    Entry("Mitchell's logarithmic product", "", how=Formula(
        _mitchell, gradient={"x": lambda x, w: w, "w": lambda x, w: x})),
    Entry("polynomial kervolution", "Wang et al. 2019", ("kervolution",)),
    Entry("Gaussian kervolution", "Wang et al. 2019", ("gaussian_kervolution",)),
    Entry("radial basis functions", "Broomhead, Lowe 1988", ("rbf",)),
    Entry("cosine normalization", "Luo et al. 2018", ("cosine",)),
    Entry("sharpened cosine similarity", "Wu et al. 2022", ("sharpened_cosine",)),
    Entry("decoupled convolution", "Liu et al. 2018", how=_DECOUPLED),
    Entry("normalized cross-correlation", "", how=_ZNCC),
    Entry("ProtoPNet", "Chen et al. 2019", ("prototype",)),
    Entry("quadratic neurons", "Fan et al. 2021", ("quadratic",)),
    Entry("Volterra convolution", "Zoumpourlis et al. 2017", note="pairs of taps in different channels; of one channel, `field=` sees all pairs"),
    Entry("PConv", "Masci et al. 2013", ("counter_harmonic",)),
    Entry("SMorph, LMorph", "Kirszenberg et al. 2021", ("smooth_morphology",), _LMORPH),
    Entry("SoftPool, generalized means", "Stergiou et al. 2021, Radenovic et al. 2019", ("soft_pool", "generalized_mean")),
    Entry("partial and normalized convolution", "Liu et al. 2018, Knutsson, Westin 1993", ("partial", "normalized")),
    Entry("quadrature energy", "Adelson, Bergen 1985", ("energy",)),
    Entry("divisive normalization (GDN)", "Balle et al. 2016", how=_GDN, note="the pixel itself is passed as an operand per site"),
    Entry("local variance", "", how=Formula(
        lambda x, w: (w * x * x, w * x), _RATIO, epilogue=lambda a, b: a - b * b)),
    Entry("MAM", "Prono et al. 2025", ("mam",)),
    Entry("bipolar morphological layer", "Limonova et al. 2020", ("bipolar_morphology",)),
    Entry("tropical distance", "Pasque et al. 2024", ("tropical_distance",)),
    Entry("hit-or-miss", "Islam et al. 2020", ("hit_or_miss",)),
    Entry("dilation", "Serra 1982", ("dilation",)),
    Entry("erosion", "Serra 1982", ("erosion",)),
    Entry("opening, closing, gradient, hats", "Serra 1982", (
        "opening", "closing", "morphological_gradient", "top_hat", "bottom_hat")),
    Entry("morphological layer, channels summed", "Mondal et al. 2019", ("morphological",)),
    Entry("max-plus, min-plus", "Ritter, Sussner 1996", ("max_plus", "min_plus")),
    Entry("parabolic structuring functions", "van den Boomgaard", how=Formula(
        lambda x, s, d: x - s * s * (d[0] * d[0] + d[1] * d[1]), "max", operands={"s": per_pair(init=0.5), "d": offsets(2)})),
    Entry("max-times", "Cuninghame-Green 1979", ("max_times",)),
    Entry("max-min", "fuzzy dilation", ("fuzzy",)),
    Entry("t-norm convolution", "De Baets 1997", ("fuzzy",)),
    Entry("l-infinity distance nets", "Zhang et al. 2021", ("lp_distance",)),
    Entry("dilation-erosion perceptron", "", how=Formula(
        lambda x, w, v: (x + w, x - v), ("max", "min"), epilogue=lambda a, b, lam: lam * a + (1 - lam) * b,
        operands={"lam": per_filter(init=0.5)})),
    Entry("pooling by the largest size", "", how=Formula(lambda x: (torch.abs(x), x), "argmax")),
    Entry("logarithmic semifield", "Bellaard et al. 2024", ("log_sum_exp",)),
    Entry("root semifield", "", how=Formula(lambda x, w: torch.abs(x * w), anyconv.norm(3.0))),
    Entry("l_p distance", "", ("lp_distance",)),
    Entry("power and log means", "", ("generalized_mean",)),
    Entry("Boltzmann operator", "", ("smooth_morphology",)),
    Entry("product of taps", "", ("tangent_product",)),
    Entry("product units", "Durbin, Rumelhart 1989", ("product_unit",)),
    Entry("neural multiplication unit", "Madsen, Johansen 2020", how=Formula(lambda x, w: w * x + 1 - w, "prod")),
    Entry("noisy-or", "Pearl 1988", ("noisy_or",)),
    Entry("dendritic neuron model", "Gao et al. 2018", how=_dendritic_neurons, note="a filter for each branch, then a sum"),
    Entry("soft and", "", how=Formula(lambda x, w: x.clamp(min=1e-3) ** torch.sigmoid(w), "prod")),
    Entry("logic gate networks", "Petersen et al. 2022", note="a tree of gates with wires of its own, not a reduction"),
    Entry("median, ranks", "Huang et al. 1979", ("median",)),
    Entry("ordinal pooling, ordered means", "", how=Formula(
        lambda x, w: sum(a * b for a, b in zip(anyconv.sort_network(x), w, strict=True)), field=(3, 3))),
    Entry("Choquet integral", "", how=Formula(
        _choquet, operands={"m": per_offset(), "pairs": per_filter(size=3)}, field=(1, 3)), note="of 2-additive measures"),
    Entry("Sugeno integral", "", note="looks a measure up by the set of taps above a level"),
    Entry("weighted median", "", how=Formula(_weighted_median, field=(1, 3))),
    Entry("bilateral filter", "Tomasi, Manduchi 1998", ("bilateral",)),
    Entry("pixel-adaptive convolution", "Su et al. 2019", ("pixel_adaptive",)),
    Entry("involution", "Li et al. 2021", ("involution",)),
    Entry("dynamic and locally connected filters", "Taigman et al. 2014", ("locally_connected",)),
    Entry("local binary patterns", "Ojala et al. 2002", ("local_binary_pattern",)),
    Entry("LBCNN", "Juefei-Xu et al. 2017", how=_binary_patterns, note="frozen weights, then 1 x 1"),
    Entry("central difference convolution", "Yu et al. 2020", ("central_difference",)),
    Entry("pixel difference convolution", "Su et al. 2021", how=_DIFFERENCES),
    Entry("local attention", "SASA, NATTEN", how=Formula(
        _attention, "softmax", operands={"k": guide(size=2), "q": per_site("n", size=2), "r": per_offset()})),
    Entry("vector self-attention", "Zhao et al. 2020", how=_VECTOR_ATTENTION),
    Entry("anisotropic diffusion", "Perona, Malik 1990", how=_diffusion, note="the pixel, plus a pooling"),
    Entry("deformable convolution", "Dai et al. 2017", note="where a tap looks depends on the data"),
    Entry("non-local means", "Buades et al. 2005", how=Formula(
        _patches, _RATIO, epilogue=lambda a, b: a / b, operands={"p": guide(size=9), "middle": center("p", size=9)}),
        note="patches are passed as a guide"),
    Entry("Gabor, DCT, steerable filters", "", how=_gabor, note="weights computed of a few numbers"),
    Entry("complex and quaternion convolution", "", how=_complex, note="weights arranged"),
)  # fmt: skip

EVERY = "its usual implementation in float64, values and gradients"
BESIDES = {  # beside EVERY
    **dict.fromkeys(
        ("dilation", "erosion", "opening", "closing", "top_hat", "bottom_hat", "morphological_gradient"),
        "scipy.ndimage",
    ),
    "median": "scipy.ndimage",
    "kan_spline": "scipy.interpolate",
    "kan_chebyshev": "numpy.polynomial",
    "generalized_mean": "scipy.stats, limits",
    "local_binary_pattern": "scikit-image, a limit",
    **dict.fromkeys(("log_sum_exp", "smooth_morphology", "lp_distance", "euclidean", "central_difference"), "limits"),
    "fuzzy": "the truth table",
    "kan_wavelet": "integrals",
    "involution": "F.unfold",
}


def table() -> str:
    """The page."""
    expressible = sum(entry.expressible for entry in CATALOGUE)
    shipped = sorted({name for entry in CATALOGUE for name in entry.recipes})
    rows = [
        "# The catalogue",
        "",
        f"{len(CATALOGUE)} published layers whose inner operation is not a product: {expressible} can be expressed, "
        f"{len(shipped)} recipes ship. Written by `python -m examples.catalogue`; do not edit.",
        "",
        f"Every recipe is verified against {EVERY} (`benchmarks/usual.py`); the column names what it was verified against "
        "besides. *on the CPU*: which backend computes it in float32; on other devices it is the same *native* "
        "or *reference*. *how* says `formula` where one formula does it, which a test computes.",
        "",
        "| | layer | source | how | verified besides against | on the CPU |",
        "|---|---|---|---|---|---|",
    ]
    for i, entry in enumerate(CATALOGUE, start=1):
        how = ", ".join(f"**`{name}`**" for name in entry.recipes)
        if not how and entry.how is not None:
            how = "formula" if isinstance(entry.how, Formula) else "layers"
        how = f"{how}: {entry.note}" if how and entry.note else how or f"no: {entry.note}"
        besides = ", ".join(dict.fromkeys(BESIDES[n] for n in entry.recipes if n in BESIDES))
        backends = ", ".join(entry.backends()) if entry.expressible else ""
        rows.append(f"| {i} | {entry.layer} | {entry.source} | {how} | {besides} | {backends} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    """Write the page."""
    OUTPUT.write_text(table())
    print(f"{OUTPUT.name}: {sum(e.expressible for e in CATALOGUE)} of {len(CATALOGUE)} expressible")


if __name__ == "__main__":
    main()
