"""Checks of a whole program that no single instruction shows: bit widths and memory.

Each raises ProgramError for the first fault in the order of cores and instructions.
"""

from __future__ import annotations

import numpy as np

from pimloom.errors import ProgramError
from pimloom.hardware.pimsim import Quirks
from pimloom.program.pimsim.architecture import Architecture
from pimloom.program.pimsim.hazards import executed_ranges
from pimloom.program.pimsim.opcodes import CODE, UNIT_OF_CODE, Unit
from pimloom.program.pimsim.table import PimsimProgram


def check_widths(program: PimsimProgram) -> None:
    """Every matrix and vector instruction comes after a `setbw`."""
    unit = UNIT_OF_CODE[program.opcode]
    bad = np.flatnonzero(((unit == Unit.MATRIX) | (unit == Unit.VECTOR)) & (program.input_bits == 0))
    if bad.size:
        raise ProgramError(
            f"{program.name(int(bad[0]))}: no setbw before it on its core, so its elements would have no bytes; begin every core with setbw"
        )


def check_addresses(program: PimsimProgram, architecture: Architecture, *, quirks: Quirks | None = None) -> None:
    """Every range of local memory that an instruction touches lies in it."""
    limit = architecture.local_memory.memory_bytes
    chosen = quirks if quirks is not None else Quirks()
    is_mvmul = program.opcode == CODE["mvmul"]
    for touched in executed_ranges(program, chosen):
        # Of an mvmul only the first byte is sure: its crossbars need not be full.
        size = np.where(is_mvmul, np.minimum(touched.bytes, 1), touched.bytes)
        bad = np.flatnonzero((size > 0) & ((touched.start < 0) | (touched.start + size > limit)))
        if bad.size:
            row = int(bad[0])
            raise ProgramError(
                f"{program.name(row)}: bytes {touched.start[row]} to {touched.start[row] + size[row]} of local memory found, "
                f"which has {limit}; raise local_memory_config.memory_size or compile for the smaller memory"
            )
