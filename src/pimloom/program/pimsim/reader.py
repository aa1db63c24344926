"""Reads pimsim-nn programs: JSON, plain or compressed, into a `PimsimProgram`.

    {"config": {"core_cnt": 2, "array_group_map": {"core0": [1, 2]}},
     "core0": [{"op": "setbw", "ibiw": 8, "obiw": 8}, {"op": "sldi", "rd": 0, "imm": 0}, ...],
     "core1": [...]}

The file is never in memory as a whole: text is unpacked in pieces of 1 MiB, and what stays is the table.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Final, cast, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.hardware.pimsim import Quirks
from pimloom.program.pimsim.check import check_widths
from pimloom.program.pimsim.messages import check_messages
from pimloom.program.pimsim.opcodes import CODE, OPERATIONS
from pimloom.program.pimsim.records import Block, Records, Rows, shown
from pimloom.program.pimsim.table import COLUMNS, PimsimProgram
from pimloom.program.pimsim.textstream import Repeated, TextError, TextStream, pieces
from pimloom.program.rows import Array

_CORE: Final = re.compile(r"core(0|[1-9][0-9]{0,8})")
_MOST_CORES: Final = 1 << 12
"""The network is a table of all pairs of cores."""

_LARGE_BYTES: Final = 16 << 20
_SETBW: Final = CODE["setbw"]
_FOUND: Final = ("position", "record", "rd", "rs1", "rs2", "low")


def read_program(path: str | os.PathLike[str], *, quirks: Quirks | None = None) -> PimsimProgram:
    """Reads a program file.

    Args:
        path: gzip, zlib or plain JSON, found out by its first bytes.
        quirks: what to take over from pimsim-nn, all by default.

    Raises:
        ProgramError: the file is damaged, or an instruction is malformed; the message names file, core and
            instruction number (from 0, all instructions of the core's list counted).
    """
    chosen = quirks if quirks is not None else Quirks()
    # The C library gives freed memory back to the system piece by piece until it has seen a large piece come and go; the
    # page faults of the first file cost a fifth of its time.
    np.empty(_LARGE_BYTES, np.uint8)
    records = Records(refuses_loads=not chosen.load_writes_register_zero)
    config, cores = _sections(str(path), records)
    program = _assemble(str(path), config, cores, records)
    check_messages(program)
    if not chosen.bit_width_resets_to_zero:
        check_widths(program)
    return program


def _sections(source: str, records: Records) -> tuple[dict[str, Any], dict[int, _Core]]:
    cores: dict[int, _Core] = {}
    stream = TextStream(source, pieces(Path(source)))
    try:
        config = _take_sections(stream, records, cores)
    except TextError as fault:  # those within a list are named there
        place = f", behind the list of core {next(reversed(cores))}" if cores else ""
        raise ProgramError(f"{fault.within(place)}{stream.damage()}") from None
    except ProgramError as error:
        raise ProgramError(f"{error}{stream.damage()}") from None
    if not isinstance(config, dict):
        raise ProgramError(f"{source}: no section 'config' with core_cnt and array_group_map found; is it a pimsim-nn program?")
    return cast("dict[str, Any]", config), cores


def _take_sections(stream: TextStream, records: Records, cores: dict[int, _Core]) -> Any:
    """Takes the whole file: the lists go into `cores`; `config` is returned, None if there is none."""
    config: Any = None
    if not stream.peek():
        stream.fail("an empty file")
    stream.expect("{")
    is_first = True
    while stream.peek() != "}" or not is_first:
        key = stream.value()
        if not isinstance(key, str):
            stream.fail(f"{key!r} found, the name of a section expected")
        stream.expect(":")
        match = _CORE.fullmatch(key)
        if match is None:
            value = stream.value()
            if key == "config" and config is not None:
                raise ProgramError(f"{stream.source}: two sections 'config' found, one expected")
            config = value if key == "config" else config
        else:
            number = int(match.group(1))
            if number in cores:
                raise ProgramError(f"{stream.source}: core {number} has two lists of instructions, one expected")
            cores[number] = _Core(stream, number, records)
        is_first = False
        if stream.expect(",}") == "}":
            stream.at -= 1
            break
    stream.at += 1
    stream.end()
    return config


@final
class _Core:
    """The instructions of one core, read from the stream as they come."""

    def __init__(self, stream: TextStream, number: int, records: Records) -> None:
        self.length = 0
        self.parts: list[dict[str, Array]] = []
        self._bits = (0, 0)
        for block in records.blocks(stream, number):
            self._take(block, records.table.rows())

    def _take(self, block: Block, rows: Rows) -> None:
        """Keeps what is not `setbw`: which record it is, and what that does not say."""
        found = block.found
        opcode = rows["opcode"][found[1]]
        widths = np.flatnonzero(opcode == _SETBW)
        kept = np.flatnonzero(opcode != _SETBW)
        part = self._widths(kept, widths, rows[found[1][widths]])
        part |= dict(zip(_FOUND, found[:, kept] if widths.size else found, strict=True))
        part["position"] += self.length
        self.parts.append(part)
        self.length += block.length

    def _widths(self, kept: Array, widths: Array, rows: Rows) -> dict[str, Array]:
        """Element widths in force at the instructions `kept` of a block, which sets them at `widths`."""
        last = np.searchsorted(widths, kept)
        values = [np.concatenate(([before], rows[key])).astype(np.int8) for before, key in zip(self._bits, ("ibiw", "obiw"), strict=True)]
        self._bits = (int(values[0][-1]), int(values[1][-1]))
        return {"input_bits": values[0][last], "output_bits": values[1][last]}


def _stated(rows: Rows) -> dict[str, Array]:
    """Columns that a record alone decides."""
    opcode = rows["opcode"]
    value = np.where(opcode == CODE["wait"], rows["wait_value"], rows["imm"])
    return {
        "opcode": opcode, "length": _used(rows, "len", 0), "size": _used(rows, "size", 0), "group": _used(rows, "group", -1),
        "weight_bits": _used(rows, "mbiw", 0), "peer": _used(rows, "core", -1), "event": _used(rows, "event_register", -1),
        "value": value, "offset": rows["offset_value"], "selection": rows["offset_select"] & 7,
    }  # fmt: skip


def _used(rows: Rows, field: str, nothing: int) -> Array:
    """A field of those records whose mnemonic uses it, `nothing` for the others, whatever they state."""
    users = [operation.code for operation in OPERATIONS if field in operation.numbers]
    return np.where(np.isin(rows["opcode"], users), rows[field], nothing)


def _assemble(source: str, config: dict[str, Any], cores: dict[int, _Core], records: Records) -> PimsimProgram:
    for name, one in (("config", config), ("config.array_group_map", config.get("array_group_map"))):
        if isinstance(one, Repeated):
            raise ProgramError(f"{source}: {name} states {one.key} more than once")
    count = config.get("core_cnt")
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST_CORES:
        raise ProgramError(f"{source}: config.core_cnt is {shown(count)}, a number of cores from 1 to {_MOST_CORES} expected")
    beyond = min((k for k in cores if k >= count), default=None)
    if beyond is not None:
        raise ProgramError(f"{source}: core {beyond} has instructions, but config.core_cnt is {count}")
    group_ptr, crossbars = _groups(source, config, count)
    present = [k in cores for k in range(count)]
    lists = [cores[k] for k in sorted(cores)]
    sizes = np.zeros(count + 1, np.int64)
    for k, core in cores.items():
        sizes[k + 1] = sum(part["record"].size for part in core.parts)
    columns = _all_columns([part for core in lists for part in core.parts], records.table.rows())
    lengths = np.array([cores[k].length if k in cores else 0 for k in range(count)], np.int32)
    program = PimsimProgram(
        source, np.cumsum(sizes), lengths, np.array(present), group_ptr, crossbars, **columns, remarks=tuple(records.remarks)
    )
    _check_groups(program)
    return program


def _all_columns(parts: list[dict[str, Array]], rows: Rows) -> dict[str, Array]:
    """The columns of all cores; each part is let go when it is copied, so that the table is never there twice."""
    records = np.concatenate([np.empty(0, np.int32), *(part.pop("record") for part in parts)])
    stated = _stated(rows)
    return {
        name: stated[name].astype(dtype)[records] if name in stated else
        np.concatenate([np.empty(0, dtype), *(part.pop(name) for part in parts)])
        for name, dtype in COLUMNS.items()
    }  # fmt: skip


def _groups(source: str, config: dict[str, Any], count: int) -> tuple[Array, Array]:
    """int64[P + 1] and int32[g]: the array groups of each core."""
    table: dict[str, Any] = config.get("array_group_map", {})
    if not isinstance(table, dict) or "array_group_map" not in config:
        raise ProgramError(f"{source}: config.array_group_map not found; it lists the crossbars of each core's array groups")
    lists: list[list[int]] = [[] for _ in range(count)]
    for key, value in table.items():
        match = _CORE.fullmatch(key)
        if match is None or int(match.group(1)) >= count:
            raise ProgramError(f"{source}: config.array_group_map names '{key}', core0 to core{count - 1} expected")
        if type(value) is not list or not all(type(c) is int and 0 < c < 1 << 31 for c in cast("list[Any]", value)):
            raise ProgramError(f"{source}: config.array_group_map of {key} is no list of crossbar counts (positive integers)")
        lists[int(match.group(1))] = value
    ptr = np.concatenate(([0], np.cumsum([len(one) for one in lists]))).astype(np.int64)
    return ptr, np.array([c for one in lists for c in one], np.int32)


def _check_groups(program: PimsimProgram) -> None:
    have = np.diff(program.group_ptr)[program.core()]
    bad = np.flatnonzero(program.group >= have)
    bad = bad[program.group[bad] >= 0]
    if bad.size:
        row = int(bad[0])
        raise ProgramError(f"{program.name(row)}: array group {program.group[row]} found, the core has {have[row]} of them")
