"""Rows that meet nobody, joined to what comes after them."""

from __future__ import annotations

from pimloom.kernels._jit import jit

TOO_LONG = -1


@jit
def join(stream_ptr, form, lead, alone, own, dep_ptr, is_awaited, kept, before, held, number):
    """Keeps the rows that others can feel, and the last one of each stream.

    Args:
        stream_ptr: int64[P + 1]. Rows of each processor.
        form: int32[n]. Form of each row.
        lead: int32[n], cycles. Between the moment that a row could be issued and its issue.
        alone: int8[f]. 1 for forms that hold nothing that processors share.
        own: int64[f], cycles. From issue to end, at least 1; an issue a cycle.
        dep_ptr: int32[n + 1]. Dependencies of row i are number dep_ptr[i] to dep_ptr[i + 1].
        is_awaited: int8[n]. 1 for rows that others depend on.
        kept: int64[n]. Out: the rows that are left.
        before: int32[n], cycles. Out: from the end of the row left before each of them, or from 0, to its issue.
        held: int64[n], cycles. Out: for each of them, how long it and the rows joined to it wait for room that a joined row takes.
        number: int32[n]. Out: the place of a row among those that are left, and of a joined row that of the next one left.

    Returns:
        How many are left, or TOO_LONG if some distance is longer than 31 bits hold.
    """
    n_kept = 0
    for p in range(stream_ptr.size - 1):
        passed = 0
        waits = 0
        room_at = 0
        for row in range(stream_ptr[p], stream_ptr[p + 1]):
            passed += lead[row]
            waits += room_at
            number[row] = n_kept
            if alone[form[row]] and dep_ptr[row] == dep_ptr[row + 1] and not is_awaited[row] and row + 1 < stream_ptr[p + 1]:
                passed += own[form[row]]
                room_at = own[form[row]] - 1
                continue
            if passed > 2147483647:
                return TOO_LONG
            kept[n_kept] = row
            before[n_kept] = passed
            held[n_kept] = waits
            n_kept += 1
            passed = 0
            waits = 0
            room_at = 0
    return n_kept
