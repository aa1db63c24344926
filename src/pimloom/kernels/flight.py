"""Instances in flight on a processor: what is known of them, how they are issued, what their end tells, how they leave.

See `engine` for the rules.
"""

from __future__ import annotations

from pimloom.kernels._jit import jit
from pimloom.kernels.agenda import NEVER, push
from pimloom.kernels.booking import (
    CODE,
    COMPUTE,
    DETACHED,
    FIRST,
    FORM,
    KIND,
    LEAD,
    LINE,
    N_WAITS,
    PARTNER,
    POSTS,
    REPS,
    ROW,
    SEND,
    WAIT_DEPENDENCY,
    WAIT_MESSAGE,
    WAIT_RESOURCE,
    WAIT_WINDOW,
    next_active,
)  # fmt: skip

# Events, in their order at equal times.
COMPLETE, LOCAL, ISSUE, SHARED = range(4)

POST = 15  # in the place of a phase: the two ends of a message announce themselves

# What a processor does next: it issues, it has no room, an instance holds issue back, it is at its end.
_ISSUING, _NO_ROOM, _HELD, FINISHED = range(4)

# What is known of a processor, one line of a table per processor: the time of its next issue (NEVER where something else has to
# happen first), free slots, attached instances issued and retired, detached ones in flight, next row, its iteration, instances issued;
# what it does, whether the lead of the next row has passed, since when there is no room, the instance that issue waits for (-1 for
# none), rows awaited from other processors, sends that wait for their receive, and receives for their send.
ISSUE_AT, N_FREE, _ISSUED, _RETIRED, _IN_QUEUE, PC, ITERATION, _AGE = range(8)
STATE, _LED, _ROOM_SINCE, HELD, WAITS, SENDS, RECEIVES = range(8, 15)
CORE = 16  # length of a line

# What is known of an instance in flight, one line of a table per slot; what a request of a resource needs comes first.
SLOT_ROW, SLOT_LINE, BEGIN, END, MARK, WAITED, COLUMN, STARTED = range(8)
_PLACE, _MISSING, _READY, POSTED, SINCE, _DEPENDED, _SAMPLE = range(8, 15)
SLOT = 16

# A key of an event: class, age of the instance, phase, slot.
CLASS_BITS = 60
_AGE_BITS = 20
PHASE_BITS = 16
SLOT_MASK = (1 << PHASE_BITS) - 1
MAX_SLOTS = 1 << PHASE_BITS


@jit
def key_of(forms, line, phase, mark):
    """The key of an event that asks for a phase, or announces an end of a message.

    Args:
        forms: int32[f * LINE]. As `engine.run` takes them.
        line: int. Where the form begins.
        phase: int. The phase, or POST.
        mark: int. Age and slot of the instance.

    Returns:
        The key.
    """
    event = LOCAL if phase == POST else LOCAL + 2 * (forms[line + FIRST + phase * 4 + CODE] & 1)
    return (event << CLASS_BITS) | mark | (phase << PHASE_BITS)


@jit
def issue(
    p, time, stream_ptr, processor, samples, iterations, kept, until, rows, forms, dep_ptr, dep_row, dep_distance,
    window, queue, issue_cycles, in_order, capacity, times, where, events, n_events, cores, flying, s_free,
):  # fmt: skip
    """Issues the next row of a processor, if there is one and room for it, after its lead.

    Args:
        p: int. The processor.
        time: int. The cycle.
        stream_ptr: int64[P + 1]. As `engine.run` takes it, like all that follows.
        processor: int32[n]. The processor of each row.
        samples: int. Instances of each row.
        iterations: int. Times each stream runs.
        kept: int. Samples whose times are kept.
        until: int. Cycle from which nothing is issued.
        rows: int32[n * ROW]. What is known of rows.
        forms: int32[f * LINE]. What is known of forms.
        dep_ptr: int32[n + 1]. Dependencies of each row.
        dep_row: int32[m]. Row depended on.
        dep_distance: int32[m]. Samples back.
        window: int. Attached instances in flight per processor.
        queue: int. Detached instances in flight per processor.
        issue_cycles: int. Cycles between two issues.
        in_order: int. 1 to hold issue until dependencies are done.
        capacity: int. Events that one processor may have pending.
        times: int64[2 * kept * n], cycles. When instances are done; read, and emptied where a column is used again.
        where: int32[kept * n]. Out: the slot of the instance.
        events: int64[2 * P * capacity]. Heaps of events.
        n_events: int64[P]. Events in each.
        cores: int64[P * CORE]. What is known of processors.
        flying: int64[P * slots * SLOT]. What is known of instances in flight.
        s_free: int32[P * slots]. Free slots, a stack per processor.

    Returns:
        False if there is no room for an event.
    """
    n_rows = processor.size
    slots = window + queue
    c = p * CORE
    row, iteration, sample = next_active(
        stream_ptr[p], stream_ptr[p + 1], cores[c + PC], cores[c + ITERATION], iterations, samples, rows
    )  # fmt: skip
    cores[c + ITERATION] = iteration
    cores[c + PC] = row
    cores[c + ISSUE_AT] = NEVER
    if iteration >= iterations or time >= until:
        cores[c + STATE] = FINISHED
        return True
    line = rows[row * ROW + FORM] * LINE
    detached = forms[line + DETACHED]
    if (cores[c + _IN_QUEUE] >= queue) if detached else (cores[c + _ISSUED] - cores[c + _RETIRED] >= window):
        cores[c + STATE] = _NO_ROOM
        cores[c + _ROOM_SINCE] = time
        return True
    if rows[row * ROW + LEAD] > 0 and cores[c + _LED] == 0:
        cores[c + _LED] = 1
        cores[c + ISSUE_AT] = time + rows[row * ROW + LEAD]
        return True
    cores[c + _LED] = 0
    cores[c + N_FREE] -= 1
    slot = s_free[p * slots + cores[c + N_FREE]]
    s = (p * slots + slot) * SLOT
    column = sample if kept >= samples else sample % kept
    mark = (cores[c + _AGE] << _AGE_BITS) | slot
    flying[s + SLOT_ROW] = row
    flying[s + SLOT_LINE] = line
    flying[s + _SAMPLE] = sample
    flying[s + COLUMN] = column
    flying[s + MARK] = mark
    flying[s + BEGIN] = forms[line + REPS] - 1
    flying[s + END] = forms[line + REPS]
    flying[s + POSTED] = 0
    flying[s + SINCE] = time
    cores[c + _AGE] += 1
    where[column * n_rows + row] = p * slots + slot
    if kept < samples:
        times[column * n_rows + row] = -1
    if detached:
        cores[c + _IN_QUEUE] += 1
    else:
        flying[s + _PLACE] = cores[c + _ISSUED]
        cores[c + _ISSUED] += 1
    cores[c + PC] = row + 1
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
                cores[c + WAITS] += 1
        elif finished > ready:
            ready = finished
    flying[s + _MISSING] = missing
    flying[s + _READY] = ready
    if in_order and missing > 0:
        cores[c + STATE] = _HELD
        cores[c + HELD] = p * slots + slot
    else:
        cores[c + ISSUE_AT] = (ready if in_order else time) + issue_cycles
    if missing > 0:
        return True
    flying[s + _DEPENDED] = ready - time
    flying[s + SINCE] = ready
    first = 0 if forms[line + KIND] == COMPUTE or forms[line + POSTS] > 0 else POST
    return push(events, n_events, capacity, p, ready, key_of(forms, line, first, mark))


@jit
def tell(
    p, s, done, processor, samples, kept, rows, forms, next_ptr, next_row, next_distance,
    issue_cycles, capacity, times, waits, where, events, n_events, cores, flying, todo, in_todo, todo_n,
):  # fmt: skip
    """Tells who waits for an instance when it will be done.

    Args:
        p: int. Its processor.
        s: int. Where its slot begins.
        done: int. When it will be done.
        processor: int32[n]. The processor of each row, as `engine.run` takes it, like all that follows.
        samples: int. Instances of each row.
        kept: int. Samples whose times are kept.
        rows: int32[n * ROW]. What is known of rows.
        forms: int32[f * LINE]. What is known of forms.
        next_ptr: int32[n + 1]. Who depends on each row.
        next_row: int32[m]. Row that depends.
        next_distance: int32[m]. Samples forward.
        issue_cycles: int. Cycles between two issues.
        capacity: int. Events that one processor may have pending.
        times: int64[2 * kept * n], cycles. Out: when instances are done.
        waits: int64[n * N_WAITS], cycles. Out: the wait of a receive for its send.
        where: int32[kept * n]. The slot of an instance in flight.
        events: int64[2 * P * capacity]. Heaps of events.
        n_events: int64[P]. Events in each.
        cores: int64[P * CORE]. What is known of processors.
        flying: int64[P * slots * SLOT]. What is known of instances in flight.
        todo: int32[P]. Processors to look at before anything else.
        in_todo: int8[P]. 1 for those.
        todo_n: int. Their number.

    Returns:
        Their number then, and a processor that has no room for an event, -1 if none.
    """
    n_rows = processor.size
    full = -1
    row = flying[s + SLOT_ROW]
    column = flying[s + COLUMN]
    times[column * n_rows + row] = done
    if forms[flying[s + SLOT_LINE] + KIND] == SEND:
        other_row = rows[row * ROW + PARTNER]
        other_p = processor[other_row]
        o = where[column * n_rows + other_row] * SLOT
        cores[other_p * CORE + RECEIVES] -= 1
        waits[other_row * N_WAITS + WAIT_MESSAGE] += done - flying[o + SINCE]
        other_line = flying[o + SLOT_LINE]
        if not push(events, n_events, capacity, other_p, done, key_of(forms, other_line, forms[other_line + POSTS], flying[o + MARK])):
            full = other_p
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
            cores[owner * CORE + WAITS] -= 1
        if flying[o + _MISSING] == 0:
            ready = flying[o + _READY]
            flying[o + _DEPENDED] = ready - flying[o + SINCE]
            flying[o + SINCE] = ready
            other_line = flying[o + SLOT_LINE]
            first = 0 if forms[other_line + KIND] == COMPUTE or forms[other_line + POSTS] > 0 else POST
            if not push(events, n_events, capacity, owner, ready, key_of(forms, other_line, first, flying[o + MARK])):
                full = owner
            if cores[owner * CORE + HELD] == other:
                cores[owner * CORE + HELD] = -1
                cores[owner * CORE + STATE] = _ISSUING
                cores[owner * CORE + ISSUE_AT] = ready + issue_cycles
        if owner != p and in_todo[owner] == 0:
            todo[todo_n] = owner
            in_todo[owner] = 1
            todo_n += 1
    return todo_n, full


@jit
def leave(p, slot, time, n_rows, kept, window, queue, rows, forms, times, waits, where, cores, flying, s_free, retired_at):
    """Takes an instance that is done out of its slot; a processor that had no room may issue again.

    Args:
        p: int. Its processor.
        slot: int. Its slot there.
        time: int. The cycle.
        n_rows: int. Rows of the program.
        kept: int. Samples whose times are kept.
        window: int. Attached instances in flight per processor.
        queue: int. Detached instances in flight per processor.
        rows: int32[n * ROW]. As `engine.run` takes them, like all that follows.
        forms: int32[f * LINE]. What is known of forms.
        times: int64[2 * kept * n], cycles. Out: when instances first start a phase.
        waits: int64[n * N_WAITS], cycles. Out: what it and the next row have waited.
        where: int32[kept * n]. Out: it is not in flight any more.
        cores: int64[P * CORE]. What is known of processors.
        flying: int64[P * slots * SLOT]. What is known of instances in flight.
        s_free: int32[P * slots]. Free slots, a stack per processor.
        retired_at: int64[P * window]. Done times of the attached instances in the window, -1 for those in flight.

    Returns:
        Nothing.
    """
    c = p * CORE
    s = (p * (window + queue) + slot) * SLOT
    row = flying[s + SLOT_ROW]
    column = flying[s + COLUMN]
    times[(kept + column) * n_rows + row] = flying[s + STARTED]
    where[column * n_rows + row] = -1
    settle(s, waits, flying)
    s_free[p * (window + queue) + cores[c + N_FREE]] = slot
    cores[c + N_FREE] += 1
    if forms[flying[s + SLOT_LINE] + DETACHED]:
        cores[c + _IN_QUEUE] -= 1
    else:
        retired_at[p * window + flying[s + _PLACE] % window] = time
        retired = cores[c + _RETIRED]
        while retired < cores[c + _ISSUED] and retired_at[p * window + retired % window] >= 0:
            retired_at[p * window + retired % window] = -1
            retired += 1
        cores[c + _RETIRED] = retired
    if cores[c + STATE] == _NO_ROOM:
        waiting = cores[c + PC]
        is_detached = forms[rows[waiting * ROW + FORM] * LINE + DETACHED]
        if (cores[c + _IN_QUEUE] < queue) if is_detached else (cores[c + _ISSUED] - cores[c + _RETIRED] < window):
            cores[c + STATE] = _ISSUING
            waits[waiting * N_WAITS + WAIT_WINDOW] += time - cores[c + _ROOM_SINCE]
            cores[c + ISSUE_AT] = time


@jit
def settle(s, waits, flying):
    """Adds what an instance has waited to what its row has.

    Args:
        s: int. Where its slot begins.
        waits: int64[n * N_WAITS], cycles. Out: waiting time of each row by cause.
        flying: int64[P * slots * SLOT]. What is known of instances in flight.

    Returns:
        Nothing.
    """
    row = flying[s + SLOT_ROW]
    waits[row * N_WAITS + WAIT_RESOURCE] += flying[s + WAITED]
    waits[row * N_WAITS + WAIT_DEPENDENCY] += flying[s + _DEPENDED]
    flying[s + WAITED] = 0
    flying[s + _DEPENDED] = 0
