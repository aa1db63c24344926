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

from pimloom.kernels import joining
from pimloom.kernels.booking import COMPUTE, WAIT_WINDOW
from pimloom.simulate.timing import Array, Times, Timing

LEAST_SHARE = 0.25
"""Of the rows that must go for the effort to pay."""


@final
@dataclass(frozen=True, slots=True)
class Condensed:
    """A program with fewer rows.

    Attributes:
        timing: of the rows that are left.
        whole: of all rows.
        kept: int64[k], numbers of the rows that are left.
        number: int32[n], place of a row among those that are left, or of the next one that is.
        held: int64[k], cycles that each of them and the rows joined to it wait in one sample for room that a joined row takes.
        own: int64[f], cycles from the issue of a row that was joined to its end, by form.
    """

    timing: Timing
    whole: Timing
    kept: Array
    number: Array
    held: Array
    own: Array


def condense(timing: Timing) -> Condensed | None:
    """Joins rows that meet nobody; None where there are few of them, or rows overlap or wait for the next slot."""
    t = timing
    if t.window != 1 or t.issue_cycles != 1 or not t.is_serial or t.detached.any() or t.stage.any() or not t.n_rows:
        return None
    used = np.arange(t.phase_res.shape[1]) < t.n_phases[:, None]
    is_private = np.append((t.shared == 0) & (t.gap_device < 0), False)  # a route is looked up as the last resource
    # Nor is alone what a row still holds when it is done.
    left = np.cumsum(np.where(used, t.phase_pass, 0)[:, ::-1], axis=1, dtype=np.int64)[:, ::-1]
    is_private[t.phase_res[used & (t.phase_hold > left) & (t.phase_res >= 0)]] = False
    alone = (t.kind == COMPUTE) & (t.reps == 1) & (is_private[np.maximum(t.phase_res, -1)] | ~used).all(axis=1)
    # A row that holds a resource for longer than a phase lasts may have to wait for itself.
    alone &= (~used | (t.phase_hold <= t.phase_pass)).all(axis=1) | (t.n_phases == 1)
    if not alone.any():
        return None
    own = np.where(used, t.phase_pass, 0).sum(axis=1, dtype=np.int64)
    is_awaited = np.zeros(t.n_rows, np.int8)
    is_awaited[t.dep_row] = 1
    kept, before, held, number = (np.empty(t.n_rows, dtype) for dtype in (np.int64, np.int32, np.int64, np.int32))
    # Streams end with a row that is left, so a run of joined rows never reaches into the next stream.
    n = joining.join(t.stream_ptr, t.form, t.lead, alone.astype(np.int8), own, t.dep_ptr, is_awaited, kept, before, held, number)
    if n == joining.TOO_LONG or n > (1 - LEAST_SHARE) * t.n_rows:
        return None
    kept, partner = kept[:n].copy(), t.partner[kept[:n]]
    ends = t.stream_ptr[1:] - 1
    stream_ptr = np.concatenate(([0], np.maximum.accumulate(np.where(ends >= t.stream_ptr[:-1], number[ends] + 1, 0))))
    shorter = replace(
        t, stream_ptr=stream_ptr, stage=t.stage[kept], form=t.form[kept], lead=before[:n],
        partner=np.where(partner >= 0, number[np.maximum(partner, 0)], -1),
        dep_ptr=np.append(t.dep_ptr[kept], t.dep_ptr[-1]), dep_row=number[t.dep_row],
    )  # fmt: skip
    return Condensed(shorter, t, kept, number, held[:n], own)


def with_all_waits(condensed: Condensed, times: Times) -> Times:
    """Times of the rows that are left, with what those joined to them wait for room."""
    waits = times.waits.copy()
    waits[:, WAIT_WINDOW] += condensed.held * times.done.shape[1]
    return replace(times, waits=waits)


def expand(condensed: Condensed, times: Times) -> Times:
    """Times of all rows from those of the rows that are left; joined rows wait for nothing but room."""
    c, t = condensed, condensed.whole
    n, samples = t.n_rows, times.done.shape[1]
    is_kept = np.zeros(n, bool)
    is_kept[c.kept] = True
    own = np.where(is_kept, 0, c.own[t.form])
    total = np.cumsum(own + t.lead)
    first, last = (ptr[t.processor()] for ptr in (t.stream_ptr[:-1], t.stream_ptr[1:] - 1))
    # The last row left before each row, if it is of the same stream; else the last one of the stream, a sample before.
    previous = np.append(-1, c.kept)[c.number]
    begun = previous >= first
    before = total - np.where(begun, total[previous], np.append(0, total)[first])
    earlier = np.concatenate([np.zeros((n, 1), np.int64), times.done[c.number[last], :-1]], axis=1)
    ends = np.where(begun[:, None], times.done[np.maximum(c.number - 1, 0)], earlier)
    done = ends + before[:, None]
    start = done - own[:, None]
    start[c.kept], done[c.kept] = times.start, times.done
    waits = np.zeros((n, times.waits.shape[1]), np.int64)
    waits[c.kept] = times.waits
    # A row after a joined one waits for that; what the engine gave to a row left is what the first one joined to it waited.
    joined = np.flatnonzero(~is_kept)
    opens = joined[np.append(True, np.diff(joined) > 1) | (joined == first[joined])] if joined.size else joined
    waits[opens, WAIT_WINDOW] = times.waits[c.number[opens], WAIT_WINDOW]
    waits[joined + 1, WAIT_WINDOW] = (own[joined] - 1) * samples
    return Times(start.reshape(n, samples), done.reshape(n, samples), waits, times.events, times.rounds, times.place)


def place_of(condensed: Condensed, place: Array) -> Array:
    """int64[P]: of rows issued in an unfinished round, counted among the rows that are left, the number among all."""
    ends = condensed.timing.stream_ptr[:-1] + place
    rows = np.append(condensed.kept, 0)[np.maximum(ends - 1, 0)] + 1 - condensed.whole.stream_ptr[:-1]
    return np.where(place > 0, rows, 0)
