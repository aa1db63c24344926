"""Longest paths through the rows of a program."""

from __future__ import annotations

from pimloom.kernels._jit import jit

OK = 0
CYCLE = 1


@jit
def longest(next_ptr, next_row, next_delay, duration, missing, ready, finish, stack):
    """Earliest end of every row if nothing had to wait for a resource.

        finish[i] = ready[i] + duration[i];  ready[j] = max over edges (i, j) of ready[i] + delay(i, j)

    Args:
        next_ptr: int32[n + 1]. Edges from row i are next_row[next_ptr[i]:next_ptr[i + 1]].
        next_row: int32[m]. Row at the other end.
        next_delay: int64[m], cycles from the readiness of the one to that of the other.
        duration: int64[n], cycles.
        missing: int32[n]. Edges into each row; used up.
        ready: int64[n], cycles. Out, filled with 0.
        finish: int64[n], cycles. Out.
        stack: int32[n]. Scratch.

    Returns:
        OK, or CYCLE if the edges form one.
    """
    n = duration.size
    size = 0
    for i in range(n):
        if missing[i] == 0:
            stack[size] = i
            size += 1
    seen = 0
    while size > 0:
        size -= 1
        i = stack[size]
        seen += 1
        finish[i] = ready[i] + duration[i]
        for e in range(next_ptr[i], next_ptr[i + 1]):
            j = next_row[e]
            ready[j] = max(ready[j], ready[i] + next_delay[e])
            missing[j] -= 1
            if missing[j] == 0:
                stack[size] = j
                size += 1
    return OK if seen == n else CYCLE
