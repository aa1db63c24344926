"""Files that commands read and write.

A command's files are written beside their places and renamed together at its end, so that a command that fails leaves none.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from pimloom.cli.console import one_line
from pimloom.errors import UsageError

if TYPE_CHECKING:
    from pimloom.hardware import Hardware
    from pimloom.ir.graph import Graph


MOST_SAMPLES = 4096
MOST_INPUT_BYTES = 2**32


@final
@dataclass(frozen=True, slots=True)
class _Claim:
    """A file to be written.

    Attributes:
        place: where it goes, without symbolic links.
        given: the path as it was given.
        folder: a new folder in which it grows; on the same file system, so that it can be renamed.
    """

    place: Path
    given: str
    folder: Path

    @property
    def part(self) -> Path:
        """Where it is written until it is whole."""
        return self.folder / self.place.name

    def finish(self) -> None:
        """Puts it, and whatever was written beside it, into place."""
        if self.place.exists() and not self.place.is_file():  # a device or a pipe: a rename would take its place
            with self.part.open("rb") as part, self.place.open("wb") as device:
                shutil.copyfileobj(part, device)
            return
        beside = sorted(p for p in self.folder.iterdir() if p != self.part)
        for part in (*beside, self.part):
            part.replace(self.place.parent / part.name)


@final
@dataclass(slots=True)
class Outputs:
    """The files that a command writes: claimed before the work begins, put into place when all of them are whole.

    Attributes:
        sources: files that the command reads, by what they are; they are not written over.
        claims: by option.
    """

    sources: Mapping[str, str] = field(default_factory=dict[str, str])
    claims: dict[str, _Claim] = field(default_factory=dict[str, _Claim])

    def __enter__(self) -> Outputs:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                for claim in self.claims.values():
                    claim.finish()
        finally:
            for claim in self.claims.values():
                shutil.rmtree(claim.folder, ignore_errors=True)

    def claim(self, option: str, path: str | None) -> None:
        """Makes sure that a file can be written; does nothing for a path that is not given.

        Raises:
            UsageError: the folder is missing or cannot be written, or the path is a folder or in use.
        """
        if path is None:
            return
        try:
            place = Path(path).resolve()
            self._check(option, path, place)
            is_special = place.exists() and not place.is_file()
            parent = tempfile.gettempdir() if is_special else place.parent
            folder = Path(tempfile.mkdtemp(prefix=f".{place.name[:40]}.", suffix=".part", dir=parent))
        except (OSError, ValueError, RuntimeError) as fault:
            reason = getattr(fault, "strerror", None) or str(fault)
            raise UsageError(f"{option}: '{path}' cannot be written ({reason}); choose another path") from None
        self.claims[option] = _Claim(place, path, folder)

    def _check(self, option: str, path: str, place: Path) -> None:
        if not path or place.is_dir():
            raise UsageError(f"{option}: '{path}' is a folder, the name of a file is expected; add a name to it")
        if not place.parent.is_dir():
            raise UsageError(f"{option}: '{path}' cannot be written: there is no folder '{place.parent}'; create it")
        if place.exists() and not os.access(place, os.W_OK):
            raise UsageError(f"{option}: '{path}' is write-protected; choose another path")
        if len(os.fsencode(place.name)) > 255:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        for what, source in self.sources.items():
            if place == Path(source).resolve():
                raise UsageError(f"{option}: '{path}' is the {what} itself and would be lost; choose another path")
        for other, claim in self.claims.items():
            if claim.place == place:
                raise UsageError(f"{option}: '{path}' is given to {other} too; choose two paths")

    def write(self, option: str, writer: Callable[[Path], object]) -> None:
        """Lets a function write the file of an option, if that option was given."""
        if option in self.claims:
            writer(self.claims[option].part)

    def names(self) -> str:
        """Lines that tell what was written."""
        return "".join(f"{option.lstrip('-')}: {claim.given}\n" for option, claim in self.claims.items())


def write_arrays(arrays: Mapping[str, Any]) -> Callable[[Path], None]:
    """What writes arrays by name to a path."""
    import numpy as np

    def write(path: Path) -> None:
        with path.open("wb") as file:  # by handle: with a name, NumPy would append .npz
            np.savez_compressed(file, allow_pickle=False, **{_member(name): array for name, array in arrays.items()})

    return write


def _member(name: str) -> str:
    """A value's name as the name of an archive's member."""
    return f"{name}_" if name in ("file", "allow_pickle") else name  # arguments of NumPy's own have these names


def read_inputs(path: str, graph: Graph) -> list[dict[str, Any]]:
    """Real inputs from a file, one mapping per sample; every array has its input's shape, or one dimension before it.

    Raises:
        UsageError: the file is unreadable, or an array is missing, misshapen or not finite.
    """
    import tokenize
    import zipfile
    import zlib

    where = f"--input: file '{path}'"
    try:
        with zipfile.ZipFile(path) as archive:
            held = {name.removesuffix(".npy"): name for name in archive.namelist()}
            unknown = [name for name in held if name not in graph.inputs]
            missing = [name for name in graph.inputs if name not in held]
            if unknown or missing:
                found, wanted = ", ".join(held) or "nothing", ", ".join(graph.inputs) or "none"
                raise UsageError(f"{where}: arrays {found} found, arrays for the inputs {wanted} expected; name them so")
            arrays = {name: _read_input(archive, held[name], graph, name, where) for name in graph.inputs}
    except (OSError, EOFError, ValueError, RuntimeError, SyntaxError, tokenize.TokenError, zipfile.BadZipFile, zlib.error) as fault:
        reason = getattr(fault, "strerror", None) or one_line(str(fault))
        raise UsageError(f"{where}: it cannot be read ({reason}); write it with numpy.savez") from None
    counts = {name: len(array) for name, array in arrays.items()}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} for '{name}'" for name, count in counts.items())
        raise UsageError(f"{where}: different numbers of samples found: {found}; give as many for each input")
    n_samples = next(iter(counts.values()), 1)
    return [{name: array[i] for name, array in arrays.items()} for i in range(n_samples)]


def _read_input(archive: Any, member: str, graph: Graph, name: str, where: str) -> Any:
    """One array as [samples, *shape]; its header is checked before its numbers are read."""
    import numpy as np
    from numpy.lib import format as npy

    expected = graph.types[name]
    with archive.open(member) as file:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)
    shape, dtype = header[0], header[2]
    is_single = shape == expected.shape
    if not (is_single or (shape[1:] == expected.shape and shape[0] > 0)):
        raise UsageError(f"{where}: '{name}' has shape {list(shape)}, {list(expected.shape)} is expected; reshape it")
    if dtype.kind not in "biuf" or math.prod(shape) * dtype.itemsize > MOST_INPUT_BYTES:
        most = f"at most {MOST_INPUT_BYTES >> 30} GiB of numbers are expected"
        raise UsageError(f"{where}: '{name}' holds {math.prod(shape)} elements of {dtype}, {most}; convert it")
    with archive.open(member) as file:
        array = npy.read_array(file, allow_pickle=False)
    if not np.isfinite(array).all():
        raise UsageError(f"{where}: '{name}' holds NaN or infinity, finite numbers are expected; replace them")
    # an array in the type of the codes would be taken for codes: whatever a person gives is real
    array = array.astype(np.float32 if expected.quant is not None else expected.dtype)
    return array[None] if is_single else array


def parsed_shapes(texts: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes by name from `--shape` options."""
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition("=")
        if not name or not re.fullmatch(r"[0-9]{1,10}( ?[,x] ?[0-9]{1,10})*", sizes):
            raise UsageError(f"--shape: '{text}' found, name=sizes expected; write e.g. --shape x=1,3,224,224")
        if name in shapes:
            raise UsageError(f"--shape: '{name}' is given twice; give it once")
        shapes[name] = tuple(int(size) for size in re.split(r"[,x]", sizes))
    return shapes


def is_file(path: str) -> bool:
    """Whether something lies there; False for what cannot be a path."""
    with contextlib.suppress(OSError, ValueError):
        return Path(path).exists()
    return False


def load_machine(source: str, changes: Sequence[str], chips: int | None) -> Hardware:
    """The machine of a command, with its overrides."""
    from pimloom import api

    return api.hardware(source, [*changes, *([f"chips={chips}"] if chips is not None else [])])
