"""The one place of Numba flags and of the compile cache.

No fastmath: results must be the same on every machine. Compiled code is cached in a folder whose name holds a
hash of all kernel sources and the versions that shape the machine code, so a stale cache can never be picked up;
where no folder can be written, kernels are compiled anew in each process.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import config


def _source_hash() -> str:
    digest = hashlib.sha256(f"{numba.__version__} {np.__version__} {sys.version_info[:3]}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _is_writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def _cache_folder() -> Path | None:
    """A folder for compiled kernels, or None where nothing can be written."""
    roots = [os.environ.get("PIMLOOM_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")]
    candidates = [Path(root) / "pimloom" for root in roots if root]
    candidates.append(Path.home() / ".cache" / "pimloom")
    for candidate in candidates:
        folder = candidate / f"kernels-{_source_hash()}"
        if _is_writable(folder):
            return folder
    return None


_FOLDER = _cache_folder()
if _FOLDER is not None:
    config.CACHE_DIR = str(_FOLDER)  # pyright: ignore[reportAttributeAccessIssue]


def jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a kernel: no Python objects, releases the GIL, NumPy's division, cached where possible.

    Kernels make no arrays: without Numba's own runtime (`_nrt`) it counts no references to arrays either, which took a quarter of
    the engine's time.
    """
    options: Any = {"nogil": True, "error_model": "numpy", "cache": _FOLDER is not None, "_nrt": False}
    return numba.njit(**options)(function)
