"""The paper's two phases with ideal costs: no overhead, jobs without end, a link of bytes per cycle.

Symbols: `M` bytes of a macro, `s` write speed, `n` vectors per residency, `tau` cycles per vector, `t_w = M / s`,
`t_c = tau n`, `B` bytes per cycle of the link, `a = B / s` macros that write at once. A macro-vector product is one vector
times one tile. Full use of the link and of all macros needs

    N = a (1 + t_c / t_w)                                                     (design phase)

macros, and then `X = B n / M` products are done per cycle. Where the link drops to `B'` after tape-out, and all
macros together have room for `Q` rows of results, `N n = Q` gives

    N = a / 2 + sqrt(a^2 / 4 + a Q tau / t_w),  n = Q / N                     (runtime phase)

which has to be rounded so that groups of macros start at even distances.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from pimloom.errors import UsageError
from pimloom.hardware import SramHardware

CONTROL_UNIT_MACROS = 4
"""Macros of a control unit of the published RTL: smaller groups start a whole write time apart."""


@final
@dataclass(frozen=True, slots=True)
class IdealPlan:
    """An even schedule: `groups` groups of `size` macros, each starting `stagger_cycles` after the one before.

    Attributes:
        groups: number of groups.
        size: macros of a group.
        stagger_cycles: from group to group.
        vectors: per residency.
        bytes_per_cycle: write speed of a macro.
        throughput: macro-vector products per cycle.
    """

    groups: int
    size: int
    stagger_cycles: int
    vectors: int
    bytes_per_cycle: int
    throughput: float

    @property
    def macros(self) -> int:
        """Macros in use."""
        return self.groups * self.size


def design_phase(hardware: SramHardware, link_bytes_per_cycle: int, vectors: int, bytes_per_cycle: int) -> IdealPlan:
    """Sizes a chip for a link: as many macros as keep it busy.

    Raises:
        UsageError: the write time is no whole number of cycles, or the groups no whole number of macros.
    """
    size_bytes, tau = hardware.macro.size_bytes, hardware.macro.vector_cycles
    _check(hardware, link_bytes_per_cycle, bytes_per_cycle)
    write, compute = size_bytes // bytes_per_cycle, tau * vectors
    stagger = math.gcd(write, compute)
    size, rest = divmod(stagger * link_bytes_per_cycle, size_bytes)
    if size == 0 or rest:
        raise UsageError(
            f"groups that start {stagger} cycles apart: {stagger * link_bytes_per_cycle / size_bytes:g} macros each found, a whole "
            f"number expected; choose vectors or a write speed that divide {size_bytes} bytes more evenly"
        )
    return IdealPlan((write + compute) // stagger, size, stagger, vectors, bytes_per_cycle, link_bytes_per_cycle * vectors / size_bytes)


def runtime_macros(hardware: SramHardware, link_bytes_per_cycle: int, result_rows: int) -> float:
    """`N` of the runtime phase before rounding, at the fastest write speed."""
    speed = hardware.macro.fastest_write_bytes_per_cycle
    writers = link_bytes_per_cycle / speed
    ratio = hardware.macro.vector_cycles * speed / hardware.macro.size_bytes
    return writers / 2 + math.sqrt(writers**2 / 4 + writers * result_rows * ratio)


def runtime_phase(hardware: SramHardware, link_bytes_per_cycle: int, result_rows: int) -> IdealPlan:
    """The fastest even schedule on a chip whose link dropped.

    Groups start a whole write time apart, or half of one where a group is at least a control unit: with this rule, which
    is our reading of them, the settings of the published RTL come out. Among equals the fewest groups.

    Args:
        hardware: the chip.
        link_bytes_per_cycle: what is left of the link.
        result_rows: vectors that all macros together may keep (`N n` at most).

    Raises:
        UsageError: no schedule fits, or the write time is no whole number of cycles.
    """
    speed = hardware.macro.fastest_write_bytes_per_cycle
    _check(hardware, link_bytes_per_cycle, speed)
    size_bytes, tau = hardware.macro.size_bytes, hardware.macro.vector_cycles
    write = size_bytes // speed
    found: list[tuple[float, int, IdealPlan]] = []
    for parts in (1, 2):
        stagger = write // parts
        most = stagger * link_bytes_per_cycle // size_bytes
        for size in range(1 if parts == 1 else CONTROL_UNIT_MACROS, most + 1):
            plan = _largest(hardware, result_rows, stagger, size, write, tau)
            if plan is not None:
                found.append((plan.throughput, -plan.groups, plan))
    if not found and link_bytes_per_cycle >= speed:
        raise UsageError(
            f"results: {result_rows} rows found, room for an even schedule of at least 2 macros expected; use a larger result memory or "
            "smaller rows"
        )
    if not found:
        raise UsageError(
            f"link: {link_bytes_per_cycle} bytes per cycle found, enough for a macro that is written at {speed} expected; "
            "use a larger link or a slower write speed"
        )
    return max(found, key=lambda one: one[:2])[2]


def _largest(hardware: SramHardware, result_rows: int, stagger: int, size: int, write: int, tau: int) -> IdealPlan | None:
    """The most groups of one size, with as many vectors as fill their time, that the results leave room for."""
    best: IdealPlan | None = None
    for groups in range(2, hardware.arrays // size + 1):
        vectors, rest = divmod(groups * stagger - write, tau)
        if vectors < 1 or rest:
            continue
        if vectors > hardware.vectors_per_pass or groups * size * vectors > result_rows:
            break
        speed = hardware.macro.fastest_write_bytes_per_cycle
        best = IdealPlan(groups, size, stagger, vectors, speed, size * vectors / stagger)
    return best


def _check(hardware: SramHardware, link_bytes_per_cycle: int, bytes_per_cycle: int) -> None:
    macro = hardware.macro
    if link_bytes_per_cycle < 1:
        raise UsageError(f"link: {link_bytes_per_cycle} bytes per cycle found, at least 1 expected")
    if not macro.slowest_write_bytes_per_cycle <= bytes_per_cycle <= macro.fastest_write_bytes_per_cycle:
        expected = f"{macro.slowest_write_bytes_per_cycle} to {macro.fastest_write_bytes_per_cycle}"
        raise UsageError(f"write speed: {bytes_per_cycle} bytes per cycle found, {expected} expected on '{hardware.name}'")
    if macro.size_bytes % bytes_per_cycle:
        raise UsageError(f"write speed: {bytes_per_cycle} bytes per cycle found, a divisor of {macro.size_bytes} bytes expected")


__all__ = ["IdealPlan", "design_phase", "runtime_macros", "runtime_phase"]
