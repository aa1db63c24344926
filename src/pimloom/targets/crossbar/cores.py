"""Cores to choose from: what each has left, and which policy takes which."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Final, final

from pimloom.hardware import CrossbarHardware


class Policy(enum.Enum):
    """Which core takes the next piece of a copy."""

    BALANCED = "balanced"  # the core that it strains least, in arrays, memory or traffic, largest pieces first
    SPREAD = "spread"  # as NEXT, but no core takes more than its even share: each piece of work has more memory and links
    NEXT = "next"  # the next core with room, in graph order: neighbours in the network are neighbours on the chip
    TIGHTEST = "tightest"  # the core with the least room that suffices, largest layers first: packs best
    CUT = "cut"  # as TIGHTEST, with tall layers cut by rows into pieces that fill cores; their partial sums travel
    CUT_CLOSELY = "cut closely"  # as CUT, into fewer pieces that fill cores nearly, and memories: packs where those of CUT leave too much
    CUT_BALANCED = "cut closely, balanced"  # into pieces that fill cores nearly, on the cores that they strain least
    CUT_FINELY = "cut finely"  # as CUT, each column by itself, into pieces that fill cores best: packs where nothing else does
    LEAST_LOADED = "least loaded"  # where cores work on one instruction at a time, work counts more than room


CUTS: Final = (Policy.CUT, Policy.CUT_CLOSELY, Policy.CUT_FINELY)
"""Policies that cut tall layers by rows, those that cut least first."""


BALANCING: Final = (Policy.BALANCED, Policy.CUT_BALANCED)
"""Policies that look at what pieces ask of a core, beside arrays."""


@final
class CorePool:
    """Free crossbars and load of every core, in snake order so that neighbours in the list are neighbours on the chip."""

    def __init__(self, hardware: CrossbarHardware, policy: Policy, most: int) -> None:
        """All cores empty; at most `most` crossbars of each are used."""
        self._free = [most] * (hardware.chips * hardware.chip.cores)
        self._load = [0.0] * len(self._free)
        self._policy = policy
        self._guests: Counter[int] = Counter()
        self._order = _snake(hardware)
        self._rank = {core: i for i, core in enumerate(self._order)}
        self._next = 0

    def take(self, size: int, load: float, besides: Collection[int] = ()) -> int | None:
        """A core with `size` free crossbars that is not in `besides`, or None."""
        fitting = [core for core in self._order if self._free[core] >= size and core not in besides]
        if not fitting:
            return None
        if self._policy is Policy.LEAST_LOADED:
            return self._use(min(fitting, key=self._load.__getitem__), size, load)
        if self._policy in (Policy.TIGHTEST, *CUTS):
            return self._use(min(fitting, key=self._free.__getitem__), size, load)
        return self._use(next((core for core in fitting if self._rank[core] >= self._next), fitting[0]), size, load)

    def _use(self, core: int, size: int, load: float) -> int:
        self._free[core] -= size
        self._load[core] += load
        if self._policy in (Policy.NEXT, Policy.SPREAD) and self._free[core] < size:
            self._next = max(self._next, self._rank[core])
        return core

    def least_loaded(self, count: int, load: float, residents: Mapping[int, int] | None = None) -> list[int]:
        """The `count` cores with fewest residents, of those the ones with least load; each is charged with a share of `load`."""
        lodged = residents or {}
        cores = sorted(self._order, key=lambda core: (lodged.get(core, 0), self._load[core]))[:count]
        for core in cores:
            self._load[core] += load / len(cores)
        return cores

    def emptiest(self, count: int) -> list[int]:
        """The `count` cores that were given least work besides weights so far, each of which now has some."""
        cores = sorted(self._order, key=lambda core: (self._guests[core], self._load[core]))[:count]
        self._guests.update(cores)
        return cores


def _snake(hardware: CrossbarHardware) -> list[int]:
    cols, per_chip = hardware.chip.core_cols, hardware.chip.cores
    order: list[int] = []
    for chip in range(hardware.chips):
        for row in range(hardware.chip.core_rows):
            line = range(cols) if row % 2 == 0 else range(cols - 1, -1, -1)
            order += [chip * per_chip + row * cols + col for col in line if row * cols + col < per_chip]
    return order
