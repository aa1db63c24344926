"""Shards: a copy of a layer that is larger than a core, cut into parts that fit.

It is cut by columns (each core then finishes its own channels); if even one column of crossbars is larger than a core, its rows are
spread over several cores, whose partial sums are added at the first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from pimloom.targets.crossbar.placement import Group
from pimloom.targets.crossbar.unfold import BlockShape, Unfolded

GOOD_FILL: Final = 0.8
"""Share of a core's arrays that pieces should fill: cutting further for more makes partial sums travel, and inputs be held twice."""

CLOSE_FILL: Final = 0.9
"""The same where nothing else packs."""


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


def shards_of(unfolded: Unfolded, core_crossbars: int, height: int = 0, *, is_fine: bool = False) -> tuple[Shard, ...]:
    """Cuts a copy by columns into as few shards as fit cores, of even size; by rows as well if columns are taller than `height`.

    Args:
        unfolded: the layer on arrays.
        core_crossbars: arrays of a core.
        height: arrays of a column that a core holds at most; all of its arrays if 0.
        is_fine: whether each column that is cut is a shard of its own, which finds room more easily.
    """
    height = height or core_crossbars
    units = [(b, t, len(block.bands)) for b, block in enumerate(unfolded.blocks) for t in range(block.n_tiles)]
    tallest = max(size for _, _, size in units)
    if tallest > height:
        room = 0 if is_fine else core_crossbars
        return tuple(shard for block in range(len(unfolded.blocks)) for shard in _tall_shards(unfolded, block, room, height))
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


def fitting_height(unfolded: Unfolded, core_crossbars: int, good_fill: float = GOOD_FILL) -> int:
    """The most arrays of one column that a core should hold, so that columns cut into such pieces fill cores well."""
    tallest = max(len(block.bands) for block in unfolded.blocks)
    options = sorted({-(-tallest // pieces) for pieces in range(1, tallest + 1)} & set(range(1, core_crossbars + 1)), reverse=True)
    height = max(options, key=lambda h: (min(core_crossbars // h * h, good_fill * core_crossbars), h))
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


def channels_read(unfolded: Unfolded, groups: Iterable[Group]) -> tuple[int, int]:
    """Input channels that some array groups of a layer take: (first, one past the last)."""
    return channels_of(unfolded, {(group.block, group.band) for group in groups})


def channels_of(unfolded: Unfolded, pieces: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Input channels that some (block, band) of a layer take: (first, one past the last)."""
    ranges = [_channels(unfolded.blocks[block], band) for block, band in pieces]
    return min(low for low, _ in ranges), max(high for _, high in ranges)


def _channels(block: BlockShape, number: int) -> tuple[int, int]:
    """Input channels of a band; all of the block's where it goes on over a tap."""
    band = block.bands[number]
    first = band.start % block.in_channels
    last = first + band.stop - band.start
    low, high = (first, last) if last <= block.in_channels else (0, block.in_channels)
    return block.in_start + low, block.in_start + high


def _tall_shards(unfolded: Unfolded, block: int, core_crossbars: int, height: int) -> list[Shard]:
    """A block cut by rows: each core holds the same rows of as many columns as there is room for, one at least: they share inputs."""
    shape = unfolded.blocks[block]
    pieces = tuple(tuple((block, band) for band in bands) for bands in _row_cuts(shape, height))
    tiles = max(1, core_crossbars // max(len(piece) for piece in pieces))
    found: list[Shard] = []
    for first, last in _even_cuts(shape.n_tiles, -(-shape.n_tiles // tiles)):
        low, high = tile_columns(unfolded, block, first, last)
        sizes = tuple(len(piece) * (last - first) for piece in pieces)
        found.append(Shard(((block, first, last),), shape.out_start + low, shape.out_start + high, pieces, sizes))
    return found


def cut_by_channels(block: BlockShape, channels: float, *, is_close: bool = False) -> int:
    """Bands of a piece where a block is cut so that none takes more than so many input channels, or one array's if that is more.

    Args:
        block: of a layer.
        channels: that a core has room for.
        is_close: whether so many pieces will do as there is room for on average, though one may take an array's channels more.

    Returns:
        0 if the block has no more channels, all bands take the same ones, or one goes on over a tap.
    """
    lines = _lines(block)
    if block.in_channels <= channels or len(lines) < 2:
        return 0
    widest = max(block.bands[line[0]].stop - block.bands[line[0]].start for line in lines)
    if is_close:
        return -(-len(lines) // min(len(lines), math.ceil(block.in_channels / channels))) * len(lines[0])
    return max(1, int(channels // widest)) * len(lines[0])


def _row_cuts(block: BlockShape, height: int) -> list[list[int]]:
    """Bands of a block in pieces of at most so many, each with input channels of its own if that can be."""
    lines = _lines(block)
    if len(lines) > 1 and len(lines[0]) <= height:
        cuts = _even_cuts(len(lines), -(-len(lines) // (height // len(lines[0]))))
        return [sorted(itertools.chain(*lines[low:high])) for low, high in cuts]
    return [list(range(low, high)) for low, high in _even_cuts(len(block.bands), -(-len(block.bands) // height))]


def _lines(block: BlockShape) -> list[list[int]]:
    """Bands that take the same input channels, of one tap after the other; nothing where a band goes on over a tap."""
    found: dict[int, list[int]] = {}
    for number, band in enumerate(block.bands):
        if band.start % block.in_channels + band.stop - band.start > block.in_channels:
            return []
        found.setdefault(band.start % block.in_channels, []).append(number)
    return [found[first] for first in sorted(found)]


def _even_cuts(total: int, parts: int) -> list[tuple[int, int]]:
    """(first, one past the last) of parts that differ by one at most."""
    return list(itertools.pairwise(total * i // parts for i in range(parts + 1)))
