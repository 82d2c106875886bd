"""Every float32 there is, through every elementary function of the kernels, against float64.

    python -m numerics.ulp                 # all 2^32 arguments of each function; an hour on two cores
    python -m numerics.ulp --stride 4099   # a sample, in seconds
    python -m numerics.ulp tan sigmoid     # some functions

The error is in units in the last place (ULP) of the exact value, which torch computes in float64. Infinities, NaN and
the sign of zeros must be exact, and are counted where they are not. Writes its rows into `numerics/results/ulp.md`.
"""

from __future__ import annotations

import argparse
import ctypes
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from anyconv.backends.cpp.build import TIMEOUT, command_for, compiler, run

RESULTS = Path(__file__).parent / "results" / "ulp.md"
CHUNK = 2**18  # stays in the caches
ALLOWED = 2.0

NAMES = """
    exp exp2 expm1 log log2 log10 log1p sin cos tan asin acos atan sinh cosh tanh sigmoid erf sqrt rsqrt reciprocal
    round floor ceil trunc asinh acosh atanh erfc erfinv
"""
ONE: dict[str, Callable[[Tensor], Tensor]] = {name: getattr(torch, name) for name in NAMES.split()}
TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"pow": torch.pow, "atan2": torch.atan2, "hypot": torch.hypot}


@dataclass
class Worst:
    """The largest error of a function, where it was, and what was wrong that has no size."""

    name: str
    error: float = 0.0
    at: tuple[float, ...] = ()
    special: int = 0
    tried: int = 0

    def see(self, arguments: tuple[Tensor, ...], got: Tensor, want: Tensor) -> None:
        """Compare some values with those in float64."""
        self.tried += got.numel()
        single = want.float()
        ordinary = single.isfinite()
        same = (got == single) | (got.isnan() & single.isnan())
        signs = got.isnan() | (got.signbit() == want.signbit())
        self.special += int((~ordinary & ~same).sum() + ((want == 0) & ~signs).sum())
        binade = (single.view(torch.int32) & 0x7F800000).clamp(min=0x00800000).view(torch.float32)
        error = (got.double() - want).abs_().div_(binade).mul_(2.0**23)
        error = torch.where(ordinary, error.nan_to_num_(nan=torch.inf, posinf=torch.inf), 0.0)
        value, index = error.max(0)
        if value.item() > self.error:
            self.error, self.at = value.item(), tuple(a[index].item() for a in arguments)

    @property
    def is_good(self) -> bool:
        """Within the promise."""
        return self.error <= ALLOWED and self.special == 0

    def row(self) -> str:
        """A line of the table."""
        where = ", ".join(f"{a:.9g}" for a in self.at)
        return f"| `{self.name}` | {self.error:.3f} | {where} | {self.special} | {self.tried:,} |"


LOOP = """
extern "C" ENTRY void {name}_all(float* p, const float* q, long n) {{
    for (long i = 0; i < n; i += lanes_of<f32v>) store<f32v>(p + i, {name}({arguments}));
}}"""


def library(folder: str) -> ctypes.CDLL:
    """The functions, each over an array in place, compiled as the kernels are."""
    first, second = "load<f32v>(p + i)", "load<f32v>(q + i)"
    loops = [LOOP.format(name=name, arguments=first) for name in ONE]
    loops += [LOOP.format(name=name, arguments=f"{first}, {second}") for name in TWO]
    text, made = Path(folder) / "functions.cpp", Path(folder) / "functions.so"
    text.write_text("\n".join(['#include "ops.hpp"', "using namespace anyconv;", *loops]))
    run(command_for(text, made), TIMEOUT).check_returncode()
    return ctypes.CDLL(str(made))


def apply(functions: ctypes.CDLL, name: str, x: Tensor, y: Tensor) -> Tensor:
    """A function of the library; the number of values is a multiple of every vector's lanes."""
    got = x.clone()
    pointers = (ctypes.c_void_p(got.data_ptr()), ctypes.c_void_p(y.data_ptr()))
    getattr(functions, f"{name}_all")(*pointers, ctypes.c_long(len(got)))
    return got


def floats(start: int, stride: int, count: int) -> Tensor:
    """The floats whose bits, as whole numbers, are ``start``, ``start + stride``, ..."""
    numbers = torch.arange(start, min(start + count * stride, 2**32), stride, dtype=torch.int64)
    return torch.where(numbers >= 2**31, numbers - 2**32, numbers).to(torch.int32).view(torch.float32)


def one(functions: ctypes.CDLL, name: str, stride: int) -> Worst:
    """A function of one argument, at every ``stride``-th float."""
    worst = Worst(name)
    for start in tqdm(range(0, 2**32, CHUNK * stride), desc=name, leave=False):
        x = floats(start, stride, CHUNK)
        padded = torch.cat([x, x.new_zeros(-len(x) % 16)])
        worst.see((x,), apply(functions, name, padded, padded)[: len(x)], ONE[name](x.double()))
    return worst


def two(functions: ctypes.CDLL, name: str, count: int) -> Worst:
    """A function of two arguments: random bits, random numbers of moderate size, and all pairs of special ones."""
    worst = Worst(name)
    generator = torch.Generator().manual_seed(0)
    special = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 1e-45, -1e-45, 1e38, torch.inf,
                            -torch.inf, torch.nan])  # fmt: skip
    pairs = torch.cartesian_prod(special, special).T
    for i in tqdm(range(-1, -(-count // CHUNK)), desc=name, leave=False):
        if i < 0:
            x, y = pairs.contiguous()
        elif i % 2:
            x, y = (_any_bits(generator) for _ in range(2))
        else:
            x, y = torch.randn(CHUNK, generator=generator).abs() * 10, torch.randn(CHUNK, generator=generator) * 10
        worst.see((x, y), apply(functions, name, x, y), TWO[name](x.double(), y.double()))
    return worst


def _any_bits(generator: torch.Generator) -> Tensor:
    bits = torch.randint(-(2**31), 2**31, (CHUNK,), generator=generator, dtype=torch.int64)
    return bits.to(torch.int32).view(torch.float32)


def measure(names: list[str], stride: int, done: Callable[[Worst], None] = lambda worst: None) -> list[Worst]:
    """The worst of each function; ``done`` is told of each when it is found."""
    with tempfile.TemporaryDirectory() as folder:
        functions = library(folder)
        found = []
        for name in names:
            found.append(one(functions, name, stride) if name in ONE else two(functions, name, 2**32 // stride // 8))
            tqdm.write(found[-1].row())
            done(found[-1])
        return found


def write(worst: Worst) -> None:
    """Put the row of a function into the table, in place of an older one."""
    rows = {}
    if RESULTS.exists():
        rows = {line.split("`")[1]: line for line in RESULTS.read_text().splitlines() if line.startswith("| `")}
    rows[worst.name] = worst.row()
    head = f"""\
# Largest errors of the float32 functions

`python -m numerics.ulp`, {date.today()}, {platform.machine()}, {compiler().version.splitlines()[0]}.
The exact values are torch's ({torch.__version__}) in float64. Functions of one argument: every float32. Functions of
two: random bits, random numbers of moderate size, and all pairs of special values.

| function | largest error, ULP | at | wrong infinities, NaN, zeros | arguments tried |
|---|---|---|---|---|
"""
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(head + "\n".join(rows[name] for name in (*ONE, *TWO) if name in rows) + "\n")


def main() -> None:
    """Measure, print, and write the rows for which every argument was tried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="name", help="functions; all by default")
    parser.add_argument("--stride", type=int, default=1, help="try every n-th float only; nothing is written then")
    options = parser.parse_args()
    if unknown := set(options.names) - set(ONE) - set(TWO):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join((*ONE, *TWO))}")
    done = write if options.stride == 1 else lambda worst: None
    found = measure(options.names or [*ONE, *TWO], options.stride, done)
    if bad := [worst.name for worst in found if not worst.is_good]:
        raise SystemExit(f"beyond {ALLOWED} ULP, or wrong at special values: {', '.join(bad)}")


if __name__ == "__main__":
    main()
