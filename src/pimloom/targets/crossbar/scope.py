"""The scope of a lowering: one placed network, the choices made for it, and what every step looks up in them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import final

from pimloom.hardware import CrossbarHardware
from pimloom.program.widths import sum_bytes
from pimloom.targets.crossbar.geometry import general_operations, input_columns, input_rows
from pimloom.targets.crossbar.placement import Cluster, Placement
from pimloom.targets.crossbar.shards import channels_read
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage
from pimloom.targets.crossbar.timetable import Task
from pimloom.targets.crossbar.unfold import Unfolded

BUFFERS = 2
TIGHT_SHARE = 0.15  # of the usual buffers, below which a cluster has one buffer of each kind


@final
@dataclass(frozen=True, slots=True)
class Options:
    """Choices of the lowering that refinement may vary.

    Attributes:
        mode: "latency" or "throughput".
        samples: inputs per run.
        slack_rows: rows that a ring may hold beyond the least.
        delay_cycles: time assumed from a result to its reader on another core.
        lead_cycles: how long before its first use a row is loaded from global memory.
        period_room: time between samples in the order of instructions, over the least that buffers allow.
        has_periods: whether samples overlap in that order; without, each follows the one before on every core.
    """

    mode: str = "latency"
    samples: int = 1
    slack_rows: int = 2
    delay_cycles: float = 200.0
    lead_cycles: float = 4000.0
    period_room: float = 1.0
    has_periods: bool = True


@final
class Scope:
    """What is lowered: stages, machine, placement and options, with look-ups.

    Clusters are numbered through all stages.
    """

    def __init__(
        self, flow: Dataflow, hardware: CrossbarHardware, unfolded: Mapping[int, Unfolded], placement: Placement, options: Options,
        shares: Mapping[int, float] | None = None, windowed: Collection[int] = (), kept: Collection[str] = (),
    ) -> None:  # fmt: skip
        """Takes the stages, the machine, the unfoldings by stage, where everything is, and the choices.

        Values in `kept` are left in global memory for others to read. On cores in `windowed`, whose memory is too small, rings may
        become windows; `shares` shrinks the buffers of cores where even that is not enough.
        """
        self.flow, self.graph, self.hardware, self.unfolded = flow, flow.graph, hardware, unfolded
        self.placement, self.options = placement, options
        self.clusters = [c for line in placement.clusters for c in line]
        self.stage_of = {stage.output: stage for stage in flow.stages}
        for stage in flow.stages:
            self.stage_of.update(dict.fromkeys((v for v in self.graph.nodes[stage.node].outputs if v), stage))
        self.of_stage: dict[int, list[int]] = defaultdict(list)
        for number, cluster in enumerate(self.clusters):
            self.of_stage[cluster.stage].append(number)
        self.shares, self.windowed_cores = shares or {}, frozenset(windowed)
        self.share_of = [min(self.shares.get(core, 1.0) for core in cores_of(c)) for c in self.clusters]
        self.buffers_of = [BUFFERS if share > TIGHT_SHARE else 1 for share in self.share_of]
        self.sum_bytes = [sum_bytes(self.graph, node) for node in self.graph.nodes]
        self.in_memory = self._values_in_memory() | set(kept)
        self._needs_of: dict[tuple[int, int], tuple[tuple[str, int, int], ...]] = {}

    def stage_at(self, number: int) -> Stage:
        """The stage of a cluster."""
        return self.flow.stages[self.clusters[number].stage]

    def _values_in_memory(self) -> set[str]:
        """Values that something reads from or leaves in global memory."""
        wanted = set(self.graph.inputs) | set(self.flow.constants)
        for value in self.graph.outputs:
            wanted |= leaves(self.flow, value)
        for stage in self.flow.stages:
            sources = {piece.source for operand in stage.inputs for piece in self.flow.sources(operand.value)}
            if stage.kind is Kind.GENERAL:
                wanted |= {v for v in self.graph.nodes[stage.node].outputs if v}
                wanted |= {leaf for operand in stage.inputs for leaf in leaves(self.flow, operand.value)}
            else:
                wanted |= {source for source in sources if source not in self.stage_of}
        return wanted

    def is_outside(self, value: str) -> bool:
        """Whether readers load a value from global memory."""
        stage = self.stage_of.get(value)
        return stage is None or stage.kind is Kind.GENERAL

    def needs(self, stage: Stage, row: int) -> tuple[tuple[str, int, int], ...]:
        """Rows of every source that an output row needs; worked out once for all clusters of a stage."""
        if (stage.index, row) not in self._needs_of:
            self._needs_of[stage.index, row] = self._rows_needed(stage, row)
        return self._needs_of[stage.index, row]

    def _rows_needed(self, stage: Stage, row: int) -> tuple[tuple[str, int, int], ...]:
        needs: list[tuple[str, int, int]] = []
        for operand in stage.inputs:
            first, last = input_rows(stage, operand.shape.rows, operand.shape.images, row)
            if operand.is_broadcast:
                first, last = 0, operand.shape.rows - 1
            needs += [(piece.source, first, last) for piece in self.flow.sources(operand.value)]
        return tuple(needs)

    def general_work(self, number: int, stage: Stage) -> tuple[float, float]:
        """Bytes moved and element operations of one part of a GENERAL stage."""
        node = self.graph.nodes[stage.node]
        parts = len(self.of_stage[stage.index])
        moved = sum(self.graph.types[o.value].size_bytes for o in stage.inputs) + sum(t.size_bytes for t in self.graph.output_types(node))
        return moved / parts, general_operations(self.graph, stage.node) / parts

    def rows_read(self, stage: Stage, operand: int, task: Task) -> tuple[int, int]:
        """First and last row of an operand that a task reads; the first above the last if there is none."""
        source = stage.inputs[operand]
        if source.is_broadcast:
            return 0, source.shape.rows - 1
        if stage.kind is Kind.MEAN:
            return task.row, task.row
        return input_rows(stage, source.shape.rows, source.shape.images, task.row)

    def columns_read(self, stage: Stage, operand: int, task: Task) -> tuple[int, int]:
        """Columns of an operand that a task reads, padding included."""
        width = stage.inputs[operand].shape.width
        return (0, width) if stage.kind is Kind.MEAN else input_columns(stage, width, task.x_start, task.x_stop)

    def channels_read(self, cluster: Cluster, stage: Stage, operand: int, core: int) -> tuple[int, int]:
        """Channels of an operand that a cluster reads on one of its cores."""
        if stage.kind is Kind.MATRIX:
            copies = cluster.copies if core == cluster.core else dict(cluster.peers)[core]
            return channels_read(self.unfolded[stage.index], [self.placement.groups[g] for copy in copies for g in copy])
        return cluster.c_start, cluster.c_stop


def leaves(flow: Dataflow, value: str) -> set[str]:
    """What a value is a rearrangement of, whole: who evaluates views in global memory reads even what they leave out."""
    if value not in flow.views:
        return {value}
    return {leaf for piece in flow.views[value] for leaf in leaves(flow, piece.source)}


def cores_of(cluster: Cluster) -> tuple[int, ...]:
    """The core of a cluster, then those that send it partial sums."""
    return (cluster.core, *(core for core, _ in cluster.peers))
