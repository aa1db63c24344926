"""Chunks: which vectors a pass takes, what of the input it loads, and how windows are gathered from what was loaded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, final

import numpy as np

from pimloom.program import MASKED
from pimloom.targets.sram.work import Windows, Work, ceil_div

Array = np.ndarray[Any, np.dtype[Any]]
Segments = tuple[tuple[int, int], ...]


@final
@dataclass(frozen=True, slots=True)
class Load:
    """Bytes of a region that a chunk needs: `count` pieces of `length` bytes, `step` apart, laid one behind the other."""

    offset: int
    length: int
    count: int
    step: int

    @property
    def size_bytes(self) -> int:
        """Bytes in all."""
        return self.length * self.count


@final
@dataclass(frozen=True, slots=True)
class Run:
    """Windows of a chunk that are gathered alike: their pixels lie at even distances and the same taps stick out.

    Attributes:
        first: place in the chunk.
        count: windows.
        address: of the first window's first tap, relative to the loaded piece; may lie before it where taps stick out.
        step: from window to window.
        taps_y: kernel rows inside the image, first and one past the last.
        taps_x: kernel columns likewise.
        pitch: bytes from one loaded row of pixels to the next.
    """

    first: int
    count: int
    address: int
    step: int
    taps_y: tuple[int, int]
    taps_x: tuple[int, int]
    pitch: int


@final
@dataclass(frozen=True, slots=True)
class Chunk:
    """Vectors that pass together.

    Attributes:
        first: number of the first vector of its part.
        count: vectors.
        load: what they need of the input.
        runs: how they are gathered.
    """

    first: int
    count: int
    load: Load
    runs: tuple[Run, ...]


@final
@dataclass(frozen=True, slots=True)
class ChunkTable:
    """The c chunks of one part of a product as arrays, with their u runs.

    Attributes:
        first: int64[c], number of the first vector.
        count: int64[c], vectors.
        load: int64[4, c], of `Load`: offset, length, count, step.
        run_ptr: int64[c + 1]; runs of chunk i are `run_ptr[i]` to `run_ptr[i + 1]`.
        run: int64[4, u], of `Run`: first, count, address, step.
        kind: int64[u], place in `kinds`.
        kinds: a run of every kind; runs of a kind are gathered with the same patterns.
    """

    first: Array
    count: Array
    load: Array
    run_ptr: Array
    run: Array
    kind: Array
    kinds: tuple[Run, ...]


@lru_cache(maxsize=256)
def chunk_table(work: Work, most: int) -> ChunkTable:
    """The chunks of one part of a product; see `chunks`."""
    found = chunks(work, most)
    runs = [run for chunk in found for run in chunk.runs]
    kinds: dict[tuple[Any, ...], Run] = {}
    for run in runs:
        kinds.setdefault((run.taps_y, run.taps_x, run.pitch), run)
    place = {key: i for i, key in enumerate(kinds)}
    vectors = np.array([(chunk.first, chunk.count) for chunk in found]).T
    return ChunkTable(
        vectors[0], vectors[1], np.array([(c.load.offset, c.load.length, c.load.count, c.load.step) for c in found]).T,
        np.cumsum([0, *(len(chunk.runs) for chunk in found)]), np.array([(r.first, r.count, r.address, r.step) for r in runs]).T,
        np.array([place[run.taps_y, run.taps_x, run.pitch] for run in runs]), tuple(kinds.values()),
    )  # fmt: skip


def chunks(work: Work, most: int) -> tuple[Chunk, ...]:
    """The chunks of one part of a product, each of at most `most` vectors, as even as they can be."""
    if work.windows is None:
        size = work.chunk_vectors(most)
        firsts = range(0, work.vectors, size)
        return tuple(_plain(work, first, min(size, work.vectors - first)) for first in firsts)
    images = work.vectors // math.prod(work.windows.shape)
    return tuple(chunk for image in range(images) for chunk in _of_image(work.windows, image, most))


def segments(work: Work, run: Run, start: int, stop: int) -> Segments:
    """The gather pattern of the rows `start..stop` of a part's matrix: (offset, bytes), masked where a tap sticks out."""
    windows = work.windows
    if windows is None:
        return ((start, stop - start),)
    found: list[tuple[int, int]] = []
    position, taken = start, work.slice_bytes or windows.channels
    while position < stop:
        tap, channel = divmod(position, taken)
        y, x = divmod(tap, windows.kernel[1])
        size = min(stop - position, taken - channel)
        is_inside = run.taps_y[0] <= y < run.taps_y[1] and run.taps_x[0] <= x < run.taps_x[1]
        offset = y * windows.dilation[0] * run.pitch + x * windows.dilation[1] * windows.channels + channel
        _append(found, offset if is_inside else MASKED, size)
        position += size
    return tuple(found)


def _append(found: list[tuple[int, int]], offset: int, size: int) -> None:
    """Appends a segment, merged with the one before where they touch."""
    if found:
        before, length = found[-1]
        if (offset == MASKED == before) or (MASKED not in (offset, before) and before + length == offset):
            found[-1] = (before, length + size)
            return
    found.append((offset, size))


def _plain(work: Work, first: int, count: int) -> Chunk:
    load = Load(first * work.rows, count * work.rows, 1, 0)
    return Chunk(first, count, load, (Run(0, count, 0, work.rows, (0, 1), (0, 1), work.rows),))


def _of_image(w: Windows, image: int, most: int) -> Iterator[Chunk]:
    rows, cols = w.part(most)
    n_rows, n_cols = ceil_div(w.shape[0], rows), ceil_div(w.shape[1], cols)
    for i in range(n_rows * n_cols):
        y, x = i // n_cols * rows, i % n_cols * cols
        yield _part(w, image, y, min(rows, w.shape[0] - y), x, min(cols, w.shape[1] - x))


def _part(w: Windows, image: int, y: int, n_y: int, x: int, n_x: int) -> Chunk:
    (top, bottom), (left, right) = w.span(0, y, n_y), w.span(1, x, n_x)
    pitch, row = (right - left) * w.channels, w.source[1] * w.channels
    load = Load((image * w.source[0] + top) * row + left * w.channels, pitch, bottom - top, row)
    runs = tuple(run for j in range(n_y) for run in _runs(w, y + j, j * n_x, x, n_x, top, left, pitch))
    return Chunk((image * w.shape[0] + y) * w.shape[1] + x, n_y * n_x, load, runs)


def _runs(w: Windows, y: int, first: int, x: int, n_x: int, top: int, left: int, pitch: int) -> Iterator[Run]:
    """Runs of one row of windows: windows whose taps are inside from column to column go together."""
    taps_y = _taps(w, 0, y)
    start = 0
    while start < n_x:
        taps_x, stop = _taps(w, 1, x + start), start + 1
        while stop < n_x and _taps(w, 1, x + stop) == taps_x:
            stop += 1
        at_y = y * w.stride[0] - w.padding[0] - top
        at_x = (x + start) * w.stride[1] - w.padding[1] - left
        address = at_y * pitch + at_x * w.channels
        yield Run(first + start, stop - start, address, w.stride[1] * w.channels, taps_y, taps_x, pitch)
        start = stop


def _taps(w: Windows, axis: int, window: int) -> tuple[int, int]:
    """Taps of a window that are inside the image: first, and one past the last."""
    origin = window * w.stride[axis] - w.padding[axis]
    low = max(0, ceil_div(-origin, w.dilation[axis]))
    high = min(w.kernel[axis], ceil_div(w.source[axis] - origin, w.dilation[axis]))
    return low, max(high, low)


__all__ = ["Chunk", "ChunkTable", "Load", "Run", "chunk_table", "chunks", "segments"]
