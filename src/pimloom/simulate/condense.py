"""Rows that meet nobody, joined: what a processor does alone between two rows that others can feel.

Where one row of a processor is in flight at a time, a row that holds only resources of its own processor, waits for nothing
and is waited for by nobody begins when the row before it is done and lasts as long as its phases. A run of such rows is a
delay before the next other row: it becomes a part of its `lead`, and the engine has fewer rows to carry. Starts and ends of
the joined rows follow from the rows that are left; the result is the same, cycle by cycle.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from pimloom.kernels.engine import COMPUTE
from pimloom.simulate.timing import Array, Times, Timing

LEAST_SHARE = 0.25
"""Of the rows that must go for the effort to pay."""

_MOST_LEAD = (1 << 31) - 1


@final
@dataclass(frozen=True, slots=True)
class Condensed:
    """A program with fewer rows.

    Attributes:
        timing: of the rows that are left.
        kept: int64[k], their numbers.
        before: int64[n], of a joined row: time from the end of the last row left before it to its own end; of a row that is
            left: to its issue.
        own: int64[n], of a joined row: time from its issue to its end.
        previous: int64[n], the last row left before a row on its processor, -1 for none.
    """

    timing: Timing
    kept: Array
    before: Array
    own: Array
    previous: Array


def condense(timing: Timing) -> Condensed | None:
    """Joins rows that meet nobody; None where there are few of them or rows overlap."""
    t = timing
    if t.window != 1 or not t.is_serial or t.detached.any() or t.stage.any() or not t.n_rows:
        return None
    alone = _alone(t)
    if np.count_nonzero(alone) < LEAST_SHARE * t.n_rows:
        return None
    own = np.where(alone & (t.n_phases > 0), t.phase_pass[:, 0], 0).astype(np.int64)
    for phase in range(1, int(t.n_phases.max())):
        at = np.flatnonzero(alone & (t.n_phases > phase))
        own[at] += t.phase_pass[at, phase]
    total = np.cumsum(own + t.lead)
    kept = np.flatnonzero(~alone)
    # Streams end with a row that is left, so a run of joined rows never reaches into the next stream.
    lengths = np.diff(kept, prepend=-1)
    previous = np.repeat(np.concatenate(([-1], kept[:-1])), lengths)
    first = t.stream_ptr[:-1][t.processor()]
    base = np.where(previous >= 0, total[np.maximum(previous, 0)], 0)
    previous = np.where(previous >= first, previous, -1)
    before = total - base
    if before[kept].max(initial=0) > _MOST_LEAD:
        return None
    number = np.full(t.n_rows, -1, np.int64)
    number[kept] = np.arange(kept.size)
    dep_ptr = np.concatenate(([0], np.cumsum(np.diff(t.dep_ptr)[kept])))
    partner = t.partner[kept]
    shorter = replace(
        t, stream_ptr=np.searchsorted(kept, t.stream_ptr), stage=t.stage[kept], kind=t.kind[kept], detached=t.detached[kept],
        partner=np.where(partner >= 0, number[np.maximum(partner, 0)], -1), reps=t.reps[kept], lead=before[kept], posts=t.posts[kept],
        n_phases=t.n_phases[kept], phase_res=t.phase_res[kept], phase_hold=t.phase_hold[kept], phase_pass=t.phase_pass[kept],
        dep_ptr=dep_ptr, dep_row=number[t.dep_row], dep_distance=t.dep_distance,
    )  # fmt: skip
    return Condensed(shorter, kept, before, own, previous)


def _alone(t: Timing) -> Array:
    """bool[n]: rows that meet nobody and are no last row of their stream, which carries what comes before it."""
    alone = (t.kind == COMPUTE) & (t.reps == 1) & (np.diff(t.dep_ptr) == 0)
    alone[t.dep_row] = False
    own = np.append((t.shared == 0) & (t.gap_device < 0), False)  # a route is looked up as the last resource
    alone &= (t.n_phases == 0) | own[np.maximum(t.phase_res[:, 0], -1)]
    for phase in range(1, int(t.n_phases.max(initial=0))):
        at = np.flatnonzero(alone & (t.n_phases > phase))
        alone[at] &= own[np.maximum(t.phase_res[at, phase], -1)]
    used = np.flatnonzero(np.diff(t.stream_ptr))
    alone[t.stream_ptr[used + 1] - 1] = False
    return alone


def expand(condensed: Condensed, times: Times) -> Times:
    """Times of all rows from those of the rows that are left; joined rows wait for nothing."""
    c = condensed
    n, samples = c.before.size, times.done.shape[1]
    number = np.zeros(n, np.int64)
    number[c.kept] = np.arange(c.kept.size)
    ends = np.where(c.previous[:, None] >= 0, times.done[number[np.maximum(c.previous, 0)]], 0)
    done = ends + c.before[:, None]
    start = done - c.own[:, None]
    start[c.kept], done[c.kept] = times.start, times.done
    waits = np.zeros((n, times.waits.shape[1]), np.int64)
    waits[c.kept] = times.waits
    return Times(start.reshape(n, samples), done.reshape(n, samples), waits, times.events, times.rounds, times.place)


def place_of(condensed: Condensed, timing: Timing, place: Array) -> Array:
    """int64[P]: of rows issued in an unfinished round, counted among the rows that are left, the number among all."""
    ends = condensed.timing.stream_ptr[:-1] + place
    rows = np.append(condensed.kept, 0)[np.maximum(ends - 1, 0)] + 1 - timing.stream_ptr[:-1]
    return np.where(place > 0, rows, 0)
