"""The order in which cores pass what they wait for in one pass over all lists: `send` meets `recv`, `wait` takes what `sync` gave.

A `sync` adds one to a register of another core, and a `wait` of that core goes on when its value is there, and takes as much. As
nobody else takes from that register, what is there need not be kept for another: a pass that comes to a stop would do so in any order.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Final, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.program.pimsim.opcodes import CODE, N_EVENTS
from pimloom.program.pimsim.table import PimsimProgram
from pimloom.program.rows import Array

SHOWN_WAITS: Final = 4
"""Of a circle of cores that wait for each other."""

_SYNC: Final = CODE["sync"]
_WAIT: Final = CODE["wait"]


@final
@dataclass(frozen=True, slots=True)
class Passage:
    """One pass over all lists, as far as cores wait for each other.

    Attributes:
        order: int64[k], rows of `sync`, `wait`, and one end of each message in the order in which they pass; none without events.
        waits: int64[m], rows of `wait`, each as often as its value says.
        syncs: int64[m], rows of `sync` that these take.
    """

    order: Array
    waits: Array
    syncs: Array


def registers(table: PimsimProgram, rows: Array) -> Array:
    """int64[k]: the event register, of all of the chip, that each `sync` or `wait` of `rows` is about."""
    owner = np.where(table.opcode[rows] == _SYNC, table.peer[rows], table.core()[rows])
    return owner.astype(np.int64) * N_EVENTS + table.event[rows]


def rows_of_waits(table: PimsimProgram) -> Array:
    """int64[k]: rows of `wait` that wait for something."""
    return np.flatnonzero((table.opcode == _WAIT) & (table.value > 0))


def passage(table: PimsimProgram, partner: Array, arrivals: Array | None = None) -> Passage:
    """Passes all lists once.

    Args:
        table: the program.
        partner: of `pair_messages`.
        arrivals: int64[n], when each row is at its unit if nothing is waited for. Of several cores that give events to one register
            the earlier ones count first, by these times and what the messages and events before them add. Without them all take
            no time, and cores of smaller numbers come first. What passes at all is the same.

    Raises:
        ProgramError: a `wait` gets too few `sync`, or cores wait for each other forever; the message says who for whom.
    """
    _check_enough(table)
    walk = _Walk(table, partner, arrivals)
    walk.run()
    circle = walk.circle()
    if circle:
        raise ProgramError(f"{table.source}: deadlock: {circle}")
    return walk.passage()


def _check_enough(table: PimsimProgram) -> None:
    """Each register gets as many `sync` as are waited for."""
    wait = rows_of_waits(table)
    sync = np.flatnonzero(table.opcode == _SYNC)
    given = np.sort(registers(table, sync))
    taken = registers(table, wait)
    order = np.argsort(taken, kind="stable")
    wanted = np.cumsum(table.value[wait[order]].astype(np.int64))
    first = np.searchsorted(taken[order], taken[order])
    wanted -= np.concatenate(([0], wanted))[first]
    got = np.searchsorted(given, taken[order], side="right") - np.searchsorted(given, taken[order])
    lacks = np.flatnonzero(wanted > got)
    if lacks.size:
        at = int(lacks[np.argmin(wait[order[lacks]])])
        row, asked = int(wait[order[at]]), int(wanted[at])
        raise ProgramError(
            f"{table.name(row)}: event register {table.event[row]} gets {got[at]} sync in all, {asked} {'is' if asked == 1 else 'are'} "
            "waited for; it would wait forever"
        )


@final
class _Walk:
    """Cores on their way through the rows at which they may wait; those rows have numbers of their own, core after core."""

    def __init__(self, table: PimsimProgram, partner: Array, arrivals: Array | None) -> None:
        is_event = (table.opcode == _SYNC) | (table.opcode == _WAIT)
        self.table, self.rows = table, np.flatnonzero((partner >= 0) | is_event)
        number = np.full(table.n_instructions + 1, -1, np.int64)
        number[self.rows] = np.arange(self.rows.size)
        other = partner[self.rows]
        self.core: list[int] = table.core()[self.rows].tolist()
        self.other: list[int] = np.where(other >= 0, number[np.maximum(other, 0)], -1).tolist()
        self.arrives: list[int] = arrivals[self.rows].tolist() if arrivals is not None else [0] * self.rows.size
        bounds: list[int] = np.searchsorted(self.rows, table.core_ptr).tolist()
        self.at, self.stop = bounds[:-1], bounds[1:]
        self.late = [0] * len(self.at)
        self.ready = [(self.arrives[i], k) for k, i in enumerate(self.at) if i < self.stop[k]]
        heapify(self.ready)
        self.order: list[int] = []
        self.register: list[int] = registers(table, self.rows).tolist() if is_event.any() else []
        self.wanted: list[int] = np.where(table.opcode[self.rows] == _WAIT, table.value[self.rows], -1).tolist()
        self.held: dict[int, deque[tuple[int, int]]] = defaultdict(deque)  # per register what was given, and when
        self.waiting: dict[int, int] = {}  # registers whose core waits, and for how much
        self.taken: list[tuple[int, int]] = []

    def run(self) -> None:
        """Goes as far as cores come."""
        if self.register:
            self._go_in_time()
        else:
            self._go_anyhow()

    def _go_anyhow(self) -> None:
        """Without events no time counts."""
        at, stop, other, core = self.at, self.stop, self.other, self.core
        ready = [k for _, k in self.ready]
        while ready:
            k = ready.pop()
            i = at[k]
            while i < stop[k]:
                j = other[i]
                if at[core[j]] != j:
                    break
                at[core[j]] = j + 1
                ready.append(core[j])
                i += 1
            at[k] = i

    def _go_in_time(self) -> None:
        """Messages are taken as they come, events in the order of time, as they count in it."""
        at, other, core, ready = self.at, self.other, self.core, self.ready
        while ready:
            k = heappop(ready)[1]
            while at[k] < self.stop[k]:
                i = at[k]
                j = other[i]
                if j < 0:
                    if not self._passes_event(i, k):
                        break
                elif at[core[j]] == j:
                    self._meet(i, j)
                else:
                    break
                self.order.append(i)
                at[k] = i + 1

    def _meet(self, i: int, j: int) -> None:
        """The core at row i meets that at row j, which goes on when it is called."""
        k, c = self.core[i], self.core[j]
        gap = self.arrives[i] + self.late[k] - self.arrives[j] - self.late[c]
        self.late[c] += max(gap, 0)
        self.late[k] += max(-gap, 0)
        self.at[c] = j + 1
        if j + 1 < self.stop[c]:
            heappush(self.ready, (self.arrives[j + 1] + self.late[c], c))

    def _passes_event(self, i: int, k: int) -> bool:
        """Whether a core passes a `sync` or a `wait` now; if not, it is called when it may."""
        now = self.arrives[i] + self.late[k]
        if self.ready and self.ready[0] < (now, k):
            heappush(self.ready, (now, k))
            return False
        register, wanted = self.register[i], self.wanted[i]
        held = self.held[register]
        if wanted < 0:
            held.append((i, now))
            if register in self.waiting and len(held) >= self.waiting[register]:
                del self.waiting[register]
                heappush(self.ready, (now, register // N_EVENTS))
            return True
        if len(held) < wanted:
            self.waiting[register] = wanted
            return False
        for _ in range(wanted):
            sync, given = held.popleft()
            self.taken.append((i, sync))
            self.late[k] += max(given - self.arrives[i] - self.late[k], 0)
        return True

    def passage(self) -> Passage:
        """What was passed."""
        taken = self.rows[np.array(self.taken, np.int64).reshape(-1, 2)]
        return Passage(self.rows[np.array(self.order, np.int64)], taken[:, 0], taken[:, 1])

    def circle(self) -> str:
        """Who waits for whom in a circle, "" if all came to their ends."""
        k = next((k for k in range(len(self.at)) if self.at[k] < self.stop[k]), -1)
        if k < 0:
            return ""
        missing = self._missing()
        stuck: dict[int, str] = {}
        while k not in stuck:
            i = self.at[k]
            wanted = self.other[i] if self.other[i] >= 0 else missing[self.register[i]]
            stuck[k] = f"{self._place(i)} waits for {self._place(wanted)}"
            k = self.core[wanted]
        waits = list(stuck.values())[list(stuck).index(k) :]
        if len(waits) > SHOWN_WAITS:
            waits[SHOWN_WAITS - 1 : -1] = [f"and {len(waits) - SHOWN_WAITS} more"]
        return "; ".join(waits)

    def _missing(self) -> dict[int, int]:
        """The first `sync` for each register that was not come to."""
        found: dict[int, int] = {}
        for k, stop in enumerate(self.stop if self.register else ()):
            for i in range(self.at[k], stop):
                if self.other[i] < 0 and self.wanted[i] < 0:
                    found.setdefault(self.register[i], i)
        return found

    def _place(self, i: int) -> str:
        return self.table.place(int(self.rows[i]))
