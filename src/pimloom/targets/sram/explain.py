"""Where a gain comes from: naive ping-pong is given one freedom of generalized ping-pong after the other.

| step | macros N, vectors n | write speed s | who writes when |
|---|---|---|---|
| design point | as designed | so slow that half the macros fill the link | pairs |
| write speed | as designed | free | pairs |
| reallocation | free: fewer macros, each with more results | free | pairs or swaps |
| stagger | free | free | in turn |
| dataflow | free | free | any; weights may stay while inputs stream |

All steps do the same job on the same machine, so that their cycles can be divided.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from pimloom.hardware import SramHardware
from pimloom.targets.sram.plan import Dataflow, Plan, check_setting, choose, evaluate
from pimloom.targets.sram.strategies import STRATEGIES
from pimloom.targets.sram.work import Work


@final
@dataclass(frozen=True, slots=True)
class Step:
    """One freedom more.

    Attributes:
        name: of the freedom.
        plan: the fastest with all freedoms so far.
        cycles: simulated or predicted, as the caller's cost has it.
    """

    name: str
    plan: Plan
    cycles: float


def ablate(
    hardware: SramHardware, work: Work, macros: int, vectors: int, cost: Callable[[Plan], float] | None = None
) -> tuple[Step, ...]:  # fmt: skip
    """The steps from naive ping-pong at a design point to `auto`.

    Args:
        hardware: the machine, with the link that it has now.
        work: the job; enough vectors that reuse can pay.
        macros: N of the design point.
        vectors: n of the design point.
        cost: simulated cycles of a plan; predictions without it.

    Raises:
        CapacityError: the design point does not fit.
        UsageError: a number out of range.
    """
    check_setting(hardware, work, macros, vectors, hardware.macro.fastest_write_bytes_per_cycle)
    macro, half = hardware.macro, max(macros // 2, 1)
    slow = min(max(hardware.link.bytes_per_cycle // half, macro.slowest_write_bytes_per_cycle), macro.fastest_write_bytes_per_cycle)
    found: list[Step] = []
    for name, speeds in (("design point", (slow,)), ("write speed", None)):
        grid = evaluate(
            hardware, work, STRATEGIES["naive_pairwise"], Dataflow.WEIGHTS, macros=(macros,), vectors=(vectors,), speeds=speeds
        )  # fmt: skip
        found.append(_step(name, grid.best(), cost, found))
    for name, wanted in (("reallocation", "naive_ping_pong"), ("stagger", "generalized"), ("dataflow", "auto")):
        found.append(_step(name, [choose(hardware, work, wanted, cost)], cost, found))
    return tuple(found)


def _step(name: str, plans: list[Plan], cost: Callable[[Plan], float] | None, before: list[Step]) -> Step:
    """The best of some plans, or of the step before: a freedom need not be used."""
    timed = [Step(name, plan, cost(plan) if cost else plan.cycles) for plan in plans]
    return min([*timed, *(Step(name, step.plan, step.cycles) for step in before[-1:])], key=lambda step: step.cycles)


__all__ = ["Step", "ablate"]
