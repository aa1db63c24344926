"""Mapping: a network's layers as copies on arrays of cores.

Unfold every layer, choose how many copies each gets of a share of the crossbars, and place them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, final

from pimloom.hardware import CrossbarHardware
from pimloom.ir.graph import Graph
from pimloom.mapping.replicate import PLAIN, Demand, Split, balance, bottleneck, grid, spend
from pimloom.targets import Mode
from pimloom.targets.crossbar.capacity import capacity_error, packing_error
from pimloom.targets.crossbar.cores import CUTS, Policy
from pimloom.targets.crossbar.placement import Placement
from pimloom.targets.crossbar.placer import ROW_COST, Placer, split_of
from pimloom.targets.crossbar.serial import SerialWork
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage, analyse
from pimloom.targets.crossbar.traffic import arranged
from pimloom.targets.crossbar.unfold import Unfolded, unfold

NEIGHBOURS: Final = (Policy.SPREAD, Policy.NEXT, Policy.TIGHTEST)
BALANCED: Final = (Policy.BALANCED,)
PLAIN_WAYS: Final = (*NEIGHBOURS, Policy.BALANCED, Policy.CUT_BALANCED, Policy.CUT)
LAST_RESORT: Final = (*NEIGHBOURS, Policy.BALANCED, Policy.CUT_BALANCED, *CUTS)
ROWS_HELD: Final = 8  # rows of what is no image that a local memory should have room for
FILLS: Final = (0.88, 0.75, 0.5, 0.25, 0.0)  # shares of the crossbars tried in turn until the network fits


@final
@dataclass(frozen=True, slots=True)
class Mapped:
    """A network with its weights on arrays.

    Attributes:
        flow: the stages.
        unfolded: by MATRIX stage.
        placement: where everything is.
        copies: by MATRIX stage.
        splits: what dividing each MATRIX stage by rows was taken to cost.
        bottleneck_cycles: time of the slowest layer at the best replication on this machine, the compute bound of throughput.
        policy: how cores were chosen.
    """

    flow: Dataflow
    unfolded: Mapping[int, Unfolded]
    placement: Placement
    copies: Mapping[int, int]
    splits: Mapping[int, Split]
    bottleneck_cycles: float
    policy: Policy


@final
class Mapper:
    """Maps one network to one machine; what does not depend on the number of copies is worked out once."""

    def __init__(
        self, graph: Graph, hardware: CrossbarHardware, mode: Mode = Mode.LATENCY, unfolding: str = "", *, arranges: bool = True,
        flow: Dataflow | None = None,
    ) -> None:  # fmt: skip
        """Unfolds all layers.

        Args:
            graph: the quantised graph.
            hardware: the machine.
            mode: what the mapping is for.
            unfolding: the one unfolding to use; all are tried if empty.
            arranges: whether cores are moved so that traffic travels short ways.
            flow: the stages to map, if not all of the graph.

        Raises:
            CapacityError: one copy of each layer has more weights than the machine has crossbars.
        """
        self.hardware, self._arranges = hardware, arranges
        self.flow = flow = flow or analyse(graph, hardware.core.local_memory.size_bytes // ROWS_HELD)
        self.unfolded = {s.index: unfold(s, graph, hardware, unfolding) for s in flow.stages if s.kind is Kind.MATRIX}
        # Where cores do one thing at a time, what travels counts more than even layers.
        self._shares_cores = mode is Mode.THROUGHPUT and not self.is_serial
        self._wanted = demands(flow, hardware, self.unfolded, dict.fromkeys(self.unfolded, PLAIN))
        self.needed = sum(d.size for d in self._wanted.values())
        if self.needed > hardware.total_crossbars:
            raise capacity_error(self.needed, hardware)
        self.bottleneck_cycles = compute_bound(list(self._wanted.values()), hardware)
        if self.is_serial:
            work = SerialWork(flow, hardware, self.unfolded)
            self._wanted = {i: replace(d, window_time=work.window_cycles(i)) for i, d in self._wanted.items()}

    @property
    def is_serial(self) -> bool:
        """Whether cores do one thing at a time: work then counts more than room."""
        return self.hardware.core.issue.window == 1

    def map(
        self, fill: float, policies: Sequence[Policy] = LAST_RESORT, row_cost: float = ROW_COST, *, spends: bool = True
    ) -> Mapped | None:  # fmt: skip
        """Maps with copies on a share of the crossbars; None if they do not fit core by core.

        Args:
            fill: share of the crossbars; 0 keeps one copy of each layer.
            policies: ways to choose cores, tried in turn.
            row_cost: see `split_of`; counts in throughput mode only.
            spends: whether crossbars beyond what the slowest layer's time takes are given to other layers, too.
        """
        splits = self._splits(row_cost)
        copies = self._copies(fill, splits, spends=spends)
        for policy in (Policy.LEAST_LOADED, *CUTS) if self.is_serial else policies:
            mapped = self.place(copies, policy, given_splits=splits)
            if mapped is not None:
                return mapped
        return None

    def first(self) -> Mapped:
        """The mapping with most copies that fits.

        Raises:
            CapacityError: not even one copy of each layer fits core by core.
        """
        for fill in FILLS:
            mapped = self.map(fill)
            if mapped is not None:
                return mapped
        raise packing_error(self.needed, self.hardware)

    def place(
        self, copies: Mapping[int, int], policy: Policy, memory_factors: Mapping[int, float] | None = None,
        given_splits: Mapping[int, Split] | None = None, *, arranges: bool = True,
    ) -> Mapped | None:  # fmt: skip
        """Places copies; None if they do not fit.

        Args:
            copies: by MATRIX stage.
            policy: how to choose cores.
            memory_factors: per stage, how much more local memory than estimated it turned out to need.
            given_splits: by MATRIX stage, as the copies were chosen; those of the usual `ROW_COST` if not given.
            arranges: whether cores are moved, too; see `arranged`.
        """
        splits = self._splits(ROW_COST) if given_splits is None else given_splits
        load = self._loads(copies)
        period = max(load.values(), default=1.0)
        placer = Placer(self.flow, self.hardware, self.unfolded, dict(copies), load, dict(splits), policy, period, memory_factors)
        placement = placer.place()
        if placement is None:
            return None
        mapped = Mapped(self.flow, self.unfolded, placement, copies, splits, self.bottleneck_cycles, policy)
        return self.arranged(mapped) if arranges else mapped

    def arranged(self, mapped: Mapped) -> Mapped:
        """A mapping with its cores moved so that traffic travels short ways, if this mapper does that."""
        if not self._arranges:
            return mapped
        # In latency mode links are idle most of the time.
        in_flight = max(self._loads(mapped.copies).values(), default=1.0) if self._shares_cores else 0.0
        return replace(mapped, placement=arranged(self.flow, mapped.placement, self.hardware, mapped.unfolded, in_flight))

    def _loads(self, copies: Mapping[int, int]) -> dict[int, float]:
        """Cycles per sample of one copy, by the first stage with each weight."""
        return {i: _load(self.flow.stages[i], d, copies[i]) for i, d in self._wanted.items()}

    def _splits(self, row_cost: float) -> dict[int, Split]:
        return {
            i: split_of(self.flow.stages[i], u, self.hardware, shares_cores=self._shares_cores, row_cost=row_cost)
            for i, u in self.unfolded.items()
        }

    def _copies(self, fill: float, splits: Mapping[int, Split], *, spends: bool) -> dict[int, int]:
        # Latency hardly gains from even layers: copies are dealt out as if splits were free.
        wanted = [replace(d, split=splits[i]) if self._shares_cores else d for i, d in self._wanted.items()]
        capacity = max(self.needed, int(self.hardware.total_crossbars * fill))
        chosen = balance(wanted, capacity) if fill else [1] * len(wanted)
        if fill and spends:
            chosen = spend(wanted, chosen, capacity)
        # A split into whole rows may not need all of them.
        chosen = [math.prod(grid(d.rows, d.width, n, splits[i])) for (i, d), n in zip(self._wanted.items(), chosen, strict=True)]
        return _for_all_stages(self.flow, dict(zip(self._wanted, chosen, strict=True)))


def map_network(graph: Graph, hardware: CrossbarHardware, mode: Mode = Mode.LATENCY, unfolding: str = "") -> Mapped:
    """The mapping with most copies that fits; see `Mapper`."""
    return Mapper(graph, hardware, mode, unfolding).first()


def window_cycles(hardware: CrossbarHardware, stage: Stage, graph: Graph, unfolded: Unfolded) -> float:
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


def demands(
    flow: Dataflow, hardware: CrossbarHardware, unfolded: Mapping[int, Unfolded], splits: Mapping[int, Split]
) -> dict[int, Demand]:  # fmt: skip
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
            split=splits[index],
        )
        for weight, index in first.items()
    }  # fmt: skip


def compute_bound(wanted: Sequence[Demand], hardware: CrossbarHardware) -> float:
    """Cycles per sample of the slowest layer at the best replication that all crossbars of the machine allow.

    Splits by rows cost nothing here. On machines that work on one instruction at a time, all work spread evenly over all cores if
    that is more.
    """
    wanted = [replace(demand, split=PLAIN) for demand in wanted]
    best = bottleneck(wanted, balance(wanted, hardware.total_crossbars))
    if hardware.core.issue.window > 1:
        return best
    return max(best, sum(d.rows * d.width * d.repeats * d.window_time for d in wanted) / hardware.total_cores)


def _load(stage: Stage, demand: Demand, copies: int) -> float:
    return demand.rows * demand.width * demand.repeats * demand.window_time / max(copies, 1)


def _for_all_stages(flow: Dataflow, chosen: Mapping[int, int]) -> dict[int, int]:
    by_weight = {flow.graph.nodes[flow.stages[i].node].inputs[1]: n for i, n in chosen.items()}
    return {s.index: by_weight[flow.graph.nodes[s.node].inputs[1]] for s in flow.stages if s.kind is Kind.MATRIX}
