"""Programs as files: a `.npz` archive of plain arrays and a JSON header. Nothing in it is ever executed.

    header         UTF-8 JSON: format, version, names, mnemonics, memory maps, hardware (YAML), graph (text), notes
    rows.<field>   a column of the instruction table
    <table>        stream_ptr, partner, dep_*, pattern_*, groups.*
    constant.<i>   elements of `header.constants[i]`, a constant of which the graph's text holds the digest only
    matrix.<i>     weights of the i-th matrix, where they are no plain rearrangement of their constant

A file is read with suspicion: sizes are checked before anything is unpacked, every array has the type stated here,
constants have the digest that the graph's text states, and the program passes `verify_program`. Equal programs give
equal bytes.
"""

from __future__ import annotations

import json
import math
import os
import re
import secrets
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from pydantic import TypeAdapter, ValidationError

from pimloom.errors import HardwareError, PimloomError, ProgramError
from pimloom.hardware import Hardware, parse_hardware, to_yaml
from pimloom.hardware.document import parse_mapping
from pimloom.ir import (
    DTYPES,
    ArrayConstant,
    Constant,
    FileConstant,
    FillConstant,
    Graph,
    SeededConstant,
    parse_graph,
    print_graph,
    verify,
)
from pimloom.ir.text import PRINTED_ELEMENTS
from pimloom.program.isa import INSTRUCTIONS, OPCODES
from pimloom.program.program import Block, Groups, Matrix, Program, Region
from pimloom.program.rows import FIELDS, ROW, Array
from pimloom.program.text import plain_notes
from pimloom.program.verify import verify_program

FORMAT: Final = "pimloom program"
VERSION: Final = 1
MOST_BYTES: Final = 8 * 10**9
"""What a file may unpack to, and what its constants may take in memory."""

_GROUP_FIELDS: Final = tuple(Groups.__dataclass_fields__)
_TABLES: Final[Mapping[str, str]] = {
    **{f"rows.{name}": ROW[name].str for name in FIELDS},
    "stream_ptr": "<i8", "partner": "<i4", "dep_ptr": "<i4", "dep_row": "<i4", "dep_distance": "<i4",
    "pattern_ptr": "<i4", "pattern_offset": "<i4", "pattern_length": "<i4",
    **{f"groups.{name}": "<i4" for name in _GROUP_FIELDS},
}  # fmt: skip
"""Array name to dtype; all have one dimension."""

_BROKEN: Final = (PimloomError, ArithmeticError, LookupError, RecursionError, TypeError, ValueError)
"""What the parsers of graph and hardware may raise on text that no pimloom wrote."""

_UNREADABLE: Final = (OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged archive raises; RuntimeError is an encrypted member, NotImplementedError an unknown method."""

_MAGIC_BYTES: Final = 10
_ARRAY_HEADER: Final = re.compile(
    rb"\{'descr': '([<|][biuf][1248])', 'fortran_order': False, 'shape': \(((?:\d{1,15}(?:, ?|(?=\))))*)\), \} *\n"
)
"""What stands before the elements: dtype and shape. NumPy's own reader evaluates it as a Python literal."""

_DISTRUST: Final = "do not trust this file"
_SAVE_AGAIN: Final = "save the program again"


@final
@dataclass(frozen=True, slots=True)
class StoredMatrix:
    """How a matrix is stored.

    Attributes:
        name: the constant it comes from.
        form: "array" (in the file), "codes" (the constant's codes as they are) or "kernels" (see `_arranged`).
        start: first output channel of "kernels".
        stop: one past the last.
    """

    name: str
    form: str
    start: int = 0
    stop: int = 0


@final
@dataclass(frozen=True, slots=True)
class Header:
    """The JSON header.

    Attributes:
        format: `FORMAT`.
        version: `VERSION`.
        name: of the program; so are target, mode, samples, regions, blocks and notes.
        target: see `Program`.
        mode: see `Program`.
        samples: see `Program`.
        opcodes: mnemonics by the numbers in `rows.opcode`; a later pimloom may number them otherwise.
        hardware: YAML of the machine, complete.
        graph: text of the graph.
        constants: names of those whose elements are arrays of the file.
        matrices: how each matrix is stored.
        regions: see `Program`.
        blocks: see `Program`.
        notes: see `Program`.
    """

    format: str
    version: int
    name: str
    target: str
    mode: str
    samples: int
    opcodes: tuple[str, ...]
    hardware: str
    graph: str
    constants: tuple[str, ...]
    matrices: tuple[StoredMatrix, ...]
    regions: tuple[Region, ...]
    blocks: tuple[Block, ...]
    notes: dict[str, Any]


_HEADER: Final = TypeAdapter(Header)


# -- saving ---------------------------------------------------------------------------------------------------------


def save_program(program: Program, path: str | Path) -> None:
    """Writes a program to a file, which holds all that simulating and executing it need.

    The file appears whole or not at all; a file of the same name is replaced.

    Args:
        program: the program.
        path: the file; `.npz` is the customary ending.

    Raises:
        ProgramError: the file cannot be written, or the program holds something that has no place in a file.
    """
    path = Path(path)
    if path.is_dir():
        raise ProgramError(f"{path}: found a folder, expected the name of a file; add one, such as 'program.npz'")
    arrays = _arrays(program, path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        try:
            _write(part, arrays)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        expected = "expected a folder that can be written to; check the path"
        raise ProgramError(f"{path}: cannot be written ({error.strerror}), {expected}") from error


def _write(path: Path, arrays: Mapping[str, Array]) -> None:
    """Writes a `.npz`; members have no date, so that equal programs give equal bytes."""
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)


def _arrays(program: Program, path: Path) -> dict[str, Array]:
    """The members of the file."""
    graph = _self_contained(program.graph)
    held = tuple(name for name, constant in graph.constants.items() if _is_held(constant))
    matrices = _stored_matrices(program, graph)
    header = Header(
        FORMAT, VERSION, program.name, program.target, program.mode, program.samples,
        tuple(row.name for row in INSTRUCTIONS), to_yaml(program.hardware), print_graph(graph), held, matrices,
        program.regions, program.blocks, plain_notes(program.notes, f"{path}: notes"),
    )  # fmt: skip
    text = json.dumps(asdict(header), separators=(",", ":"))
    arrays = {"header": np.frombuffer(text.encode(), np.uint8)}
    for name, dtype in _TABLES.items():
        arrays[name] = _fitting(_table(program, name), dtype, f"{path}: {name}")
    for i, name in enumerate(held):
        arrays[f"constant.{i}"] = np.ascontiguousarray(graph.constants[name].array())
    for i, (stored, matrix) in enumerate(zip(matrices, program.matrices, strict=True)):
        if stored.form == "array":
            arrays[f"matrix.{i}"] = np.ascontiguousarray(matrix.codes)
    return arrays


def _table(program: Program, name: str) -> Array:
    owner, _, field = name.partition(".")
    if owner == "rows":
        return program.rows[field]
    return getattr(program.groups, field) if owner == "groups" else getattr(program, name)


def _fitting(array: Array, dtype: str, where: str) -> Array:
    """The array in the file's type; ProgramError if that changes a number."""
    fitted = np.ascontiguousarray(array, dtype)
    if not np.array_equal(fitted, array):
        expected = f"numbers that fit {np.dtype(dtype)} expected; compile the network again"
        raise ProgramError(f"{where}: numbers up to {np.abs(array).max()} found, {expected}")
    return fitted


def _self_contained(graph: Graph) -> Graph:
    """The graph with every constant as a recipe or an array: no other file, no other constant."""
    constants = {
        name: c if isinstance(c, SeededConstant | FillConstant) else ArrayConstant(np.asarray(c.array()), c.type)
        for name, c in graph.constants.items()
    }
    return replace(graph, constants=constants)


def _is_held(constant: Constant) -> bool:
    """Whether the graph's text holds no more than the digest of a constant."""
    return isinstance(constant, ArrayConstant) and constant.type.size > PRINTED_ELEMENTS


def _stored_matrices(program: Program, graph: Graph) -> tuple[StoredMatrix, ...]:
    """How to store each matrix; one that is a rearrangement of its constant is not stored twice."""
    stored: list[StoredMatrix] = []
    reached: dict[str, int] = {}  # output channels of each constant that earlier matrices took
    for matrix in program.matrices:
        name, start = matrix.name, reached.get(matrix.name, 0)
        stop = reached[name] = start + matrix.codes.shape[1]
        constant = graph.constants.get(name)
        options = (StoredMatrix(name, "codes"), StoredMatrix(name, "kernels", start, stop))
        fitting = (o for o in options if constant is not None and _is_same(_arranged(constant, o), matrix.codes))
        stored.append(next(fitting, StoredMatrix(name, "array")))
    return tuple(stored)


def _is_same(found: Array | None, codes: Array) -> bool:
    return found is not None and found.dtype == codes.dtype and np.array_equal(found, codes)


def _arranged(constant: Constant, stored: StoredMatrix) -> Array | None:
    """Centred codes of a constant as a matrix; None if it has no such form.

    "kernels" are the output channels [start, stop) of weights[output, input, *kernel], one a column, with the rows in
    (kernel place, input channel) order.
    """
    shape = constant.type.shape
    if stored.form == "codes" and len(shape) != 2:
        return None
    if stored.form == "kernels" and (len(shape) < 3 or not 0 <= stored.start < stored.stop <= shape[0]):
        return None
    codes = constant.array()
    if stored.form == "kernels":
        codes = np.moveaxis(codes[stored.start : stored.stop], (0, 1), (-1, -2))
        codes = np.ascontiguousarray(codes).reshape(-1, stored.stop - stored.start)
    zero = constant.type.quant.zero_point if constant.type.quant else 0
    return codes if zero == 0 else codes.astype(np.int32) - zero


# -- loading --------------------------------------------------------------------------------------------------------


def load_program(path: str | Path) -> Program:
    """Reads a program from a file of `save_program`.

    Args:
        path: the file.

    Returns:
        A program equal in content to the one that was saved, verified.

    Raises:
        ProgramError: there is no such file, or it is damaged, of another kind or version, too large, or holds a program
            that cannot be carried out.
    """
    path = Path(path)
    with _opened(path) as archive:
        reader = _Reader(path, archive)
        header = _header(reader)
        hardware, graph = _machine(path, header), _graph(reader, header)
        tables = {name: reader.array(name, dtype) for name, dtype in _TABLES.items()}
        matrices = tuple(_matrix(reader, graph, stored, i) for i, stored in enumerate(header.matrices))
        reader.check_all_read()
    try:
        program = _program(header, hardware, graph, tables, matrices)
        verify_program(program)
    except PimloomError as error:
        raise ProgramError(f"{path}: {error}") from None
    return program


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever is wrong with the file becomes a ProgramError."""
    if path.is_dir():
        raise ProgramError(f"{path}: found a folder, expected a program file; name a file in it")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except FileNotFoundError:
        raise ProgramError(f"{path}: file not found, expected a program file; check the path") from None
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ProgramError(f"{path}: cannot be read ({reason}), expected a whole program file; {_SAVE_AGAIN}") from None


@final
class _Reader:
    """Reads members of an archive, each of the type that the caller expects and no larger than it says."""

    def __init__(self, path: Path, archive: zipfile.ZipFile) -> None:
        self.path, self._archive = path, archive
        infos = archive.infolist()
        self._members = {info.filename.removesuffix(".npy"): info for info in infos}
        self._read: set[str] = set()
        total_bytes = sum(info.file_size for info in infos)
        if "header" not in self._members:
            raise self.fault("an archive without header", "a program file", "give a file that pimloom saved")
        if total_bytes > MOST_BYTES:
            raise self.fault(f"{total_bytes} bytes when unpacked", f"at most {MOST_BYTES}", _DISTRUST)
        if len(self._members) != len(infos):
            raise self.fault("two arrays of one name", "one", _DISTRUST)
        if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in infos):
            raise self.fault("an unusual compression", "'deflate'")

    def fault(self, found: str, expected: str, advice: str = _SAVE_AGAIN) -> ProgramError:
        return ProgramError(f"{self.path}: {found} found, {expected} expected; {advice}")

    def array(self, name: str, dtype: str = "") -> Array:
        """Reads an array: of one dimension and the given type, or any that a constant may have."""
        if name not in self._members:
            raise self.fault(f"no array '{name}'", "one")
        self._read.add(name)
        info = self._members[name]
        with self._archive.open(info) as file:
            shape, found = self._array_header(name, file)
            is_fit = len(shape) == 1 and found == np.dtype(dtype) if dtype else str(found) in DTYPES and found.isnative
            if not is_fit:
                expected = f"{np.dtype(dtype)} of one dimension" if dtype else "plain numbers"
                raise self.fault(f"'{name}' of {found}{list(shape)}", expected)
            size_bytes = math.prod(shape) * found.itemsize
            if file.tell() + size_bytes != info.file_size:
                found_bytes = info.file_size - file.tell()
                raise self.fault(f"'{name}' of {found_bytes} bytes", f"{size_bytes} for {found}{list(shape)}")
            data = file.read()
        if len(data) != size_bytes:
            raise self.fault(f"{len(data)} bytes in '{name}'", f"{size_bytes}")
        return np.frombuffer(data, found).reshape(shape)

    def _array_header(self, name: str, file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Reads what NumPy writes before the elements of plain numbers in row order; anything else is refused."""
        start = file.read(_MAGIC_BYTES)
        length = int.from_bytes(start[-2:], "little")
        is_array = len(start) == _MAGIC_BYTES and start.startswith(b"\x93NUMPY\x01\x00")
        match = _ARRAY_HEADER.fullmatch(file.read(length)) if is_array else None
        if match is None:
            raise self.fault(f"'{name}' that is no plain array", "an array of numbers as pimloom writes it")
        kind, sizes = match[1].decode(), [int(size) for size in match[2].split(b",") if size.strip()]
        return tuple(sizes), np.dtype(kind)

    def check_all_read(self) -> None:
        extra = set(self._members) - self._read
        if extra:
            raise self.fault(f"an array '{min(extra)}' that belongs to no program", "none")


def _header(reader: _Reader) -> Header:
    text = reader.array("header", "|u1").tobytes()
    try:
        start = json.loads(text)
    except (ValueError, RecursionError):
        raise reader.fault("a header that is no JSON", "JSON", "give a file that pimloom saved") from None
    if not isinstance(start, dict) or start.get("format") != FORMAT:
        raise reader.fault("another format", f"'{FORMAT}'", "give a file that pimloom saved")
    version = start.get("version")
    if version != VERSION:
        shown = version if isinstance(version, int) and abs(version) < 10**6 else "unknown"
        advice = "read it with the pimloom that wrote it, or compile the network again"
        raise reader.fault(f"version {shown}", f"version {VERSION}", advice)
    try:
        return _HEADER.validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise reader.fault(f"a header whose '{place}' is wrong ({first['msg']})", "a whole one") from None


def _machine(path: Path, header: Header) -> Hardware:
    place = f"{path}: hardware"
    try:
        is_complete = "inherits" not in parse_mapping(header.hardware, place)
        if is_complete:
            return parse_hardware(header.hardware, place)
    except HardwareError as error:
        raise ProgramError(f"{error}; {_SAVE_AGAIN}") from None
    except _BROKEN as error:
        raise ProgramError(f"{place}: {error}; {_SAVE_AGAIN}") from None
    raise ProgramError(f"{place}: 'inherits' found, a complete machine expected; {_DISTRUST}")


def _graph(reader: _Reader, header: Header) -> Graph:
    data = {name: reader.array(f"constant.{i}") for i, name in enumerate(header.constants)}
    try:
        graph = parse_graph(header.graph, data)
        verify(graph)
    except _BROKEN as error:
        raise ProgramError(f"{reader.path}: graph: {error}; {_SAVE_AGAIN}") from None
    for name, constant in graph.constants.items():
        if isinstance(constant, FileConstant):
            raise reader.fault(f"constant '{name}' in another file", "all constants in this one", _DISTRUST)
        if isinstance(constant, SeededConstant) and constant.seed < 0:
            raise reader.fault(f"constant '{name}' of seed {constant.seed}", "a seed of 0 or more", _DISTRUST)
    total_bytes = sum(constant.type.size_bytes for constant in graph.constants.values())
    if total_bytes > MOST_BYTES:
        raise reader.fault(f"constants of {total_bytes} bytes", f"at most {MOST_BYTES}", _DISTRUST)
    return graph


def _matrix(reader: _Reader, graph: Graph, stored: StoredMatrix, index: int) -> Matrix:
    if stored.form == "array":
        return Matrix(stored.name, reader.array(f"matrix.{index}"))
    constant = graph.constants.get(stored.name)
    codes = _arranged(constant, stored) if constant is not None and stored.form in ("codes", "kernels") else None
    if codes is None:
        raise reader.fault(f"matrix {index} as '{stored.form}' of '{stored.name}'", "a form that this constant has")
    return Matrix(stored.name, codes)


def _program(
    header: Header, hardware: Hardware, graph: Graph, tables: Mapping[str, Array], matrices: tuple[Matrix, ...],
) -> Program:  # fmt: skip
    sizes = {tables[f"rows.{name}"].size for name in FIELDS}
    if len(sizes) != 1:
        raise ProgramError(f"columns of {sorted(sizes)} rows found, equal ones expected; {_SAVE_AGAIN}")
    rows = np.zeros(sizes.pop(), ROW)
    for name in FIELDS:
        rows[name] = tables[f"rows.{name}"]
    rows["opcode"] = _renumbered(rows["opcode"], header.opcodes)
    groups = Groups(**{name: tables[f"groups.{name}"] for name in _GROUP_FIELDS})
    direct = {name: array for name, array in tables.items() if "." not in name}
    return Program(
        name=header.name, target=header.target, mode=header.mode, samples=header.samples, hardware=hardware,
        graph=graph, rows=rows, **direct, groups=groups, matrices=matrices, regions=header.regions,
        blocks=header.blocks, notes=header.notes,
    )  # fmt: skip


def _renumbered(opcodes: Array, mnemonics: tuple[str, ...]) -> Array:
    """Opcodes of this pimloom for those of the one that wrote the file."""
    number = np.zeros(256, np.uint8)
    for code in np.unique(opcodes).tolist():
        name = mnemonics[code] if code < len(mnemonics) else f"opcode {code}"
        if name not in OPCODES:
            known = ", ".join(OPCODES)
            raise ProgramError(
                f"instruction '{name[:40]}' found, one of {known} expected; use the pimloom that wrote it"
            )
        number[code] = OPCODES[name]
    return number[opcodes]


__all__ = ["FORMAT", "MOST_BYTES", "VERSION", "load_program", "save_program"]
