"""Events that may come too early: pimsim-nn's `wait` needs its register to be equal to its value, so one `sync` too many blocks it.

A `sync` is in time where messages and events lead from the `wait` in front of the one that takes it to the core that gives it: then
that `wait` has passed. What each core knows of how far others have come is a vector clock, carried along one passage. Where all are
in time in one passage, they are in all of them; then no other assignment of events is possible, either.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from pimloom.program.pimsim.messages import pair_messages
from pimloom.program.pimsim.opcodes import CODE, N_EVENTS
from pimloom.program.pimsim.order import Passage, passage, registers
from pimloom.program.pimsim.table import PimsimProgram
from pimloom.program.rows import Array

_SYNC: Final = CODE["sync"]
_WAIT: Final = CODE["wait"]


@final
@dataclass(frozen=True, slots=True)
class EarlyEvent:
    """A register that may hold more than is waited for.

    Attributes:
        wait: row of the first `wait` that may find too much.
        sync: row of a `sync` that need not come after it.
        is_shared: whether several cores give events of which several `wait` take some, so that it is open who takes which.
    """

    wait: int
    sync: int
    is_shared: bool


def early_events(table: PimsimProgram) -> list[EarlyEvent]:
    """Registers that may hold more than is waited for, in the order of the rows of their `wait`.

    Raises:
        ProgramError: cores wait for each other forever.
    """
    wait, sync = (np.flatnonzero(table.opcode == code) for code in (_WAIT, _SYNC))
    of_wait, of_sync = registers(table, wait), registers(table, sync)
    doubtful = _with_more_than_first(of_wait, table.value[wait], of_sync)
    if not doubtful.size:
        return []
    partner = pair_messages(table)
    found = passage(table, partner)
    taker: dict[int, int] = dict(zip(found.syncs.tolist(), found.waits.tolist(), strict=True))
    passed = _Clocks(table, partner, found, doubtful).passed()
    early: list[EarlyEvent] = []
    for register in doubtful.tolist():
        waits, syncs = wait[of_wait == register], sync[of_sync == register]
        one = _first_early(waits.tolist(), syncs.tolist(), taker, passed)
        if one is not None:
            cores, takers = np.unique(table.core()[syncs]), np.flatnonzero(table.value[waits])
            early.append(EarlyEvent(*one, is_shared=cores.size > 1 and takers.size > 1))
    return sorted(early, key=lambda one: one.wait)


def _with_more_than_first(of_wait: Array, value: Array, of_sync: Array) -> Array:
    """int64[k]: registers that get more `sync` than the first `wait` for them takes."""
    found, first = np.unique(of_wait, return_index=True)
    given = np.sort(of_sync)
    got = np.searchsorted(given, found, side="right") - np.searchsorted(given, found)
    return found[got > value[first]]


def _first_early(waits: list[int], syncs: list[int], taker: dict[int, int], passed: dict[int, int]) -> tuple[int, int] | None:
    """The first `wait` for a register, and a `sync` that need not come after it though it is not among those that it takes."""
    place = {row: at for at, row in enumerate(waits)}
    for at, sync in sorted((place[taker[s]] if s in taker else len(waits), s) for s in syncs):
        if at and passed[sync] <= waits[at - 1]:
            return waits[at - 1], sync
    return None


@final
class _Clocks:
    """How far cores are known to have come, by each core: row r of a core says that all its rows before r have passed.

    A clock is not changed once it is made, so that a `sync` keeps that of its core by reference. It has the cores in whose registers
    events may come too early.
    """

    def __init__(self, table: PimsimProgram, partner: Array, found: Passage, doubtful: Array) -> None:
        self._core: list[int] = table.core().tolist()
        self._partner: list[int] = partner.tolist()
        self._peer: list[int] = table.peer.tolist()
        self._order: list[int] = found.order.tolist()
        owners = np.unique(doubtful // N_EVENTS).tolist()
        self._column = {core: at for at, core in enumerate(owners)}
        self._clock = [np.zeros(len(owners), np.int64)] * table.n_cores
        self._given: dict[int, Array] = {}  # clocks at those sync that somebody takes
        self._taken: dict[int, list[int]] = defaultdict(list)
        for wait, sync in zip(found.waits.tolist(), found.syncs.tolist(), strict=True):
            self._taken[wait].append(sync)
        self._is_taken = set(found.syncs.tolist())

    def passed(self) -> dict[int, int]:
        """Of each `sync` to these cores the row before which the other core is known to have passed all when it is given."""
        found: dict[int, int] = {}
        core, clock = self._core, self._clock
        for row in self._order:
            mine, other = core[row], self._partner[row]
            if other >= 0:
                clock[mine] = clock[core[other]] = self._joined([clock[mine], clock[core[other]]], [row, other])
            elif row in self._taken:
                syncs = self._taken[row]
                clock[mine] = self._joined([clock[mine], *map(self._given.pop, syncs)], syncs)
            elif self._peer[row] in self._column:
                found[row] = int(clock[mine][self._column[self._peer[row]]])
            if row in self._is_taken:
                self._given[row] = clock[mine]
        return found

    def _joined(self, clocks: list[Array], rows: list[int]) -> Array:
        """What several clocks know, and that the cores of some rows have come to these."""
        joined = np.maximum.reduce(clocks)
        for row in rows:
            column = self._column.get(self._core[row])
            if column is not None:
                joined[column] = max(row, int(joined[column]))
        return joined
