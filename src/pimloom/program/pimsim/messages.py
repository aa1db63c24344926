"""Messages of a program: which `send` meets which `recv`, and whether all of them do.

Only the order on each path from core to core decides who meets whom. A core does one thing at a time, and both ends wait for
each other, so lists that are in different orders block each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.program.pimsim.opcodes import CODE, N_EVENTS
from pimloom.program.pimsim.table import PimsimProgram
from pimloom.program.rows import Array

SHOWN_WAITS: Final = 4

_SEND: Final = CODE["send"]
_RECV: Final = CODE["recv"]
_SYNC: Final = CODE["sync"]


def check_messages(program: PimsimProgram) -> None:
    """Every peer is another core with instructions, and each `send` has its `recv`."""
    core = program.core()
    at = np.flatnonzero(program.peer >= 0)
    peer = program.peer[at]
    is_known = (peer < program.n_cores) & program.is_present[np.minimum(peer, program.n_cores - 1)]
    if not is_known.all():
        row = int(at[np.argmin(is_known)])
        raise ProgramError(f"{program.name(row)}: core {program.peer[row]} found, which has no instructions")
    if np.any(peer == core[at]):
        row = int(at[np.argmax(peer == core[at])])
        does = "would tell itself what it did; leave it out" if program.opcode[row] == _SYNC else "would wait forever"
        raise ProgramError(f"{program.name(row)}: core {program.peer[row]} found, which is the core itself; it {does}")
    sends, receives = (_by_path(program, core, code) for code in (_SEND, _RECV))
    for path in sorted(sends.keys() | receives.keys()):
        _compare(program, path, sends.get(path, []), receives.get(path, []))


def _by_path(program: PimsimProgram, core: Array, code: int) -> dict[tuple[int, int], Array]:
    """Rows of `send` or `recv` in order, by (sender, receiver)."""
    at = np.flatnonzero(program.opcode == code)
    own, other = core[at].astype(np.int64), program.peer[at].astype(np.int64)
    key = own * program.n_cores + other if code == _SEND else other * program.n_cores + own
    order = np.argsort(key, kind="stable")
    paths, first = np.unique(key[order], return_index=True)
    rows = np.split(at[order], first[1:]) if paths.size else []
    return {divmod(int(k), program.n_cores): r for k, r in zip(paths.tolist(), rows, strict=True)}


def _compare(program: PimsimProgram, path: tuple[int, int], sends: Sequence[int] | Array, receives: Sequence[int] | Array) -> None:
    if len(sends) == len(receives):
        return
    more, fewer, missing = (sends, receives, "recv") if len(sends) > len(receives) else (receives, sends, "send")
    row = int(more[len(fewer)])
    other = path[1] if missing == "recv" else path[0]
    raise ProgramError(
        f"{program.name(row)}: core {other} has no {missing} for it; from core {path[0]} to core {path[1]} "
        f"there are {len(sends)} send and {len(receives)} recv"
    )


def pair_messages(program: PimsimProgram) -> Array:
    """int32[n]: the row at the other end of each `send` and `recv`, -1 for others; the k-th send meets the k-th recv."""
    core = program.core()
    partner = np.full(program.n_instructions, -1, np.int32)
    sends, receives = (_by_path(program, core, code) for code in (_SEND, _RECV))
    for path, rows in sends.items():
        partner[rows] = receives[path]
        partner[receives[path]] = rows
    return partner


def check_order(table: PimsimProgram, partner: Array, events: tuple[Array, Array]) -> None:
    """One pass over all lists comes to its end.

    Args:
        table: the program.
        partner: of `pair_messages`.
        events: int64[m] twice: rows of `wait`, and the rows of `sync` that each of them waits for.

    Raises:
        ProgramError: cores wait for each other forever; the message says who for whom.
    """
    is_meeting = partner >= 0
    is_meeting[np.concatenate(events)] = True
    rows = np.flatnonzero(is_meeting)
    number = np.full(table.n_instructions + 1, -1, np.int64)
    number[rows] = np.arange(rows.size)
    core: list[int] = table.core()[rows].tolist()
    other: list[int] = np.where(partner[rows] >= 0, number[np.maximum(partner[rows], 0)], -1).tolist()
    given: dict[int, list[int]] = {}
    for wait, sync in zip(number[events[0]].tolist(), number[events[1]].tolist(), strict=True):
        given.setdefault(wait, []).append(sync)
    bounds: list[int] = np.searchsorted(rows, table.core_ptr).tolist()
    at, stop = bounds[:-1], bounds[1:]
    ready = [k for k in range(len(at)) if at[k] < stop[k]]
    while ready:
        k = ready.pop()
        i = at[k]
        while i < stop[k]:
            j = other[i]
            if j >= 0:
                if at[core[j]] != j:
                    break
                at[core[j]] = j + 1
                ready.append(core[j])
            elif any(at[core[s]] <= s for s in given.get(i, ())):
                break
            elif i not in given:
                ready += range(len(at)) if given else ()
            i += 1
        at[k] = i
    stuck = [k for k in range(len(at)) if at[k] < stop[k]]
    if stuck:
        raise ProgramError(f"{table.source}: deadlock: {_circle(table, rows, at, core, other, given, stuck[0])}")


def _circle(
    table: PimsimProgram, rows: Array, at: list[int], core: list[int], other: list[int], given: dict[int, list[int]], first: int
) -> str:  # fmt: skip
    """Who waits for whom, until somebody is named again."""
    said: list[str] = []
    seen: set[int] = set()
    k = first
    while k not in seen and len(said) < SHOWN_WAITS:
        seen.add(k)
        i = at[k]
        wanted = other[i] if other[i] >= 0 else next(s for s in given[i] if at[core[s]] <= s)
        said.append(f"{table.place(int(rows[i]))} waits for {table.place(int(rows[wanted]))}")
        k = core[wanted]
    return "; ".join(said)


def pair_events(table: PimsimProgram) -> tuple[Array, Array]:
    """int64[m] twice: rows of `wait` and the rows of `sync` that each waits for, as many as its value says.

    Events of several cores for one register are taken in the order of these cores.
    """
    sync, wait = np.flatnonzero(table.opcode == CODE["sync"]), np.flatnonzero(table.opcode == CODE["wait"])
    targets: list[int] = []
    sources: list[int] = []
    core = table.core()
    key_of_sync = table.peer[sync].astype(np.int64) * N_EVENTS + table.event[sync]
    key_of_wait = core[wait].astype(np.int64) * N_EVENTS + table.event[wait]
    for key in np.unique(key_of_wait).tolist():
        given = sync[key_of_sync == key]
        given = given[np.lexsort((core[given], table.position[given]))]
        at = 0
        for row in wait[key_of_wait == key].tolist():
            wanted = int(table.value[row])
            if at + wanted > given.size:
                raise ProgramError(
                    f"{table.name(row)}: event register {table.event[row]} gets {given.size} sync in all, {at + wanted} are waited for; "
                    "it would wait forever"
                )
            targets += [row] * wanted
            sources += given[at : at + wanted].tolist()
            at += wanted
    return np.array(targets, np.int64), np.array(sources, np.int64)
