"""Messages of a program: which `send` meets which `recv`, and whether all of them do.

Only the order on each path from core to core decides who meets whom; whether lists block each other is the question of `order`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.program.pimsim.opcodes import CODE
from pimloom.program.pimsim.table import PimsimProgram
from pimloom.program.rows import Array

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
        advice = "would tell itself what it did; leave it out, and what waits for it"
        does = advice if program.opcode[row] == _SYNC else "would wait forever"
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
