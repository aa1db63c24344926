"""How a row of a Program holds an instruction of pimsim-nn, and what its cost formulas read of it.

dst, src1, src2   values of rd, rs1, rs2; src2 is the value of `wait` and `lldi`; the upper half of src1 is the offset
length            elements or bytes: `len`, or `size` of what has that
arg               array group of the program (mvmul), other core, event register of `wait`
dst_step          low word of a global address; `size` of `lmv`, which its conflict check reads
src1_step         place in the core's list, scalar instructions counted
src2_step         input bits, output bits, weight bits, selection, event register of `sync`: 7, 7, 7, 3 and 5 bits
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.kernels import surroundings as kernel
from pimloom.program.isa import OPCODES
from pimloom.program.pimsim.opcodes import BY_CODE, CODE, Unit
from pimloom.program.pimsim.table import COLUMNS, PimsimProgram
from pimloom.program.program import Program
from pimloom.program.rows import ROW, Array

SWITCHES: Final = 1
"""Switch of core k is k + 1, that of the global memory 0."""

NOTES: Final = "pimsim"
"""Under this name a program notes what is of whole cores: `lengths` of their lists, and which `cores` have one."""

_SHIFTS: Final = {"input_bits": 0, "output_bits": 7, "weight_bits": 14, "selection": 21, "event": 24}
_MASKS: Final = {"input_bits": 127, "output_bits": 127, "weight_bits": 127, "selection": 7, "event": 31}
_HIGH: Final = 32

OPCODE_OF: Final[Array] = np.array([OPCODES.get(f"pimsim.{BY_CODE[c].name}", 0) if c in BY_CODE else 0 for c in range(33)], np.uint8)
"""uint8[33]: opcode of a Program's row by number of the mnemonic."""

CODE_OF: Final[Array] = np.zeros(256, np.int8)
"""int8[256]: number of the mnemonic by opcode."""
for _name, _code in CODE.items():
    if f"pimsim.{_name}" in OPCODES:
        CODE_OF[OPCODES[f"pimsim.{_name}"]] = _code

_SIZED: Final = np.array([c in BY_CODE and BY_CODE[c].name in ("ld", "st", "send", "recv") for c in range(33)])
_VALUED: Final = np.array([c in BY_CODE and BY_CODE[c].name in ("wait", "lldi") for c in range(33)])
_IS_MATRIX: Final = np.array([c in BY_CODE and BY_CODE[c].unit == Unit.MATRIX for c in range(33)])


def encode(table: PimsimProgram) -> Array:
    """ROW[n] of a table; array groups are numbered over all cores."""
    code = table.opcode
    rows = np.zeros(table.n_instructions, ROW)
    rows["opcode"], rows["processor"] = OPCODE_OF[code], table.core()
    rows["node"], rows["pattern"], rows["count"] = -1, -1, 1
    rows["dst"] = table.rd
    rows["src1"] = (table.rs1.astype(np.int64) & 0xFFFFFFFF) | (table.offset.astype(np.int64) << _HIGH)
    rows["src2"] = np.where(_VALUED[code], table.value, table.rs2)
    rows["length"] = np.where(_SIZED[code], table.size, table.length)
    group = table.group_ptr[rows["processor"]] + table.group
    rows["arg"] = np.select([_IS_MATRIX[code], code == CODE["wait"]], [group, table.event], table.peer)
    rows["dst_step"] = np.where(code == CODE["lmv"], table.size, table.low)
    rows["src1_step"] = table.position
    packed = np.zeros(table.n_instructions, np.int64)
    for name, shift in _SHIFTS.items():
        packed |= (getattr(table, name).astype(np.int64) & _MASKS[name]) << shift
    rows["src2_step"] = packed
    return rows


def decode(rows: Array, group_ptr: Array) -> dict[str, Array]:
    """Columns of a table from rows; fields that an instruction does not use are 0, or -1."""
    code = CODE_OF[rows["opcode"]]
    nothing = np.zeros(rows.size, np.int64)
    is_matrix, is_copy, is_wait, is_sync = (
        _IS_MATRIX[code], code == CODE["lmv"], code == CODE["wait"], code == CODE["sync"],
    )  # fmt: skip
    has_peer = np.isin(code, [CODE[name] for name in ("send", "recv", "sync")])
    found: dict[str, Any] = {name: rows["src2_step"] >> shift & _MASKS[name] for name, shift in _SHIFTS.items()}
    found["event"] = np.select([is_wait, is_sync], [rows["arg"], found["event"]], -1)
    return found | {
        "opcode": code, "position": rows["src1_step"], "rd": rows["dst"],
        "rs1": (rows["src1"] & 0xFFFFFFFF ^ 0x80000000) - 0x80000000, "offset": rows["src1"] >> _HIGH,
        "rs2": np.where(_VALUED[code], nothing, rows["src2"]), "value": np.where(_VALUED[code], rows["src2"], nothing),
        "low": np.where(is_copy, nothing, rows["dst_step"]),
        "length": np.where(_SIZED[code], nothing, rows["length"]),
        "size": np.where(_SIZED[code], rows["length"], np.where(is_copy, rows["dst_step"], nothing)),
        "group": np.where(is_matrix, rows["arg"] - group_ptr[rows["processor"]], -1),
        "peer": np.where(has_peer, rows["arg"], -1),
    }  # fmt: skip


def to_table(program: Program) -> PimsimProgram:
    """The table of a program made by `convert.to_program`."""
    cores = program.n_processors
    group_ptr = np.concatenate(([0], np.cumsum(np.bincount(program.groups.processor, minlength=cores)))).astype(np.int64)
    found = decode(program.rows, group_ptr)
    columns: dict[str, Any] = {name: found[name].astype(dtype) for name, dtype in COLUMNS.items()}
    present = np.zeros(cores, bool)
    present[noted_cores(program)] = True
    lengths = list_lengths(program).astype(np.int32)
    return PimsimProgram(program.name, program.stream_ptr.copy(), lengths, present, group_ptr, program.groups.crossbars.copy(), **columns)


def bits_of(rows: Array, name: str) -> Array:
    """int32[k]: one of the narrow fields of rows."""
    return rows["src2_step"] >> _SHIFTS[name] & _MASKS[name]


def element_bytes(rows: Array) -> tuple[Array, Array]:
    """int64[k] twice: bytes of an input and of an output element."""
    found = [(bits_of(rows, name).astype(np.int64) + 7) // 8 for name in ("input_bits", "output_bits")]
    return found[0], found[1]


def surroundings(program: Program) -> Array:
    """int64[n]: what costs of a row depend on beside its fields, for `Surroundings`.

    Whether it is the first, and the last, of its list, scalar instructions between it and the row before, and elements or bytes of
    the other end of its message.
    """
    rows, found = program.rows, np.empty(program.n_rows, np.int64)
    most = kernel.pack(program.stream_ptr, rows["src1_step"], rows["length"], program.partner, found)
    if most > kernel.MOST_GAP:
        expected = f"at most {kernel.MOST_GAP} expected"
        raise ProgramError(f"program '{program.name}': {most} scalar instructions in a row found, {expected}")
    return found


@final
@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is around rows.

    Attributes:
        slots_before: int64[k], issue slots that pass before a row beside its own.
        fetched_before: int64[k], instructions fetched with a row: scalar ones before it, and after the last one of a list.
        other_length: int64[k], elements or bytes of the other end of its message.
    """

    slots_before: Array
    fetched_before: Array
    other_length: Array

    @staticmethod
    def of(packed: Array, trailing: Array, *, repeats: bool) -> Surroundings:
        """Takes apart what `surroundings` put together.

        Args:
            packed: int64[k], of some rows.
            trailing: int64[k], scalar instructions at the end of their lists.
            repeats: whether lists begin again, without a gap; a first instruction is fetched and decoded.
        """
        scalars = packed >> kernel.GAP & kernel.MOST_GAP
        slots = scalars + np.where(packed >> kernel.FIRST & 1, trailing if repeats else 2, 0)
        return Surroundings(slots, scalars + np.where(packed >> kernel.LAST & 1, trailing, 0), packed >> kernel.OTHER_LENGTH)


def trailing_scalars(program: Program) -> Array:
    """int64[P]: scalar instructions at the end of each core's list."""
    used = np.flatnonzero(np.diff(program.stream_ptr))
    trailing = np.zeros(program.n_processors, np.int64)
    trailing[used] = list_lengths(program)[used] - program.rows["src1_step"][program.stream_ptr[used + 1] - 1] - 1
    return trailing


def scalars_before(program: Program, rows: Array) -> Array:
    """int64[k]: scalar instructions between some rows and those before them on their cores."""
    return surroundings(program)[rows] >> kernel.GAP & kernel.MOST_GAP


def has_messages(program: Program) -> Array:
    """bool[P]: whether a core sends or receives."""
    used = np.flatnonzero(np.diff(program.stream_ptr))
    found = np.zeros(program.n_processors, bool)
    if used.size:
        found[used] = np.logical_or.reduceat(program.partner >= 0, program.stream_ptr[used])
    return found


def list_lengths(program: Program) -> Array:
    """int64[P]: instructions of each core's list, scalar ones included.

    Raises:
        ProgramError: the program has no such note.
    """
    return _note(program, "lengths", program.n_processors)


def noted_cores(program: Program) -> Array:
    """int64[k]: the cores that have a list, empty ones included; the others take no power."""
    return _note(program, "cores", -1)


def _note(program: Program, key: str, size: int) -> Array:
    notes: Any = program.notes.get(NOTES, {})
    found: Any = notes.get(key) if isinstance(notes, Mapping) else None
    if not isinstance(found, Sequence) or not all(isinstance(v, int) for v in found) or (size >= 0 and len(found) != size):
        raise ProgramError(f"program '{program.name}': no note '{NOTES}.{key}' with a number per core found; import it again")
    return np.array(found, np.int64)
