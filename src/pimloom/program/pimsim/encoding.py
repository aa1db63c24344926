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
from pimloom.program.isa import OPCODES
from pimloom.program.pimsim.opcodes import BY_CODE, CODE, Unit
from pimloom.program.pimsim.table import PimsimProgram
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


@final
@dataclass(frozen=True, slots=True)
class Columns:
    """What cost formulas read of a program's rows.

    Attributes:
        core: int64[n].
        length: int64[n], elements or bytes.
        group: int64[n], array group of the program.
        peer: int64[n], other core.
        input_bits: int64[n], width of inputs in force.
        output_bits: int64[n], width of outputs.
        weight_bits: int64[n].
        scalars_before: int64[n], scalar instructions between a row and the one before it.
        slots_before: int64[n], issue slots that pass before a row beside its own.
        fetched_before: int64[n], instructions fetched with a row: scalar ones before it, and after the last one of a list.
        has_messages: bool[P], whether a core sends or receives.
    """

    core: Array
    length: Array
    group: Array
    peer: Array
    input_bits: Array
    output_bits: Array
    weight_bits: Array
    scalars_before: Array
    slots_before: Array
    fetched_before: Array
    has_messages: Array

    def element_bytes(self, at: Array) -> tuple[Array, Array]:
        """int64[k] twice: bytes of an input and of an output element."""
        return (self.input_bits[at] + 7) // 8, (self.output_bits[at] + 7) // 8


def columns_of(program: Program) -> Columns:
    """Works out what the formulas read."""
    rows = program.rows
    core = np.repeat(np.arange(program.n_processors), np.diff(program.stream_ptr))
    packed, arg = (np.ascontiguousarray(rows[name]) for name in ("src2_step", "arg"))
    used = np.flatnonzero(np.diff(program.stream_ptr))
    first, last = program.stream_ptr[used], program.stream_ptr[used + 1] - 1
    position = rows["src1_step"].astype(np.int64)
    scalars = np.diff(position, prepend=-1) - 1
    scalars[first] = position[first]
    trailing = list_lengths(program)[used] - position[last] - 1
    slots, fetched = scalars.copy(), scalars.copy()
    fetched[last] += trailing
    # A list that is repeated begins again without a gap; a first one is fetched and decoded.
    slots[first] += trailing if program.mode == "throughput" else 2
    bits = {name: packed >> _SHIFTS[name] & _MASKS[name] for name in ("input_bits", "output_bits", "weight_bits")}
    has_messages = np.zeros(program.n_processors, bool)
    has_messages[core[program.partner >= 0]] = True
    return Columns(
        core, rows["length"].astype(np.int64), arg, arg, scalars_before=scalars, slots_before=slots, fetched_before=fetched,
        has_messages=has_messages, **bits,
    )  # fmt: skip


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
