"""Residencies: which tile is in which macro, and in what order, for a planned product; and the passes over them.

A product may have several parts (heads of an attention, blocks of groups of a convolution), each a matrix of its own; parts
follow one another as strips of one wide matrix would. Where weights are streamed, all parts that share their inputs take a
chunk before the next comes; parts with inputs of their own follow one another. A generation is at most `macros` residencies
of different macros that follow one another; all its tiles see the same chunks, one step after the other: a pass is one tile in
one step. Where halves swap, a generation also ends where a half is full.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.hardware import SramHardware
from pimloom.targets.sram.plan import Dataflow, Plan
from pimloom.targets.sram.work import Work

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True, slots=True)
class Residencies:
    """r residencies in the order in which they are written, in g generations.

    Attributes:
        tile: int64[r], over all parts, strip after strip.
        macro: int64[r].
        is_written: bool[r], false where the macro holds the tile already.
        edges: int64[g + 1]; generation i is the residencies `edges[i]` to `edges[i + 1]`.
        first_chunk: int64[g], chunks that a generation sees: the first,
        n_chunks: int64[g], and how many.
    """

    tile: Array
    macro: Array
    is_written: Array
    edges: Array
    first_chunk: Array
    n_chunks: Array

    @property
    def generation(self) -> Array:
        """int64[r]: generation of each residency."""
        return np.repeat(np.arange(self.edges.size - 1), np.diff(self.edges))


@final
@dataclass(frozen=True, slots=True)
class Passes:
    """p passes in their order, in s steps; a step is one chunk through the tiles of a generation.

    Attributes:
        residency: int64[p].
        step: int64[p].
        chunk: int64[p].
        is_first: bool[p], whether its residency begins with it.
        is_last: bool[p], whether its residency ends with it.
        first_step: int64[r], step in which a residency begins.
        first: int64[r], pass with which a residency begins.
        steps: s.
    """

    residency: Array
    step: Array
    chunk: Array
    is_first: Array
    is_last: Array
    first_step: Array
    first: Array
    steps: int


def residencies(hardware: SramHardware, work: Work, plan: Plan, cut_every: int = 0) -> Residencies:
    """All residencies of a product.

    Args:
        hardware: the machine.
        work: the product.
        plan: how it is done.
        cut_every: where positive, a generation ends behind every so many residencies, too.
    """
    tiles, n_chunks = work.tiles(hardware), work.chunks(plan.vectors)
    if plan.dataflow is Dataflow.ACTIVATIONS:
        size = max(plan.macros // work.row_tiles(hardware), 1) * work.row_tiles(hardware)
        tile, starts = np.arange(tiles), np.arange(0, tiles, size)
        first_chunk, seen = np.zeros_like(starts), np.full_like(starts, n_chunks)
    else:
        together = tiles // work.sources
        lines = np.arange(work.sources * n_chunks)
        place = np.broadcast_to(np.arange(together), (lines.size, together))
        if plan.is_serpentine:
            place = np.where(lines[:, None] % 2 == 1, place[:, ::-1], place)
        tile = (lines[:, None] // n_chunks * together + place).ravel()
        pieces = np.arange(0, together, plan.macros)
        starts = (lines[:, None] * together + pieces).ravel()
        first_chunk, seen = np.repeat(lines % n_chunks, pieces.size), np.ones(starts.size, np.int64)
    macro = (tile if plan.is_serpentine else np.arange(tile.size)) % plan.macros
    if cut_every:
        generation = starts
        starts = np.union1d(starts, np.arange(0, tile.size, cut_every))
        of = np.searchsorted(generation, starts, side="right") - 1
        first_chunk, seen = first_chunk[of], seen[of]
    return Residencies(tile, macro, _is_written(tile, macro), np.append(starts, tile.size), first_chunk, seen)


def _is_written(tile: Array, macro: Array) -> Array:
    """bool[r]: whether the residency before on the same macro, if any, was of another tile."""
    order = np.argsort(macro, kind="stable")
    is_same = (np.diff(macro[order], prepend=-1) == 0) & (np.diff(tile[order], prepend=-1) == 0)
    found = np.empty(tile.size, np.bool_)
    found[order] = ~is_same
    return found


def passes(found: Residencies) -> Passes:
    """The passes over residencies: generation by generation, chunk by chunk, tile by tile."""
    sizes = np.diff(found.edges)
    of_step = np.repeat(np.arange(sizes.size), found.n_chunks)  # generation of each step
    first_step = np.cumsum(found.n_chunks) - found.n_chunks
    number = np.arange(of_step.size) - first_step[of_step]  # of the step in its generation
    first_pass = np.append(0, np.cumsum(sizes[of_step]))
    step = np.repeat(np.arange(of_step.size), sizes[of_step])
    generation = of_step[step]
    residency = found.edges[generation] + np.arange(step.size) - first_pass[step]
    of_residency = found.generation
    first = first_pass[first_step[of_residency]] + np.arange(of_residency.size) - found.edges[of_residency]
    return Passes(
        residency, step, (found.first_chunk[of_step] + number)[step], (number == 0)[step], (number == found.n_chunks[of_step] - 1)[step],
        first_step[of_residency], first, of_step.size,
    )  # fmt: skip


__all__ = ["Passes", "Residencies", "passes", "residencies"]
