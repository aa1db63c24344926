"""Modulo scheduling: every row has one place in a period that repeats for ever, and rows of one processor never share a moment.

Rows are placed one after the other, each at the first moment from what it waits for on at which its processor is free in every
period; both ends of a message at one moment at which both processors are. With a period that is longer than all rows together this
is list scheduling with insertion.
"""

from __future__ import annotations

from pimloom.kernels._jit import jit


@jit
def find(begin, until, base, n, period, earliest, length):
    """The first moment at which a processor is free for long enough.

    Args:
        begin: int64[k]. Where stretches of work begin in the period, ascending, from `base` on.
        until: int64[k]. Where each ends; stretches do not touch.
        base: int. First stretch of the processor.
        n: int. Its stretches.
        period: int. Cycles.
        earliest: int. The first moment that will do.
        length: int. How long it must be free.

    Returns:
        The moment, at most a period later than `earliest`; -1 if there is none.
    """
    if length > period:
        return -1
    if n == 0:
        return earliest
    phase = earliest % period
    low, high = 0, n
    while low < high:
        middle = (low + high) >> 1
        if until[base + middle] > phase:
            high = middle
        else:
            low = middle + 1
    lap, at = earliest - phase, earliest
    for k in range(low, low + n + 1):
        if k == n or k == 2 * n:
            lap += period
        place = base + k % n
        if at + length <= begin[place] + lap:
            return at
        at = max(at, until[place] + lap)
    return -1


@jit
def book(begin, until, base, n, period, moment, length):
    """Notes that a processor works for some time, at which it must be free.

    Args:
        begin: int64[k]. Where stretches of work begin in the period, ascending, from `base` on, with room for two more.
        until: int64[k]. Where each ends; stretches do not touch.
        base: int. First stretch of the processor.
        n: int. Its stretches.
        period: int. Cycles.
        moment: int. When it begins.
        length: int. At most a period.

    Returns:
        Stretches that there are then.
    """
    phase = moment % period
    while length > 0:
        stop = min(phase + length, period)
        low, high = 0, n
        while low < high:
            middle = (low + high) >> 1
            if begin[base + middle] > phase:
                high = middle
            else:
                low = middle + 1
        at = base + low
        joins_before = low > 0 and until[at - 1] == phase
        joins_after = low < n and begin[at] == stop
        if joins_before and joins_after:
            until[at - 1] = until[at]
            for k in range(at, base + n - 1):
                begin[k] = begin[k + 1]
                until[k] = until[k + 1]
            n -= 1
        elif joins_before:
            until[at - 1] = stop
        elif joins_after:
            begin[at] = phase
        else:
            for k in range(base + n, at, -1):
                begin[k] = begin[k - 1]
                until[k] = until[k - 1]
            begin[at] = phase
            until[at] = stop
            n += 1
        length -= stop - phase
        phase = 0
    return n


@jit
def earliest(row, time, length, least, period, prev_ptr, prev_row, prev_distance):
    """The first moment at which what a row waits for is done, as far as that has a place.

    Args:
        row: int. The row.
        time: int64[n], cycles. Moments of rows, -1 for those that have none yet.
        length: int64[n], cycles from the start of each row to its end.
        least: int64[n], cycles. The first moment that each row may have.
        period: int. Cycles.
        prev_ptr: int64[n + 1]. Edges into row i are prev_row[prev_ptr[i]:prev_ptr[i + 1]].
        prev_row: int64[m]. Row that i waits for.
        prev_distance: int64[m]. Samples back.

    Returns:
        The moment.
    """
    found = least[row]
    for e in range(prev_ptr[row], prev_ptr[row + 1]):
        source = prev_row[e]
        if time[source] >= 0:
            found = max(found, time[source] + length[source] - period * prev_distance[e])
    return found


@jit
def place(
    order, processor, partner, length, period, prev_ptr, prev_row, prev_distance, least, time, begin, until, base, n_stretches,
):  # fmt: skip
    """Gives every row its moment.

    Args:
        order: int64[n]. Rows in the order in which they get their places; what a row waits for in its own sample comes before it.
        processor: int32[n]. The processor of each row.
        partner: int64[n]. The other end of a message, -1 for none.
        length: int64[n], cycles from the start of each row to its end, for which it holds its processor; at least 1.
        period: int. Cycles.
        prev_ptr: int64[n + 1]. Edges into row i are prev_row[prev_ptr[i]:prev_ptr[i + 1]].
        prev_row: int64[m]. Row that i waits for.
        prev_distance: int64[m]. Samples back, at least 0. Where a row that is waited for has no place yet, the edge is not looked at.
        least: int64[n], cycles. The first moment that each row may have, at least 0.
        time: int64[n], cycles, filled with -1. Out: the moments, -1 for rows that have none.
        begin: int64[k]. Scratch: stretches of work, see `find`.
        until: int64[k]. Scratch.
        base: int64[P]. First stretch of each processor; two more than it has rows must have room.
        n_stretches: int64[P], filled with 0. Scratch.

    Returns:
        Rows that got a place: all of them, unless there was none long enough.
    """
    n_placed = 0
    for row in order:
        if time[row] >= 0:
            continue
        other, p = partner[row], processor[row]
        moment = earliest(row, time, length, least, period, prev_ptr, prev_row, prev_distance)
        if other < 0:
            moment = find(begin, until, base[p], n_stretches[p], period, moment, length[row])
            if moment < 0:
                return n_placed
            n_placed += 1
        else:
            q = processor[other]
            moment = max(moment, earliest(other, time, length, least, period, prev_ptr, prev_row, prev_distance))
            last = moment + period
            while True:
                moment = find(begin, until, base[p], n_stretches[p], period, moment, length[row])
                meeting = find(begin, until, base[q], n_stretches[q], period, moment, length[other]) if moment >= 0 else -1
                if meeting < 0 or meeting > last:
                    return n_placed
                if meeting == moment:
                    break
                moment = meeting
            n_stretches[q] = book(begin, until, base[q], n_stretches[q], period, moment, length[other])
            time[other] = moment
            n_placed += 2
        n_stretches[p] = book(begin, until, base[p], n_stretches[p], period, moment, length[row])
        time[row] = moment
    return n_placed


@jit
def remaining(order, partner, length, next_ptr, next_row, next_distance, found):
    """How long it takes from the start of each row to the end of a sample if no processor were ever busy.

    Args:
        order: int64[n]. Rows in an order in which each comes after all that it waits for in its own sample.
        partner: int64[n]. The other end of a message, which begins with it; -1 for none.
        length: int64[n], cycles from the start of each row to its end.
        next_ptr: int64[n + 1]. Edges from row i are next_row[next_ptr[i]:next_ptr[i + 1]].
        next_row: int64[m]. Row that waits for i.
        next_distance: int64[m]. Its sample minus that of i; only edges within a sample count.
        found: int64[n], cycles, filled with 0. Out.

    Returns:
        The most.
    """
    most = 0
    for k in range(order.size - 1, -1, -1):
        row = order[k]
        after = 0
        for e in range(next_ptr[row], next_ptr[row + 1]):
            if next_distance[e] == 0:
                after = max(after, found[next_row[e]])
        found[row] = max(found[row], after + length[row])
        if partner[row] >= 0:
            found[row] = max(found[row], found[partner[row]])
            found[partner[row]] = found[row]
        most = max(most, found[row])
    return most
