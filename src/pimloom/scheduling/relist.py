"""A better order for machines whose processors do one thing at a time and block in messages.

On such a machine a message costs both ends the time that one of them waits for the other, so an order in which both come
to it at the same time is worth much. The rows of a program are scheduled anew: long rows in pieces, so that a
processor can turn to a message in between; each processor takes the oldest message that is ready, else the row that comes first in the
order that the program had, or that has most behind it (`pimloom.kernels.lists`). In the order of their starts rows then choose
places in gaps that others have left (`periodic`); of several samples, in a period that repeats. Their times give the new order
(row, sample) -> time + sample * period, in the form of docs/decisions/008.

The program computes the same: rows keep their dependencies, messages their partners, and rows that touch the same
bytes of a local memory their order (`local_hazards`).
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace
from typing import Final, final

import numpy as np

from pimloom.kernels import lists as kernel
from pimloom.program import INSTRUCTIONS, MACHINES, OPCODES, Program, costs_of
from pimloom.program.rows import Array
from pimloom.scheduling.hazards import local_hazards
from pimloom.scheduling.periodic import Edges, Places

MOST_ROWS: Final = 300_000
"""Rows after which pieces are made longer rather than more."""

_SPLIT: Final = ("mvm", "preset", "finish", "add_partial", "vector", "pool", "stencil", "accumulate")
_ADDRESSES: Final = ("dst", "src1", "src2")


def can_relist(program: Program) -> bool:
    """Whether the machine has one row per processor in flight, messages included, and memories of its processors' own."""
    rules = MACHINES[program.hardware.kind].rules(program.hardware)
    return rules.window == 1 and rules.is_serial and not rules.detaches_transfers and not program.hardware.shares_memory


@final
@dataclass(frozen=True, slots=True)
class Relisted:
    """A program with its rows in the order of a schedule.

    Attributes:
        program: the program.
        cycles: that the schedule takes: between samples where they overlap, of one sample otherwise.
    """

    program: Program
    cycles: int


def relist(program: Program, duration: Array | None = None, *, below: float = math.inf) -> Relisted | None:
    """Puts the rows of a program in the order of a schedule.

    Args:
        program: one that `can_relist`; only in throughput mode do its samples overlap on a processor.
        duration: int64[n], cycles of each row, if not those on an idle machine.
        below: cycles between samples from which on an order is of no use.

    Returns:
        The program with its rows in another order; None if there is none: rows wait in a circle, memory asks for a later sample,
        or no period is short enough.
    """
    cycles = np.maximum(idle_cycles(program) if duration is None else duration, 1)
    edges = _edges(program)
    if edges[2].min(initial=0) < 0:
        return None
    once = _soonest(program, cycles, edges)
    if once is None:
        return None
    time, end, places = once
    if program.samples > 1 and program.mode == "throughput":
        # Who comes first in a sample by itself chooses first.
        found = places.periodic(np.argsort(time, kind="stable"), min(below, end))
        if found is not None:
            return Relisted(_in_order(program, *found), found[1])
    return Relisted(_in_order(program, time, end), end) if end < below else None


def idle_cycles(program: Program) -> Array:
    """int64[n]: cycles of each row on an idle machine of serial processors: the sum of its passes, once per repetition."""
    context = costs_of(program)
    return context.costs.idle_ticks()[context.forms.of_row]


# -- pieces ---------------------------------------------------------------------------------------------------------


def split_rows(program: Program, most_rows: int = MOST_ROWS) -> Program:
    """Cuts rows of many repetitions in pieces, as short as `most_rows` allows.

    The first piece of a row keeps its dependencies, and what depended on the row depends on the last. Between the pieces there is
    the order of their processor only, so what is cut must neither depend on rows of other processors nor be waited for by them:
    these are instructions on local memory.
    """
    rows = program.rows
    can_split = np.isin(rows["opcode"], [OPCODES[name] for name in _SPLIT])
    counts = np.where(can_split, rows["count"], 1).astype(np.int64)
    lengths = range(1, int(counts.max(initial=1)))
    most = 1 + bisect.bisect_left(lengths, True, key=lambda length: int((-(-counts // length)).sum()) <= most_rows)
    pieces = -(-counts // most)
    last = np.cumsum(pieces) - 1
    first = last - pieces + 1
    of = np.repeat(np.arange(rows.size), pieces)
    done = (np.arange(of.size) - first[of]) * most
    made = rows[of].copy()
    for field in _ADDRESSES:
        is_address = np.array([row.operands.get(field, "").startswith("local") for row in INSTRUCTIONS])[made["opcode"]]
        moves = is_address & (made[field] >= 0) & (pieces[of] > 1)
        made[field][moves] += (done * made[f"{field}_step"])[moves]
    made["count"] = np.where(pieces[of] > 1, np.minimum(most, made["count"] - done), made["count"])
    needs = np.zeros(of.size, np.int64)
    needs[first] = np.diff(program.dep_ptr)
    partner = np.full(of.size, -1, program.partner.dtype)
    ends = np.flatnonzero(program.partner >= 0)
    partner[first[ends]] = first[program.partner[ends]]
    starts = np.concatenate([first, [of.size]])
    return replace(
        program, rows=made, stream_ptr=starts[program.stream_ptr].astype(program.stream_ptr.dtype), partner=partner,
        dep_ptr=np.concatenate([[0], np.cumsum(needs)]).astype(program.dep_ptr.dtype),
        dep_row=last[program.dep_row].astype(program.dep_row.dtype), dep_distance=program.dep_distance.copy(),
    )  # fmt: skip


# -- schedule -------------------------------------------------------------------------------------------------------


def _edges(program: Program) -> Edges:
    """int64[m] each: dependencies and hazards, (source, target, samples back)."""
    targets = np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))
    dependencies = program.dep_row.astype(np.int64), targets, program.dep_distance.astype(np.int64)
    source, target, distance = (np.concatenate(pair) for pair in zip(dependencies, local_hazards(program), strict=True))
    return source, target, distance


def _soonest(program: Program, cycles: Array, edges: Edges) -> tuple[Array, int, Places] | None:
    """Times of one sample by itself and its end: rows choose by the order that the program had, or by what is left to do behind them."""
    start = _schedule(program, cycles, edges)
    if start is None:
        return None
    lengths = _lengths(program, cycles)
    places, order = Places(program.rows["processor"], program.partner, lengths, edges), np.argsort(start, kind="stable")
    left = places.remaining(order)
    by_rest = _schedule(program, cycles, edges, left.max(initial=0) - left)
    orders = [order] if by_rest is None else [order, np.argsort(by_rest, kind="stable")]
    times = [places.once(each) for each in orders]
    time = min(times, key=lambda one: int((one + lengths).max(initial=0)))
    return time, int((time + lengths).max(initial=1)), places


def _schedule(program: Program, cycles: Array, edges: Edges, priority: Array | None = None) -> Array | None:
    """int64[n]: the starts of one sample; None if some never start. Without a priority, that of the program's order."""
    source, target, distance = edges
    n, n_procs, rows = program.n_rows, program.n_processors, program.rows
    processor = rows["processor"].astype(np.int32)
    kind = np.array([row.kind for row in INSTRUCTIONS], np.int8)[rows["opcode"]]
    into = np.bincount(target[distance == 0], minlength=n).astype(np.int32)
    order = np.argsort(source, kind="stable")
    next_ptr = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=n))])
    longest = int(np.diff(program.stream_ptr).max(initial=1))
    if priority is None:
        priority = rows["stage"].astype(np.int64) * longest + np.arange(n) - program.stream_ptr[processor]
    is_work = kind == kernel.COMPUTE
    bases = [np.concatenate([[0], np.cumsum(np.bincount(processor[which], minlength=n_procs))]) for which in (is_work, ~is_work)]
    start = np.full(n, -1, np.int64)
    scheduled = kernel.schedule(
        1, processor, kind, program.partner.astype(np.int32), cycles, priority, longest, next_ptr, target[order], distance[order],
        MACHINES[program.hardware.kind].rules(program.hardware).handshake_cycles, into, start,
        np.empty(2 * (n + 1), np.int64), bases[0], np.zeros(n_procs, np.int64),
        np.empty(2 * (n + 1), np.int64), bases[1], np.zeros(n_procs, np.int64),
        np.empty(2 * (n + 8 * n_procs), np.int64), np.full(n_procs, -1, np.int64), np.ones(n_procs, np.int8),
        np.zeros(n, np.int8), np.zeros(n, np.int8),
    )  # fmt: skip
    return start if scheduled == n else None


def _lengths(program: Program, cycles: Array) -> Array:
    """int64[n]: cycles from the start of each row to its end; both ends of a message start together, and the sender is done first."""
    sends = np.flatnonzero(program.rows["opcode"] == OPCODES["send"])
    lengths = cycles.copy()
    lengths[sends] += MACHINES[program.hardware.kind].rules(program.hardware).handshake_cycles
    lengths[program.partner[sends]] += lengths[sends]
    return lengths


def _in_order(program: Program, time: Array, period: int) -> Program:
    """The program with its rows in the order of `time + sample * period`; ends of one message count as one."""
    time = time - time.min(initial=0)
    numbers = np.arange(program.n_rows)
    ends = np.where(program.partner >= 0, np.minimum(numbers, program.partner), numbers)
    order = np.lexsort((ends, time % period, program.rows["processor"]))
    rank = np.empty(order.size, np.int64)
    rank[order] = numbers
    rows = program.rows[order].copy()
    rows["stage"] = (time // period)[order]
    partner = program.partner[order].astype(np.int64)
    needs = np.diff(program.dep_ptr)[order]
    dep_ptr = np.concatenate([[0], np.cumsum(needs)]).astype(program.dep_ptr.dtype)
    moved = np.repeat(program.dep_ptr[:-1][order].astype(np.int64) - dep_ptr[:-1], needs) + np.arange(program.dep_row.size)
    return replace(
        program, rows=rows, partner=np.where(partner >= 0, rank[np.maximum(partner, 0)], -1).astype(program.partner.dtype), dep_ptr=dep_ptr,
        dep_row=rank[program.dep_row[moved]].astype(program.dep_row.dtype), dep_distance=program.dep_distance[moved],
    )  # fmt: skip


__all__ = ["MOST_ROWS", "Relisted", "can_relist", "idle_cycles", "relist", "split_rows"]
