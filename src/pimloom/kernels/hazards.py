"""Which rows of a processor touch the same memory, so that one has to come after the other."""

from __future__ import annotations

from pimloom.kernels._jit import jit

OK = 0
FULL = 1


@jit
def conflicts(
    row, first_cell, last_cell, is_write, bounds, n_cells, last_write, last_round, first_reader, reader_row, reader_round, reader_next,
    seen, source, target, distance, report,
):  # fmt: skip
    """Pairs of accesses to the same memory as a processor goes through its rows again and again, at least one of them a write.

    Memory is cut into cells where an access begins or ends. Two rounds show all pairs: within one, and from one to the next.

    Args:
        row: int64[k]. Row of each access, sorted by processor, then row, reads before writes.
        first_cell: int64[k]. First cell that is touched, numbered over all processors.
        last_cell: int64[k]. Cell after the last.
        is_write: int8[k]. 1 where it is written.
        bounds: int64[P + 1]. Accesses of processor p are bounds[p]:bounds[p + 1].
        n_cells: int. Cells of all processors.
        last_write: int64[n_cells], filled with -1. Scratch.
        last_round: int8[n_cells], filled with 0. Scratch.
        first_reader: int64[n_cells], filled with -1. Scratch.
        reader_row: int64[q]. Scratch: rows that have read since the last write.
        reader_round: int8[q]. Scratch: their rounds.
        reader_next: int64[q]. Scratch: the next of the same cell; on entry i + 1 at i, -1 at the end.
        seen: int64[n], filled with -1. Scratch: of each row, the last pair that it came first in.
        source: int64[e]. Out: row that comes first.
        target: int64[e]. Out: row that comes after it.
        distance: int64[e]. Out: 1 where it is in the next round, else 0.
        report: int64[1]. Out: number of pairs; hardly any twice.

    Returns:
        OK, or FULL if the scratch or the output is too small.
    """
    n_pairs = 0
    free = 0
    for p in range(bounds.size - 1):
        for turn in range(2):
            for k in range(bounds[p], bounds[p + 1]):
                i = row[k]
                for cell in range(first_cell[k], last_cell[k]):
                    w = last_write[cell]
                    if w >= 0 and w != i:
                        d = turn - last_round[cell]
                        if d == turn and seen[w] != 2 * i + d:  # a pair within the second round is one of the first, too
                            if n_pairs >= source.size:
                                return FULL
                            seen[w] = 2 * i + d
                            source[n_pairs] = w
                            target[n_pairs] = i
                            distance[n_pairs] = d
                            n_pairs += 1
                    if not is_write[k]:
                        if free < 0:
                            return FULL
                        place = free
                        free = reader_next[place]
                        reader_row[place] = i
                        reader_round[place] = turn
                        reader_next[place] = first_reader[cell]
                        first_reader[cell] = place
                        continue
                    place = first_reader[cell]
                    while place >= 0:
                        r = reader_row[place]
                        d = turn - reader_round[place]
                        if r != i and d == turn and seen[r] != 2 * i + d:
                            if n_pairs >= source.size:
                                return FULL
                            seen[r] = 2 * i + d
                            source[n_pairs] = r
                            target[n_pairs] = i
                            distance[n_pairs] = d
                            n_pairs += 1
                        following = reader_next[place]
                        reader_next[place] = free
                        free = place
                        place = following
                    first_reader[cell] = -1
                    last_write[cell] = i
                    last_round[cell] = turn
        for k in range(bounds[p], bounds[p + 1]):  # the readers of this processor are not needed any more
            for cell in range(first_cell[k], last_cell[k]):
                place = first_reader[cell]
                while place >= 0:
                    following = reader_next[place]
                    reader_next[place] = free
                    free = place
                    place = following
                first_reader[cell] = -1
    report[0] = n_pairs
    return OK
