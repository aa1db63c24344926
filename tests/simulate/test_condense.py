"""Rows that meet nobody are joined, and the times of all rows stay what the engine gives without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulate.random_timing import random_timing

from pimloom.kernels.booking import COMPUTE
from pimloom.simulate import Timing, engine
from pimloom.simulate.condense import condense, expand, place_of, with_all_waits


def one_at_a_time(seed: int, *, repeats: bool = False) -> Timing:
    """A random program for machines with one row in flight, most of whose rows are spread apart by ones that meet nobody."""
    t = random_timing(seed, 60, repeats=repeats)
    rng = np.random.default_rng(seed)
    copies = np.where(t.kind[t.form] == COMPUTE, rng.integers(4, 20, t.n_rows), 1)
    last = np.cumsum(copies) - 1  # what a row does for others its last copy does
    of = np.repeat(np.arange(t.n_rows), copies)
    p = t.n_processors
    alone = np.zeros((p, 4), np.int32)
    alone[:, 0] = np.arange(p) * (np.count_nonzero(t.shared == 0) // p)  # a resource of each processor's own
    hold = np.broadcast_to(rng.integers(1, 9, p)[:, None], (p, 4))
    needs = np.zeros(of.size, np.int64)
    needs[last] = np.diff(t.dep_ptr)
    form = t.n_forms + t.processor()[of]
    form[last] = t.form
    partner = np.full(of.size, -1)
    partner[last] = np.where(t.partner >= 0, last[np.maximum(t.partner, 0)], -1)
    return replace(
        t, window=1, issue_cycles=1, is_serial=True, stage=np.zeros(of.size), form=form, partner=partner, lead=rng.integers(0, 5, of.size),
        stream_ptr=np.concatenate(([0], last + 1))[t.stream_ptr], kind=np.append(t.kind, [COMPUTE] * p),
        detached=np.zeros(t.n_forms + p), reps=np.append(t.reps, [1] * p), posts=np.append(t.posts, [0] * p),
        n_phases=np.append(t.n_phases, [1] * p),
        phase_res=np.concatenate([t.phase_res, alone]), phase_hold=np.concatenate([t.phase_hold, hold]),
        phase_pass=np.concatenate([t.phase_pass, hold]), dep_ptr=np.concatenate(([0], np.cumsum(needs))), dep_row=last[t.dep_row],
    )  # fmt: skip


@pytest.mark.parametrize("first", range(0, 400, 100))
def test_times_are_the_same(first: int) -> None:
    joined = 0
    for seed in range(first, first + 100):
        timing = one_at_a_time(seed)
        shorter = condense(timing) if timing.n_rows and not _stages(seed) else None
        if shorter is None:
            continue
        joined += timing.n_rows - shorter.kept.size
        whole, few = engine.run(timing), engine.run(shorter.timing)
        times = expand(shorter, few)
        assert with_all_waits(shorter, few).waits.sum(axis=0).tolist() == whole.waits.sum(axis=0).tolist(), seed
        assert np.array_equal(times.done, whole.done), seed
        assert np.array_equal(times.start[shorter.kept], whole.start[shorter.kept]), seed
        assert np.array_equal(times.start, whole.start), seed
        assert np.array_equal(times.waits, whole.waits), seed
    assert joined > 1000


def _stages(seed: int) -> bool:
    """Without its stages a program of several may hang."""
    return bool(random_timing(seed, 60).stage.any())


@pytest.mark.parametrize("first", range(500, 700, 100))
def test_rounds_are_the_same(first: int) -> None:
    joined = 0
    for seed in range(first, first + 100):
        timing = one_at_a_time(seed, repeats=True)
        shorter = condense(timing) if timing.n_rows else None
        if shorter is None:
            continue
        joined += 1
        whole, times = engine.run(timing), engine.run(shorter.timing)
        assert whole.rounds is not None and whole.place is not None and times.place is not None and times.rounds is not None
        assert np.array_equal(times.rounds, whole.rounds), seed
        # Rows before the next one that is left count as issued when that one is.
        place = place_of(shorter, times.place)
        assert (place <= whole.place).all(), seed
        kept = np.append(np.isin(np.arange(timing.n_rows), shorter.kept), True)
        for p in range(timing.n_processors):
            between = kept[timing.stream_ptr[p] + place[p] : timing.stream_ptr[p] + whole.place[p]]
            assert not between.any(), seed
    assert joined > 20


def test_rows_that_overlap_are_left_alone() -> None:
    timing = one_at_a_time(3)
    assert condense(timing) is not None
    assert condense(replace(timing, window=2)) is None
    assert condense(replace(timing, is_serial=False)) is None
    assert condense(replace(timing, issue_cycles=2)) is None


def test_a_distance_that_does_not_fit_is_left_alone() -> None:
    timing = one_at_a_time(3)
    long = np.array(timing.phase_pass)
    long[:] = 2**31 - 1
    assert condense(replace(timing, phase_pass=long)) is None
