"""The coefficients of `backends/cpp/skeletons/math.hpp`: polynomials near the minimax, fitted in 60 digits.

    python -m numerics.fit

Each line is one polynomial: the function, the interval, the error that the float32 coefficients leave, and
the coefficients, constant term first. Interpolation at Chebyshev nodes is within a small factor of the minimax.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import mpmath as mp
import numpy as np

mp.mp.dps = 60
Function = Callable[[mp.mpf], mp.mpf]


def fit(f: Function, low: float, high: float, powers: Sequence[int]) -> list[mp.mpf]:
    """Coefficients of ``x**p`` for each of ``powers`` that interpolate ``f`` at Chebyshev nodes of the interval."""
    count = len(powers)
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * count)) for i in range(count)]
    rows = mp.matrix([[node**p for p in powers] for node in nodes])
    return list(mp.lu_solve(rows, mp.matrix([f(node) for node in nodes])))


def error(f: Function, low: float, high: float, powers: Sequence[int], coefficients: Sequence[float]) -> float:
    """The largest error over the interval of coefficients as they are stored, relative to the largest value."""
    points = [low + (high - low) * mp.mpf(i) / 2000 for i in range(2001)]
    values = [sum(mp.mpf(float(c)) * x**p for c, p in zip(coefficients, powers, strict=True)) for x in points]
    return float(max(abs(v - f(x)) for v, x in zip(values, points, strict=True)) / max(abs(f(x)) for x in points))


def _ratio(f: Function, at_zero: float) -> Function:
    """``f(sqrt(z)) / sqrt(z)``: what an odd function is, as a function of ``z = x * x``."""
    return lambda z: f(mp.sqrt(z)) / mp.sqrt(z) if z > 0 else mp.mpf(at_zero)


def _odd(f: Function, third: mp.mpf) -> Function:
    """``(f(x) / x - 1) / x**2`` of an odd function with slope 1, as a function of ``z = x * x``."""
    return lambda z: (f(mp.sqrt(z)) / mp.sqrt(z) - 1) / z if z > 1e-12 else third


def _tail(f: Function, terms: Callable[[mp.mpf], mp.mpf], power: int, at_zero: mp.mpf) -> Function:
    """``(f(x) - terms(x)) / x**power``: what remains of a series after its first terms."""
    return lambda x: (f(x) - terms(x)) / x**power if abs(x) > mp.mpf(10) ** -12 else mp.mpf(at_zero)


LN2, QUARTER = mp.log(2), mp.pi / 4
THIRD = mp.mpf(1) / 3
POLYNOMIALS = {
    "exp: e^r = 1 + r + r^2 P(r)": (
        _tail(mp.exp, lambda r: 1 + r, 2, mp.mpf(1) / 2), -LN2 / 2, LN2 / 2, range(5),
    ),
    "exp2 in double: 2^r": (lambda r: mp.power(2, r), -0.5, 0.5, range(9)),
    "log: log(1 + f) = f - f^2/2 + f^3 P(f)": (
        _tail(lambda f: mp.log(1 + f), lambda f: f - f * f / 2, 3, THIRD), mp.sqrt(0.5) - 1, mp.sqrt(2) - 1, range(9),
    ),
    "log2 in double: s Q(s^2), s = (m - 1) / (m + 1)": (
        _ratio(lambda s: 2 * mp.atanh(s) / LN2, 2 / LN2), 0, (3 - 2 * mp.sqrt(2)) ** 2, range(6),
    ),
    "sin: x + x^3 P(x^2)": (_odd(mp.sin, -THIRD / 2), 0, QUARTER**2, range(4)),
    "cos: 1 - z/2 + z^2 P(z)": (
        lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2 if z > 1e-12 else mp.mpf(1) / 24, 0, QUARTER**2, range(4),
    ),
    "tan: x + x^3 P(x^2)": (_odd(mp.tan, THIRD), 0, QUARTER**2, range(7)),
    "atan: x + x^3 P(x^2)": (_odd(mp.atan, -THIRD), 0, 1, range(10)),
    "asin: x + x^3 P(x^2), up to 1/2": (_odd(mp.asin, THIRD / 2), 0, 0.25, range(6)),
    "tanh: x + x^3 P(x^2), up to 0.6": (_odd(mp.tanh, -THIRD), 0, 0.36, range(6)),
    "sinh: x + x^3 P(x^2), up to 1": (_odd(mp.sinh, THIRD / 2), 0, 1, range(4)),
    "erf: x + x P(x^2), up to 1": (
        lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1 if z > 0 else 2 / mp.sqrt(mp.pi) - 1, 0, 1, range(8),
    ),
    "erf: -log(1 - erf(x)) from 0.9 to 4": (lambda x: -mp.log(mp.erfc(x)), 0.9, 4.0, range(10)),
}  # fmt: skip


def main() -> None:
    """Print every polynomial."""
    for title, (f, low, high, powers) in POLYNOMIALS.items():
        exact = fit(f, low, high, list(powers))
        is_double = "double" in title
        stored = [float(c) if is_double else float(np.float32(float(c))) for c in exact]
        digits = 17 if is_double else 9
        print(f"{title}  on [{float(low):.6g}, {float(high):.6g}]: {error(f, low, high, list(powers), stored):.2e}")
        print("    " + ", ".join(f"{c:.{digits}g}" for c in stored))


if __name__ == "__main__":
    main()
