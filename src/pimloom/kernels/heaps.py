"""What comes first: heaps of (key, value) in one array, by key, then value; and a tree where all that may come is known."""

from __future__ import annotations

from pimloom.kernels._jit import jit

NOTHING = (1 << 63) - 1
"""Key, in a tree, of who does not take part."""


@jit
def put(heap, base, n, key, value):
    """Puts an entry into a heap.

    Args:
        heap: int64[2 * k]. Pairs (key, value), in which the heap has room after its entries.
        base: int. Pair at which it begins.
        n: int. Its entries.
        key: int. What decides.
        value: int. What decides between equal keys.

    Returns:
        n + 1.
    """
    i = n
    while i > 0:
        up = (i - 1) >> 1
        at = 2 * (base + up)
        if heap[at] < key or (heap[at] == key and heap[at + 1] <= value):
            break
        heap[2 * (base + i)] = heap[at]
        heap[2 * (base + i) + 1] = heap[at + 1]
        i = up
    heap[2 * (base + i)] = key
    heap[2 * (base + i) + 1] = value
    return n + 1


@jit
def replace_first(heap, base, n, key, value):
    """Puts an entry in the place of the first of a heap.

    Args:
        heap: int64[2 * k]. Pairs (key, value).
        base: int. Pair at which the heap begins.
        n: int. Its entries; with none, nothing is done that matters.
        key: int. What decides.
        value: int. What decides between equal keys.

    Returns:
        n.
    """
    i = 0
    while True:
        child = 2 * i + 1
        if child >= n:
            break
        at = 2 * (base + child)
        if child + 1 < n and (heap[at + 2] < heap[at] or (heap[at + 2] == heap[at] and heap[at + 3] < heap[at + 1])):
            child += 1
            at += 2
        if key < heap[at] or (key == heap[at] and value <= heap[at + 1]):
            break
        heap[2 * (base + i)] = heap[at]
        heap[2 * (base + i) + 1] = heap[at + 1]
        i = child
    heap[2 * (base + i)] = key
    heap[2 * (base + i) + 1] = value
    return n


@jit
def take(heap, base, n):
    """Drops the first entry of a heap.

    Args:
        heap: int64[2 * k]. Pairs (key, value).
        base: int. Pair at which the heap begins.
        n: int. Its entries, at least one.

    Returns:
        n - 1.
    """
    last = 2 * (base + n - 1)
    return replace_first(heap, base, n - 1, heap[last], heap[last + 1])


@jit
def enter(tree, n, which, key):
    """Gives one of n entrants another key, in a tree of the least keys: no branch depends on keys.

    Args:
        tree: int64[2 * n], filled with NOTHING. Node i has the lesser key of nodes 2 * i and 2 * i + 1, tree[1] the least of all;
            tree[n + which] is the key of an entrant.
        n: int. Entrants, at least 1.
        which: int. The one.
        key: int. At most NOTHING, which leaves it out.

    Returns:
        Nothing.
    """
    i = n + which
    tree[i] = key
    while i > 1:
        key = min(key, tree[i ^ 1])
        i >>= 1
        tree[i] = key
