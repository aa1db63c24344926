"""The timetable: when each piece of work would run if cores took it as it becomes ready.

It is an estimate without contention for ports and links. What matters is that it is one consistent order of all work:
instructions are emitted in this order on every core, sends and receives at the same place of it, so that no two cores
can wait for each other (a message is behind everything it depends on, on both sides).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import final

from pimloom.errors import InternalError

INFINITY = float("inf")
EPSILON = 1e-3  # keeps a task strictly behind the one whose buffers it takes over


@final
@dataclass(slots=True)
class Task:
    """A piece of work of one cluster: a range of vectors of one row.

    Attributes:
        cluster: number of the cluster.
        row: output row (input row for a mean).
        x_start: first vector.
        x_stop: one past the last.
        needs: (value, first row, last row) of every streamed operand.
        makes: (value, row) it is part of, or None.
        busy: time during which the cluster can take nothing else.
        tail: time from the end of that until the result is there.
        pause: time that the cluster lets pass before its next task, to keep pace with slower ones.
        start: filled in.
        end: filled in.
    """

    cluster: int
    row: int
    x_start: int
    x_stop: int
    needs: tuple[tuple[str, int, int], ...]
    makes: tuple[str, int] | None
    busy: float
    tail: float
    pause: float = 0.0
    start: float = 0.0
    end: float = 0.0


@final
@dataclass(slots=True)
class _Row:
    """A row of a value that clusters make.

    Attributes:
        parts: tasks that are not done yet.
        latest: end of the last one that is.
        waiting: clusters whose next task needs it.
    """

    parts: int = 0
    latest: float = 0.0
    waiting: list[int] = field(default_factory=list[int])


def fill(
    tasks: Sequence[Sequence[Task]], servers: Sequence[int] | None, arrival: Mapping[str, Sequence[float]],
    delays: Mapping[str, float], buffers: Sequence[int],
) -> None:  # fmt: skip
    """Gives every task its start and end.

    Args:
        tasks: per cluster, in the order it must take them.
        servers: per cluster, the server that it shares with others (its core where cores work serially); None if each has its own.
        arrival: values that come from outside: time of each row.
        delays: per value, time from the end of a task until readers elsewhere have its result; 0 where absent.
        buffers: per cluster, tasks that may be under way at once.

    Raises:
        InternalError: tasks need each other in a circle.
    """
    rows, never = _rows_of(tasks), _Row(parts=1)
    missing = [0] * len(tasks)
    known = [0.0] * len(tasks)  # when the rows that a cluster's next task needs are there
    freed = [0.0] * len(tasks)  # when its buffers are
    place = [0] * len(tasks)
    free = [0.0] * (len(tasks) if servers is None else max(servers, default=-1) + 1)
    due = [INFINITY] * len(free)
    queues: list[list[tuple[float, int]]] = [[] for _ in free]
    events: list[tuple[float, int]] = []  # (time, server)

    def enlist(cluster: int, before: Task | None) -> None:
        """Looks at the next task of a cluster; offers it to its server when its rows are known."""
        index, line = place[cluster], tasks[cluster]
        if index == len(line):
            return
        task, earlier = line[index], index - buffers[cluster]
        freed[cluster] = line[earlier].end + EPSILON if earlier >= 0 else 0.0
        # What the part of a row before this one needed is there.
        if before is None or task.needs is not before.needs:
            look_up(cluster, task)
        if missing[cluster] == 0:
            offer(cluster)

    def look_up(cluster: int, task: Task) -> None:
        """Finds when the rows that a task needs are there, and counts those of which that is not known yet."""
        latest, lacking = 0.0, 0
        for value, first, last in task.needs:
            outside = arrival.get(value)
            if outside is not None:
                latest = max(latest, max(outside[first : last + 1], default=0.0))
                continue
            delay = delays.get(value, 0.0)
            for number in range(first, last + 1):
                row = rows.get((value, number), never)
                if row.parts:
                    lacking += 1
                    row.waiting.append(cluster)
                elif row.latest + delay > latest:
                    latest = row.latest + delay
        known[cluster], missing[cluster] = latest, lacking

    def offer(cluster: int) -> None:
        """Lets a server know of a task; it has at most one event at a time at which it takes the first that is ready."""
        ready = known[cluster] if known[cluster] > freed[cluster] else freed[cluster]
        if servers is None:
            heapq.heappush(events, (ready if ready > free[cluster] else free[cluster], cluster))
            return
        server = servers[cluster]
        heapq.heappush(queues[server], (ready, cluster))
        wake(server)

    def wake(server: int) -> None:
        """Makes sure that a shared server looks at its queue when its first task can begin."""
        begin = max(queues[server][0][0], free[server])
        if begin < due[server]:
            due[server] = begin
            heapq.heappush(events, (begin, server))

    def finish(row: _Row, value: str) -> None:
        """Tells those who wait for a row that it is there."""
        at = row.latest + delays.get(value, 0.0)
        for cluster in row.waiting:
            if at > known[cluster]:
                known[cluster] = at
            missing[cluster] -= 1
            if missing[cluster] == 0:
                offer(cluster)

    for cluster in range(len(tasks)):
        enlist(cluster, None)
    done = 0
    while events:
        time, server = heapq.heappop(events)
        if servers is None:
            cluster = server
        elif due[server] == time:
            due[server] = INFINITY
            _, cluster = heapq.heappop(queues[server])
        else:
            continue
        task = tasks[cluster][place[cluster]]
        task.start = time
        free[server] = time + task.busy + task.pause
        end = task.end = time + task.busy + task.tail
        done += 1
        place[cluster] += 1
        if task.makes is not None:
            row = rows[task.makes]
            if end > row.latest:
                row.latest = end
            row.parts -= 1
            if not row.parts:
                finish(row, task.makes[0])
        enlist(cluster, task)
        if servers is not None and queues[server]:
            wake(server)
    if done != sum(len(line) for line in tasks):
        raise InternalError(f"the timetable placed {done} of {sum(len(line) for line in tasks)} tasks")


def _rows_of(tasks: Sequence[Sequence[Task]]) -> dict[tuple[str, int], _Row]:
    """All rows that tasks make, by value and number."""
    rows: defaultdict[tuple[str, int], _Row] = defaultdict(_Row)
    for line in tasks:
        for task in line:
            if task.makes is not None:
                rows[task.makes].parts += 1
    return rows
