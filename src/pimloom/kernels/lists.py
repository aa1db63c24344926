"""List scheduling of rows on processors that do one thing at a time and meet for their messages.

Each processor takes, whenever it is free, a message whose other end waits with it already (of several, any), else the message
that waits longest, else the ready row of least priority value. A processor that has chosen a message stays with it until the
other end is free. Processors never wait for each other in a circle: who would close one finds an end that waits with it, and
takes that message.
"""

from __future__ import annotations

from pimloom.kernels._jit import jit
from pimloom.kernels.heaps import put, take

COMPUTE = 0
SEND = 1


@jit
def schedule(
    samples, processor, kind, partner, duration, priority, period, next_ptr, next_row, next_distance, handshake, missing, start,
    work, work_base, n_work, messages, messages_base, n_messages, agenda, chosen, is_free, ends_ready, has_started,
):  # fmt: skip
    """Schedules `samples` instances of every row.

    Args:
        samples: int. Instances of each row; instance (row, sample) is number row * samples + sample.
        processor: int32[n]. The processor of each row.
        kind: int8[n]. COMPUTE, SEND, or anything else for the receiving end of a message.
        partner: int32[n]. The other end of a message, -1 for COMPUTE.
        duration: int64[n], cycles, at least 1.
        priority: int64[n]. Place of each row in the order that is preferred; smaller comes first.
        period: int. What a later sample adds to the priority.
        next_ptr: int64[n + 1]. Edges from row i are next_row[next_ptr[i]:next_ptr[i + 1]].
        next_row: int64[m]. Row that has to wait for the end of i.
        next_distance: int64[m]. Its sample minus that of i, at least 0.
        handshake: int. Cycles from the meeting of send and receive to the start.
        missing: int32[n * samples]. Edges into each instance from instances that exist; used up.
        start: int64[n * samples], cycles. Out: start of each instance; filled with -1.
        work: int64[2 * (n * samples + 1)]. Scratch: heaps of ready rows.
        work_base: int64[P + 1]. First entry of the heap of each processor.
        n_work: int64[P], filled with 0. Entries.
        messages: int64[2 * (n * samples + 1)]. Scratch: heaps of messages whose ends are ready.
        messages_base: int64[P + 1]. First entry of the heap of each processor.
        n_messages: int64[P], filled with 0. Entries.
        agenda: int64[2 * (3 * n_rows_in_flight)]. Scratch: heap of (time, what) with 8 P + n * samples entries.
        chosen: int64[P], filled with -1. Scratch: instance of the send that a processor stays with.
        is_free: int8[P], filled with 1. Scratch.
        ends_ready: int8[n * samples], filled with 0. Scratch.
        has_started: int8[n * samples], filled with 0. Scratch.

    Returns:
        Instances scheduled: all of them, unless edges and messages form a circle.
    """
    n, n_procs = processor.size, n_work.size
    total = n * samples
    n_agenda = 0
    n_done = 0
    for i in range(total):
        if missing[i] == 0:
            r = i // samples
            if kind[r] == COMPUTE:
                p = processor[r]
                n_work[p] = put(work, work_base[p], n_work[p], priority[r] + (i - r * samples) * period, i)
            else:
                ends_ready[i] = 1
                other = partner[r] * samples + i - r * samples
                if ends_ready[other]:
                    send = i if kind[r] == SEND else other
                    for end in (i, other):
                        p = processor[end // samples]
                        n_messages[p] = put(messages, messages_base[p], n_messages[p], 0, send)
    for p in range(n_procs):
        n_agenda = put(agenda, 0, n_agenda, 0, total + p)
    while n_agenda > 0:
        now, what = agenda[0], agenda[1]
        n_agenda = take(agenda, 0, n_agenda)
        if what < total:
            # The end of an instance: what waited for it may be ready.
            n_done += 1
            r = what // samples
            sample = what - r * samples
            for e in range(next_ptr[r], next_ptr[r + 1]):
                other_sample = sample + next_distance[e]
                if other_sample >= samples:
                    continue
                q = next_row[e]
                j = q * samples + other_sample
                missing[j] -= 1
                if missing[j] > 0:
                    continue
                if kind[q] == COMPUTE:
                    p = processor[q]
                    n_work[p] = put(work, work_base[p], n_work[p], priority[q] + other_sample * period, j)
                    if is_free[p]:
                        n_agenda = put(agenda, 0, n_agenda, now, total + p)
                    continue
                ends_ready[j] = 1
                other = partner[q] * samples + other_sample
                if ends_ready[other]:
                    send = j if kind[q] == SEND else other
                    for end in (j, other):
                        p = processor[end // samples]
                        n_messages[p] = put(messages, messages_base[p], n_messages[p], now, send)
                        if is_free[p]:
                            n_agenda = put(agenda, 0, n_agenda, now, total + p)
            continue
        p = what - total
        if p >= n_procs:
            p -= n_procs
            is_free[p] = 1
        if not is_free[p] or chosen[p] >= 0:
            continue
        base = messages_base[p]
        while n_messages[p] > 0 and has_started[messages[2 * base + 1]]:
            n_messages[p] = take(messages, base, n_messages[p])
        send = -1
        for k in range(n_messages[p]):
            one = messages[2 * (base + k) + 1]
            if not has_started[one]:
                a, b = processor[one // samples], processor[partner[one // samples]]
                if chosen[b if a == p else a] == one:
                    send = one
                    break
        if send < 0 and n_messages[p] > 0:
            send = messages[2 * base + 1]
        if send >= 0:
            r = send // samples
            q = partner[r]
            receive = q * samples + send - r * samples
            a, b = processor[r], processor[q]
            other = b if a == p else a
            if not (chosen[other] == send or (is_free[other] and chosen[other] < 0)):
                chosen[p] = send
                continue
            has_started[send] = 1
            chosen[other] = -1
            start[send] = now
            start[receive] = now
            sent = now + handshake + duration[r]
            received = sent + duration[q]
            is_free[a] = 0
            is_free[b] = 0
            n_agenda = put(agenda, 0, n_agenda, sent, send)
            n_agenda = put(agenda, 0, n_agenda, sent, total + n_procs + a)
            n_agenda = put(agenda, 0, n_agenda, received, receive)
            n_agenda = put(agenda, 0, n_agenda, received, total + n_procs + b)
        elif n_work[p] > 0:
            i = work[2 * work_base[p] + 1]
            n_work[p] = take(work, work_base[p], n_work[p])
            start[i] = now
            end = now + duration[i // samples]
            is_free[p] = 0
            n_agenda = put(agenda, 0, n_agenda, end, i)
            n_agenda = put(agenda, 0, n_agenda, end, total + n_procs + p)
    return n_done
