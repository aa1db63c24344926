"""Emission: rows made many at a time, until they are sorted into the streams of a program."""

from __future__ import annotations

from typing import Any, final

import numpy as np

from pimloom.kernels.edges import by_source
from pimloom.program import OPCODES, ROW, ragged

Array = np.ndarray[Any, np.dtype[Any]]


@final
class Emission:
    """Rows so far, with what they wait for. Rows of a stream are in the order of their keys."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.count = 0
        self.keys_from = 0.0  # keys of the product or node that is emitted are counted from here
        self._rows: list[Array] = []
        self._keys: list[Array] = []
        self._targets: list[Array] = []
        self._sources: list[Array] = []
        self._distances: list[tuple[int, int]] = []  # (samples back, dependencies) of each call
        self._patterns: dict[tuple[tuple[int, int], ...], int] = {}

    def add(self, opcode: str, processor: Array, node: int, *, key: Any, **fields: Any) -> Array:
        """Adds rows.

        Args:
            opcode: mnemonic.
            processor: of each row.
            node: index of the node they work for.
            key: place in the order of the stream among rows of one product; one for all or one for each.
            fields: other fields of the rows, one for all or one for each.

        Returns:
            Numbers of the rows.
        """
        size = processor.size
        rows, numbers = np.zeros(size, ROW), np.arange(self.count, self.count + size)
        rows["opcode"], rows["processor"], rows["node"], rows["pattern"], rows["count"] = OPCODES[opcode], processor, node, -1, 1
        for name, value in fields.items():
            rows[name] = value
        self._rows.append(rows)
        self._keys.append(np.broadcast_to(self.keys_from + key, (size,)))
        self.count += size
        return numbers

    def close(self, keys: float) -> None:
        """Ends a product or node, which used keys below `keys`: what is added from here on comes behind it in every stream."""
        self.keys_from += keys

    def wait(self, target: Any, source: Any, *, samples_back: int = 0) -> None:
        """Each row of `target` waits for the row of `source` at its place (all for one, one for all), of an earlier sample if so."""
        targets, sources = np.array(target, np.int64, ndmin=1), np.array(source, np.int64, ndmin=1)
        if not targets.size or not sources.size:
            return
        if targets.size != sources.size:
            targets, sources = np.broadcast_arrays(targets, sources)
        self._targets.append(targets)
        self._sources.append(sources)
        self._distances.append((samples_back, targets.size))

    def pattern(self, segments: tuple[tuple[int, int], ...]) -> int:
        """The number of a gather pattern of (offset, bytes), the same for the same segments."""
        return self._patterns.setdefault(segments, len(self._patterns))

    def tables(self, processors: int) -> dict[str, Array]:
        """All tables of a Program that rows, dependencies and patterns make."""
        rows, keys = np.concatenate([np.zeros(0, ROW), *self._rows]), np.concatenate([np.zeros(0), *self._keys])
        order = _by_stream(rows["processor"], keys, processors)
        number = np.empty(rows.size, np.int32)
        number[order] = np.arange(rows.size, dtype=np.int32)
        target, source = (number[np.concatenate(ends or [order[:0]])] for ends in (self._targets, self._sources))
        backs, counts = np.array(self._distances, np.int32).reshape(-1, 2).T
        distance = np.repeat(backs, counts)
        dep_ptr, by_target = np.zeros(rows.size + 1, np.int32), np.empty(target.size, np.int64)
        by_source(target, dep_ptr, by_target)
        in_order = np.take(rows, order)  # much faster than rows[order], which copies field by field
        segments = [list(one) for one in self._patterns]
        pattern_ptr, pattern_offset = ragged([[offset for offset, _ in one] for one in segments])
        return {
            "rows": in_order,
            "stream_ptr": np.searchsorted(in_order["processor"], np.arange(processors + 1)).astype(np.int64),
            "partner": np.full(rows.size, -1, np.int32),
            "dep_ptr": dep_ptr,
            "dep_row": source[by_target],
            "dep_distance": distance[by_target],
            "pattern_ptr": pattern_ptr,
            "pattern_offset": pattern_offset,
            "pattern_length": ragged([[size for _, size in one] for one in segments])[1],
        }


def _by_stream(processor: Array, keys: Array, processors: int) -> Array:
    """Rows by processor and, within each, by key. Keys come in runs that rise, which is fast to merge."""
    small = processor.astype(np.uint16 if processors <= 1 << 16 else np.int64)  # 16 bits are sorted by digits, several times faster
    order = np.argsort(keys, kind="stable")
    return order[np.argsort(small[order], kind="stable")]


__all__ = ["Emission"]
