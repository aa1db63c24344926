"""The machine of `engine` for processors with one row in flight.

The rules and the times are the same; what makes it several times as fast is that a processor with one row in flight has one thing
to do next. It goes on by itself, through rows and phases, to the next request of a shared resource, the only thing whose
order among processors matters, or until it waits for another. Who is waited for says when it goes on.
"""

from __future__ import annotations

from pimloom.kernels._jit import jit
from pimloom.kernels.booking import (
    CODE,
    COMPUTE,
    DEADLOCK,
    FIRST,
    FORM,
    HOLD,
    KIND,
    LEAD,
    LINE,
    MAX_TIME,
    N_WAITS,
    OK,
    PARTNER,
    PASS,
    PHASES,
    POSTS,
    REPS,
    RES,
    ROW,
    SEND,
    TIME_OVERFLOW,
    WAIT_DEPENDENCY,
    WAIT_MESSAGE,
    WAIT_RESOURCE,
    WAIT_WINDOW,
    acquire,
    next_active,
)  # fmt: skip
from pimloom.kernels.heaps import NOTHING, enter

# What is known of a processor, one line of a table per processor.
_PC, _ITERATION, _NOW, _SLOT, _IN_FLIGHT, _SAMPLE, _COLUMN, _ISSUED, _READY = range(9)
_MISSING, _PHASE, _LEFT, _BEGUN, _WAITED, _POSTED, _DONE = range(9, 16)
STATE = 16

_NONE = -1

MOST_PROCESSORS = 1 << 18
"""A request is its time and its processor in one number."""


@jit
def run(
    stream_ptr, processor, samples, iterations, kept, until, rows, forms,
    dep_ptr, dep_row, dep_distance, next_ptr, next_row, next_distance,
    route_ptr, route_link, gap_ptr, gap_before, gap_after, gap_cycles,
    in_order, handshake, hop, wormhole, times, waits, rounds, place, report, free, last, n_commands, state, tree, todo,
):  # fmt: skip
    """Simulates all streams to their end: a window of one row, an issue a cycle, serial repetitions, nothing detached.

    Args:
        stream_ptr: int64[P + 1]. Rows of processor p are stream_ptr[p]:stream_ptr[p + 1].
        processor: int32[n]. The processor of each row.
        samples: int. Instances of each row.
        iterations: int. Times each stream runs: samples + the largest stage.
        kept: int. Samples whose times are kept: sample s is in column s mod kept; `samples` where all are.
        until: int. Cycle from which nothing is issued; MAX_TIME to run all samples.
        rows: int32[n * 4]. As `engine.run` takes them, like all that follows to gap_cycles.
        forms: int32[f * 24]. What rows take and hold.
        dep_ptr: int32[n + 1]. Dependencies of row i are dep_row[dep_ptr[i]:dep_ptr[i + 1]].
        dep_row: int32[m]. Row depended on.
        dep_distance: int32[m]. Samples back.
        next_ptr: int32[n + 1]. The same edges, grouped by their source.
        next_row: int32[m]. Row that depends.
        next_distance: int32[m]. Samples forward.
        route_ptr: int32[Q + 1]. Links of route q are route_link[route_ptr[q]:route_ptr[q + 1]].
        route_link: int32[L]. Resources that are links.
        gap_ptr: int32[D + 1]. Constraints of device d.
        gap_before: int32[G]. Command issued before.
        gap_after: int32[G]. Command that must wait.
        gap_cycles: int32[G]. Least distance of the two in cycles.
        in_order: int. 1 to hold issue until dependencies are done.
        handshake: int. Cycles from the meeting of send and receive to the start, at least 1.
        hop: int. Cycles from one link of a route to the next.
        wormhole: int. 1 where a message holds its whole route.
        times: int64[2 * kept * n], cycles. Out: when instances are done, sample by sample, and when they first start a phase; filled
            with -1.
        waits: int64[n * N_WAITS], cycles. Out: waiting time of each row by cause, over all samples.
        rounds: int64[P]. Out: iterations that each processor has issued to their end.
        place: int64[P]. Out: rows that it has issued of the iteration after that.
        report: int64[4]. Out: instances done, phases gone through, and on failure the processor.
        free: int64[R], filled with 0. Scratch, like all that follows: cycle from which each resource is free.
        last: int64[R * n_commands], cycle of the last of each command of each device.
        n_commands: int. Commands of devices.
        state: int64[P * STATE], filled with 0. What is known of each processor.
        tree: int64[2 * P], filled with NOTHING. Processors that ask for a shared resource, by time.
        todo: int32[P]. Processors that can go on.

    Returns:
        OK, DEADLOCK or TIME_OVERFLOW.
    """
    n_procs = stream_ptr.size - 1
    n_rows = processor.size
    n_todo = 0
    for p in range(n_procs - 1, -1, -1):
        state[p * STATE + _PC] = stream_ptr[p]
        state[p * STATE + _IN_FLIGHT] = _NONE
        state[p * STATE + _POSTED] = -1
        todo[n_todo] = p
        n_todo += 1
    n_done = 0
    n_phases = 0
    failed = OK
    while failed == OK and (n_todo > 0 or tree[1] < NOTHING):
        # Of a processor from the tree, the entry stays until it is known what takes its place.
        is_first = n_todo == 0
        if is_first:
            p = tree[1] & (MOST_PROCESSORS - 1)
        else:
            n_todo -= 1
            p = todo[n_todo]
        is_granted = is_first
        base = p * STATE
        now = state[base + _NOW]
        while True:
            row = state[base + _IN_FLIGHT]
            if row < 0:
                # Nothing in flight: the next row that is active in this iteration.
                pc, iteration, sample = next_active(
                    stream_ptr[p], stream_ptr[p + 1], state[base + _PC], state[base + _ITERATION], iterations, samples, rows
                )  # fmt: skip
                state[base + _PC] = pc
                state[base + _ITERATION] = iteration
                state[base + _DONE] = 1
                slot = state[base + _SLOT]
                if iteration >= iterations or slot >= until:
                    break
                if now > slot:
                    waits[pc * N_WAITS + WAIT_WINDOW] += now - slot
                if now >= until:
                    break
                now += rows[pc * ROW + LEAD]
                if now >= until:
                    break
                state[base + _DONE] = 0
                row = pc
                line = rows[row * ROW + FORM] * LINE
                column = sample if kept >= samples else sample % kept
                if kept < samples:
                    times[column * n_rows + row] = -1
                state[base + _PC] = row + 1
                state[base + _IN_FLIGHT] = row
                state[base + _SAMPLE] = sample
                state[base + _COLUMN] = column
                state[base + _ISSUED] = now
                state[base + _WAITED] = 0
                state[base + _LEFT] = forms[line + REPS]
                state[base + _PHASE] = 0
                missing = 0
                ready = now
                for e in range(dep_ptr[row], dep_ptr[row + 1]):
                    if dep_distance[e] > sample:
                        continue
                    other_column = column - dep_distance[e]
                    while other_column < 0:
                        other_column += kept
                    finished = times[other_column * n_rows + dep_row[e]]
                    if finished < 0:
                        missing += 1
                    elif finished > ready:
                        ready = finished
                state[base + _READY] = ready
                state[base + _MISSING] = missing
                if missing > 0:
                    break
            else:
                line = rows[row * ROW + FORM] * LINE
            phase = state[base + _PHASE]
            if state[base + _ISSUED] >= 0:
                # Ready: what it depends on is done.
                now = state[base + _READY]
                issued = state[base + _ISSUED]
                waits[row * N_WAITS + WAIT_DEPENDENCY] += now - issued
                state[base + _SLOT] = (now if in_order else issued) + 1
                state[base + _ISSUED] = -1
                is_posting = forms[line + KIND] != COMPUTE and forms[line + POSTS] == 0
            else:
                is_posting = False
            n = forms[line + PHASES]
            x = line + FIRST + phase * 4
            is_blocked = False
            while True:
                if is_posting:
                    # Send and receive meet.
                    is_posting = False
                    state[base + _POSTED] = now
                    other_row = rows[row * ROW + PARTNER]
                    q = processor[other_row]
                    other = q * STATE
                    if (
                        state[other + _IN_FLIGHT] != other_row
                        or state[other + _POSTED] < 0
                        or state[other + _COLUMN] != state[base + _COLUMN]
                    ):
                        state[base + _PHASE] = phase
                        is_blocked = True
                        break
                    meet = max(now, state[other + _POSTED])
                    if forms[line + KIND] == SEND:
                        waits[row * N_WAITS + WAIT_MESSAGE] += meet - now
                        now = meet + handshake
                    else:
                        waits[other_row * N_WAITS + WAIT_MESSAGE] += meet - state[other + _POSTED]
                        state[other + _NOW] = meet + handshake
                        todo[n_todo] = q
                        n_todo += 1
                        state[base + _PHASE] = phase
                        is_blocked = True
                        break
                if forms[x + CODE] & 1 and not is_granted:
                    state[base + _PHASE] = phase
                    state[base + _NOW] = now
                    is_blocked = True
                    if now > MAX_TIME:
                        failed = TIME_OVERFLOW
                        report[2] = p
                        break
                    enter(tree, n_procs, p, now * MOST_PROCESSORS | p)
                    is_first = False
                    break
                is_granted = False
                n_phases += 1
                begin = acquire(forms[x + RES], forms[x + HOLD], forms[x + CODE], now, free, last, n_commands, hop, wormhole,
                                route_ptr, route_link, gap_ptr, gap_before, gap_after, gap_cycles)  # fmt: skip
                state[base + _WAITED] += begin - now
                if phase == 0 and state[base + _LEFT] == forms[line + REPS]:
                    state[base + _BEGUN] = begin
                now = begin + forms[x + PASS]
                phase += 1
                x += 4
                if phase < n:
                    is_posting = phase == forms[line + POSTS]
                    continue
                state[base + _LEFT] -= 1
                if state[base + _LEFT] == 0:
                    break
                phase = 0
                x = line + FIRST
            if is_blocked:
                break
            # Done.
            if now > MAX_TIME:
                failed = TIME_OVERFLOW
                report[2] = p
                break
            column = state[base + _COLUMN]
            sample = state[base + _SAMPLE]
            times[(kept + column) * n_rows + row] = state[base + _BEGUN]
            times[column * n_rows + row] = now
            waits[row * N_WAITS + WAIT_RESOURCE] += state[base + _WAITED]
            n_done += 1
            state[base + _IN_FLIGHT] = _NONE
            state[base + _POSTED] = -1
            if forms[line + KIND] == SEND:
                other_row = rows[row * ROW + PARTNER]
                q = processor[other_row]
                waits[other_row * N_WAITS + WAIT_MESSAGE] += now - state[q * STATE + _POSTED]
                state[q * STATE + _NOW] = now
                todo[n_todo] = q
                n_todo += 1
            for e in range(next_ptr[row], next_ptr[row + 1]):
                if sample + next_distance[e] >= samples:
                    continue
                target = next_row[e]
                other = processor[target] * STATE
                if state[other + _IN_FLIGHT] != target or state[other + _SAMPLE] != sample + next_distance[e]:
                    continue
                state[other + _MISSING] -= 1
                state[other + _READY] = max(state[other + _READY], now)
                if state[other + _MISSING] == 0:
                    todo[n_todo] = processor[target]
                    n_todo += 1
        if is_first:
            enter(tree, n_procs, p, NOTHING)
    report[0] = n_done
    report[1] = n_phases
    for p in range(n_procs):
        base = p * STATE
        row = state[base + _IN_FLIGHT]
        if row >= 0:
            # What is still in flight when issue has stopped.
            waits[row * N_WAITS + WAIT_RESOURCE] += state[base + _WAITED]
        if stream_ptr[p] == stream_ptr[p + 1]:
            continue
        is_whole = state[base + _PC] == stream_ptr[p + 1] and state[base + _ITERATION] < iterations
        rounds[p] = state[base + _ITERATION] + 1 if is_whole else state[base + _ITERATION]
        place[p] = 0 if is_whole else state[base + _PC] - stream_ptr[p]
    if failed != OK or until < MAX_TIME:
        return failed
    for p in range(n_procs):
        if state[p * STATE + _DONE] == 0:
            report[2] = p
            return DEADLOCK
    return OK
