"""Entries of the cache: found again in a second process, safe among many.

>>> fetch(key("text", "flags"), build)
PosixPath('.../kernel.so')

An entry is a folder named by the hash of everything it depends on, with the source, the library and what the compiler
said. It appears by one rename, complete; a checksum beside the library tells when it was damaged later, and a damaged
entry is built anew. Code is loaded from here, so the folder has to be private.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

LIBRARY, CHECKSUM, LOCKS = "kernel.so", "kernel.sha256", "locks"
PATIENCE = 120.0  # seconds to wait for another process that builds the same; then it is built privately


def key(*parts: str) -> str:
    """The name of an entry: a hash of texts, each with its length, so that no two lists of texts read alike."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(f"{len(data)}:".encode() + data)
    return digest.hexdigest()[:40]


def fetch(name: str, build: Callable[[Path], None], product: str = LIBRARY) -> Path:
    """The product of an entry, built by ``build(folder)`` if there is none, or only a damaged one.

    ``build`` writes a file of the name ``product`` and whatever else should be kept into the folder it is given.

    Raises:
        whatever ``build`` raises; nothing is kept then.
    """
    place = folder()
    entry = place / name
    if _is_whole(entry, product):
        return entry / product
    with _lock(place, name) as alone:
        if _is_whole(entry, product):
            return entry / product
        fresh = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=place if alone else _private()))
        try:
            build(fresh)
            (fresh / CHECKSUM).write_text(_checksum(fresh / product))
            return _publish(fresh, entry, product) if alone else fresh / product
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise


def _publish(fresh: Path, entry: Path, product: str) -> Path:
    """Let ``fresh`` become ``entry``; whoever is there already, whole, was first."""
    if entry.exists() and not _is_whole(entry, product):
        aside = fresh.with_name(fresh.name + "-damaged")
        os.replace(entry, aside)
        shutil.rmtree(aside, ignore_errors=True)
    try:
        os.replace(fresh, entry)
    except OSError:
        if not _is_whole(entry, product):
            raise
        shutil.rmtree(fresh, ignore_errors=True)
    return entry / product


def _is_whole(entry: Path, product: str = LIBRARY) -> bool:
    try:
        return (entry / CHECKSUM).read_text() == _checksum(entry / product)
    except OSError:
        return False


def _checksum(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextlib.contextmanager
def _lock(folder: Path, name: str) -> Iterator[bool]:
    """Hold the entry's lock, which dies with its process. False when patience ran out, or where locks do not work."""
    try:
        import fcntl  # noqa: PLC0415 - not on every system
    except ImportError:
        yield True  # the last rename wins, and all are equal
        return
    (folder / LOCKS).mkdir(mode=0o700, exist_ok=True)
    with open(folder / LOCKS / name, "w", encoding="utf-8") as file:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(0.02)
            except OSError:
                yield False
                return
            else:
                yield True
                return


def folder() -> Path:
    """The folder of all entries, which can be trusted and written to."""
    named = os.environ.get("ANYCONV_CACHE_DIR")
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return _usable(Path(named) if named else Path(base) / "anyconv")


def entries(place: Path) -> list[Path]:
    """The folders of a folder that are entries."""
    return [e for e in place.iterdir() if e.is_dir() and (e / CHECKSUM).exists()]


def _usable(place: Path) -> Path:
    """``place`` if it can be trusted and written to, else a private one of this process, with a warning."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = place.stat()
    except OSError as error:
        return _instead(str(place), f"cannot be made ({error.strerror})")
    if hasattr(os, "getuid") and found.st_uid != os.getuid():
        return _instead(str(place), "belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return _instead(str(place), "can be written to by others")
    if not os.access(place, os.W_OK | os.X_OK):
        return _instead(str(place), "cannot be written to")
    return place


@functools.cache
def _instead(folder: str, why: str) -> Path:
    warnings.warn(
        f"the cache folder {folder} {why}; kernels are kept for this process only. "
        f"Set ANYCONV_CACHE_DIR to a folder of your own.",
        stacklevel=2,
    )
    return _private()


@functools.cache
def _private() -> Path:
    """A folder of this process, removed with it."""
    folder = Path(tempfile.mkdtemp(prefix="anyconv-"))
    owner = os.getpid()  # a forked child must not remove what its parent uses
    atexit.register(lambda: shutil.rmtree(folder, ignore_errors=True) if os.getpid() == owner else None)
    return folder
