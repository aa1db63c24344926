"""Transfers: results to the rings and the global memory that want them, and what comes from global memory.

A task's result goes from an output buffer to every ring that wants it (`copy` on the same core, `send` and `receive` to others)
and to global memory where something reads it there (`store`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from pimloom.program import OPCODES
from pimloom.targets.crossbar.compute import Compute
from pimloom.targets.crossbar.emission import Emission
from pimloom.targets.crossbar.memory import Memory
from pimloom.targets.crossbar.placement import Cluster
from pimloom.targets.crossbar.rings import INFINITY, Ring
from pimloom.targets.crossbar.scope import Scope
from pimloom.targets.crossbar.stages import Kind, Piece, Stage
from pimloom.targets.crossbar.tasks import Work
from pimloom.targets.crossbar.timetable import Task


@final
@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a ring wants of every vector that a cluster makes.

    Attributes:
        ring: the ring.
        size_bytes: of the part.
        source_step: bytes from vector to vector where it is made.
        source_bytes: of a vector before the part, where it is made.
        target_bytes: the same in the ring.
    """

    ring: Ring
    size_bytes: int
    source_step: int
    source_bytes: int
    target_bytes: int


@final
class Transfers:
    """Emits what moves.

    Attributes:
        arrived: per ring and row, the rows that write it.
        arrived_by_task: (cluster, task, core) to the rows that fill its windows.
        reads_of_output: per cluster and task, the rows that read its result.
        stores: value to the rows that leave it in global memory.
        outside: rows that read what nothing here makes: (instruction, value, row of the value or -1 for all).
    """

    def __init__(
        self, scope: Scope, work: Work, memory: Memory, compute: Compute, emitted: Emission, region_index: Mapping[str, int]
    ) -> None:  # fmt: skip
        """Nothing emitted yet; `region_index` numbers the values in global memory."""
        self.scope, self.work, self.memory, self.compute, self.emitted = scope, work, memory, compute, emitted
        self.region_index = region_index
        self.arrived: dict[int, list[list[int]]] = {id(ring): [[] for _ in range(ring.n_rows)] for ring in memory.rings}
        self.arrived_by_task: dict[tuple[int, int, int], list[int]] = {}
        self.reads_of_output: list[list[list[int]]] = [[[] for _ in line] for line in work.tasks]
        self.stores: dict[str, list[int]] = defaultdict(list)
        self.outside: list[tuple[int, str, int]] = []
        self._row_stores: dict[tuple[str, int], list[int]] = defaultdict(list)
        self._row_end: dict[tuple[str, int], float] = {}
        self._wanted_by: dict[int, list[_Wanted]] = {}  # cluster to rings of its results

    def emit(self) -> None:
        """Emits all transfers; the tasks must have been emitted."""
        for line in self.work.tasks:
            for task in line:
                if task.makes is not None:
                    self._row_end[task.makes] = max(self._row_end.get(task.makes, 0.0), task.end)
        for number, line in enumerate(self.work.tasks):
            stage = self.scope.stage_at(number)
            if stage.kind is Kind.GENERAL:
                continue
            for index, task in enumerate(line):
                if task.makes is not None:
                    self._emit_result(number, stage, index, task)
        for source, readers in self.memory.readers_of.items():
            if self.scope.is_outside(source):
                for ring, piece in readers:
                    self._emit_loads(source, ring, piece)
        for ring in self.memory.rings:
            if ring.is_windowed:
                self._emit_window_loads(ring)

    def _emit_result(self, number: int, stage: Stage, index: int, task: Task) -> None:
        """Hands the result of a task to everything that wants it."""
        assert task.makes is not None
        row, core = task.makes[1], self.scope.clusters[number].core
        if number not in self._wanted_by:
            self._wanted_by[number] = self._rings_fed(self.scope.clusters[number], stage)
        for wanted in self._wanted_by[number]:
            x_start, x_stop = max(task.x_start, wanted.ring.x_start), min(task.x_stop, wanted.ring.x_stop)
            if x_start < x_stop and wanted.ring.first_use[row] < INFINITY:
                source = self.memory.output(number, index) + (x_start - task.x_start) * wanted.source_step + wanted.source_bytes
                got = self._emit_move(core, stage.node, task.end, (number, index), wanted, source, row, x_start, x_stop)
                self._overwrite(wanted.ring, row, got)
                self.arrived[id(wanted.ring)][row].append(got)
        if stage.output in self.scope.in_memory:
            self._emit_store(number, stage, index, task, row)

    def _rings_fed(self, cluster: Cluster, stage: Stage) -> list[_Wanted]:
        """Rings that want results of a cluster, and which part of a vector."""
        fed: list[_Wanted] = []
        for ring, piece in self.memory.readers_of.get(stage.output, ()):
            shift = piece.dst - piece.src
            c_start = max(cluster.c_start, piece.src, ring.c_start - shift)
            c_stop = min(cluster.c_stop, piece.src + piece.n, ring.c_stop - shift)
            if c_start < c_stop and ring.x_start < cluster.x_stop and cluster.x_start < ring.x_stop:
                item = ring.item_bytes
                fed.append(_Wanted(
                    ring, (c_stop - c_start) * item, (cluster.c_stop - cluster.c_start) * item, (c_start - cluster.c_start) * item,
                    (c_start + shift - ring.c_start) * item,
                ))  # fmt: skip
        return fed

    def _emit_move(
        self, core: int, node: int, end: float, task: tuple[int, int], wanted: _Wanted, source: int, row: int, x_start: int, x_stop: int
    ) -> int:  # fmt: skip
        """Copies or sends columns of a task's result into a ring; returns the row that writes there."""
        number, index = task
        ring, n, vectors = wanted.ring, wanted.size_bytes, x_stop - x_start
        land = ring.address + ring.offset(row, x_start) + wanted.target_bytes
        source_step, target_step = wanted.source_step, ring.vector_bytes
        if source_step == n == target_step:
            n, vectors = n * vectors, 1
        tail = self.compute.tails[number][index]
        if ring.core == core:
            got = read = self.emitted.add(
                core, end, OPCODES["copy"], node, [tail], dst=land, src1=source, dst_step=target_step, src1_step=source_step,
                length=n, count=vectors,
            )  # fmt: skip
        else:
            read = self.emitted.add(
                core, end, OPCODES["send"], node, [tail], src1=source, src1_step=source_step, length=n, count=vectors
            )
            got = self.emitted.add(
                ring.core, end, OPCODES["receive"], node, [], dst=land, dst_step=target_step, length=n, count=vectors
            )
            self.emitted.pair(read, got)
        self.reads_of_output[number][index].append(read)
        return got

    def _overwrite(self, ring: Ring, row: int, writer: int) -> None:
        """A write into a slot waits for the readers of what was there."""
        before = ring.before(row)
        if before is None:
            return
        row_before, samples_back = before
        edges = self.emitted.deps if samples_back == 0 else self.emitted.back
        for cluster, last in ring.readers[row_before].items():
            # The last reader may be done before the one before it, which has another buffer; whoever had its own was done before it.
            first = max(last + 1 - self.scope.buffers_of[cluster], 0)
            edges[writer] += self.compute.tails[cluster][first : last + 1]

    def _emit_store(self, number: int, stage: Stage, index: int, task: Task, row: int) -> None:
        cluster, shape = self.scope.clusters[number], stage.shape
        item, columns = self.scope.graph.types[stage.output].itemsize_bytes, cluster.c_stop - cluster.c_start
        n, vectors = columns * item, task.x_stop - task.x_start
        step = shape.channels * item
        target = ((row * shape.width + task.x_start) * shape.channels + cluster.c_start) * item
        if step == n:
            n, vectors = n * vectors, 1
        store = self.emitted.add(
            cluster.core, task.end, OPCODES["store"], stage.node, [self.compute.tails[number][index]], dst=target, dst_step=step,
            src1=self.memory.output(number, index), src1_step=columns * item, length=n, count=vectors,
            arg=self.region_index[stage.output],
        )  # fmt: skip
        self.reads_of_output[number][index].append(store)
        self.stores[stage.output].append(store)
        self._row_stores[stage.output, row].append(store)

    def _emit_loads(self, source: str, ring: Ring, piece: Piece) -> None:
        shape = self.scope.flow.shapes[source]
        item = ring.item_bytes
        shift = piece.dst - piece.src
        c_start, c_stop = max(piece.src, ring.c_start - shift), min(piece.src + piece.n, ring.c_stop - shift)
        x_start, x_stop = max(ring.x_start, 0), min(ring.x_stop, shape.width)
        makers = (
            [self.compute.tails[n][-1] for n in self.scope.of_stage[self.scope.stage_of[source].index]]
            if source in self.scope.stage_of
            else []
        )
        for row in ring.needed():
            n, vectors = (c_stop - c_start) * item, x_stop - x_start
            step = shape.channels * item
            if step == n == ring.vector_bytes:
                n, vectors = n * vectors, 1
            load = self.emitted.add(
                ring.core, self.memory.load_key(ring, row, source), OPCODES["load"], -1, list(makers),
                dst=ring.address + ring.offset(row, x_start) + (c_start + shift - ring.c_start) * item, dst_step=ring.vector_bytes,
                src1=((row * shape.width + x_start) * shape.channels + c_start) * item, src1_step=step,
                length=n, count=vectors, arg=self.region_index[source],
            )  # fmt: skip
            self._overwrite(ring, row, load)
            self.arrived[id(ring)][row].append(load)
            if source not in self.scope.stage_of:
                self.outside.append((load, source, row))

    def _emit_window_loads(self, ring: Ring) -> None:
        """Every task of a windowed ring's cluster loads the rows it reads, and pads them where they stick out."""
        ((number, operand),) = self.memory.windows[id(ring)]
        stage = self.scope.stage_at(number)
        line = self.work.tasks[number]
        for index, task in enumerate(line):
            first, last = self.scope.rows_read(stage, operand, task)
            if first > last:
                continue
            low, high = self.scope.columns_read(stage, operand, task)
            ring.focus(index, first, low)
            earlier, back = index - ring.depth, False
            if earlier < 0:
                back, earlier = True, self.work.same_buffer(number, index)
            readers = self.compute.read_by[number, earlier, ring.core]
            known = self._known(ring.value, first, last)
            free = line[earlier].start - (self.memory.period if back else 0.0)
            key = max(known, task.start - self.scope.options.lead_cycles, free + 1e-6, 0.0)
            key = min(key, task.start - 1e-6)
            got = self._load_window(ring, stage, first, last, low, high, key)
            for row in got:
                (self.emitted.back if back else self.emitted.deps)[row] += readers
            self.arrived_by_task.setdefault((number, index, ring.core), []).extend(got)

    def _known(self, value: str, first: int, last: int) -> float:
        """Place in the order at which rows of a value are in global memory."""
        known = 0.0
        for piece in self.scope.flow.sources(value):
            stage = self.scope.stage_of.get(piece.source)
            if stage is None:
                continue
            if stage.kind is Kind.GENERAL:
                known = max([known] + [self.work.tasks[n][-1].end for n in self.scope.of_stage[stage.index]])
            else:
                known = max([known] + [self._row_end.get((piece.source, row), 0.0) for row in range(first, last + 1)])
        return known + 1e-3

    def _load_window(self, ring: Ring, stage: Stage, first: int, last: int, low: int, high: int, key: float) -> list[int]:
        made: list[int] = []
        item, width = ring.item_bytes, self.scope.flow.shapes[ring.value].width
        x_start, x_stop = max(low, 0), min(high, width)
        for start, stop in ((low, x_start), (x_stop, high)):
            made += [
                self.emitted.add(
                    ring.core, key, OPCODES["copy"], -1, [], dst=ring.address + ring.offset(row, start), dst_step=ring.vector_bytes,
                    src1=self.memory.padding[id(ring)], src1_step=0, length=ring.vector_bytes, count=stop - start,
                )
                for row in range(first, last + 1) if start < stop
            ]  # fmt: skip
        for piece in self.scope.flow.sources(ring.value):
            c_start, c_stop = max(piece.dst, ring.c_start), min(piece.dst + piece.n, ring.c_stop)
            if c_start >= c_stop or x_start >= x_stop:
                continue
            shape = self.scope.flow.shapes[piece.source]
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
                if piece.source not in self.scope.stage_of:
                    self.outside.append((made[-1], piece.source, row))
        return made

    def makers(self, value: str, row: int) -> list[int]:
        """Rows that leave a row of a value, or all of it (-1), in global memory; none if another network does."""
        return list(self.stores[value]) if row < 0 and self.scope.stage_of[value].kind is not Kind.GENERAL else self._makers(value, row)

    def _makers(self, source: str, row: int) -> list[int]:
        """Rows that leave a row of a value in global memory."""
        stage = self.scope.stage_of.get(source)
        if stage is None:
            return []
        if stage.kind is Kind.GENERAL:
            return [self.compute.tails[n][-1] for n in self.scope.of_stage[stage.index]]
        return list(self._row_stores[source, row])
