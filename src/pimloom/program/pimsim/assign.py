"""Registers for a list of instructions: which one holds each address, and what has to be loaded before each instruction.

A register pair is kept for addresses of global memory (high word in the even one); the others hold the values used last.
A load costs an issue slot, so a value that is still in a register is not loaded again. Nothing is assumed of the registers
at the start of a list: when it is repeated they hold what its end has left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

import numpy as np

from pimloom.program.pimsim.opcodes import BY_CODE, N_REGISTERS
from pimloom.program.rows import Array

PAIR: Final = (0, 1)
"""Registers of the high and the low word of addresses in global memory."""

SPARE: Final = N_REGISTERS - 1
"""A register that holds no address: writing it fills an issue slot."""

_PLACE: Final = {"rd": 0, "rs1": 1, "rs2": 2}
_PLAIN: Final = {code: tuple(_PLACE[name] for name in operation.registers if name != operation.pair) for code, operation in BY_CODE.items()}
_PAIRED: Final = {code: _PLACE[operation.pair] if operation.pair else -1 for code, operation in BY_CODE.items()}


@final
@dataclass(frozen=True, slots=True)
class Assignment:
    """Registers of n instructions of one core.

    Attributes:
        register: int8[n, 3], of rd, rs1 and rs2; -1 where the mnemonic has none.
        load_ptr: int64[n + 1]. Loads before instruction i are load_ptr[i]:load_ptr[i + 1].
        load_register: int8[m].
        load_value: int64[m].
        sets_width: bool[n], whether element widths change before the instruction.
    """

    register: Array
    load_ptr: Array
    load_register: Array
    load_value: Array
    sets_width: Array

    def scalars_before(self) -> Array:
        """int64[n]: issue slots taken before each instruction."""
        return np.diff(self.load_ptr) + self.sets_width


@final
class _Registers:
    """What the registers hold; the value used longest ago makes room."""

    def __init__(self) -> None:
        self._held: dict[int, int] = {}  # value to register, used last at the end
        self._free = [r for r in range(N_REGISTERS - 1, -1, -1) if r not in (*PAIR, SPARE)]
        self._pair: list[int | None] = [None, None]
        self.loads: list[tuple[int, int]] = []

    def hold(self, value: int) -> int:
        """The register that holds a value, loaded if need be."""
        found = self._held.pop(value, -1)
        if found < 0:
            found = self._free.pop() if self._free else self._held.pop(next(iter(self._held)))
            self.loads.append((found, value))
        self._held[value] = found
        return found

    def hold_pair(self, high: int, low: int) -> int:
        """The first register of the pair, with both words loaded."""
        for place, value in enumerate((high, low)):
            if self._pair[place] != value:
                self._pair[place] = value
                self.loads.append((PAIR[place], value))
        return PAIR[0]


def assign(opcode: Array, operands: Array, low: Array, widths: Array) -> Assignment:
    """Chooses registers.

    Args:
        opcode: int[n].
        operands: int[n, 3], what rd, rs1 and rs2 have to hold; a high word in the place of a pair.
        low: int[n], low words.
        widths: int[n, 2], input and output bits in force; 0 before any are set.
    """
    state = _Registers()
    register: list[tuple[int, int, int]] = []
    counts: list[int] = []
    for code, values, low_word in zip(opcode.tolist(), operands.tolist(), low.tolist(), strict=True):
        chosen = [-1, -1, -1]
        for place in _PLAIN[code]:
            chosen[place] = state.hold(values[place])
        place = _PAIRED[code]
        if place >= 0:
            chosen[place] = state.hold_pair(values[place], low_word)
        register.append((chosen[0], chosen[1], chosen[2]))
        counts.append(len(state.loads))
    n = opcode.size
    before = np.concatenate([np.zeros((1, 2), np.int64), widths[:-1]]) if n else widths
    loads = np.array(state.loads, np.int64).reshape(-1, 2)
    return Assignment(
        np.array(register, np.int8).reshape(n, 3), np.concatenate(([0], np.array(counts, np.int64))),
        loads[:, 0].astype(np.int8), loads[:, 1], np.any(widths != before, axis=1),
    )  # fmt: skip
