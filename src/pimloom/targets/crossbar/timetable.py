"""The timetable: when each piece of work would run if cores took it as it becomes ready.

It is an estimate without contention for ports and links. What matters is that it is one consistent order of all work:
instructions are emitted in this order on every core, sends and receives at the same place of it, so that no two cores
can wait for each other (a message is behind everything it depends on, on both sides).
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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


def fill(
    tasks: Sequence[Sequence[Task]], server_of: Callable[[int], int], arrival: Mapping[str, Sequence[float]],
    delays: Mapping[str, float], buffers: Sequence[int],
) -> None:  # fmt: skip
    """Gives every task its start and end.

    Args:
        tasks: per cluster, in the order it must take them.
        server_of: cluster to the server it shares with others (itself, or its core where cores work serially).
        arrival: values that come from outside: time of each row.
        delays: per value, time from the end of a task until readers elsewhere have its result; 0 where absent.
        buffers: per cluster, tasks that may be under way at once.
    """
    parts: defaultdict[tuple[str, int], int] = defaultdict(int)
    for line in tasks:
        for task in line:
            if task.makes:
                parts[task.makes] += 1
    ready_at: dict[tuple[str, int], float] = {}
    latest: defaultdict[tuple[str, int], float] = defaultdict(float)
    waiting: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
    missing = [0] * len(tasks)
    known = [0.0] * len(tasks)  # when the rows that a cluster's next task needs are there
    freed = [0.0] * len(tasks)  # when its buffers are
    place = [0] * len(tasks)
    free: defaultdict[int, float] = defaultdict(float)
    queues: defaultdict[int, list[tuple[float, int, int]]] = defaultdict(list)
    events: list[tuple[float, int]] = []  # (time, server)
    due: dict[int, float] = {}

    def enlist(cluster: int) -> None:
        """Looks at the next task of a cluster; puts it into its server's queue when its rows are known."""
        if place[cluster] == len(tasks[cluster]):
            return
        index = place[cluster]
        task = tasks[cluster][index]
        before = index - buffers[cluster]
        freed[cluster] = tasks[cluster][before].end + EPSILON if before >= 0 else 0.0
        missing[cluster] = 0
        # What the part of a row before this one needed is there.
        if index == 0 or task.needs is not tasks[cluster][index - 1].needs:
            look_up(cluster, task)
        if missing[cluster] == 0:
            offer(cluster)

    def look_up(cluster: int, task: Task) -> None:
        """Finds when the rows that a task needs are there, and counts those of which that is not known yet."""
        known[cluster] = 0.0
        for value, first, last in task.needs:
            outside = arrival.get(value)
            if outside is not None:
                known[cluster] = max(known[cluster], max(outside[first : last + 1], default=0.0))
                continue
            for row in range(first, last + 1):
                time = ready_at.get((value, row))
                if time is None:
                    missing[cluster] += 1
                    waiting[value, row].append(cluster)
                else:
                    known[cluster] = max(known[cluster], time + delays.get(value, 0.0))

    def offer(cluster: int) -> None:
        server = server_of(cluster)
        heapq.heappush(queues[server], (max(known[cluster], freed[cluster]), cluster, place[cluster]))
        wake(server)

    def wake(server: int) -> None:
        """Makes sure that a server looks at its queue when its first task can begin; one event per server is enough."""
        begin = max(queues[server][0][0], free[server])
        if begin < due.get(server, INFINITY):
            due[server] = begin
            heapq.heappush(events, (begin, server))

    def finish(task: Task) -> None:
        key = task.makes
        if key is None:
            return
        latest[key] = max(latest[key], task.end)
        parts[key] -= 1
        if parts[key]:
            return
        ready_at[key] = latest[key]
        delay = delays.get(key[0], 0.0)
        for cluster in waiting.pop(key, ()):
            known[cluster] = max(known[cluster], latest[key] + delay)
            missing[cluster] -= 1
            if missing[cluster] == 0:
                offer(cluster)

    for cluster in range(len(tasks)):
        enlist(cluster)
    done = 0
    while events:
        time, server = heapq.heappop(events)
        if due.get(server) != time:
            continue
        del due[server]
        _, cluster, index = heapq.heappop(queues[server])
        begin = time
        task = tasks[cluster][index]
        task.start = begin
        free[server] = begin + task.busy + task.pause
        task.end = begin + task.busy + task.tail
        done += 1
        place[cluster] += 1
        finish(task)
        enlist(cluster)
        if queues[server]:
            wake(server)
    if done != sum(len(line) for line in tasks):
        raise InternalError(f"the timetable placed {done} of {sum(len(line) for line in tasks)} tasks")
