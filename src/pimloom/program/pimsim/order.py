"""The order of a program's rows for a machine whose cores meet at every message.

A core of pimsim-nn does one thing at a time, in the order of its list, and stays at a `send` until the other core has come
to its `recv`. How long cores wait for each other is a matter of the lists alone. So before a program is said in that
instruction set its rows are scheduled again, with what they take there: one after the other, the one that can begin first,
at the earliest time at which its core is free (a message: both cores). Lists in the order of these times come to their end,
as all of them follow one clock.

Of several samples the schedule is one period long: a time stands for itself and all times whole periods later, and a row
that begins n periods after the first one has stage n. Buffers that one sample leaves to the next must be free by then: where
a row ends too late for one of the next sample that waits for it, that one begins later, and all is scheduled again. The
period is the shortest of some for which this comes to an end.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np

from pimloom.program.isa import INSTRUCTIONS, SEND
from pimloom.program.program import Program
from pimloom.program.rows import Array

ROOM: Final = (1.02, 1.04, 1.07, 1.1, 1.15, 1.2, 1.3, 1.45, 1.7, 2.0)
"""Periods that are tried, over the time that the busiest core works."""

MOST_TRIES: Final = 14
"""Schedules that are made for one period."""

_NEVER: Final = 1 << 60


@final
class _Core:
    """When a core is taken, as disjoint times in order; within one period if times repeat."""

    def __init__(self, period: int) -> None:
        self.period = period
        self.starts: list[int] = []
        self.ends: list[int] = []

    def free_from(self, time: int, duration: int) -> int:
        """The first time from `time` on at which the core is free for so long; `_NEVER` if there is none."""
        turn, at = divmod(time, self.period)
        if not self.starts:
            return time
        begin = at
        i = bisect_right(self.starts, begin) - 1
        if i >= 0 and self.ends[i] > begin:
            begin = self.ends[i]
        i += 1
        for _ in range(len(self.starts) + 2):
            if i == len(self.starts):
                stop = self.starts[0] + self.period
                if stop - begin >= duration:
                    return turn * self.period + begin
                turn, begin, i = turn + 1, max(self.ends[-1] - self.period, 0), 0
                if self.starts[0] <= begin:
                    begin, i = max(begin, self.ends[0]), 1
                continue
            if self.starts[i] - begin >= duration:
                return turn * self.period + begin
            begin = max(begin, self.ends[i])
            i += 1
        return _NEVER

    def take(self, time: int, duration: int) -> None:
        """Takes a time that is free."""
        begin = time % self.period
        stop = begin + duration
        if stop > self.period and self.period < _NEVER:
            self._put(begin, self.period)
            self._put(0, stop - self.period)
        else:
            self._put(begin, stop)

    def _put(self, begin: int, stop: int) -> None:
        if begin == stop:
            return
        i = bisect_right(self.starts, begin)
        if i and self.ends[i - 1] == begin:
            self.ends[i - 1] = stop
            if i < len(self.starts) and self.starts[i] == stop:
                self.ends[i - 1] = self.ends.pop(i)
                self.starts.pop(i)
        elif i < len(self.starts) and self.starts[i] == stop:
            self.starts[i] = begin
        else:
            self.starts.insert(i, begin)
            self.ends.insert(i, stop)


@final
@dataclass(frozen=True, slots=True)
class _Work:
    """What is to be scheduled: rows, both ends of a message as one.

    Attributes:
        unit: int64[n], the unit of each row: its own number, or that of the send.
        duration: row to ns.
        after: unit to units of the same sample that wait for it.
        missing: unit to the number of units that it waits for.
        back: int64[3, m], units, units of later samples that wait for them, and how many samples later.
        rank: unit to the time from its begin to the end of the last unit that depends on it.
    """

    unit: Array
    duration: list[int]
    after: list[list[int]]
    missing: list[int]
    back: Array
    rank: list[int]


def reordered(program: Program, duration_ns: Array) -> Program:
    """The program with its rows in another order, and other stages.

    Args:
        program: for a machine of kind `crossbar`.
        duration_ns: int64[n], what each row takes on its core when nothing waits.

    Returns:
        The same program where no order of one of the periods that are tried fits.
    """
    work = _work(program, duration_ns)
    if program.samples == 1:
        found = _schedule(program, work, _NEVER, [0] * program.n_rows)
        assert found is not None
        return _in_order(program, work, found[0], 0)
    busiest = int(np.bincount(program.rows["processor"], duration_ns).max(initial=1))
    for room in ROOM:
        period = round(busiest * room)
        starts = _periodic(program, work, period)
        if starts is not None:
            return _in_order(program, work, starts, period)
    return program


def _periodic(program: Program, work: _Work, period: int) -> list[int] | None:
    """Begin of each unit in a schedule that repeats; None if none is found."""
    release = np.zeros(program.n_rows, np.int64)
    before, after, samples = work.back
    for _ in range(MOST_TRIES):
        found = _schedule(program, work, period, release.tolist())
        if found is None:
            return None
        starts, ends = (np.array(times, np.int64) for times in found)
        least = ends[before] - samples * period
        late = least > starts[after]
        if not late.any():
            return found[0]
        np.maximum.at(release, after[late], least[late])
    return None


def _work(program: Program, duration_ns: Array) -> _Work:
    n = program.n_rows
    unit = np.arange(n)
    kind = np.array([row.kind for row in INSTRUCTIONS])[program.rows["opcode"]]
    sends = np.flatnonzero(kind == SEND)
    unit[program.partner[sends]] = sends
    target = unit[np.repeat(np.arange(n), np.diff(program.dep_ptr))]
    source = unit[program.dep_row]
    after: list[list[int]] = [[] for _ in range(n)]
    missing = [0] * n
    for s, t, d in zip(source.tolist(), target.tolist(), program.dep_distance.tolist(), strict=True):
        if d == 0 and s != t:
            after[s].append(t)
            missing[t] += 1
    duration = np.maximum(duration_ns, 1).tolist()
    later = program.dep_distance > 0
    back = np.stack([source[later], target[later], program.dep_distance[later].astype(np.int64)])
    return _Work(unit, duration, after, missing, back, _ranks(program, unit, duration, after, missing))


def _ranks(program: Program, unit: Array, duration: list[int], after: list[list[int]], missing: list[int]) -> list[int]:
    """Time from the begin of each unit to the end of all that depends on it, if no core were ever busy."""
    left = list(missing)
    order = [u for u in range(program.n_rows) if unit[u] == u and not left[u]]
    for u in order:
        for t in after[u]:
            left[t] -= 1
            if not left[t]:
                order.append(t)
    partner = program.partner.tolist()
    rank = [0] * program.n_rows
    for u in reversed(order):
        both = duration[u] + (duration[partner[u]] if partner[u] >= 0 else 0)
        rank[u] = both + max((rank[t] for t in after[u]), default=0)
    return rank


def _schedule(program: Program, work: _Work, period: int, release: list[int]) -> tuple[list[int], list[int]] | None:
    """Begins and ends of units that begin at `release` or later; None where a core's period is too full for a unit."""
    n = program.n_rows
    processor, partner = program.rows["processor"].tolist(), program.partner.tolist()
    cores = [_Core(period) for _ in range(program.n_processors)]
    duration, after = work.duration, work.after
    missing, earliest = list(work.missing), list(release)
    starts, ends = [0] * n, [0] * n
    ready = [(earliest[u], -work.rank[u], u) for u in range(n) if work.unit[u] == u and not missing[u]]
    heapq.heapify(ready)
    while ready:
        begin, _, u = heapq.heappop(ready)
        other, core, own = partner[u], cores[processor[u]], duration[u]
        if other < 0:
            begin = core.free_from(begin, own)
            end = begin + own
        else:
            there, both = cores[processor[other]], own + duration[other]
            begin = _meeting(core, there, begin, own, both)
            end = begin + both
        if begin >= _NEVER:
            return None
        core.take(begin, own)
        if other >= 0:
            there.take(begin, both)
        starts[u], ends[u] = begin, end
        for t in after[u]:
            earliest[t] = max(earliest[t], end)
            missing[t] -= 1
            if not missing[t]:
                heapq.heappush(ready, (earliest[t], -work.rank[t], t))
    return starts, ends


def _meeting(sender: _Core, receiver: _Core, time: int, own: int, both: int) -> int:
    """The first time from `time` on at which both cores are free; `_NEVER` if there is none within a few periods."""
    for _ in range(4 * (len(sender.starts) + len(receiver.starts)) + 8):
        first = sender.free_from(time, own)
        if first >= _NEVER:
            return _NEVER
        time = receiver.free_from(first, both)
        if time == first or time >= _NEVER:
            return time
    return _NEVER


def _in_order(program: Program, work: _Work, starts: list[int], period: int) -> Program:
    """The program sorted by the begins of its rows."""
    begin = np.array(starts, np.int64)[work.unit]
    begin -= begin.min(initial=0)
    stage, within = np.divmod(begin, period) if period else (np.zeros_like(begin), begin)
    order = np.lexsort((work.unit, within, program.rows["processor"]))
    number = np.empty(order.size, np.int64)
    number[order] = np.arange(order.size)
    rows = program.rows[order].copy()
    rows["stage"] = stage[order]
    counts = np.diff(program.dep_ptr)[order]
    dep_ptr = np.concatenate(([0], np.cumsum(counts)))
    edges = np.repeat(program.dep_ptr[order] - dep_ptr[:-1], counts) + np.arange(program.dep_row.size)
    partner = program.partner[order]
    return replace(
        program, rows=rows, partner=np.where(partner >= 0, number[np.maximum(partner, 0)], -1).astype(np.int32),
        dep_ptr=dep_ptr.astype(np.int32), dep_row=number[program.dep_row[edges]].astype(np.int32), dep_distance=program.dep_distance[edges],
    )  # fmt: skip
