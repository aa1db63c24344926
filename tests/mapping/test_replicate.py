"""Replication against brute force."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from pimloom.mapping.replicate import Demand, balance, bottleneck, frontier, grid, spend


def random_demands(seed: int) -> tuple[list[Demand], int]:
    rng = np.random.default_rng(seed)
    demands = [
        Demand(
            int(rng.integers(1, 6)), int(rng.integers(1, 6)), int(rng.integers(1, 3)), float(rng.integers(1, 20)),
            int(rng.integers(1, 4)), int(rng.integers(0, 2)) * int(rng.integers(1, 8)),
        )
        for _ in range(int(rng.integers(1, 4)))
    ]  # fmt: skip
    return demands, sum(d.size for d in demands) + int(rng.integers(0, 25))


def fewest_steps(rows: int, width: int, copies: int) -> int:
    """By trying every grid."""
    return min(-(-rows // ry) * -(-width // rx) for ry in range(1, copies + 1) for rx in range(1, copies // ry + 1))


def time_of(demand: Demand, copies: int) -> float:
    most = demand.most or demand.rows * demand.width
    return fewest_steps(demand.rows, demand.width, min(copies, most)) * demand.repeats * demand.window_time


@pytest.mark.parametrize("first", range(0, 160, 20))
def test_balance_is_the_best_there_is(first: int) -> None:
    for seed in range(first, first + 20):
        demands, capacity = random_demands(seed)
        choices = [range(1, min(capacity // d.size, d.rows * d.width) + 1) for d in demands]
        best = min(
            max(time_of(d, c) for d, c in zip(demands, copies, strict=True))
            for copies in itertools.product(*choices)
            if sum(c * d.size for c, d in zip(copies, demands, strict=True)) <= capacity
        )
        chosen = balance(demands, capacity)
        assert sum(c * d.size for c, d in zip(chosen, demands, strict=True)) <= capacity
        assert bottleneck(demands, chosen) == max(time_of(d, c) for d, c in zip(demands, chosen, strict=True)) == best, seed


@pytest.mark.parametrize("first", range(1000, 1400, 100))
def test_spend_keeps_the_capacity_and_never_worsens(first: int) -> None:
    for seed in range(first, first + 100):
        demands, capacity = random_demands(seed)
        chosen = balance(demands, capacity)
        richer = spend(demands, chosen, capacity)
        assert sum(c * d.size for c, d in zip(richer, demands, strict=True)) <= capacity
        assert all(a >= b for a, b in zip(richer, chosen, strict=True))
        assert bottleneck(demands, richer) <= bottleneck(demands, chosen)
        assert all(time_of(d, a) <= time_of(d, b) for d, a, b in zip(demands, richer, chosen, strict=True))


def test_spend_leaves_nothing_that_would_help() -> None:
    for seed in range(2000, 2100):
        demands, capacity = random_demands(seed)
        richer = spend(demands, balance(demands, capacity), capacity)
        left = capacity - sum(c * d.size for c, d in zip(richer, demands, strict=True))
        for demand, copies in zip(demands, richer, strict=True):
            more = copies + left // demand.size
            assert time_of(demand, more) == time_of(demand, copies), seed


def test_more_capacity_is_never_slower() -> None:
    for seed in range(100):
        demands, capacity = random_demands(seed)
        times = [bottleneck(demands, balance(demands, capacity + more)) for more in range(0, 40, 4)]
        assert times == sorted(times, reverse=True)


def test_without_capacity_for_one_copy_each_gets_one() -> None:
    assert balance([Demand(4, 4, 1, 1.0, 5), Demand(2, 2, 1, 1.0, 5)], 3) == [1, 1]
    assert balance([], 10) == []


@pytest.mark.parametrize(("rows", "width"), [(1, 1), (1, 13), (7, 7), (12, 5), (30, 1)])
def test_frontier_holds_the_useful_copies(rows: int, width: int) -> None:
    points = frontier(rows, width, rows * width)
    copies, steps = [p[0] for p in points], [p[1] for p in points]
    assert copies[0] == 1 and steps[0] == rows * width and steps[-1] == 1
    assert copies == sorted(set(copies)) and steps == sorted(set(steps), reverse=True)
    best = [fewest_steps(rows, width, c) for c in range(1, rows * width + 1)]
    assert dict(points) == {c: s for c, s in enumerate(best, 1) if c == 1 or s < best[c - 2]}


def test_grid_takes_the_fewest_steps() -> None:
    for rows, width, copies in itertools.product((1, 3, 8), (1, 5, 7), (1, 2, 3, 6, 11, 100)):
        ry, rx = grid(rows, width, copies)
        assert ry * rx <= copies
        assert -(-rows // ry) * -(-width // rx) == fewest_steps(rows, width, copies)


def test_most_limits_the_copies() -> None:
    demand = Demand(8, 8, 1, 1.0, 1)
    assert balance([demand], 64) == [64]
    assert balance([replace(demand, most=4)], 64) == [4]
