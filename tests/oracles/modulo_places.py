"""Places of rows in a period that repeats, in plain Python: `pimloom.kernels.modulo` has to agree with it.

Every processor has a set of the moments of a period at which it works. Rows choose one after the other: the first moment from the
end of what they wait for on at which their processor has none of the moments that they take; both ends of a message together.
"""

from __future__ import annotations

from collections.abc import Sequence

from oracles.list_schedule import Edge


def places(
    order: Sequence[int], processor: Sequence[int], partner: Sequence[int], length: Sequence[int], edges: Sequence[Edge], period: int,
    least: Sequence[int],
) -> list[int]:  # fmt: skip
    """Moments of all rows; -1 for those that have none, which ends the search. Messages wait no longer than a period for each other."""
    time = [-1] * len(processor)
    taken: dict[int, set[int]] = {p: set() for p in processor}
    for row in order:
        if time[row] >= 0:
            continue
        ends = [row] if partner[row] < 0 else [row, partner[row]]
        done = [
            time[e.source] + length[e.source] - period * e.distance
            for end in ends
            for e in edges
            if e.target == end and time[e.source] >= 0
        ]
        first = max([least[end] for end in ends] + done)
        wanted = {end: [(first + i) % period for i in range(length[end])] for end in ends}
        for moment in range(first, first + period + 1):
            wanted = {end: [(moment + i) % period for i in range(length[end])] for end in ends}
            if all(length[end] <= period and not taken[processor[end]].intersection(wanted[end]) for end in ends):
                break
        else:
            return time
        for end in ends:
            taken[processor[end]].update(wanted[end])
            time[end] = moment
    return time


def remaining(partner: Sequence[int], length: Sequence[int], edges: Sequence[Edge], row: int) -> int:
    """Cycles from the start of a row to the end of its sample, were every processor always free."""

    def after(end: int) -> int:
        followers = [remaining(partner, length, edges, e.target) for e in edges if e.source == end and e.distance == 0]
        return length[end] + max(followers, default=0)

    return max(after(row), after(partner[row]) if partner[row] >= 0 else 0)
