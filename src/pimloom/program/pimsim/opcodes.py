"""pimsim-nn's instruction set: each mnemonic once, with the fields that it uses and how it treats its operands.

The order is that of its binary encoding. `nop` and `vsoftmax` have a number but no simulator carries them out, so a
program that holds one is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final, final

import numpy as np

from pimloom.program.rows import Array


class Unit(IntEnum):
    """What carries an instruction out. The first two leave no trace in the reorder buffer."""

    SCALAR = 0
    DECODE = 1
    MATRIX = 2
    VECTOR = 3
    TRANSFER = 4


@final
@dataclass(frozen=True, slots=True)
class Operation:
    """One mnemonic.

    Attributes:
        name: as the file writes it.
        code: number in the binary encoding.
        unit: what carries it out.
        registers: fields that name one of the 32 registers.
        numbers: other fields that it uses, beside the constant and the offset.
        pair: field that names the first (high) register of a 64-bit address; the next one holds the low word.
        sources: vectors that a vector instruction reads from local memory.
        writes_output_width: whether its results have the output width (`obiw`) instead of the input width.
    """

    name: str
    code: int
    unit: Unit
    registers: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    pair: str = ""
    sources: int = 0
    writes_output_width: bool = False


N_REGISTERS: Final = 32
N_EVENTS: Final = 32

_TWO = ("rd", "rs1", "rs2")
_ONE = ("rd", "rs1")
_LEN = ("len",)
_SIZE = ("size",)

OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation("sldi", 1, Unit.SCALAR, ("rd",)),
    Operation("sld", 2, Unit.SCALAR, _ONE),
    Operation("sadd", 3, Unit.SCALAR, _TWO),
    Operation("ssub", 4, Unit.SCALAR, _TWO),
    Operation("smul", 5, Unit.SCALAR, _TWO),
    Operation("saddi", 6, Unit.SCALAR, _ONE),
    Operation("smuli", 7, Unit.SCALAR, _ONE),
    Operation("setbw", 8, Unit.DECODE, numbers=("ibiw", "obiw")),
    Operation("mvmul", 9, Unit.MATRIX, _ONE, ("group", "mbiw")),
    Operation("vvadd", 10, Unit.VECTOR, _TWO, _LEN, sources=2),
    Operation("vvsub", 11, Unit.VECTOR, _TWO, _LEN, sources=2),
    Operation("vvmul", 12, Unit.VECTOR, _TWO, _LEN, sources=2, writes_output_width=True),
    Operation("vvdmul", 13, Unit.VECTOR, _TWO, _LEN, sources=2),
    Operation("vvmax", 14, Unit.VECTOR, _TWO, _LEN, sources=2),
    Operation("vvsll", 15, Unit.VECTOR, _TWO, _LEN, sources=2, writes_output_width=True),
    Operation("vvsra", 16, Unit.VECTOR, _TWO, _LEN, sources=2, writes_output_width=True),
    Operation("vavg", 17, Unit.VECTOR, _TWO, _LEN, sources=1),
    Operation("vrelu", 18, Unit.VECTOR, _ONE, _LEN, sources=1),
    Operation("vtanh", 19, Unit.VECTOR, _ONE, _LEN, sources=1, writes_output_width=True),
    Operation("vsigm", 20, Unit.VECTOR, _ONE, _LEN, sources=1, writes_output_width=True),
    Operation("vmv", 22, Unit.VECTOR, _TWO, _LEN, sources=1),
    Operation("vrsu", 23, Unit.VECTOR, _TWO, _LEN, sources=1, writes_output_width=True),
    Operation("vrsl", 24, Unit.VECTOR, _TWO, _LEN, sources=1, writes_output_width=True),
    Operation("ld", 25, Unit.TRANSFER, _ONE, _SIZE, pair="rs1"),
    Operation("st", 26, Unit.TRANSFER, _ONE, _SIZE, pair="rd"),
    Operation("lldi", 27, Unit.TRANSFER, ("rd",), _LEN),
    Operation("lmv", 28, Unit.TRANSFER, _ONE, ("len", "size")),
    Operation("send", 29, Unit.TRANSFER, _ONE, ("core", "size")),
    Operation("recv", 30, Unit.TRANSFER, ("rd",), ("core", "size")),
    Operation("wait", 31, Unit.TRANSFER, numbers=("event_register", "wait_value")),
    Operation("sync", 32, Unit.TRANSFER, numbers=("core", "event_register")),
)

BY_NAME: Final[dict[str, Operation]] = {operation.name: operation for operation in OPERATIONS}
BY_CODE: Final[dict[int, Operation]] = {operation.code: operation for operation in OPERATIONS}
CODE: Final[dict[str, int]] = {operation.name: operation.code for operation in OPERATIONS}

UNIT_OF_CODE: Final[Array] = np.array([BY_CODE[code].unit if code in BY_CODE else -1 for code in range(33)], np.int8)
"""int8[33]: the unit of each code, -1 where the code means nothing."""


def codes(*names: str) -> Array:
    """int8[k]: the codes of mnemonics."""
    return np.array([CODE[name] for name in names], np.int8)
