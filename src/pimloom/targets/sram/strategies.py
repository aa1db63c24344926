"""The strategies: who writes when, as rows of one table, each with the time that a long or short job takes under it.

A job is `loads` residencies on `macros` macros. A residency is a write of `write` cycles (at the macro's speed), then
`compute` cycles. One write takes `share` cycles of the link, its part of inputs and results included; `setup` cycles of
a write need no link. `writers` is how many macros write at once.

| strategy | who may write | a round of `macros` loads takes |
|---|---|---|
| `in_situ` | all at once, then all compute | `w(macros) + compute` |
| `naive_pairwise` | one of each pair | `max(2 w(macros / 2), w(macros / 2) + compute)` |
| `naive_lock_step` | one half, while the other computes | `2 (max(w(macros / 2), compute) + 1)` |
| `generalized` | `writers` of them, in turn | `max(write + compute, macros * share, macros * (write - setup) / writers)` |

where `w(k) = max(write, setup + k * share)` is how long `k` macros need that write side by side. Who waits for its turn has
its setup behind it when the turn comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, final

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]
Number = Any
"""A number, or an array of numbers for many settings at once."""


@final
@dataclass(frozen=True, slots=True)
class Job:
    """What a strategy is timed on; every field a number or an array of settings.

    Attributes:
        loads: residencies.
        macros: macros in use.
        write: cycles of one write at the macro's own speed.
        compute: cycles of one residency's computing.
        share: cycles of the link per residency.
        setup: cycles of a write before it needs the link.
        writers: macros that write at once.
    """

    loads: Number
    macros: Number
    write: Number
    compute: Number
    share: Number
    setup: Number
    writers: Number

    def together(self, count: Number) -> Number:
        """Cycles for `count` macros that write side by side."""
        return np.maximum(self.write, self.setup + count * self.share)


def _in_situ(job: Job) -> Number:
    full, rest = np.divmod(job.loads, job.macros)
    return full * (job.together(job.macros) + job.compute) + np.where(rest > 0, job.together(rest) + job.compute, 0)


def _pairwise(job: Job) -> Number:
    half = np.maximum(job.macros // 2, 1)
    write = job.together(half)
    period = np.maximum(2 * write, write + job.compute)
    full, rest = np.divmod(job.loads, 2 * half)
    last_first, last_second = write + job.compute, 2 * write + job.compute
    before = (full - 1) * period + last_second
    return np.where(rest == 0, before, np.maximum(before, full * period + np.where(rest > half, last_second, last_first)))


def _lock_step(job: Job) -> Number:
    half = np.maximum(job.macros // 2, 1)
    write = job.together(half)
    batches = -(-job.loads // half)
    return write + (batches - 1) * (np.maximum(write, job.compute) + 1) + job.compute


def _generalized(job: Job) -> Number:
    alone = job.write - job.setup
    turn = np.maximum(job.write + job.compute, job.macros * np.maximum(job.share, alone / job.writers))
    rounds, place = np.divmod(job.loads - 1, job.macros)

    def end(rounds: Number, place: Number) -> Number:
        return rounds * turn + np.maximum(place // job.writers * alone, place * job.share) + job.write + job.compute

    return np.where(rounds > 0, np.maximum(end(rounds, place), end(rounds - 1, job.macros - 1)), end(rounds, place))


@final
@dataclass(frozen=True, slots=True)
class Strategy:
    """A row of the table.

    Attributes:
        name: as users write it.
        summary: who writes when.
        cycles: time of a job.
        pairs: whether it needs an even number of macros.
        has_handshake: whether a start flag costs cycles with every instruction (`control.handshake_cycles`).
        is_staggered: whether macros take turns at the link, so that some always compute.
    """

    name: str
    summary: str
    cycles: Callable[[Job], Number]
    pairs: bool = False
    has_handshake: bool = False
    is_staggered: bool = False


_ROWS: Final = (
    Strategy("in_situ", "all macros write, then all compute", _in_situ),
    Strategy("naive_pairwise", "in each pair, one writes while the other does not", _pairwise, pairs=True, has_handshake=True),
    Strategy("naive_lock_step", "one half writes while the other computes, then they swap", _lock_step, pairs=True),
    Strategy("generalized", "macros write in turn, so that the link is always busy", _generalized, is_staggered=True),
)

STRATEGIES: Final[Mapping[str, Strategy]] = MappingProxyType({row.name: row for row in _ROWS})
"""Name -> strategy."""

FAMILIES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({
    "in_situ": ("in_situ",),
    "naive_ping_pong": ("naive_pairwise", "naive_lock_step"),
    "generalized": ("generalized",),
    "auto": tuple(row.name for row in _ROWS),
    **{name: (name,) for name in ("naive_pairwise", "naive_lock_step")},
})  # fmt: skip
"""What a user may ask for -> the strategies that are tried; the fastest is taken."""

BASELINES: Final = ("in_situ", "naive_ping_pong", "generalized")
"""What `auto` is compared with in tables."""


def parts(wanted: str) -> tuple[str, ...]:
    """The other families whose strategies are all part of a family, small ones first: a search of it is never slower than theirs."""
    found = [name for name, rows in FAMILIES.items() if name != wanted and set(rows) <= set(FAMILIES[wanted])]
    return tuple(sorted(found, key=lambda name: len(FAMILIES[name])))


__all__ = ["BASELINES", "FAMILIES", "STRATEGIES", "Job", "Strategy", "parts"]
