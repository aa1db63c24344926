"""Shards: a copy of a layer that is larger than a core, cut into parts that fit.

It is cut by columns (each core then finishes its own channels); if even one column of crossbars is larger than a core, its rows are
spread over several cores, whose partial sums are added at the first.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from pimloom.targets.crossbar.unfold import Unfolded

GOOD_FILL = 0.8
"""Share of a core's arrays that pieces should fill: cutting further for more makes partial sums travel, and inputs be held twice."""


@final
@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a copy that one core (or, if `pieces` > 1, a row of cores) holds.

    Attributes:
        units: (block, first tile, one past the last tile).
        out_start: first output channel.
        out_stop: one past the last.
        pieces: per core, the (block, band) pairs it holds.
        sizes: crossbars per piece.
    """

    units: tuple[tuple[int, int, int], ...]
    out_start: int
    out_stop: int
    pieces: tuple[tuple[tuple[int, int], ...], ...]
    sizes: tuple[int, ...]


def shards_of(unfolded: Unfolded, core_crossbars: int) -> tuple[Shard, ...]:
    """Cuts a copy by columns into as few shards as fit cores, of even size."""
    units = [(b, t, len(block.bands)) for b, block in enumerate(unfolded.blocks) for t in range(block.n_tiles)]
    tallest = max(size for _, _, size in units)
    if tallest > core_crossbars:
        return tuple(_tall_shard(unfolded, b, t, core_crossbars) for b, t, _ in units)
    total = sum(size for _, _, size in units)
    count = -(-total // (core_crossbars // tallest * tallest))
    shards: list[list[tuple[int, int, int]]] = [[]]
    filled = 0
    for unit in units:
        full = sum(u[2] for u in shards[-1]) + unit[2] > core_crossbars
        if shards[-1] and (full or filled >= len(shards) * total / count):
            shards.append([])
        shards[-1].append(unit)
        filled += unit[2]
    return tuple(_flat_shard(unfolded, shard) for shard in shards)


def fitting_height(unfolded: Unfolded, core_crossbars: int) -> int:
    """The most arrays of one column that a core should hold, so that columns cut into such pieces fill cores best."""
    tallest = max(len(block.bands) for block in unfolded.blocks)
    options = sorted({-(-tallest // pieces) for pieces in range(1, tallest + 1)} & set(range(1, core_crossbars + 1)), reverse=True)
    height = max(options, key=lambda h: (min(core_crossbars // h * h, GOOD_FILL * core_crossbars), h))
    return core_crossbars if height >= tallest else height


def tile_columns(unfolded: Unfolded, block: int, start: int, stop: int) -> tuple[int, int]:
    """Output channels of some tiles of a block, counted from its first: (first, one past the last)."""
    per_tile, shape = unfolded.columns_per_tile, unfolded.blocks[block]
    return start * per_tile, min(stop * per_tile, shape.out_channels)


def _flat_shard(unfolded: Unfolded, units: Sequence[tuple[int, int, int]]) -> Shard:
    runs: list[list[int]] = []
    for block, tile, _ in units:
        if runs and runs[-1][0] == block and runs[-1][2] == tile:
            runs[-1][2] = tile + 1
        else:
            runs.append([block, tile, tile + 1])
    first, last = runs[0], runs[-1]
    out_start = unfolded.blocks[first[0]].out_start + tile_columns(unfolded, first[0], first[1], first[2])[0]
    out_stop = unfolded.blocks[last[0]].out_start + tile_columns(unfolded, last[0], last[1], last[2])[1]
    bands = tuple((block, band) for block, _, _ in runs for band in range(len(unfolded.blocks[block].bands)))
    return Shard(tuple((r[0], r[1], r[2]) for r in runs), out_start, out_stop, (bands,), (sum(u[2] for u in units),))


def _tall_shard(unfolded: Unfolded, block: int, tile: int, core_crossbars: int) -> Shard:
    shape = unfolded.blocks[block]
    count = -(-len(shape.bands) // core_crossbars)
    cuts = [len(shape.bands) * i // count for i in range(count + 1)]
    pieces = tuple(tuple((block, band) for band in range(a, b)) for a, b in itertools.pairwise(cuts))
    low, high = tile_columns(unfolded, block, tile, tile + 1)
    return Shard(((block, tile, tile + 1),), shape.out_start + low, shape.out_start + high, pieces, tuple(len(p) for p in pieces))
