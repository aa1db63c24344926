"""Rows that say the same: each gets the number of the first one like it."""

from __future__ import annotations

import numpy as np

from pimloom.kernels._jit import jit

WORDS = 8  # of 64 bits, in a row
_FACTORS = tuple(np.uint64(pow(0xD1342543DE82EF95, k + 1, 2**64)) for k in range(WORDS + 1))
"""Odd, one for each word that is compared; powers, as sums of few words in even steps would often be equal."""
_HALF = np.uint64(32)
_BYTE = np.uint64(255)


@jit
def hash_of(key):
    """A hash of some words.

    Args:
        key: uint64[k]. At most WORDS + 1.

    Returns:
        64 bits, of which the upper ones are mixed best.
    """
    # One product a word, which do not wait for each other.
    hashed = key[0] * _FACTORS[0]
    for k in range(1, key.size):
        hashed += key[k] * _FACTORS[k]
    return (hashed ^ (hashed >> _HALF)) * _FACTORS[0]


@jit
def number(words, word, shift, used, masks, beside, table, key, keys, form, first, rows):
    """Numbers the different rows in the order in which they first come.

    Args:
        words: uint64[n, WORDS]. The rows, bit by bit.
        word: int. Word that holds the opcode.
        shift: int. Its lowest bit there.
        used: int64[k]. Words of which any bit counts.
        masks: uint64[256, k]. Bits of them that count, by opcode; those of the opcode always do.
        beside: int64[n]. What must also be equal.
        table: int32[2 ** b], more than n, filled with 0. Scratch: forms by hash, from 1.
        key: uint64[k + 1]. Scratch: what counts of a row.
        keys: uint64[n, k + 1]. Scratch: what counts of each form.
        form: int32[n]. Out: number of what each row says.
        first: int64[n]. Out: first row of each form.
        rows: int64[n], filled with 0. Out: how many rows are of each form.

    Returns:
        The number of forms.
    """
    last = np.uint64(table.size - 1)
    n_used = used.size
    n_forms = 0
    bits = np.uint64(shift)
    for row in range(form.size):
        code = (words[row, word] >> bits) & _BYTE
        key[n_used] = np.uint64(beside[row])
        for k in range(n_used):
            key[k] = words[row, used[k]] & masks[code, k]
        place = (hash_of(key) >> _HALF) & last
        while True:
            found = table[place] - 1
            if found < 0:
                table[place] = n_forms + 1
                first[n_forms] = row
                found = n_forms
                for k in range(n_used + 1):
                    keys[n_forms, k] = key[k]
                n_forms += 1
                break
            differs = np.uint64(0)
            for k in range(n_used + 1):
                differs |= key[k] ^ keys[found, k]
            if differs == 0:
                break
            place = (place + np.uint64(1)) & last
        form[row] = found
        rows[found] += 1
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
