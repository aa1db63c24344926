"""Messages of one byte that say "it is in global memory now".

pimsim-nn orders cores only by messages and events. A core that reads from global memory what another one has written
there waits for a message. Event registers would not do: one `sync` too many before the `wait`, which happens as soon as
lists are repeated, and pimsim-nn waits forever.

A message makes both cores wait for each other, so its place on the writing core matters: it is not sent right behind the
write, but where all lists together have come when the reader needs it. Lists that follow one common order then still do.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.program.isa import INSTRUCTIONS, SEND
from pimloom.program.program import Program

TOKEN_BYTES: Final = 1
Tokens = dict[int, list[tuple[bool, int]]]


def find_tokens(program: Program) -> Tokens:
    """What has to be done before each row: (True, core) sends a token, (False, core) receives one.

    Tokens that a core sends after its last row stand under `after_all(core)`.
    """
    waits = _waits(program)
    if not waits:
        return {}
    place_of, order = _common_order(program, waits)
    found: Tokens = defaultdict(list)
    told: dict[tuple[int, int], int] = {}  # (writer, reader) to the last row of the writer that was announced
    processor = program.rows["processor"]
    line = {core: [row for row in order if processor[row] == core] for core in {int(processor[s]) for w in waits.values() for s in w}}
    places = {core: np.array([place_of[row] for row in rows]) for core, rows in line.items()}
    for row in order:
        reader = int(processor[row])
        latest: dict[int, int] = {}
        for source in waits.get(row, ()):
            writer = int(processor[source])
            latest[writer] = max(latest.get(writer, -1), source)
        for writer, source in sorted(latest.items()):
            if told.get((writer, reader), -1) >= source:
                continue
            after = int(np.searchsorted(places[writer], place_of[row]))
            # Everything that the writer has done by now is announced with it.
            told[writer, reader] = line[writer][after - 1]
            carrier = line[writer][after] if after < len(line[writer]) else after_all(writer)
            found[carrier].append((True, reader))
            found[row].append((False, writer))
    return dict(found)


def after_all(core: int) -> int:
    """Stands for the row behind the last one of a core."""
    return -1 - core


def _waits(program: Program) -> dict[int, list[int]]:
    """Rows of other cores, in the same sample and stage, that a row waits for besides the other end of its message.

    What an earlier stage left lies a whole period back.
    """
    target = np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))
    processor = program.rows["processor"]
    across = (processor[program.dep_row] != processor[target]) & (program.dep_distance == 0)
    across &= program.rows["stage"][program.dep_row] == program.rows["stage"][target]
    found: dict[int, list[int]] = defaultdict(list)
    for row, source in zip(target[across].tolist(), program.dep_row[across].tolist(), strict=True):
        found[row].append(source)
    return dict(found)


def _common_order(program: Program, waits: dict[int, list[int]]) -> tuple[dict[int, int], list[int]]:
    """An order of all rows that every list follows and in which both ends of a message stand together; and places in it."""
    kind = np.array([row.kind for row in INSTRUCTIONS])[program.rows["opcode"]].tolist()
    partner, processor = program.partner.tolist(), program.rows["processor"].tolist()
    at, stop = program.stream_ptr[:-1].tolist(), program.stream_ptr[1:].tolist()
    place: dict[int, int] = {}
    order: list[int] = []
    sleepers: dict[int, list[int]] = defaultdict(list)
    ready = [core for core in range(program.n_processors - 1, -1, -1) if at[core] < stop[core]]

    def pass_row(row: int) -> None:
        place[row] = len(order)
        order.append(row)
        at[processor[row]] += 1
        ready.extend(sleepers.pop(row, ()))

    while ready:
        core = ready.pop()
        while at[core] < stop[core]:
            row = at[core]
            missing = next((s for s in waits.get(row, ()) if s not in place), -1)
            other = partner[row]
            if missing < 0 and other >= 0 and at[processor[other]] != other:
                if other in place:
                    raise ProgramError(f"program '{program.name}': row {other} passed before row {row}, which it meets")
                missing = other - 1 if other > int(program.stream_ptr[processor[other]]) else other
            if missing < 0 and other >= 0:
                missing = next((s for s in waits.get(other, ()) if s not in place), -1)
            if missing >= 0:
                sleepers[missing].append(core)
                break
            if other >= 0:
                first, second = (row, other) if kind[row] == SEND else (other, row)
                pass_row(first)
                pass_row(second)
                ready.append(processor[other])
            else:
                pass_row(row)
    if len(order) < program.n_rows:
        stuck = next(core for core in range(program.n_processors) if at[core] < stop[core])
        raise ProgramError(
            f"program '{program.name}': core {stuck} would wait forever at row {at[stuck]} on pimsim-nn; compile the network again"
        )
    return place, order
