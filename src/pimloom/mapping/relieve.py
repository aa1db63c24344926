"""Relief: swaps of cores on a mesh until its most loaded link carries little enough.

Arrangement makes all traffic travel short ways, yet some links may still carry several times what others do, and a link that is
busy all the time sets the pace of everything. Here, step by step, the swap of two cores is made that lowers the sum of all links'
loads to a high power most, among swaps of the cores that load the worst link most. Messages go along their row first, then along
the column of their target; the memory is above the first row. Deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

CANDIDATES: Final = 4  # cores that load the worst link most, whose swaps are tried
MOST_SWAPS: Final = 60
LEAST_GAIN: Final = 1e-6  # of the sum of powers, that a swap must gain


@final
@dataclass(frozen=True, slots=True)
class Mesh:
    """Traffic on a grid of routers.

    Attributes:
        between: float64[rows, cols, rows, cols], from router to router.
        memory: float64[rows, cols], between the memory and each router, both directions added.
        cores: positions that have a core, the first ones in raster order.
    """

    between: Array
    memory: Array
    cores: int

    @classmethod
    def of(cls, traffic: Array, memory: Array, rows: int, cols: int) -> Mesh:
        """From float64[n, n] and float64[n] of routers in raster order; n may be less than rows * cols.

        Args:
            traffic: from router to router.
            memory: between the memory and each router.
            rows: of the mesh.
            cols: of the mesh.
        """
        n, size = len(memory), rows * cols
        full, down = np.zeros((size, size)), np.zeros(size)
        full[:n, :n], down[:n] = traffic, memory
        np.fill_diagonal(full, 0.0)
        return cls(full.reshape(rows, cols, rows, cols), down.reshape(rows, cols), n)


def routed(out: Array, into: Array, memory: Array, row: Array, col: Array) -> Array:
    """float64[n, 4, rows, cols]: what n cores add to the links to the east, west, south and north.

    Entry [0, r, c] is the link between columns c and c + 1 of row r towards the east, [1, r, c] the one back; [2, r, c] is the link
    between rows r and r + 1 of column c towards the south, [3, r, c] the one back.

    Args:
        out: float64[n, rows, cols], what each core sends to each router.
        into: float64[n, rows, cols], what it receives from each.
        memory: float64[n], what it exchanges with the memory.
        row: int64[n], where it sits.
        col: int64[n], where it sits.
    """
    n, rows, cols = out.shape
    loads = np.zeros((n, 4, rows, cols))
    which, south = np.arange(n), np.arange(rows)[None, :]
    is_east = np.arange(cols)[None, :] >= col[:, None]  # links at and beyond the core's column
    is_south = south >= row[:, None]
    into_upto, out_upto = into.cumsum(axis=2), out.cumsum(axis=1)  # sums up to each entry; beyond it is the rest
    received, sent = into_upto[:, :, -1], out_upto[:, -1, :]
    np.copyto(loads[:, 0], into_upto, where=~is_east[:, None, :])
    np.subtract(received[:, :, None], into_upto, out=loads[:, 1], where=is_east[:, None, :])
    np.subtract(sent[:, None, :], out_upto, out=loads[:, 2], where=is_south[:, :, None])
    np.copyto(loads[:, 3], out_upto, where=~is_south[:, :, None])
    sent_upto, received_upto = sent.cumsum(axis=1), received.cumsum(axis=1)
    loads[which, 0, row] += np.where(is_east, sent_upto[:, -1:] - sent_upto, 0.0)
    loads[which, 1, row] += np.where(is_east, 0.0, sent_upto)
    loads[which, 2, :, col] += np.where(is_south, 0.0, received_upto + memory[:, None])
    loads[which, 3, :, col] += np.where(is_south, received_upto[:, -1:] - received_upto, 0.0)
    return loads


def relieve(mesh: Mesh, most: float) -> Array:
    """Where routers' cores should go so that no link carries more than `most`, as far as swaps lead there.

    Args:
        mesh: the traffic.
        most: load of a link at which to stop.

    Returns:
        int64[rows * cols]: by the position of a core, in raster order, where it should go.
    """
    state = _State(mesh)
    for _ in range(MOST_SWAPS):
        loads = state.loads()
        if loads.max() <= most:
            break
        swap = state.best_swap(loads)
        if swap is None:
            break
        state.swap(*swap)
    return state.position


def _powers(loads: Array, scale: float) -> Array:
    """Sums of the eighth powers of loads over their scale."""
    squared = np.square(loads / scale)
    return np.square(np.square(squared)).sum(axis=(1, 2, 3))


@final
class _State:
    """Traffic between positions, which swaps change."""

    def __init__(self, mesh: Mesh) -> None:
        """Every core where it is."""
        self._rows, self._cols = mesh.memory.shape
        size = self._rows * self._cols
        self._between, self._memory, self._cores = mesh.between.reshape(size, size).copy(), mesh.memory.ravel().copy(), mesh.cores
        self.position = np.arange(size)
        self._row, self._col = np.divmod(np.arange(size), self._cols)

    def _routed(self, out: Array, into: Array, memory: Array, row: Array | None = None, col: Array | None = None) -> Array:
        """`routed` for tables by position; each core where it is if no place is given."""
        shape = (len(out), self._rows, self._cols)
        places = (self._row, self._col) if row is None or col is None else (row, col)
        return routed(out.reshape(shape), into.reshape(shape), memory, *places)

    def loads(self) -> Array:
        """float64[4, rows, cols]: what the links carry; see `routed`."""
        return self._routed(self._between, np.zeros_like(self._between), self._memory).sum(axis=0)

    def swap(self, one: int, other: int) -> None:
        """Lets the cores at two positions change places."""
        pair, there = [one, other], [other, one]
        self._memory[pair] = self._memory[there]
        self._between[pair] = self._between[there]
        self._between[:, pair] = self._between[:, there]
        cores = [int(np.flatnonzero(self.position == place)[0]) for place in pair]
        self.position[cores] = there

    def best_swap(self, loads: Array) -> tuple[int, int] | None:
        """Of the cores that load the worst link most with any other, the swap that lowers the sum of powers most, None if none does."""
        own = self._routed(self._between, self._between.T, self._memory)
        worst, scale = np.unravel_index(int(loads.argmax()), loads.shape), float(loads.max())
        least = _powers(loads[None], scale)[0] * (1.0 - LEAST_GAIN)
        best: tuple[int, int] | None = None
        for one in np.argsort(-own[:, *worst], kind="stable")[:CANDIDATES].tolist():
            sums = _powers(self.swapped_loads(loads, own[one], one), scale)
            sums[one] = np.inf
            sums[self._cores :] = np.inf
            other = int(sums.argmin())
            if sums[other] < least:
                least, best = float(sums[other]), (one, other)
        return best

    def swapped_loads(self, loads: Array, own: Array, one: int) -> Array:
        """float64[n, 4, rows, cols]: the loads if the core at position `one`, which adds `own` to them, changes places with each other."""
        size = len(self._memory)
        here = np.arange(size)
        # What the two exchange is counted with the first: it finds the second at its own old place.
        out, into = np.tile(self._between[one], (size, 1)), np.tile(self._between[:, one], (size, 1))
        out[here, one], into[here, one] = self._between[one], self._between[:, one]
        out[here, here] = into[here, here] = 0.0
        moved = self._routed(out, into, np.full(size, self._memory[one]))
        out, into = self._between.copy(), self._between.T.copy()
        out[:, one] = into[:, one] = 0.0
        before = self._routed(out, into, self._memory)
        after = self._routed(out, into, self._memory, np.full(size, one // self._cols), np.full(size, one % self._cols))
        return loads - own - before + moved + after
