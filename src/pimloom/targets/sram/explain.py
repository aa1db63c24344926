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

import contextlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

from pimloom.errors import CapacityError, UsageError
from pimloom.hardware import SramHardware
from pimloom.ir.graph import Graph
from pimloom.program import Program
from pimloom.targets import Request
from pimloom.targets.sram.compile import STEPS, Timings, build, plan_steps, program_of
from pimloom.targets.sram.plan import Dataflow, Plan, check_setting, streams, useful_vectors
from pimloom.targets.sram.predict import evaluate
from pimloom.targets.sram.products import Product, analyse
from pimloom.targets.sram.strategies import BASELINES, STRATEGIES
from pimloom.targets.sram.tune import Timer, choose
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
        lowered: where steps hold the design point: (macros, vectors) of the layers that have no room or no use for all of it.
    """

    name: str
    strategies: Counter[str]
    dataflows: Counter[str]
    cycles: float
    lowered: Mapping[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])


def ablate(
    hardware: SramHardware, work: Work, macros: int, vectors: int, timer: Timer | None = None
) -> tuple[Step, ...]:  # fmt: skip
    """The steps from naive ping-pong at a design point to `auto`, for one product.

    Args:
        hardware: the machine, with the link that it has now.
        work: the job; enough vectors that reuse can pay.
        macros: N of the design point.
        vectors: n of the design point.
        timer: simulates plans; predictions without it.

    Raises:
        CapacityError: the design point does not fit.
        UsageError: a number out of range.
    """
    check_design(hardware, macros, vectors)
    check_setting(hardware, work, macros, vectors, hardware.macro.fastest_write_bytes_per_cycle)
    found: list[Step] = []
    for name in FREEDOMS:
        plan = _plan_with(name, hardware, work, macros, vectors, timer, steps=8)
        step = Step(name, plan, timer(hardware, plan) if timer else plan.cycles)
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
    check_design(hardware, macros, vectors)
    if request.cost is None:
        raise UsageError("ablation of a network: no cost found, a simulator of programs expected")
    network, steps, timings = analyse(graph, hardware.macro), list[NetworkStep](), Timings()
    for name in FREEDOMS:

        def pick(work: Work, timer: Timer | None, name: str = name) -> Plan:
            return _plan_with(name, hardware, work, macros, vectors, timer, STEPS[request.effort])

        plans = plan_steps(network, hardware, request, pick, timings)
        cycles = float(request.cost(program_of(network, hardware, request, plans, _FREE.get(name, "naive_pairwise")))[0])
        if steps and steps[-1].cycles < cycles:
            steps.append(NetworkStep(name, steps[-1].strategies, steps[-1].dataflows, steps[-1].cycles))
            continue
        works = [(step, plan) for step, plan in zip(network.steps, plans, strict=True) if isinstance(step, Product) and plan]
        dataflows = Counter(streams(hardware, step.work, plan) for step, plan in works)
        lowered = {
            graph.nodes[step.node].name: (plan.macros, plan.vectors) for step, plan in works
            if name in _DESIGNED and (plan.macros, plan.vectors) != (macros, vectors)
        }  # fmt: skip
        steps.append(NetworkStep(name, Counter(plan.strategy for _, plan in works), dataflows, cycles, lowered))
    return tuple(steps)


def heaviest_product(program: Program) -> tuple[str, dict[str, tuple[Program, Plan]]]:
    """The product of a network that streams weights longest, or else takes longest, under each of the paper's strategies by itself.

    Args:
        program: of this target.

    Returns:
        (name of its node, strategy -> its program and its plan, the best by prediction); "" and nothing for a network without one.
    """
    hardware, planned = program.hardware, program.notes.get("plans", {})
    assert isinstance(hardware, SramHardware)
    if not planned:
        return "", {}
    name = max(planned, key=lambda one: (planned[one]["dataflow"] == Dataflow.WEIGHTS.value, planned[one]["planned_cycles"]))
    network = analyse(program.graph, hardware.macro)
    step = next(s for s in network.steps if isinstance(s, Product) and program.graph.nodes[s.node].name == name)
    found: dict[str, tuple[Program, Plan]] = {}
    for strategy in BASELINES:
        with contextlib.suppress(CapacityError):
            plan = choose(hardware, step.work, strategy)
            found[strategy] = build(network, hardware, [(step, plan)], Request(progress=lambda _: None), {}), plan
    return name, found


def check_design(hardware: SramHardware, macros: int, vectors: int) -> None:
    """Refuses a design point that the machine has no room for, whatever the product.

    Raises:
        CapacityError: more vectors than the input area of a macro or the result memory hold.
        UsageError: macros that are no pairs or more than there are, or no vector.
    """
    if macros < 2 or macros > hardware.arrays or macros % 2 or vectors < 1:
        expected = f"2 to {hardware.arrays} macros (an even number: naive ping-pong works in pairs) and at least 1 vector"
        raise UsageError(f"design point: {macros} macros and {vectors} vectors found, {expected} expected on '{hardware.name}'")
    tile = Work(vectors, hardware.macro.rows, hardware.macro.cols)
    check_setting(hardware, tile, macros, vectors, hardware.macro.fastest_write_bytes_per_cycle)


def _plan_with(
    name: str, hardware: SramHardware, work: Work, macros: int, vectors: int, timer: Timer | None, steps: int
) -> Plan:  # fmt: skip
    """The fastest plan of a product with one freedom and all before it."""
    if name in _FREE:
        return choose(hardware, work, _FREE[name], timer, steps, rungs=0)
    plans = _designed(hardware, work, macros, vectors, is_slow=name == "design point")
    return min(plans, key=lambda plan: timer(hardware, plan) if timer is not None else plan.cycles)


def _designed(hardware: SramHardware, work: Work, macros: int, vectors: int, *, is_slow: bool) -> list[Plan]:
    """Plans of naive ping-pong at the design point; with fewer vectors, or fewer macros, where a layer has no more or no room."""
    macro, half = hardware.macro, max(macros // 2, 1)
    slow = min(max(hardware.link.bytes_per_cycle // half, macro.slowest_write_bytes_per_cycle), macro.fastest_write_bytes_per_cycle)
    choices = useful_vectors(hardware, work)
    kept = max((n for n in choices if n <= vectors), default=choices[0])
    while macros >= 2:
        grid = evaluate(
            hardware, work, STRATEGIES["naive_pairwise"], Dataflow.WEIGHTS, macros=(macros,), vectors=(kept,),
            speeds=(slow,) if is_slow else None,
        )  # fmt: skip
        if plans := grid.best():
            return plans
        macros = macros // 4 * 2
    return [choose(hardware, work, "naive_pairwise")]  # says in numbers what does not fit


__all__ = ["FREEDOMS", "NetworkStep", "Step", "ablate", "ablate_network", "check_design", "heaviest_product"]
