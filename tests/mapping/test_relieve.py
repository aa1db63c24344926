"""Relief: loads are those of routes walked link by link, swaps are foreseen exactly, the worst link never gets worse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pimloom.mapping.relieve import Mesh, relieve, routed

Array = np.ndarray[Any, np.dtype[Any]]


def problem(seed: int, rows: int, cols: int, cores: int) -> tuple[Array, Array]:
    """Traffic between cores and with the memory, in whole units: most pairs exchange nothing."""
    rng = np.random.default_rng(seed)
    traffic = rng.integers(1, 100, (cores, cores)) * (rng.random((cores, cores)) < 0.2)
    np.fill_diagonal(traffic, 0)
    return traffic.astype(np.float64), rng.integers(0, 50, cores).astype(np.float64)


def walked_loads(traffic: Array, memory: Array, position: Array, rows: int, cols: int) -> dict[tuple[int, int, int, int], float]:
    """By (row, column) and the next (row, column), what a link carries: every message walked along its row, then its column."""
    loads: dict[tuple[int, int, int, int], float] = {}

    def walk(start: tuple[int, int], stop: tuple[int, int], size: float) -> None:
        y, x = start
        while (y, x) != stop:
            ny, nx = (y, x + (1 if stop[1] > x else -1)) if x != stop[1] else (y + (1 if stop[0] > y else -1), x)
            loads[y, x, ny, nx] = loads.get((y, x, ny, nx), 0.0) + size
            y, x = ny, nx

    for a in range(len(memory)):
        here = divmod(int(position[a]), cols)
        walk((0, here[1]), here, memory[a])
        for b in range(len(memory)):
            if traffic[a, b]:
                walk(here, divmod(int(position[b]), cols), traffic[a, b])
    return loads


@pytest.mark.parametrize("seed", range(8))
def test_loads_are_those_of_routes_walked_link_by_link(seed: int) -> None:
    rows, cols = 2 + seed % 3, 3 + seed % 4
    cores = rows * cols
    traffic, memory = problem(seed, rows, cols, cores)
    row, col = np.divmod(np.arange(cores), cols)
    grid = (cores, rows, cols)
    sent = routed(traffic.reshape(grid), np.zeros(grid), memory, row, col).sum(axis=0)
    received = routed(np.zeros(grid), traffic.T.reshape(grid), memory, row, col).sum(axis=0)
    walked = walked_loads(traffic, memory, np.arange(cores), rows, cols)
    for y in range(rows):
        for x in range(cols):
            for link, (ny, nx) in enumerate(((y, x + 1), (y, x - 1), (y + 1, x), (y - 1, x))):
                at = (link, y, x) if link in (0, 2) else (link, min(y, ny), min(x, nx))
                if 0 <= ny < rows and 0 <= nx < cols:
                    assert sent[at] == received[at] == walked.get((y, x, ny, nx), 0.0)


@pytest.mark.parametrize("seed", range(8))
def test_the_worst_link_gets_better_and_only_cores_move(seed: int) -> None:
    rows, cols = 3 + seed % 3, 4 + seed % 2
    cores = rows * cols - seed % 3
    traffic, memory = problem(seed, rows, cols, cores)
    before = max(walked_loads(traffic, memory, np.arange(cores), rows, cols).values())
    position = relieve(Mesh.of(traffic, memory, rows, cols), 0.0)
    assert sorted(position) == list(range(rows * cols))
    assert sorted(position[:cores]) == list(range(cores))
    after = max(walked_loads(traffic, memory, position[:cores], rows, cols).values())
    assert after < before


def test_nothing_moves_where_no_link_carries_too_much() -> None:
    traffic, memory = problem(1, 4, 4, 16)
    worst = max(walked_loads(traffic, memory, np.arange(16), 4, 4).values())
    assert np.array_equal(relieve(Mesh.of(traffic, memory, 4, 4), worst), np.arange(16))
    assert not np.array_equal(relieve(Mesh.of(traffic, memory, 4, 4), 0.9 * worst), np.arange(16))


@pytest.mark.parametrize("seed", range(4))
def test_relief_stops_as_soon_as_it_may(seed: int) -> None:
    """The loads by which it judges are those of the routes: with the worst load it reached as its limit it ends where it ended."""
    traffic, memory = problem(seed, 4, 5, 20)
    position = relieve(Mesh.of(traffic, memory, 4, 5), 0.0)
    reached = max(walked_loads(traffic, memory, position, 4, 5).values())
    again = relieve(Mesh.of(traffic, memory, 4, 5), reached)
    assert max(walked_loads(traffic, memory, again, 4, 5).values()) <= reached
