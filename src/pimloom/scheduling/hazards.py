"""Orders that the contents of local memories ask for, found from the rows' operands."""

from __future__ import annotations

import numpy as np

from pimloom.kernels import hazards as kernel
from pimloom.program import Program
from pimloom.program.accesses import local_accesses
from pimloom.program.rows import Array


def local_hazards(program: Program) -> tuple[Array, Array, Array]:
    """Pairs of rows of one processor whose order must stay: one writes what the other reads or writes.

    Args:
        program: for a machine that has one row per processor in flight, so that the order of rows keeps these hazards.

    Returns:
        int64[m] each: (source, target, distance): instance (target, s) comes after instance (source, s - distance).
    """
    row, low, high, is_write = local_accesses(program)
    processor = program.rows["processor"].astype(np.int64)[row]
    order = np.argsort(processor, kind="stable")
    row, low, high, is_write, processor = (a[order] for a in (row, low, high, is_write, processor))
    bounds = np.searchsorted(processor, np.arange(program.n_processors + 1))
    span = int(high.max(initial=0)) + 1
    edges = np.unique(np.concatenate([processor * span + low, processor * span + high]))
    first, last = np.searchsorted(edges, processor * span + low), np.searchsorted(edges, processor * span + high)
    source, target, rounds = _pairs(row, first, last, is_write, bounds, edges.size)
    # In round it, row r works for sample it - stage(r).
    stage = program.rows["stage"].astype(np.int64)
    return source, target, rounds + stage[source] - stage[target]


def _pairs(row: Array, first: Array, last: Array, is_write: Array, bounds: Array, cells: int) -> tuple[Array, Array, Array]:
    room = 8 * row.size + 1024
    while True:
        following = np.arange(1, room + 1)
        following[-1] = -1
        source, target, distance = (np.empty(room, np.int64) for _ in range(3))
        report = np.zeros(1, np.int64)
        status = kernel.conflicts(
            row, first, last, is_write.astype(np.int8), bounds, cells, np.full(cells, -1, np.int64), np.zeros(cells, np.int8),
            np.full(cells, -1, np.int64), np.empty(room, np.int64), np.empty(room, np.int8), following,
            np.full(int(row.max(initial=0)) + 1, -1, np.int64), source, target, distance, report,
        )  # fmt: skip
        if status == kernel.OK:
            n = int(report[0])
            return source[:n], target[:n], distance[:n]
        room *= 4


__all__ = ["local_hazards"]
