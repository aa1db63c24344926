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
    cost = _cost(weights, distance, position)
    for _ in range(sweeps):
        gains = swap_gains(weights, distance, position)
        gains[held, :] = 0.0
        gains[:, held] = 0.0
        for most in (n, 1):
            # Swaps made together may spoil one another; one alone never does.
            tried = _swapped(gains, position, most)
            tried_cost = _cost(weights, distance, tried)
            if tried_cost < cost * (1.0 - 1e-9):
                break
        else:
            break
        position, cost = tried, tried_cost
    return position


def _cost(weights: Array, distance: Array, position: Array) -> float:
    return float((weights * distance[np.ix_(position, position)]).sum())


def _swapped(gains: Array, position: Array, most: int) -> Array:
    """Makes the best swaps of disjoint pairs, at most `most`."""
    n = gains.shape[0]
    flat = gains.ravel()
    chosen = np.argpartition(flat, min(4 * n, flat.size - 1))[: 4 * n] if flat.size > 4 * n else np.arange(flat.size)
    order = chosen[np.lexsort((chosen, flat[chosen]))]
    position, touched, made = position.copy(), np.zeros(n, bool), 0
    threshold = min(-1e-9, 0.3 * float(flat[order[0]]))
    for place in order.tolist():
        if flat[place] > threshold or made == most:
            break
        i, j = divmod(place, n)
        if not (touched[i] or touched[j]):
            position[[i, j]] = position[[j, i]]
            touched[[i, j]] = True
            made += 1
    return position
