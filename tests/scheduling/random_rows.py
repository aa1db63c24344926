"""Random rows for the list scheduler: processors, messages and edges over samples, with circles if wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from oracles.list_schedule import Edge, Row

from pimloom.kernels import lists as kernel

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True)
class Problem:
    """What is to be scheduled."""

    rows: tuple[Row, ...]
    edges: tuple[Edge, ...]
    samples: int
    period: int
    handshake: int

    @property
    def n_processors(self) -> int:
        """Processors up to the last that has a row."""
        return 1 + max(row.processor for row in self.rows)

    @property
    def sends(self) -> dict[int, int]:
        """Send to receive."""
        return {r: row.receive for r, row in enumerate(self.rows) if row.receive is not None}


def random_problem(seed: int, *, has_circles: bool = False, most_rows: int = 24) -> Problem:
    """Rows in random order whose edges follow one global order, or, with circles, any order."""
    rng = np.random.default_rng(seed)
    n_procs, longest = int(rng.integers(1, 7)), int(rng.choice([1, 3, 12]))
    rows: list[Row] = []
    share = rng.random()
    for _ in range(int(rng.integers(1, most_rows))):
        if n_procs > 1 and rng.random() < share:
            a, b = rng.permutation(n_procs)[:2].tolist()
            rows += [replace(_row(rng, a, longest), receive=len(rows) + 1), _row(rng, b, longest)]
        else:
            rows.append(_row(rng, int(rng.integers(n_procs)), longest))
    # The two ends of a message have one place in the global order; the second end of a send follows it in the list.
    place = np.arange(len(rows))
    for r, row in enumerate(rows):
        if row.receive is not None:
            place[row.receive] = r
    edges = set[Edge]()
    for _ in range(int(rng.integers(0, 3 * len(rows)))):
        source, target, distance = *rng.integers(len(rows), size=2).tolist(), int(rng.choice([0, 0, 1, 2]))
        if distance or (has_circles and rng.random() < 0.1) or place[source] < place[target]:
            edges.add(Edge(source, target, distance))
    number = rng.permutation(len(rows)).tolist()
    return Problem(
        rows=tuple(
            replace(row, receive=None if row.receive is None else number[row.receive])
            for _, row in sorted(zip(number, rows, strict=True), key=lambda pair: pair[0])
        ),
        edges=tuple(sorted((replace(e, source=number[e.source], target=number[e.target]) for e in edges), key=repr)),
        samples=int(rng.integers(1, 5)), period=int(rng.integers(0, 2 * len(rows))), handshake=int(rng.integers(0, 4)),
    )  # fmt: skip


def _row(rng: np.random.Generator, processor: int, longest: int) -> Row:
    return Row(processor, int(rng.integers(1, longest + 1)), int(rng.integers(0, 12)))


def kernel_starts(problem: Problem) -> tuple[Array, int]:
    """(int64[n, samples] of starts, -1 for never; instances that ended), as the kernel has it."""
    rows, samples, n_procs = problem.rows, problem.samples, problem.n_processors
    n, total = len(rows), len(rows) * samples
    processor = np.array([row.processor for row in rows], np.int32)
    kind, partner = np.zeros(n, np.int8), np.full(n, -1, np.int32)
    for send, receive in problem.sends.items():
        kind[send], kind[receive], partner[send], partner[receive] = kernel.SEND, kernel.SEND + 1, receive, send
    edges = sorted(problem.edges, key=lambda edge: edge.source)
    source, target, distance = (np.array([getattr(e, f) for e in edges], np.int64) for f in ("source", "target", "distance"))
    next_ptr = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=n))])
    missing = np.stack([np.bincount(target[distance <= s], minlength=n) for s in range(samples)], axis=1).astype(np.int32)
    is_work = kind == kernel.COMPUTE
    bases = [np.concatenate([[0], np.cumsum(np.bincount(processor[w], minlength=n_procs) * samples)]) for w in (is_work, ~is_work)]
    start = np.full(total, -1, np.int64)
    ended = kernel.schedule(
        samples, processor, kind, partner, np.array([row.cycles for row in rows]), np.array([row.priority for row in rows]), problem.period,
        next_ptr, target, distance, problem.handshake, missing.ravel(), start, np.empty(2 * (total + 1), np.int64), bases[0],
        np.zeros(n_procs, np.int64), np.empty(2 * (total + 1), np.int64), bases[1], np.zeros(n_procs, np.int64),
        np.empty(2 * (total + 8 * n_procs), np.int64), np.full(n_procs, -1, np.int64), np.ones(n_procs, np.int8),
        np.zeros(total, np.int8), np.zeros(total, np.int8),
    )  # fmt: skip
    return start.reshape(n, samples), int(ended)
