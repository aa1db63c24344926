"""Times that repeat: they agree with plain Python, keep every edge, and no processor does two things at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pytest
from oracles.list_schedule import Edge
from oracles.modulo_places import places, remaining
from scheduling.random_rows import Problem, random_problem

from pimloom.kernels import modulo as kernel
from pimloom.scheduling import periodic
from pimloom.scheduling.periodic import Places

Array = np.ndarray[Any, np.dtype[Any]]

NO_EDGES = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int64))


@final
@dataclass(frozen=True)
class Rows:
    """A random problem as arrays."""

    processor: Array
    partner: Array
    length: Array
    edges: tuple[Array, Array, Array]
    order: Array

    @classmethod
    def of(cls, problem: Problem) -> Rows:
        rows = problem.rows
        partner = np.full(len(rows), -1)
        length = np.array([row.cycles for row in rows])
        for send, receive in problem.sends.items():
            partner[send], partner[receive] = receive, send
            length[send] += problem.handshake
            length[receive] += length[send]
        edges = [np.array([getattr(e, f) for e in problem.edges], np.int64) for f in ("source", "target", "distance")]
        return cls(
            np.array([row.processor for row in rows]), partner, length, (edges[0], edges[1], edges[2]), np.array(in_turn(problem), np.int64)
        )

    def places(self) -> Places:
        return Places(self.processor, self.partner, self.length, self.edges)


def in_turn(problem: Problem) -> list[int]:
    """Rows so that each comes after all that it, or the other end of its message, waits for in its own sample."""
    other = {**problem.sends, **{b: a for a, b in problem.sends.items()}}
    waits: dict[int, set[int]] = {row: set() for row in range(len(problem.rows))}
    for edge in problem.edges:
        if edge.distance == 0:
            waits[edge.target].add(edge.source)
    order: list[int] = []
    left = set(waits)
    while left:
        ready = [r for r in sorted(left) if all(not (waits[end] & left) for end in {r, other.get(r, r)})]
        order += ready
        left.difference_update(ready)
    return order


def moments(rows: Rows, time: Array, period: int) -> dict[int, list[int]]:
    """Per processor the moments of the period at which it works, as often as it does."""
    found: dict[int, list[int]] = {}
    for processor, start, length in zip(rows.processor.tolist(), time.tolist(), rows.length.tolist(), strict=True):
        found.setdefault(processor, []).extend((start + i) % period for i in range(length))
    return found


@pytest.mark.parametrize("seed", range(150))
def test_the_kernel_finds_the_places_of_plain_python(seed: int) -> None:
    problem = random_problem(seed)
    rows, rng = Rows.of(problem), np.random.default_rng(seed)
    n = rows.length.size
    period = int(np.bincount(rows.processor, rows.length).max() * rng.choice([0.7, 1.0, 1.2, 2.0, 20.0])) + 1
    least = rng.integers(0, 2 * period, n)
    source, target, distance = rows.edges
    by_target = np.argsort(target, kind="stable")
    prev_ptr = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=n))])
    rooms = np.concatenate([[0], np.cumsum(np.bincount(rows.processor) + 2)])
    time = np.full(n, -1, np.int64)
    placed = kernel.place(
        rows.order, rows.processor.astype(np.int32), rows.partner, rows.length, period, prev_ptr, source[by_target], distance[by_target],
        least, time, np.zeros(rooms[-1], np.int64), np.zeros(rooms[-1], np.int64), rooms[:-1], np.zeros(rooms.size - 1, np.int64),
    )  # fmt: skip
    lists = (rows.order.tolist(), rows.processor.tolist(), rows.partner.tolist(), rows.length.tolist())
    assert time.tolist() == places(*lists, problem.edges, period, least.tolist())
    assert placed == np.count_nonzero(time >= 0)


@pytest.mark.parametrize("seed", range(150))
def test_periods_keep_edges_and_processors_apart(seed: int) -> None:
    rows = Rows.of(random_problem(seed))
    found = rows.places().periodic(rows.order, 10**6)
    assert found is not None
    time, period = found
    source, target, distance = rows.edges
    assert (time[target] >= time[source] + rows.length[source] - distance * period).all()
    ends = rows.partner >= 0
    assert (time[ends] == time[rows.partner[ends]]).all()
    assert all(len(taken) == len(set(taken)) for taken in moments(rows, time, period).values())
    assert rows.places().periodic(rows.order, period) is None


@pytest.mark.parametrize("seed", range(60))
def test_one_sample_and_what_is_left_of_it(seed: int) -> None:
    problem = random_problem(seed, most_rows=14)
    rows = Rows.of(problem)
    time = rows.places().once(rows.order)
    source, target, distance = rows.edges
    now = distance == 0
    assert (time[target] >= time[source] + rows.length[source])[now].all()
    assert all(len(taken) == len(set(taken)) for taken in moments(rows, time, int(rows.length.sum()) + 1).values())
    left = rows.places().remaining(rows.order)
    lists = (rows.partner.tolist(), rows.length.tolist(), problem.edges)
    assert left.tolist() == [remaining(*lists, row) for row in range(rows.length.size)]
    assert (time + rows.length).max() >= left.max()


def test_rows_that_come_too_early_for_the_sample_before_are_placed_anew() -> None:
    """Row 0 writes what row 1 of the sample before, on a processor that is busy until then, has still to read."""
    edges = [Edge(0, 1), Edge(2, 1), Edge(1, 0, 1)]
    columns = [np.array([getattr(e, f) for e in edges], np.int64) for f in ("source", "target", "distance")]
    rows = Places(np.array([0, 1, 1]), np.array([-1, -1, -1]), np.array([5, 5, 15]), (columns[0], columns[1], columns[2]))
    found = rows.periodic(np.array([0, 2, 1]), 100)
    assert found is not None
    time, period = found
    assert (time.tolist(), period) == ([0, 15, 0], 21)


@pytest.mark.parametrize(("second", "is_found"), [(0.1, True), (1.0, False)])
def test_no_period_is_found_that_is_too_long(second: float, is_found: bool) -> None:
    """Rows of 100, 10 or 100, 70 and 100 cycles, each on a processor of its own, all of a sample before all of the next."""
    edges = [Edge(0, 1), Edge(1, 2), Edge(2, 3), Edge(3, 0, 1)]
    columns = [np.array([getattr(e, f) for e in edges], np.int64) for f in ("source", "target", "distance")]
    length = np.array([100, int(100 * second), 70, 100])
    found = Places(np.arange(4), np.full(4, -1), length, (columns[0], columns[1], columns[2])).periodic(np.arange(4), 301)
    assert (found is not None) == is_found


def test_a_period_has_room_for_the_busiest_processor() -> None:
    rows = Places(np.array([0, 0, 1]), np.array([-1, -1, -1]), np.array([60, 40, 10]), NO_EDGES)
    found = rows.periodic(np.array([0, 1, 2]), 200)
    assert found is not None and found[1] == int(periodic.FIRST * 100) + 1
    assert found[0].tolist() == [0, 60, 0]
