"""build: find a compiler, and let it make a library of a source.

The compiler is ``ANYCONV_CXX`` or ``CXX`` (with arguments, if you like), else the first that runs of these:
``g++``, which most machines have; ``ziglang``, the package that ``pip install anyconv[compiler]`` brings, whose clang
the tests use; ``clang++`` of any version; ``c++``. Measured over twelve formulas, neither g++ 12 nor clang 22 is
faster as a whole, and both give the same bits (``benchmarks/results/compilers.json``).
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import AnyConvError
from ...store import LIBRARY
from .render import SKELETONS, Source

CANDIDATES = ("g++", "ziglang", "clang++", "c++")  # ziglang is a package of Python; the others are looked for in PATH
# hidden, since a linker may take what two libraries call by one name for one thing, and each has a `Functor`;
# no flag here may change a value: not -ffast-math, whose infinities do not exist and whose start-up code changes the
# rounding of the whole process, and no contraction, by which one map would have two values in two kernels
FLAGS = (
    "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
    "-fno-trapping-math", "-fno-exceptions", "-w",
)  # fmt: skip
OPTIMIZATION = "-O2"  # the one flag that changes nothing but time: values are the same at -O0
# evaluations side by side, as Clang orders them: one alone waits for each of its results
FOR_COSTLY_BY_GCC = ("-fschedule-insns", "-fsched-pressure")
TIMEOUT = 300.0


class BuildError(AnyConvError, RuntimeError):
    """There is no compiler, or it failed."""


@dataclass(frozen=True)
class Compiler:
    """A command that compiles C++.

    Args:
        command: starts the compiler; the arguments follow.
        version: what the compiler calls itself.
        own: arguments that other compilers do not take; they link the C library and its mathematics, and nothing else.
        costly: arguments for maps of many instructions. They slow down those of few, where loads decide.
    """

    command: tuple[str, ...]
    version: str
    own: tuple[str, ...] = ("-lm",)
    costly: tuple[str, ...] = ()

    def arguments(self, *, costly: bool) -> tuple[str, ...]:
        """Return all arguments for a text.

        Args:
            costly: its map takes many instructions.
        """
        return (*flags(), *self.costly * costly, *self.own)


def compiler() -> Compiler:
    """Find the compiler to use.

    Raises:
        BuildError: none of those tried runs.
    """
    named = next((name for name in ("ANYCONV_CXX", "CXX") if os.environ.get(name)), None)
    candidates = (os.environ[named],) if named else CANDIDATES
    for candidate in candidates:
        if found := find(candidate, os.environ.get("PATH", "")):
            return found
    if named:
        raise BuildError(
            f"the C++ compiler that {named} names does not run: {os.environ[named]}",
            way_out=f"Correct {named}, or unset it: then {', '.join(CANDIDATES)} are tried.",
        )
    raise BuildError(
        f"no C++ compiler runs; tried {', '.join(candidates)}",
        way_out="Run `pip install anyconv[compiler]`, which brings one, or name yours in ANYCONV_CXX.",
    )


@functools.lru_cache(maxsize=32)
def find(candidate: str, path: str) -> Compiler | None:
    """Return the compiler of a name, if it runs.

    Args:
        candidate: one of ``CANDIDATES``, or a command with arguments.
        path: the folders in which commands are looked for, as in ``PATH``.
    """
    try:
        command = _ziglang() if candidate == "ziglang" else tuple(shlex.split(candidate))
    except ValueError:  # a quotation without its end
        return None
    if not command or shutil.which(command[0], path=path) is None:
        return None
    try:
        done = run([*command, "--version"], timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    if done.returncode != 0:
        return None
    version = done.stdout.strip()
    if is_zig(command):
        return Compiler(command, version, _for_zig())
    return Compiler(command, version, costly=FOR_COSTLY_BY_GCC if "Free Software Foundation" in version else ())


def _ziglang() -> tuple[str, ...]:
    """Return the command of the package ``ziglang``, found without an import; or nothing."""
    spec = importlib.util.find_spec("ziglang")
    places = spec.submodule_search_locations if spec else None
    return tuple(part for place in places or () for part in (str(Path(place) / "zig"), "c++"))


def is_zig(command: tuple[str, ...]) -> bool:
    """Return whether a command starts zig, as a program or as a module of Python."""
    return any(Path(word).stem in ("zig", "ziglang") for word in command)


@functools.cache
def _for_zig() -> tuple[str, ...]:
    """Return what zig needs to be told: by itself it compiles a C++ library first, which takes a minute.

    It is given the files of the C library that this process has loaded. So no header, no library for developers and no
    guess at a version is needed, and kernels call the functions that torch calls.
    """
    quick = ("-g0", "-fomit-frame-pointer", "-fno-sanitize=undefined")
    try:
        mapped = {line.split(maxsplit=5)[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    except OSError:
        mapped = set()  # no Linux: zig has a C library for every other system
    named = (file for file in mapped if Path(file).name.startswith(("libc.so", "libm.so")))
    loaded = sorted(file for file in named if Path(file).exists())  # an upgrade may have removed it since
    return (*quick, "-nostdlib", *loaded) if loaded else (*quick, "-nostdlib++", "-lm")


def run(command: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a compiler. Zig keeps two caches, of no use for single files: both are removed."""
    with tempfile.TemporaryDirectory(prefix="anyconv-") as folder:
        env = os.environ | {"ZIG_GLOBAL_CACHE_DIR": folder, "ZIG_LOCAL_CACHE_DIR": folder}
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=env)


def flags() -> tuple[str, ...]:
    """The compiler's flags: for the processor that will run it."""
    return (*FLAGS, OPTIMIZATION, "-march=native")


def command_for(text: Path, library: Path, *, costly: bool = False) -> list[str]:
    """Return the command that makes a library of a text.

    Raises:
        BuildError: there is no compiler.
    """
    made = compiler()
    return [*made.command, f"-I{SKELETONS}", str(text), "-o", str(library), *made.arguments(costly=costly)]


def build(source: Source, folder: Path) -> None:
    """Compile into ``folder``: ``kernel.cpp``, ``kernel.so``, and ``build.txt`` with what was said and answered.

    Raises:
        BuildError: with the command and what the compiler said.
    """
    text, library = folder / "kernel.cpp", folder / LIBRARY
    text.write_text(source.text, encoding="utf-8")
    command = command_for(text, library, costly=source.costly)
    try:
        done = run(command, TIMEOUT)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"`{shlex.join(command)}` did not run: {error}") from error
    (folder / "build.txt").write_text(f"{shlex.join(command)}\n{done.stdout}{done.stderr}", encoding="utf-8")
    if done.returncode != 0:
        raise BuildError(f"`{shlex.join(command)}` failed:\n{done.stderr[-2000:]}")
