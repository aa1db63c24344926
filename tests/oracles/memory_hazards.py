"""Which rows of a processor must keep their order, byte by byte in plain Python: `pimloom.kernels.hazards` has to imply the same.

A processor goes through its rows twice. Of any two instances that touch a common byte, at least one writing it, the one that comes first
stays first. That is all; whatever follows from other pairs is listed, too.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

Instance = tuple[int, int]  # (row, round)
Pair = tuple[Instance, Instance]


@final
@dataclass(frozen=True)
class Touch:
    """The bytes that one row reads and writes in the memory of its processor."""

    reads: frozenset[int] = frozenset()
    writes: frozenset[int] = frozenset()

    def clashes(self, other: Touch) -> bool:
        """Whether one writes what the other reads or writes."""
        return bool(self.writes & (other.reads | other.writes) or self.reads & other.writes)


def clashing_pairs(streams: Iterable[Sequence[int]], touches: Mapping[int, Touch]) -> set[Pair]:
    """All pairs of instances that clash, the earlier first; rows of each stream in order, two rounds."""
    pairs = set[Pair]()
    for stream in streams:
        instances = [(row, turn) for turn in range(2) for row in stream]
        pairs |= {(a, b) for a, b in itertools.combinations(instances, 2) if touches[a[0]].clashes(touches[b[0]])}
    return pairs


def unrolled(edges: Iterable[tuple[int, int, int]]) -> set[Pair]:
    """Edges (source, target, rounds between) as pairs of instances of two rounds."""
    return {((source, turn), (target, turn + rounds)) for source, target, rounds in edges for turn in range(2 - rounds)}


def implied(pairs: Iterable[Pair], rows: Iterable[int]) -> set[Pair]:
    """All that follows from some pairs, and from each row of the first round being before itself in the second."""
    after: dict[Instance, set[Instance]] = {(row, turn): {(row, 1)} if turn == 0 else set() for row in rows for turn in range(2)}
    for first, second in pairs:
        after[first].add(second)
    found = set[Pair]()
    for first in after:
        reached, open_ = set[Instance](), [first]
        while open_:
            new = after[open_.pop()] - reached
            reached |= new
            open_ += new
        found |= {(first, second) for second in reached}
    return found
