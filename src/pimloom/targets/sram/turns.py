"""Who waits for whom: the dependencies that a strategy is, between writes, fetches and products of residencies.

| strategy | a write waits for |
|---|---|
| `in_situ` | nothing but its own macro |
| `naive_pairwise` | the pair's other macro to have written and fetched its inputs |
| `naive_lock_step` | the barrier at which the other half has written, and its own half has computed |
| `generalized` | the write that began `writers` writes before |
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pimloom.targets.sram.residencies import Residencies

Array = np.ndarray[Any, np.dtype[Any]]
Edges = tuple[Array, Array]
"""Who waits, and for whom."""


def in_turn(writes: Array, writers: int) -> Edges:
    """Each write behind the one that began `writers` writes before."""
    return writes[writers:], writes[:-writers]


def paired(found: Residencies, fetched: Array) -> Edges:
    """Pairwise exclusion: before the first of a pair, the other's last fetch; before the second, the first's of its own generation.

    Args:
        found: all residencies.
        fetched: int64[r], row with which each has fetched its first inputs.

    Returns:
        (residencies that wait, rows for which they wait).
    """
    at = np.flatnonzero(found.is_written)
    is_second = found.macro[at] % 2 == 1
    other = found.macro[at] + np.where(is_second, -1, 1)
    generation = found.generation[at]
    before = np.where(is_second, found.edges[generation + 1], found.edges[generation])
    # The last residency of the other macro before a place in the order: keys are (macro, residency).
    span = found.macro.size + 1
    keys = found.macro * span + np.arange(found.macro.size)
    order = np.argsort(keys)
    place = np.searchsorted(keys[order], other * span + before) - 1
    last = order[np.maximum(place, 0)]
    is_there = (place >= 0) & (found.macro[last] == other)
    return at[is_there], fetched[last[is_there]]


def swapped(batch: Array, barrier: Array, written: Array, fetched: Array, computed: Array) -> Edges:
    """The swaps of the lock step: a half is written while the other computes, and both wait for each other.

    Batch b is the b-th half of the macros: its residencies are written together. Behind its writes, and behind what batch
    b - 1 computes, comes a barrier; then batch b computes and batch b + 1 is written.

    Args:
        batch: int64[r], of each residency.
        barrier: int64[batches], row of each barrier.
        written: int64[r], row that writes each residency, -1 where the macro holds the tile already.
        fetched: int64[r], row with which each has fetched its first inputs.
        computed: int64[r], row of its last product.
    """
    is_new, has_next, has_previous = written >= 0, batch + 1 < barrier.size, (batch > 0) & (written >= 0)
    targets = (barrier[batch[is_new]], barrier[batch[has_next] + 1], fetched, written[has_previous])
    sources = (written[is_new], computed[has_next], barrier[batch], barrier[batch[has_previous] - 1])
    return np.concatenate(targets), np.concatenate(sources)


__all__ = ["Edges", "in_turn", "paired", "swapped"]
