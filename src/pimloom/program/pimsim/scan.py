"""Takes lists of instructions apart with a compiled kernel: what was seen before is compared, only new texts are parsed.

The kernel (`kernels/texts.py`) knows bytes only. It stops at each text that it does not know; that one is parsed as everywhere, and
then the kernel knows it, too. So what comes out is what parsing every text would yield.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from pimloom.kernels import texts as kernel
from pimloom.program.pimsim.immediates import Template
from pimloom.program.pimsim.opcodes import N_REGISTERS
from pimloom.program.rows import Array

PAD: Final = kernel.WORD
"""Bytes that must lie behind a text, as it is read in words."""

_FIRST_TEXTS: Final = 1 << 10
_FIRST_BYTES: Final = 1 << 17
_MOST_POOL_BYTES: Final = 1 << 25
_SLOTS: Final = 4
"""Slots of the hash table per known text, at least."""


_KINDS: Final = {"imm": kernel.CONSTANT, "rd": kernel.DESTINATION, "rs1": kernel.FIRST, "rs2": kernel.SECOND}


@final
@dataclass(frozen=True, slots=True)
class Meaning:
    """What the text of an instruction means.

    Attributes:
        record: number of its record.
        code: of its mnemonic.
        numbers: its constant, rd, rs1 and rs2; -1 for registers that it has not.
        registers: the fields that name its registers.
        pair: the field that names the first of a pair of registers, "" if none does.
    """

    record: int
    code: int
    numbers: tuple[int, int, int, int]
    registers: tuple[str, ...]
    pair: str


def registers_at_reset() -> Array:
    """int64[33]: the registers of a core, and a 0 for those that an instruction has not."""
    return np.zeros(N_REGISTERS + 1, np.int64)


@final
class Scanner:
    """Texts that are known, and the kernel that finds them."""

    def __init__(self, parse: Callable[[bytes], Meaning]) -> None:
        """Knows nothing yet.

        Args:
            parse: what a text means.
        """
        self._parse = parse
        self._state = np.zeros(kernel.STATES, np.int64)
        self._found = np.empty((kernel.FOUND_ROWS, 0), np.int32)
        self._numbers = np.zeros(kernel.KINDS, np.int64)
        self._forget(b"")

    def texts(self, data: bytes, begin: int, end: int, separator: bytes, registers: Array) -> tuple[int, Array]:
        """The instructions of a text.

        Args:
            data: bytes, `PAD` of them behind `end`.
            begin: where the first one begins, after its brace.
            end: where the last one ends, before its brace.
            separator: what sets them apart.
            registers: int64[33], what they hold; carried on.

        Returns:
            How many there are; int32[6, k] of those that are not scalar, see `found` of the kernel; valid until the next call.
        """
        if separator != self._separator:
            self._forget(separator)
        most = (end - begin) // (len(separator) + 1) + 1
        if most > self._found.shape[1]:
            self._found = np.empty((kernel.FOUND_ROWS, most), np.int32)
        state = self._state
        state[:] = 0
        state[kernel.LAST] = state[kernel.LOADER] = -1
        text, words = np.frombuffer(data, np.int8, end - begin + PAD, begin), _words(data, begin, end - begin)
        unknown = -1
        while True:
            pool = _words(self._pool, 0, len(self._pool) - PAD)
            status = kernel.take(text, words, end - begin, pool, self._spans, self._slots, registers, self._numbers, self._found, state)
            if status == kernel.ALL:
                return int(state[kernel.TEXTS]), self._found[:, : int(state[kernel.FOUND])]
            del pool  # the buffer cannot grow while it is looked at
            assert state[kernel.PLACE] > unknown, "a text that was made known is not found"
            unknown = int(state[kernel.PLACE])
            first = begin + unknown
            self._know(data[first : first + int(state[kernel.TEXT_LENGTH])], int(state[kernel.HASH]))

    def _know(self, text: bytes, key: int) -> None:
        """Takes up a text."""
        meaning = self._parse(text)
        if self._used > _MOST_POOL_BYTES:
            self._forget(self._separator)
        if self._size == self._spans.shape[0]:
            self._grow()
        row, is_scalar = self._spans[self._size], meaning.code <= kernel.MULTIPLY_CONSTANT
        template = Template.of(text, (*meaning.registers, "imm") if is_scalar else meaning.registers)
        row[kernel.FOLLOWER], row[kernel.RECORD], row[kernel.CODE] = -1, meaning.record, meaning.code
        row[kernel.PAIR] = _KINDS[meaning.pair] if meaning.pair else -1
        row[kernel.VALUES : kernel.VALUES + kernel.KINDS] = meaning.numbers
        self._put(row, template.pieces)
        row[kernel.KIND_OF : kernel.KIND_OF + len(template.names)] = [_KINDS[name] for name in template.names]
        self._keys[self._size] = key
        self._enter(self._size)
        self._size += 1

    def _put(self, row: Array, pieces: tuple[bytes, ...]) -> None:
        """Pieces of a text; behind the last one is room for a word."""
        text = b"".join(pieces)
        end = self._used + len(text)
        if end + PAD > len(self._pool):
            self._pool += bytes(max(len(self._pool), len(text) + PAD))
        row[kernel.START], row[kernel.HOLES] = self._used, len(pieces) - 1
        row[kernel.LENGTH : kernel.LENGTH + len(pieces)] = [len(piece) for piece in pieces]
        self._pool[self._used : end] = text
        self._used = end

    def _enter(self, row: int) -> None:
        slot = int(self._keys[row]) & (self._slots.size - 1)
        while self._slots[slot] >= 0:
            slot = (slot + 1) & (self._slots.size - 1)
        self._slots[slot] = row

    def _grow(self) -> None:
        self._spans = np.concatenate((self._spans, np.zeros_like(self._spans)))
        self._keys = np.concatenate((self._keys, np.zeros_like(self._keys)))
        self._slots = np.full(2 * self._slots.size, -1, np.int32)
        for row in range(kernel.KNOWN, self._size):
            self._enter(row)

    def _forget(self, separator: bytes) -> None:
        """Knows the separator alone."""
        self._separator = separator
        self._pool, self._used, self._size = bytearray(_FIRST_BYTES), 0, kernel.KNOWN
        self._spans, self._keys = np.zeros((_FIRST_TEXTS, kernel.COLUMNS), np.int64), np.zeros(_FIRST_TEXTS, np.int64)
        self._slots = np.full(_SLOTS * _FIRST_TEXTS, -1, np.int32)
        self._state[kernel.LAST] = self._state[kernel.LOADER] = -1
        self._put(self._spans[kernel.SEPARATOR], (separator,))


def _words(data: bytes | bytearray, begin: int, count: int) -> Array:
    """int64[count]: the eight bytes from each place on, least significant first; without copying."""
    return np.ndarray((count,), "<i8", data, begin, (1,))
