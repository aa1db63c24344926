"""The event-driven machine that gives every target its cycles.

Streams issue their rows in order, one stream per processor, and repeat them once per iteration; a row with stage s
works for sample `iteration - s`. An instance (row, sample)

1. issues when the issue slot is free and the window has room: at most `window` attached instances are in flight and retire
   in order; a detached row (a transfer handed to a DMA queue) only needs room among `queue` detached ones. Where the row has a
   `lead`, it issues that much after the moment of slot and room. With `in_order`, the next instance issues only after this
   one's dependencies are done;
2. is ready when all dependencies are done: dependency (r, d) of instance (q, s) is instance (r, s - d); sample < 0 is done at 0;
3. if it is a message (a send and its partner receive), goes through its first `posts` phases, announces itself and waits for
   its partner: the send goes on `handshake` cycles after both have announced themselves, the receive when the send is done;
4. runs `reps` repetitions, each through the row's phases in order. Phase p asks for its resource, starts when that is free,
   holds it `hold` cycles, and the repetition asks for phase p + 1 `pass` cycles after the start. The next repetition asks for
   phase 0 when this one starts phase 1 (when it has passed phase 0, if there is one phase only; when it has passed its
   last phase, if repetitions are `serial`);
5. is done when the last repetition has left its last phase.

Streams end after their samples; with `until` they repeat without end and nothing is issued from that time on.

A resource serves requests in the order of their time. A negative resource -1 - q is route q: link i is entered `hop`
cycles after link i - 1, or later when it is free; what waits does so between the links and the route starts as late as
the last link makes it. With `wormhole` a repetition instead starts when every link of the route can take it without a
wait. A resource with a device (see `gap`) starts a command at the earliest time that its constraint table allows.

Order of events at equal time: completions, requests of local resources, issue, requests of shared resources; then
processor, then age of the instance, then phase. All passes and the handshake last at least one cycle, so nothing that
one processor does at time t changes what another does at t except through completions, which come first.
A processor that waits for nobody therefore runs ahead through its local events: the result is the same and the global
heap is touched only for shared resources and for processors with an open wait.
"""

from __future__ import annotations

import numpy as np

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

_COMPLETE = 0
_LOCAL = 1
_ISSUE = 2
_SHARED = 3

_POST = 15  # in the place of a phase: the two ends of a message announce themselves

_ISSUING = 0
_NO_ROOM = 1
_HELD = 2
_FINISHED = 3


@jit
def _push(ev_time, ev_key, ev_slot, ev_n, capacity, p, time, key, slot):
    """Puts an event into the sorted queue of processor p (latest first); False if the queue is full."""
    low = p * capacity
    i = low + ev_n[p]
    if ev_n[p] >= capacity:
        return False
    while i > low and (ev_time[i - 1] < time or (ev_time[i - 1] == time and ev_key[i - 1] <= key)):
        ev_time[i] = ev_time[i - 1]
        ev_key[i] = ev_key[i - 1]
        ev_slot[i] = ev_slot[i - 1]
        i -= 1
    ev_time[i] = time
    ev_key[i] = key
    ev_slot[i] = slot
    ev_n[p] += 1
    return True


@jit
def _acquire(
    res, hold, time, free, last, n_commands, hop, wormhole,
    route_ptr, route_link, gap_device, gap_ptr, gap_before, gap_after, gap_cycles,
):  # fmt: skip
    """Books a resource, a route or a command of a device from `time` on; returns the start."""
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
    device = gap_device[res]
    if device < 0:
        begin = max(begin, free[res])
        free[res] = begin + hold
        return begin
    for g in range(gap_ptr[device], gap_ptr[device + 1]):
        if gap_after[g] == hold:
            begin = max(begin, last[res * n_commands + gap_before[g]] + gap_cycles[g])
    last[res * n_commands + hold] = begin
    return begin


@jit
def run(
    stream_ptr, processor, samples, iterations, kept, until, stage, kind, detached, partner, reps, lead, posts, n_phases,
    phase_res, phase_hold, phase_pass,
    dep_ptr, dep_row, dep_distance, next_ptr, next_row, next_distance,
    shared, route_ptr, route_link, gap_device, gap_ptr, gap_before, gap_after, gap_cycles,
    window, queue, issue_cycles, in_order, serial, handshake, hop, wormhole, capacity,
    start, done, waits, where, rounds, place, report,
):  # fmt: skip
    """Simulates all streams to their end.

    Args:
        stream_ptr: int64[P + 1]. Rows of processor p are stream_ptr[p]:stream_ptr[p + 1].
        processor: int32[n]. The processor of each row.
        samples: int. Instances of each row.
        iterations: int. Times each stream runs: samples + the largest stage.
        kept: int. Samples whose times are kept: sample s is in column s mod kept; `samples` where all are.
        until: int. Cycle from which nothing is issued; MAX_TIME to run all samples.
        stage: int32[n]. Iterations that a row lags behind.
        kind: int8[n]. COMPUTE, SEND or RECEIVE.
        detached: int8[n]. 1 where the row leaves the window as soon as it is issued.
        partner: int32[n]. The row at the other end of a message, -1 for COMPUTE.
        reps: int32[n]. Repetitions, at least 1 (1 for the ends of messages).
        lead: int32[n], cycles from the moment that the row could be issued to its issue.
        posts: int8[n]. Phases of an end of a message before it announces itself, fewer than n_phases; 0 for COMPUTE.
        n_phases: int8[n]. Phases of one repetition, 1..MAX_PHASES.
        phase_res: int32[n * MAX_PHASES]. Resource of each phase; -1 - q for route q.
        phase_hold: int32[n * MAX_PHASES], cycles that the resource is taken (or the command of a device).
        phase_pass: int32[n * MAX_PHASES], cycles from start to the next phase, at least 1.
        dep_ptr: int32[n + 1]. Dependencies of row i are dep_row[dep_ptr[i]:dep_ptr[i + 1]].
        dep_row: int32[m]. Row depended on.
        dep_distance: int32[m]. Samples back.
        next_ptr: int32[n + 1]. The same edges, grouped by their source.
        next_row: int32[m]. Row that depends.
        next_distance: int32[m]. Samples forward.
        shared: int8[R]. 1 where processors contend for a resource.
        route_ptr: int32[Q + 1]. Links of route q are route_link[route_ptr[q]:route_ptr[q + 1]].
        route_link: int32[L]. Resources that are links.
        gap_device: int32[R]. Constraint table of a resource, -1 for a plain one.
        gap_ptr: int32[D + 1]. Constraints of device d.
        gap_before: int32[G]. Command issued before.
        gap_after: int32[G]. Command that must wait.
        gap_cycles: int32[G]. Least distance of the two in cycles.
        window: int. Attached instances in flight per processor, at least 1.
        queue: int. Detached instances in flight per processor, at least 1.
        issue_cycles: int. Cycles between two issues of a processor, at least 1.
        in_order: int. 1 to hold issue until dependencies are done.
        serial: int. 1 where a repetition begins only when the one before has ended.
        handshake: int. Cycles from the meeting of send and receive to the start, at least 1.
        hop: int. Cycles from one link of a route to the next.
        wormhole: int. 1 where a message holds its whole route.
        capacity: int. Events that one processor may have pending.
        start: int64[n * kept], cycles. Out: when an instance first starts a phase; filled with -1.
        done: int64[n * kept], cycles. Out: when an instance is done; filled with -1.
        waits: int64[n * N_WAITS], cycles. Out: waiting time of each row by cause, over all samples.
        where: int32[n * kept]. Scratch, filled with -1: the slot of an instance in flight.
        rounds: int64[P]. Out: iterations that each processor has issued to their end.
        place: int64[P]. Out: rows that it has issued of the iteration after that.
        report: int64[4]. Out: instances done, events handled, and on failure the processor and row.

    Returns:
        OK, DEADLOCK, QUEUE_OVERFLOW or TIME_OVERFLOW.
    """
    n_procs = stream_ptr.size - 1
    slots = window + queue
    n_commands = 1
    for g in range(gap_before.size):
        n_commands = max(n_commands, gap_before[g] + 1, gap_after[g] + 1)
    free = np.zeros(shared.size, np.int64)
    last = np.full(shared.size * n_commands if gap_before.size else 1, -MAX_TIME, np.int64)
    ev_time = np.empty(n_procs * capacity, np.int64)
    ev_key = np.empty(n_procs * capacity, np.int64)
    ev_slot = np.empty(n_procs * capacity, np.int32)
    ev_n = np.zeros(n_procs, np.int64)
    # Instances in flight, by slot.
    s_row = np.empty(n_procs * slots, np.int32)
    s_sample = np.empty(n_procs * slots, np.int32)
    s_column = np.empty(n_procs * slots, np.int32)  # sample mod kept
    s_age = np.empty(n_procs * slots, np.int64)
    s_place = np.empty(n_procs * slots, np.int64)  # position in the window
    s_begin = np.empty(n_procs * slots, np.int32)  # repetitions not begun
    s_end = np.empty(n_procs * slots, np.int32)  # repetitions not ended
    s_missing = np.empty(n_procs * slots, np.int32)
    s_ready = np.empty(n_procs * slots, np.int64)  # earliest readiness known so far
    s_since = np.empty(n_procs * slots, np.int64)  # issue time, then time of posting
    s_posted = np.zeros(n_procs * slots, np.int8)
    s_free = np.empty(n_procs * slots, np.int32)
    s_n_free = np.full(n_procs, slots, np.int64)
    ring = np.full(n_procs * window, -1, np.int64)  # done times of the attached instances in the window
    issued = np.zeros(n_procs, np.int64)
    retired = np.zeros(n_procs, np.int64)
    in_queue = np.zeros(n_procs, np.int64)
    pc = stream_ptr[:-1].copy()
    iteration = np.zeros(n_procs, np.int64)
    age = np.zeros(n_procs, np.int64)
    state = np.zeros(n_procs, np.int8)
    led = np.zeros(n_procs, np.int8)  # whether the lead of the next row has passed
    state_since = np.zeros(n_procs, np.int64)
    held_slot = np.full(n_procs, -1, np.int64)
    open_waits = np.zeros(n_procs, np.int64)
    heap = np.empty(2 * n_procs + 64, np.int64)
    heap_n = 0
    heap_key = np.full(n_procs, -1, np.int64)
    todo = np.empty(n_procs, np.int32)
    in_todo = np.zeros(n_procs, np.int8)
    todo_n = 0
    p_bits = 1
    while (1 << p_bits) < n_procs:
        p_bits += 1
    p_mask = (1 << p_bits) - 1
    n_done = 0
    n_events = 0
    failed = OK
    failed_p = -1
    for p in range(n_procs - 1, -1, -1):
        for i in range(slots):
            s_free[p * slots + i] = slots - 1 - i
        _push(ev_time, ev_key, ev_slot, ev_n, capacity, p, 0, _ISSUE << 60, 0)
        todo[todo_n] = p
        in_todo[p] = 1
        todo_n += 1
    while failed == OK:
        must_queue = True
        if todo_n > 0:
            todo_n -= 1
            p = todo[todo_n]
            in_todo[p] = 0
        elif heap_n > 0:
            top = heap[0]
            heap_n -= 1
            moved = heap[heap_n]
            i = 0
            while 2 * i + 1 < heap_n:
                child = 2 * i + 1
                if child + 1 < heap_n and heap[child + 1] < heap[child]:
                    child += 1
                if heap[child] >= moved:
                    break
                heap[i] = heap[child]
                i = child
            heap[i] = moved
            p = top & p_mask
            if heap_key[p] != top:
                continue  # the processor has another entry
            heap_key[p] = -1
            if ev_n[p] > 0:
                at = p * capacity + ev_n[p] - 1
                # It may also have moved on without the heap; then it has to queue again.
                must_queue = (((ev_time[at] * 4 + (ev_key[at] >> 60)) << p_bits) | p) != top
        else:
            break
        while ev_n[p] > 0 and failed == OK:
            at = p * capacity + ev_n[p] - 1
            time = ev_time[at]
            key = ev_key[at]
            event = key >> 60
            if must_queue and (event == _SHARED or open_waits[p] > 0):
                packed = ((time * 4 + event) << p_bits) | p
                if todo_n > 0 or (heap_n > 0 and heap[0] < packed):
                    if heap_key[p] != packed:
                        if heap_n == heap.size:
                            grown = np.empty(2 * heap_n, np.int64)
                            grown[:heap_n] = heap
                            heap = grown
                        i = heap_n
                        heap_n += 1
                        while i > 0 and heap[(i - 1) >> 1] > packed:
                            heap[i] = heap[(i - 1) >> 1]
                            i = (i - 1) >> 1
                        heap[i] = packed
                        heap_key[p] = packed
                    break
            must_queue = True
            ev_n[p] -= 1
            n_events += 1
            slot = ev_slot[at]
            s = p * slots + slot
            if event == _LOCAL or event == _SHARED:  # noqa: SIM109
                row = s_row[s]
                phase = key & 15
                if phase == _POST:
                    # Send and receive meet.
                    other_row = partner[row]
                    other_p = processor[other_row]
                    code = where[other_row * kept + s_column[s]]
                    s_posted[s] = 1
                    s_since[s] = time
                    if code < 0 or s_posted[code] == 0:
                        open_waits[p] += 1
                        continue
                    meet = max(time, s_since[code])  # the other end may have run ahead
                    send, send_p = (s, p) if kind[row] == SEND else (code, other_p)
                    send_row = s_row[send]
                    waits[send_row * N_WAITS + WAIT_MESSAGE] += meet - s_since[send]
                    if send_p != p:
                        open_waits[send_p] -= 1
                        open_waits[p] += 1  # the receive waits for the data
                    first = posts[send_row]
                    res = phase_res[send_row * MAX_PHASES + first]
                    event = _SHARED if (res < 0 or shared[res]) else _LOCAL
                    if not _push(ev_time, ev_key, ev_slot, ev_n, capacity, send_p, meet + handshake,
                                 (event << 60) | (s_age[send] << 4) | first, send - send_p * slots):  # fmt: skip
                        failed, failed_p = QUEUE_OVERFLOW, send_p
                    if send_p != p and in_todo[send_p] == 0:
                        todo[todo_n] = send_p
                        in_todo[send_p] = 1
                        todo_n += 1
                    continue
                x = row * MAX_PHASES + phase
                hold = phase_hold[x]
                begin = _acquire(phase_res[x], hold, time, free, last, n_commands, hop, wormhole,
                                 route_ptr, route_link, gap_device, gap_ptr, gap_before, gap_after, gap_cycles)  # fmt: skip
                waits[row * N_WAITS + WAIT_RESOURCE] += begin - time
                if begin > MAX_TIME:
                    failed, failed_p = TIME_OVERFLOW, p
                if phase == 0 and s_begin[s] == reps[row] - 1:
                    start[row * kept + s_column[s]] = begin
                mark = s_age[s] << 4
                n = n_phases[row]
                stored = True
                if s_begin[s] > 0 and ((phase + 1 == n) if serial else (phase == 1 or n == 1)):
                    s_begin[s] -= 1
                    res = phase_res[row * MAX_PHASES]
                    event = _SHARED if (res < 0 or shared[res]) else _LOCAL
                    again = begin + phase_pass[x] if (serial or n == 1) else begin
                    stored = _push(ev_time, ev_key, ev_slot, ev_n, capacity, p, again, (event << 60) | mark, slot)
                if phase + 1 < n:
                    res = phase_res[x + 1]
                    event = _SHARED if (res < 0 or shared[res]) else _LOCAL
                    following = phase + 1
                    if following == posts[row]:
                        event, following = _LOCAL, _POST
                    stored &= _push(ev_time, ev_key, ev_slot, ev_n, capacity, p, begin + phase_pass[x],
                                    (event << 60) | mark | following, slot)  # fmt: skip
                else:
                    s_end[s] -= 1
                    if s_end[s] == 0:
                        stored &= _push(ev_time, ev_key, ev_slot, ev_n, capacity, p, begin + phase_pass[x], mark, slot)
                if not stored:
                    failed, failed_p = QUEUE_OVERFLOW, p
            elif event == _COMPLETE:
                row = s_row[s]
                sample = s_sample[s]
                column = s_column[s]
                done[row * kept + column] = time
                where[row * kept + column] = -1
                n_done += 1
                s_free[p * slots + s_n_free[p]] = slot
                s_n_free[p] += 1
                if detached[row]:
                    in_queue[p] -= 1
                else:
                    ring[p * window + s_place[s] % window] = time
                    while retired[p] < issued[p] and ring[p * window + retired[p] % window] >= 0:
                        ring[p * window + retired[p] % window] = -1
                        retired[p] += 1
                if state[p] == _NO_ROOM:
                    waiting = pc[p]
                    if (in_queue[p] < queue) if detached[waiting] else (issued[p] - retired[p] < window):
                        state[p] = _ISSUING
                        waits[waiting * N_WAITS + WAIT_WINDOW] += time - state_since[p]
                        if not _push(ev_time, ev_key, ev_slot, ev_n, capacity, p, time, _ISSUE << 60, 0):
                            failed, failed_p = QUEUE_OVERFLOW, p
                if kind[row] == SEND:
                    other_row = partner[row]
                    other_p = processor[other_row]
                    code = where[other_row * kept + column]
                    open_waits[other_p] -= 1
                    waits[other_row * N_WAITS + WAIT_MESSAGE] += time - s_since[code]
                    first = posts[other_row]
                    res = phase_res[other_row * MAX_PHASES + first]
                    event = _SHARED if (res < 0 or shared[res]) else _LOCAL
                    if not _push(ev_time, ev_key, ev_slot, ev_n, capacity, other_p, time,
                                 (event << 60) | (s_age[code] << 4) | first, code - other_p * slots):  # fmt: skip
                        failed, failed_p = QUEUE_OVERFLOW, other_p
                    if in_todo[other_p] == 0:
                        todo[todo_n] = other_p
                        in_todo[other_p] = 1
                        todo_n += 1
                for e in range(next_ptr[row], next_ptr[row + 1]):
                    target = next_row[e]
                    target_sample = sample + next_distance[e]
                    if target_sample >= samples:
                        continue
                    column = s_column[s] + next_distance[e]
                    while column >= kept:
                        column -= kept
                    code = where[target * kept + column]
                    if code < 0:
                        continue
                    owner = processor[target]
                    s_missing[code] -= 1
                    s_ready[code] = max(s_ready[code], time)
                    if owner != p:
                        open_waits[owner] -= 1
                    if s_missing[code] == 0:
                        ready = s_ready[code]
                        waits[target * N_WAITS + WAIT_DEPENDENCY] += ready - s_since[code]
                        s_since[code] = ready
                        if kind[target] == COMPUTE or posts[target] > 0:
                            res = phase_res[target * MAX_PHASES]
                            event = _SHARED if (res < 0 or shared[res]) else _LOCAL
                            first = 0
                        else:
                            event = _LOCAL
                            first = _POST
                        stored = _push(ev_time, ev_key, ev_slot, ev_n, capacity, owner, ready,
                                       (event << 60) | (s_age[code] << 4) | first, code - owner * slots)  # fmt: skip
                        if held_slot[owner] == code:
                            held_slot[owner] = -1
                            state[owner] = _ISSUING
                            stored &= _push(ev_time, ev_key, ev_slot, ev_n, capacity, owner, ready + issue_cycles,
                                            _ISSUE << 60, 0)  # fmt: skip
                        if not stored:
                            failed, failed_p = QUEUE_OVERFLOW, owner
                    if owner != p and in_todo[owner] == 0:
                        todo[todo_n] = owner
                        in_todo[owner] = 1
                        todo_n += 1
            else:
                # Issue: skip the rows that are not active in this iteration, then take the next one.
                row = pc[p]
                end = stream_ptr[p + 1]
                while iteration[p] < iterations:
                    if row == end:
                        row = stream_ptr[p]
                        iteration[p] += 1
                        if row == end:
                            iteration[p] = iterations
                        continue
                    sample = iteration[p] - stage[row]
                    if 0 <= sample < samples:
                        break
                    row += 1
                pc[p] = row
                if iteration[p] >= iterations or time >= until:
                    state[p] = _FINISHED
                    continue
                if (in_queue[p] >= queue) if detached[row] else (issued[p] - retired[p] >= window):
                    state[p] = _NO_ROOM
                    state_since[p] = time
                    continue
                if lead[row] > 0 and led[p] == 0:
                    led[p] = 1
                    if not _push(ev_time, ev_key, ev_slot, ev_n, capacity, p, time + lead[row], _ISSUE << 60, 0):
                        failed, failed_p = QUEUE_OVERFLOW, p
                    continue
                led[p] = 0
                s_n_free[p] -= 1
                slot = s_free[p * slots + s_n_free[p]]
                s = p * slots + slot
                sample = iteration[p] - stage[row]
                s_row[s] = row
                column = sample if kept >= samples else sample % kept
                s_sample[s] = sample
                s_column[s] = column
                s_age[s] = age[p]
                s_begin[s] = reps[row] - 1
                s_end[s] = reps[row]
                s_posted[s] = 0
                s_since[s] = time
                age[p] += 1
                where[row * kept + column] = s
                done[row * kept + column] = -1
                if detached[row]:
                    in_queue[p] += 1
                else:
                    s_place[s] = issued[p]
                    issued[p] += 1
                pc[p] = row + 1
                missing = 0
                ready = time
                for e in range(dep_ptr[row], dep_ptr[row + 1]):
                    source_sample = sample - dep_distance[e]
                    if source_sample < 0:
                        continue
                    source_column = column - dep_distance[e]
                    while source_column < 0:
                        source_column += kept
                    finished = done[dep_row[e] * kept + source_column]
                    if finished < 0:
                        missing += 1
                        if processor[dep_row[e]] != p:
                            open_waits[p] += 1
                    elif finished > ready:
                        ready = finished
                s_missing[s] = missing
                s_ready[s] = ready
                stored = True
                if missing == 0:
                    waits[row * N_WAITS + WAIT_DEPENDENCY] += ready - time
                    s_since[s] = ready
                    if kind[row] == COMPUTE or posts[row] > 0:
                        res = phase_res[row * MAX_PHASES]
                        event = _SHARED if (res < 0 or shared[res]) else _LOCAL
                        first = 0
                    else:
                        event = _LOCAL
                        first = _POST
                    stored = _push(ev_time, ev_key, ev_slot, ev_n, capacity, p, ready,
                                   (event << 60) | (s_age[s] << 4) | first, slot)  # fmt: skip
                if in_order and missing > 0:
                    state[p] = _HELD
                    held_slot[p] = s
                else:
                    again = (ready if in_order else time) + issue_cycles
                    stored &= _push(ev_time, ev_key, ev_slot, ev_n, capacity, p, again, _ISSUE << 60, 0)
                if not stored:
                    failed, failed_p = QUEUE_OVERFLOW, p
    report[0] = n_done
    report[1] = n_events
    for p in range(n_procs):
        if stream_ptr[p] == stream_ptr[p + 1]:
            continue
        is_whole = pc[p] == stream_ptr[p + 1] and iteration[p] < iterations
        rounds[p] = iteration[p] + 1 if is_whole else iteration[p]
        place[p] = 0 if is_whole else pc[p] - stream_ptr[p]
    if failed != OK:
        report[2] = failed_p
        return failed
    if until < MAX_TIME:
        return OK  # who waits at that time may wait for something that was not issued any more
    for p in range(n_procs):
        if state[p] != _FINISHED or s_n_free[p] != slots:
            report[2] = p
            return DEADLOCK
    return OK
