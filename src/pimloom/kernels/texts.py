"""Takes lists of instructions apart that repeat the same few texts, and carries scalar instructions out on the way.

The texts of a list are set apart by one separator. A known text has holes for decimal numbers: its registers, and the constant of a
scalar instruction. A text is found again by comparing all its bytes but those numbers, eight at a time: first with the text that
loads registers, which is two thirds of all; then with the one that followed last time; else by its hash. What it means was
found out by a parser when it was new.
"""

from __future__ import annotations

from pimloom.kernels._jit import jit

ALL = 0
UNKNOWN = 1

CONSTANT, DESTINATION, FIRST, SECOND, KINDS = range(5)
"""What a number is: a constant, or a register."""

SEPARATOR, KNOWN = range(2)
"""Rows of `spans`: the separator, the first known text."""

START, FOLLOWER, RECORD, CODE, PAIR, HOLES, VALUES = range(7)
KIND_OF = VALUES + KINDS
MOST_HOLES = 4
LENGTH = KIND_OF + MOST_HOLES
COLUMNS = LENGTH + MOST_HOLES + 1
"""Columns of `spans`: where a text begins in the pool; the row of the one that followed; its record and code; the kind of the register
that is the first of a pair, -1 if none is; how many holes. From VALUES on the numbers of each kind, -1 for registers that it has
not; from KIND_OF on the kinds of the holes; from LENGTH on the bytes before, between and after the holes."""

PLACE, TEXTS, FOUND, LAST, LOADER, TEXT_LENGTH, HASH, STATES = range(8)
"""Cells of `state`."""

AT, FOUND_RECORD, FOUND_DESTINATION, FOUND_FIRST, FOUND_SECOND, FOUND_LOW, FOUND_ROWS = range(7)
"""Rows of `found`."""

LOAD_CONSTANT, LOAD, ADD, SUBTRACT, MULTIPLY, ADD_CONSTANT, MULTIPLY_CONSTANT = range(1, 8)
"""Codes of scalar instructions; those of all others are larger."""

WORD = 8
REGISTERS = 32
MOST_DIGITS = 9
QUOTE, COMMA, ZERO, NINE, FIRST_OF_REGISTER, FIRST_OF_CONSTANT = 34, 44, 48, 57, 114, 105
FNV_START = 1469598103934665603
FNV_PRIME = 1099511628211


@jit
def take(data, words, stop, pool, spans, slots, registers, numbers, found, state):
    """Goes through the texts of a list until its end or a text that is not known.

    Args:
        data: int8[n + 8]. The list; what the last eight bytes are does not matter.
        words: int64[n]. The eight bytes from each place on, not aligned.
        stop: int. Where the last text ends, at most n.
        pool: int64[m]. The eight bytes from each place of separator and known texts on, not aligned.
        spans: int64[k, COLUMNS]. Where these are in the pool, and what known texts mean.
        slots: int32[2 ** p]. Rows of `spans` of known texts by hash, -1 where none is; at least one is -1.
        registers: int64[33]. In and out: what the registers hold; the last one is 0 and stays so.
        numbers: int64[KINDS]. Scratch.
        found: int32[FOUND_ROWS, c]. Out: place and record of each instruction that is not scalar, and what its registers hold.
        state: int64[STATES]. In and out: place in the text, numbers of texts and of instructions found so far, rows of the known
            texts that came last and that loaded a register last; out: length of the unknown text, and its hash.

    Returns:
        ALL at the end of the list, UNKNOWN at a text to be made known.
    """
    i, n, n_found, last, loader = state[PLACE], state[TEXTS], state[FOUND], state[LAST], state[LOADER]
    status = ALL
    while True:
        known = loader
        end = _whole(data, words, i, stop, pool, spans, known, numbers) if known >= 0 else -1
        if end < 0:
            known = spans[last, FOLLOWER] if last >= 0 else -1
            if known >= 0:
                end = _whole(data, words, i, stop, pool, spans, known, numbers)
            if end < 0:
                end = _end(data, words, i, stop, pool, spans)
                h = _hash(data, i, end)
                known = _look_up(data, words, i, end, pool, spans, slots, h, numbers)
                if known < 0:
                    state[TEXT_LENGTH], state[HASH] = end - i, h
                    status = UNKNOWN
                    break
                if last >= 0:
                    spans[last, FOLLOWER] = known
        code = spans[known, CODE]
        a, b = registers[numbers[FIRST]], registers[numbers[SECOND]]
        if code == LOAD_CONSTANT:
            registers[numbers[DESTINATION]] = numbers[CONSTANT]
            loader = known
        else:
            last = known
            if code <= MULTIPLY_CONSTANT:
                registers[0 if code == LOAD else numbers[DESTINATION]] = result(code, a, b, numbers[CONSTANT])
            else:
                pair = spans[known, PAIR]
                found[AT, n_found], found[FOUND_RECORD, n_found] = n, spans[known, RECORD]
                found[FOUND_DESTINATION, n_found] = registers[numbers[DESTINATION]]
                found[FOUND_FIRST, n_found], found[FOUND_SECOND, n_found] = a, b
                found[FOUND_LOW, n_found] = registers[numbers[pair] + 1 if pair >= 0 else -1]
                n_found += 1
        n += 1
        i = end + spans[SEPARATOR, LENGTH]
        if end == stop:
            break
    state[PLACE], state[TEXTS], state[FOUND], state[LAST], state[LOADER] = i, n, n_found, last, loader
    return status


@jit
def result(code, first, second, constant):
    """What a scalar instruction writes: 32 bits, signed. A register loaded from memory is 0, as no reader knows better.

    Args:
        code: int. Of the instruction.
        first: int. What its first source holds.
        second: int. What its second source holds.
        constant: int. Its constant.

    Returns:
        int. The value.
    """
    value = 0
    if code == LOAD_CONSTANT:
        value = constant
    elif code == ADD:
        value = first + second
    elif code == SUBTRACT:
        value = first - second
    elif code == MULTIPLY:
        value = first * second
    elif code == ADD_CONSTANT:
        value = first + constant
    elif code == MULTIPLY_CONSTANT:
        value = first * constant
    return ((value + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)


@jit
def _whole(data, words, i, stop, pool, spans, row, numbers):
    """The end of a known text that begins at `i`, where the list ends or a separator follows; else -1. Fills in its numbers."""
    j = i
    b = spans[row, START]
    holes = spans[row, HOLES]
    for k in range(KINDS):
        numbers[k] = spans[row, VALUES + k]
    for hole in range(holes):
        j = _after(words, j, stop, pool, b, spans[row, LENGTH + hole])
        if j < 0:
            return -1
        b += spans[row, LENGTH + hole]
        kind = spans[row, KIND_OF + hole]
        first = j
        value = 0
        while j < stop and ZERO <= data[j] <= NINE and j - first <= MOST_DIGITS:
            value = value * 10 + data[j] - ZERO
            j += 1
        # JSON knows no zero before other digits.
        if j == first or j - first > MOST_DIGITS or (data[first] == ZERO and j - first > 1):
            return -1
        if kind != CONSTANT and value >= REGISTERS - (kind == spans[row, PAIR]):
            return -1
        numbers[kind] = value
    j = _after(words, j, stop, pool, b, spans[row, LENGTH + holes])
    if j == stop or (j >= 0 and _after(words, j, stop, pool, spans[SEPARATOR, START], spans[SEPARATOR, LENGTH]) >= 0):
        return j
    return -1


@jit
def _after(words, i, stop, pool, b, length):
    """The place after a piece of the pool, if the text has its bytes from `i` on; else -1."""
    if i + length > stop:
        return -1
    whole = length - length % WORD
    for o in range(0, whole, WORD):
        if words[i + o] != pool[b + o]:
            return -1
    rest = length - whole
    if rest and (words[i + whole] ^ pool[b + whole]) << (WORD * (WORD - rest)) != 0:
        return -1
    return i + length


@jit
def _end(data, words, i, stop, pool, spans):
    """Where the text ends that begins at `i`."""
    start, length = spans[SEPARATOR, START], spans[SEPARATOR, LENGTH]
    first = pool[start] & 0xFF
    for j in range(i, stop - length + 1):
        if data[j] == first and _after(words, j, stop, pool, start, length) >= 0:
            return j
    return stop


@jit
def _hash(data, i, end):
    """FNV-1a of the bytes from `i` to `end`, less the digits of what may be holes: of fields whose names begin with r or i."""
    h = FNV_START
    is_hole = False
    for j in range(i, end):
        c = data[j]
        if c == COMMA:
            is_hole = False
        elif j > i and data[j - 1] == QUOTE and c in (FIRST_OF_REGISTER, FIRST_OF_CONSTANT):
            is_hole = True
        if not (is_hole and ZERO <= c <= NINE):
            h = (h ^ c) * FNV_PRIME
    return h


@jit
def _look_up(data, words, i, end, pool, spans, slots, h, numbers):
    """The row of the known text from `i` to `end`, -1 if it is not known. Fills in its numbers."""
    slot = h & (slots.size - 1)
    while slots[slot] >= 0:
        row = slots[slot]
        if _whole(data, words, i, end, pool, spans, row, numbers) == end:
            return row
        slot = (slot + 1) & (slots.size - 1)
    return -1
