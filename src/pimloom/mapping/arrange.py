"""Arrangement: which physical core each logical core becomes, so that data travels short ways.

A quadratic assignment problem: minimise sum over pairs of traffic[a, b] * distance[position of a, position of b]. Solved by
descent over swaps of two cores: in each sweep the gain of every swap is worked out at once and the best swaps that do not
touch one another are made, until none gains. Deterministic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def swap_gains(traffic: Array, distance: Array, position: Array) -> Array:
    """Change of the cost for swapping cores i and j: float64[n, n], symmetric.

    With W symmetric traffic without diagonal, D symmetric distance and p the positions,
    `delta(i, j) = sum over k not in {i, j} of (W[i, k] - W[j, k]) * (D[p_j, p_k] - D[p_i, p_k])`.
    """
    placed = distance[np.ix_(position, position)]
    mixed = traffic @ placed  # mixed[i, j] = sum over k of W[i, k] * D[p_k, p_j]
    own = np.diag(mixed)
    # The full sum over all k, then the terms k = i and k = j taken out.
    full = mixed - own[:, None] + mixed.T - own[None, :]
    return full + 2.0 * traffic * placed


def arrange(traffic: Array, distance: Array, fixed: Array | None = None, sweeps: int = 200) -> Array:
    """Positions that make traffic travel short ways.

    Args:
        traffic: float64[n, n], bytes between logical cores, any direction.
        distance: float64[n, n], cost of a byte between positions, symmetric.
        fixed: bool[n], cores that must keep their position (memories).
        sweeps: at most this many.

    Returns:
        int64[n]: the position of each logical core.
    """
    n = traffic.shape[0]
    weights = traffic + traffic.T
    np.fill_diagonal(weights, 0.0)
    position = np.arange(n)
    held = np.zeros(n, bool) if fixed is None else fixed
    for _ in range(sweeps):
        gains = swap_gains(weights, distance, position)
        gains[held, :] = 0.0
        gains[:, held] = 0.0
        if not _swap_best(gains, position):
            break
    return position


def _swap_best(gains: Array, position: Array) -> bool:
    """Makes the best swaps of disjoint pairs; False if none gains."""
    n = gains.shape[0]
    order = np.argsort(gains, axis=None)[: 4 * n]
    touched = np.zeros(n, bool)
    threshold = min(-1e-9, 0.3 * float(gains.ravel()[order[0]]))
    made = False
    for flat in order:
        if gains.ravel()[flat] > threshold:
            break
        i, j = divmod(int(flat), n)
        if touched[i] or touched[j]:
            continue
        position[i], position[j] = position[j], position[i]
        touched[i] = touched[j] = True
        made = True
    return made
