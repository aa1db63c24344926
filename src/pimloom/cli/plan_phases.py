"""`plan --phases`: the paper's two phases with ideal costs, whatever the matrix: a chip for a link, and a chip whose link drops."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, final

from pimloom.cli.console import draw, new_table
from pimloom.errors import CapacityError, PimloomError, UsageError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from pimloom.hardware import SramHardware
    from pimloom.targets.sram.ideal import IdealPlan

_DESIGN_VECTORS: Final = (1, 2, 4, 8, 24, 56)  # what the authors' README compares
_LEAST_BYTES_PER_CYCLE: Final = 8  # likewise: the link drops as far as this


@final
@dataclass(frozen=True, slots=True)
class _Phase:
    """Even schedules by what was varied; values without one by the reason, in the order in which they were tried."""

    plans: Mapping[int, IdealPlan]
    faults: Mapping[str, tuple[PimloomError, list[int]]]


def draw_phases(machine: SramHardware, residency: int | None, speed: int | None, bandwidth: int | None) -> None:
    """Both phases as tables.

    Args:
        machine: whose link the first phase designs for, and is dropped in the second.
        residency: vectors per residency of the first phase; several are tried without.
        speed: bytes per cycle of a rewrite in the first phase; the fastest without.
        bandwidth: what the link drops to, in bytes per cycle; without, it is halved again and again.

    Raises:
        CapacityError: `residency` exceeds the input area of a macro.
        UsageError: `residency` or `speed` has no even schedule, or nothing has.
    """
    from pimloom.targets.sram.ideal import runtime_phase

    link = machine.link.bytes_per_cycle
    written = machine.macro.fastest_write_bytes_per_cycle if speed is None else speed
    design = _tried([residency] if residency is not None else _DESIGN_VECTORS, lambda n: _designed(machine, n, written))
    rows = _result_rows(machine)[0]
    runtime = _tried([bandwidth] if bandwidth is not None else _halves(link), lambda b: runtime_phase(machine, b, rows))
    is_asked_for = residency is not None or speed is not None
    if not design.plans and (is_asked_for or not runtime.plans):
        raise next(iter(design.faults.values()))[0]
    draw(
        lambda console: _draw_design(console, machine, design, written),
        lambda console: _draw_runtime(console, machine, runtime),
        lambda console: console.print(_LEGEND, soft_wrap=True),
    )


def _designed(machine: SramHardware, vectors: int, speed: int) -> IdealPlan:
    """The chip for the machine's link, of macros that have room for the inputs of a residency."""
    from pimloom.targets.sram.ideal import design_phase

    if vectors < 1:
        raise UsageError(f"--residency: {vectors} vectors found, at least 1 expected")
    most = machine.vectors_per_pass
    if vectors > most:
        advice = f"keep at most {most} vectors per residency"
        needed = vectors * machine.macro.rows
        raise CapacityError("input area of a macro (bytes)", needed, machine.memories.input_area_bytes, machine.name, advice)
    return design_phase(machine, machine.link.bytes_per_cycle, vectors, speed)


def _halves(bytes_per_cycle: int) -> list[int]:
    """A bandwidth and its halves, as far as the link drops."""
    found = [bytes_per_cycle]
    while found[-1] // 2 >= _LEAST_BYTES_PER_CYCLE:
        found.append(found[-1] // 2)
    return found


def _tried(values: Sequence[int], plan_of: Callable[[int], IdealPlan]) -> _Phase:
    plans: dict[int, IdealPlan] = {}
    faults: dict[str, tuple[PimloomError, list[int]]] = {}
    for value in values:
        try:
            plans[value] = plan_of(value)
        except (CapacityError, UsageError) as fault:
            faults.setdefault(str(fault), (fault, []))[1].append(value)
    return _Phase(plans, faults)


def _result_rows(machine: SramHardware) -> tuple[int, int]:
    """Rows of results that all macros together may keep, and the bytes of each: a macro's own, or 32-bit sums of one vector."""
    from pimloom.targets.sram.plan import SUM_BYTES

    memories = machine.memories
    row_bytes = memories.result_row_bytes if memories.sums == "private" else machine.macro.cols * SUM_BYTES
    return memories.result_bytes // row_bytes, row_bytes


def _draw_design(console: Console, machine: SramHardware, phase: _Phase, speed: int) -> None:
    link = machine.link.bytes_per_cycle
    console.print(f"design phase: a chip of macros of {machine.name} for a link of {link:,} B/cycle, s {speed}", soft_wrap=True)
    table = new_table("n>", "N>", "G>", "size>", "sigma>", "s>", "products>", "rows>")
    for vectors, plan in phase.plans.items():
        table.add_row(str(vectors), *_cells(plan), str(plan.bytes_per_cycle), f"{plan.throughput:.3f}", f"{plan.macros * vectors:,}")
    _draw_phase(console, table, phase, "n")


def _draw_runtime(console: Console, machine: SramHardware, phase: _Phase) -> None:
    from pimloom.targets.sram.ideal import runtime_macros

    rows, row_bytes = _result_rows(machine)
    console.print(
        f"\nruntime phase: {machine.name}, {machine.arrays:,} macros, with what is left of its link, {rows:,} rows of results at most "
        f"({machine.memories.sums} sums: {machine.memories.result_bytes:,} / {row_bytes:,} bytes)", soft_wrap=True,
    )  # fmt: skip
    table = new_table("B>", "N*>", "N>", "G>", "size>", "sigma>", "n>", "s>", "products>", "rows>")
    for link, plan in phase.plans.items():
        table.add_row(
            str(link), f"{runtime_macros(machine, link, rows):.2f}", *_cells(plan), str(plan.vectors), str(plan.bytes_per_cycle),
            f"{plan.throughput:.3f}", f"{plan.macros * plan.vectors:,}",
        )  # fmt: skip
    _draw_phase(console, table, phase, "B")


def _cells(plan: IdealPlan) -> tuple[str, ...]:
    return str(plan.macros), str(plan.groups), str(plan.size), str(plan.stagger_cycles)


def _draw_phase(console: Console, table: Table, phase: _Phase, symbol: str) -> None:
    """The table, if it has rows, and below it what is not in it and why."""
    if phase.plans:
        console.print(table)
    for reason, (_, values) in phase.faults.items():
        console.print(f"not with {symbol} {', '.join(map(str, values))}: {reason}", soft_wrap=True)


_LEGEND: Final = """
N macros in G groups of a size, which start sigma cycles apart; n vectors per
residency, s bytes per cycle of a rewrite, B bytes per cycle of the link. N*: N
before rounding, whatever macros and input areas there are. products: of a
vector and a macro, per cycle. rows: of results that all macros keep, N n. Costs
are ideal: no overhead, jobs without end, nothing but weights on the link."""


__all__ = ["draw_phases"]
