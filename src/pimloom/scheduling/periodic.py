"""Times for rows that repeat: one moment per row in a period as short as can be found.

A list schedule of several samples keeps the busiest processor busy, but each of its samples looks a little different, and one order
for all of them makes every processor wait for those that had another order in mind. Here all samples have the same times, a
period apart, and no processor has two rows at once: what each does in that order takes no longer than the period.

Rows are placed one after the other (`pimloom.kernels.modulo`), into gaps that those before have left. What a row waits for in the
sample before may get its place later than the row itself; where it then comes too late, the row must come later and all are placed
anew. If that does not end soon, or if there is no place left, the period grows.
"""

from __future__ import annotations

from typing import Final, final

import numpy as np

from pimloom.errors import InternalError
from pimloom.kernels import modulo as kernel
from pimloom.program.rows import Array

FIRST: Final = 1.03
"""The first period that is tried, times the work of the busiest processor: where work has no gap at all, little finds its place."""

STEP: Final = 1.05
"""The next one, times the one before."""

MOST_ROUNDS: Final = 6
"""Times that all rows are placed with one period."""

Edges = tuple[Array, Array, Array]
"""int64[m] each: row waited for, row that waits, samples back."""


@final
class Places:
    """Rows that look for their places."""

    def __init__(self, processor: Array, partner: Array, length: Array, edges: Edges) -> None:
        """Takes the rows.

        Args:
            processor: int[n].
            partner: int[n], the other end of a message, which has the same moment; -1 for none.
            length: int64[n], cycles for which a row holds its processor and after which it is done; at least 1.
            edges: what waits for what.
        """
        self._processor, self._partner, self._length = processor.astype(np.int32), partner.astype(np.int64), length
        self._edges, n = edges, processor.size
        source, target, distance = edges
        by_target, by_source = np.argsort(target, kind="stable"), np.argsort(source, kind="stable")
        self._into = np.concatenate([[0], np.cumsum(np.bincount(target, minlength=n))]), source[by_target], distance[by_target]
        self._from = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=n))]), target[by_source], distance[by_source]
        self._rooms = np.concatenate([[0], np.cumsum(np.bincount(self._processor) + 2)])

    def periodic(self, order: Array, below: float) -> tuple[Array, int] | None:
        """Moments of rows, and the period in which they repeat.

        Args:
            order: int64[n], rows in the order in which they choose; what a row waits for in its own sample comes before it.
            below: the period from which on none is looked for.

        Returns:
            int64[n] and the period, so that `time[target] >= time[source] + length[source] - distance * period` for all edges;
            None if no shorter period was enough.
        """
        busiest = np.bincount(self._processor, self._length).max(initial=1)
        period = int(FIRST * busiest) + 1
        while period < below:
            time = self._repeated(order, period)
            if time is not None:
                return time, period
            period = int(STEP * period) + 1
        return None

    def once(self, order: Array) -> Array:
        """int64[n]: moments of the rows of one sample by itself; `order` as for `periodic`."""
        endless = int(self._length.sum()) + 1
        time = np.full(self._length.size, -1, np.int64)
        if self._place(order, endless, np.zeros_like(time), time) < time.size:
            raise InternalError("rows found no place in a period without end")
        return time

    def remaining(self, order: Array) -> Array:
        """int64[n]: cycles from the start of each row to the end of its sample, were no processor ever busy; `order` as for `periodic`."""
        found = np.zeros(self._length.size, np.int64)
        kernel.remaining(order, self._partner, self._length, *self._from, found)
        return found

    def _repeated(self, order: Array, period: int) -> Array | None:
        """Moments with a given period; None if none were found."""
        source, target, distance = self._edges
        least = np.zeros(self._length.size, np.int64)
        for _ in range(MOST_ROUNDS):
            time = np.full(self._length.size, -1, np.int64)
            if self._place(order, period, least, time) < time.size:
                return None
            wanted = time[source] + self._length[source] - period * distance
            is_early = wanted > time[target]
            if not is_early.any():
                return time
            np.maximum.at(least, target[is_early], wanted[is_early])
        return None

    def _place(self, order: Array, period: int, least: Array, time: Array) -> int:
        """Fills in moments; returns for how many rows."""
        scratch = (np.zeros(self._rooms[-1], np.int64), np.zeros(self._rooms[-1], np.int64))
        return kernel.place(
            order, self._processor, self._partner, self._length, period, *self._into, least, time, *scratch, self._rooms[:-1],
            np.zeros(self._rooms.size - 1, np.int64),
        )  # fmt: skip
