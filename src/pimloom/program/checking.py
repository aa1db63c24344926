"""What the checks of a program share: the faults found so far, and facts of opcodes spread over the rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.program.isa import INSTRUCTIONS
from pimloom.program.program import Program
from pimloom.program.rows import Array

SHOWN_FAULTS: Final = 10


@final
class Faults:
    """Faults found so far, of which the first few are put into words.

    Attributes:
        program: what is checked.
        rows: its instruction table.
        count: faults found.
        sentences: the first `SHOWN_FAULTS` of them.
    """

    def __init__(self, program: Program) -> None:
        """Starts without faults."""
        self.program, self.rows = program, program.rows
        self.count = 0
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        """Adds one fault."""
        self.count += 1
        if len(self.sentences) < SHOWN_FAULTS:
            self.sentences.append(sentence)

    def add_each(self, is_bad: Array, sentence: Callable[[int], str]) -> None:
        """Adds a fault for each True; only those that are shown are put into words."""
        found = np.flatnonzero(is_bad)
        self.sentences += [sentence(int(i)) for i in found[: SHOWN_FAULTS - len(self.sentences)]]
        self.count += found.size

    def add_rows(self, is_bad: Array, sentence: Callable[[int], str]) -> None:
        """Adds a fault for each row of bool[n]; its name is put before the sentence."""
        self.add_each(is_bad, lambda row: f"{self.name(row)}: {sentence(row)}")

    def name(self, row: int) -> str:
        """`row 12 (mvm) on core 3`."""
        opcode = int(self.rows["opcode"][row])
        mnemonic = INSTRUCTIONS[opcode].name if opcode < len(INSTRUCTIONS) else f"opcode {opcode}"
        core = int(np.searchsorted(self.program.stream_ptr, row, side="right")) - 1
        return f"row {row} ({mnemonic}) on core {core}"

    def of_opcode(self, fact: Callable[[int], Any], dtype: Any = bool) -> Array:
        """dtype[n]: a fact of each row's opcode."""
        return np.array([fact(code) for code in range(len(INSTRUCTIONS))], dtype)[self.rows["opcode"]]

    def means(self, field: str, *meanings: str) -> Array:
        """bool[n]: whether a field of a row has one of these meanings."""
        return self.of_opcode(lambda code: INSTRUCTIONS[code].operands.get(field) in meanings)

    def gathers(self) -> Array:
        """bool[n]: whether a row reads through a gather pattern."""
        return self.of_opcode(lambda code: "pattern" in INSTRUCTIONS[code].operands)

    def has_node(self) -> Array:
        """bool[n]: whether a row names a node of the graph."""
        return (self.rows["node"] >= 0) & (self.rows["node"] < len(self.program.graph.nodes))

    def raise_if_any(self) -> None:
        """Raises ProgramError with what was found, if anything was."""
        if not self.count:
            return
        shown = "".join(f"\n  {sentence}" for sentence in self.sentences)
        more = f"\n  and {self.count - len(self.sentences)} more" if self.count > len(self.sentences) else ""
        faults = "1 fault" if self.count == 1 else f"{self.count} faults"
        raise ProgramError(
            f"program '{self.program.name}': {faults} found, none expected; compile the network again:{shown}{more}"
        )


def marked(size: int, at: Array) -> Array:
    """bool[size]: True at the given places."""
    mask = np.zeros(size, bool)
    mask[at] = True
    return mask
