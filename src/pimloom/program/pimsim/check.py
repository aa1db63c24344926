"""Checks of a whole program that no single instruction shows: bit widths, memory, lists without work, events.

Each check raises ProgramError for the first fault in the order of cores and instructions. What pimsim-nn runs without a word, though
hardly anybody meant it, is a remark.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.hardware.pimsim import Quirks
from pimloom.program.pimsim.architecture import Architecture
from pimloom.program.pimsim.early import early_events
from pimloom.program.pimsim.hazards import executed_ranges
from pimloom.program.pimsim.messages import pair_messages
from pimloom.program.pimsim.opcodes import CODE, UNIT_OF_CODE, Unit, codes
from pimloom.program.pimsim.order import registers
from pimloom.program.pimsim.table import PimsimProgram
from pimloom.program.rows import Array

_SHOWN: Final = 3
"""Examples in a remark."""


def check_widths(program: PimsimProgram) -> None:
    """Every matrix and vector instruction comes after a `setbw`."""
    bad = _without_width(program)
    if bad.size:
        raise ProgramError(
            f"{program.name(int(bad[0]))}: no setbw before it on its core, so its elements would have no bytes; begin every core with setbw"
        )


def check_lists(program: PimsimProgram) -> None:
    """There is a list, and each has an instruction that is not scalar: pimsim-nn stops at an empty one, and sees no end of scalars."""
    if not program.is_present.any():
        raise ProgramError(f"{program.source}: no list of instructions found; give one core's at least, as section 'core0'")
    bad = np.flatnonzero(program.is_present & (np.diff(program.core_ptr) == 0))
    if bad.size:
        raise ProgramError(
            f"{program.source}: core {bad[0]} has a list of {program.length_of_core[bad[0]]} instructions without one that is not scalar, "
            "which pimsim-nn cannot run; leave the core out"
        )


def check_steady(program: PimsimProgram) -> None:
    """In lists that repeat, nothing waits for a `sync`, or for there to be none: of which round it would be, nothing says."""
    wait, sync = (np.flatnonzero(program.opcode == CODE[name]) for name in ("wait", "sync"))
    bad = wait[np.isin(registers(program, wait), registers(program, sync))]
    if bad.size:
        raise ProgramError(
            f"{program.name(int(bad[0]))}: cores cannot wait for events while lists repeat; take one pass, by sim_mode 1 in the "
            "architecture file or with --mode latency"
        )


def remarks(program: PimsimProgram) -> list[str]:
    """What a program asks of pimsim-nn that is hardly meant, and what it does then: a sentence each."""
    found = list(program.remarks[:_SHOWN])
    if len(program.remarks) > _SHOWN:
        found.append(f"{len(program.remarks) - _SHOWN} more like that")
    absent = np.flatnonzero(~program.is_present)
    if absent.size:
        found.append(f"no list for {_cores(absent)}, so no power is taken there")
    ends = np.flatnonzero(program.scalars_after() > 0)
    if ends.size:
        found.append(f"a scalar instruction at the end of {_cores(ends)}; pimsim-nn would see no end of one pass and report latency 0")
    found += _remark(program, _without_width(program), "comes before any setbw, so its elements have no bytes and it is nearly free")
    amount = np.where(_takes_length(program), program.length, program.size)
    unit = UNIT_OF_CODE[program.opcode]
    is_counted = (unit == Unit.VECTOR) | ((unit == Unit.TRANSFER) & ~np.isin(program.opcode, codes("sync", "wait")))
    found += _remark(program, np.flatnonzero(is_counted & (amount == 0)), "works on nothing, as its len or size is 0 or missing")
    partner = pair_messages(program)
    uneven = np.flatnonzero((program.opcode == CODE["send"]) & (program.size != program.size[partner]))
    found += _remark(program, uneven, "states another size than its recv; each end is timed by its own")
    return found + _early_events(program)


def _remark(program: PimsimProgram, rows: Array, what: str) -> list[str]:
    return [f"{_first(program, rows)} {what}"] if len(rows) else []


def _first(program: PimsimProgram, rows: Sequence[int] | Array) -> str:
    """The first of some rows, and how many more there are."""
    return program.place(int(rows[0])) + (f" (and {len(rows) - 1} more)" if len(rows) > 1 else "")


def _early_events(program: PimsimProgram) -> list[str]:
    """What events do in pimsim-nn that nothing holds back until those before them are taken."""
    early = early_events(program)
    if not early:
        return []
    found = [
        f"{_first(program, [one.wait for one in early])} may find more than the {program.value[early[0].wait]} that it waits for in event "
        f"register {program.event[early[0].wait]}, as {program.place(early[0].sync)} need not come after it; pimsim-nn, which compares for "
        "equality, would wait forever then, and we go on"
    ]
    shared = [one.wait for one in early if one.is_shared]
    if shared:
        found.append(
            f"{_first(program, shared)} and others of its event register take sync of several cores in no order that the program "
            "states; we take them as they come when nothing else waits"
        )
    return found


def _cores(numbers: Sequence[int] | Array) -> str:
    shown = ", ".join(str(number) for number in numbers[:_SHOWN])
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"core{'s' if len(numbers) > 1 else ''} {shown}{more}"


def _takes_length(program: PimsimProgram) -> Array:
    """bool[n]: whether `len` says how much an instruction does; of others `size` does."""
    return (UNIT_OF_CODE[program.opcode] == Unit.VECTOR) | np.isin(program.opcode, codes("lldi", "lmv"))


def _without_width(program: PimsimProgram) -> Array:
    """Matrix and vector instructions that come before any `setbw` of their core."""
    unit = UNIT_OF_CODE[program.opcode]
    return np.flatnonzero(((unit == Unit.MATRIX) | (unit == Unit.VECTOR)) & (program.input_bits == 0))


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
            found = f"{program.name(row)}: bytes {touched.start[row]} to {touched.start[row] + size[row]} of local memory found"
            if touched.start[row] < 0:
                raise ProgramError(f"{found}, which begins at 0; correct what the register of that address is given")
            raise ProgramError(f"{found}, which has {limit}; raise local_memory_config.memory_size or compile for the smaller memory")
