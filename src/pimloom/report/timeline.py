"""Timelines small enough to draw: rows of a trace merged into slices, and shares of time covered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.result import Trace

Array = np.ndarray[Any, np.dtype[Any]]

MOST_SLICES = 40_000


@final
@dataclass(frozen=True, slots=True)
class Slices:
    """Rows of a trace, those of the same core, opcode and node merged where they touch. Parallel arrays of length m.

    Attributes:
        core: int32[m].
        opcode: int32[m].
        node: int32[m], index into the trace's node names, -1 for none.
        start_cycles: int64[m].
        end_cycles: int64[m].
        busy_cycles: int64[m], cycles of the slice in which at least one of its rows was under way.
        rows: int64[m], rows merged.
        gap_cycles: rows up to this far apart were merged.
        dropped: rows left out because even one slice per core, opcode and node was too many.
    """

    core: Array
    opcode: Array
    node: Array
    start_cycles: Array
    end_cycles: Array
    busy_cycles: Array
    rows: Array
    gap_cycles: int
    dropped: int


def merge_slices(trace: Trace, most: int = MOST_SLICES) -> Slices:
    """Merges the rows of a trace to at most `most` slices, closing the smallest gaps first."""
    ran = np.flatnonzero((trace.start_cycles >= 0) & (trace.end_cycles >= trace.start_cycles))
    key = _group_key(trace, ran)
    order = ran[np.lexsort((trace.start_cycles[ran], key))]
    key = np.sort(key, kind="stable")
    start, end = trace.start_cycles[order], trace.end_cycles[order]
    is_first = np.ones(order.size, bool)
    is_first[1:] = key[1:] != key[:-1]
    reach = _reach(start, end, is_first)
    gap = np.zeros(order.size, np.int64)
    gap[1:] = start[1:] - reach[:-1]
    closed = _largest_closed_gap(gap[~is_first], most - int(is_first.sum()))
    begins = np.flatnonzero(is_first | (gap > closed))
    if not begins.size:
        return Slices(*(np.zeros(0, np.int64) for _ in range(7)), gap_cycles=0, dropped=0)
    rows = np.diff(np.append(begins, order.size))
    last = begins + rows - 1
    idle = np.add.reduceat(np.where(is_first, 0, np.maximum(gap, 0)), begins) - np.where(is_first[begins], 0, gap[begins])
    first = order[begins]
    slices = Slices(
        trace.processor[first].astype(np.int32), trace.opcode[first].astype(np.int32), trace.node[first].astype(np.int32),
        start[begins], reach[last], reach[last] - start[begins] - idle, rows, gap_cycles=closed, dropped=0,
    )  # fmt: skip
    return _longest(slices, most)


def _group_key(trace: Trace, at: Array) -> Array:
    opcodes, nodes = max(len(trace.opcode_names), int(trace.opcode.max(initial=0)) + 1), int(trace.node.max(initial=0)) + 2
    return (trace.processor[at].astype(np.int64) * opcodes + trace.opcode[at]) * nodes + trace.node[at] + 1


def _reach(start: Array, end: Array, is_first: Array) -> Array:
    """int64[n]: the latest end so far within the group of each row."""
    # Groups are laid one after the other on one long axis, where a plain running maximum cannot reach back into a group.
    lift = (np.cumsum(is_first) - 1) * (int(end.max(initial=0)) + 1)
    return np.maximum.accumulate(end + lift) - lift if start.size else end


def _largest_closed_gap(gaps: Array, allowed: int) -> int:
    """The smallest gap to close so that at most `allowed` larger ones remain."""
    opened = gaps[gaps > 0]
    if opened.size <= max(allowed, 0):
        return 0
    if allowed <= 0:
        return int(opened.max())
    return int(np.partition(opened, opened.size - allowed - 1)[opened.size - allowed - 1])


def _longest(s: Slices, most: int) -> Slices:
    if s.core.size <= most:
        return s
    kept = np.sort(np.argsort(s.start_cycles - s.end_cycles, kind="stable")[:most])
    return Slices(
        s.core[kept], s.opcode[kept], s.node[kept], s.start_cycles[kept], s.end_cycles[kept], s.busy_cycles[kept], s.rows[kept],
        gap_cycles=s.gap_cycles, dropped=int(s.rows.sum() - s.rows[kept].sum()),
    )  # fmt: skip


def coverage(group: Array, n_groups: int, start_cycles: Array, end_cycles: Array, *, span_cycles: int, bins: int) -> Array:
    """Share of each time bin that is covered by at least one interval of a group.

    Args:
        group: int[n], 0 to n_groups - 1; others are ignored.
        n_groups: number of groups.
        start_cycles: int64[n].
        end_cycles: int64[n].
        span_cycles: the bins divide 0 to this.
        bins: number of bins.

    Returns:
        float64[n_groups, bins], 0 to 1.
    """
    used = (group >= 0) & (group < n_groups) & (start_cycles >= 0) & (end_cycles > start_cycles)
    if not used.any() or span_cycles <= 0:
        return np.zeros((n_groups, bins))
    lane = group[used].astype(np.int64) * (span_cycles + 1)  # all groups on one long axis, as in `_reach`
    start, end = lane + np.minimum(start_cycles[used], span_cycles), lane + np.minimum(end_cycles[used], span_cycles)
    order = np.argsort(start, kind="stable")
    start, reach = start[order], np.maximum.accumulate(end[order])
    begins = np.flatnonzero(np.append(True, start[1:] > reach[:-1]))
    left, right = start[begins], reach[np.append(begins[1:], start.size) - 1]
    covered = np.concatenate([[0], np.cumsum(right - left)])
    edges = np.linspace(0, span_cycles, bins + 1)
    # Cycle counts stay below 2**44 per lane; the whole part is exact, the edge within a lane is a float.
    axis = np.arange(n_groups, dtype=np.int64)[:, None] * (span_cycles + 1) + np.rint(edges).astype(np.int64)
    at = np.searchsorted(left, axis, side="right")
    inside = np.where(at > 0, np.minimum(axis, right[at - 1]) - left[at - 1], 0)
    total = covered[np.maximum(at - 1, 0)] + inside
    width = np.maximum(np.diff(np.rint(edges)), 1.0)
    return np.diff(total, axis=1) / width


def pack(start: Array, end: Array) -> Array:
    """int32[n]: a lane for each interval such that those of a lane do not overlap; intervals are sorted by start.

    Each interval takes the lowest free lane.
    """
    ends: list[int] = []
    lanes = np.zeros(len(start), np.int32)
    for i, (begin, stop) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        for lane, free_from in enumerate(ends):
            if free_from <= begin:
                ends[lane], lanes[i] = stop, lane
                break
        else:
            lanes[i] = len(ends)
            ends.append(stop)
    return lanes
