"""The list scheduler against plain Python, against what a schedule must keep, and on cases that a person can follow."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from oracles.list_schedule import Edge, ListSchedule, Row
from scheduling.random_rows import Problem, kernel_starts, random_problem

Array = np.ndarray[Any, np.dtype[Any]]
CHUNK = 100
NEVER = 1 << 40
Span = tuple[int, int]


def oracle(problem: Problem) -> ListSchedule:
    return ListSchedule(problem.rows, problem.edges, samples=problem.samples, period=problem.period, handshake=problem.handshake)


def assert_agrees(problem: Problem) -> tuple[Array, int]:
    """Every start of the kernel is that of plain Python; returns them, and the instances that ended.

    Which of several ends that wait with a processor it serves first is the one thing that the kernel leaves open: what starts later is then
    not compared.
    """
    starts, ended = kernel_starts(problem)
    schedule = oracle(problem)
    found, expected = (np.where(array < 0, NEVER, array) for array in (starts, np.array(schedule.starts)))
    until = NEVER if schedule.open_since is None else schedule.open_since
    assert np.array_equal(np.minimum(found, until), np.minimum(expected, until))
    assert ended == np.count_nonzero(starts >= 0)
    return starts, ended


@pytest.mark.parametrize("first", range(0, 800, CHUNK))
def test_starts_equal_plain_python(first: int) -> None:
    compared = 0
    for seed in range(first, first + CHUNK):
        problem = random_problem(seed)
        starts, ended = assert_agrees(problem)
        assert ended == starts.size, seed
        compared += oracle(problem).open_since is None
    assert compared > CHUNK // 2


@pytest.mark.parametrize("first", range(2000, 2300, CHUNK))
def test_circles_stop_what_waits_for_them_alone(first: int) -> None:
    partial = 0
    for seed in range(first, first + CHUNK):
        problem = random_problem(seed, has_circles=True)
        starts, ended = assert_agrees(problem)
        partial += ended < starts.size
    assert partial > CHUNK // 10


# -- what a schedule keeps ------------------------------------------------------------------------------------------


class Checked:
    """The kernel's schedule of a problem, with what follows from its starts."""

    @staticmethod
    @cache
    def of(seed: int) -> Checked:
        return Checked(random_problem(seed))

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        starts, ended = kernel_starts(problem)
        assert ended == starts.size
        self.start = [[int(time) for time in samples] for samples in starts]
        self.receives = set(problem.sends.values())
        self.end = [[self._end(r, s) for s in range(problem.samples)] for r in range(len(problem.rows))]

    def _end(self, row: int, sample: int) -> int:
        begin, cycles = self.start[row][sample], self.problem.rows[row].cycles
        if row in self.receives:
            send = next(s for s, receive in self.problem.sends.items() if receive == row)
            return begin + self.problem.handshake + self.problem.rows[send].cycles + cycles
        return begin + cycles + (self.problem.handshake if row in self.problem.sends else 0)

    def ready(self, row: int, sample: int) -> int:
        """When the last of what an instance has to wait for ends."""
        before = [(e.source, sample - e.distance) for e in self.problem.edges if e.target == row and e.distance <= sample]
        return max((self.end[r][s] for r, s in before), default=0)

    def busy(self, processor: int) -> list[Span]:
        """From start to end of all instances of a processor, in order."""
        rows = [r for r, row in enumerate(self.problem.rows) if row.processor == processor]
        return sorted((self.start[r][s], self.end[r][s]) for r in rows for s in range(self.problem.samples))

    def waits(self, processor: int) -> list[Span]:
        """From ready to start of all messages of a processor."""
        rows, samples = self.problem.rows, range(self.problem.samples)
        ends = [(a, b) for a, b in self.problem.sends.items() if processor in (rows[a].processor, rows[b].processor)]
        return [(max(self.ready(a, s), self.ready(b, s)), self.start[a][s]) for a, b in ends for s in samples]


def gaps(span: Span, covers: Sequence[Span]) -> list[Span]:
    """What is left of a span without some others."""
    left = [span] if span[0] < span[1] else []
    for low, high in covers:
        pieces = [((a, min(b, low)), (max(a, high), b)) for a, b in left]
        left = [one for pair in pieces for one in pair if one[0] < one[1]]
    return left


PROBLEMS = range(4000, 4300, CHUNK)


@pytest.mark.parametrize("first", PROBLEMS)
def test_a_processor_does_one_thing_at_a_time(first: int) -> None:
    for seed in range(first, first + CHUNK):
        checked = Checked.of(seed)
        for processor in range(checked.problem.n_processors):
            busy = checked.busy(processor)
            assert all(one[1] <= other[0] for one, other in itertools.pairwise(busy)), seed


@pytest.mark.parametrize("first", PROBLEMS)
def test_edges_are_kept_and_ends_of_a_message_start_together(first: int) -> None:
    for seed in range(first, first + CHUNK):
        checked = Checked.of(seed)
        for row in range(len(checked.problem.rows)):
            for sample in range(checked.problem.samples):
                assert checked.start[row][sample] >= checked.ready(row, sample), seed
        for send, receive in checked.problem.sends.items():
            assert checked.start[send] == checked.start[receive], seed


@pytest.mark.parametrize("first", PROBLEMS)
def test_nobody_idles_who_has_something_to_do(first: int) -> None:
    """A ready row waits only while its processor is busy or has a message that is ready."""
    for seed in range(first, first + CHUNK):
        checked = Checked.of(seed)
        problem = checked.problem
        covers = [checked.busy(p) + checked.waits(p) for p in range(problem.n_processors)]
        for r, row in enumerate(problem.rows):
            if r in problem.sends or r in checked.receives:
                continue
            for sample in range(problem.samples):
                idle = gaps((checked.ready(r, sample), checked.start[r][sample]), covers[row.processor])
                assert idle == [], (seed, r, sample)


@pytest.mark.parametrize("first", PROBLEMS)
def test_a_ready_message_waits_only_for_a_busy_end_or_an_older_message(first: int) -> None:
    """Of all messages that are ready, the oldest never waits while both its ends are idle."""
    for seed in range(first, first + CHUNK):
        checked = Checked.of(seed)
        problem = checked.problem
        messages = [
            (max(checked.ready(a, s), checked.ready(b, s)), a * problem.samples + s, checked.start[a][s], a, b)
            for a, b in problem.sends.items() for s in range(problem.samples)
        ]  # fmt: skip
        for since, number, start, a, b in messages:
            ends = [problem.rows[a].processor, problem.rows[b].processor]
            older = [(one[0], one[2]) for one in messages if one[:2] < (since, number)]
            assert gaps((since, start), [*checked.busy(ends[0]), *checked.busy(ends[1]), *older]) == [], (seed, number)


# -- by hand --------------------------------------------------------------------------------------------------------


def starts_of(rows: Sequence[Row], edges: Sequence[Edge] = (), *, samples: int = 1, period: int = 0, handshake: int = 0) -> list[list[int]]:
    starts, _ = assert_agrees(Problem(tuple(rows), tuple(edges), samples, period, handshake))
    return starts.tolist()


def test_rows_go_by_priority_and_samples_by_the_period() -> None:
    rows = [Row(0, 5, priority=1), Row(0, 7, priority=0)]
    assert starts_of(rows, samples=2, period=0) == [[14, 19], [0, 7]]
    assert starts_of(rows, samples=2, period=1) == [[7, 19], [0, 12]]  # row 0 of sample 0 and row 1 of sample 1 tie
    assert starts_of(rows[::-1], samples=2, period=1) == [[0, 7], [14, 19]]


def test_a_message_goes_before_work_and_takes_the_receiver_longer() -> None:
    rows = [Row(0, 4, receive=1), Row(1, 3), Row(0, 10), Row(1, 10)]
    # Handshake 2 and send 4: the sender goes on at 6, the receiver writes until 9.
    assert starts_of(rows, handshake=2) == [[0], [0], [6], [9]]


def test_work_is_done_until_the_message_is_ready() -> None:
    """The receive waits for row 2 until 20; the sender has three pieces of 8 to do and turns to the message between them."""
    rows = [Row(0, 1, receive=1), Row(1, 1), Row(1, 20), Row(0, 8), Row(0, 8), Row(0, 8)]
    assert starts_of(rows, [Edge(2, 1)]) == [[24], [24], [0], [0], [8], [16]]
    # What becomes ready at the end of one piece comes before the next.
    assert starts_of([*rows[:2], Row(1, 16), *rows[3:]], [Edge(2, 1)]) == [[16], [16], [0], [0], [8], [17]]


def test_who_has_chosen_a_message_stays_with_it() -> None:
    """Processor 0 wants to send at 2 and waits for processor 1, busy until 9, though its own row 4 becomes ready at 5."""
    rows = [Row(0, 1, receive=1), Row(1, 1), Row(1, 9), Row(0, 2), Row(0, 3), Row(2, 5)]
    assert starts_of(rows, [Edge(3, 0), Edge(5, 4)]) == [[9], [9], [0], [0], [10], [0]]


def test_a_message_with_an_end_that_waits_comes_before_an_older_one() -> None:
    """Processor 1 is busy until 10, 2 until 20; (2 -> 1) is ready at 5, (0 -> 1) at 6, and 0 waits with it."""
    rows = [Row(0, 1, receive=1), Row(1, 1), Row(2, 1, receive=3), Row(1, 1), Row(1, 10), Row(2, 20), Row(3, 5), Row(3, 1, priority=1)]
    assert starts_of(rows, [Edge(6, 2), Edge(7, 0)])[:4] == [[10], [10], [20], [20]]


def test_a_sample_waits_for_the_one_before() -> None:
    rows = [Row(0, 3), Row(1, 5)]
    assert starts_of(rows, [Edge(0, 1), Edge(1, 0, 1)], samples=3) == [[0, 8, 16], [3, 11, 19]]
    assert starts_of(rows, [Edge(0, 1), Edge(1, 0, 2)], samples=3) == [[0, 3, 8], [3, 8, 13]]


def test_a_circle_of_messages_never_starts() -> None:
    """Each of two messages has to come after the other; what does not wait for them is scheduled."""
    rows = [Row(0, 1, receive=1), Row(1, 1), Row(1, 1, receive=3), Row(0, 1), Row(0, 2), Row(1, 2)]
    starts, ended = assert_agrees(Problem(tuple(rows), (Edge(0, 3), Edge(2, 1), Edge(3, 5)), 1, 0, 1))
    assert starts.ravel().tolist() == [-1, -1, -1, -1, 0, -1]
    assert ended == 1
