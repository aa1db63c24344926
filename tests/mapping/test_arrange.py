"""Arrangement: never costlier, gains as they are worked out anew, fixed cores stay, deterministic."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from pimloom.mapping.arrange import arrange, swap_gains

Array = np.ndarray[Any, np.dtype[Any]]


def problem(seed: int, n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    traffic = rng.integers(1, 1000, (n, n)) * (rng.random((n, n)) < 0.4)
    place = rng.integers(0, 41, (n, 2)) / 4.0
    return traffic.astype(np.float64), np.abs(place[:, None] - place[None]).sum(axis=-1)


def cost(traffic: Array, distance: Array, position: Array) -> float:
    n = len(position)
    return sum(traffic[a, b] * distance[position[a], position[b]] for a, b in itertools.product(range(n), range(n)) if a != b)


@pytest.mark.parametrize("seed", range(20))
def test_arrangement_never_costs_more(seed: int) -> None:
    n = 2 + seed
    traffic, distance = problem(seed, n)
    position = arrange(traffic, distance)
    assert sorted(position) == list(range(n))
    assert cost(traffic, distance, position) <= cost(traffic, distance, np.arange(n)) + 1e-9


@pytest.mark.parametrize("seed", range(10))
def test_gains_equal_what_swaps_change(seed: int) -> None:
    n = 3 + seed % 5
    traffic, distance = problem(seed, n)
    weights = traffic + traffic.T
    np.fill_diagonal(weights, 0.0)
    position = np.random.default_rng(seed).permutation(n)
    gains = swap_gains(weights, distance, position)
    before = cost(traffic, distance, position)
    for i, j in itertools.combinations(range(n), 2):
        swapped = position.copy()
        swapped[[i, j]] = swapped[[j, i]]
        assert gains[i, j] == pytest.approx(cost(traffic, distance, swapped) - before)
        assert gains[j, i] == pytest.approx(gains[i, j])


def test_no_single_swap_is_left_that_helps() -> None:
    traffic, distance = problem(3, 12)
    position = arrange(traffic, distance)
    weights = traffic + traffic.T
    np.fill_diagonal(weights, 0.0)
    assert swap_gains(weights, distance, position).min() >= 0.0


@pytest.mark.parametrize("seed", range(6))
def test_swaps_made_together_change_the_cost_as_it_is_worked_out_anew(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products that are brought up to date swap by swap lead to the same positions as products of the whole."""
    traffic, distance = problem(seed, 40)
    position = arrange(traffic, distance)
    monkeypatch.setattr("pimloom.mapping.arrange.FEW_CORES", 0)
    assert np.array_equal(position, arrange(traffic, distance))


def test_fixed_cores_keep_their_place() -> None:
    for seed in range(10):
        traffic, distance = problem(seed, 10)
        fixed = np.random.default_rng(seed).random(10) < 0.4
        position = arrange(traffic, distance, fixed)
        assert np.array_equal(position[fixed], np.flatnonzero(fixed))


def test_same_problem_same_arrangement() -> None:
    traffic, distance = problem(5, 30)
    copy = traffic.copy()
    assert np.array_equal(arrange(traffic, distance), arrange(traffic, distance))
    assert np.array_equal(traffic, copy)


def test_a_chain_becomes_a_line() -> None:
    """Neighbours in a chain that was shuffled end up closer than a random placement by far."""
    n = 16
    order = np.random.default_rng(0).permutation(n)
    traffic = np.zeros((n, n))
    traffic[order[:-1], order[1:]] = 1.0
    distance = np.abs(np.arange(n)[:, None] - np.arange(n)[None]).astype(float)
    assert cost(traffic, distance, arrange(traffic, distance)) <= 0.5 * cost(traffic, distance, np.arange(n))
