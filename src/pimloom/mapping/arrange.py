"""Arrangement: which physical core each logical core becomes, so that data travels short ways.

A quadratic assignment problem: minimise sum over pairs of traffic[a, b] * distance[position of a, position of b]. Solved by
descent over swaps of two cores: in each sweep the gain of every swap is worked out at once and the best swaps that do not
touch one another are made, until none gains. Deterministic.
"""

from __future__ import annotations

from typing import Any, Final, final

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

NEAR_BEST: Final = 0.3  # swaps that gain less than this share of the best one wait for the next sweep
MOST_CANDIDATES: Final = 4  # entries of the table of gains looked at in a sweep, times the number of cores
FEW_CORES: Final = 512  # of fewer, and where more than one of MANY_MOVED moves, products are worked out anew
MANY_MOVED: Final = 3


def swap_gains(traffic: Array, distance: Array, position: Array) -> Array:
    """Change of the cost for swapping cores i and j: float64[n, n], symmetric.

    With W symmetric traffic without diagonal, D symmetric distance and p the positions,
    `delta(i, j) = sum over k not in {i, j} of (W[i, k] - W[j, k]) * (D[p_j, p_k] - D[p_i, p_k])`.
    """
    return _Layout(traffic, distance, position).gains()


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
    layout = _Layout(weights, distance, np.arange(n))
    held = np.zeros(n, bool) if fixed is None else fixed
    for _ in range(sweeps):
        gains = layout.gains()
        gains[held, :] = 0.0
        gains[:, held] = 0.0
        pairs = _best_swaps(gains)
        # Swaps made together may spoil one another; one alone never does.
        for swaps in (pairs, pairs[:1]):
            if layout.change(swaps) < -1e-9 * layout.cost:
                break
        else:
            break
        layout.swap(swaps)
    return layout.position


def _best_swaps(gains: Array) -> Array:
    """int64[m, 2]: pairs of cores in the order of what their swap gains, none of which has a core of another."""
    n = gains.shape[0]
    flat = gains.ravel()
    threshold = min(-1e-9, NEAR_BEST * float(flat.min(initial=0.0)))
    candidates = np.flatnonzero(flat <= threshold)
    if candidates.size > MOST_CANDIDATES * n:
        candidates = candidates[np.argpartition(flat[candidates], MOST_CANDIDATES * n)[: MOST_CANDIDATES * n]]
    order = candidates[np.lexsort((candidates, flat[candidates]))]
    touched = [False] * n
    chosen: list[tuple[int, int]] = []
    for place in order.tolist():
        i, j = divmod(place, n)
        if not (touched[i] or touched[j]):
            touched[i] = touched[j] = True
            chosen.append((i, j))
    return np.array(chosen, np.int64).reshape(-1, 2)


@final
class _Layout:
    """Positions of cores with the products that gains are made of, which a swap changes in few rows and columns."""

    def __init__(self, weights: Array, distance: Array, position: Array) -> None:
        """Takes symmetric traffic without diagonal, symmetric distances, and where cores are."""
        self._weights, self.position = weights, position.copy()
        self._placed = distance[np.ix_(position, position)]  # between the positions of two cores
        self._mixed = weights @ self._placed  # [i, j] = sum over k of weights[i, k] * placed[k, j]

    @property
    def cost(self) -> float:
        """What is to be minimised: each pair counts twice."""
        return float(np.trace(self._mixed))

    def gains(self) -> Array:
        """See `swap_gains`."""
        own = np.diag(self._mixed)
        # The full sum over all k, then the terms k = i and k = j taken out.
        found = self._mixed - own[:, None]
        found += self._mixed.T
        found -= own[None, :]
        found += 2.0 * self._weights * self._placed
        return found

    def change(self, swaps: Array) -> float:
        """How much the cost changes if all these swaps are made together."""
        moved, order = self._moved(swaps)
        change = self._placed[np.ix_(order[moved], order)] - self._placed[moved]
        change *= self._weights[moved]
        return float(2.0 * change.sum() - change[:, moved].sum())

    def swap(self, swaps: Array) -> None:
        """Makes swaps of disjoint pairs."""
        moved, order = self._moved(swaps)
        others = order[moved]
        self.position = self.position[order]
        self._placed[:, moved] = self._placed[:, others]
        change = self._placed[others] - self._placed[moved]
        self._placed[moved] = self._placed[others]
        if len(order) < FEW_CORES or len(moved) * MANY_MOVED > len(order):
            self._mixed = self._weights @ self._placed
            return
        self._mixed[:, moved] = self._mixed[:, others]
        partners = np.flatnonzero(self._weights[:, moved].any(axis=1))
        self._mixed[partners] += self._weights[np.ix_(partners, moved)] @ change

    def _moved(self, swaps: Array) -> tuple[Array, Array]:
        """The cores that move, and for each core the one whose position it takes."""
        order = np.arange(len(self.position))
        order[swaps] = swaps[:, ::-1]
        return swaps.ravel(), order
