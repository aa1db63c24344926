"""Tasks: what clusters do, cut into pieces that their memories hold, and when each would run."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import final

from pimloom.targets.crossbar.rings import Ring
from pimloom.targets.crossbar.scope import Scope, cores_of
from pimloom.targets.crossbar.stages import Kind, Stage
from pimloom.targets.crossbar.timetable import Task, fill

PACE = 0.9
BUFFER_SHARE = 0.4  # of a local memory, for sums and output buffers


@final
class Work:
    """The tasks of every cluster.

    Attributes:
        tasks: per cluster, in the order in which it takes them; `cut` makes them, `schedule` gives them their times.
    """

    def __init__(self, scope: Scope) -> None:
        """Nothing cut yet."""
        self.scope = scope
        self.tasks: list[list[Task]] = []

    def cut(self) -> None:
        """Cuts all clusters into tasks."""
        self._share_buffers()
        self.tasks = [self._tasks_of(number) for number in range(len(self.scope.clusters))]
        self._pace()

    def schedule(self, rings: Sequence[Ring]) -> None:
        """Times all tasks, given the rings that rows travel to."""
        arrival: dict[str, Sequence[float]] = {}
        memory = self.scope.hardware.global_memory
        for value in self.scope.in_memory:
            if value in self.scope.stage_of:
                continue
            shape, size = self.scope.flow.shapes[value], self.scope.graph.types[value].size_bytes
            per_row = 0.0
            if value not in self.scope.graph.constants:
                per_row = size / memory.width_bytes * memory.read_beat_cycles / max(shape.rows, 1)
            arrival[value] = [memory.latency_cycles + self.scope.options.delay_cycles + per_row * (row + 1) for row in range(shape.rows)]
        serial = self.scope.hardware.core.issue.window == 1
        self._expand_general_needs()
        servers = [cluster.core for cluster in self.scope.clusters] if serial else None
        fill(self.tasks, servers, arrival, self._delays(rings), self.scope.buffers_of)

    def _tasks_of(self, number: int) -> list[Task]:
        cluster = self.scope.clusters[number]
        stage = self.scope.flow.stages[cluster.stage]
        if stage.kind is Kind.GENERAL:
            return [self._general_task(number, stage)]
        if stage.kind is Kind.MEAN:
            return self._mean_tasks(number, stage)
        width = self._task_width(number)
        tasks: list[Task] = []
        works = {n: self._work(number, stage, n) for n in {width, (cluster.x_stop - cluster.x_start - 1) % width + 1}}
        for row in cluster.rows(stage.shape.rows):
            needs, makes = self.scope.needs(stage, row), (stage.output, row)
            for start in range(cluster.x_start, cluster.x_stop, width):
                stop = min(start + width, cluster.x_stop)
                tasks.append(Task(number, row, start, stop, needs, makes, *works[stop - start]))
        return tasks

    def _vector_bytes(self, number: int) -> int:
        """Bytes that one vector of a task takes in the buffers of a cluster."""
        cluster = self.scope.clusters[number]
        stage = self.scope.flow.stages[cluster.stage]
        columns = cluster.c_stop - cluster.c_start
        size = columns * self.scope.graph.types[stage.output].itemsize_bytes
        if stage.kind is Kind.MATRIX:
            size += columns * self.scope.sum_bytes[stage.node] * (2 if cluster.peers else 1)
        if self.scope.windowed_cores.intersection(cores_of(cluster)):
            # Rings will be windowed: count their slots too.
            reads = sum(o.shape.channels * self.scope.graph.types[o.value].itemsize_bytes for o in stage.inputs if not o.is_broadcast)
            size += reads * stage.window.kernel[0] * stage.window.stride[1]
        return size * self.scope.buffers_of[number]

    def _share_buffers(self) -> None:
        """Per core, the part of a full row that its clusters' tasks may have so that all buffers fit into their share."""
        wanted: Counter[int] = Counter()
        for number, cluster in enumerate(self.scope.clusters):
            if self.scope.flow.stages[cluster.stage].kind is not Kind.GENERAL:
                wanted[cluster.core] += self._vector_bytes(number) * (cluster.x_stop - cluster.x_start)
        budget = BUFFER_SHARE * self.scope.hardware.core.local_memory.size_bytes
        self.row_share = {core: min(1.0, budget * self.scope.shares.get(core, 1.0) / max(size, 1)) for core, size in wanted.items()}

    def _task_width(self, number: int) -> int:
        """Vectors per task: a whole row of the cluster, or what its share of the memory holds."""
        cluster = self.scope.clusters[number]
        full = cluster.x_stop - cluster.x_start
        cores = cores_of(cluster)
        width = max(1, int(full * min(self.row_share[core] for core in cores if core in self.row_share)))
        # All copies take the same share of a task.
        copies = len(cluster.copies)
        if copies and self.scope.share_of[number] >= 1.0:
            width = max(width, min(copies, full))
        return width // copies * copies if 0 < copies < width else width

    def _work(self, number: int, stage: Stage, width: int) -> tuple[float, float]:
        """Estimated (busy, tail) of a task."""
        cluster = self.scope.clusters[number]
        machine, columns = self.scope.hardware, cluster.c_stop - cluster.c_start
        unit = machine.core.vector_unit
        beats = -(-columns // unit.lanes) * unit.beat_cycles
        if stage.kind is Kind.MATRIX:
            bits = 8 * self.scope.graph.types[stage.inputs[0].value].itemsize_bytes
            windows = -(-width // max(len(cluster.copies), 1))
            interval, latency = machine.crossbar.mvm_interval_cycles(bits), machine.crossbar.mvm_cycles(bits)
            if machine.core.issue.window == 1:
                groups = sum(len(copy) for copy in cluster.copies)
                return width * groups / max(len(cluster.copies), 1) * (latency + 4 * beats), width * 3.0 * beats + 1
            # Tasks narrower than the copies take turns on them.
            turns = max(1, min(self.scope.buffers_of[number], len(cluster.copies) // max(width, 1)))
            busy = float(windows * interval) / turns
            return busy, float(windows * interval - busy + latency - interval + 2 * width * beats + 1)
        taps = stage.window.kernel[0] * stage.window.kernel[1]
        return float(width * beats * taps + 1), float(unit.latency_cycles + 10)

    def _general_task(self, number: int, stage: Stage) -> Task:
        needs = tuple(
            (piece.source, 0, self.scope.flow.shapes[piece.source].rows - 1)
            for operand in stage.inputs for piece in self.scope.flow.sources(operand.value)
        )  # fmt: skip
        moved, operations = self.scope.general_work(number, stage)
        memory, unit = self.scope.hardware.global_memory, self.scope.hardware.core.vector_unit
        time = moved / memory.width_bytes * memory.read_beat_cycles + operations / unit.lanes * unit.beat_cycles
        return Task(number, 0, 0, 1, needs, (stage.output, -1), time + 1.0, float(memory.latency_cycles))

    def _mean_tasks(self, number: int, stage: Stage) -> list[Task]:
        cluster, shape = self.scope.clusters[number], stage.inputs[0].shape
        unit = self.scope.hardware.core.vector_unit
        busy = shape.width * -(-(cluster.c_stop - cluster.c_start) // unit.lanes) * unit.beat_cycles + 1.0
        pieces = self.scope.flow.sources(stage.inputs[0].value)
        return [
            Task(
                number, row, 0, 1, tuple((p.source, row, row) for p in pieces),
                (stage.output, 0) if row == shape.rows - 1 else None, busy, unit.latency_cycles + 10.0,
            )
            for row in range(shape.rows)
        ]  # fmt: skip

    def _pace(self) -> None:
        """Slows every cluster down to the pace of the slowest: running ahead of it would only fill memories."""
        if self.scope.hardware.core.issue.window == 1:
            return
        slowest = max((sum(t.busy for t in line) for line in self.tasks), default=0.0)
        for number, line in enumerate(self.tasks):
            if self.scope.stage_at(number).kind is Kind.GENERAL:
                continue
            # Parts of a row follow each other at once: their inputs lie in rings until the last of them is done.
            rows = [list(parts) for _, parts in itertools.groupby(line, key=lambda t: t.row)]
            pace = PACE * self.scope.options.period_room * slowest / max(len(rows), 1)
            for parts in rows:
                parts[-1].pause = max(pace - sum(t.busy for t in parts), 0.0)

    def _expand_general_needs(self) -> None:
        """The result of a GENERAL stage is there all at once: its readers need one row, numbered -1."""
        general = {
            v for s in self.scope.flow.stages if s.kind is Kind.GENERAL for v in self.scope.graph.nodes[s.node].outputs if v
        }  # fmt: skip
        if not general:
            return
        first = {v: self.scope.stage_of[v].output for v in general}
        for line in self.tasks:
            if not line or general.isdisjoint(v for v, _, _ in line[0].needs):
                continue
            old = new = line[0].needs
            for index, task in enumerate(line):
                if index == 0 or task.needs is not old:  # parts of a row share what they need
                    old, new = task.needs, tuple((first[v], -1, -1) if v in general else (v, a, b) for v, a, b in task.needs)
                task.needs = new

    def _delays(self, all_rings: Sequence[Ring]) -> dict[str, float]:
        """Per value, cycles until a row has reached its readers: what a port takes that sends, or receives, all of it."""
        noc = self.scope.hardware.noc
        cycles_per_byte = noc.flit_cycles / noc.flit_bytes
        readers: defaultdict[str, list[Ring]] = defaultdict(list)
        for ring in all_rings:
            for source in {piece.source for piece in self.scope.flow.sources(ring.value)}:
                readers[source].append(ring)
        delays: dict[str, float] = {}
        for stage in self.scope.flow.stages:
            rings = readers.get(stage.output, [])
            received = max((ring.pitch for ring in rings), default=0)
            item, sent = self.scope.graph.types[stage.output].itemsize_bytes, 0
            for number in self.scope.of_stage[stage.index]:
                cluster, away = self.scope.clusters[number], 0
                for ring in rings:
                    if ring.core != cluster.core:
                        away += max(min(cluster.x_stop, ring.x_stop) - max(cluster.x_start, ring.x_start), 0)
                sent = max(sent, away * (cluster.c_stop - cluster.c_start) * item)
            delays[stage.output] = self.scope.options.delay_cycles + cycles_per_byte * max(received, sent)
        return delays

    def same_buffer(self, number: int, index: int) -> int:
        """The last task of a sample that uses the buffers of task `index`."""
        last = len(self.tasks[number]) - 1
        return last - (last - index) % self.scope.buffers_of[number]
