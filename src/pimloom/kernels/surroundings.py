"""What stands around each row of a list, packed into one number."""

from __future__ import annotations

from pimloom.kernels._jit import jit

FIRST = 0
"""Bit of the first row of a list."""
LAST = 1
"""Bit of the last one."""
GAP = 2
"""Lowest bit of how many places of the list lie between a row and the one before."""
OTHER_LENGTH = 31
"""Lowest bit of the length of the other end of a message."""
MOST_GAP = (1 << (OTHER_LENGTH - GAP)) - 1


@jit
def pack(stream_ptr, position, length, partner, found):
    """Packs what stands around each row.

    Args:
        stream_ptr: int64[P + 1]. Rows of list p are stream_ptr[p]:stream_ptr[p + 1].
        position: int32[n]. Place of each row in its list, from 0, rising.
        length: int32[n]. Of each row.
        partner: int32[n]. The other end of a message, -1 for none.
        found: int64[n]. Out: bits as above.

    Returns:
        The largest gap.
    """
    most = 0
    for p in range(stream_ptr.size - 1):
        begin, end = stream_ptr[p], stream_ptr[p + 1]
        previous = -1
        for row in range(begin, end):
            gap = position[row] - previous - 1
            most = max(most, gap)
            previous = position[row]
            packed = gap << GAP
            if row == begin:
                packed |= 1 << FIRST
            if row == end - 1:
                packed |= 1 << LAST
            if partner[row] >= 0:
                packed |= length[partner[row]] << OTHER_LENGTH
            found[row] = packed
    return most
