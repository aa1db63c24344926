"""Checks of what rows wait for: messages come in pairs, dependencies name rows, and one sample passes without deadlock.

One sample must pass when every core takes its rows strictly in order (stage by stage), as the interpreter does; a core
with a larger window only waits less. Where a core does one thing at a time, a send also waits for its receive. What a
window or a transfer queue too small for the stages of several samples does is for the simulator to say.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import final

import numpy as np

from pimloom.program.checking import Faults, marked
from pimloom.program.isa import INSTRUCTIONS, RECEIVE, SEND
from pimloom.program.machines import MACHINES
from pimloom.program.program import Program
from pimloom.program.rows import Array


def check_progress(faults: Faults) -> None:
    """Checks partners and dependencies and, where these are sound, that no row waits forever."""
    before = faults.count
    _check_partners(faults)
    _check_dependencies(faults)
    if faults.count == before:
        _check_order(faults)


def _kinds(faults: Faults) -> Array:
    """int8[n]: COMPUTE, SEND or RECEIVE."""
    return faults.of_opcode(lambda code: INSTRUCTIONS[code].kind, np.int8)


def _check_partners(faults: Faults) -> None:
    """Sends and receives come in pairs on two cores and agree in size."""
    rows, partner, kind = faults.rows, faults.program.partner.astype(np.int64), _kinds(faults)
    is_message = (kind == SEND) | (kind == RECEIVE)
    is_stray = np.where(is_message, (partner < 0) | (partner >= rows.size), partner != -1)
    faults.add_rows(
        is_stray,
        lambda r: (
            f"partner {partner[r]} found, {f'one of {rows.size} rows' if is_message[r] else '-1 for none'} expected"
        ),
    )
    at = np.flatnonzero(is_message & ~is_stray)
    other = partner[at]
    is_lost = (partner[other] != at) | (kind[other] + kind[at] != SEND + RECEIVE) | (kind[other] == kind[at])
    opposite = {SEND: "receive", RECEIVE: "send"}
    faults.add_rows(
        marked(rows.size, at[is_lost]),
        lambda r: (
            f"partner row {partner[r]} found, which is no {opposite[int(kind[r])]} that names it back; a pair expected"
        ),
    )
    _check_pairs(faults, at[~is_lost & (kind[at] == SEND)], partner)


def _check_pairs(faults: Faults, sends: Array, partner: Array) -> None:
    rows, other = faults.rows, partner[sends]
    faults.add_rows(
        marked(rows.size, sends[rows["processor"][sends] == rows["processor"][other]]),
        lambda r: f"partner row {partner[r]} on the same core found, another core expected",
    )
    size = rows["length"].astype(np.int64) * rows["count"]
    faults.add_rows(
        marked(rows.size, sends[size[sends] != size[other]]),
        lambda r: f"{size[r]} bytes sent found, the {size[partner[r]]} bytes that row {partner[r]} receives expected",
    )


def _dependent_rows(program: Program) -> Array:
    """int64[m]: the row that each dependency belongs to."""
    return np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))


def _check_dependencies(faults: Faults) -> None:
    """Dependencies name other rows, of this sample or an earlier one."""
    program, target = faults.program, _dependent_rows(faults.program)
    source, distance, n = program.dep_row, program.dep_distance, program.n_rows
    faults.add_each(
        (source < 0) | (source >= n),
        lambda e: f"{faults.name(int(target[e]))}: waits for row {source[e]}, one of 0 to {n - 1} expected",
    )
    faults.add_each(
        distance < 0,
        lambda e: f"{faults.name(int(target[e]))}: waits for {distance[e]} samples back, 0 or more expected",
    )
    faults.add_each(
        (source == target) & (distance == 0),
        lambda e: f"{faults.name(int(target[e]))}: waits for itself, another row or an earlier sample expected",
    )


def _check_order(faults: Faults) -> None:
    """One sample passes when each core takes its rows in order."""
    order = Order(faults.program, _kinds(faults))
    source, target = order.edges()
    is_local = order.core[source] == order.core[target]
    is_late = is_local & (order.place[source] >= order.place[target])
    faults.add_each(
        is_late,
        lambda e: (
            f"{faults.name(int(target[e]))}: waits for row {source[e]}, which comes later on its core, an earlier one "
            "expected"
        ),
    )
    if is_late.any():
        return
    circle = order.circle(source[~is_local], target[~is_local])
    if circle:
        steps = ", which waits for ".join(faults.name(row) for row in circle)
        faults.add(f"deadlock: {steps}; an order in which all rows end expected")


@final
class Order:
    """The order in which one sample passes the rows of each core, and which cores wait for which.

    Attributes:
        core: int32[n], the core of each row.
        place: int64[n], the place of each row in the order of its core.
    """

    def __init__(self, program: Program, kind: Array) -> None:
        """Sorts the rows; `kind` is COMPUTE, SEND or RECEIVE of each."""
        self.program, self._kind = program, kind
        self.core = program.rows["processor"]
        self._line = np.lexsort((program.rows["stage"], self.core))  # stable: by core, stage, row
        self.place = np.empty(program.n_rows, np.int64)
        self.place[self._line] = np.arange(program.n_rows) - program.stream_ptr[self.core[self._line]]

    def edges(self) -> tuple[Array, Array]:
        """(source, target), int64[m] each: rows that end before others begin, besides the order on each core."""
        program, target = self.program, _dependent_rows(self.program)
        is_now = program.dep_distance == 0
        source, target = program.dep_row[is_now].astype(np.int64), target[is_now]
        receives = np.flatnonzero(self._kind == RECEIVE)
        sends = program.partner[receives].astype(np.int64)
        if MACHINES[program.hardware.kind].rules(program.hardware).window == 1:
            source, target = self._with_meetings(source, target, sends, receives)
        return np.concatenate([source, sends]), np.concatenate([target, receives])

    def _with_meetings(self, source: Array, target: Array, sends: Array, receives: Array) -> tuple[Array, Array]:
        """A core that does one thing at a time stays at a send until the other core may begin the receive."""
        partner = self.program.partner[target].astype(np.int64)
        is_shared = (partner >= 0) & (partner != source)
        is_preceded = self.place[receives] > 0
        before = self._line[self.program.stream_ptr[self.core[receives]] + self.place[receives] - 1]
        sources = np.concatenate([source, source[is_shared], before[is_preceded]])
        return sources, np.concatenate([target, partner[is_shared], sends[is_preceded]])

    def circle(self, source: Array, target: Array) -> list[int]:
        """Walks all cores to their ends, given the edges between different cores.

        A core advances to its next row that waits for something, and stops there until the other core is past that.

        Returns:
            Nothing if all arrive; else rows each of which waits for the next, the first one again at the end.
        """
        inbound = self._inbound(source, target)
        length = np.diff(self.program.stream_ptr).tolist()
        passed, at = [0] * len(length), [0] * len(length)
        sleepers: dict[int, list[int]] = defaultdict(list)
        ready = [core for core, rows in enumerate(length) if rows]
        while ready:
            core = ready.pop()
            edges = inbound.get(core, ())
            while at[core] < len(edges) and passed[edges[at[core]][1]] > edges[at[core]][2]:
                at[core] += 1
            reached = edges[at[core]][0] if at[core] < len(edges) else length[core]
            if reached > passed[core]:
                passed[core] = reached
                ready += sleepers.pop(core, ())
            if at[core] < len(edges):
                sleepers[edges[at[core]][1]].append(core)
        return self._waiting(inbound, at)

    def _inbound(self, source: Array, target: Array) -> dict[int, list[tuple[int, int, int]]]:
        """Per core, in its order: (place that waits, the other core, the place there that it waits for)."""
        by_place = np.lexsort((self.place[target], self.core[target]))
        source, target = source[by_place], target[by_place]
        columns = (self.place[target].tolist(), self.core[source].tolist(), self.place[source].tolist())
        table = list(zip(*columns, strict=True))
        bounds = np.searchsorted(self.core[target], np.arange(self.program.n_processors + 1)).tolist()
        return {core: table[low:high] for core, (low, high) in enumerate(itertools.pairwise(bounds)) if low < high}

    def _waiting(self, inbound: dict[int, list[tuple[int, int, int]]], at: list[int]) -> list[int]:
        core = next((core for core, edges in inbound.items() if at[core] < len(edges)), None)
        if core is None:
            return []
        seen: list[int] = []
        while core not in seen:
            seen.append(core)
            core = inbound[core][at[core]][1]
        return [
            int(self._line[self.program.stream_ptr[c] + inbound[c][at[c]][0]])
            for c in [*seen[seen.index(core) :], core]
        ]
