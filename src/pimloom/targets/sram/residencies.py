"""Residencies: which tile is in which macro, and in what order, for a planned product.

A product may have several parts (heads of an attention, blocks of groups of a convolution), each a matrix of its own; parts
follow one another as strips of one wide matrix would. Where weights are streamed, all parts that share their inputs take a
chunk before the next comes; parts with inputs of their own follow one another. A generation is at most `macros` residencies
of different macros that follow one another; within it, all tiles see the same chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.hardware import SramHardware
from pimloom.targets.sram.plan import Dataflow, Plan
from pimloom.targets.sram.work import Work

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True, slots=True)
class Generation:
    """Residencies that follow one another on different macros.

    Attributes:
        strip: int64[g], strips over all parts.
        row_tile: int64[g], place in the strip.
        macro: int64[g].
        is_written: bool[g], false where the macro holds the tile already.
        chunks: chunks of vectors that all of them see.
    """

    strip: Array
    row_tile: Array
    macro: Array
    is_written: Array
    chunks: range


def generations(hardware: SramHardware, work: Work, plan: Plan) -> Iterator[Generation]:
    """All residencies of a product, in the order in which they are written.

    Args:
        hardware: the machine.
        work: the product.
        plan: how it is done.
    """
    holds = np.full(hardware.arrays, -1, np.int64)
    n_tiles = work.row_tiles(hardware)
    for first, tiles, chunks in _slices(hardware, work, plan):
        place = tiles if plan.is_serpentine else first + np.arange(tiles.size)
        macro = place % plan.macros
        yield Generation(tiles // n_tiles, tiles % n_tiles, macro, holds[macro] != tiles, chunks)
        holds[macro] = tiles


def _slices(hardware: SramHardware, work: Work, plan: Plan) -> Iterator[tuple[int, Array, range]]:
    """(residencies before, tiles, chunks) of each generation."""
    tiles, n_chunks = work.tiles(hardware), work.chunks(plan.vectors)
    if plan.dataflow is Dataflow.ACTIVATIONS:
        size = max(plan.macros // work.row_tiles(hardware), 1) * work.row_tiles(hardware)
        for start in range(0, tiles, size):
            yield start, np.arange(start, min(start + size, tiles)), range(n_chunks)
        return
    before, together = 0, tiles // work.sources
    for source in range(work.sources):
        for chunk in range(n_chunks):
            line = np.arange(source * together, (source + 1) * together)
            if plan.is_serpentine and (source * n_chunks + chunk) % 2:
                line = line[::-1]
            for start in range(0, together, plan.macros):
                piece = line[start : start + plan.macros]
                yield before, piece, range(chunk, chunk + 1)
                before += piece.size


__all__ = ["Generation", "generations"]
