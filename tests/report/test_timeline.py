"""Slices and heat maps against plain loops over cycles."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pimloom.report.timeline import coverage, merge_slices, pack
from pimloom.result import Trace

ROW = st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(-1, 2), st.integers(-1, 60), st.integers(0, 12))
ROWS = st.lists(ROW, max_size=40)


def trace_of(rows: list[tuple[int, int, int, int, int]]) -> Trace:
    """Rows of (core, opcode, node, start, length); a start of -1 is a row that never ran."""
    table = np.array(rows, np.int64).reshape(-1, 5)
    core, opcode, node, start, length = table.T
    end = np.where(start < 0, -1, start + length)
    codes, nodes = opcode.astype(np.uint8), node.astype(np.int32)
    return Trace(core.astype(np.int32), codes, nodes, start, end, ("mvm", "load", "send"), ("a", "b", "c"))


def covered(rows: list[tuple[int, int, int, int, int]], key: tuple[int, int, int]) -> set[int]:
    return {t for core, op, node, start, length in rows if (core, op, node) == key and start >= 0 for t in range(start, start + length)}


@settings(deadline=None, max_examples=150)
@given(ROWS, st.integers(1, 60))
def test_slices_cover_their_rows_and_nothing_but_the_gaps_they_close(rows: list[tuple[int, int, int, int, int]], most: int) -> None:
    slices = merge_slices(trace_of(rows), most)
    ran = [row for row in rows if row[3] >= 0]
    assert slices.core.size <= most
    assert slices.rows.sum() + slices.dropped == len(ran)
    keys = list(zip(slices.core.tolist(), slices.opcode.tolist(), slices.node.tolist(), strict=True))
    for i, key in enumerate(keys):
        inside = {t for t in covered(rows, key) if slices.start_cycles[i] <= t < slices.end_cycles[i]}
        assert slices.busy_cycles[i] == len(inside)
        length = int(slices.end_cycles[i] - slices.start_cycles[i])
        assert length - len(inside) <= slices.gap_cycles * (int(slices.rows[i]) - 1)
    if not slices.dropped:
        for key in {row[:3] for row in ran}:
            own = [i for i, k in enumerate(keys) if k == key]
            drawn = {t for i in own for t in range(slices.start_cycles[i], slices.end_cycles[i])}
            assert covered(rows, key) <= drawn


def test_rows_that_touch_are_one_slice_and_rows_apart_are_two() -> None:
    slices = merge_slices(trace_of([(0, 0, 0, 10, 5), (0, 0, 0, 15, 5), (0, 0, 0, 30, 5), (0, 1, 0, 20, 5)]))
    found = zip(slices.opcode, slices.start_cycles, slices.end_cycles, slices.rows, strict=True)
    assert [tuple(map(int, row)) for row in found] == [(0, 10, 20, 2), (0, 30, 35, 1), (1, 20, 25, 1)]
    assert (slices.gap_cycles, slices.dropped) == (0, 0)


def test_the_smallest_gaps_are_closed_first() -> None:
    rows = [(0, 0, 0, 0, 1), (0, 0, 0, 3, 1), (0, 0, 0, 20, 1), (0, 0, 0, 24, 1)]
    slices = merge_slices(trace_of(rows), most=2)
    assert list(zip(slices.start_cycles.tolist(), slices.end_cycles.tolist(), strict=True)) == [(0, 4), (20, 25)]
    assert slices.gap_cycles == 3


def test_with_too_many_cores_the_shortest_slices_are_left_out_and_counted() -> None:
    slices = merge_slices(trace_of([(core, 0, 0, 0, core + 1) for core in range(4)]), most=3)
    assert slices.core.tolist() == [1, 2, 3]
    assert slices.dropped == 1


@settings(deadline=None, max_examples=150)
@given(ROWS, st.integers(1, 20))
def test_coverage_counts_each_cycle_once(rows: list[tuple[int, int, int, int, int]], bins: int) -> None:
    span, trace = 80, trace_of(rows)
    found = coverage(trace.processor, 4, trace.start_cycles, trace.end_cycles, span_cycles=span, bins=bins)
    edges = np.rint(np.linspace(0, span, bins + 1)).astype(int)
    for core in range(4):
        busy = {t for c, _, _, start, length in rows if c == core and start >= 0 for t in range(start, start + length)}
        for b in range(bins):
            inside = range(edges[b], edges[b + 1])
            assert found[core, b] == len(busy.intersection(inside)) / len(inside)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9)), max_size=30))
def test_lanes_never_overlap_and_are_as_few_as_possible(intervals: list[tuple[int, int]]) -> None:
    intervals = sorted((begin, begin + length) for begin, length in intervals)
    start, end = (np.array([i[k] for i in intervals], np.int64) for k in (0, 1))
    lanes = pack(start, end)
    for lane in set(lanes.tolist()):
        own = np.flatnonzero(lanes == lane)
        assert (start[own][1:] >= end[own][:-1]).all()
    deepest = max((sum(b <= t < e for b, e in intervals) for t in range(60)), default=0)
    if all(b < e for b, e in intervals):
        assert lanes.max(initial=-1) + 1 == deepest
