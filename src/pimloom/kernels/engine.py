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
heap is touched only for shared resources and for processors with an open wait. One that waits for nothing but messages
runs ahead, too, as far as none can reach it.
"""

from __future__ import annotations

from pimloom.kernels._jit import jit
from pimloom.kernels.agenda import CURSOR, NEVER, drop, earliest, enter, leave, push, replace, sink
from pimloom.kernels.booking import (
    CODE,
    COMPUTE,
    DEADLOCK,
    DETACHED,
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
    QUEUE_OVERFLOW,
    REPS,
    RES,
    ROW,
    SEND,
    STAGE,
    TIME_OVERFLOW,
    WAIT_DEPENDENCY,
    WAIT_MESSAGE,
    WAIT_RESOURCE,
    WAIT_WINDOW,
    acquire,
)  # fmt: skip

_COMPLETE = 0
_LOCAL = 1
_ISSUE = 2
_SHARED = 3

_POST = 15  # in the place of a phase: the two ends of a message announce themselves

_ISSUING = 0
_NO_ROOM = 1
_HELD = 2
_FINISHED = 3

# What is known of an instance in flight, one line of a table per slot; what a request of a resource needs comes first.
_ROW, _LINE, _BEGIN, _END, _MARK, _WAITED, _COLUMN, _STARTED = range(8)
_PLACE, _MISSING, _READY, _POSTED, _SINCE, _DEPENDED, _SAMPLE = range(8, 15)
SLOT = 16  # length of a line

# A key of an event: class, age of the instance, phase, slot.
_CLASS_BITS = 60
_AGE_BITS = 20
_PHASE_BITS = 16
_SLOT_MASK = (1 << _PHASE_BITS) - 1
MAX_SLOTS = 1 << _PHASE_BITS


@jit
def _key(forms, line, phase, mark):
    """The key of an event that asks for a phase, or announces an end of a message."""
    event = _LOCAL if phase == _POST else _LOCAL + 2 * (forms[line + FIRST + phase * 4 + CODE] & 1)
    return (event << _CLASS_BITS) | mark | (phase << _PHASE_BITS)


@jit
def run(
    stream_ptr, processor, samples, iterations, kept, until, rows, forms,
    dep_ptr, dep_row, dep_distance, next_ptr, next_row, next_distance,
    route_ptr, route_link, gap_ptr, gap_before, gap_after, gap_cycles,
    window, queue, issue_cycles, in_order, serial, handshake, hop, wormhole, capacity,
    times, waits, where, rounds, place, report,
    free, last, n_commands, events, n_events, issue_at, flying, s_free, s_n_free, retired_at, issued, retired, in_queue,
    pc, iteration, age, state, led, state_since, held_slot, wait_ahead, send_ahead, receive_ahead, open_waits, open_sends, open_receives,
    order, ring, following, queued, is_far, heap, todo, in_todo,
):  # fmt: skip
    """Simulates all streams to their end.

    Args:
        stream_ptr: int64[P + 1]. Rows of processor p are stream_ptr[p]:stream_ptr[p + 1].
        processor: int32[n]. The processor of each row.
        samples: int. Instances of each row.
        iterations: int. Times each stream runs: samples + the largest stage.
        kept: int. Samples whose times are kept: sample s is in column s mod kept; `samples` where all are.
        until: int. Cycle from which nothing is issued; MAX_TIME to run all samples.
        rows: int32[n * 4]. Of each row: form, partner (the row at the other end of a message, -1 for COMPUTE), stage (iterations that
            it lags behind), lead (cycles from the moment that it could be issued to its issue).
        forms: int32[f * 24]. Of each form: kind (COMPUTE, SEND or RECEIVE), detached (1 where a row leaves the window as soon as it is
            issued), reps (repetitions, at least 1; 1 for the ends of messages), posts (phases of an end of a message before it
            announces itself, fewer than n_phases; 0 for COMPUTE), n_phases (phases of one repetition, 1..MAX_PHASES), three spare
            places; and of each of MAX_PHASES phases: resource (-1 - q for route q), hold (cycles that the resource is taken, or the
            command of a device), pass (cycles from start to the next phase, at least 1), code (1 where processors contend for the
            resource, plus 2 * (d + 1) where it obeys the constraint table d).
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
        window: int. Attached instances in flight per processor, at least 1.
        queue: int. Detached instances in flight per processor, at least 1.
        issue_cycles: int. Cycles between two issues of a processor, at least 1.
        in_order: int. 1 to hold issue until dependencies are done.
        serial: int. 1 where a repetition begins only when the one before has ended.
        handshake: int. Cycles from the meeting of send and receive to the start, at least 1.
        hop: int. Cycles from one link of a route to the next.
        wormhole: int. 1 where a message holds its whole route.
        capacity: int. Events that one processor may have pending.
        times: int64[2 * kept * n], cycles. Out: when instances are done, sample by sample, and when they first start a phase; filled
            with -1.
        waits: int64[n * N_WAITS], cycles. Out: waiting time of each row by cause, over all samples.
        where: int32[kept * n]. Scratch, filled with -1: the slot of an instance in flight.
        rounds: int64[P]. Out: iterations that each processor has issued to their end.
        place: int64[P]. Out: rows that it has issued of the iteration after that.
        report: int64[4]. Out: instances done, events handled, and on failure the processor and row.
        free: int64[R], filled with 0. Scratch, like all that follows: cycle from which each resource is free.
        last: int64[R * n_commands], cycle of the last of each command of each device.
        n_commands: int. Commands of devices.
        events: int64[2 * P * capacity], (time, key) of what is to come on each processor, a heap each.
        n_events: int64[P], their number.
        issue_at: int64[P], time of the next issue, NEVER where something else has to happen first.
        flying: int64[P * slots * SLOT], instances in flight.
        s_free: int32[P * slots], free slots, a stack per processor.
        s_n_free: int64[P], their number.
        retired_at: int64[P * window], done times of the attached instances in the window.
        issued: int64[P], attached instances issued.
        retired: int64[P], attached instances retired.
        in_queue: int64[P], detached instances in flight.
        pc: int64[P], next row of each processor.
        iteration: int64[P], its iteration.
        age: int64[P], instances issued.
        state: int8[P], one of _ISSUING, _NO_ROOM, _HELD, _FINISHED.
        led: int8[P], whether the lead of the next row has passed.
        state_since: int64[P], cycle since which there is no room.
        held_slot: int64[P], instance that issue waits for, -1 for none.
        wait_ahead: int64[P], least cycles from an event of another processor until a row that is awaited from it can be done.
        send_ahead: int64[P], the same until a send that waits can change what its processor does by itself.
        receive_ahead: int64[P], the same until a receive that waits can.
        open_waits: int64[P], rows awaited from other processors.
        open_sends: int64[P], sends that wait for their receive.
        open_receives: int64[P], receives that wait for their send.
        order: int64[4], state of the queue of processors.
        ring: int64[RING], first processor of each bucket.
        following: int64[P], next processor of the bucket.
        queued: int64[P], entry of each processor in the queue, -1 for none.
        is_far: int8[P], whether that entry is in the heap.
        heap: int64[>= 2 P], entries far ahead.
        todo: int32[P], processors to look at before anything else.
        in_todo: int8[P], 1 for those.

    Returns:
        OK, DEADLOCK, QUEUE_OVERFLOW or TIME_OVERFLOW.
    """
    n_procs = stream_ptr.size - 1
    n_rows = processor.size
    slots = window + queue
    p_bits = 1
    while (1 << p_bits) < n_procs:
        p_bits += 1
    p_mask = (1 << p_bits) - 1
    todo_n = n_procs
    n_done = 0
    n_handled = 0
    failed = OK
    failed_p = -1
    while failed == OK:
        must_queue = True
        if todo_n > 0:
            todo_n -= 1
            p = todo[todo_n]
            in_todo[p] = 0
        else:
            top = earliest(order, ring, queued, heap, p_bits)
            if top == NEVER:
                break
            p = top & p_mask
            leave(order, ring, following, queued, is_far, p, p_bits)
            order[CURSOR] = top >> (p_bits + 2)
            if is_far[p]:
                sink(heap, order)
            # It may also have moved on without the queue; then it has to queue again.
            time, event = issue_at[p], _ISSUE
            if n_events[p] > 0:
                at = 2 * p * capacity
                if events[at] < time or (events[at] == time and (events[at + 1] >> _CLASS_BITS) < _ISSUE):
                    time, event = events[at], events[at + 1] >> _CLASS_BITS
            must_queue = (((time * 4 + event) << p_bits) | p) != top
        while failed == OK:
            time, event, key = issue_at[p], _ISSUE, 0
            if n_events[p] > 0:
                at = 2 * p * capacity
                if events[at] < time or (events[at] == time and (events[at + 1] >> _CLASS_BITS) < _ISSUE):
                    time, key = events[at], events[at + 1]
                    event = key >> _CLASS_BITS
            if time == NEVER:
                break
            if must_queue and (event == _SHARED or open_waits[p] > 0 or open_sends[p] > 0 or open_receives[p] > 0):
                entry = ((time * 4 + event) << p_bits) | p
                if queued[p] == entry:
                    break
                first = earliest(order, ring, queued, heap, p_bits)
                least = time - (first >> (p_bits + 2))
                may_go = event != _SHARED and (open_waits[p] == 0 or least < wait_ahead[p])
                may_go = may_go and (open_sends[p] == 0 or least < send_ahead[p]) and (open_receives[p] == 0 or least < receive_ahead[p])
                if todo_n > 0 or (first < entry and not may_go):
                    if queued[p] >= 0:
                        leave(order, ring, following, queued, is_far, p, p_bits)
                    enter(order, ring, following, queued, is_far, heap, p, entry, p_bits)
                    break
            must_queue = True
            n_handled += 1
            if event == _LOCAL or event == _SHARED:  # noqa: SIM109
                slot = key & _SLOT_MASK
                s = (p * slots + slot) * SLOT
                row = flying[s + _ROW]
                phase = (key >> _PHASE_BITS) & 15
                if phase == _POST:
                    drop(events, n_events, capacity, p)
                    # Send and receive meet.
                    other_row = rows[row * ROW + PARTNER]
                    other_p = processor[other_row]
                    other = where[flying[s + _COLUMN] * n_rows + other_row]
                    flying[s + _POSTED] = 1
                    flying[s + _SINCE] = time
                    if other < 0 or flying[other * SLOT + _POSTED] == 0:
                        if forms[flying[s + _LINE] + KIND] == SEND:
                            open_sends[p] += 1
                        else:
                            open_receives[p] += 1
                        continue
                    meet = max(time, flying[other * SLOT + _SINCE])  # the other end may have run ahead
                    send, send_p = (p * slots + slot, p) if forms[flying[s + _LINE] + KIND] == SEND else (other, other_p)
                    send_row = flying[send * SLOT + _ROW]
                    waits[send_row * N_WAITS + WAIT_MESSAGE] += meet - flying[send * SLOT + _SINCE]
                    if forms[flying[s + _LINE] + KIND] != SEND:
                        open_sends[send_p] -= 1
                        open_receives[p] += 1  # for the data
                    line = flying[send * SLOT + _LINE]
                    key = _key(forms, line, forms[line + POSTS], flying[send * SLOT + _MARK])
                    if not push(events, n_events, capacity, send_p, meet + handshake, key):
                        failed, failed_p = QUEUE_OVERFLOW, send_p
                    if send_p != p and in_todo[send_p] == 0:
                        todo[todo_n] = send_p
                        in_todo[send_p] = 1
                        todo_n += 1
                    continue
                line = flying[s + _LINE]
                x = line + FIRST + phase * 4
                passing = forms[x + PASS]
                begin = acquire(forms[x + RES], forms[x + HOLD], forms[x + CODE], time, free, last, n_commands, hop, wormhole,
                                route_ptr, route_link, gap_ptr, gap_before, gap_after, gap_cycles)  # fmt: skip
                flying[s + _WAITED] += begin - time
                if begin > MAX_TIME:
                    failed, failed_p = TIME_OVERFLOW, p
                n = forms[line + PHASES]
                mark = flying[s + _MARK]
                to_begin = flying[s + _BEGIN]
                if phase == 0 and to_begin == forms[line + REPS] - 1:
                    flying[s + _STARTED] = begin
                # The first of what follows takes the place of this event in the heap.
                stored = True
                if phase + 1 < n:
                    next_phase = _POST if phase + 1 == forms[line + POSTS] else phase + 1
                    replace(events, n_events, capacity, p, begin + passing, _key(forms, line, next_phase, mark))
                else:
                    flying[s + _END] -= 1
                    if flying[s + _END] == 0:
                        # Now it is known when it will be done, and who waits for that is told: its processor can run ahead until then.
                        done = begin + passing
                        replace(events, n_events, capacity, p, done, mark)
                        column = flying[s + _COLUMN]
                        times[column * n_rows + row] = done
                        if forms[line + KIND] == SEND:
                            other_row = rows[row * ROW + PARTNER]
                            other_p = processor[other_row]
                            other = where[column * n_rows + other_row]
                            open_receives[other_p] -= 1
                            waits[other_row * N_WAITS + WAIT_MESSAGE] += done - flying[other * SLOT + _SINCE]
                            other_line = flying[other * SLOT + _LINE]
                            key = _key(forms, other_line, forms[other_line + POSTS], flying[other * SLOT + _MARK])
                            if not push(events, n_events, capacity, other_p, done, key):
                                failed, failed_p = QUEUE_OVERFLOW, other_p
                            if in_todo[other_p] == 0:
                                todo[todo_n] = other_p
                                in_todo[other_p] = 1
                                todo_n += 1
                        sample = flying[s + _SAMPLE]
                        for e in range(next_ptr[row], next_ptr[row + 1]):
                            if sample + next_distance[e] >= samples:
                                continue
                            target = next_row[e]
                            other_column = column + next_distance[e]
                            while other_column >= kept:
                                other_column -= kept
                            other = where[other_column * n_rows + target]
                            if other < 0:
                                continue
                            owner = processor[target]
                            o = other * SLOT
                            flying[o + _MISSING] -= 1
                            flying[o + _READY] = max(flying[o + _READY], done)
                            if owner != p:
                                open_waits[owner] -= 1
                            if flying[o + _MISSING] == 0:
                                ready = flying[o + _READY]
                                flying[o + _DEPENDED] = ready - flying[o + _SINCE]
                                flying[o + _SINCE] = ready
                                other_line = flying[o + _LINE]
                                first = 0 if forms[other_line + KIND] == COMPUTE or forms[other_line + POSTS] > 0 else _POST
                                if not push(events, n_events, capacity, owner, ready, _key(forms, other_line, first, flying[o + _MARK])):
                                    failed, failed_p = QUEUE_OVERFLOW, owner
                                if held_slot[owner] == other:
                                    held_slot[owner] = -1
                                    state[owner] = _ISSUING
                                    issue_at[owner] = ready + issue_cycles
                            if owner != p and in_todo[owner] == 0:
                                todo[todo_n] = owner
                                in_todo[owner] = 1
                                todo_n += 1
                    else:
                        drop(events, n_events, capacity, p)
                if to_begin > 0 and ((phase + 1 == n) if serial else (phase == 1 or n == 1)):
                    flying[s + _BEGIN] = to_begin - 1
                    again = begin + passing if (serial or n == 1) else begin
                    stored = push(events, n_events, capacity, p, again, _key(forms, line, 0, mark))
                if not stored:
                    failed, failed_p = QUEUE_OVERFLOW, p
            elif event == _COMPLETE:
                drop(events, n_events, capacity, p)
                slot = key & _SLOT_MASK
                s = (p * slots + slot) * SLOT
                row = flying[s + _ROW]
                column = flying[s + _COLUMN]
                times[(kept + column) * n_rows + row] = flying[s + _STARTED]
                where[column * n_rows + row] = -1
                waits[row * N_WAITS + WAIT_RESOURCE] += flying[s + _WAITED]
                waits[row * N_WAITS + WAIT_DEPENDENCY] += flying[s + _DEPENDED]
                flying[s + _WAITED] = 0
                flying[s + _DEPENDED] = 0
                n_done += 1
                s_free[p * slots + s_n_free[p]] = slot
                s_n_free[p] += 1
                line = flying[s + _LINE]
                if forms[line + DETACHED]:
                    in_queue[p] -= 1
                else:
                    retired_at[p * window + flying[s + _PLACE] % window] = time
                    while retired[p] < issued[p] and retired_at[p * window + retired[p] % window] >= 0:
                        retired_at[p * window + retired[p] % window] = -1
                        retired[p] += 1
                if state[p] == _NO_ROOM:
                    waiting = pc[p]
                    is_detached = forms[rows[waiting * ROW + FORM] * LINE + DETACHED]
                    if (in_queue[p] < queue) if is_detached else (issued[p] - retired[p] < window):
                        state[p] = _ISSUING
                        waits[waiting * N_WAITS + WAIT_WINDOW] += time - state_since[p]
                        issue_at[p] = time
            else:
                # Issue: skip the rows that are not active in this iteration, then take the next one.
                row = pc[p]
                end = stream_ptr[p + 1]
                sample = iteration[p]
                while iteration[p] < iterations:
                    if row == end:
                        row = stream_ptr[p]
                        iteration[p] += 1
                        if row == end:
                            iteration[p] = iterations
                        continue
                    sample = iteration[p] - rows[row * ROW + STAGE]
                    if 0 <= sample < samples:
                        break
                    row += 1
                pc[p] = row
                issue_at[p] = NEVER
                if iteration[p] >= iterations or time >= until:
                    state[p] = _FINISHED
                    continue
                line = rows[row * ROW + FORM] * LINE
                detached = forms[line + DETACHED]
                if (in_queue[p] >= queue) if detached else (issued[p] - retired[p] >= window):
                    state[p] = _NO_ROOM
                    state_since[p] = time
                    continue
                if rows[row * ROW + LEAD] > 0 and led[p] == 0:
                    led[p] = 1
                    issue_at[p] = time + rows[row * ROW + LEAD]
                    continue
                led[p] = 0
                s_n_free[p] -= 1
                slot = s_free[p * slots + s_n_free[p]]
                s = (p * slots + slot) * SLOT
                column = sample if kept >= samples else sample % kept
                flying[s + _ROW] = row
                flying[s + _LINE] = line
                flying[s + _SAMPLE] = sample
                flying[s + _COLUMN] = column
                flying[s + _MARK] = (age[p] << _AGE_BITS) | slot
                flying[s + _BEGIN] = forms[line + REPS] - 1
                flying[s + _END] = forms[line + REPS]
                flying[s + _POSTED] = 0
                flying[s + _SINCE] = time
                age[p] += 1
                where[column * n_rows + row] = p * slots + slot
                if kept < samples:
                    times[column * n_rows + row] = -1
                if detached:
                    in_queue[p] += 1
                else:
                    flying[s + _PLACE] = issued[p]
                    issued[p] += 1
                pc[p] = row + 1
                missing = 0
                ready = time
                for e in range(dep_ptr[row], dep_ptr[row + 1]):
                    if dep_distance[e] > sample:
                        continue
                    other_column = column - dep_distance[e]
                    while other_column < 0:
                        other_column += kept
                    finished = times[other_column * n_rows + dep_row[e]]
                    if finished < 0:
                        missing += 1
                        if processor[dep_row[e]] != p:
                            open_waits[p] += 1
                    elif finished > ready:
                        ready = finished
                flying[s + _MISSING] = missing
                flying[s + _READY] = ready
                if missing == 0:
                    flying[s + _DEPENDED] = ready - time
                    flying[s + _SINCE] = ready
                    first = 0 if forms[line + KIND] == COMPUTE or forms[line + POSTS] > 0 else _POST
                    if not push(events, n_events, capacity, p, ready, _key(forms, line, first, flying[s + _MARK])):
                        failed, failed_p = QUEUE_OVERFLOW, p
                if in_order and missing > 0:
                    state[p] = _HELD
                    held_slot[p] = p * slots + slot
                else:
                    issue_at[p] = (ready if in_order else time) + issue_cycles
    report[0] = n_done
    report[1] = n_handled
    for p in range(n_procs):
        # What is still in flight when issue has stopped.
        for slot in range(p * slots, (p + 1) * slots if s_n_free[p] < slots else p * slots):
            row = flying[slot * SLOT + _ROW]
            waits[row * N_WAITS + WAIT_RESOURCE] += flying[slot * SLOT + _WAITED]
            waits[row * N_WAITS + WAIT_DEPENDENCY] += flying[slot * SLOT + _DEPENDED]
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
