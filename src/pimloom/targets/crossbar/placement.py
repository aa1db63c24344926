"""A placement: copies of layers are array groups on cores, and every stage is clusters.

A cluster is what one core computes of one stage: some rows, a range of vectors, a range of channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final


@final
@dataclass(frozen=True, slots=True)
class Group:
    """An array group.

    Attributes:
        core: where it sits.
        key: the matrix it belongs to: (weight name, block).
        block: index of the block in its unfolding.
        band: index of the band of rows.
        column_start: first column of the block.
        column_stop: one past the last.
        crossbars: arrays.
    """

    core: int
    key: str
    block: int
    band: int
    column_start: int
    column_stop: int
    crossbars: int


@final
@dataclass(frozen=True, slots=True)
class Cluster:
    """What one core computes of one stage.

    Attributes:
        stage: index of the stage.
        core: where.
        row_class: (r, n): output rows y with y % n == r.
        x_start: first output vector of a row.
        x_stop: one past the last.
        c_start: first output channel.
        c_stop: one past the last.
        copies: groups of each copy, which share the vectors of a row among them.
        peers: groups on other cores whose partial sums are added here: (core, groups of each copy).
    """

    stage: int
    core: int
    row_class: tuple[int, int]
    x_start: int
    x_stop: int
    c_start: int
    c_stop: int
    copies: tuple[tuple[int, ...], ...] = ()
    peers: tuple[tuple[int, tuple[tuple[int, ...], ...]], ...] = ()

    def rows(self, n_rows: int) -> range:
        """Output rows of the cluster."""
        return range(self.row_class[0], n_rows, self.row_class[1])


@final
@dataclass(slots=True)
class Placement:
    """Groups and clusters of a whole network.

    Attributes:
        groups: all array groups.
        clusters: per stage.
        copies: per stage, 0 where it has no weights.
        wished_bytes: per stage with weights, local memory that BALANCED took it and its followers to need.
    """

    groups: list[Group] = field(default_factory=list[Group])
    clusters: list[list[Cluster]] = field(default_factory=list[list[Cluster]])
    copies: list[int] = field(default_factory=list[int])
    wished_bytes: dict[int, float] = field(default_factory=dict[int, float])
