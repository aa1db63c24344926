"""The compiler of the sram target: plan every product, lower all, and let the simulator choose between plans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

import numpy as np

from pimloom.errors import CapacityError, ModelError, UsageError
from pimloom.hardware import Hardware, SramHardware
from pimloom.ir.graph import Graph
from pimloom.ir.ops import Rule, full_attributes, op_of
from pimloom.ir.quantised import rule_of
from pimloom.program import Groups, Matrix, Program, Region
from pimloom.targets import Request
from pimloom.targets.sram.lower import Lowering
from pimloom.targets.sram.plan import Plan, choose
from pimloom.targets.sram.products import General, Network, Product, analyse, matrix_of
from pimloom.targets.sram.strategies import BASELINES, FAMILIES
from pimloom.targets.sram.work import Work

Array = np.ndarray[Any, np.dtype[Any]]
Step = Product | General

ALIGNMENT_BYTES: Final = 64
MOST_ROWS_COMPARED: Final = 150_000
"""Rows up to which `auto` at effort 1 also tries every strategy for the whole network."""

GENERAL_BYTES: Final = 2048
"""Operands and results of one block of a general node."""

SELECTING: Final = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
TRIED: Final[Mapping[int, int]] = {0: 1, 1: 6, 2: 12, 3: 24}
"""Candidates that are simulated for a product, by effort."""


def compile_network(graph: Graph, hardware: Hardware, request: Request) -> Program:
    """Compiles a quantised graph for a machine whose macros are rewritten.

    Raises:
        CapacityError: the memory outside, or the memories on the chip, are too small.
        UsageError: an unknown strategy, or codes of more than 8 bits asked for.
    """
    assert isinstance(hardware, SramHardware)
    wanted = request.strategy or "auto"
    if wanted not in FAMILIES:
        raise UsageError(f"strategy: '{wanted}' found, one of {', '.join(FAMILIES)} expected")
    network = analyse(graph)
    _check_widths(network, hardware)
    request.progress("planning")
    best = _compile_as(network, hardware, request, wanted, wanted)
    if wanted != "auto" or request.cost is None or request.effort == 0:
        return best
    if request.effort == 1 and best.n_rows > MOST_ROWS_COMPARED:
        return best
    # The fastest plan of each product alone need not be the fastest where the next product's weights are written ahead.
    found = [best, *(_compile_as(network, hardware, request, name, "auto") for name in BASELINES)]
    return min(found, key=lambda program: request.cost(program)[0] if request.cost else 0)


def _compile_as(network: Network, hardware: SramHardware, request: Request, family: str, wanted: str) -> Program:
    """The program in which every product has the plan of one family."""
    planner = _Planner(network, hardware, request, family)
    plans = [planner.plan(step) if isinstance(step, Product) else None for step in network.steps]
    request.progress("lowering")
    return build(network, hardware, list(zip(network.steps, plans, strict=True)), request, _notes(network, hardware, plans, wanted))


def _check_widths(network: Network, hardware: SramHardware) -> None:
    """Refuses a network of which macros can compute nothing because its codes are too wide."""
    if any(isinstance(step, Product) for step in network.steps):
        return
    graph = network.graph
    for node in graph.nodes:
        types = [t for t in graph.input_types(node)[:2] if t is not None and t.quant is not None]
        wide = max((8 * t.itemsize_bytes for t in types), default=8)
        if op_of(node).rule is Rule.LINEAR and wide > 8:
            raise ModelError(
                f"node '{node.name}' ({node.op}): codes of {wide} bits found, 8 expected: macros of '{hardware.name}' multiply bytes; "
                "compile with 8 bits for weights and activations"
            )


@final
@dataclass(slots=True)
class _Planner:
    """Plans products; those of one shape once."""

    network: Network
    hardware: SramHardware
    request: Request
    wanted: str
    known: dict[tuple[Work, int, bool], Plan] = field(default_factory=dict[tuple[Work, int, bool], Plan])

    def plan(self, product: Product) -> Plan:
        """The plan of a product: by the simulator where the request has one, else by prediction."""
        key = (product.work, product.parts, product.is_dynamic)
        if key not in self.known:
            self.known[key] = self._choose(product)
        return self.known[key]

    def _choose(self, product: Product) -> Plan:
        cost, wide = self.request.cost, _widened(product)
        if cost is None or self.request.effort == 0:
            return choose(self.hardware, wide, self.wanted)
        timed = cost

        def cycles(plan: Plan) -> float:
            return float(timed(build(self.network, self.hardware, [(product, plan)], self.request, {}))[0])

        return choose(self.hardware, wide, self.wanted, cycles, TRIED[self.request.effort])


def _widened(product: Product) -> Work:
    """The parts of a product as one matrix, for planning."""
    work = product.work
    return work if product.parts == 1 else Work(work.vectors, work.rows, work.cols * product.parts, work.windows)


# -- the program ----------------------------------------------------------------------------------------------------


def build(
    network: Network, hardware: SramHardware, steps: Sequence[tuple[Step, Plan | None]], request: Request, notes: Mapping[str, Any]
) -> Program:
    """The program of some steps of a network with their plans."""
    graph = network.graph
    regions = _regions(network, hardware, request.samples)
    lowering = Lowering(hardware, graph, {region.value: i for i, region in enumerate(regions)})
    matrices: dict[str, Matrix] = {}
    for step, plan in steps:
        if plan is None or isinstance(step, General):
            _add_general(lowering, graph, step, hardware)
            continue
        if not step.is_dynamic and step.weight not in matrices:
            matrices[step.weight] = Matrix(step.weight, matrix_of(graph, step))
        lowering.product(step, plan, -1 if step.is_dynamic else list(matrices).index(step.weight))
    if request.samples > 1 and lowering.last_store >= 0:
        lowering.emitted.wait(np.array(lowering.first_users), lowering.last_store, samples_back=1)
    columns = np.concatenate([np.zeros((7, 0), np.int64), *lowering.groups], axis=1).astype(np.int32)
    return Program(
        name=graph.name, target="sram", mode=request.mode.value, samples=request.samples, hardware=hardware, graph=graph,
        groups=Groups(*(np.ascontiguousarray(column) for column in columns)), matrices=tuple(matrices.values()), regions=regions,
        blocks=lowering.blocks(), notes=dict(notes), **lowering.emitted.tables(hardware.processors),
    )  # fmt: skip


def _add_general(lowering: Lowering, graph: Graph, step: Step, hardware: SramHardware) -> None:
    node = graph.nodes[step.node]
    inputs, outputs = graph.input_types(node), graph.output_types(node)
    made = sum(graph.types[v].size_bytes for v in node.outputs if v)
    # A row that is selected from a table is all that is read of it.
    read = sum(min(t.size_bytes, made) if node.op in SELECTING else t.size_bytes for t in inputs if t is not None)
    macs = op_of(node).macs(full_attributes(node), inputs, outputs)
    # A function of one code is a table: one operation, whatever the function.
    each = 1.0 if rule_of(node, inputs, outputs) is Rule.LOOKUP else max(op_of(node).work, 1.0)
    work = macs or int(each * sum(graph.types[v].size for v in node.outputs if v))
    sources = step.sources if isinstance(step, General) else (step.source,)
    lowering.general(step.node, sources, read, made, work, GENERAL_BYTES)


def _regions(network: Network, hardware: SramHardware, samples: int) -> tuple[Region, ...]:
    """Every value that is made or given, in the memory outside."""
    found: list[Region] = []
    address = 0
    for value, layout in network.layouts.items():
        size = -(-network.graph.types[value].size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        found.append(Region(value, address, size, 0, layout))
        address += size * samples
    if address > hardware.global_memory_bytes:
        advice = "use a smaller batch or a machine with more memory outside"
        raise CapacityError("memory outside the chip (bytes)", address, hardware.global_memory_bytes, hardware.name, advice)
    return tuple(found)


# -- notes ----------------------------------------------------------------------------------------------------------


def _notes(network: Network, hardware: SramHardware, plans: Sequence[Plan | None], wanted: str) -> dict[str, Any]:
    graph = network.graph
    compute, kinds, told = 0.0, dict[str, str](), dict[str, dict[str, Any]]()
    for step, plan in zip(network.steps, plans, strict=True):
        name = graph.nodes[step.node].name
        kinds[name] = "general" if isinstance(step, General) else "macros"
        if plan is None or isinstance(step, General):
            continue
        compute += step.parts * step.work.vectors * step.work.rows * step.work.cols / hardware.macro.size_bytes
        told[name] = {
            "strategy": plan.strategy, "dataflow": plan.dataflow.value, "macros": plan.macros, "vectors": plan.vectors,
            "bytes_per_cycle": plan.bytes_per_cycle, "writers": plan.writers, "serpentine": plan.is_serpentine,
            "planned_cycles": round(plan.cycles), "bound_cycles": round(plan.bound_cycles),
        }  # fmt: skip
    return {
        "strategy": wanted,
        "compute_bound_cycles": compute * hardware.macro.vector_cycles / hardware.arrays,
        "kinds": kinds,
        "plans": told,
    }


__all__ = ["build", "compile_network"]
