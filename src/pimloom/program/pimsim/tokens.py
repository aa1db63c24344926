"""Messages of one byte that say "it is in global memory now".

pimsim-nn orders cores only by messages and events. A core that reads from global memory what another one has written
there waits for a message. Event registers would not do: one `sync` too many before the `wait`, which happens as soon as
lists are repeated, and pimsim-nn waits forever.

A list is one round, in which a row of stage s works for the sample of s rounds before. So a row may need what another core
left in the same round, or any number of rounds back. Whenever two cores meet, each comes to know how far the other one is, and
what that one knew of others; a message of one byte is added only where that, over all meetings there are, does not say that the
writer is done.

A message makes both cores wait for each other, so its place on the writing core matters: it is not sent right behind the
write, but where all lists together have come, by the times that rows take, when the reader needs it. Lists that follow one common
order then still do, and as both ends of every message have one place in it, lists that are repeated never block.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Final, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.program.costing import work_out
from pimloom.program.crossbar import CROSSBAR
from pimloom.program.isa import INSTRUCTIONS, SEND
from pimloom.program.program import Program
from pimloom.program.rows import Array

TOKEN_BYTES: Final = 1
Tokens = dict[int, list[tuple[bool, int]]]

_MOST_BACK: Final = 2
"""Rounds back that are told apart: of two and more, any message in every round makes sure."""

_NEVER: Final = -(1 << 60)


def find_tokens(program: Program) -> Tokens:
    """What has to be done before each row: (True, core) sends a token, (False, core) receives one.

    Tokens that a core sends after its last row stand under `after_all(core)`.

    Raises:
        ProgramError: cores would wait for each other forever.
    """
    source, target, back = _waits(program)
    if not source.size:
        return {}
    order = _CommonOrder(program, source[back == 0], target[back == 0])
    found: Tokens = defaultdict(list)
    for place, writer, row in _Meetings(program, order, (source, target, back)).tokens():
        found[order.row_from(writer, place)].append((True, int(program.rows["processor"][row])))
        found[row].append((False, writer))
    return dict(found)


def after_all(core: int) -> int:
    """Stands for the row behind the last one of a core."""
    return -1 - core


def _waits(program: Program) -> tuple[Array, Array, Array]:
    """int64[m] each: a row, a row of another core that waits for it besides the other end of its message, and the rounds between.

    A row of stage b that waits for one of stage a, d samples back, needs what that did in the round b + d - a before its own.
    """
    source, target = program.dep_row.astype(np.int64), np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))
    stage, processor = program.rows["stage"].astype(np.int64), program.rows["processor"]
    across = processor[source] != processor[target]
    source, target = source[across], target[across]
    back = stage[target] + program.dep_distance[across] - stage[source]
    if (back < 0).any():
        row = int(target[np.argmax(back < 0)])
        raise ProgramError(f"program '{program.name}': row {row} waits for a later round of its list; compile the network again")
    return source, target, np.minimum(back, _MOST_BACK)


@final
class _CommonOrder:
    """An order of all rows that every list follows; both ends of a message have one place in it.

    Attributes:
        units: the rows at each place: one, or the two ends of a message.
        place: of each row.
    """

    def __init__(self, program: Program, source: Array, target: Array) -> None:
        """Orders rows by when they begin if nothing waits longer than it must; `target` waits for `source` in the same round."""
        self._program = program
        waits: dict[int, list[int]] = defaultdict(list)
        for row, before in zip(target.tolist(), source.tolist(), strict=True):
            waits[row].append(before)
        units = _possible_order(program, waits)
        start = _starts(program, units, waits)
        self.units = [units[i] for i in np.argsort(start, kind="stable").tolist()]
        self.place = np.empty(program.n_rows, np.int64)
        for place, unit in enumerate(self.units):
            self.place[list(unit)] = place

    def row_from(self, core: int, place: int) -> int:
        """The first row of a core at a place or behind it."""
        low, high = self._program.stream_ptr[core : core + 2].tolist()
        row = low + int(np.searchsorted(self.place[low:high], place))
        return row if row < high else after_all(core)


def _possible_order(program: Program, waits: dict[int, list[int]]) -> list[tuple[int, ...]]:
    """Rows, both ends of a message together, each behind those that it waits for."""
    kind = np.array([row.kind for row in INSTRUCTIONS])[program.rows["opcode"]].tolist()
    partner, processor = program.partner.tolist(), program.rows["processor"].tolist()
    at, stop = program.stream_ptr[:-1].tolist(), program.stream_ptr[1:].tolist()
    is_passed = bytearray(program.n_rows)
    units: list[tuple[int, ...]] = []
    sleepers: dict[int, list[int]] = defaultdict(list)
    ready = [core for core in range(program.n_processors - 1, -1, -1) if at[core] < stop[core]]

    def pass_row(row: int) -> None:
        is_passed[row] = 1
        at[processor[row]] += 1
        ready.extend(sleepers.pop(row, ()))

    while ready:
        core = ready.pop()
        while at[core] < stop[core]:
            row = at[core]
            missing = next((s for s in waits.get(row, ()) if not is_passed[s]), -1)
            other = partner[row]
            if missing < 0 and other >= 0 and at[processor[other]] != other:
                if is_passed[other]:
                    raise ProgramError(f"program '{program.name}': row {other} passed before row {row}, which it meets")
                missing = other - 1 if other > int(program.stream_ptr[processor[other]]) else other
            if missing < 0 and other >= 0:
                missing = next((s for s in waits.get(other, ()) if not is_passed[s]), -1)
            if missing >= 0:
                sleepers[missing].append(core)
                break
            units.append((row,) if other < 0 else (row, other) if kind[row] == SEND else (other, row))
            for each in units[-1]:
                pass_row(each)
            if other >= 0:
                ready.append(processor[other])
    if not all(is_passed):
        stuck = next(core for core in range(program.n_processors) if at[core] < stop[core])
        raise ProgramError(
            f"program '{program.name}': core {stuck} would wait forever at row {at[stuck]} on pimsim-nn; compile the network again"
        )
    return units


def _starts(program: Program, units: list[tuple[int, ...]], waits: dict[int, list[int]]) -> list[int]:
    """When each unit begins, at the soonest, with the durations of an idle machine."""
    context, processor = work_out(program, CROSSBAR), program.rows["processor"].tolist()
    duration: list[int] = context.costs.idle_ticks()[context.forms.of_row].tolist()
    end = [0] * program.n_rows
    clock = [0] * program.n_processors
    starts: list[int] = []
    for unit in units:
        start = max(max(clock[processor[row]], *(end[s] for s in waits.get(row, (row,)))) for row in unit)
        starts.append(start)
        for row in unit:
            clock[processor[row]] = end[row] = start + max(duration[each] for each in unit)
    return starts


@final
@dataclass(frozen=True, slots=True)
class _Need:
    """A row that must not begin before another core has passed a place, `back` rounds before."""

    writer: int
    back: int
    place: int


@final
class _Meetings:
    """What cores come to know of each other, meeting by meeting, when all lists are repeated.

    `known[c, w]` is the place that core w is known to have come to, by core c; places go on from round to round.
    """

    def __init__(self, program: Program, order: _CommonOrder, waits: tuple[Array, Array, Array]) -> None:
        """Takes the waits of `_waits`."""
        self._order, self._processor = order, program.rows["processor"].tolist()
        self._needs = _needs(program, order.place, waits)
        self._rounds = int(waits[2].max(initial=0)) + 1
        self._known = np.full((program.n_processors, program.n_processors), _NEVER, np.int64)

    def tokens(self) -> list[tuple[int, int, int]]:
        """(place, writer, row): before which row of the place a message from the writer is missing, ascending.

        In round k what is needed of k rounds back can be seen, and all messages added before are there.
        """
        added: dict[int, list[tuple[int, int]]] = defaultdict(list)
        units, processor = self._order.units, self._processor
        eventful = [p for p, unit in enumerate(units) if len(unit) > 1 or unit[0] in self._needs]
        for k in range(self._rounds):
            for place in eventful:
                unit, now = units[place], k * len(units) + place
                for writer, row in added.get(place, ()):
                    self._meet(writer, processor[row], now)
                for row in unit:
                    for need in self._needs.get(row, ()):
                        if self._is_missing(need, k, [processor[r] for r in unit], processor[row]):
                            added[place].append((need.writer, row))
                            self._meet(need.writer, processor[row], now)
                if len(unit) > 1:
                    self._meet(processor[unit[0]], processor[unit[1]], now)
        return [(place, writer, row) for place in sorted(added) for writer, row in added[place]]

    def _is_missing(self, need: _Need, k: int, here: list[int], reader: int) -> bool:
        """Whether the reader cannot know; the two cores of a message know of each other as they meet."""
        if need.back > k or need.writer in here:
            return False
        return bool(self._known[reader, need.writer] <= (k - need.back) * len(self._order.units) + need.place)

    def _meet(self, one: int, other: int, now: int) -> None:
        known = self._known
        known[one, one] = known[other, other] = now
        np.maximum(known[one], known[other], out=known[one])
        known[other] = known[one]


def _needs(program: Program, place: Array, waits: tuple[Array, Array, Array]) -> dict[int, list[_Need]]:
    """What each row needs; of several rows of one core the last."""
    source, target, back = waits
    writer = program.rows["processor"][source].astype(np.int64)
    order = np.lexsort((place[source], back, writer, target))
    is_last = np.ones(order.size, bool)
    is_last[:-1] = np.diff(np.stack([target, writer, back])[:, order], axis=1).any(axis=0)
    found: dict[int, list[_Need]] = defaultdict(list)
    for at in order[is_last].tolist():
        found[int(target[at])].append(_Need(int(writer[at]), int(back[at]), int(place[source[at]])))
    return dict(found)
