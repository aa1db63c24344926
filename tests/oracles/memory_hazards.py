"""Which rows of a processor must keep their order, byte by byte in plain Python, for `pimloom.kernels.hazards`.

A processor goes through its rows twice. Of any two instances that touch a common byte, at least one writing it, the one that comes first
stays first: `clashing_pairs`, with all that follows from others. `direct_edges` are those with a byte that nobody writes in between.
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


def direct_edges(streams: Iterable[Sequence[int]], touches: Mapping[int, Touch]) -> set[tuple[int, int, int]]:
    """(source, target, rounds between) of two rows that share a byte which one writes, and nobody between them."""
    edges = set[tuple[int, int, int]]()
    for stream in streams:
        for byte in frozenset[int]().union(*(touches[row].reads | touches[row].writes for row in stream)):
            users = [(row, turn) for turn in range(2) for row in stream if byte in touches[row].reads | touches[row].writes]
            for place, (source, turn) in enumerate(users):
                for target, later in users[place + 1 :]:
                    is_written = byte in touches[target].writes
                    if turn == 0 and source != target and (is_written or byte in touches[source].writes):
                        edges.add((source, target, later))
                    if is_written:
                        break
    return edges


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
