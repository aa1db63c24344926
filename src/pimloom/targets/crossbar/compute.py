"""Compute instructions of tasks.

A task with weights is `preset` (waits for the inputs, sets the sums to the bias), one `mvm` per copy and array group, `finish`;
partial sums of other cores come before that by `send`, `receive`, `add_partial`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from pimloom.program import MASKED, OPCODES
from pimloom.targets.crossbar.emission import Emission
from pimloom.targets.crossbar.geometry import origin_row, pool_counts
from pimloom.targets.crossbar.memory import Memory
from pimloom.targets.crossbar.placement import Cluster
from pimloom.targets.crossbar.rings import Ring
from pimloom.targets.crossbar.scope import Scope
from pimloom.targets.crossbar.stages import Kind, Stage
from pimloom.targets.crossbar.tasks import Work
from pimloom.targets.crossbar.timetable import Task
from pimloom.targets.crossbar.unfold import band_segments


@final
@dataclass(frozen=True, slots=True)
class _Part:
    """What an array group has to do in every task of its cluster.

    Attributes:
        group: its number.
        columns: of its result.
        offset_bytes: of its first column among the sums of a vector.
        shift_bytes: of its first channel in a vector of the ring.
        gathered: what it reads: block, band, and channels of the block that the ring does not hold before those it does.
    """

    group: int
    columns: int
    offset_bytes: int
    shift_bytes: int
    gathered: tuple[int, int, int]


@final
class Compute:
    """Emits what tasks compute.

    Attributes:
        patterns: gather patterns to their numbers.
        heads: per cluster and task, the rows that wait for inputs, by core.
        tails: per cluster and task, the row that is done last.
        read_by: (cluster, task, core) to the rows that read its operands there.
    """

    def __init__(self, scope: Scope, work: Work, memory: Memory, emitted: Emission) -> None:
        """Nothing emitted yet."""
        self.scope, self.work, self.memory, self.emitted = scope, work, memory, emitted
        self.patterns: dict[tuple[tuple[int, int], ...], int] = {}
        self._pattern_of: dict[tuple[int, int, tuple[int, ...]], dict[tuple[int, int, int], int]] = {}
        self._parts: dict[tuple[int, int], list[list[_Part]]] = {}
        self.heads: list[list[list[int]]] = []
        self.tails: list[list[int]] = []
        self.read_by: dict[tuple[int, int, int], list[int]] = {}

    def emit(self) -> None:
        """Emits all tasks."""
        rings_by_cluster: dict[int, list[tuple[tuple[int, int, int], Ring]]] = defaultdict(list)
        for place, ring in self.memory.ring_of.items():
            rings_by_cluster[place[0]].append((place, ring))
        for number, cluster in enumerate(self.scope.clusters):
            stage = self.scope.flow.stages[cluster.stage]
            emit = {
                Kind.MATRIX: self._emit_matrix, Kind.POOL: self._emit_pool, Kind.STENCIL: self._emit_pool, Kind.VECTOR: self._emit_vector,
                Kind.MEAN: self._emit_mean, Kind.GENERAL: self._emit_general,
            }[stage.kind]  # fmt: skip
            heads: list[list[int]] = []
            tails: list[int] = []
            windowed = [(o, r) for (n, o, _), r in rings_by_cluster.get(number, ()) if r.is_windowed]
            for index, task in enumerate(self.work.tasks[number]):
                for operand, ring in windowed:
                    ring.focus(index, self.scope.rows_read(stage, operand, task)[0], self.scope.columns_read(stage, operand, task)[0])
                head, tail = emit(number, cluster, stage, index, task)
                heads.append(head)
                tails.append(tail)
            self.heads.append(heads)
            self.tails.append(tails)

    def _emit_matrix(self, number: int, cluster: Cluster, stage: Stage, index: int, task: Task) -> tuple[list[int], int]:
        sums, outs, remote = self.memory.buffers[number]
        width, columns = task.x_stop - task.x_start, cluster.c_stop - cluster.c_start
        parity, item = index % self.scope.buffers_of[number], self.scope.graph.types[stage.output].itemsize_bytes
        head, mvms = self._emit_products(number, cluster.core, cluster.copies, cluster, stage, index, task, sums[parity])
        heads, complete = [head], mvms
        for p, (core, copies) in enumerate(cluster.peers):
            peer_head, peer_mvms = self._emit_products(number, core, copies, cluster, stage, index, task, remote[p][parity], is_peer=True)
            heads.append(peer_head)
            landing = sums[self.scope.buffers_of[number] * (p + 1) + parity]
            complete = [self._emit_partial(cluster, stage, task, core, peer_mvms, remote[p][parity], landing, sums[parity], complete)]
        tail = self.emitted.add(
            cluster.core, task.end, OPCODES["finish"], stage.node, list(complete), dst=outs[parity], src1=sums[parity],
            dst_step=columns * item, src1_step=columns * self.scope.sum_bytes[stage.node], length=columns, count=width, arg=cluster.c_start,
        )  # fmt: skip
        return heads, tail

    def _emit_products(
        self, number: int, core: int, copies: Sequence[Sequence[int]], cluster: Cluster, stage: Stage, index: int, task: Task, sums: int,
        *, is_peer: bool = False,
    ) -> tuple[int, list[int]]:  # fmt: skip
        """`preset` and the `mvm`s of one core."""
        width, columns, unit = task.x_stop - task.x_start, cluster.c_stop - cluster.c_start, self.scope.sum_bytes[stage.node]
        ring = self.memory.ring(number, 0, core)
        head = self.emitted.add(
            core, task.start, OPCODES["preset"], -1 if is_peer else stage.node, [], dst=sums, dst_step=columns * unit,
            length=columns, count=width, arg=cluster.c_start, src2=unit,
        )  # fmt: skip
        share = -(-width // max(len(copies), 1))
        mvms: list[int] = []
        step, stride, padding = columns * unit, stage.window.stride[1], stage.window.padding[1]
        parts, lines = self._parts_of(number, core, copies, cluster, stage, ring), self._lines(ring, stage, task.row)
        known = self._pattern_of.setdefault((stage.index, ring.vector_bytes, lines), {})
        for c in range(-(-width // share)):
            low, high = task.x_start + c * share, min(task.x_start + (c + 1) * share, task.x_stop)
            # Columns are in the address, so that windows of a row, and rows in the same slots, share a pattern.
            base, target = ring.address + ring.column_offset(low * stride - padding), sums + (low - task.x_start) * step
            # A task of fewer vectors than copies leaves some out: the next task begins with those.
            for part in parts[(c + index * -(-width // share)) % len(copies)]:
                if part.gathered not in known:
                    known[part.gathered] = self._gather(ring, stage, part.gathered, lines)
                mvms.append(self.emitted.add(
                    core, task.start, OPCODES["mvm"], stage.node, [head], dst=target + part.offset_bytes, dst_step=step,
                    src1=base + part.shift_bytes, src1_step=stride * ring.vector_bytes, pattern=known[part.gathered],
                    length=part.columns, count=high - low, arg=part.group,
                ))  # fmt: skip
        self.read_by[number, index, core] = mvms
        return head, mvms

    def _parts_of(
        self, number: int, core: int, copies: Sequence[Sequence[int]], cluster: Cluster, stage: Stage, ring: Ring
    ) -> list[list[_Part]]:  # fmt: skip
        """What the groups of each copy on a core have to do, for all tasks of a cluster."""
        if (number, core) not in self._parts:
            unfolded, unit = self.scope.unfolded[stage.index], self.scope.sum_bytes[stage.node]
            held: list[list[_Part]] = []
            for copy in copies:
                held.append([])
                for g in copy:
                    group = self.scope.placement.groups[g]
                    block = unfolded.blocks[group.block]
                    # A ring may hold channels before those of a block, or begin at a later one where rows are cut by channels.
                    skipped, shift = max(0, ring.c_start - block.in_start), max(0, block.in_start - ring.c_start) * ring.item_bytes
                    offset = (block.out_start + group.column_start - cluster.c_start) * unit
                    held[-1].append(
                        _Part(g, group.column_stop - group.column_start, offset, shift, (group.block, group.band, skipped))
                    )
            self._parts[number, core] = held
        return self._parts[number, core]

    @staticmethod
    def _lines(ring: Ring, stage: Stage, row: int) -> tuple[int, ...]:
        """Where in the ring the input rows of a row of windows begin, MASKED where they lie outside the image."""
        window = stage.window
        (y0, image), image_rows = origin_row(stage, ring.n_rows, row), ring.n_rows // stage.inputs[0].shape.images
        return tuple(
            ring.line_offset(image * image_rows + y) if 0 <= y < image_rows else MASKED
            for y in range(y0, y0 + window.reach(0), window.dilation[0])
        )

    def _gather(self, ring: Ring, stage: Stage, gathered: tuple[int, int, int], lines: tuple[int, ...]) -> int:
        """Gather pattern of an array group's input for windows of the row that `lines` belong to."""
        number, band, skipped = gathered
        block = self.scope.unfolded[stage.index].blocks[number]
        step = stage.window.dilation[1] * ring.vector_bytes
        return self._pattern(tuple(
            (lines[ky] + kx * step + (channel - skipped) * ring.item_bytes if lines[ky] != MASKED else MASKED, n * ring.item_bytes)
            for ky, kx, channel, n in band_segments(stage, block.in_channels, block.bands[band])
        ))  # fmt: skip

    def _pattern(self, segments: tuple[tuple[int, int], ...]) -> int:
        return self.patterns.setdefault(segments, len(self.patterns))

    def _emit_partial(
        self, cluster: Cluster, stage: Stage, task: Task, core: int, mvms: list[int], source: int, landing: int, sums: int,
        before: list[int],
    ) -> int:  # fmt: skip
        """Sends a peer's sums to the cluster and adds them there."""
        columns, width, unit = cluster.c_stop - cluster.c_start, task.x_stop - task.x_start, self.scope.sum_bytes[stage.node]
        size = columns * width * unit
        send = self.emitted.add(core, task.end, OPCODES["send"], stage.node, list(mvms), src1=source, length=size)
        receive = self.emitted.add(cluster.core, task.end, OPCODES["receive"], stage.node, [], dst=landing, length=size)
        self.emitted.pair(send, receive)
        return self.emitted.add(
            cluster.core, task.end, OPCODES["add_partial"], stage.node, [receive, *before], dst=sums, src1=landing, src2=sums,
            dst_step=columns * unit, src1_step=columns * unit, src2_step=columns * unit, length=columns, count=width,
        )  # fmt: skip

    def _emit_pool(self, number: int, cluster: Cluster, stage: Stage, index: int, task: Task) -> tuple[list[int], int]:
        ring, window = self.memory.ring(number, 0, cluster.core), stage.window
        columns, item = cluster.c_stop - cluster.c_start, self.scope.graph.types[stage.output].itemsize_bytes
        (y0, image), image_rows = origin_row(stage, ring.n_rows, task.row), ring.n_rows // stage.inputs[0].shape.images
        shift = (cluster.c_start - ring.c_start) * ring.item_bytes
        out = self.memory.output(number, index)
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
        counts = pool_counts(self.scope.graph, stage, task.row)
        runs: list[list[int]] = []
        for x in range(task.x_start, task.x_stop):
            if runs and runs[-1][2] == counts[x]:
                runs[-1][1] = x + 1
            else:
                runs.append([x, x + 1, counts[x]])
        return [(a, b, n) for a, b, n in runs]

    def _emit_vector(self, number: int, cluster: Cluster, stage: Stage, index: int, task: Task) -> tuple[list[int], int]:
        columns, item = cluster.c_stop - cluster.c_start, self.scope.graph.types[stage.output].itemsize_bytes
        addresses: list[int] = []
        steps: list[int] = []
        for operand, source in enumerate(stage.inputs):
            ring = self.memory.ring(number, operand, cluster.core)
            row, x = (0, 0) if source.is_broadcast else (task.row, task.x_start)
            addresses.append(ring.address + ring.offset(row, x) + (cluster.c_start - ring.c_start) * ring.item_bytes)
            steps.append(0 if source.is_broadcast else ring.vector_bytes)
        two = len(addresses) > 1
        tail = self.emitted.add(
            cluster.core, task.start, OPCODES["vector"], stage.node, [], dst=self.memory.output(number, index), dst_step=columns * item,
            src1=addresses[0], src1_step=steps[0], src2=addresses[1] if two else -1,
            src2_step=steps[1] if two else 0, length=columns, count=task.x_stop - task.x_start, arg=cluster.c_start,
        )  # fmt: skip
        self.read_by[number, index, cluster.core] = [tail]
        return [tail], tail

    def _emit_mean(self, number: int, cluster: Cluster, stage: Stage, index: int, task: Task) -> tuple[list[int], int]:
        sums = self.memory.buffers[number][0]
        columns, unit = cluster.c_stop - cluster.c_start, self.scope.sum_bytes[stage.node]
        ring = self.memory.ring(number, 0, cluster.core)
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
            cluster.core, task.end, OPCODES["finish"], stage.node, [add], dst=self.memory.output(number, index),
            dst_step=columns * self.scope.graph.types[stage.output].itemsize_bytes, src1=sums[0], src1_step=columns * unit,
            length=columns, arg=cluster.c_start,
        )  # fmt: skip
        return heads, tail

    def _emit_general(self, number: int, cluster: Cluster, stage: Stage, index: int, task: Task) -> tuple[list[int], int]:
        moved, operations = self.scope.general_work(number, stage)
        node = self.scope.graph.nodes[stage.node]
        made = sum(t.size_bytes for t in self.scope.graph.output_types(node)) / len(self.scope.of_stage[stage.index])
        blocks = max(1, min(int(moved // 4096), 64))
        part = self.scope.of_stage[stage.index].index(number)
        last = part == len(self.scope.of_stage[stage.index]) - 1
        row = self.emitted.add(
            cluster.core, task.start + 1e-6 * part, OPCODES["general"], stage.node, [],
            src1=int((moved - made) / blocks), dst=int(made / blocks), length=max(1, int(operations / blocks)),
            count=blocks, arg=part, src2=int(last),
        )  # fmt: skip
        return [row], row
