"""Calibration: the range that every value of a float graph takes on some samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.ir.evaluate import evaluate
from pimloom.ir.graph import Graph

Array = np.ndarray[Any, np.dtype[Any]]
Sample = Mapping[str, Array]

MASK = -9999.0
"""Attention masks add -1e4, -1e9, the lowest float or minus infinity; nothing at or below this is ordinary ..."""
ORDINARY = 1000.0
"""... where all other elements stay below this."""


@final
@dataclass(frozen=True, slots=True)
class Range:
    """What a value was seen to hold.

    Attributes:
        max_abs: largest magnitude of the ordinary elements.
        is_masked: whether other elements were mask values, far below all ordinary ones.
    """

    max_abs: float = 0.0
    is_masked: bool = False

    def union(self, other: Range) -> Range:
        """The range of both."""
        return Range(max(self.max_abs, other.max_abs), self.is_masked or other.is_masked)


def range_of(array: Array, percentile: float = 100.0) -> Range:
    """The range of one array: its largest magnitude, or the given percentile of the magnitudes."""
    if array.size == 0:
        return Range()
    if percentile >= 100.0:
        low, high = float(array.min()), float(array.max())
        if low > MASK and np.isfinite(high):
            return Range(max(-low, high))
    finite = array[np.isfinite(array)]
    ordinary = finite[finite > MASK]
    largest = _largest(ordinary, percentile)
    is_masked = largest < ORDINARY and bool(np.any(array <= MASK))
    return Range(largest if is_masked else _largest(finite, percentile), is_masked)


def _largest(values: Array, percentile: float) -> float:
    if values.size == 0:
        return 0.0
    if percentile >= 100.0:
        return float(max(-values.min(), values.max()))
    return float(np.percentile(np.abs(values), percentile))


def calibrate(graph: Graph, samples: Iterable[Sample], percentile: float = 100.0) -> dict[str, Range]:
    """The range of every float value that is an input or a node output, over all samples.

    Raises:
        ModelError: a sample lacks an input or has another type.
    """
    ranges: dict[str, Range] = {}

    def see(value: str, array: Array) -> None:
        if array.dtype.kind == "f":
            ranges[value] = ranges.get(value, Range()).union(range_of(array, percentile))

    for sample in samples:
        evaluate(graph, sample, see)
    return ranges


def random_sample(graph: Graph, seed: int = 0) -> dict[str, Array]:
    """Random inputs: normal numbers; integers in the range that the first Gather which reads them allows."""
    generator = np.random.default_rng(seed)
    sample: dict[str, Array] = {}
    for value in graph.inputs:
        wanted = graph.types[value]
        if wanted.dtype.startswith("float"):
            sample[value] = generator.standard_normal(wanted.shape).astype(wanted.dtype)
        else:
            sample[value] = generator.integers(0, _index_limit(graph, value), wanted.shape).astype(wanted.dtype)
    return sample


def _index_limit(graph: Graph, value: str) -> int:
    sizes = [
        graph.types[node.inputs[0]].shape[int(node.attributes.get("axis", 0))]  # type: ignore[arg-type]
        for node in graph.nodes
        if node.op in ("Gather", "GatherElements") and node.inputs[1] == value
    ]
    return max(1, min(sizes, default=2))
