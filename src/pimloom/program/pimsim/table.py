"""A pimsim-nn program in arrays: what is left when registers and scalar instructions are resolved."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.program.pimsim.opcodes import BY_CODE
from pimloom.program.rows import Array

COLUMNS: Final[dict[str, Any]] = {
    "opcode": np.int8, "position": np.int32, "rd": np.int32, "rs1": np.int32, "rs2": np.int32, "low": np.int32,
    "length": np.int32, "size": np.int32, "group": np.int32, "weight_bits": np.int8, "peer": np.int32, "event": np.int8,
    "value": np.int32, "offset": np.int32, "selection": np.int8, "input_bits": np.int8, "output_bits": np.int8,
}  # fmt: skip
"""Column name to dtype."""


@final
@dataclass(frozen=True, slots=True)
class PimsimProgram:
    """All matrix, vector and transfer instructions of all cores, core after core. n instructions, P cores.

    Scalar instructions and `setbw` are gone: their effect is in the columns, their issue slots in `position`.

    Attributes:
        source: the file it comes from, for messages.
        core_ptr: int64[P + 1]. Instructions of core k are core_ptr[k]:core_ptr[k + 1].
        length_of_core: int32[P], instructions of a core in the file, scalar ones included.
        is_present: bool[P], whether the file has a list for the core; one that has none takes no power.
        group_ptr: int64[P + 1]. Array groups of core k are group_ptr[k]:group_ptr[k + 1].
        group_crossbars: int32[g], crossbars of each array group.
        opcode: int8[n], number of the mnemonic in `opcodes.OPERATIONS`.
        position: int32[n], place in the core's list, from 0, scalar instructions counted.
        rd: int32[n], value of the register rd: the local address written (of `st`: high word of the global address;
            of `send`: the local address read). 0 where the mnemonic has no such register; so are rs1 and rs2.
        rs1: int32[n], value of the register rs1: the local address read (of `ld`: high word of the global address).
        rs2: int32[n], value of the register rs2: second source, stride or bound.
        low: int32[n], of `ld` and `st`: low word of the global address; else 0.
        length: int32[n], `len`: elements of vector instructions, bytes of `lldi` and `lmv`; 0 else.
        size: int32[n], bytes of `ld`, `st`, `send` and `recv`, and what the conflict check takes for those of `lmv`; 0 else.
        group: int32[n], array group of `mvmul` within its core; -1 else.
        weight_bits: int8[n], `mbiw` of `mvmul`.
        peer: int32[n], the other core of `send`, `recv` and `sync`; -1 else.
        event: int8[n], event register of `sync` and `wait`; -1 else.
        value: int32[n], what `wait` waits for, what `lldi` fills in.
        offset: int32[n], offset value, in elements (vector instructions) or bytes (transfers).
        selection: int8[n], offset selection: bit 0 rd, bit 1 rs1, bit 2 rs2.
        input_bits: int8[n], element width of inputs in force; 0 before the first `setbw`.
        output_bits: int8[n], element width of outputs in force.
        remarks: what the reader took otherwise than it stands in the file, as pimsim-nn does.
    """

    source: str
    core_ptr: Array
    length_of_core: Array
    is_present: Array
    group_ptr: Array
    group_crossbars: Array
    opcode: Array
    position: Array
    rd: Array
    rs1: Array
    rs2: Array
    low: Array
    length: Array
    size: Array
    group: Array
    weight_bits: Array
    peer: Array
    event: Array
    value: Array
    offset: Array
    selection: Array
    input_bits: Array
    output_bits: Array
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks dtypes and lengths and makes the arrays read-only."""
        n, cores = int(self.opcode.size), int(self.length_of_core.size)
        for name, dtype in COLUMNS.items():
            column = getattr(self, name)
            if column.dtype != dtype or column.shape != (n,):
                raise ProgramError(f"{self.source}: column '{name}' is {column.dtype}{column.shape}, expected {np.dtype(dtype)}({n},)")
        if self.core_ptr.shape != (cores + 1,) or int(self.core_ptr[-1]) != n or self.group_ptr.shape != (cores + 1,):
            raise ProgramError(f"{self.source}: {cores} cores and {n} instructions do not match the offsets of cores and groups")
        for spec in fields(self):
            array = getattr(self, spec.name)
            if isinstance(array, np.ndarray):
                array.flags.writeable = False

    @property
    def n_instructions(self) -> int:
        """Instructions in the table."""
        return int(self.opcode.size)

    @property
    def n_cores(self) -> int:
        """Cores of the chip, with or without instructions."""
        return int(self.length_of_core.size)

    def core(self) -> Array:
        """int32[n]: the core of each instruction."""
        return np.repeat(np.arange(self.n_cores, dtype=np.int32), np.diff(self.core_ptr))

    def scalars_before(self) -> Array:
        """int32[n]: scalar instructions and `setbw` between an instruction and the one before it on its core."""
        before = np.empty_like(self.position)
        before[1:] = self.position[:-1]
        first = self.core_ptr[:-1][np.diff(self.core_ptr) > 0]
        before[first] = -1
        return self.position - before - 1

    def scalars_after(self) -> Array:
        """int32[P]: scalar instructions and `setbw` after the last instruction of each core."""
        last = np.full(self.n_cores, -1, np.int32)
        has = np.diff(self.core_ptr) > 0
        last[has] = self.position[self.core_ptr[1:][has] - 1]
        return self.length_of_core - last - 1

    def crossbars(self) -> Array:
        """int32[n]: crossbars of the array group that an `mvmul` names, 0 for others."""
        found = np.zeros(self.n_instructions, np.int32)
        at = np.flatnonzero(self.group >= 0)
        found[at] = self.group_crossbars[self.group_ptr[self.core()[at]] + self.group[at]]
        return found

    def name(self, row: int) -> str:
        """`FILE: core 3, instruction 17 (mvmul)`, for messages."""
        return f"{self.source}: {self.place(row)}"

    def place(self, row: int) -> str:
        """`core 3, instruction 17 (mvmul)`."""
        core = int(np.searchsorted(self.core_ptr, row, side="right")) - 1
        return f"core {core}, instruction {self.position[row]} ({BY_CODE[int(self.opcode[row])].name})"
