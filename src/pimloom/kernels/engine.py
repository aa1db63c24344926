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

from pimloom.kernels import flight
from pimloom.kernels._jit import jit
from pimloom.kernels.agenda import CURSOR, NEVER, drop, earliest, enter, leave, push, replace, sink
from pimloom.kernels.booking import (
    CODE,
    DEADLOCK,
    FIRST,
    HOLD,
    KIND,
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
    TIME_OVERFLOW,
    WAIT_MESSAGE,
    acquire,
)  # fmt: skip
from pimloom.kernels.flight import (
    BEGIN,
    CLASS_BITS,
    COLUMN,
    COMPLETE,
    CORE,
    END,
    FINISHED,
    ISSUE,
    ISSUE_AT,
    ITERATION,
    LOCAL,
    MARK,
    N_FREE,
    PC,
    PHASE_BITS,
    POST,
    POSTED,
    RECEIVES,
    SENDS,
    SHARED,
    SINCE,
    SLOT,
    SLOT_LINE,
    SLOT_MASK,
    SLOT_ROW,
    STARTED,
    STATE,
    WAITED,
    WAITS,
    key_of,
)  # fmt: skip


@jit
def run(
    stream_ptr, processor, samples, iterations, kept, until, rows, forms,
    dep_ptr, dep_row, dep_distance, next_ptr, next_row, next_distance,
    route_ptr, route_link, gap_ptr, gap_before, gap_after, gap_cycles,
    window, queue, issue_cycles, in_order, serial, handshake, hop, wormhole, capacity,
    times, waits, where, rounds, place, report,
    free, last, n_commands, events, n_events, cores, flying, s_free, retired_at, wait_ahead, send_ahead, receive_ahead,
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
        cores: int64[P * CORE], what is known of processors: see `flight`.
        flying: int64[P * slots * SLOT], what is known of instances in flight.
        s_free: int32[P * slots], free slots, a stack per processor.
        retired_at: int64[P * window], done times of the attached instances in the window.
        wait_ahead: int64[P], least cycles from an event of another processor until a row that is awaited from it can be done.
        send_ahead: int64[P], the same until a send that waits can change what its processor does by itself.
        receive_ahead: int64[P], the same until a receive that waits can.
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
            c = p * CORE
        else:
            top = earliest(order, ring, queued, heap, p_bits)
            if top == NEVER:
                break
            p = top & p_mask
            c = p * CORE
            leave(order, ring, following, queued, is_far, p, p_bits)
            order[CURSOR] = top >> (p_bits + 2)
            if is_far[p]:
                sink(heap, order)
            # It may also have moved on without the queue; then it has to queue again.
            time, event = cores[c + ISSUE_AT], ISSUE
            if n_events[p] > 0:
                at = 2 * p * capacity
                if events[at] < time or (events[at] == time and (events[at + 1] >> CLASS_BITS) < ISSUE):
                    time, event = events[at], events[at + 1] >> CLASS_BITS
            must_queue = (((time * 4 + event) << p_bits) | p) != top
        while failed == OK:
            time, event, key = cores[c + ISSUE_AT], ISSUE, 0
            if n_events[p] > 0:
                at = 2 * p * capacity
                if events[at] < time or (events[at] == time and (events[at + 1] >> CLASS_BITS) < ISSUE):
                    time, key = events[at], events[at + 1]
                    event = key >> CLASS_BITS
            if time == NEVER:
                break
            if must_queue and (event == SHARED or cores[c + WAITS] > 0 or cores[c + SENDS] > 0 or cores[c + RECEIVES] > 0):
                entry = ((time * 4 + event) << p_bits) | p
                if queued[p] == entry:
                    break
                first = earliest(order, ring, queued, heap, p_bits)
                least = time - (first >> (p_bits + 2))
                may_go = event != SHARED and (cores[c + WAITS] == 0 or least < wait_ahead[p])
                may_go = may_go and (cores[c + SENDS] == 0 or least < send_ahead[p])
                may_go = may_go and (cores[c + RECEIVES] == 0 or least < receive_ahead[p])
                if todo_n > 0 or (first < entry and not may_go):
                    if queued[p] >= 0:
                        leave(order, ring, following, queued, is_far, p, p_bits)
                    enter(order, ring, following, queued, is_far, heap, p, entry, p_bits)
                    break
            must_queue = True
            n_handled += 1
            if event == LOCAL or event == SHARED:  # noqa: SIM109
                slot = key & SLOT_MASK
                s = (p * slots + slot) * SLOT
                row = flying[s + SLOT_ROW]
                line = flying[s + SLOT_LINE]
                phase = (key >> PHASE_BITS) & 15
                if phase == POST:
                    drop(events, n_events, capacity, p)
                    # Send and receive meet.
                    is_send = forms[line + KIND] == SEND
                    other_row = rows[row * ROW + PARTNER]
                    other = where[flying[s + COLUMN] * n_rows + other_row]
                    flying[s + POSTED] = 1
                    flying[s + SINCE] = time
                    if other < 0 or flying[other * SLOT + POSTED] == 0:
                        cores[c + (SENDS if is_send else RECEIVES)] += 1
                        continue
                    meet = max(time, flying[other * SLOT + SINCE])  # the other end may have run ahead
                    send, send_p = (p * slots + slot, p) if is_send else (other, processor[other_row])
                    waits[flying[send * SLOT + SLOT_ROW] * N_WAITS + WAIT_MESSAGE] += meet - flying[send * SLOT + SINCE]
                    if not is_send:
                        cores[send_p * CORE + SENDS] -= 1
                        cores[c + RECEIVES] += 1  # for the data
                    line = flying[send * SLOT + SLOT_LINE]
                    key = key_of(forms, line, forms[line + POSTS], flying[send * SLOT + MARK])
                    if not push(events, n_events, capacity, send_p, meet + handshake, key):
                        failed, failed_p = QUEUE_OVERFLOW, send_p
                    if send_p != p and in_todo[send_p] == 0:
                        todo[todo_n] = send_p
                        in_todo[send_p] = 1
                        todo_n += 1
                    continue
                x = line + FIRST + phase * 4
                passing = forms[x + PASS]
                begin = acquire(forms[x + RES], forms[x + HOLD], forms[x + CODE], time, free, last, n_commands, hop, wormhole,
                                route_ptr, route_link, gap_ptr, gap_before, gap_after, gap_cycles)  # fmt: skip
                flying[s + WAITED] += begin - time
                if begin > MAX_TIME:
                    failed, failed_p = TIME_OVERFLOW, p
                n = forms[line + PHASES]
                mark = flying[s + MARK]
                to_begin = flying[s + BEGIN]
                if phase == 0 and to_begin == forms[line + REPS] - 1:
                    flying[s + STARTED] = begin
                # The first of what follows takes the place of this event in the heap.
                stored = True
                if phase + 1 < n:
                    next_phase = POST if phase + 1 == forms[line + POSTS] else phase + 1
                    replace(events, n_events, capacity, p, begin + passing, key_of(forms, line, next_phase, mark))
                else:
                    flying[s + END] -= 1
                    if flying[s + END] == 0:
                        # Now it is known when it will be done, and who waits for that is told: its processor can run ahead until then.
                        replace(events, n_events, capacity, p, begin + passing, mark)
                        todo_n, full = flight.tell(
                            p, s, begin + passing, processor, samples, kept, rows, forms, next_ptr, next_row, next_distance,
                            issue_cycles, capacity, times, waits, where, events, n_events, cores, flying, todo, in_todo, todo_n,
                        )  # fmt: skip
                        if full >= 0:
                            failed, failed_p = QUEUE_OVERFLOW, full
                    else:
                        drop(events, n_events, capacity, p)
                if to_begin > 0 and ((phase + 1 == n) if serial else (phase == 1 or n == 1)):
                    flying[s + BEGIN] = to_begin - 1
                    again = begin + passing if (serial or n == 1) else begin
                    stored = push(events, n_events, capacity, p, again, key_of(forms, line, 0, mark))
                if not stored:
                    failed, failed_p = QUEUE_OVERFLOW, p
            elif event == COMPLETE:
                drop(events, n_events, capacity, p)
                flight.leave(
                    p, key & SLOT_MASK, time, n_rows, kept, window, queue, rows, forms, times, waits, where, cores, flying, s_free,
                    retired_at,
                )  # fmt: skip
                n_done += 1
            elif not flight.issue(
                p, time, stream_ptr, processor, samples, iterations, kept, until, rows, forms, dep_ptr, dep_row, dep_distance,
                window, queue, issue_cycles, in_order, capacity, times, where, events, n_events, cores, flying, s_free,
            ):  # fmt: skip
                failed, failed_p = QUEUE_OVERFLOW, p
    report[0] = n_done
    report[1] = n_handled
    for p in range(n_procs):
        c = p * CORE
        # What is still in flight when issue has stopped.
        for slot in range(p * slots, (p + 1) * slots if cores[c + N_FREE] < slots else p * slots):
            flight.settle(slot * SLOT, waits, flying)
        if stream_ptr[p] == stream_ptr[p + 1]:
            continue
        is_whole = cores[c + PC] == stream_ptr[p + 1] and cores[c + ITERATION] < iterations
        rounds[p] = cores[c + ITERATION] + 1 if is_whole else cores[c + ITERATION]
        place[p] = 0 if is_whole else cores[c + PC] - stream_ptr[p]
    if failed != OK:
        report[2] = failed_p
        return failed
    if until < MAX_TIME:
        return OK  # who waits at that time may wait for something that was not issued any more
    for p in range(n_procs):
        if cores[p * CORE + STATE] != FINISHED or cores[p * CORE + N_FREE] != slots:
            report[2] = p
            return DEADLOCK
    return OK
