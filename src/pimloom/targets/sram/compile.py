"""The compiler of the sram target: plan every product, lower all, and let the simulator choose between plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from pimloom.targets.sram.plan import Plan, streams
from pimloom.targets.sram.products import General, Network, Product, analyse, matrix_of
from pimloom.targets.sram.strategies import FAMILIES, parts
from pimloom.targets.sram.tune import RUNGS_PER_OCTAVE, Timer, choose
from pimloom.targets.sram.work import Work

Array = np.ndarray[Any, np.dtype[Any]]
Step = Product | General
Pick = Callable[[Work, Timer | None], Plan]

Timings = dict[tuple[Work | int, bool, int, Plan | None], float]
"""Simulated cycles by work (or node, on the SFU), whether its weights are a value, bandwidth, and plan."""

ALIGNMENT_BYTES: Final = 64
MOST_ROWS_COMPARED: Final[Mapping[int, int]] = {0: 50_000, 1: 1_000_000}
"""Rows up to which whole networks are also tried in other ways, such as with every strategy under `auto`, by effort; any number beyond."""

FEW_ROWS: Final = 150_000
"""Rows up to which effort 1 also tries what effort 0 does."""

GENERAL_BYTES: Final = 2048
"""Operands and results of one block of a general node."""

SELECTING: Final = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})
STEPS: Final[Mapping[int, int]] = {0: 0, 1: 6, 2: 12, 3: 24}
"""Settings around the best prediction of each strategy that are simulated for a product, by effort."""


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
    network = analyse(graph, hardware.macro)
    _check_widths(network, hardware)
    request.progress("planning")
    timings: Timings = {}
    trials = _trials(wanted, request.effort, has_one_step=len(network.steps) == 1)
    first = _planned_as(network, hardware, request, trials[0], timings)
    best = program_of(network, hardware, request, first, wanted)
    if request.cost is None or best.n_rows > MOST_ROWS_COMPARED.get(request.effort, best.n_rows):
        return best
    if best.n_rows > FEW_ROWS and request.effort == 1:
        trials = [trial for trial in trials if trial.steps]
    # The fastest plan of each product alone need not be the fastest where the next product's weights are written ahead.
    others = dict.fromkeys(tuple(_planned_as(network, hardware, request, trial, timings)) for trial in trials[1:])
    others.pop(tuple(first), None)
    if not others:
        return best
    found = (best, *(program_of(network, hardware, request, plans, wanted) for plans in others))
    return min(found, key=lambda program: request.cost(program)[0] if request.cost else 0)


@final
@dataclass(frozen=True, slots=True)
class _Trial:
    """How the products of a whole network are planned.

    Attributes:
        family: of strategies.
        steps: settings that are tried around the best predictions.
        rungs: of the ladder of bandwidths whose findings are considered, too; see `choose`.
    """

    family: str
    steps: int
    rungs: int


def _trials(wanted: str, effort: int, *, has_one_step: bool) -> list[_Trial]:
    """What is tried for a network: every family of strategies that is part of the one that is wanted, and all that smaller efforts try.

    What one product does with less bandwidth says little of a network, where products share the link with their neighbours: the
    ladder is for single products, and for larger efforts.
    """
    families = (wanted, *parts(wanted))
    efforts = range(effort, -1, -1)
    rungs = {0: 0, 1: RUNGS_PER_OCTAVE if has_one_step else 0}
    found = [_Trial(family, STEPS[e], rungs.get(e, RUNGS_PER_OCTAVE if has_one_step else 1)) for e in efforts for family in families]
    return list(dict.fromkeys(found))


def _planned_as(network: Network, hardware: SramHardware, request: Request, trial: _Trial, timings: Timings) -> list[Plan | None]:
    """The plan of every step as a trial chooses it."""

    def pick(work: Work, timer: Timer | None) -> Plan:
        return choose(hardware, work, trial.family, timer, trial.steps, rungs=trial.rungs)

    return plan_steps(network, hardware, request, pick, timings)


def plan_steps(
    network: Network, hardware: SramHardware, request: Request, pick: Pick, timings: Timings | None = None
) -> list[Plan | None]:  # fmt: skip
    """The plan of every step; None where the SFU computes it.

    Args:
        network: what is compiled.
        hardware: the machine.
        request: its cost times plans, all the more the larger its effort; predictions decide without it.
        pick: chooses the plan of a product, with what times a plan, or None.
        timings: what was simulated so far, to which more is added.

    Raises:
        CapacityError: a product does not fit.
    """
    planner = _Planner(network, hardware, request, pick, {} if timings is None else timings)
    return [planner.plan(step) if isinstance(step, Product) else None for step in network.steps]


def program_of(
    network: Network, hardware: SramHardware, request: Request, plans: Sequence[Plan | None], wanted: str
) -> Program:  # fmt: skip
    """The program of a network whose steps have plans, which are noted in it."""
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
                "compile with 8 bits for weights and activations; a model that states 16 bits itself is to be quantised with 8"
            )


@final
@dataclass(slots=True)
class _Planner:
    """Plans products; those of one shape once."""

    network: Network
    hardware: SramHardware
    request: Request
    pick: Pick
    timings: Timings
    known: dict[tuple[Work, bool], Plan | None] = field(default_factory=dict[tuple[Work, bool], "Plan | None"])

    def plan(self, product: Product) -> Plan | None:
        """The plan of a product, None where the SFU is faster: by the simulator where the request has one, else by prediction."""
        key = (product.work, product.is_dynamic)
        if key not in self.known:
            self.known[key] = self._choose(product) if product.groups == 1 else self._choose_for_groups(product)
        return self.known[key]

    def _choose(self, product: Product) -> Plan:
        if self.request.cost is None:
            return self.pick(product.work, None)
        return self.pick(product.work, lambda machine, plan: self._simulated(machine, product, plan))

    def _choose_for_groups(self, product: Product) -> Plan | None:
        """Macros hold little more than zeros beside the groups, and each output passes the SFU all the same: it may do the rest."""
        try:
            plan = self._choose(product)
        except CapacityError:
            return None
        if self.request.cost is None:
            general = _general_cycles(self.hardware, *_amounts(self.network.graph, product))
        else:
            general = self._simulated(self.hardware, product, None)
        return plan if plan.cycles <= general else None

    def _simulated(self, machine: SramHardware, product: Product, plan: Plan | None) -> float:
        key = (product.work if plan is not None else product.node, product.is_dynamic, machine.link.bytes_per_cycle, plan)
        if key not in self.timings:
            assert self.request.cost is not None
            self.timings[key] = float(self.request.cost(build(self.network, machine, [(product, plan)], self.request, {}))[0])
        return self.timings[key]


def _general_cycles(hardware: SramHardware, read_bytes: int, made_bytes: int, operations: int) -> float:
    """Predicted cycles of a node on the SFU: its blocks cross the link while others are computed."""
    link, unit = hardware.link, hardware.sfu
    moved = (read_bytes + made_bytes) / link.bytes_per_cycle if link.carries_activations else 0.0
    return max(moved, operations / unit.lanes * unit.beat_cycles) + link.latency_cycles + unit.latency_cycles


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
            _add_general(lowering, graph, step)
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


def _add_general(lowering: Lowering, graph: Graph, step: Step) -> None:
    sources = step.sources if isinstance(step, General) else (step.source,)
    lowering.general(step.node, sources, *_amounts(graph, step), GENERAL_BYTES)


def _amounts(graph: Graph, step: Step) -> tuple[int, int, int]:
    """Bytes that the SFU reads and makes for a node, and its operations."""
    node = graph.nodes[step.node]
    inputs, outputs = graph.input_types(node), graph.output_types(node)
    made = sum(graph.types[v].size_bytes for v in node.outputs if v)
    # A row that is selected from a table is all that is read of it.
    read = sum(min(t.size_bytes, made) if node.op in SELECTING else t.size_bytes for t in inputs if t is not None)
    macs = op_of(node).macs(full_attributes(node), inputs, outputs)
    # A function of one code is a table: one operation, whatever the function.
    each = 1.0 if rule_of(node, inputs, outputs) is Rule.LOOKUP else max(op_of(node).work, 1.0)
    return read, made, macs or int(each * sum(graph.types[v].size for v in node.outputs if v))


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
        kinds[name] = "general" if plan is None or isinstance(step, General) else "macros"
        if plan is None or isinstance(step, General):
            continue
        compute += _macs(graph, step) / hardware.macro.size_bytes
        told[name] = {
            "strategy": plan.strategy, "dataflow": streams(hardware, step.work, plan), "macros": plan.macros, "vectors": plan.vectors,
            "bytes_per_cycle": plan.bytes_per_cycle, "writers": plan.writers, "serpentine": plan.is_serpentine,
            "planned_cycles": round(plan.cycles), "bound_cycles": round(plan.bound_cycles),
        }  # fmt: skip
    return {
        "strategy": wanted,
        "compute_bound_cycles": compute * hardware.macro.vector_cycles / hardware.arrays,
        "compute_bound": "all products, spread evenly over all macros",
        "kinds": kinds,
        "plans": told,
    }


def _macs(graph: Graph, product: Product) -> int:
    """Multiplications that a product needs, zeros beside the groups of a convolution left out."""
    node = graph.nodes[product.node]
    return op_of(node).macs(full_attributes(node), graph.input_types(node), graph.output_types(node))


__all__ = ["STEPS", "Pick", "build", "compile_network", "plan_steps", "program_of"]
