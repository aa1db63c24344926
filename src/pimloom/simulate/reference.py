"""The reference machine: the rules of `pimloom.kernels.engine` in plain Python, one global list of events.

It shares no code and no control flow with the kernel: every event of every processor passes through one heap in
(time, class, processor, age, phase) order, state is held in objects, and nothing runs ahead. Slow and obviously right.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from pimloom.errors import SimulationError
from pimloom.kernels.booking import RECEIVE, SEND
from pimloom.simulate.timing import Times, Timing

_COMPLETE, _LOCAL, _ISSUE, _SHARED = range(4)
_POST = 15


@dataclass(slots=True)
class _Instance:
    row: int
    sample: int
    age: int
    issued_at: int
    begun: int = 1
    ended: int = 0
    missing: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])
    posted_at: int | None = None


@dataclass(slots=True)
class _Processor:
    work: list[tuple[int, int]]  # (row, sample) still to issue, in order
    next_work: int = 0
    has_led: bool = False  # the lead of the next row has passed
    age: int = 0
    attached: list[_Instance] = field(default_factory=list[_Instance])  # in the window, oldest first
    detached: int = 0
    blocked_since: int | None = None  # no room
    held_by: _Instance | None = None  # in-order issue waits for this instance


class _Machine:
    """One simulation; `run` goes to the end."""

    def __init__(self, timing: Timing) -> None:
        self.t = timing = timing.by_row()
        self.owner = timing.processor()
        self.processors = [_Processor(self._work_of(p)) for p in range(timing.n_processors)]
        self.heap: list[tuple[int, int, int, int, int, int, _Instance | None]] = []
        self.pushed = 0
        self.free: defaultdict[int, int] = defaultdict(int)
        self.commands: dict[tuple[int, int], int] = {}
        self.flying: dict[tuple[int, int], _Instance] = {}
        self.begun: dict[tuple[int, int], int] = {}  # (row, sample) to the start of its first phase
        self.ended: dict[tuple[int, int], int] = {}
        self.waits = np.zeros((timing.n_rows, 4), np.int64)
        self.dependents: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for row in range(timing.n_rows):
            for source, back in self._dependencies(row):
                self.dependents[source].append((row, back))

    def _work_of(self, p: int) -> list[tuple[int, int]]:
        rows = range(int(self.t.stream_ptr[p]), int(self.t.stream_ptr[p + 1]))
        if self.t.until_cycles:
            return [(row, 0) for row in rows]  # of the first round
        everything = ((row, i - int(self.t.stage[row])) for i in range(self.t.iterations) for row in rows)
        return [(row, sample) for row, sample in everything if 0 <= sample < self.t.samples]

    def _dependencies(self, row: int) -> list[tuple[int, int]]:
        edges = slice(int(self.t.dep_ptr[row]), int(self.t.dep_ptr[row + 1]))
        return [(int(r), int(d)) for r, d in zip(self.t.dep_row[edges], self.t.dep_distance[edges], strict=True)]

    def _at(self, time: int, kind: int, p: int, instance: _Instance | None, phase: int = 0) -> None:
        age = instance.age if instance is not None else 0
        self.pushed += 1
        heapq.heappush(self.heap, (time, kind, p, age, phase, self.pushed, instance))

    def run(self) -> Times:
        for p in range(self.t.n_processors):
            self._at(0, _ISSUE, p, None)
        while self.heap:
            time, kind, p, _, phase, _, instance = heapq.heappop(self.heap)
            if instance is None:
                self._issue(time, p)
            elif kind == _COMPLETE:
                self._complete(time, p, instance)
            elif phase == _POST:
                self._post(time, instance)
            else:
                self._serve(time, p, instance, phase)
        if self.t.until_cycles:
            return self._rounds()
        start, done = (np.full((self.t.n_rows, self.t.samples), -1, np.int64) for _ in range(2))
        for found, times in ((self.begun, start), (self.ended, done)):
            for place, time in found.items():
                times[place] = time
        if (done < 0).any():
            raise SimulationError("deadlock: the reference machine stopped before the end")
        return Times(start, done, self.waits)

    def _rounds(self) -> Times:
        none = np.zeros((self.t.n_rows, 0), np.int64)
        issued = [divmod(p.next_work, len(p.work)) if p.work else (0, 0) for p in self.processors]
        return Times(none, none, self.waits, 0, np.array([i[0] for i in issued]), np.array([i[1] for i in issued]))

    # Issue -------------------------------------------------------------------------------------------------

    def _has_room(self, p: int, row: int) -> bool:
        processor = self.processors[p]
        return processor.detached < self.t.queue if self.t.detached[row] else len(processor.attached) < self.t.window

    def _next(self, p: int) -> tuple[int, int] | None:
        """Row and sample that a processor issues next."""
        processor = self.processors[p]
        if self.t.until_cycles and processor.work:
            round_number, place = divmod(processor.next_work, len(processor.work))
            return processor.work[place][0], round_number
        return processor.work[processor.next_work] if processor.next_work < len(processor.work) else None

    def _issue(self, time: int, p: int) -> None:
        processor = self.processors[p]
        following = self._next(p)
        if following is None or (self.t.until_cycles and time >= self.t.until_cycles):
            return
        row, sample = following
        if not self._has_room(p, row):
            processor.blocked_since = time
            return
        if self.t.lead[row] and not processor.has_led:
            processor.has_led = True
            self._at(time + int(self.t.lead[row]), _ISSUE, p, None)
            return
        processor.has_led = False
        processor.next_work += 1
        instance = _Instance(row, sample, processor.age, time)
        processor.age += 1
        self.flying[row, sample] = instance
        if self.t.detached[row]:
            processor.detached += 1
        else:
            processor.attached.append(instance)
        wanted = [(r, sample - d) for r, d in self._dependencies(row) if sample >= d]
        instance.missing = {w for w in wanted if w not in self.ended}
        if not instance.missing:
            self._become_ready(time, instance)
        elif self.t.in_order:
            processor.held_by = instance
            return
        self._at(time + self.t.issue_cycles, _ISSUE, p, None)

    def _become_ready(self, time: int, instance: _Instance) -> None:
        row = instance.row
        p = int(self.owner[row])
        self.waits[row, 0] += time - instance.issued_at
        if self.t.kind[row] in (SEND, RECEIVE) and not self.t.posts[row]:
            self._at(time, _LOCAL, p, instance, _POST)
        else:
            self._request(time, p, instance, 0)

    # Messages ----------------------------------------------------------------------------------------------

    def _post(self, time: int, instance: _Instance) -> None:
        instance.posted_at = time
        other = self.flying.get((int(self.t.partner[instance.row]), instance.sample))
        if other is None or other.posted_at is None:
            return
        send = instance if self.t.kind[instance.row] == SEND else other
        assert send.posted_at is not None
        self.waits[send.row, 2] += time - send.posted_at
        self._request(time + self.t.handshake_cycles, int(self.owner[send.row]), send, int(self.t.posts[send.row]))

    # Phases ------------------------------------------------------------------------------------------------

    def _request(self, time: int, p: int, instance: _Instance, phase: int) -> None:
        resource = int(self.t.phase_res[instance.row, phase])
        is_shared = resource < 0 or bool(self.t.shared[resource])
        self._at(time, _SHARED if is_shared else _LOCAL, p, instance, phase)

    def _serve(self, time: int, p: int, instance: _Instance, phase: int) -> None:
        row, t = instance.row, self.t
        hold, travel = int(t.phase_hold[row, phase]), int(t.phase_pass[row, phase])
        begin = self._book(int(t.phase_res[row, phase]), hold, time)
        self.waits[row, 1] += begin - time
        self.begun.setdefault((row, instance.sample), begin)
        is_only, is_last = t.n_phases[row] == 1, phase + 1 == t.n_phases[row]
        goes_on = is_last if t.is_serial else (phase == 1 or is_only)
        if goes_on and instance.begun < t.reps[row]:
            instance.begun += 1
            self._request(begin + travel if is_only or t.is_serial else begin, p, instance, 0)
        if phase + 1 == t.posts[row]:
            self._at(begin + travel, _LOCAL, p, instance, _POST)
            return
        if phase + 1 < t.n_phases[row]:
            self._request(begin + travel, p, instance, phase + 1)
            return
        instance.ended += 1
        if instance.ended == t.reps[row]:
            self._at(begin + travel, _COMPLETE, p, instance)

    def _book(self, resource: int, hold: int, time: int) -> int:
        t = self.t
        if resource < 0:
            links = t.route_link[int(t.route_ptr[-1 - resource]) : int(t.route_ptr[-resource])]
            if not t.is_wormhole:
                return self._travel([int(link) for link in links], hold, time)
            entries = [(int(link), i * t.hop_cycles) for i, link in enumerate(links)]
            begin = max([time] + [self.free[link] - lag for link, lag in entries])
            for link, lag in entries:
                self.free[link] = begin + lag + hold
            return begin
        device = int(t.gap_device[resource])
        if device < 0:
            begin = max(time, self.free[resource])
            self.free[resource] = begin + hold
            return begin
        begin = time
        for g in range(int(t.gap_ptr[device]), int(t.gap_ptr[device + 1])):
            before = self.commands.get((resource, int(t.gap_before[g])))
            if int(t.gap_after[g]) == hold and before is not None:
                begin = max(begin, before + int(t.gap_cycles[g]))
        self.commands[resource, hold] = begin
        return begin

    def _travel(self, links: list[int], hold: int, time: int) -> int:
        """Takes link after link as each gets free; the start that a message without waits would need to end as late."""
        head = time
        for place, link in enumerate(links):
            head = max(head + (self.t.hop_cycles if place else 0), self.free[link])
            self.free[link] = head + hold
        return head - self.t.hop_cycles * (len(links) - 1)

    # Completion --------------------------------------------------------------------------------------------

    def _complete(self, time: int, p: int, instance: _Instance) -> None:
        processor = self.processors[p]
        row, sample = instance.row, instance.sample
        self.ended[row, sample] = time
        del self.flying[row, sample]
        if self.t.detached[row]:
            processor.detached -= 1
        else:
            while processor.attached and (processor.attached[0].row, processor.attached[0].sample) in self.ended:
                processor.attached.pop(0)
        if processor.blocked_since is not None:
            waiting = self._next(p)
            assert waiting is not None
            if self._has_room(p, waiting[0]):
                self.waits[waiting[0], 3] += time - processor.blocked_since
                processor.blocked_since = None
                self._at(time, _ISSUE, p, None)
        if self.t.kind[row] == SEND:
            receive = self.flying[int(self.t.partner[row]), sample]
            assert receive.posted_at is not None
            self.waits[receive.row, 2] += time - receive.posted_at
            self._request(time, int(self.owner[receive.row]), receive, int(self.t.posts[receive.row]))
        for target, distance in self.dependents[row]:
            waiter = self.flying.get((target, sample + distance))
            if waiter is None or (row, sample) not in waiter.missing:
                continue
            waiter.missing.discard((row, sample))
            if waiter.missing:
                continue
            self._become_ready(time, waiter)
            holder = self.processors[int(self.owner[target])]
            if holder.held_by is waiter:
                holder.held_by = None
                self._at(time + self.t.issue_cycles, _ISSUE, int(self.owner[target]), None)


def run(timing: Timing) -> Times:
    """Simulates to the end; SimulationError on a deadlock."""
    return _Machine(timing).run()
