"""Emission: rows made many at a time, until they are sorted into the streams of a program."""

from __future__ import annotations

import itertools
from typing import Any, final

import numpy as np

from pimloom.program import OPCODES, ROW, ragged

Array = np.ndarray[Any, np.dtype[Any]]


@final
class Emission:
    """Rows so far, with what they wait for. A stream keeps the order in which its rows were added, unless keys say otherwise."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.count = 0
        self._rows: list[Array] = []
        self._keys: list[Array] = []
        self._targets: list[Array] = []
        self._sources: list[Array] = []
        self._distances: list[Array] = []
        self._patterns: dict[tuple[tuple[int, int], ...], int] = {}

    def add(self, opcode: str, processor: Any, node: int, *, key: float | None = None, **fields: Any) -> Array:
        """Adds rows.

        Args:
            opcode: mnemonic.
            processor: of each row; its length (or that of any field) is the number of rows.
            node: index of the node they work for.
            key: place in the order of the stream, where that is not the order of adding.
            fields: other fields of the rows, arrays or numbers.

        Returns:
            Numbers of the rows.
        """
        n = max(np.size(processor), *(np.size(value) for value in fields.values()))
        rows = np.zeros(n, ROW)
        rows["opcode"], rows["processor"], rows["node"], rows["pattern"], rows["count"] = OPCODES[opcode], processor, node, -1, 1
        for name, value in fields.items():
            rows[name] = value
        numbers = np.arange(self.count, self.count + n)
        self._rows.append(rows)
        self._keys.append(numbers.astype(np.float64) if key is None else np.full(n, key))
        self.count += n
        return numbers

    def wait(self, target: Any, source: Any, *, samples_back: int = 0) -> None:
        """Each row of `target` waits for the row of `source` at its place (all for one, one for all), of an earlier sample if so."""
        if not np.size(target) or not np.size(source):
            return
        targets, sources = np.broadcast_arrays(np.asarray(target, np.int64), np.asarray(source, np.int64))
        self._targets.append(targets.ravel())
        self._sources.append(sources.ravel())
        self._distances.append(np.full(targets.size, samples_back, np.int32))

    def pattern(self, segments: tuple[tuple[int, int], ...]) -> int:
        """The number of a gather pattern of (offset, bytes), the same for the same segments."""
        return self._patterns.setdefault(segments, len(self._patterns))

    def tables(self, processors: int) -> dict[str, Array]:
        """All tables of a Program that rows, dependencies and patterns make."""
        rows = np.concatenate(self._rows) if self._rows else np.zeros(0, ROW)
        keys = np.concatenate(self._keys) if self._keys else np.zeros(0)
        order = _by_stream(rows["processor"], keys, processors)
        number = np.empty(rows.size, np.int64)
        number[order] = np.arange(rows.size)
        target = number[np.concatenate(self._targets)] if self._targets else np.zeros(0, np.int64)
        source = number[np.concatenate(self._sources)] if self._sources else np.zeros(0, np.int64)
        distance = np.concatenate(self._distances) if self._distances else np.zeros(0, np.int32)
        by_target = np.argsort(target, kind="stable")
        dep_ptr = np.zeros(rows.size + 1, np.int32)
        np.cumsum(np.bincount(target, minlength=rows.size), out=dep_ptr[1:])
        segments = [list(one) for one in self._patterns]
        pattern_ptr, pattern_offset = ragged([[offset for offset, _ in one] for one in segments])
        return {
            "rows": rows[order],
            "stream_ptr": np.searchsorted(rows["processor"][order], np.arange(processors + 1)).astype(np.int64),
            "partner": np.full(rows.size, -1, np.int32),
            "dep_ptr": dep_ptr,
            "dep_row": source[by_target].astype(np.int32),
            "dep_distance": distance[by_target],
            "pattern_ptr": pattern_ptr,
            "pattern_offset": pattern_offset,
            "pattern_length": ragged([[size for _, size in one] for one in segments])[1],
        }


def _by_stream(processor: Array, keys: Array, processors: int) -> Array:
    """Rows by processor and, within each, by key. Most were added in the order of their keys: only the others are sorted."""
    small = processor.astype(np.uint16 if processors <= 1 << 16 else np.int64)  # 16 bits are sorted by digits, several times faster
    order = np.argsort(small, kind="stable")
    ends = np.searchsorted(processor[order], np.arange(processors + 1))
    for first, last in itertools.pairwise(ends.tolist()):
        line = order[first:last]
        if (np.diff(keys[line]) < 0).any():
            order[first:last] = line[np.argsort(keys[line], kind="stable")]
    return order


__all__ = ["Emission"]
