"""Instructions of a JSON program as packed records, the same text parsed once.

PIMCOMP's programs consist of few different instruction texts (28 thousand among 1.2 million in a SqueezeNet, 260 without those that
load a register), all laid out alike. So a list is taken apart at the separator between its instructions, and each piece is
compared with those seen before; only new texts are parsed, by the general JSON parser. A piece counts only if it is a JSON object
by itself, and then the list is made of just these objects; text laid out otherwise is parsed one instruction after the other.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.kernels import texts as kernel
from pimloom.program.pimsim.opcodes import BY_CODE, BY_NAME, N_EVENTS, N_REGISTERS, Operation, Unit
from pimloom.program.pimsim.scan import PAD, Meaning, Scanner, registers_at_reset
from pimloom.program.pimsim.textstream import Repeated, TextError, TextStream, decode
from pimloom.program.rows import Array

RECORD: Final = np.dtype([
    ("opcode", "<i4"), ("imm", "<i4"), ("rd", "<i4"), ("rs1", "<i4"), ("rs2", "<i4"), ("low", "<i4"), ("len", "<i4"), ("size", "<i4"),
    ("group", "<i4"), ("mbiw", "<i4"), ("core", "<i4"), ("event_register", "<i4"), ("wait_value", "<i4"),
    ("ibiw", "<i4"), ("obiw", "<i4"), ("offset_value", "<i4"), ("offset_select", "<i4"),
])  # fmt: skip
"""One instruction as the file states it; registers that the mnemonic does not use are -1, `low` is that of a low word."""

Rows = np.ndarray[Any, np.dtype[np.void]]

_PACK: Final = struct.Struct("<17i").pack
_HEAD: Final = struct.Struct("<6i").unpack_from
_NUMBERS: Final = ("imm", "len", "size", "group", "mbiw", "core", "event_register", "wait_value", "ibiw", "obiw")
_NO_OFFSET: Final[dict[str, Any]] = {}
_OFFSET: Final = ("offset_value", "offset_select")
_MOST_BITS: Final = 64
_MOST: Final = (1 << 31) - 1
_BOUNDS: Final = {
    "len": (0, _MOST), "size": (0, _MOST), "group": (0, _MOST), "core": (0, _MOST), "event_register": (0, N_EVENTS - 1),
    "wait_value": (0, _MOST), "ibiw": (1, _MOST_BITS), "obiw": (1, _MOST_BITS), "mbiw": (1, _MOST_BITS), "offset_select": (0, _MOST),
}  # fmt: skip
"""Least and most that a field may be."""

_FIRST_ROOM: Final = 1 << 10
_LONG_BYTES: Final = 1 << 24
_MOST_TEXTS: Final = 1 << 17
"""Different texts kept in memory; a program with more of them parses some again."""

_LOADED: Final = "sld writes 0 to register 0, whichever register it names"

_SEPARATOR: Final = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*\{")
_FIRST_SINGLES: Final = 64
_MOST_SINGLES: Final = 1 << 16


@final
@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive instructions of a list.

    Attributes:
        length: instructions in it.
        found: int32[6, k]: of those that are not scalar the place in the block, ascending; the record in `Records.table`; and what
            their registers hold: rd, rs1, rs2 and that of a low word; 0 where they have none.
    """

    length: int
    found: Array


@final
class InstructionError(Exception):
    """What is wrong with one instruction, without its place."""

    def __init__(self, what: str, text: bytes = b"") -> None:
        """Keeps the text of the instruction, so that its place can be found."""
        super().__init__(what)
        self.text = text


def record(value: Any) -> bytes:
    """Packs one instruction object.

    Raises:
        InstructionError: it is no instruction.
    """
    if not isinstance(value, dict):
        raise InstructionError(f"{shown(value)} found, an object expected")
    fields = cast("dict[str, Any]", value)
    name = fields.get("op")
    operation = BY_NAME.get(name) if isinstance(name, str) else None
    if operation is None:
        raise InstructionError(f"unknown operation {shown(name)}; known: {', '.join(BY_NAME)}")
    offset: dict[str, Any] = fields.get("offset", _NO_OFFSET)
    if not isinstance(offset, dict):
        raise InstructionError(f"{operation.name} with offset {shown(offset)}, an object expected")
    for one in (fields, offset):
        if isinstance(one, Repeated):
            raise InstructionError(f"{operation.name} states {one.key} more than once")
    used = operation.registers
    rd, rs1, rs2 = (fields.get(r, 0) if r in used else -1 for r in ("rd", "rs1", "rs2"))
    numbers = [fields.get(key, 0) for key in _NUMBERS]
    amount, selection = offset.get("offset_value", 0), offset.get("offset_select", 0)
    try:
        low = fields.get(operation.pair, 0) + 1 if operation.pair else -1
        packed = _PACK(operation.code, numbers[0], rd, rs1, rs2, low, *numbers[1:], amount, selection)
    except (struct.error, TypeError):
        return record(_as_integers(operation, fields, offset))
    _check(operation, fields, offset)
    return packed


def shown(value: Any) -> str:
    """A value in a message, shortened."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _as_integers(operation: Operation, fields: dict[str, Any], offset: dict[str, Any]) -> dict[str, Any]:
    """The same instruction with numbers like 64.0 as integers, as pimsim-nn reads them."""
    numbers = {key: _integer(operation, key, fields[key]) for key in (*_NUMBERS, "rd", "rs1", "rs2") if key in fields}
    moved = {key: _integer(operation, key, offset[key]) for key in _OFFSET if key in offset}
    return {"op": operation.name, "offset": moved, **numbers}


def _integer(operation: Operation, key: str, value: Any) -> int:
    if not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InstructionError(f"{operation.name} with {key} {shown(value)}, a number expected")
    if not -(1 << 31) <= value < 1 << 31:
        raise InstructionError(f"{operation.name} with {key} {shown(value)}, which does not fit 32 bits")
    return int(value)


def reading(value: dict[str, Any]) -> str:
    """What is said of an instruction whose numbers are fractions, true or false: that they were made whole; "" if there are none."""
    operation, offset = BY_NAME[value["op"]], value.get("offset", _NO_OFFSET)
    stated = {**{key: value.get(key) for key in (*_NUMBERS, *operation.registers)}, **{key: offset.get(key) for key in _OFFSET}}
    odd = [f"{key} {json.dumps(one)} read as {int(one)}" for key, one in stated.items() if isinstance(one, bool) or _is_fraction(one)]
    return f"{operation.name} with {', '.join(odd)}" if odd else ""


def _is_fraction(value: Any) -> bool:
    return isinstance(value, float) and not value.is_integer()


def _check(operation: Operation, fields: dict[str, Any], offset: dict[str, Any]) -> None:
    """Ranges of the fields that the mnemonic uses."""
    for key in operation.registers:
        last = N_REGISTERS - 2 if key == operation.pair else N_REGISTERS - 1
        if not 0 <= fields.get(key, 0) <= last:
            what = "the first of a pair of registers" if key == operation.pair else "a register"
            raise InstructionError(f"{operation.name} with {key} {fields[key]}; {what} from 0 to {last} expected")
    for key in operation.numbers:
        _within(operation, key, fields.get(key, 0))
    if operation.registers and operation.unit > Unit.DECODE:
        _within(operation, "offset_select", offset.get("offset_select", 0))


def _within(operation: Operation, key: str, value: int) -> None:
    least, most = _BOUNDS[key]
    if not least <= value <= most:
        expected = f"{least} to {most}" if most < _MOST else f"at least {least}"
        raise InstructionError(f"{operation.name} with {key} {value}, {expected} expected")


@final
class _NoObjectError(Exception):
    """A text is not one JSON object without its braces."""


@final
class Table:
    """The different records of a program.

    Attributes:
        size: how many there are.
        readings: what is to be said of instructions since somebody looked, and their texts without braces, if they were known.
    """

    def __init__(self, *, refuses_loads: bool = False) -> None:
        """Starts empty."""
        self.size = 0
        self._refuses_loads = refuses_loads
        self.readings: list[tuple[str, bytes]] = []
        self._rows = np.zeros(_FIRST_ROOM, RECORD)
        self._number: dict[bytes, int] = {}

    def checked(self, value: Any, text: bytes = b"") -> bytes:
        """The record of an instruction object.

        Raises:
            InstructionError: it is no instruction, or one that is refused.
        """
        packed = record(value)
        is_load = _HEAD(packed)[0] == kernel.LOAD
        if is_load and self._refuses_loads:
            raise InstructionError("sld takes a register from global memory, whose contents no reader knows; address with sldi instead")
        self.readings += [(said, text) for said in (_LOADED if is_load else "", reading(value)) if said]
        return packed

    def number(self, packed: bytes) -> int:
        """The number of a record, a new one if it is not known (or was forgotten)."""
        found = self._number.get(packed)
        if found is not None:
            return found
        if self.size == self._rows.size:
            self._rows = np.concatenate((self._rows, np.zeros_like(self._rows)))
        if len(self._number) >= _MOST_TEXTS:
            self._number.clear()
        self._rows[self.size] = np.frombuffer(packed, RECORD)[0]
        self._number[packed] = self.size
        self.size += 1
        return self.size - 1

    def meaning(self, text: bytes) -> Meaning:
        """What an instruction's text means, without its braces."""
        try:
            fields = decode("{" + text.decode() + "}")
        except (ValueError, RecursionError):
            raise _NoObjectError from None
        try:
            packed = self.checked(fields, text)
        except InstructionError as fault:
            raise InstructionError(str(fault), text) from None
        code, constant, rd, rs1, rs2, _ = _HEAD(packed)
        operation = BY_CODE[code]
        return Meaning(self.number(packed), code, (constant, rd, rs1, rs2), operation.registers, operation.pair)

    def rows(self) -> Rows:
        """RECORD[size]."""
        return self._rows[: self.size]


@final
class Records:
    """Reads lists of instructions; remembers the texts it has seen.

    Attributes:
        table: the records that blocks name.
        remarks: what is read as something else, each sort once with core and instruction.
    """

    def __init__(self, *, refuses_loads: bool = False) -> None:
        """Starts with nothing seen.

        Args:
            refuses_loads: whether registers loaded from global memory are an error; else they hold 0.
        """
        self.table = Table(refuses_loads=refuses_loads)
        self.remarks: list[str] = []
        self._said: set[str] = set()
        self._scanner = Scanner(self.table.meaning)
        self._separator = b""
        self._taken = 0  # instructions of the list at hand

    def blocks(self, stream: TextStream, core: int) -> Iterator[Block]:
        """Takes one list from the stream, block by block.

        Raises:
            ProgramError: it is no list of instructions; the message names the core and the last instruction that is whole.
        """
        self._taken = 0
        try:
            yield from self._list(stream, core)
        except TextError as fault:
            place = f"behind instruction {self._taken - 1}" if self._taken else "before its first instruction"
            raise fault.within(f", in core {core} {place}") from None

    def _list(self, stream: TextStream, core: int) -> Iterator[Block]:
        stream.expect("[")
        if stream.peek() == "]":
            stream.at += 1
            return
        singles, registers = _FIRST_SINGLES, registers_at_reset()
        while True:
            block = self._alike(stream, core, registers) if self._separator else None
            if block is None:  # laid out in another way from here on: learn it, one instruction at a time
                wanted = 1 if not self._separator else singles
                singles = min(2 * singles, _MOST_SINGLES) if self._separator else singles
                block = self._singles(stream, wanted, core, registers)
            elif not block.length:
                if len(stream.data) - stream.at < _LONG_BYTES and stream.more():
                    continue
                block = self._singles(stream, 1, core, registers)
            else:
                singles = _FIRST_SINGLES
            yield block
            if stream.peek() == "]":
                stream.at += 1
                return

    def _alike(self, stream: TextStream, core: int, registers: Array) -> Block | None:
        """Takes the instructions in memory that are set apart alike: none if no one is whole, None if they are not alike."""
        data, at, separator = stream.data, stream.at, self._separator
        if data[at : at + 1] != b"{":
            return None
        end = data.find(b"]", at)
        if end < 0:
            stop = data.rfind(separator, at)
            if stop < 0:
                return _NO_BLOCK
            after = stop + len(separator) - 1
        else:
            stop = data.rfind(b"}", at, end)
            after = end
            if stop < 0 or data[stop + 1 : end].strip(b" \t\r\n"):
                return None
        held = registers.copy()
        try:
            block = self._block(data, at + 1, stop, held)
        except InstructionError as fault:
            number = data[at + 1 : stop].split(separator).index(fault.text)
            raise located(stream, core, self._taken + number, fault) from None
        except _NoObjectError:
            self.table.readings.clear()  # all is read again
            return None
        for said, text in self.table.readings:
            self._remark(core, self._taken + data[at + 1 : stop].split(separator).index(text), said)
        self.table.readings.clear()
        registers[:] = held
        stream.at = after
        self._taken += block.length
        return block

    def _remark(self, core: int, position: int, said: str) -> None:
        if said not in self._said:
            self._said.add(said)
            place = 0 if said == _LOADED else len(self.remarks)  # it is said once, and must not be lost among many numbers
            self.remarks.insert(place, f"core {core}, instruction {position}: {said}")

    def _block(self, data: bytes, begin: int, end: int, registers: Array) -> Block:
        """The objects of `data[begin:end]`, which holds no `]`, set apart alike."""
        if end + PAD > len(data):
            data = data[begin:end] + bytes(PAD)
            begin, end = 0, len(data) - PAD
        length, found = self._scanner.texts(data, begin, end, self._separator, registers)
        return Block(length, found.copy())

    def _singles(self, stream: TextStream, wanted: int, core: int, registers: Array) -> Block:
        """Takes up to `wanted` instructions by the general parser; remembers what sets the last two apart."""
        found: list[tuple[int, ...]] = []
        at = 0
        while at < wanted:
            try:
                packed = self.table.checked(stream.value())
            except InstructionError as fault:
                raise located(stream, core, self._taken, fault) from None
            for said, _ in self.table.readings:
                self._remark(core, self._taken, said)
            self.table.readings.clear()
            code, constant, rd, rs1, rs2, low = _HEAD(packed)
            held = registers[[rd, rs1, rs2, low]].tolist()
            if code > kernel.MULTIPLY_CONSTANT:
                found.append((at, self.table.number(packed), *held))
            else:
                registers[0 if code == kernel.LOAD else rd] = kernel.result(code, held[1], held[2], constant)
            at += 1
            self._taken += 1
            if stream.peek() == "]":
                break
            gap = _SEPARATOR.match(stream.data, stream.at)
            stream.expect(",")
            if gap is not None:
                self._separator = b"}" + gap.group()
            if stream.peek() in ("", "]"):
                stream.expect("{")
        return Block(at, np.array(found, np.int32).reshape(-1, kernel.FOUND_ROWS).T)


_NO_BLOCK: Final = Block(0, np.empty((kernel.FOUND_ROWS, 0), np.int32))


def located(stream: TextStream, core: int, position: int, fault: InstructionError) -> ProgramError:
    """The error of an instruction."""
    return ProgramError(f"{stream.source}: core {core}, instruction {position}: {fault}")
