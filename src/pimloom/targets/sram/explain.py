"""Where a gain comes from: naive ping-pong is given one freedom of generalized ping-pong after the other.

| step | macros N, vectors n | write speed s | who writes when |
|---|---|---|---|
| design point | as designed | so slow that half the macros fill the link | pairs |
| write speed | as designed | free | pairs |
| reallocation | free: fewer macros, each with more results | free | pairs or swaps |
| stagger | free | free | in turn |
| dataflow | free | free | any; weights may stay while inputs stream |

All steps do the same job on the same machine, so that their cycles can be divided: one matrix, or a whole network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from pimloom.errors import UsageError
from pimloom.hardware import SramHardware
from pimloom.ir.graph import Graph
from pimloom.targets import Request
from pimloom.targets.sram.compile import TRIED, PlanCost, plan_steps, program_of
from pimloom.targets.sram.plan import Dataflow, Plan, check_setting, choose, evaluate, streams, useful_vectors
from pimloom.targets.sram.products import Product, analyse
from pimloom.targets.sram.strategies import STRATEGIES
from pimloom.targets.sram.work import Work

_DESIGNED: Final = ("design point", "write speed")
_FREE: Final = {"reallocation": "naive_ping_pong", "stagger": "generalized", "dataflow": "auto"}
FREEDOMS: Final = (*_DESIGNED, *_FREE)
"""Names of the steps, in order."""


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


@final
@dataclass(frozen=True, slots=True)
class NetworkStep:
    """One freedom more for all layers of a network.

    Attributes:
        name: of the freedom.
        strategies: products on macros by strategy.
        dataflows: products by what is streamed.
        cycles: simulated, of the whole network.
    """

    name: str
    strategies: Counter[str]
    dataflows: Counter[str]
    cycles: float


def ablate(
    hardware: SramHardware, work: Work, macros: int, vectors: int, cost: Callable[[Plan], float] | None = None
) -> tuple[Step, ...]:  # fmt: skip
    """The steps from naive ping-pong at a design point to `auto`, for one product.

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
    _check_design(hardware, macros, vectors)
    check_setting(hardware, work, macros, vectors, hardware.macro.fastest_write_bytes_per_cycle)
    found: list[Step] = []
    for name in FREEDOMS:
        plan = _plan_with(name, hardware, work, macros, vectors, cost)
        step = Step(name, plan, cost(plan) if cost else plan.cycles)
        # A freedom need not be used.
        found.append(min([step, *(Step(name, before.plan, before.cycles) for before in found[-1:])], key=lambda one: one.cycles))
    return tuple(found)


def ablate_network(
    graph: Graph, hardware: SramHardware, request: Request, macros: int, vectors: int
) -> tuple[NetworkStep, ...]:  # fmt: skip
    """The steps for a network: every layer has the design point, or as much of it as fits, then one freedom after the other.

    Args:
        graph: quantised.
        hardware: the machine, with the link that it has now.
        request: its cost times plans and whole programs, its effort says how many plans are tried.
        macros: N of the design point.
        vectors: n of the design point.

    Raises:
        CapacityError: a layer does not fit.
        UsageError: a design point out of range, or no cost.
    """
    _check_design(hardware, macros, vectors)
    if request.cost is None:
        raise UsageError("ablation of a network: no cost found, a simulator of programs expected")
    network, steps = analyse(graph, hardware.macro), list[NetworkStep]()
    for name in FREEDOMS:

        def pick(work: Work, cost: PlanCost | None, name: str = name) -> Plan:
            return _plan_with(name, hardware, work, macros, vectors, cost, TRIED[request.effort])

        plans = plan_steps(network, hardware, request, pick)
        cycles = float(request.cost(program_of(network, hardware, request, plans, _FREE.get(name, "naive_pairwise")))[0])
        if steps and steps[-1].cycles < cycles:
            steps.append(NetworkStep(name, steps[-1].strategies, steps[-1].dataflows, steps[-1].cycles))
            continue
        works = [(step.work, plan) for step, plan in zip(network.steps, plans, strict=True) if isinstance(step, Product) and plan]
        dataflows = Counter(streams(hardware, work, plan) for work, plan in works)
        steps.append(NetworkStep(name, Counter(plan.strategy for _, plan in works), dataflows, cycles))
    return tuple(steps)


def _check_design(hardware: SramHardware, macros: int, vectors: int) -> None:
    if macros < 2 or macros > hardware.arrays or vectors < 1:
        expected = f"2 to {hardware.arrays} macros (naive ping-pong works in pairs) and at least 1 vector"
        raise UsageError(f"design point: {macros} macros and {vectors} vectors found, {expected} expected on '{hardware.name}'")


def _plan_with(
    name: str, hardware: SramHardware, work: Work, macros: int, vectors: int, cost: PlanCost | None = None, most: int = 8
) -> Plan:  # fmt: skip
    """The fastest plan of a product with one freedom and all before it."""
    if name in _FREE:
        return choose(hardware, work, _FREE[name], cost, most)
    plans = _designed(hardware, work, macros, vectors, is_slow=name == "design point")
    return min(plans, key=cost or (lambda plan: plan.cycles))


def _designed(hardware: SramHardware, work: Work, macros: int, vectors: int, *, is_slow: bool) -> list[Plan]:
    """Plans of naive ping-pong at the design point; with fewer vectors, or fewer macros, where it does not fit a product."""
    macro, half = hardware.macro, max(macros // 2, 1)
    slow = min(max(hardware.link.bytes_per_cycle // half, macro.slowest_write_bytes_per_cycle), macro.fastest_write_bytes_per_cycle)
    choices = useful_vectors(hardware, work)
    kept, macros = max((n for n in choices if n <= vectors), default=choices[0]), macros // 2 * 2
    while macros >= 2:
        grid = evaluate(
            hardware, work, STRATEGIES["naive_pairwise"], Dataflow.WEIGHTS, macros=(macros,), vectors=(kept,),
            speeds=(slow,) if is_slow else None,
        )  # fmt: skip
        if plans := grid.best():
            return plans
        macros = macros // 4 * 2
    return [choose(hardware, work, "naive_pairwise")]  # says in numbers what does not fit


__all__ = ["FREEDOMS", "NetworkStep", "Step", "ablate", "ablate_network"]
