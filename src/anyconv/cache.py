"""Where built kernels lie on disk, how much there is, and how to be rid of it.

    >>> anyconv.cache.info().path == anyconv.cache.path()
    True

How entries are written is in `store.py`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from .store import entries, folder


@dataclass(frozen=True)
class Info:
    """The state of the cache."""

    path: Path
    entries: int
    bytes: int


def path() -> Path:
    """Where kernels lie: ``ANYCONV_CACHE_DIR``, or ``anyconv`` in the user's cache folder; it is made if need be.

    A folder that belongs to someone else, or that others could write to, is not used, since code is loaded from it: a
    warning says so, and kernels are kept in a folder of this process.
    """
    return folder()


def info() -> Info:
    """How much the cache holds."""
    here = folder()
    found = entries(here)
    return Info(here, len(found), sum(file.stat().st_size for entry in found for file in entry.iterdir()))


def clear() -> None:
    """Remove every entry; kernels that are loaded go on working."""
    for entry in entries(folder()):
        shutil.rmtree(entry, ignore_errors=True)
