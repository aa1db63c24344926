"""Rows that say the same: each gets the number of the first one like it."""

from __future__ import annotations

import numpy as np

from pimloom.kernels._jit import jit

WORDS = 8  # of 64 bits, in a row
_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
_BYTE = np.uint64(255)


@jit
def number(words, word, shift, masks, used, beside, table, form, first):
    """Numbers the different rows in the order in which they first come.

    Args:
        words: uint64[n, WORDS]. The rows, bit by bit.
        word: int. Word that holds the opcode.
        shift: int. Its lowest bit there.
        masks: uint64[256, WORDS]. Bits that count, by opcode.
        used: int64[k]. Words of which any bit counts.
        beside: int64[n]. What must also be equal.
        table: int32[2 ** b], more than n, filled with 0. Scratch: forms by hash, from 1.
        form: int32[n]. Out: number of what each row says.
        first: int64[n]. Out: first row of each form.

    Returns:
        The number of forms.
    """
    last = np.uint64(table.size - 1)
    n_forms = 0
    bits = np.uint64(shift)
    for row in range(form.size):
        code = (words[row, word] >> bits) & _BYTE
        hashed = np.uint64(beside[row])
        for k in range(used.size):
            hashed = (hashed ^ (words[row, used[k]] & masks[code, used[k]])) * _FACTOR
            hashed ^= hashed >> _SHIFT
        place = hashed & last
        while True:
            found = table[place] - 1
            if found < 0:
                table[place] = n_forms + 1
                first[n_forms] = row
                form[row] = n_forms
                n_forms += 1
                break
            other = first[found]
            is_same = beside[other] == beside[row] and (words[other, word] >> bits) & _BYTE == code
            for k in range(used.size):
                is_same = is_same and ((words[row, used[k]] ^ words[other, used[k]]) & masks[code, used[k]]) == 0
            if is_same:
                form[row] = found
                break
            place = (place + np.uint64(1)) & last
    return n_forms


@jit
def over_streams(stream_ptr, form, lead, partner, own, of_partner, found):
    """Adds up what the rows of each stream take.

    Args:
        stream_ptr: int64[P + 1]. Rows of processor p are stream_ptr[p]:stream_ptr[p + 1].
        form: int32[n]. Of each row.
        lead: int32[n], cycles. Of each row.
        partner: int32[n]. The other end of a message, -1 for none.
        own: int64[f], cycles. What a row of each form takes; -1 for rows that take nothing.
        of_partner: int64[f], cycles. What a row of each form adds to what its partner takes.
        found: int64[P], cycles. Out: the sums.

    Returns:
        Nothing.
    """
    for p in range(stream_ptr.size - 1):
        total = 0
        for row in range(stream_ptr[p], stream_ptr[p + 1]):
            if own[form[row]] >= 0:
                total += own[form[row]] + lead[row]
                if partner[row] >= 0:
                    total += of_partner[form[partner[row]]]
        found[p] = total
