"""List scheduling of rows on processors that block in messages, in plain Python: `pimloom.kernels.lists` has to agree with it.

Time goes from one event to the next. At each, what has ended is looked at anew from the edges, and the processors that are free decide
one after the other: first those that were idle (at the beginning: all), then those that become free now, each group by number. A free
processor

1. stays with a message that it has chosen before;
2. else takes the message that the other end has chosen and waits with, of several the oldest;
3. else chooses the ready message that waits longest (of two, the one whose send has the smaller number), and starts it if the other
   end is free and has chosen nothing;
4. else starts the ready row that comes first: by priority, one period later for each sample, then by number.

Row r of sample s has number r * samples + s. A send ends `handshake` cycles and its own after the start, its receive that much later again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final


@final
@dataclass(frozen=True)
class Row:
    """What is scheduled once per sample.

    Attributes:
        processor: where it runs.
        cycles: how long it takes.
        priority: its place in the order that is preferred; smaller comes first.
        receive: of a send the row at the other end, else None.
    """

    processor: int
    cycles: int
    priority: int = 0
    receive: int | None = None


@final
@dataclass(frozen=True)
class Edge:
    """Sample s of `target` comes after the end of sample s - `distance` of `source`, if there is such a sample."""

    source: int
    target: int
    distance: int = 0


@final
@dataclass(eq=False)
class Instance:
    """A row for one sample."""

    row: Row
    number: int
    place: int
    after: list[Instance] = field(default_factory=list["Instance"])
    start: int | None = None
    end: int | None = None

    def ready_since(self, now: int) -> int | None:
        """The time since which nothing stands before it; None if something does."""
        ends = [one.end for one in self.after]
        known = [end for end in ends if end is not None and end <= now]
        return max(known, default=0) if len(known) == len(ends) else None


@final
@dataclass(eq=False)
class Message:
    """A send and its receive for one sample."""

    send: Instance
    receive: Instance

    def waits_since(self, now: int) -> int | None:
        """The time since which both ends are ready; None if they are not, or have met."""
        ends = self.send.ready_since(now), self.receive.ready_since(now)
        if self.send.start is not None or None in ends:
            return None
        return max(end for end in ends if end is not None)


@final
@dataclass(eq=False)
class Processor:
    """One thing at a time."""

    number: int
    work: list[Instance] = field(default_factory=list["Instance"])
    messages: list[tuple[Message, Processor]] = field(default_factory=list["tuple[Message, Processor]"])
    busy_until: int = 0
    is_free: bool = True
    chosen: Message | None = None


@final
class ListSchedule:
    """A schedule of all instances.

    Attributes:
        open_since: when a processor first decided that several others waited for, each with a message; None if none did.
    """

    def __init__(self, rows: Sequence[Row], edges: Sequence[Edge], *, samples: int, period: int, handshake: int) -> None:
        """Schedules `samples` instances of every row; a sample adds `period` to priorities."""
        self.open_since: int | None = None
        self._handshake = handshake
        self._instances = [
            [Instance(row, r * samples + s, row.priority + s * period) for s in range(samples)] for r, row in enumerate(rows)
        ]
        for edge in edges:
            for s in range(edge.distance, samples):
                self._instances[edge.target][s].after.append(self._instances[edge.source][s - edge.distance])
        self._processors = [Processor(p) for p in range(1 + max(row.processor for row in rows))]
        self._hand_out(rows)
        self._run()

    @property
    def starts(self) -> list[list[int]]:
        """[row][sample], cycles: when each begins, -1 for never."""
        return [[-1 if one.start is None else one.start for one in samples] for samples in self._instances]

    def _hand_out(self, rows: Sequence[Row]) -> None:
        receives = {row.receive for row in rows if row.receive is not None}
        for r, row in enumerate(rows):
            here = self._processors[row.processor]
            if row.receive is not None:
                there = self._processors[rows[row.receive].processor]
                for send, receive in zip(self._instances[r], self._instances[row.receive], strict=True):
                    message = Message(send, receive)
                    here.messages.append((message, there))
                    there.messages.append((message, here))
            elif r not in receives:
                here.work += self._instances[r]

    def _run(self) -> None:
        now: int | None = 0
        while now is not None:
            for processor in [p for p in self._processors if p.is_free]:
                self._decide(processor, now)
            for processor in [p for p in self._processors if not p.is_free and p.busy_until == now]:
                processor.is_free = True
                self._decide(processor, now)
            now = min((p.busy_until for p in self._processors if p.busy_until > now), default=None)

    def _decide(self, me: Processor, now: int) -> None:
        if not me.is_free or me.chosen is not None:
            return
        waiting = [(since, message.send.number, message, other) for message, other in me.messages
                   if (since := message.waits_since(now)) is not None]  # fmt: skip
        wanted = [one for one in waiting if one[3].chosen is one[2]]
        if len(wanted) > 1 and self.open_since is None:
            self.open_since = now
        if waiting:
            *_, message, other = min(wanted or waiting, key=lambda one: one[:2])
            if wanted or (other.is_free and other.chosen is None):
                self._meet(message, me, other, now)
            else:
                me.chosen = message
            return
        ready = [one for one in me.work if one.start is None and one.ready_since(now) is not None]
        if ready:
            first = min(ready, key=lambda one: (one.place, one.number))
            _carry_out(first, me, now, now + first.row.cycles)

    def _meet(self, message: Message, me: Processor, other: Processor, now: int) -> None:
        other.chosen = None
        sender, receiver = (me, other) if me.number == message.send.row.processor else (other, me)
        sent = now + self._handshake + message.send.row.cycles
        _carry_out(message.send, sender, now, sent)
        _carry_out(message.receive, receiver, now, sent + message.receive.row.cycles)


def _carry_out(instance: Instance, processor: Processor, start: int, end: int) -> None:
    instance.start, instance.end = start, end
    processor.is_free, processor.busy_until = False, end
