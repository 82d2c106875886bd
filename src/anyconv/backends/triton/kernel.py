"""Kernel: files of Triton that are written to the cache and imported from there.

So the text that is compiled is one that can be read, shown in a traceback and found again. Triton keeps what it
compiles in a cache of its own.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from ... import store
from ...errors import BackendError
from .render import Source

TEXT = "kernel.py"


@functools.lru_cache(maxsize=4096)
def load(source: Source) -> Any:
    """The kernel of a source, to be launched as ``kernel[grid](...)``.

    Raises:
        BackendError: the file cannot be kept or imported.
    """

    def build(folder: Path) -> None:
        (folder / TEXT).write_text(source.text, encoding="utf-8")

    try:
        name = store.key(source.text)
        path = store.fetch(name, build, TEXT)
        module = _imported(f"anyconv_kernel_{name}", path)
    except OSError as error:
        raise BackendError(f"the kernel of {source.formula} cannot be kept or loaded: {error}") from error
    if os.environ.get("ANYCONV_VERBOSE", "0") not in ("", "0"):
        print(f"anyconv: {source.title}: {path}", file=sys.stderr)
    return getattr(module, source.kernel)


def _imported(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # Triton looks its functions' globals up there
    spec.loader.exec_module(module)
    return module
