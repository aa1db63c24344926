"""Rings: the part of an operand that a core keeps in its local memory while it streams through.

A ring holds `depth` rows; row y lies in slot `y % depth`, with padding columns beside it. Rows above and below the image are not
held: gather patterns mask them. A row may overwrite a slot once the last reader of what was there is done.
The depth is the smallest for which that never makes an earlier place in the global order wait for a later one.

Where a memory is too small for that, a ring is windowed: it belongs to one cluster, a slot holds all rows of one task, and every
task loads its own from global memory, at the price of loading a row once for each task that reads it.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

INFINITY = float("inf")


@final
@dataclass(slots=True)
class Ring:
    """An operand (or a channel range of it) in a core's local memory.

    Attributes:
        core: whose memory.
        value: the operand.
        fill: code of the padding.
        item_bytes: bytes per element.
        x_start: first column held, negative for padding.
        x_stop: one past the last.
        c_start: first channel held.
        c_stop: one past the last.
        n_rows: rows of the value.
        first_use: per row, place in the order of its first reader; infinite if there is none.
        last_use: per row, place of its last reader; minus infinite if there is none.
        readers: per row, the last reading task of each cluster: cluster to task number.
        occupants: per slot, the rows that use it, in order.
        arrival: per row, place in the order of its first write.
        span: most rows that one task reads.
        period: time from one sample to the next in the global order; infinite if samples follow each other.
        depth: slots, chosen by `choose_depth`.
        address: first byte.
        is_windowed: whether a slot holds a task instead of a row.
        window_columns: columns of a slot of a windowed ring.
        origin: (first row, first column, byte offset) of the slot in focus of a windowed ring.
        channels: channels held.
        vector_bytes: bytes of one vector.
    """

    core: int
    value: str
    fill: int
    item_bytes: int
    x_start: int
    x_stop: int
    c_start: int
    c_stop: int
    n_rows: int
    first_use: list[float] = field(default_factory=list[float])
    last_use: list[float] = field(default_factory=list[float])
    readers: list[dict[int, int]] = field(default_factory=list[dict[int, int]])
    arrival: list[float] = field(default_factory=list[float])
    span: int = 1
    period: float = INFINITY
    depth: int = 0
    address: int = 0
    occupants: list[list[int]] = field(default_factory=list[list[int]])
    is_windowed: bool = False
    window_columns: int = 0
    origin: tuple[int, int, int] = (0, 0, 0)
    channels: int = field(init=False)
    vector_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        """Starts without uses."""
        self.channels = self.c_stop - self.c_start
        self.vector_bytes = self.channels * self.item_bytes
        self.first_use = [INFINITY] * self.n_rows
        self.last_use = [-INFINITY] * self.n_rows
        self.readers = [{} for _ in range(self.n_rows)]
        self.arrival = [INFINITY] * self.n_rows

    @property
    def pitch(self) -> int:
        """Bytes of one row."""
        return (self.x_stop - self.x_start) * self.vector_bytes

    @property
    def size_bytes(self) -> int:
        """Bytes of the ring."""
        return self.depth * (self.window_bytes if self.is_windowed else self.pitch)

    @property
    def window_bytes(self) -> int:
        """Bytes of one slot of a windowed ring."""
        return self.span * self.window_columns * self.vector_bytes

    def focus(self, index: int, first_row: int, x_start: int) -> None:
        """Turns a windowed ring to the slot of its cluster's task `index`."""
        self.origin = (first_row, x_start, index % self.depth * self.window_bytes)

    def share_notes(self, other: Ring) -> None:
        """Takes over what another ring of the same rows knows of its readers."""
        self.first_use, self.last_use, self.readers, self.span = other.first_use, other.last_use, other.readers, other.span

    def note_reader(self, first: int, last: int, cluster: int, task: int, start: float, end: float) -> None:
        """Registers that a task reads rows first..last between two places of the order."""
        self.span = max(self.span, last - first + 1)
        for row in range(first, last + 1):
            self.first_use[row] = min(self.first_use[row], start)
            self.last_use[row] = max(self.last_use[row], end)
            self.readers[row][cluster] = max(self.readers[row].get(cluster, -1), task)

    def needed(self) -> list[int]:
        """Rows with a reader."""
        return [row for row in range(self.n_rows) if self.first_use[row] < INFINITY]

    def offset(self, row: int, x: int) -> int:
        """Byte offset of a vector from the ring's address."""
        return self.line_offset(row) + self.column_offset(x)

    def line_offset(self, row: int) -> int:
        """What a row adds to the offset of a vector."""
        if self.is_windowed:
            return (row - self.origin[0]) * self.window_columns * self.vector_bytes
        return row % self.depth * self.pitch

    def column_offset(self, x: int) -> int:
        """What a column, and the slot in focus of a windowed ring, add to the offset of a vector."""
        if self.is_windowed:
            return self.origin[2] + (x - self.origin[1]) * self.vector_bytes
        return (x - self.x_start) * self.vector_bytes

    def before(self, row: int) -> tuple[int, int] | None:
        """What lies in the slot of a row before it: (row, samples back), or None in the first sample only."""
        rows = self.occupants[row % self.depth]
        place = bisect.bisect_left(rows, row)
        if place:
            return rows[place - 1], 0
        return rows[-1], 1

    def least_depth(self) -> int:
        """The least depth that keeps the order, or the rows from the first to the last that is needed."""
        rows = self.needed()
        if not rows:
            return 1
        least, reach = max(self.span, 1), rows[-1] - rows[0] + 1
        while least < reach and not self._keeps_order(least, rows):
            least += 1
        return least

    def choose_depth(self, slack: int, least: int | None = None) -> None:
        """Sets the depth: the least that keeps the order, then up to `slack` more, preferring even division of the rows.

        Args:
            slack: rows beyond the least.
            least: `least_depth()`, if it is known.
        """
        self.set_depth(self._fitting_depth(self.needed(), slack, self.least_depth() if least is None else least))

    def set_depth(self, depth: int) -> None:
        """Fixes the depth and with it which rows share a slot."""
        self.depth = depth
        self.occupants = [[] for _ in range(self.depth)]
        for row in self.needed():
            self.occupants[row % self.depth].append(row)

    def _fitting_depth(self, rows: Sequence[int], slack: int, least: int) -> int:
        if not rows:
            return 1
        reach = rows[-1] - rows[0] + 1
        if least >= reach:
            return max(reach, self.n_rows if rows[0] else reach)
        deeper = range(min(least + slack, reach), least, -1)
        even = (d for d in deeper if self.n_rows % d == 0 and self._keeps_order(d, rows))
        found = next(even, least if self.n_rows % least == 0 else None)
        return next((d for d in deeper if self._keeps_order(d, rows)), least) if found is None else found

    def _keeps_order(self, depth: int, rows: Sequence[int]) -> bool:
        latest: dict[int, float] = {}
        for row in rows:
            before = latest.get(row % depth)
            if before is not None and before >= self.arrival[row]:
                return False
            latest[row % depth] = self.last_use[row]
        # The next sample takes the slots over, too.
        first: dict[int, int] = {}
        for row in rows:
            first.setdefault(row % depth, row)
        return all(latest[slot] < self.arrival[row] + self.period for slot, row in first.items())

    @property
    def longest_life(self) -> float:
        """Longest time from the arrival of a row to its last reader: samples cannot follow each other faster than that."""
        return max((self.last_use[row] - self.arrival[row] for row in self.needed()), default=0.0)
