"""`plan MODEL`: how macros are rewritten for each layer of a network, and where a gain over naive ping-pong comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pimloom.cli.console import draw, new_table
from pimloom.cli.files import parsed_shapes

if TYPE_CHECKING:
    from rich.console import Console

    from pimloom.hardware import SramHardware
    from pimloom.ir.graph import Graph
    from pimloom.targets.sram.explain import NetworkStep
    from pimloom.targets.sram.plan import Plan
    from pimloom.targets.sram.products import Network


def draw_network_plans(machine: SramHardware, model: str, shapes: Sequence[str], strategy: str, *, is_simulated: bool) -> None:
    """The plan of every layer as a table; each layer is simulated alone if asked for, else predicted."""
    from pimloom import api
    from pimloom.targets import Request
    from pimloom.targets.sram.compile import STEPS, plan_steps
    from pimloom.targets.sram.products import analyse
    from pimloom.targets.sram.tune import Timer, choose
    from pimloom.targets.sram.work import Work

    effort = 1 if is_simulated else 0
    request = Request(effort=effort, cost=api.cycles if is_simulated else None, progress=_silent)

    def pick(work: Work, timer: Timer | None) -> Plan:
        return choose(machine, work, strategy, timer, STEPS[effort], rungs=0)

    network = analyse(_quantised(machine, model, shapes), machine.macro)
    plans = plan_steps(network, machine, request, pick)
    draw(lambda console: _draw_plans(console, machine, network, plans, is_simulated=is_simulated))


def draw_network_steps(machine: SramHardware, model: str, shapes: Sequence[str], macros: int, vectors: int) -> None:
    """The steps from naive ping-pong at a design point to `auto`, whole networks simulated, with what each one gains."""
    from pimloom import api
    from pimloom.targets import Request
    from pimloom.targets.sram.explain import ablate_network, check_design

    check_design(machine, macros, vectors)
    graph = _quantised(machine, model, shapes)
    steps = ablate_network(graph, machine, Request(cost=api.cycles, progress=_silent), macros, vectors)
    draw(lambda console: _draw_steps(console, machine, graph, steps, macros, vectors))


def _silent(_: str) -> None:
    """Progress that a table replaces."""


def _quantised(machine: SramHardware, model: str, shapes: Sequence[str]) -> Graph:
    from pimloom import api

    return api.quantise(api.load(model, parsed_shapes(shapes)), machine)


def _draw_plans(console: Console, machine: SramHardware, network: Network, plans: Sequence[Plan | None], *, is_simulated: bool) -> None:
    from pimloom.targets.sram.plan import streams
    from pimloom.targets.sram.products import Product

    graph = network.graph
    console.print(f"{graph.name} on {machine.name}, {machine.link.bytes_per_cycle} B/cycle")
    table = new_table("vectors x matrix", "strategy", "streams", "N>", "n>", "s>", "a>", "cycles>", "layer")
    found: Counter[str] = Counter()
    for step, plan in zip(network.steps, plans, strict=True):
        if not isinstance(step, Product) or plan is None:
            found["SFU"] += 1
            continue
        work, kind = step.work, streams(machine, step.work, plan)
        found[kind] += 1
        size = f"{work.vectors}x{work.rows}x{work.cols}" + (f" ({work.parts})" if work.parts > 1 else "")
        table.add_row(
            size, plan.strategy.removeprefix("naive_"), _SHORT[kind] + (" <>" if plan.is_serpentine else ""), str(plan.macros),
            str(plan.vectors), str(plan.bytes_per_cycle), str(plan.writers), f"{plan.cycles:,.0f}", graph.nodes[step.node].name,
        )  # fmt: skip
    console.print(table)
    console.print(_LEGEND.format("each layer simulated alone" if is_simulated else "predicted"), soft_wrap=True)
    console.print("; ".join(f"{_LONG[kind]}: {count}" for kind, count in sorted(found.items())), soft_wrap=True)


_SHORT = {"weights streamed": "weights", "activations streamed": "inputs", "resident": "-"}
_LONG = {
    "weights streamed": "layers that stream weights", "activations streamed": "that stream inputs", "resident": "whose weights stay",
    "SFU": "nodes on the SFU",
}  # fmt: skip
_LEGEND = """
N macros, n vectors per chunk, s bytes per cycle of a rewrite, a macros that
write at once. weights: all tiles pass for each chunk (<> back and forth);
inputs: all chunks pass for each tile; -: weights stay. (p): parts, e.g. heads.
cycles: {}"""


def _draw_steps(console: Console, machine: SramHardware, graph: Graph, steps: Sequence[NetworkStep], macros: int, vectors: int) -> None:
    console.print(
        f"{graph.name} on {machine.name}, {machine.link.bytes_per_cycle} B/cycle; design point: {macros} macros, {vectors} vectors"
    )
    table = new_table("freedom", "cycles>", "gain>", "in all>", "products by strategy, by what is streamed")
    before = steps[0].cycles
    for step in steps:
        told = [f"{name} {count}" for name, count in step.strategies.most_common()]
        told += [f"{name} {count}" for name, count in step.dataflows.most_common()]
        gains = (f"{before / step.cycles:.2f}x", f"{steps[0].cycles / step.cycles:.2f}x")
        table.add_row(step.name, f"{step.cycles:,.0f}", *gains, ", ".join(told))
        before = step.cycles
    console.print(table)
    told_before: object = None
    for step in steps:
        if step.lowered and step.lowered != told_before:
            told_before = step.lowered
            told = ", ".join(f"{name} {count} and {n}" for name, (count, n) in list(step.lowered.items())[:_MOST_TOLD])
            more = f" and {len(step.lowered) - _MOST_TOLD} more" if len(step.lowered) > _MOST_TOLD else ""
            console.print(
                f"{step.name}: less than the design point (macros and vectors) where a layer has no more: {told}{more}", soft_wrap=True
            )


_MOST_TOLD = 6


__all__ = ["draw_network_plans", "draw_network_steps"]
