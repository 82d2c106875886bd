"""build: find a compiler, and let it make a library of a source.

The compiler is ``ANYCONV_CXX`` or ``CXX`` (with arguments, if you like), else the first that runs of g++, clang++, c++.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ...errors import AnyConvError
from ...store import LIBRARY
from .render import SKELETONS, Source

CANDIDATES = ("g++", "clang++", "c++")
# hidden, since a linker may take what two libraries call by one name for one thing, and each has a `Functor`;
# no flag here may change a value: not -ffast-math, whose infinities do not exist and whose start-up code changes the
# rounding of the whole process, and no contraction, by which one map would have two values in two kernels
FLAGS = (
    "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off", "-fno-math-errno",
    "-fno-trapping-math", "-w",
)  # fmt: skip
OPTIMIZATION = "-O2"  # the one flag that changes nothing but time: values are the same at -O0
TIMEOUT = 300.0


class BuildError(AnyConvError, RuntimeError):
    """There is no compiler, or it failed."""


@dataclass(frozen=True)
class Compiler:
    """A command that compiles C++, and what it calls itself."""

    command: tuple[str, ...]
    version: str


def compiler() -> Compiler:
    """The compiler to use.

    Raises:
        BuildError: none of those tried runs.
    """
    asked = os.environ.get("ANYCONV_CXX") or os.environ.get("CXX")
    return _find(tuple([asked] if asked else CANDIDATES), os.environ.get("PATH", ""))


@functools.lru_cache(maxsize=16)
def _find(candidates: tuple[str, ...], path: str) -> Compiler:
    for candidate in candidates:
        command = tuple(shlex.split(candidate))
        if not command or shutil.which(command[0], path=path) is None:
            continue
        try:
            done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            continue
        return Compiler(command, done.stdout.strip())
    raise BuildError(
        f"no C++ compiler runs; tried {', '.join(candidates)}",
        way_out="Install g++ or clang++, or name one in ANYCONV_CXX.",
    )


def flags() -> tuple[str, ...]:
    """The compiler's flags: for the processor that will run it."""
    return (*FLAGS, OPTIMIZATION, "-march=native")


def build(source: Source, folder: Path) -> None:
    """Compile into ``folder``: ``kernel.cpp``, ``kernel.so``, and ``build.txt`` with what was said and answered.

    Raises:
        BuildError: with the command and what the compiler said.
    """
    text, library = folder / "kernel.cpp", folder / LIBRARY
    text.write_text(source.text, encoding="utf-8")
    command = [*compiler().command, *flags(), f"-I{SKELETONS}", str(text), "-o", str(library), "-lm"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise BuildError(f"`{shlex.join(command)}` did not run: {error}") from error
    (folder / "build.txt").write_text(f"{shlex.join(command)}\n{done.stdout}{done.stderr}", encoding="utf-8")
    if done.returncode != 0:
        raise BuildError(f"`{shlex.join(command)}` failed:\n{done.stderr[-2000:]}")
