"""Writing of report files: whole or not at all, and plain JSON values."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from pimloom.errors import UsageError
from pimloom.result import Result


def write_whole(path: str | Path, content: bytes) -> Path:
    """Writes a file beside its place and renames it, so that a reader never sees half of it.

    Args:
        path: where the file goes; an existing file is replaced.
        content: all of it.

    Returns:
        The path.

    Raises:
        UsageError: the folder does not exist, or the file cannot be written.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise UsageError(f"report: cannot write '{target}': there is no folder '{target.parent}'; create it or choose another path")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        part.replace(target)
    except OSError as fault:
        reason = fault.strerror or type(fault).__name__
        raise UsageError(f"report: cannot write '{target}': {reason}; choose a path that can be written") from None
    finally:
        part.unlink(missing_ok=True)
    return target


def write_json(result: Result, path: str | Path) -> Path:
    """Writes the JSON form of a result (`Result.to_dict`); a number that is not finite becomes null.

    Raises:
        UsageError: the file cannot be written.
    """
    return write_whole(path, (json.dumps(plain(result.to_dict()), indent=2, allow_nan=False) + "\n").encode())


def plain(value: object) -> Any:
    """The value made of what JSON has: numbers that are not finite become None, NumPy values plain, the rest text."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in cast("Mapping[object, object]", value).items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(cast("np.ndarray[Any, np.dtype[Any]]", value).tolist())
    if isinstance(value, str | bool | int) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Iterable):
        return [plain(item) for item in cast("Iterable[object]", value)]
    return str(value)
