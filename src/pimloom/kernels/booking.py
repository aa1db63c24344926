"""What the engines' kernels share: how rows and forms lie in tables, how a run ends, and how resources are booked."""

from __future__ import annotations

from pimloom.kernels._jit import jit

OK = 0
DEADLOCK = 1
QUEUE_OVERFLOW = 2
TIME_OVERFLOW = 3

MAX_PHASES = 4
MAX_TIME = 1 << 44

COMPUTE = 0
SEND = 1
RECEIVE = 2

WAIT_DEPENDENCY = 0
WAIT_RESOURCE = 1
WAIT_MESSAGE = 2
WAIT_WINDOW = 3
N_WAITS = 4

# What is known of a row, one line of a table per row.
FORM, PARTNER, STAGE, LEAD = range(4)
ROW = 4

# What is known of a form, one line of a table per form, and in it of each phase.
KIND, DETACHED, REPS, POSTS, PHASES = range(5)
FIRST = 8
RES, HOLD, PASS, CODE = range(4)
LINE = FIRST + 4 * MAX_PHASES


@jit
def acquire(
    res, hold, code, time, free, last, n_commands, hop, wormhole,
    route_ptr, route_link, gap_ptr, gap_before, gap_after, gap_cycles,
):  # fmt: skip
    """Books a resource, a route or a command of a device.

    Args:
        res: int. The resource; -1 - q for route q.
        hold: int. Cycles that it is taken, or the command.
        code: int. Of the phase: 2 or more for a device.
        time: int. Cycle of the request.
        free: int64[R], cycle from which each resource is free.
        last: int64[R * n_commands], cycle of the last of each command of each device.
        n_commands: int. Commands of devices.
        hop: int. Cycles from one link of a route to the next.
        wormhole: int. 1 where a message holds its whole route.
        route_ptr: int32[Q + 1]. Links of route q are route_link[route_ptr[q]:route_ptr[q + 1]].
        route_link: int32[L]. Resources that are links.
        gap_ptr: int32[D + 1]. Constraints of device d.
        gap_before: int32[G]. Command issued before.
        gap_after: int32[G]. Command that must wait.
        gap_cycles: int32[G]. Least distance of the two in cycles.

    Returns:
        The cycle at which it starts.
    """
    if res >= 0 and code < 2:
        begin = max(time, free[res])
        free[res] = begin + hold
        return begin
    begin = time
    if res < 0:
        q = -1 - res
        if not wormhole:
            entry = time - hop
            for e in range(route_ptr[q], route_ptr[q + 1]):
                entry = max(entry + hop, free[route_link[e]])
                free[route_link[e]] = entry + hold
            return entry - hop * (route_ptr[q + 1] - route_ptr[q] - 1)
        lag = 0
        for e in range(route_ptr[q], route_ptr[q + 1]):
            begin = max(begin, free[route_link[e]] - lag)
            lag += hop
        lag = 0
        for e in range(route_ptr[q], route_ptr[q + 1]):
            free[route_link[e]] = begin + lag + hold
            lag += hop
        return begin
    device = (code >> 1) - 1
    for g in range(gap_ptr[device], gap_ptr[device + 1]):
        if gap_after[g] == hold:
            begin = max(begin, last[res * n_commands + gap_before[g]] + gap_cycles[g])
    last[res * n_commands + hold] = begin
    return begin


@jit
def next_active(first, end, row, iteration, iterations, samples, rows):
    """The next row of a stream that is active in its iteration: its stage lags behind by as much as leaves a sample to work for.

    Args:
        first: int. First row of the stream.
        end: int. One past the last.
        row: int. From where, `end` for the next iteration.
        iteration: int. The iteration.
        iterations: int. Times that the stream runs.
        samples: int. Instances of each row.
        rows: int32[n * ROW]. What is known of rows.

    Returns:
        The row, its iteration, which is `iterations` at the end of the stream, and its sample.
    """
    sample = iteration
    while iteration < iterations:
        if row == end:
            row = first
            iteration += 1
            if row == end:
                iteration = iterations
            continue
        sample = iteration - rows[row * ROW + STAGE]
        if 0 <= sample < samples:
            break
        row += 1
    return row, iteration, sample
