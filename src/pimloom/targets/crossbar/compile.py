"""The compiler of the crossbar target: unfold, replicate, place, lower; and refine by simulation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from pimloom.errors import CapacityError, InternalError
from pimloom.hardware import Hardware
from pimloom.ir.graph import Graph
from pimloom.mapping.replicate import Demand, balance, bottleneck, spend
from pimloom.program import Program
from pimloom.targets import Mode, Request
from pimloom.targets.crossbar.lower import Lowering, Options
from pimloom.targets.crossbar.placement import Placement, Placer, Policy, capacity_error, split_of
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage, analyse
from pimloom.targets.crossbar.traffic import arranged
from pimloom.targets.crossbar.unfold import Unfolded, unfold

_ALL_FILLS = (0.88, 1.0, 0.75, 0.6, 0.5, 0.35, 0.25)  # holds FILLS: more effort is never worse
EFFORT_FILLS = ((), (0.88, 0.6), _ALL_FILLS, _ALL_FILLS)
SHRINK = 0.3  # what is left of the buffers of a core that is too full, at each try
LEAST_SHARE = 0.005
FILLS = (0.88, 0.75, 0.5, 0.25, 0.0)  # shares of the crossbars tried in turn until the network fits


@final
@dataclass(frozen=True, slots=True)
class Mapped:
    """A network with its weights on arrays.

    Attributes:
        flow: the stages.
        unfolded: by MATRIX stage.
        placement: where everything is.
        copies: by MATRIX stage.
        bottleneck_cycles: time of the slowest layer at the best replication on this machine, the compute bound of throughput.
    """

    flow: Dataflow
    unfolded: Mapping[int, Unfolded]
    placement: Placement
    copies: Mapping[int, int]
    bottleneck_cycles: float


def window_cycles(hardware: Hardware, stage: Stage, graph: Graph, unfolded: Unfolded) -> float:
    """Cycles that one window takes on one copy.

    The interval of the arrays, or all its MVMs in turn where a core does one thing at a time.
    """
    bits = 8 * graph.types[stage.inputs[0].value].itemsize_bytes
    if hardware.core.issue.window > 1:
        return float(hardware.crossbar.mvm_interval_cycles(bits))
    unit, memory = hardware.core.vector_unit, hardware.core.local_memory
    columns = -(-stage.shape.channels // unit.lanes) * unit.beat_cycles
    sums = -(-stage.shape.channels * 4 // memory.width_bytes) * (memory.read_beat_cycles + memory.write_beat_cycles)
    gather = unfolded.costs.gather_beats / unfolded.costs.mvms * memory.read_beat_cycles
    return unfolded.costs.mvms * (hardware.crossbar.mvm_cycles(bits) + columns + sums + gather)


def demands(flow: Dataflow, hardware: Hardware, unfolded: Mapping[int, Unfolded]) -> dict[int, Demand]:
    """What each weight wants, by the first stage that uses it."""
    first: dict[str, int] = {}
    uses: dict[str, int] = {}
    for stage in flow.stages:
        if stage.kind is Kind.MATRIX:
            weight = flow.graph.nodes[stage.node].inputs[1]
            first.setdefault(weight, stage.index)
            uses[weight] = uses.get(weight, 0) + 1
    return {
        index: Demand(
            flow.stages[index].shape.rows, flow.stages[index].shape.width, uses[weight],
            window_cycles(hardware, flow.stages[index], flow.graph, unfolded[index]), unfolded[index].crossbars,
        )
        for weight, index in first.items()
    }  # fmt: skip


def map_network(graph: Graph, hardware: Hardware, *, fills: Sequence[float] = FILLS, unfolding: str = "") -> Mapped:
    """Unfolds, replicates and places a quantised graph.

    Args:
        graph: the quantised graph.
        hardware: the machine.
        fills: shares of the crossbars that copies may take, tried in turn; 0 keeps one copy of each layer.
        unfolding: the one unfolding to use; all are tried if empty.

    Raises:
        CapacityError: one copy of each layer does not fit.
    """
    flow = analyse(graph)
    unfolded = {s.index: unfold(s, graph, hardware, unfolding) for s in flow.stages if s.kind is Kind.MATRIX}
    wanted = demands(flow, hardware, unfolded)
    needed = sum(d.size for d in wanted.values())
    if needed > hardware.total_crossbars:
        raise capacity_error(needed, hardware)
    serial = hardware.core.issue.window == 1
    for fill in fills:
        capacity = max(needed, int(hardware.total_crossbars * fill))
        chosen = balance(list(wanted.values()), capacity)
        chosen = spend(list(wanted.values()), chosen, capacity) if fill else [1] * len(chosen)
        # A split into whole rows may not need all of them.
        chosen = [math.prod(split_of(flow.stages[i], n)) for i, n in zip(wanted, chosen, strict=True)]
        copies = _for_all_stages(flow, dict(zip(wanted, chosen, strict=True)))
        load = {i: _load(flow.stages[i], wanted[i], copies[i]) for i in wanted}
        for policy in (Policy.LEAST_LOADED,) if serial else (Policy.SPREAD, Policy.NEXT, Policy.TIGHTEST):
            placement = Placer(flow, hardware, unfolded, copies, load, policy).place()
            if placement is not None:
                moved = arranged(flow, placement, hardware)
                return Mapped(flow, unfolded, moved, copies, compute_bound(list(wanted.values()), hardware))
    raise capacity_error(needed, hardware)


def compute_bound(wanted: Sequence[Demand], hardware: Hardware) -> float:
    """Cycles per sample of the slowest layer at the best replication that all crossbars of the machine allow.

    On machines that work on one instruction at a time, all work spread evenly over all cores if that is more.
    """
    best = bottleneck(wanted, balance(wanted, hardware.total_crossbars))
    if hardware.core.issue.window > 1:
        return best
    return max(best, sum(d.rows * d.width * d.repeats * d.window_time for d in wanted) / hardware.total_cores)


def _load(stage: Stage, demand: Demand, copies: int) -> float:
    return demand.rows * demand.width * demand.repeats * demand.window_time / max(copies, 1)


def _for_all_stages(flow: Dataflow, chosen: Mapping[int, int]) -> dict[int, int]:
    by_weight = {flow.graph.nodes[flow.stages[i].node].inputs[1]: n for i, n in chosen.items()}
    return {s.index: by_weight[flow.graph.nodes[s.node].inputs[1]] for s in flow.stages if s.kind is Kind.MATRIX}


def lower(mapped: Mapped, hardware: Hardware, options: Options, notes: Mapping[str, Any] | None = None) -> Program:
    """The program of a mapped network."""
    shares: dict[int, float] = {}
    while True:
        lowering = Lowering(mapped.flow, hardware, mapped.unfolded, mapped.placement, options, shares)
        full = lowering.plan()
        if not full:
            return replace(lowering.emit(), notes={**_notes(mapped, hardware), **(notes or {})})
        # Smaller tasks on the cores that are too full, until they fit or tasks are down to single vectors.
        for core in full:
            shares[core] = shares.get(core, 1.0) * SHRINK
        worst = max(full, key=full.__getitem__)
        if min(shares[core] for core in full) < LEAST_SHARE:
            raise CapacityError(
                f"local memory of core {worst} (bytes)", full[worst], hardware.core.local_memory.size_bytes, hardware.name,
                "use a machine with more local memory per core, or more cores",
            )  # fmt: skip


def _notes(mapped: Mapped, hardware: Hardware) -> dict[str, Any]:
    graph = mapped.flow.graph
    used = sum(g.crossbars for g in mapped.placement.groups)
    return {
        "crossbars_used": used,
        "crossbars_available": hardware.total_crossbars,
        "compute_bound_cycles": mapped.bottleneck_cycles,
        "crossbars_per_copy": {graph.nodes[mapped.flow.stages[i].node].name: u.crossbars for i, u in mapped.unfolded.items()},
        "copies": {graph.nodes[mapped.flow.stages[i].node].name: n for i, n in mapped.copies.items()},
        "kinds": {graph.nodes[s.node].name: s.kind.value for s in mapped.flow.stages},
    }


def compile_network(graph: Graph, hardware: Hardware, request: Request) -> Program:
    """Compiles a quantised graph for a machine of crossbar cores.

    Copies of layers make a network faster until links and local memories are what it waits for; where that is depends on both.
    So several shares of the crossbars are tried and the simulator, if it was handed in, says which program is best.
    """
    options = Options(mode=request.mode.value, samples=request.samples)
    search = _Search(graph, hardware, request)
    if request.effort == 0 or request.cost is None:
        search.first_feasible(options)
    else:
        for fill in EFFORT_FILLS[request.effort]:
            if search.best is None or search.leaves_room(fill):
                search.add(fill, options)
        if search.best is None:
            search.first_feasible(options)
    if request.effort == 3 and request.cost is not None:
        search.vary(options)
    return search.result()


@final
class _Search:
    """Keeps the best program so far."""

    def __init__(self, graph: Graph, hardware: Hardware, request: Request) -> None:
        """Nothing tried yet."""
        self.graph, self.hardware, self.request = graph, hardware, request
        self.best: Program | None = None
        self.best_cost = float("inf")
        self.best_fill = 0.0
        self.tried: list[dict[str, Any]] = []
        self._mapped: dict[tuple[Any, ...], Mapped] = {}

    def add(self, fill: float, options: Options, label: str = "") -> bool:
        """Tries a share of the crossbars; whether it fits."""
        name = label or f"copies on {fill:.0%} of the crossbars"
        self.request.progress(name)
        try:
            program = lower(self._map(fill), self.hardware, options)
        except CapacityError as error:
            self.tried.append({"what": name, "fits": False, "why": str(error)})
            if fill == 0.0:
                raise
            return False
        cost = self._cost(program)
        self.tried.append({"what": name, "fits": True, "cycles": cost})
        if self.best is None or cost < self.best_cost:
            self.best, self.best_cost, self.best_fill = program, cost, fill
        return True

    def leaves_room(self, fill: float) -> bool:
        """Whether one copy of everything takes less than a share of the crossbars."""
        assert self.best is not None
        used, copies = 0, self.best.notes["copies"]
        for name, crossbars in self.best.notes["crossbars_per_copy"].items():
            used += crossbars if name in copies else 0
        return used < fill * self.hardware.total_crossbars

    def _map(self, fill: float) -> Mapped:
        mapped = map_network(self.graph, self.hardware, fills=(fill, *(f for f in FILLS if f < fill)))
        key = tuple(sorted(mapped.copies.items()))
        return self._mapped.setdefault(key, mapped)

    def _cost(self, program: Program) -> float:
        if self.request.cost is None:
            return 0.0
        latency, period = self.request.cost(program)
        return period if self.request.mode is Mode.THROUGHPUT else float(latency)

    def first_feasible(self, options: Options) -> None:
        """Fewer and fewer copies until it fits; the CapacityError of the last if nothing does."""
        for fill in FILLS:
            if self.add(fill, options):
                return

    def vary(self, options: Options) -> None:
        """Varies what the order of work rests on, around the best share."""
        for delay in (50.0, 800.0, 3000.0):
            self.add(self.best_fill, replace(options, delay_cycles=delay), f"assumed delay of {delay:.0f} cycles")
        for lead in (1000.0, 16000.0):
            self.add(self.best_fill, replace(options, lead_cycles=lead), f"loads {lead:.0f} cycles ahead")
        for slack in (0, 4, 8):
            self.add(self.best_fill, replace(options, slack_rows=slack), f"{slack} rows of slack")

    def result(self) -> Program:
        """The best program, with what was tried among its notes."""
        if self.best is None:
            raise InternalError("no mapping was tried")
        return replace(self.best, notes={**self.best.notes, "tried": self.tried})
