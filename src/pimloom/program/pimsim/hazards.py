"""Address conflicts as explicit dependencies: what pimsim-nn's reorder buffer finds out while it runs.

An instruction may not be dispatched while an unfinished one before it reads what it writes, or writes what it reads.
Registers are resolved, so all ranges are known beforehand; and since slots of the buffer are freed in order, only the
last `rob_size` - 1 instructions can be unfinished. What is compared is not always what is read and written: the rules
that are oversights have their switch in `Quirks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from pimloom.hardware.pimsim import Quirks
from pimloom.program.pimsim.architecture import Architecture
from pimloom.program.pimsim.opcodes import BY_CODE, CODE, Unit, codes
from pimloom.program.pimsim.table import PimsimProgram
from pimloom.program.rows import Array

NOTHING: Final = -1
"""Bytes of a range that is not there. A range of no bytes is a point, and points can conflict."""

_OUTPUT_WIDE: Final = np.array([c in BY_CODE and BY_CODE[c].writes_output_width for c in range(33)])
_SOURCES: Final = np.array([BY_CODE[c].sources if c in BY_CODE else 0 for c in range(33)], np.int8)
_IS_VECTOR: Final = np.array([c in BY_CODE and BY_CODE[c].unit == Unit.VECTOR for c in range(33)])


@final
@dataclass(frozen=True, slots=True)
class Ranges:
    """A range of local memory for each instruction.

    Attributes:
        start: int64[n], first byte.
        bytes: int64[n], length, `NOTHING` where the instruction has no such range.
    """

    start: Array
    bytes: Array


@final
@dataclass(frozen=True, slots=True)
class Dependencies:
    """Conflicts in CSR form.

    Attributes:
        ptr: int64[n + 1]. Instruction i waits for rows row[ptr[i]:ptr[i + 1]], nearest first.
        row: int32[m], the instruction waited for, on the same core.
        distance: int32[m], runs of the core's list back; 0 is the same run.
    """

    ptr: Array
    row: Array
    distance: Array


def element_bytes(program: PimsimProgram) -> tuple[Array, Array]:
    """int64[n] twice: bytes of an input and of an output element."""
    return -(-program.input_bits.astype(np.int64) // 8), -(-program.output_bits.astype(np.int64) // 8)


def output_elements(program: PimsimProgram, architecture: Architecture) -> Array:
    """int64[n]: elements that an `mvmul` writes: all columns of all crossbars of its group; 0 for others."""
    matrix = architecture.matrix
    weights = matrix.columns * matrix.cell_bits // np.maximum(program.weight_bits.astype(np.int64), 1)
    return np.where(program.opcode == CODE["mvmul"], weights * program.crossbars(), 0)


def offsets(program: PimsimProgram, quirks: Quirks) -> tuple[Array, Array, Array]:
    """int64[n] for rd, rs1 and rs2: bytes that the offset field adds."""
    wide_in, wide_out = element_bytes(program)
    is_vector = _IS_VECTOR[program.opcode]
    value = program.offset.astype(np.int64)
    # Offsets of vector instructions count elements, of transfers bytes.
    unit = np.where(is_vector, wide_in, 1)
    unit_out = np.where(is_vector & _OUTPUT_WIDE[program.opcode], wide_out, unit)
    chosen = program.offset if quirks.second_offset_follows_value else program.selection
    return (
        np.where(program.selection & 1, value * unit_out, 0),
        np.where(chosen & 2, value * unit, 0),
        np.where(chosen & 4, value * unit, 0),
    )


def executed_ranges(program: PimsimProgram, quirks: Quirks) -> tuple[Ranges, Ranges, Ranges]:
    """What instructions write, and read as first and second source, one input and output element for an `mvmul`.

    Offsets are as pimsim-nn applies them, or as meant, by the switch; the other switches are about its check.
    """
    at_rd, at_rs1, at_rs2 = (
        r.astype(np.int64) + o for r, o in zip((program.rd, program.rs1, program.rs2), offsets(program, quirks), strict=True)
    )
    wide_in, wide_out = element_bytes(program)
    opcode, length, size = program.opcode, program.length.astype(np.int64), program.size.astype(np.int64)
    is_vector = _IS_VECTOR[opcode]
    is_mvmul = opcode == CODE["mvmul"]
    is_copy = opcode == CODE["lmv"]
    stride = np.where((opcode == CODE["vmv"]) | (opcode == CODE["vavg"]), np.maximum(program.rs2, 1), 1)
    written = np.where(_OUTPUT_WIDE[opcode], wide_out, wide_in) * np.where(np.isin(opcode, codes("vavg", "vvdmul")), 1, length)
    write = _choose((is_vector, written), (is_mvmul, wide_out), (is_copy | (opcode == CODE["lldi"]), length),
                    (np.isin(opcode, codes("ld", "recv")), size))  # fmt: skip
    gathered = np.where(length > 0, (length - 1) * stride + 1, 0)
    first = _choose((is_vector, gathered * wide_in), (is_mvmul, wide_in), (is_copy, length),
                    (np.isin(opcode, codes("st", "send")), size))  # fmt: skip
    second = _choose((_SOURCES[opcode] == 2, length * wide_in))
    # `send` reads at rd.
    return Ranges(at_rd, write), Ranges(np.where(opcode == CODE["send"], at_rd, at_rs1), first), Ranges(at_rs2, second)


def checked_ranges(program: PimsimProgram, architecture: Architecture, quirks: Quirks) -> tuple[Ranges, Ranges, Ranges]:
    """What the conflict check takes for written, and for read as first and second source."""
    write, first, second = executed_ranges(program, quirks)
    wide_in, wide_out = element_bytes(program)
    opcode, length, size = program.opcode, program.length.astype(np.int64), program.size.astype(np.int64)
    is_mvmul = opcode == CODE["mvmul"]
    # All rows and columns, whether the matrix fills them or not.
    first_bytes = np.where(is_mvmul, architecture.matrix.rows * wide_in, first.bytes)
    write_bytes = np.where(is_mvmul, output_elements(program, architecture) * wide_out, write.bytes)
    second_bytes = second.bytes
    # Reads of vavg and results of vvdmul count as dense vectors, in the check as in the run.
    is_average, is_dot = opcode == CODE["vavg"], opcode == CODE["vvdmul"]
    first_bytes = np.where(is_average, length * wide_in, first_bytes)
    write_bytes = np.where(is_dot, length * wide_in, write_bytes)
    # The check of send looks at rs1, which is meant, though rd is read.
    first_start = np.where(opcode == CODE["send"], program.rs1 + offsets(program, quirks)[1], first.start)
    write_start = write.start
    if quirks.relu_range_is_output_wide:
        write_bytes = np.where(opcode == CODE["vrelu"], length * wide_out, write_bytes)
    if quirks.bound_is_a_range:
        second_bytes = np.where(np.isin(opcode, codes("vrsu", "vrsl")), length * wide_in, second_bytes)
    if quirks.strided_move_never_conflicts:
        first_bytes, write_bytes = (np.where(opcode == CODE["vmv"], NOTHING, b) for b in (first_bytes, write_bytes))
    if quirks.copies_conflict_by_size:
        first_bytes = np.where(opcode == CODE["lmv"], size, first_bytes)
        write_bytes = np.where(opcode == CODE["lmv"], size, np.where(opcode == CODE["lldi"], 1, write_bytes))
    if quirks.global_ranges_start_at_zero:
        write_start = np.where(opcode == CODE["ld"], write.start - program.rd, write_start)
        first_start = np.where(opcode == CODE["st"], first.start - program.rs1, first_start)
    return Ranges(write_start, write_bytes), Ranges(first_start, first_bytes), Ranges(second.start, second_bytes)


def _choose(*cases: tuple[Array, Array]) -> Array:
    """int64[n]: of the first case that holds, else `NOTHING`."""
    return np.select([case for case, _ in cases], [value for _, value in cases], np.int64(NOTHING)).astype(np.int64)


def hazards(
    program: PimsimProgram, architecture: Architecture, *, rob_size: int | None = None, quirks: Quirks | None = None,
    is_repeated: bool = False,
) -> Dependencies:  # fmt: skip
    """Works out which instructions must be finished before an instruction may be dispatched.

    Args:
        program: n instructions.
        architecture: sizes of crossbars, and the size of the reorder buffer.
        rob_size: entries of the reorder buffer, the architecture's by default; 1 gives no dependency, as nothing overlaps.
        quirks: rules of the check, pimsim-nn's by default.
        is_repeated: whether cores run their lists again and again; conflicts with the run before then have distance 1
            (or more, if the buffer is longer than the list).
    """
    chosen = quirks if quirks is not None else Quirks()
    n, depth = program.n_instructions, (rob_size if rob_size is not None else architecture.rob_size) - 1
    if depth <= 0 or not n:
        return Dependencies(np.zeros(n + 1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))
    checks = _Checks(checked_ranges(program, architecture, chosen), chosen)
    first = np.repeat(program.core_ptr[:-1], np.diff(program.core_ptr))
    place = np.arange(n) - first
    found = np.zeros((n, depth), bool)
    for back in range(1, min(depth, n) + 1):
        conflicts = checks.between(slice(back, None), slice(0, n - back))
        found[back:, back - 1] = conflicts & (place[back:] >= back)
    if is_repeated:
        _add_repeats(found, checks, program, first, place)
    flat = np.flatnonzero(found.ravel())
    row, back = np.divmod(flat, depth)
    back += 1
    length = np.diff(program.core_ptr)[program.core()[row]]
    behind = place[row] - back
    ptr = np.concatenate(([0], np.cumsum(np.count_nonzero(found, axis=1))))
    return Dependencies(ptr, (first[row] + behind % length).astype(np.int32), (-(behind // length)).astype(np.int32))


def _add_repeats(found: Array, checks: _Checks, program: PimsimProgram, first: Array, place: Array) -> None:
    """Conflicts of the first instructions of each core with the last of the run before."""
    length = np.repeat(np.diff(program.core_ptr), np.diff(program.core_ptr))
    for back in range(1, found.shape[1] + 1):
        at = np.flatnonzero(place < back)
        found[at, back - 1] = checks.between(at, first[at] + (place[at] - back) % length[at])


@final
class _Checks:
    """Closed ranges [start, stop] ready to be compared; what is not there stops before it starts."""

    def __init__(self, ranges: tuple[Ranges, Ranges, Ranges], quirks: Quirks) -> None:
        shrink = 0 if quirks.touching_ranges_conflict else 1
        self._is_ordered = not quirks.write_after_write_is_free
        self._starts: list[Array] = []
        self._stops: list[Array] = []
        for one in ranges:
            is_there = one.bytes >= shrink
            self._starts.append(np.where(is_there, one.start, 1 << 40))
            self._stops.append(np.where(is_there, one.start + one.bytes - shrink, -(1 << 40)))

    def between(self, later: Array | slice, earlier: Array | slice) -> Array:
        """bool[k]: whether instructions conflict with earlier ones."""
        write, first, second = range(3)
        pairs = [(write, first), (write, second), (first, write), (second, write)] + [(write, write)] * self._is_ordered
        found: Array | None = None
        for mine, theirs in pairs:
            overlap = self._starts[mine][later] <= self._stops[theirs][earlier]
            overlap &= self._starts[theirs][earlier] <= self._stops[mine][later]
            found = overlap if found is None else found | overlap
        assert found is not None
        return found
