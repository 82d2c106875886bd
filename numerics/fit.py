"""The coefficients of `backends/cpp/skeletons/math.hpp`: polynomials near the minimax, fitted in 60 digits.

    python -m numerics.fit

Each line is one polynomial: the function, the interval, the error that the stored coefficients leave, and the
coefficients, constant term first. They are rounded one at a time, and those that follow are fitted anew each time,
so that they make up for what rounding did (Brisebarre and Chevillard, Efficient polynomial L-infinity approximations,
2007, ask for the best such set; this greedy one is near it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import numpy as np

mp.mp.dps = 60
Function = Callable[[mp.mpf], mp.mpf]
NODES = 60  # of the least squares; Chebyshev's spacing makes their largest error nearly as small as it can be


@dataclass(frozen=True)
class Polynomial:
    """``f`` from ``low`` to ``high`` by ``count`` coefficients.

    Args:
        weight: ``x ** weight`` is what the error at ``x`` is multiplied with where the polynomial is used.
        single: coefficients are float32.
    """

    f: Function
    low: float
    high: float
    count: int
    weight: int = 0
    single: bool = True

    def fit(self) -> list[float]:
        """The coefficients, each as it is stored."""
        center, half = mp.mpf(self.low + self.high) / 2, mp.mpf(self.high - self.low) / 2
        nodes = [center + half * mp.cos(mp.pi * (2 * i + 1) / (2 * NODES)) for i in range(NODES)]
        weights = [abs(x) ** self.weight for x in nodes]
        rest = [self.f(x) for x in nodes]
        stored: list[float] = []
        for first in range(self.count):
            powers = range(first, self.count)
            rows = mp.matrix([[w * x**p for p in powers] for w, x in zip(weights, nodes, strict=True)])
            wanted = mp.matrix([w * r for w, r in zip(weights, rest, strict=True)])
            best = float(mp.lu_solve(rows, wanted)[0])
            stored.append(float(np.float32(best)) if self.single else best)
            rest = [r - mp.mpf(stored[-1]) * x**first for r, x in zip(rest, nodes, strict=True)]
        return stored

    def error(self, stored: list[float]) -> float:
        """The largest weighted error."""
        points = [self.low + (self.high - self.low) * mp.mpf(i) / 2000 for i in range(2001)]
        values = [sum(mp.mpf(c) * x**p for p, c in enumerate(stored)) for x in points]
        return float(max(abs(v - self.f(x)) * abs(x) ** self.weight for v, x in zip(values, points, strict=True)))


def _ratio(f: Function, at_zero: float) -> Function:
    """``f(sqrt(z)) / sqrt(z)``: what an odd function is, as a function of ``z = x * x``."""
    return lambda z: f(mp.sqrt(z)) / mp.sqrt(z) if z > 0 else mp.mpf(at_zero)


def _odd(f: Function, third: mp.mpf) -> Function:
    """``(f(x) / x - 1) / x**2`` of an odd function with slope 1, as a function of ``z = x * x``."""
    return lambda z: (f(mp.sqrt(z)) / mp.sqrt(z) - 1) / z if z > 1e-12 else third


def _tail(f: Function, terms: Callable[[mp.mpf], mp.mpf], power: int, at_zero: mp.mpf) -> Function:
    """``(f(x) - terms(x)) / x**power``: what remains of a series after its first terms."""
    return lambda x: (f(x) - terms(x)) / x**power if abs(x) > mp.mpf(10) ** -12 else mp.mpf(at_zero)


LN2, QUARTER = mp.log(2), mp.pi / 4 * mp.mpf("1.004")  # arguments are reduced by rounded quotients
HALF = mp.pi / 2 * mp.mpf("1.003")
THIRD = mp.mpf(1) / 3
POLYNOMIALS = {
    "exp: e^r = 1 + r + r^2 P(r)": Polynomial(
        _tail(mp.exp, lambda r: 1 + r, 2, mp.mpf(1) / 2), -LN2 / 2, LN2 / 2, 5, weight=2,
    ),
    "log2 in double: s Q(s^2), s = (m - 1) / (m + 1)": Polynomial(
        _ratio(lambda s: 2 * mp.atanh(s) / LN2, 2 / LN2), 0, (3 - 2 * mp.sqrt(2)) ** 2, 6, single=False,
    ),
    "log: log(1 + f) = f - f^2/2 + f^3 P(f)": Polynomial(
        _tail(lambda f: mp.log(1 + f), lambda f: f - f * f / 2, 3, THIRD),
        mp.sqrt(0.5) - 1, mp.sqrt(2) - 1, 8, weight=2,
    ),
    "sin: x + x^3 P(x^2), up to pi/2": Polynomial(_odd(mp.sin, -THIRD / 2), 0, HALF**2, 4, weight=1),
    "tan: x + x^3 P(x^2), up to pi/4": Polynomial(_odd(mp.tan, THIRD), 0, QUARTER**2, 7, weight=1),
    "atan: x + x^3 P(x^2)": Polynomial(_odd(mp.atan, -THIRD), 0, 1, 8, weight=1),
    "asin: x + x^3 P(x^2), up to 1/2": Polynomial(_odd(mp.asin, THIRD / 2), 0, 0.25, 5, weight=1),
    "tanh: x + x^3 P(x^2), up to log(2) / 4": Polynomial(_odd(mp.tanh, -THIRD), 0, (LN2 / 4) ** 2, 3, weight=1),
    "sinh: x + x^3 P(x^2), up to 1": Polynomial(_odd(mp.sinh, THIRD / 2), 0, 1, 4, weight=1),
    "erf: x + x P(x^2), up to 1": Polynomial(
        lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1 if z > 0 else 2 / mp.sqrt(mp.pi) - 1, 0, 1, 7,
    ),
    "erf: -log(1 - erf(x)) from 0.9 to 4": Polynomial(lambda x: -mp.log(mp.erfc(x)), 0.9, 4.0, 10),
}  # fmt: skip


def main() -> None:
    """Print every polynomial."""
    for title, polynomial in POLYNOMIALS.items():
        stored = polynomial.fit()
        low, high, digits = float(polynomial.low), float(polynomial.high), 9 if polynomial.single else 17
        print(f"{title}  on [{low:.6g}, {high:.6g}]: {polynomial.error(stored):.2e}")
        print("    " + ", ".join(f"{c:.{digits}g}" for c in stored))


if __name__ == "__main__":
    main()
