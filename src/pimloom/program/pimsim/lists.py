"""Instruction lists under construction: what each core does, with addresses where registers will be.

One list becomes rows of a `PimsimProgram`; which registers hold the addresses is `assign`'s work.
"""

from __future__ import annotations

from typing import Any, Final, final

import numpy as np

from pimloom.program.pimsim.opcodes import CODE
from pimloom.program.rows import Array

FIELDS: Final = (
    "opcode", "rd", "rs1", "rs2", "low", "length", "size", "group", "weight_bits", "peer", "value", "input_bits", "output_bits",
)  # fmt: skip
"""What an instruction of a list states; the other columns of a table follow from these."""

_WORD: Final = 1 << 32
_MVMUL: Final = CODE["mvmul"]
_LMV: Final = CODE["lmv"]
_LLDI: Final = CODE["lldi"]
_LD: Final = CODE["ld"]
_ST: Final = CODE["st"]
_SEND: Final = CODE["send"]
_RECV: Final = CODE["recv"]


def signed(word: int) -> int:
    """The signed 32-bit number with these low bits: what a register of pimsim-nn holds."""
    return (word + (_WORD >> 1)) % _WORD - (_WORD >> 1)


@final
class InstructionList:
    """The instructions of one core.

    Attributes:
        rows: one tuple of `FIELDS` per instruction.
    """

    def __init__(self) -> None:
        """Starts empty."""
        self.rows: list[tuple[int, ...]] = []

    def vector(self, name: str, dst: int, src1: int, src2: int, n: int, bits: tuple[int, int]) -> None:
        """A vector instruction on n elements of `bits[0]` bits, with results of `bits[1]`."""
        self.rows.append((CODE[name], dst, src1, src2, 0, n, 0, -1, 0, -1, 0, *bits))

    def mvmul(self, dst: int, src: int, group: int, weight_bits: int, bits: tuple[int, int]) -> None:
        """An array group multiplies: inputs of `bits[0]`, sums of `bits[1]` bits."""
        self.rows.append((_MVMUL, dst, src, 0, 0, 0, 0, group, weight_bits, -1, 0, *bits))

    def copy(self, dst: int, src: int, size_bytes: int) -> None:
        """Bytes within the local memory. The conflict check reads `size`, so it is stated too."""
        self.rows.append((_LMV, dst, src, 0, 0, size_bytes, size_bytes, -1, 0, -1, 0, 0, 0))

    def fill(self, dst: int, size_bytes: int, value: int) -> None:
        """Bytes of one value."""
        self.rows.append((_LLDI, dst, 0, 0, 0, size_bytes, 0, -1, 0, -1, value, 0, 0))

    def load(self, dst: int, address: int, size_bytes: int) -> None:
        """From global memory."""
        self.rows.append((_LD, dst, signed(address >> 32), 0, signed(address), 0, size_bytes, -1, 0, -1, 0, 0, 0))

    def store(self, address: int, src: int, size_bytes: int) -> None:
        """To global memory."""
        self.rows.append((_ST, signed(address >> 32), src, 0, signed(address), 0, size_bytes, -1, 0, -1, 0, 0, 0))

    def send(self, src: int, core: int, size_bytes: int) -> None:
        """To another core; rd is read and rs1 is checked, so both hold the address."""
        self.rows.append((_SEND, src, src, 0, 0, 0, size_bytes, -1, 0, core, 0, 0, 0))

    def receive(self, dst: int, core: int, size_bytes: int) -> None:
        """From another core."""
        self.rows.append((_RECV, dst, 0, 0, 0, 0, size_bytes, -1, 0, core, 0, 0, 0))

    def columns(self) -> dict[str, Array]:
        """int64[n] per field; element widths are those in force, from the first that an instruction asks for."""
        table = np.array(self.rows, np.int64).reshape(-1, len(FIELDS))
        found: dict[str, Any] = {name: table[:, i] for i, name in enumerate(FIELDS)}
        asks = np.flatnonzero(found["input_bits"])
        if asks.size:
            last = np.maximum(np.searchsorted(asks, np.arange(table.shape[0]), side="right") - 1, 0)
            found["input_bits"], found["output_bits"] = (found[name][asks[last]] for name in ("input_bits", "output_bits"))
        else:  # nothing is computed here; pimsim-nn still wants a width before anything else
            found["input_bits"], found["output_bits"] = np.full(table.shape[0], 8), np.full(table.shape[0], 8)
        return found
