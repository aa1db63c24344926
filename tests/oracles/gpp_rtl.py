"""The published RTL of generalized ping-pong, stepped cycle by cycle: macros with their controls, nothing else.

A pass of a macro is RDS, RWM, n times (PIM, WRM), WMS, with the cycles that the RTL takes for each. Macros run freely; a
strategy is only the condition under which a macro may begin: `in_situ` none, `naive` that its partner is neither fetching
nor being written when a pass begins (and one more cycle per instruction for the flag), `generalized` that its group's
flag is up, which rises at a multiple of the stagger and never falls. There is no arbiter; the link is only counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

RDS, RWM, PIM, WRM, WMS = "RDS", "RWM", "PIM", "WRM", "WMS"


@dataclass
class Macro:
    """One macro: its passes to come, and where it is in the one at hand."""

    passes: int
    line: list[tuple[str, int]]
    flag_at: int = 0
    place: int = -1
    left: int = 0
    finished_at: int = 0

    @property
    def opcode(self) -> str:
        return self.line[self.place][0] if self.place >= 0 else ""


@dataclass
class Run:
    """What a run yields: cycles, bytes written, and per cycle the macros that are being written."""

    cycles: int = 0
    writers: list[int] = field(default_factory=list)


def run(strategy: str, macros: int, vectors: int, speed: int, loads: int, group: int = 0, stagger: int = 0) -> Run:
    """Steps until every macro has done its share of `loads` tiles of 1,024 bytes, `vectors` vectors each."""
    flag = 1 if strategy == "naive" else 0
    once = [(RDS, 5), (RWM, 1024 // speed + 4), *[(PIM, 37), (WRM, 4)] * vectors, (WMS, 4)]
    line = [(name, cycles + flag) for name, cycles in once]
    units = [Macro(loads // macros + (i < loads % macros), line) for i in range(macros)]
    if strategy == "generalized":
        for i, unit in enumerate(units):
            unit.flag_at = i // group * stagger
    found, clock = Run(), 0
    active = list(range(macros))
    while active:
        for i in active:
            unit = units[i]
            if unit.place < 0 and unit.passes and clock >= unit.flag_at and _may_begin(strategy, units, i):
                unit.place, unit.left = 0, line[0][1]
        found.writers.append(sum(units[i].opcode == RWM for i in active))
        clock += 1
        for i in active:
            unit = units[i]
            if unit.place < 0:
                continue
            unit.left -= 1
            if unit.left == 0:
                unit.place += 1
                if unit.place == len(line):
                    unit.place, unit.passes, unit.finished_at = -1, unit.passes - 1, clock
                else:
                    unit.left = line[unit.place][1]
        active = [i for i in active if units[i].passes or units[i].place >= 0]
    found.cycles = clock
    return found


def _may_begin(strategy: str, units: list[Macro], i: int) -> bool:
    if strategy != "naive":
        return True
    partner = i ^ 1
    return partner >= len(units) or units[partner].opcode not in (RDS, RWM)
