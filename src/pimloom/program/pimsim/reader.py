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
from pimloom.program.pimsim.opcodes import CODE
from pimloom.program.pimsim.records import Block, Records
from pimloom.program.pimsim.registers import History, Registers
from pimloom.program.pimsim.table import COLUMNS, PimsimProgram
from pimloom.program.pimsim.textstream import TextStream, pieces
from pimloom.program.rows import Array

_CORE: Final = re.compile(r"core(0|[1-9][0-9]{0,8})")
_MOST_CORES: Final = 1 << 20
_LARGE_BYTES: Final = 16 << 20
_SETBW: Final = CODE["setbw"]


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
    stream = TextStream(str(path), pieces(Path(path)))
    config, cores = _sections(stream, chosen)
    program = _assemble(stream.source, config, cores)
    check_messages(program)
    if not chosen.bit_width_resets_to_zero:
        check_widths(program)
    return program


def _sections(stream: TextStream, quirks: Quirks) -> tuple[dict[str, Any], dict[int, _Core]]:
    config: Any = None
    cores: dict[int, _Core] = {}
    records = Records()
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
            config = value if key == "config" else config
        else:
            number = int(match.group(1))
            if number in cores:
                raise ProgramError(f"{stream.source}: core {number} has two lists of instructions, one expected")
            cores[number] = _Core(stream, number, records, quirks)
        is_first = False
        if stream.expect(",}") == "}":
            stream.at -= 1
            break
    stream.at += 1
    if stream.peek():
        stream.fail("text after the last closing brace")
    if not isinstance(config, dict):
        raise ProgramError(f"{stream.source}: no section 'config' with core_cnt and array_group_map found; is it a pimsim-nn program?")
    return cast("dict[str, Any]", config), cores


@final
class _Core:
    """The instructions of one core, read from the stream as they come."""

    def __init__(self, stream: TextStream, number: int, records: Records, quirks: Quirks) -> None:
        self.length = 0
        self.parts: list[dict[str, Array]] = []
        self._registers = Registers()
        self._bits = {"ibiw": 0, "obiw": 0}
        for block in records.blocks(stream, number):
            if not quirks.load_writes_register_zero:
                _refuse_loads(stream, number, self.length, block)
            self._take(block)

    def _take(self, block: Block) -> None:
        history = self._registers.advance(block)
        opcode = block.other["opcode"]
        kept = np.flatnonzero(opcode > _SETBW)
        at = block.other_at[kept]
        part = _columns(block.other[kept], at, history)
        part["position"] = at + self.length
        widths = np.flatnonzero(opcode == _SETBW)
        for column, key in (("input_bits", "ibiw"), ("output_bits", "obiw")):
            values = np.concatenate(([self._bits[key]], block.other[key][widths]))
            part[column] = values[np.searchsorted(widths, kept)] if widths.size else np.full(kept.size, values[0])
            self._bits[key] = int(values[-1])
        self.parts.append({name: part[name].astype(dtype) for name, dtype in COLUMNS.items()})
        self.length += block.length


def _columns(rows: Array, at: Array, history: History) -> dict[str, Array]:
    """Columns of the instructions `at` of a block, with registers replaced by what they hold."""
    opcode = rows["opcode"]
    is_mvmul, is_load, is_store = opcode == CODE["mvmul"], opcode == CODE["ld"], opcode == CODE["st"]
    has_peer = (opcode == CODE["send"]) | (opcode == CODE["recv"]) | (opcode == CODE["sync"])
    is_wait = opcode == CODE["wait"]
    low = np.where(is_load, rows["rs1"] + 1, np.where(is_store, rows["rd"] + 1, -1))
    rd, rs1, rs2, low_word = history.read(at, rows["rd"], rows["rs1"], rows["rs2"], low)
    return {
        "opcode": opcode, "rd": rd, "rs1": rs1, "rs2": rs2, "low": low_word,
        "length": rows["len"], "size": rows["size"],
        "group": np.where(is_mvmul, rows["group"], -1), "weight_bits": np.where(is_mvmul, rows["mbiw"], 0),
        "peer": np.where(has_peer, rows["core"], -1),
        "event": np.where(is_wait | (opcode == CODE["sync"]), rows["event_register"], -1),
        "value": np.where(is_wait, rows["wait_value"], rows["imm"]),
        "offset": rows["offset_value"], "selection": rows["offset_select"] & 7,
    }  # fmt: skip


def _refuse_loads(stream: TextStream, core: int, first: int, block: Block) -> None:
    at = block.other_at[block.other["opcode"] == CODE["sld"]]
    if at.size:
        raise ProgramError(
            f"{stream.source}: core {core}, instruction {first + int(at[0])}: sld takes a register from global memory, "
            "whose contents no reader knows; address with sldi instead"
        )


def _assemble(source: str, config: dict[str, Any], cores: dict[int, _Core]) -> PimsimProgram:
    count = config.get("core_cnt")
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST_CORES:
        raise ProgramError(f"{source}: config.core_cnt is {count!r}, a number of cores from 1 to {_MOST_CORES} expected")
    beyond = min((k for k in cores if k >= count), default=None)
    if beyond is not None:
        raise ProgramError(f"{source}: core {beyond} has instructions, but config.core_cnt is {count}")
    group_ptr, crossbars = _groups(source, config, count)
    present = [k in cores for k in range(count)]
    lists = [cores[k] for k in sorted(cores)]
    sizes = np.zeros(count + 1, np.int64)
    for k, core in cores.items():
        sizes[k + 1] = sum(part["opcode"].size for part in core.parts)
    # Column after column, and each part is let go when it is copied: the table is never there twice.
    columns = {
        name: np.concatenate([np.empty(0, dtype), *(part.pop(name) for core in lists for part in core.parts)])
        for name, dtype in COLUMNS.items()
    }
    lengths = np.array([cores[k].length if k in cores else 0 for k in range(count)], np.int32)
    program = PimsimProgram(source, np.cumsum(sizes), lengths, np.array(present), group_ptr, crossbars, **columns)
    _check_groups(program)
    return program


def _groups(source: str, config: dict[str, Any], count: int) -> tuple[Array, Array]:
    """int64[P + 1] and int32[g]: the array groups of each core."""
    table: dict[str, Any] = config.get("array_group_map", {})
    if type(table) is not dict or "array_group_map" not in config:
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
