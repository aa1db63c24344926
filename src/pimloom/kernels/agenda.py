"""What is to come: a heap of events per processor, and an agenda of the processors that have to wait for their turn.

The agenda is a ring of buckets, one per cycle, each a list of processors in order, and a heap for what lies further ahead than
the ring reaches. A processor has one entry at most; entries in the heap that are not valid any more are skipped.
"""

from __future__ import annotations

from pimloom.kernels._jit import jit
from pimloom.kernels.heaps import put, replace_first, take

NEVER = 1 << 60
RING = 2048
CURSOR, _SCAN, _IN_RING, _IN_HEAP = range(4)


@jit
def push(events, n_events, capacity, p, time, key):
    """Puts an event into the heap of a processor.

    Args:
        events: int64[2 * P * capacity]. Of each processor a heap of (time, key).
        n_events: int64[P]. Events in each.
        capacity: int. Room in each.
        p: int. The processor.
        time: int. Cycle of the event.
        key: int. Orders events of one cycle.

    Returns:
        False if the heap is full.
    """
    n = n_events[p]
    if n >= capacity:
        return False
    n_events[p] = put(events, p * capacity, n, time, key)
    return True


@jit
def replace(events, n_events, capacity, p, time, key):
    """Puts an event in the place of the earliest in the heap of a processor.

    Args:
        events: int64[2 * P * capacity]. Of each processor a heap of (time, key).
        n_events: int64[P]. Events in each.
        capacity: int. Room in each.
        p: int. The processor.
        time: int. Cycle of the event.
        key: int. Orders events of one cycle.

    Returns:
        Nothing.
    """
    replace_first(events, p * capacity, n_events[p], time, key)


@jit
def drop(events, n_events, capacity, p):
    """Takes the earliest event out of the heap of a processor.

    Args:
        events: int64[2 * P * capacity]. Of each processor a heap of (time, key).
        n_events: int64[P]. Events in each, at least one in this.
        capacity: int. Room in each.
        p: int. The processor.

    Returns:
        Nothing.
    """
    n_events[p] = take(events, p * capacity, n_events[p])


@jit
def earliest(queue, ring, queued, heap, p_bits):
    """The earliest entry of the agenda.

    Args:
        queue: int64[4]. State of the agenda: CURSOR, _SCAN, _IN_RING, _IN_HEAP.
        ring: int64[RING]. First processor of each bucket, -1 for none.
        queued: int64[P]. Entry of each processor, -1 for none.
        heap: int64[>= 2 P]. Entries far ahead, and some to be skipped.
        p_bits: int. Bits of a processor's number.

    Returns:
        `(time * 4 + class) << p_bits | processor`; NEVER if there is none.
    """
    mask = (1 << p_bits) - 1
    while queue[_IN_HEAP] > 0 and queued[heap[0] & mask] != heap[0]:
        sink(heap, queue)  # its processor has another entry
    best = heap[0] if queue[_IN_HEAP] > 0 else NEVER
    if queue[_IN_RING] > 0:
        at = queue[_SCAN]
        while ring[at & (RING - 1)] < 0:
            at += 1
        queue[_SCAN] = at
        best = min(best, queued[ring[at & (RING - 1)]])
    return best


@jit
def sink(heap, queue):
    """Takes the top off the heap of far entries.

    Args:
        heap: int64[>= 2 P]. The heap.
        queue: int64[4]. State of the agenda.

    Returns:
        Nothing.
    """
    n = queue[_IN_HEAP] - 1
    queue[_IN_HEAP] = n
    moved = heap[n]
    i = 0
    while 2 * i + 1 < n:
        child = 2 * i + 1
        if child + 1 < n and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= moved:
            break
        heap[i] = heap[child]
        i = child
    heap[i] = moved


@jit
def rise(heap, queue, entry):
    """Puts an entry into the heap of far entries.

    Args:
        heap: int64[>= 2 P]. The heap, with room.
        queue: int64[4]. State of the agenda.
        entry: int. What to put there.

    Returns:
        Nothing.
    """
    i = queue[_IN_HEAP]
    queue[_IN_HEAP] = i + 1
    while i > 0 and heap[(i - 1) >> 1] > entry:
        heap[i] = heap[(i - 1) >> 1]
        i = (i - 1) >> 1
    heap[i] = entry


@jit
def leave(queue, ring, following, queued, is_far, p, p_bits):
    """Takes a processor out of the agenda; in the heap its entry is left to be skipped.

    Args:
        queue: int64[4]. State of the agenda.
        ring: int64[RING]. First processor of each bucket, -1 for none.
        following: int64[P]. Next processor of the same bucket, -1 for none.
        queued: int64[P]. Entry of each processor, -1 for none.
        is_far: int8[P]. Whether that entry is in the heap.
        p: int. The processor, which is in the agenda.
        p_bits: int. Bits of a processor's number.

    Returns:
        Nothing.
    """
    if not is_far[p]:
        bucket = (queued[p] >> (p_bits + 2)) & (RING - 1)
        if ring[bucket] == p:
            ring[bucket] = following[p]
        else:
            other = ring[bucket]
            while following[other] != p:
                other = following[other]
            following[other] = following[p]
        queue[_IN_RING] -= 1
    queued[p] = -1


@jit
def enter(queue, ring, following, queued, is_far, heap, p, entry, p_bits):
    """Puts a processor into the agenda.

    Args:
        queue: int64[4]. State of the agenda.
        ring: int64[RING]. First processor of each bucket, -1 for none.
        following: int64[P]. Next processor of the same bucket, -1 for none.
        queued: int64[P]. Entry of each processor, -1 for none.
        is_far: int8[P]. Whether that entry is in the heap.
        heap: int64[>= 2 P]. Entries far ahead.
        p: int. The processor, which is not in the agenda.
        entry: int. `(time * 4 + class) << p_bits | processor`, at or after CURSOR.
        p_bits: int. Bits of a processor's number.

    Returns:
        Nothing.
    """
    time = entry >> (p_bits + 2)
    if time - queue[CURSOR] >= RING:
        if queue[_IN_HEAP] == heap.size:
            n = queue[_IN_HEAP]
            queue[_IN_HEAP] = 0
            for i in range(n):  # keep what is not to be skipped
                kept = heap[i]
                other = kept & ((1 << p_bits) - 1)
                if queued[other] == kept:
                    queued[other] = -1
                    rise(heap, queue, kept)
            for i in range(queue[_IN_HEAP]):
                queued[heap[i] & ((1 << p_bits) - 1)] = heap[i]
        queued[p] = entry
        is_far[p] = 1
        rise(heap, queue, entry)
        return
    queued[p] = entry
    is_far[p] = 0
    bucket = time & (RING - 1)
    if queue[_IN_RING] == 0 or time < queue[_SCAN]:
        queue[_SCAN] = time
    queue[_IN_RING] += 1
    if ring[bucket] < 0 or queued[ring[bucket]] > entry:
        following[p] = ring[bucket]
        ring[bucket] = p
        return
    other = ring[bucket]
    while following[other] >= 0 and queued[following[other]] < entry:
        other = following[other]
    following[p] = following[other]
    following[other] = p
