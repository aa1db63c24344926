"""Lowering: from placed stages to the instruction table.

Steps: cut every cluster's rows into tasks; time them (`timetable`); give each operand of each core a ring (`rings`); lay out the
local memories; emit each task's instructions and each row's transfers with their place in the global order; sort each core's
instructions by it; number them.

Instructions of a task with weights: `preset` (waits for the inputs, sets the sums to the bias), one `mvm` per copy and array
group, `finish`. Its result goes from an output buffer to every ring that wants it (`copy` on the same core, `send` and `receive`
to others) and to global memory where something reads it there (`store`). Sums and outputs have two buffers each, used in turn.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.errors import CapacityError
from pimloom.hardware import CrossbarHardware
from pimloom.program import MASKED, OPCODES, Block, Groups, Matrix, Program, Region, ragged
from pimloom.program.widths import sum_bytes
from pimloom.targets.crossbar.emission import Emission
from pimloom.targets.crossbar.geometry import general_operations, input_columns, input_rows, origin_row, pool_counts
from pimloom.targets.crossbar.placement import Cluster, Placement
from pimloom.targets.crossbar.rings import INFINITY, Ring
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage
from pimloom.targets.crossbar.timetable import Task, fill
from pimloom.targets.crossbar.unfold import Unfolded, band_segments, matrix_of

BUFFERS = 2
WINDOWINGS = 4  # times that rings may become windows because those before did
TIGHT_SHARE = 0.15  # of the usual buffers, below which a cluster has one buffer of each kind
PACE = 0.9
BUFFER_SHARE = 0.4  # of a local memory, for sums and output buffers
RingKey = tuple[int, str, int, int, int]


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
class Lowering:
    """Lowers one placed network; `run` gives the Program."""

    def __init__(
        self, flow: Dataflow, hardware: CrossbarHardware, unfolded: Mapping[int, Unfolded], placement: Placement, options: Options,
        shares: Mapping[int, float] | None = None, windowed: Collection[int] = (),
    ) -> None:  # fmt: skip
        """Takes the stages, the machine, the unfoldings by stage, where everything is, and the choices.

        On cores in `windowed`, whose memory is too small, rings may become windows; `shares` shrinks the buffers of cores where
        even that is not enough.
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
        self.share_of = [min(self.shares.get(core, 1.0) for core in (c.core, *(core for core, _ in c.peers))) for c in self.clusters]
        self.buffers_of = [BUFFERS if share > TIGHT_SHARE else 1 for share in self.share_of]
        self.emitted = Emission()
        self._needs_of: dict[tuple[int, int], tuple[tuple[str, int, int], ...]] = {}
        self.windows: dict[int, list[tuple[int, int]]] = {}  # windowed ring to its (cluster, operand)
        self.padding: dict[int, int] = {}  # windowed ring to the address of a vector of padding
        self.read_by: dict[tuple[int, int, int], list[int]] = {}  # (cluster, task, core) to the rows that read its operands
        self.rings: list[Ring] = []
        self.ring_of: dict[tuple[int, int, int], Ring] = {}  # (cluster, operand, core)
        self.patterns: dict[tuple[tuple[int, int], ...], int] = {}
        self._pattern_of: dict[tuple[Any, ...], int] = {}
        self._wanted_by: dict[int, list[tuple[Ring, Any, tuple[int, int, int, int]]]] = {}  # cluster to rings of its results
        self.in_memory = self._values_in_memory()
        self.regions: dict[str, Region] = {}
        self.cursor = [0] * hardware.total_cores
        self.blocks: list[Block] = []
        self.buffer_bytes: list[int] = []
        self.buffers: list[tuple[list[int], list[int], list[list[int]]]] = []
        self.sum_bytes = [sum_bytes(self.graph, node) for node in self.graph.nodes]

    def plan(self) -> dict[int, int]:
        """Cuts, times and lays out everything; returns the cores whose memory is too small, with the bytes they need."""
        self._share_buffers()
        self.tasks = [self._tasks_of(number) for number in range(len(self.clusters))]
        self._pace()
        self._make_rings()
        self._time()
        for (number, operand, _), ring in self.ring_of.items():
            self._note_reader(ring, number, operand)
        self._arrivals()
        self._choose_period()
        self._reserve_local()
        self._layout_global()
        self._layout_local()
        size = self.hardware.core.local_memory.size_bytes
        return {core: used for core, used in enumerate(self.cursor) if used > size}

    def memory_by_layer(self) -> dict[int, float]:
        """Bytes of local memory per stage with weights, with what the stages need that followed it to its cores."""
        anchor: dict[str, int] = {}
        found: dict[int, float] = defaultdict(float)
        readers: Counter[int] = Counter(id(ring) for ring in self.ring_of.values())
        by_cluster: dict[int, float] = defaultdict(float)
        for (number, _, _), ring in self.ring_of.items():
            by_cluster[number] += ring.size_bytes / readers[id(ring)]
        for stage in self.flow.stages:
            if stage.kind is Kind.MATRIX:
                anchor[stage.output] = stage.index
            elif stage.kind is not Kind.GENERAL:
                sources = [anchor[p.source] for p in self.flow.sources(stage.inputs[0].value) if p.source in anchor]
                if not sources:
                    continue
                anchor[stage.output] = sources[0]
            else:
                continue
            for number in self.of_stage[stage.index]:
                found[anchor[stage.output]] += by_cluster[number] + self.buffer_bytes[number]
        return found

    def emit(self) -> Program:
        """The program; `plan` must have found room for everything."""
        self._emit_tasks()
        self._emit_transfers()
        self._link_tasks()
        return self._assemble()

    # What lies in global memory ----------------------------------------------------------------------------

    def _values_in_memory(self) -> set[str]:
        """Values that something reads from or leaves in global memory."""
        wanted = set(self.graph.inputs) | set(self.flow.constants)
        for value in self.graph.outputs:
            wanted |= {piece.source for piece in self.flow.sources(value)}
        for stage in self.flow.stages:
            if stage.kind is Kind.GENERAL:
                wanted |= {v for v in self.graph.nodes[stage.node].outputs if v}
                for operand in stage.inputs:
                    wanted |= {piece.source for piece in self.flow.sources(operand.value)}
        return wanted

    def _is_outside(self, value: str) -> bool:
        """Whether readers load a value from global memory."""
        stage = self.stage_of.get(value)
        return stage is None or stage.kind is Kind.GENERAL

    def _layout_global(self) -> None:
        address = [0] * self.hardware.chips
        for value in sorted(self.in_memory, key=list(self.graph.types).index):
            value_type, stage = self.graph.types[value], self.stage_of.get(value)
            chip = 0
            if stage is not None and self.of_stage[stage.index]:
                chip = self.clusters[self.of_stage[stage.index][0]].core // self.hardware.chip.cores
            size = -(-value_type.size_bytes // 64) * 64
            copies = 1 if value in self.graph.constants else self.options.samples
            self.regions[value] = Region(value, address[chip], size, chip, self.flow.layouts[value])
            address[chip] += size * copies
        for chip, used in enumerate(address):
            if used > self.hardware.global_memory.size_bytes:
                raise CapacityError(
                    f"global memory of chip {chip} (bytes)", used, self.hardware.global_memory.size_bytes, self.hardware.name,
                    "use a smaller batch or a machine with more global memory",
                )  # fmt: skip
        self.region_index = {value: i for i, value in enumerate(self.regions)}

    # Tasks -------------------------------------------------------------------------------------------------

    def _tasks_of(self, number: int) -> list[Task]:
        cluster = self.clusters[number]
        stage = self.flow.stages[cluster.stage]
        if stage.kind is Kind.GENERAL:
            return [self._general_task(number, stage)]
        if stage.kind is Kind.MEAN:
            return self._mean_tasks(number, stage)
        width = self._task_width(number)
        tasks: list[Task] = []
        works = {n: self._work(number, stage, n) for n in {width, (cluster.x_stop - cluster.x_start - 1) % width + 1}}
        for row in cluster.rows(stage.shape.rows):
            needs, makes = self._needs(stage, row), (stage.output, row)
            for start in range(cluster.x_start, cluster.x_stop, width):
                stop = min(start + width, cluster.x_stop)
                tasks.append(Task(number, row, start, stop, needs, makes, *works[stop - start]))
        return tasks

    def _vector_bytes(self, number: int) -> int:
        """Bytes that one vector of a task takes in the buffers of a cluster."""
        cluster = self.clusters[number]
        stage = self.flow.stages[cluster.stage]
        columns = cluster.c_stop - cluster.c_start
        size = columns * self.graph.types[stage.output].itemsize_bytes
        if stage.kind is Kind.MATRIX:
            size += columns * self.sum_bytes[stage.node] * (2 if cluster.peers else 1)
        if self.windowed_cores.intersection((cluster.core, *(core for core, _ in cluster.peers))):
            # Rings will be windowed: count their slots too.
            reads = sum(o.shape.channels * self.graph.types[o.value].itemsize_bytes for o in stage.inputs if not o.is_broadcast)
            size += reads * stage.window.kernel[0] * stage.window.stride[1]
        return size * self.buffers_of[number]

    def _share_buffers(self) -> None:
        """Per core, the part of a full row that its clusters' tasks may have so that all buffers fit into their share."""
        wanted: Counter[int] = Counter()
        for number, cluster in enumerate(self.clusters):
            if self.flow.stages[cluster.stage].kind is not Kind.GENERAL:
                wanted[cluster.core] += self._vector_bytes(number) * (cluster.x_stop - cluster.x_start)
        budget = BUFFER_SHARE * self.hardware.core.local_memory.size_bytes
        self.row_share = {core: min(1.0, budget * self.shares.get(core, 1.0) / max(size, 1)) for core, size in wanted.items()}

    def _task_width(self, number: int) -> int:
        """Vectors per task: a whole row of the cluster, or what its share of the memory holds."""
        cluster = self.clusters[number]
        full = cluster.x_stop - cluster.x_start
        cores = (cluster.core, *(core for core, _ in cluster.peers))
        width = max(1, int(full * min(self.row_share[core] for core in cores if core in self.row_share)))
        # All copies take the same share of a task.
        copies = len(cluster.copies)
        if copies and self.share_of[number] >= 1.0:
            width = max(width, min(copies, full))
        return width // copies * copies if 0 < copies < width else width

    def _needs(self, stage: Stage, row: int) -> tuple[tuple[str, int, int], ...]:
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

    def _work(self, number: int, stage: Stage, width: int) -> tuple[float, float]:
        """Estimated (busy, tail) of a task."""
        cluster = self.clusters[number]
        machine, columns = self.hardware, cluster.c_stop - cluster.c_start
        unit = machine.core.vector_unit
        beats = -(-columns // unit.lanes) * unit.beat_cycles
        if stage.kind is Kind.MATRIX:
            bits = 8 * self.graph.types[stage.inputs[0].value].itemsize_bytes
            windows = -(-width // max(len(cluster.copies), 1))
            interval, latency = machine.crossbar.mvm_interval_cycles(bits), machine.crossbar.mvm_cycles(bits)
            if machine.core.issue.window == 1:
                groups = sum(len(copy) for copy in cluster.copies)
                return width * groups / max(len(cluster.copies), 1) * (latency + 4 * beats), width * 3.0 * beats + 1
            # Tasks narrower than the copies take turns on them.
            turns = max(1, min(self.buffers_of[number], len(cluster.copies) // max(width, 1)))
            busy = float(windows * interval) / turns
            return busy, float(windows * interval - busy + latency - interval + 2 * width * beats + 1)
        taps = stage.window.kernel[0] * stage.window.kernel[1]
        return float(width * beats * taps + 1), float(unit.latency_cycles + 10)

    def _general_task(self, number: int, stage: Stage) -> Task:
        needs = tuple(
            (piece.source, 0, self.flow.shapes[piece.source].rows - 1)
            for operand in stage.inputs for piece in self.flow.sources(operand.value)
        )  # fmt: skip
        moved, operations = self._general_work(number, stage)
        memory, unit = self.hardware.global_memory, self.hardware.core.vector_unit
        time = moved / memory.width_bytes * memory.read_beat_cycles + operations / unit.lanes * unit.beat_cycles
        return Task(number, 0, 0, 1, needs, (stage.output, -1), time + 1.0, float(memory.latency_cycles))

    def _general_work(self, number: int, stage: Stage) -> tuple[float, float]:
        """Bytes moved and element operations of one part of a GENERAL stage."""
        node = self.graph.nodes[stage.node]
        parts = len(self.of_stage[stage.index])
        moved = sum(self.graph.types[o.value].size_bytes for o in stage.inputs) + sum(t.size_bytes for t in self.graph.output_types(node))
        return moved / parts, general_operations(self.graph, stage.node) / parts

    def _mean_tasks(self, number: int, stage: Stage) -> list[Task]:
        cluster, shape = self.clusters[number], stage.inputs[0].shape
        unit = self.hardware.core.vector_unit
        busy = shape.width * -(-(cluster.c_stop - cluster.c_start) // unit.lanes) * unit.beat_cycles + 1.0
        pieces = self.flow.sources(stage.inputs[0].value)
        return [
            Task(
                number, row, 0, 1, tuple((p.source, row, row) for p in pieces),
                (stage.output, 0) if row == shape.rows - 1 else None, busy, unit.latency_cycles + 10.0,
            )
            for row in range(shape.rows)
        ]  # fmt: skip

    # Time --------------------------------------------------------------------------------------------------

    def _pace(self) -> None:
        """Slows every cluster down to the pace of the slowest: running ahead of it would only fill memories."""
        if self.hardware.core.issue.window == 1:
            return
        slowest = max((sum(t.busy for t in line) for line in self.tasks), default=0.0)
        for number, line in enumerate(self.tasks):
            if self.flow.stages[self.clusters[number].stage].kind is not Kind.GENERAL:
                pace = PACE * self.options.period_room * slowest / max(len(line), 1)
                for task in line:
                    task.pause = max(pace - task.busy, 0.0)

    def _time(self) -> None:
        arrival: dict[str, Sequence[float]] = {}
        memory = self.hardware.global_memory
        for value in self.in_memory:
            if value in self.stage_of:
                continue
            shape, size = self.flow.shapes[value], self.graph.types[value].size_bytes
            per_row = 0.0
            if value not in self.graph.constants:
                per_row = size / memory.width_bytes * memory.read_beat_cycles / max(shape.rows, 1)
            arrival[value] = [memory.latency_cycles + self.options.delay_cycles + per_row * (row + 1) for row in range(shape.rows)]
        serial = self.hardware.core.issue.window == 1
        n = len(self.clusters)
        self._expand_general_needs()
        server_of = (lambda c: n + self.clusters[c].core) if serial else (lambda c: c)
        fill(self.tasks, server_of, arrival, self._delays(), self.buffers_of)

    def _delays(self) -> dict[str, float]:
        """Per value, cycles until a row has reached its readers: what a port takes that sends, or receives, all of it."""
        noc = self.hardware.noc
        cycles_per_byte = noc.flit_cycles / noc.flit_bytes
        readers: defaultdict[str, list[Ring]] = defaultdict(list)
        for ring in self.rings:
            for source in {piece.source for piece in self.flow.sources(ring.value)}:
                readers[source].append(ring)
        delays: dict[str, float] = {}
        for stage in self.flow.stages:
            rings = readers.get(stage.output, [])
            received = max((ring.pitch for ring in rings), default=0)
            item, sent = self.graph.types[stage.output].itemsize_bytes, 0
            for number in self.of_stage[stage.index]:
                cluster, away = self.clusters[number], 0
                for ring in rings:
                    if ring.core != cluster.core:
                        away += max(min(cluster.x_stop, ring.x_stop) - max(cluster.x_start, ring.x_start), 0)
                sent = max(sent, away * (cluster.c_stop - cluster.c_start) * item)
            delays[stage.output] = self.options.delay_cycles + cycles_per_byte * max(received, sent)
        return delays

    def _choose_period(self) -> None:
        """The least time between samples for which every buffer is free again when the next sample wants it.

        With it, instructions are ordered by `sample * period + key`: a core works on the first layers of one sample between
        the last layers of earlier ones (modulo scheduling), and all cores still follow one common order.
        """
        self.period = INFINITY
        if self.options.samples == 1 or not self.options.has_periods:
            return
        least = 1.0
        for number, line in enumerate(self.tasks):
            if self.flow.stages[self.clusters[number].stage].kind is Kind.MEAN:
                least = max(least, line[-1].end - line[0].start)
                continue
            for index in range(min(self.buffers_of[number], len(line))):
                least = max(least, line[self._same_buffer(number, index)].end - line[index].start)
        least = max([least] + [ring.longest_life for ring in self.rings])
        self.period = max(least * self.options.period_room, least + 1.0)
        for ring in self.rings:
            ring.period = self.period

    def _same_buffer(self, number: int, index: int) -> int:
        """The last task of a sample that uses the buffers of task `index`."""
        last = len(self.tasks[number]) - 1
        return last - (last - index) % self.buffers_of[number]

    def _expand_general_needs(self) -> None:
        """The result of a GENERAL stage is there all at once: its readers need one row, numbered -1."""
        general = {
            v for s in self.flow.stages if s.kind is Kind.GENERAL for v in self.graph.nodes[s.node].outputs if v
        }  # fmt: skip
        first = {v: self.stage_of[v].output for v in general}
        for line in self.tasks:
            for task in line:
                if any(v in general for v, _, _ in task.needs):
                    task.needs = tuple((first[v], -1, -1) if v in general else (v, a, b) for v, a, b in task.needs)

    # Rings -------------------------------------------------------------------------------------------------

    def _make_rings(self) -> None:
        """One ring for all readers of an operand on a core whose ranges of columns overlap."""
        wanted: dict[RingKey, list[tuple[int, int, int, int]]] = defaultdict(list)
        for number, cluster in enumerate(self.clusters):
            stage = self.flow.stages[cluster.stage]
            if stage.kind is Kind.GENERAL:
                continue
            for operand, source in enumerate(stage.inputs):
                x_start, x_stop = input_columns(stage, source.shape.width, cluster.x_start, cluster.x_stop)
                if source.is_broadcast or stage.kind is Kind.MEAN:
                    x_start, x_stop = 0, source.shape.width
                for core in (cluster.core, *(core for core, _ in cluster.peers)):
                    key = (core, source.value, source.fill, *self._channels_read(cluster, stage, operand, core))
                    wanted[key].append((x_start, x_stop, number, operand))
        for key, readers in wanted.items():
            ring: Ring | None = None
            for x_start, x_stop, number, operand in sorted(readers):
                if ring is None or x_start >= ring.x_stop:
                    ring = self._new_ring(key, x_start, x_stop)
                ring.x_stop = max(ring.x_stop, x_stop)
                self.ring_of[number, operand, ring.core] = ring

    def _new_ring(self, key: RingKey, x_start: int, x_stop: int) -> Ring:
        core, value, fill_code, c_start, c_stop = key
        item, rows = self.graph.types[value].itemsize_bytes, self.flow.shapes[value].rows
        ring = Ring(core, value, fill_code, item, x_start, x_stop, c_start, c_stop, rows)
        self.rings.append(ring)
        return ring

    def _note_reader(self, ring: Ring, number: int, operand: int) -> None:
        """Tells a ring what a cluster reads of it, and when."""
        stage = self.flow.stages[self.clusters[number].stage]
        for index, task in enumerate(self.tasks[number]):
            first, last = self._rows_read(stage, operand, task)
            if first <= last:
                ring.note_reader(first, last, number, index, task.start, task.end)

    def _rows_read(self, stage: Stage, operand: int, task: Task) -> tuple[int, int]:
        source = stage.inputs[operand]
        if source.is_broadcast:
            return 0, source.shape.rows - 1
        if stage.kind is Kind.MEAN:
            return task.row, task.row
        return input_rows(stage, source.shape.rows, source.shape.images, task.row)

    def _channels_read(self, cluster: Cluster, stage: Stage, operand: int, core: int) -> tuple[int, int]:
        if stage.kind is Kind.MATRIX:
            copies = cluster.copies if core == cluster.core else dict(cluster.peers)[core]
            groups = [self.placement.groups[g] for copy in copies for g in copy]
            blocks = [self.unfolded[stage.index].blocks[g.block] for g in groups]
            if stage.window.kernel == (1, 1):
                bands = [(b.in_start, b.bands[g.band]) for b, g in zip(blocks, groups, strict=True)]
                return min(first + band.start for first, band in bands), max(first + band.stop for first, band in bands)
            return min(b.in_start for b in blocks), max(b.in_start + b.in_channels for b in blocks)
        return cluster.c_start, cluster.c_stop

    def _ring(self, number: int, operand: int, core: int) -> Ring:
        return self.ring_of[number, operand, core]

    # Local memory ------------------------------------------------------------------------------------------

    def _take(self, core: int, size: int, label: str, fill_code: int | None = None, dtype: str = "int8") -> int:
        address = self.cursor[core]
        self.cursor[core] += -(-size // 8) * 8
        self.blocks.append(Block(core, address, size, label, fill_code, dtype))
        return address

    def _reserve_local(self) -> None:
        """Decides what every core holds: buffers, then rings; where they do not fit, some rings become windowed."""
        for number in range(len(self.clusters)):
            before = sum(self.cursor)
            self.buffers.append(self._take_buffers(number))
            self.buffer_bytes.append(sum(self.cursor) - before)
        size = self.hardware.core.local_memory.size_bytes
        used = self._choose_depths()
        # What is loaded in windows arrives later, and other rings may then need more rows: look again.
        for _ in range(WINDOWINGS):
            changed = [self._window_rings(core, used[core] - size) for core in self.windowed_cores if used[core] > size]
            if not any(changed):
                return
            self._arrivals()
            used = self._choose_depths()

    def _window_rings(self, core: int, excess: int) -> bool:
        """Makes rings of a core windowed, those that give most room first, until it fits; whether there were any to make so."""
        mine = [ring for ring in self.rings if ring.core == core and not ring.is_windowed]
        places: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        for number, operand, where in self.ring_of:
            if where == core:
                places[id(self.ring_of[number, operand, where])].append((number, operand))
        has_changed = False
        for ring in sorted(mine, key=lambda r: -r.size_bytes):
            if excess <= 0:
                break
            made = self._windowed(ring, places[id(ring)])
            gain = ring.size_bytes - sum(self._window_bytes(one) for one in made)
            if gain <= 0:
                continue
            excess -= gain
            has_changed = True
            self.rings = [one for one in self.rings if one is not ring] + made
            for one in made:
                ((number, operand),) = self.windows[id(one)]
                self.ring_of[number, operand, core] = one
            self.in_memory |= {piece.source for piece in self.flow.sources(ring.value)}
        return has_changed

    def _window_bytes(self, ring: Ring) -> int:
        """Bytes of a windowed ring and of the vector that pads it, with what rounding up may add."""
        return ring.size_bytes + (ring.vector_bytes if id(ring) in self.padding else 0) + 16

    def _windowed(self, ring: Ring, places: Sequence[tuple[int, int]]) -> list[Ring]:
        """A windowed ring for each (cluster, operand) that reads a ring."""
        made: list[Ring] = []
        core = ring.core
        for number, operand in places:
            stage, cluster = self.flow.stages[self.clusters[number].stage], self.clusters[number]
            if stage.inputs[operand].is_broadcast:
                return [ring]
            channels = self._channels_read(cluster, stage, operand, core)
            one = Ring(core, ring.value, ring.fill, ring.item_bytes, ring.x_start, ring.x_stop, *channels, ring.n_rows)
            one.is_windowed, one.depth, one.span = True, self.buffers_of[number], 1
            self._note_reader(one, number, operand)
            for task in self.tasks[number]:
                low, high = self._columns_read(stage, operand, task)
                one.window_columns = max(one.window_columns, high - low)
                if low < 0 or high > stage.inputs[operand].shape.width:
                    self.padding[id(one)] = 0
            self.windows[id(one)] = [(number, operand)]
            made.append(one)
        return made

    def _columns_read(self, stage: Stage, operand: int, task: Task) -> tuple[int, int]:
        width = stage.inputs[operand].shape.width
        return (0, width) if stage.kind is Kind.MEAN else input_columns(stage, width, task.x_start, task.x_stop)

    def _layout_local(self) -> None:
        for ring in self.rings:
            dtype = self.graph.types[ring.value].dtype
            ring.address = self._take(ring.core, ring.size_bytes, f"ring {ring.value}", ring.fill, dtype)
            if id(ring) in self.padding:
                self.padding[id(ring)] = self._take(ring.core, ring.vector_bytes, f"padding {ring.value}", ring.fill, dtype)

    def _choose_depths(self) -> list[int]:
        """The least depths that keep the order; then, row by row, what the memories still hold. Returns bytes used."""
        size = self.hardware.core.local_memory.size_bytes
        used = list(self.cursor)
        for ring in self.rings:
            if ring.is_windowed:
                used[ring.core] += self._window_bytes(ring)
                continue
            ring.choose_depth(0)
            used[ring.core] += ring.size_bytes + 8
        for slack in range(1, self.options.slack_rows + 1):
            for ring in self.rings:
                if ring.is_windowed:
                    continue
                held, before = ring.depth, ring.size_bytes
                ring.choose_depth(slack)
                if used[ring.core] + ring.size_bytes - before > size:
                    ring.set_depth(held)
                used[ring.core] += ring.size_bytes - before
        return used

    def _take_buffers(self, number: int) -> tuple[list[int], list[int], list[list[int]]]:
        cluster = self.clusters[number]
        stage = self.flow.stages[cluster.stage]
        if stage.kind is Kind.GENERAL:
            return [], [], []
        width = max((t.x_stop - t.x_start for t in self.tasks[number]), default=1)
        columns = cluster.c_stop - cluster.c_start
        name = self.graph.nodes[stage.node].name
        sums = columns * width * self.sum_bytes[stage.node]
        out_bytes = columns * width * self.graph.types[stage.output].itemsize_bytes
        has_sums = stage.kind in (Kind.MATRIX, Kind.MEAN)
        own = [self._take(cluster.core, sums, f"sums {name}") for _ in range(self.buffers_of[number] if has_sums else 0)]
        outs = [self._take(cluster.core, out_bytes, f"output {name}") for _ in range(self.buffers_of[number])]
        remote = [[self._take(core, sums, f"sums {name}") for _ in range(self.buffers_of[number])] for core, _ in cluster.peers]
        if cluster.peers:
            own += [self._take(cluster.core, sums, f"partial {name}") for _ in cluster.peers for _ in range(self.buffers_of[number])]
        return own, outs, remote

    # Compute instructions ----------------------------------------------------------------------------------

    def _emit_tasks(self) -> None:
        self._rings_by_cluster: dict[int, list[tuple[tuple[int, int, int], Ring]]] = defaultdict(list)
        for place, ring in self.ring_of.items():
            self._rings_by_cluster[place[0]].append((place, ring))
        self.heads: list[list[list[int]]] = []  # per cluster and task: rows that wait for inputs, by core
        self.tails: list[list[int]] = []  # per cluster and task: the row that is done last
        for number, cluster in enumerate(self.clusters):
            stage = self.flow.stages[cluster.stage]
            emit = {
                Kind.MATRIX: self._emit_matrix, Kind.POOL: self._emit_pool, Kind.STENCIL: self._emit_pool, Kind.VECTOR: self._emit_vector,
                Kind.MEAN: self._emit_mean, Kind.GENERAL: self._emit_general,
            }[stage.kind]  # fmt: skip
            heads: list[list[int]] = []
            tails: list[int] = []
            windowed = [(o, r) for (n, o, _), r in self._rings_by_cluster.get(number, ()) if r.is_windowed]
            for index, task in enumerate(self.tasks[number]):
                for operand, ring in windowed:
                    ring.focus(index, self._rows_read(stage, operand, task)[0], self._columns_read(stage, operand, task)[0])
                head, tail = emit(number, cluster, stage, index, task)
                heads.append(head)
                tails.append(tail)
            self.heads.append(heads)
            self.tails.append(tails)

    def _emit_matrix(self, number: int, cluster: Cluster, stage: Stage, index: int, task: Task) -> tuple[list[int], int]:
        sums, outs, remote = self.buffers[number]
        width, columns = task.x_stop - task.x_start, cluster.c_stop - cluster.c_start
        parity, item = index % self.buffers_of[number], self.graph.types[stage.output].itemsize_bytes
        head, mvms = self._emit_products(number, cluster.core, cluster.copies, cluster, stage, index, task, sums[parity])
        heads, complete = [head], mvms
        for p, (core, copies) in enumerate(cluster.peers):
            peer_head, peer_mvms = self._emit_products(number, core, copies, cluster, stage, index, task, remote[p][parity], is_peer=True)
            heads.append(peer_head)
            landing = sums[self.buffers_of[number] * (p + 1) + parity]
            complete = [self._emit_partial(cluster, stage, task, core, peer_mvms, remote[p][parity], landing, sums[parity], complete)]
        tail = self.emitted.add(
            cluster.core, task.end, OPCODES["finish"], stage.node, list(complete), dst=outs[parity], src1=sums[parity],
            dst_step=columns * item, src1_step=columns * self.sum_bytes[stage.node], length=columns, count=width, arg=cluster.c_start,
        )  # fmt: skip
        return heads, tail

    def _emit_products(
        self, number: int, core: int, copies: Sequence[Sequence[int]], cluster: Cluster, stage: Stage, index: int, task: Task, sums: int,
        *, is_peer: bool = False,
    ) -> tuple[int, list[int]]:  # fmt: skip
        """`preset` and the `mvm`s of one core."""
        width, columns, unit = task.x_stop - task.x_start, cluster.c_stop - cluster.c_start, self.sum_bytes[stage.node]
        ring = self._ring(number, 0, core)
        head = self.emitted.add(
            core, task.start, OPCODES["preset"], -1 if is_peer else stage.node, [], dst=sums, dst_step=columns * unit,
            length=columns, count=width, arg=cluster.c_start, src2=unit,
        )  # fmt: skip
        share = -(-width // max(len(copies), 1))
        mvms: list[int] = []
        unfolded = self.unfolded[stage.index]
        for c in range(-(-width // share)):
            low, high = task.x_start + c * share, min(task.x_start + (c + 1) * share, task.x_stop)
            # A task of fewer vectors than copies leaves some out: the next task begins with those.
            for g in copies[(c + index * -(-width // share)) % len(copies)]:
                group = self.placement.groups[g]
                block = unfolded.blocks[group.block]
                shift, band = block.in_start - ring.c_start, block.bands[group.band]
                base, pattern = self._gather(ring, stage, shift, block.in_channels, band, task.row, low)
                offset = block.out_start + group.column_start - cluster.c_start
                mvms.append(self.emitted.add(
                    core, task.start, OPCODES["mvm"], stage.node, [head],
                    dst=sums + ((low - task.x_start) * columns + offset) * unit, dst_step=columns * unit,
                    src1=base, src1_step=stage.window.stride[1] * ring.vector_bytes, pattern=pattern,
                    length=group.column_stop - group.column_start, count=high - low, arg=g,
                ))  # fmt: skip
        self.read_by[number, index, core] = mvms
        return head, mvms

    def _gather(self, ring: Ring, stage: Stage, shift: int, channels: int, band: Any, row: int, x: int) -> tuple[int, int]:
        """Address and gather pattern of a band's input for the window at (row, x).

        Columns are in the address, so that windows of a row, and rows in the same slots, share a pattern.
        """
        window = stage.window
        (y0, image), image_rows = origin_row(stage, ring.n_rows, row), ring.n_rows // stage.inputs[0].shape.images
        lines = tuple(
            ring.line_offset(image * image_rows + y) if 0 <= y < image_rows else MASKED
            for y in range(y0, y0 + window.reach(0), window.dilation[0])
        )
        address = ring.address + ring.column_offset(x * window.stride[1] - window.padding[1]) + shift * ring.item_bytes
        key = (stage.index, channels, band, ring.vector_bytes, lines)
        if key not in self._pattern_of:
            step = window.dilation[1] * ring.vector_bytes
            self._pattern_of[key] = self._pattern(tuple(
                (lines[ky] + kx * step + channel * ring.item_bytes if lines[ky] != MASKED else MASKED, n * ring.item_bytes)
                for ky, kx, channel, n in band_segments(stage, channels, band)
            ))  # fmt: skip
        return address, self._pattern_of[key]

    def _pattern(self, segments: tuple[tuple[int, int], ...]) -> int:
        return self.patterns.setdefault(segments, len(self.patterns))

    def _emit_partial(
        self, cluster: Cluster, stage: Stage, task: Task, core: int, mvms: list[int], source: int, landing: int, sums: int,
        before: list[int],
    ) -> int:  # fmt: skip
        """Sends a peer's sums to the cluster and adds them there."""
        columns, width, unit = cluster.c_stop - cluster.c_start, task.x_stop - task.x_start, self.sum_bytes[stage.node]
        size = columns * width * unit
        send = self.emitted.add(core, task.end, OPCODES["send"], stage.node, list(mvms), src1=source, length=size)
        receive = self.emitted.add(cluster.core, task.end, OPCODES["receive"], stage.node, [], dst=landing, length=size)
        self.emitted.pair(send, receive)
        return self.emitted.add(
            cluster.core, task.end, OPCODES["add_partial"], stage.node, [receive, *before], dst=sums, src1=landing, src2=sums,
            dst_step=columns * unit, src1_step=columns * unit, src2_step=columns * unit, length=columns, count=width,
        )  # fmt: skip

    def _emit_pool(self, number: int, cluster: Cluster, stage: Stage, index: int, task: Task) -> tuple[list[int], int]:
        ring, window = self._ring(number, 0, cluster.core), stage.window
        columns, item = cluster.c_stop - cluster.c_start, self.graph.types[stage.output].itemsize_bytes
        (y0, image), image_rows = origin_row(stage, ring.n_rows, task.row), ring.n_rows // stage.inputs[0].shape.images
        shift = (cluster.c_start - ring.c_start) * ring.item_bytes
        out = self.buffers[number][1][index % self.buffers_of[number]]
        rows = [y0 + ky * window.dilation[0] for ky in range(window.kernel[0])]
        inside = [image * image_rows + y if 0 <= y < image_rows else -1 for y in rows]
        opcode = OPCODES["stencil" if stage.kind is Kind.STENCIL else "pool"]
        made: list[int] = []
        for start, stop, counted in self._pool_runs(stage, task):
            x0 = start * window.stride[1] - window.padding[1]
            segments = tuple(
                (ring.offset(y, x0 + kx * window.dilation[1]) + shift if y >= 0 else MASKED, columns * ring.item_bytes)
                for y in inside for kx in range(window.kernel[1])
            )  # fmt: skip
            made.append(self.emitted.add(
                cluster.core, task.start, opcode, stage.node, [], dst=out + (start - task.x_start) * columns * item,
                dst_step=columns * item, src1=ring.address, src1_step=window.stride[1] * ring.vector_bytes,
                pattern=self._pattern(segments), length=columns, count=stop - start, arg=cluster.c_start, src2=counted,
            ))  # fmt: skip
            if len(made) > 1:
                self.emitted.deps[made[-1]].append(made[-2])
        self.read_by[number, index, cluster.core] = made
        return [made[0]], made[-1]

    def _pool_runs(self, stage: Stage, task: Task) -> list[tuple[int, int, int]]:
        """Runs of windows that average over the same number of elements: (first, one past the last, elements)."""
        counts = pool_counts(self.graph, stage, task.row)
        runs: list[list[int]] = []
        for x in range(task.x_start, task.x_stop):
            if runs and runs[-1][2] == counts[x]:
                runs[-1][1] = x + 1
            else:
                runs.append([x, x + 1, counts[x]])
        return [(a, b, n) for a, b, n in runs]

    def _emit_vector(self, number: int, cluster: Cluster, stage: Stage, index: int, task: Task) -> tuple[list[int], int]:
        columns, item = cluster.c_stop - cluster.c_start, self.graph.types[stage.output].itemsize_bytes
        addresses: list[int] = []
        steps: list[int] = []
        for operand, source in enumerate(stage.inputs):
            ring = self._ring(number, operand, cluster.core)
            row, x = (0, 0) if source.is_broadcast else (task.row, task.x_start)
            addresses.append(ring.address + ring.offset(row, x) + (cluster.c_start - ring.c_start) * ring.item_bytes)
            steps.append(0 if source.is_broadcast else ring.vector_bytes)
        two = len(addresses) > 1
        tail = self.emitted.add(
            cluster.core, task.start, OPCODES["vector"], stage.node, [], dst=self.buffers[number][1][index % self.buffers_of[number]],
            dst_step=columns * item, src1=addresses[0], src1_step=steps[0], src2=addresses[1] if two else -1,
            src2_step=steps[1] if two else 0, length=columns, count=task.x_stop - task.x_start, arg=cluster.c_start,
        )  # fmt: skip
        self.read_by[number, index, cluster.core] = [tail]
        return [tail], tail

    def _emit_mean(self, number: int, cluster: Cluster, stage: Stage, index: int, task: Task) -> tuple[list[int], int]:
        sums, outs, _ = self.buffers[number]
        columns, unit = cluster.c_stop - cluster.c_start, self.sum_bytes[stage.node]
        ring = self._ring(number, 0, cluster.core)
        heads: list[int] = []
        deps: list[int] = []
        if index == 0:
            preset = self.emitted.add(
                cluster.core, task.start, OPCODES["preset"], -1, [], dst=sums[0], dst_step=columns * unit, length=columns, src2=unit
            )
            heads.append(preset)
            deps.append(preset)
        add = self.emitted.add(
            cluster.core, task.start, OPCODES["accumulate"], stage.node, deps, dst=sums[0],
            src1=ring.address + ring.offset(task.row, 0) + (cluster.c_start - ring.c_start) * ring.item_bytes,
            src1_step=ring.vector_bytes, length=columns, count=stage.inputs[0].shape.width, arg=cluster.c_start,
        )  # fmt: skip
        heads.append(add)
        self.read_by[number, index, cluster.core] = [add]
        if task.makes is None:
            return heads, add
        tail = self.emitted.add(
            cluster.core, task.end, OPCODES["finish"], stage.node, [add], dst=outs[index % self.buffers_of[number]], src1=sums[0],
            dst_step=columns * self.graph.types[stage.output].itemsize_bytes, src1_step=columns * unit, length=columns, arg=cluster.c_start,
        )  # fmt: skip
        return heads, tail

    def _emit_general(self, number: int, cluster: Cluster, stage: Stage, index: int, task: Task) -> tuple[list[int], int]:
        moved, operations = self._general_work(number, stage)
        node = self.graph.nodes[stage.node]
        made = sum(t.size_bytes for t in self.graph.output_types(node)) / len(self.of_stage[stage.index])
        blocks = max(1, min(int(moved // 4096), 64))
        part = self.of_stage[stage.index].index(number)
        last = part == len(self.of_stage[stage.index]) - 1
        row = self.emitted.add(
            cluster.core, task.start + 1e-6 * part, OPCODES["general"], stage.node, [],
            src1=int((moved - made) / blocks), dst=int(made / blocks), length=max(1, int(operations / blocks)),
            count=blocks, arg=part, src2=int(last),
        )  # fmt: skip
        return [row], row

    # Transfers ---------------------------------------------------------------------------------------------

    def _arrivals(self) -> None:
        """Place in the order at which each row of each ring first arrives; collects who feeds what."""
        self.readers_of: dict[str, list[tuple[Ring, Any]]] = defaultdict(list)
        for ring in self.rings:
            if ring.is_windowed:
                continue
            for piece in self.flow.sources(ring.value):
                low, high = max(piece.dst, ring.c_start), min(piece.dst + piece.n, ring.c_stop)
                if low >= high:
                    continue
                self.readers_of[piece.source].append((ring, piece))
                if self._is_outside(piece.source):
                    for row in ring.needed():
                        ring.arrival[row] = min(ring.arrival[row], self._load_key(ring, row, piece.source))
        first_end: dict[str, list[float]] = {}
        for line in self.tasks:
            for task in line:
                if task.makes is not None and task.makes[1] >= 0:
                    value, row = task.makes
                    ends = first_end.setdefault(value, [INFINITY] * self.flow.shapes[value].rows)
                    ends[row] = min(ends[row], task.end)
        for value, ends in first_end.items():
            for ring, _ in self.readers_of.get(value, ()):
                ring.arrival = [min(a, b) for a, b in zip(ring.arrival, ends, strict=True)]

    def _load_key(self, ring: Ring, row: int, source: str) -> float:
        stage = self.stage_of.get(source)
        known = 0.0
        if stage is not None:
            known = max(self.tasks[n][-1].end for n in self.of_stage[stage.index])
        first = min(ring.first_use[row:]) if row + 1 < ring.n_rows else ring.first_use[row]
        return max(known, min(first, ring.first_use[row]) - self.options.lead_cycles) + 1e-9 * row

    def _emit_transfers(self) -> None:
        self.arrived: dict[int, list[list[int]]] = {id(ring): [[] for _ in range(ring.n_rows)] for ring in self.rings}
        self.reads_of_output: list[list[list[int]]] = [[[] for _ in line] for line in self.tasks]
        self.stores: dict[str, list[int]] = defaultdict(list)
        self.row_stores: dict[tuple[str, int], list[int]] = defaultdict(list)
        self.arrived_by_task: dict[tuple[int, int, int], list[int]] = {}
        self.row_end: dict[tuple[str, int], float] = {}
        for line in self.tasks:
            for task in line:
                if task.makes is not None:
                    self.row_end[task.makes] = max(self.row_end.get(task.makes, 0.0), task.end)
        for number, line in enumerate(self.tasks):
            stage = self.flow.stages[self.clusters[number].stage]
            if stage.kind is Kind.GENERAL:
                continue
            for index, task in enumerate(line):
                if task.makes is not None:
                    self._emit_result(number, stage, index, task)
        for source, readers in self.readers_of.items():
            if self._is_outside(source):
                for ring, piece in readers:
                    self._emit_loads(source, ring, piece)
        for ring in self.rings:
            if ring.is_windowed:
                self._emit_window_loads(ring)

    def _emit_result(self, number: int, stage: Stage, index: int, task: Task) -> None:
        """Hands the result of a task to everything that wants it."""
        assert task.makes is not None
        row = task.makes[1]
        if number not in self._wanted_by:
            self._wanted_by[number] = self._rings_fed(self.clusters[number], stage)
        for ring, piece, (low, high, c_start, c_stop) in self._wanted_by[number]:
            x_start, x_stop = max(task.x_start, low), min(task.x_stop, high)
            if x_start < x_stop and ring.first_use[row] < INFINITY:
                self._emit_move(number, stage, index, task, ring, piece, row, (x_start, x_stop, c_start, c_stop))
        if stage.output in self.in_memory:
            self._emit_store(number, stage, index, task, row)

    def _rings_fed(self, cluster: Cluster, stage: Stage) -> list[tuple[Ring, Any, tuple[int, int, int, int]]]:
        """Rings that want results of a cluster, with their columns and the channels of the result."""
        fed: list[tuple[Ring, Any, tuple[int, int, int, int]]] = []
        for ring, piece in self.readers_of.get(stage.output, ()):
            shift = piece.dst - piece.src
            c_start = max(cluster.c_start, piece.src, ring.c_start - shift)
            c_stop = min(cluster.c_stop, piece.src + piece.n, ring.c_stop - shift)
            if c_start < c_stop and ring.x_start < cluster.x_stop and cluster.x_start < ring.x_stop:
                fed.append((ring, piece, (ring.x_start, ring.x_stop, c_start, c_stop)))
        return fed

    def _emit_move(
        self, number: int, stage: Stage, index: int, task: Task, ring: Ring, piece: Any, row: int, part: tuple[int, int, int, int]
    ) -> None:  # fmt: skip
        """Copies or sends a part (first and last column, first and last channel) of a task's result into a ring."""
        cluster = self.clusters[number]
        x_start, x_stop, c_start, c_stop = part
        item, columns = ring.item_bytes, cluster.c_stop - cluster.c_start
        out = self.buffers[number][1][index % self.buffers_of[number]]
        out += ((x_start - task.x_start) * columns + c_start - cluster.c_start) * item
        land = ring.address + ring.offset(row, x_start) + (c_start + piece.dst - piece.src - ring.c_start) * item
        n, vectors = (c_stop - c_start) * item, x_stop - x_start
        source_step, target_step = columns * item, ring.vector_bytes
        if source_step == n == target_step:
            n, vectors = n * vectors, 1
        tail = self.tails[number][index]
        if ring.core == cluster.core:
            got = self.emitted.add(
                ring.core, task.end, OPCODES["copy"], stage.node, [tail], dst=land, src1=out, dst_step=target_step,
                src1_step=source_step, length=n, count=vectors,
            )  # fmt: skip
            self.reads_of_output[number][index].append(got)
        else:
            send = self.emitted.add(
                cluster.core, task.end, OPCODES["send"], stage.node, [tail], src1=out, src1_step=source_step, length=n, count=vectors
            )
            got = self.emitted.add(
                ring.core, task.end, OPCODES["receive"], stage.node, [], dst=land, dst_step=target_step, length=n, count=vectors
            )
            self.emitted.pair(send, got)
            self.reads_of_output[number][index].append(send)
        self._overwrite(ring, row, got)
        self.arrived[id(ring)][row].append(got)

    def _overwrite(self, ring: Ring, row: int, writer: int) -> None:
        """A write into a slot waits for the readers of what was there."""
        before = ring.before(row)
        if before is None:
            return
        row_before, samples_back = before
        edges = self.emitted.deps if samples_back == 0 else self.emitted.back
        for cluster, index in ring.readers[row_before].items():
            edges[writer].append(self._reader_tail(ring, cluster, index))

    def _reader_tail(self, ring: Ring, cluster: int, index: int) -> int:
        return self.tails[cluster][index]

    def _emit_store(self, number: int, stage: Stage, index: int, task: Task, row: int) -> None:
        cluster, shape = self.clusters[number], stage.shape
        item, columns = self.graph.types[stage.output].itemsize_bytes, cluster.c_stop - cluster.c_start
        n, vectors = columns * item, task.x_stop - task.x_start
        step = shape.channels * item
        target = ((row * shape.width + task.x_start) * shape.channels + cluster.c_start) * item
        if step == n:
            n, vectors = n * vectors, 1
        store = self.emitted.add(
            cluster.core, task.end, OPCODES["store"], stage.node, [self.tails[number][index]], dst=target, dst_step=step,
            src1=self.buffers[number][1][index % self.buffers_of[number]], src1_step=columns * item, length=n, count=vectors,
            arg=self.region_index[stage.output],
        )  # fmt: skip
        self.reads_of_output[number][index].append(store)
        self.stores[stage.output].append(store)
        self.row_stores[stage.output, row].append(store)

    def _emit_loads(self, source: str, ring: Ring, piece: Any) -> None:
        shape = self.flow.shapes[source]
        item = ring.item_bytes
        shift = piece.dst - piece.src
        c_start, c_stop = max(piece.src, ring.c_start - shift), min(piece.src + piece.n, ring.c_stop - shift)
        x_start, x_stop = max(ring.x_start, 0), min(ring.x_stop, shape.width)
        makers = [self.tails[n][-1] for n in self.of_stage[self.stage_of[source].index]] if source in self.stage_of else []
        for row in ring.needed():
            n, vectors = (c_stop - c_start) * item, x_stop - x_start
            step = shape.channels * item
            if step == n == ring.vector_bytes:
                n, vectors = n * vectors, 1
            load = self.emitted.add(
                ring.core, self._load_key(ring, row, source), OPCODES["load"], -1, list(makers),
                dst=ring.address + ring.offset(row, x_start) + (c_start + shift - ring.c_start) * item, dst_step=ring.vector_bytes,
                src1=((row * shape.width + x_start) * shape.channels + c_start) * item, src1_step=step,
                length=n, count=vectors, arg=self.region_index[source],
            )  # fmt: skip
            self._overwrite(ring, row, load)
            self.arrived[id(ring)][row].append(load)

    def _emit_window_loads(self, ring: Ring) -> None:
        """Every task of a windowed ring's cluster loads the rows it reads, and pads them where they stick out."""
        ((number, operand),) = self.windows[id(ring)]
        stage = self.flow.stages[self.clusters[number].stage]
        line = self.tasks[number]
        for index, task in enumerate(line):
            first, last = self._rows_read(stage, operand, task)
            if first > last:
                continue
            low, high = self._columns_read(stage, operand, task)
            ring.focus(index, first, low)
            earlier, back = index - ring.depth, False
            if earlier < 0:
                back, earlier = True, self._same_buffer(number, index)
            readers = self.read_by[number, earlier, ring.core]
            known = self._known(ring.value, first, last)
            free = line[earlier].start - (self.period if back else 0.0)
            key = max(known, task.start - self.options.lead_cycles, free + 1e-6, 0.0)
            key = min(key, task.start - 1e-6)
            got = self._load_window(ring, stage, first, last, low, high, key)
            for row in got:
                (self.emitted.back if back else self.emitted.deps)[row] += readers
            self.arrived_by_task.setdefault((number, index, ring.core), []).extend(got)

    def _known(self, value: str, first: int, last: int) -> float:
        """Place in the order at which rows of a value are in global memory."""
        known = 0.0
        for piece in self.flow.sources(value):
            stage = self.stage_of.get(piece.source)
            if stage is None:
                continue
            if stage.kind is Kind.GENERAL:
                known = max([known] + [self.tasks[n][-1].end for n in self.of_stage[stage.index]])
            else:
                known = max([known] + [self.row_end.get((piece.source, row), 0.0) for row in range(first, last + 1)])
        return known + 1e-3

    def _load_window(self, ring: Ring, stage: Stage, first: int, last: int, low: int, high: int, key: float) -> list[int]:
        made: list[int] = []
        item, width = ring.item_bytes, self.flow.shapes[ring.value].width
        x_start, x_stop = max(low, 0), min(high, width)
        for start, stop in ((low, x_start), (x_stop, high)):
            made += [
                self.emitted.add(
                    ring.core, key, OPCODES["copy"], -1, [], dst=ring.address + ring.offset(row, start), dst_step=ring.vector_bytes,
                    src1=self.padding[id(ring)], src1_step=0, length=ring.vector_bytes, count=stop - start,
                )
                for row in range(first, last + 1) if start < stop
            ]  # fmt: skip
        for piece in self.flow.sources(ring.value):
            c_start, c_stop = max(piece.dst, ring.c_start), min(piece.dst + piece.n, ring.c_stop)
            if c_start >= c_stop or x_start >= x_stop:
                continue
            shape = self.flow.shapes[piece.source]
            for row in range(first, last + 1):
                n, vectors, step = (c_stop - c_start) * item, x_stop - x_start, shape.channels * item
                if step == n == ring.vector_bytes:
                    n, vectors = n * vectors, 1
                made.append(self.emitted.add(
                    ring.core, key, OPCODES["load"], -1, self._makers(piece.source, row), dst_step=ring.vector_bytes,
                    dst=ring.address + ring.offset(row, x_start) + (c_start - ring.c_start) * item,
                    src1=((row * shape.width + x_start) * shape.channels + c_start - piece.dst + piece.src) * item, src1_step=step,
                    length=n, count=vectors, arg=self.region_index[piece.source],
                ))  # fmt: skip
        return made

    def _makers(self, source: str, row: int) -> list[int]:
        """Rows that leave a row of a value in global memory."""
        stage = self.stage_of.get(source)
        if stage is None:
            return []
        if stage.kind is Kind.GENERAL:
            return [self.tails[n][-1] for n in self.of_stage[stage.index]]
        return list(self.row_stores[source, row])

    # Dependencies between tasks ----------------------------------------------------------------------------

    def _link_tasks(self) -> None:
        for number, cluster in enumerate(self.clusters):
            stage = self.flow.stages[cluster.stage]
            if stage.kind is Kind.GENERAL:
                self._link_general(number, stage)
                continue
            self._link_inputs(number, cluster, stage)
            self._link_buffers(number, stage)

    def _link_general(self, number: int, stage: Stage) -> None:
        (head,) = self.heads[number][0]
        for operand in stage.inputs:
            for piece in self.flow.sources(operand.value):
                maker = self.stage_of.get(piece.source)
                if maker is None:
                    continue
                if maker.kind is Kind.GENERAL:
                    self.emitted.deps[head] += [self.tails[n][-1] for n in self.of_stage[maker.index]]
                else:
                    self.emitted.deps[head] += self.stores[piece.source]
        parts = self.of_stage[stage.index]
        if number == parts[-1]:
            # The last part completes the node: it waits for the others.
            self.emitted.deps[head] += [self.tails[n][-1] for n in parts[:-1]]

    def _link_inputs(self, number: int, cluster: Cluster, stage: Stage) -> None:
        """Heads wait for rows that arrived since the task before, and for that task's head."""
        cores = [cluster.core, *(core for core, _ in cluster.peers)]
        known = [[-1] * len(stage.inputs) for _ in cores]
        for index, task in enumerate(self.tasks[number]):
            heads = self.heads[number][index]
            for place, core in enumerate(cores):
                head = heads[place] if stage.kind is Kind.MATRIX else heads[-1]
                if index:
                    before = self.heads[number][index - 1]
                    self.emitted.deps[head].append(before[place] if stage.kind is Kind.MATRIX else self.tails[number][index - 1])
                self.emitted.deps[head] += self.arrived_by_task.get((number, index, core), ())
                for operand in range(len(stage.inputs)):
                    ring = self._ring(number, operand, core)
                    if ring.is_windowed:
                        continue
                    first, last = self._rows_read(stage, operand, task)
                    for row in range(max(first, known[place][operand] + 1), last + 1):
                        self.emitted.deps[head] += self.arrived[id(ring)][row]
                    known[place][operand] = max(known[place][operand], last)

    def _link_buffers(self, number: int, stage: Stage) -> None:
        """A buffer is written again only after its last reader is done, in this sample or the one before."""
        line = self.tasks[number]
        for index in range(len(line)):
            earlier = index - self.buffers_of[number]
            back = earlier < 0
            if back:
                earlier = self._same_buffer(number, index)
            edges = self.emitted.back if back else self.emitted.deps
            if stage.kind is Kind.MEAN:
                if index == 0:
                    self.emitted.back[self.heads[number][0][0]].append(self.tails[number][-1])
                    self.emitted.back[self.tails[number][-1]] += self.reads_of_output[number][-1]
                continue
            if stage.kind is Kind.MATRIX:
                for head in self.heads[number][index]:
                    edges[head].append(self.tails[number][earlier])
                edges[self.tails[number][index]] += self.reads_of_output[number][earlier]
            else:
                edges[self.heads[number][index][0]] += self.reads_of_output[number][earlier]

    # Assembly ----------------------------------------------------------------------------------------------

    def _assemble(self) -> Program:
        table = self.emitted.table(self.hardware.total_cores, self.period)
        segments = list(self.patterns)
        pattern_ptr, pattern_offset = ragged([[o for o, _ in s] for s in segments])
        groups, matrices = self._weights()
        return Program(
            name=self.graph.name, target="crossbar", mode=self.options.mode, samples=self.options.samples, hardware=self.hardware,
            graph=self.graph, rows=table.rows, stream_ptr=table.stream_ptr, partner=table.partner, dep_ptr=table.dep_ptr,
            dep_row=table.dep_row, dep_distance=table.dep_distance,
            pattern_ptr=pattern_ptr, pattern_offset=pattern_offset, pattern_length=ragged([[n for _, n in s] for s in segments])[1],
            groups=groups, matrices=matrices, regions=tuple(self.regions.values()), blocks=tuple(self.blocks),
        )  # fmt: skip

    def _weights(self) -> tuple[Groups, tuple[Matrix, ...]]:
        owner: dict[str, Stage] = {}
        for stage in self.flow.stages:
            if stage.kind is Kind.MATRIX:
                owner.setdefault(self.graph.nodes[stage.node].inputs[1], stage)
        index: dict[tuple[str, int], int] = {}
        matrices: list[Matrix] = []
        for key, stage in owner.items():
            for b, block in enumerate(self.unfolded[stage.index].blocks):
                index[key, b] = len(matrices)
                matrices.append(Matrix(key, matrix_of(stage, self.graph, block)))
        fields: list[tuple[int, ...]] = []
        for group in self.placement.groups:
            band = self.unfolded[owner[group.key].index].blocks[group.block].bands[group.band]
            fields.append((
                group.core, group.crossbars, index[group.key, group.block], band.start, band.stop, group.column_start, group.column_stop,
            ))  # fmt: skip
        columns = np.array(fields, np.int32).reshape(-1, 7).T
        return Groups(*(np.ascontiguousarray(c) for c in columns)), tuple(matrices)
