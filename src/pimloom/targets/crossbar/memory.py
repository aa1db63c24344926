"""The local memories: rings of operands, buffers of sums and results, and where everything lies."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import final

from pimloom.errors import CapacityError
from pimloom.program import Block
from pimloom.targets.crossbar.bundles import is_windowed
from pimloom.targets.crossbar.geometry import input_columns, input_rows
from pimloom.targets.crossbar.rings import INFINITY, Ring
from pimloom.targets.crossbar.scope import Scope, cores_of
from pimloom.targets.crossbar.stages import Kind, Piece
from pimloom.targets.crossbar.tasks import Work
from pimloom.targets.crossbar.timetable import Task

_ROW = attrgetter("row")
WINDOWINGS = 4  # times that rings may become windows because those before did
RingKey = tuple[int, str, int, int, int]


@final
@dataclass(slots=True)
class _Run:
    """The tasks of a cluster that make parts of one row.

    Attributes:
        task: the first of them.
        last: number of the last.
        start: when the first begins.
        end: when the last ends.
        first_end: when the first ends.
    """

    task: Task
    last: int
    start: float
    end: float
    first_end: float


@final
class Memory:
    """What every core holds.

    Attributes:
        rings: all of them.
        ring_of: by (cluster, operand, core).
        windows: windowed ring to its (cluster, operand).
        padding: windowed ring to the address of a vector of padding.
        readers_of: computed value to the rings that hold it, and as which of their channels.
        period: time between samples in the order of instructions; infinite if samples do not overlap.
        blocks: what lies where.
        buffers: per cluster, addresses of its sums, its results, and its sums on each peer.
        buffer_bytes: per cluster, of all its buffers.
    """

    def __init__(self, scope: Scope, work: Work) -> None:
        """Gives every operand a ring; nothing has a size or an address yet.

        Raises:
            CapacityError: a core whose rings may become windows is too small even if its tasks are single vectors.
        """
        self.scope, self.work = scope, work
        self.rings: list[Ring] = []
        self.ring_of: dict[tuple[int, int, int], Ring] = {}
        self.windows: dict[int, list[tuple[int, int]]] = {}
        self.padding: dict[int, int] = {}
        self.readers_of: dict[str, list[tuple[Ring, Piece]]] = {}
        self.period = INFINITY
        self.cursor = [0] * scope.hardware.total_cores
        self.blocks: list[Block] = []
        self.buffers: list[tuple[list[int], list[int], list[list[int]]]] = []
        self.buffer_bytes: list[int] = []
        self._runs_of: dict[int, list[_Run]] = {}
        self._make_rings()
        if scope.windowed_cores:
            self.check_least_bytes()

    def lay_out(self) -> dict[int, int]:
        """Sizes and places everything, given the times of all tasks.

        Returns:
            The cores whose memory is too small, with the bytes they need.
        """
        self._note_readers()
        self._arrivals()
        self._choose_period()
        self._reserve_local()
        self._layout_local()
        size = self.scope.hardware.core.local_memory.size_bytes
        return {core: used for core, used in enumerate(self.cursor) if used > size}

    def _make_rings(self) -> None:
        """One ring for all readers of an operand on a core whose ranges of columns overlap."""
        wanted: dict[RingKey, list[tuple[int, int, int, int]]] = defaultdict(list)
        for number, cluster in enumerate(self.scope.clusters):
            stage = self.scope.flow.stages[cluster.stage]
            if stage.kind is Kind.GENERAL:
                continue
            for operand, source in enumerate(stage.inputs):
                x_start, x_stop = input_columns(stage, source.shape.width, cluster.x_start, cluster.x_stop)
                if source.is_broadcast or stage.kind is Kind.MEAN:
                    x_start, x_stop = 0, source.shape.width
                for core in cores_of(cluster):
                    key = (core, source.value, source.fill, *self.scope.channels_read(cluster, stage, operand, core))
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
        item, rows = self.scope.graph.types[value].itemsize_bytes, self.scope.flow.shapes[value].rows
        ring = Ring(core, value, fill_code, item, x_start, x_stop, c_start, c_stop, rows)
        self.rings.append(ring)
        return ring

    def _note_readers(self) -> None:
        """Tells all rings who reads them; those that the same clusters read, on the cores of a copy, share what they are told."""
        places: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for (number, operand, _), ring in self.ring_of.items():
            places[id(ring)].append((number, operand))
        known: dict[tuple[tuple[int, int], ...], Ring] = {}
        for ring in self.rings:
            key = tuple(places[id(ring)])
            if key in known:
                ring.share_notes(known[key])
                continue
            known[key] = ring
            for number, operand in key:
                self._note_reader(ring, number, operand)

    def _note_reader(self, ring: Ring, number: int, operand: int) -> None:
        """Tells a ring what a cluster reads of it, and when."""
        stage = self.scope.stage_at(number)
        for run in self._runs(number):
            first, last = self.scope.rows_read(stage, operand, run.task)
            if first <= last:
                ring.note_reader(first, last, number, run.last, run.start, run.end)

    def _runs(self, number: int) -> list[_Run]:
        """The tasks of a cluster row by row, worked out once."""
        if number not in self._runs_of:
            made: list[_Run] = []
            last = -1
            for _, group in itertools.groupby(self.work.tasks[number], key=_ROW):
                parts = list(group)
                last += len(parts)
                ends = [task.end for task in parts]
                made.append(_Run(parts[0], last, min([task.start for task in parts]), max(ends), min(ends)))
            self._runs_of[number] = made
        return self._runs_of[number]

    def check_least_bytes(self) -> None:
        """Finds at once, without timing anything, that tasks of single vectors with one buffer of each kind do not fit.

        Raises:
            CapacityError: they do not.
        """
        hardware = self.scope.hardware
        needed = self._least_bytes()
        core = max(range(len(needed)), key=needed.__getitem__)
        if needed[core] > hardware.core.local_memory.size_bytes:
            raise CapacityError(
                f"local memory of core {core} (bytes)", needed[core], hardware.core.local_memory.size_bytes, hardware.name,
                "use a machine with more local memory per core, or more cores",
            )  # fmt: skip

    def _least_bytes(self) -> list[int]:
        """Bytes that each core needs at least, however short its tasks are."""
        found = [0] * self.scope.hardware.total_cores
        for ring, slots in self._least_slots():
            # Either all readers share the rows of the longest window, or each has a window of its own.
            shared = max(rows for rows, _ in slots) * ring.pitch
            found[ring.core] += min(shared, sum(rows * columns for rows, columns in slots) * ring.vector_bytes)
        for number, cluster in enumerate(self.scope.clusters):
            stage, columns = self.scope.stage_at(number), cluster.c_stop - cluster.c_start
            if stage.kind is Kind.GENERAL:
                continue
            sums = columns * self.scope.sum_bytes[stage.node] if stage.kind in (Kind.MATRIX, Kind.MEAN) else 0
            found[cluster.core] += sums * (1 + len(cluster.peers)) + columns * self.scope.graph.types[stage.output].itemsize_bytes
            for core, _ in cluster.peers:
                found[core] += sums
        return found

    def _least_slots(self) -> Iterator[tuple[Ring, list[tuple[int, int]]]]:
        """Every ring with the rows and columns of a window of each of its readers."""
        slots: dict[int, tuple[Ring, list[tuple[int, int]]]] = {}
        for (number, operand, _), ring in self.ring_of.items():
            slots.setdefault(id(ring), (ring, []))[1].append(self._least_slot(number, operand))
        yield from slots.values()

    def _least_slot(self, number: int, operand: int) -> tuple[int, int]:
        """Rows and columns of an operand that one vector of a cluster reads, in the middle of its rows."""
        stage, source = self.scope.stage_at(number), self.scope.stage_at(number).inputs[operand].shape
        if stage.inputs[operand].is_broadcast:
            return source.rows, source.width
        if stage.kind is Kind.MEAN:
            return 1, source.width
        rows = self.scope.clusters[number].rows(stage.shape.rows)
        first, last = input_rows(stage, source.rows, source.images, rows[len(rows) // 2]) if rows else (0, -1)
        return max(0, last - first + 1), stage.window.reach(1)

    def ring(self, number: int, operand: int, core: int) -> Ring:
        """The ring that a cluster reads an operand from on one of its cores."""
        return self.ring_of[number, operand, core]

    def output(self, number: int, index: int) -> int:
        """Address of the result of a task."""
        return self.buffers[number][1][index % self.scope.buffers_of[number]]

    def _take(self, core: int, size: int, label: str, fill_code: int | None = None, dtype: str = "int8") -> int:
        address = self.cursor[core]
        self.cursor[core] += -(-size // 8) * 8
        self.blocks.append(Block(core, address, size, label, fill_code, dtype))
        return address

    def _reserve_local(self) -> None:
        """Decides what every core holds: buffers, then rings; where they do not fit, some rings become windowed."""
        for number in range(len(self.scope.clusters)):
            before = sum(self.cursor)
            self.buffers.append(self._take_buffers(number))
            self.buffer_bytes.append(sum(self.cursor) - before)
        size = self.scope.hardware.core.local_memory.size_bytes
        used = self._choose_depths()
        # What is loaded in windows arrives later, and other rings may then need more rows: look again.
        for _ in range(WINDOWINGS):
            changed = [self._window_rings(core, used[core] - size) for core in self.scope.windowed_cores if used[core] > size]
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
        gone: set[int] = set()
        new: list[Ring] = []
        for ring in sorted(mine, key=lambda r: -r.size_bytes):
            if excess <= 0:
                break
            made = self._windowed(ring, places[id(ring)])
            gain = ring.size_bytes - sum(self._window_bytes(one) for one in made)
            if gain <= 0:
                self._forget(made)
                continue
            excess -= gain
            gone.add(id(ring))
            new += made
            for one in made:
                ((number, operand),) = self.windows[id(one)]
                self.ring_of[number, operand, core] = one
            self.scope.in_memory |= {piece.source for piece in self.scope.flow.sources(ring.value)}
        self.rings = [ring for ring in self.rings if id(ring) not in gone] + new
        return bool(gone)

    def _forget(self, rings: Sequence[Ring]) -> None:
        """Drops what is known of windowed rings that are not taken: another ring may get the identity of one that is gone."""
        for ring in rings:
            self.windows.pop(id(ring), None)
            self.padding.pop(id(ring), None)

    def _window_bytes(self, ring: Ring) -> int:
        """Bytes of a windowed ring and of the vector that pads it, with what rounding up may add."""
        return ring.size_bytes + (ring.vector_bytes if id(ring) in self.padding else 0) + 16

    def _windowed(self, ring: Ring, places: Sequence[tuple[int, int]]) -> list[Ring]:
        """A windowed ring for each (cluster, operand) that reads a ring."""
        if any(self.scope.stage_at(number).inputs[operand].is_broadcast for number, operand in places):
            return [ring]
        made: list[Ring] = []
        core = ring.core
        for number, operand in places:
            stage, cluster = self.scope.stage_at(number), self.scope.clusters[number]
            channels = self.scope.channels_read(cluster, stage, operand, core)
            one = Ring(core, ring.value, ring.fill, ring.item_bytes, ring.x_start, ring.x_stop, *channels, ring.n_rows)
            one.is_windowed, one.depth, one.span = True, self.scope.buffers_of[number], 1
            self._note_reader(one, number, operand)
            parts = {(task.x_start, task.x_stop): task for task in self.work.tasks[number]}
            for task in parts.values():
                low, high = self.scope.columns_read(stage, operand, task)
                one.window_columns = max(one.window_columns, high - low)
                if low < 0 or high > stage.inputs[operand].shape.width:
                    self.padding[id(one)] = 0
            self.windows[id(one)] = [(number, operand)]
            made.append(one)
        return made

    def _layout_local(self) -> None:
        for ring in self.rings:
            dtype = self.scope.graph.types[ring.value].dtype
            ring.address = self._take(ring.core, ring.size_bytes, f"ring {ring.value}", ring.fill, dtype)
            if id(ring) in self.padding:
                self.padding[id(ring)] = self._take(ring.core, ring.vector_bytes, f"padding {ring.value}", ring.fill, dtype)

    def _choose_depths(self) -> list[int]:
        """The least depths that keep the order; then, row by row, what the memories still hold. Returns bytes used."""
        size = self.scope.hardware.core.local_memory.size_bytes
        used = list(self.cursor)
        least: list[tuple[Ring, int]] = []
        for ring in self.rings:
            if ring.is_windowed:
                used[ring.core] += self._window_bytes(ring)
                continue
            least.append((ring, ring.least_depth()))
            ring.choose_depth(0, least[-1][1])
            used[ring.core] += ring.size_bytes + 8
        for slack in range(1, self.scope.options.slack_rows + 1):
            for ring, depth in least:
                held, before = ring.depth, ring.size_bytes
                ring.choose_depth(slack, depth)
                if used[ring.core] + ring.size_bytes - before > size:
                    ring.set_depth(held)
                used[ring.core] += ring.size_bytes - before
        return used

    def _take_buffers(self, number: int) -> tuple[list[int], list[int], list[list[int]]]:
        cluster = self.scope.clusters[number]
        stage = self.scope.flow.stages[cluster.stage]
        if stage.kind is Kind.GENERAL:
            return [], [], []
        width = max((t.x_stop - t.x_start for t in self.work.tasks[number]), default=1)
        columns = cluster.c_stop - cluster.c_start
        name = self.scope.graph.nodes[stage.node].name
        sums = columns * width * self.scope.sum_bytes[stage.node]
        out_bytes = columns * width * self.scope.graph.types[stage.output].itemsize_bytes
        has_sums = stage.kind in (Kind.MATRIX, Kind.MEAN)
        own = [self._take(cluster.core, sums, f"sums {name}") for _ in range(self.scope.buffers_of[number] if has_sums else 0)]
        outs = [self._take(cluster.core, out_bytes, f"output {name}") for _ in range(self.scope.buffers_of[number])]
        remote = [[self._take(core, sums, f"sums {name}") for _ in range(self.scope.buffers_of[number])] for core, _ in cluster.peers]
        if cluster.peers:
            own += [self._take(cluster.core, sums, f"partial {name}") for _ in cluster.peers for _ in range(self.scope.buffers_of[number])]
        return own, outs, remote

    def _choose_period(self) -> None:
        """The least time between samples for which every buffer is free again when the next sample wants it.

        With it, instructions are ordered by `sample * period + key`: a core works on the first layers of one sample between
        the last layers of earlier ones (modulo scheduling), and all cores still follow one common order.
        """
        if self.scope.options.samples == 1 or not self.scope.options.has_periods:
            return
        least = 1.0
        for number, line in enumerate(self.work.tasks):
            if self.scope.stage_at(number).kind is Kind.MEAN:
                least = max(least, line[-1].end - line[0].start)
                continue
            for index in range(min(self.scope.buffers_of[number], len(line))):
                least = max(least, line[self.work.same_buffer(number, index)].end - line[index].start)
        least = max([least] + [ring.longest_life for ring in self.rings])
        self.period = max(least * self.scope.options.period_room, least + 1.0)
        for ring in self.rings:
            ring.period = self.period

    def _arrivals(self) -> None:
        """Place in the order at which each row of each ring first arrives; collects who feeds what."""
        self.readers_of = defaultdict(list)
        for ring in self.rings:
            if ring.is_windowed:
                continue
            for piece in self.scope.flow.sources(ring.value):
                low, high = max(piece.dst, ring.c_start), min(piece.dst + piece.n, ring.c_stop)
                if low >= high:
                    continue
                self.readers_of[piece.source].append((ring, piece))
                if self.scope.is_outside(piece.source):
                    for row in ring.needed():
                        ring.arrival[row] = min(ring.arrival[row], self.load_key(ring, row, piece.source))
        for value, ends in self._first_ends().items():
            for ring, _ in self.readers_of.get(value, ()):
                ring.arrival = list(map(min, ring.arrival, ends))

    def _first_ends(self) -> dict[str, list[float]]:
        """Per computed value and row, when the first part of the row is there."""
        found: dict[str, list[float]] = {}
        for number in range(len(self.work.tasks)):
            for run in self._runs(number):
                if run.task.makes is not None and run.task.makes[1] >= 0:
                    value, row = run.task.makes
                    ends = found.setdefault(value, [INFINITY] * self.scope.flow.shapes[value].rows)
                    ends[row] = min(ends[row], run.first_end)
        return found

    def load_key(self, ring: Ring, row: int, source: str) -> float:
        """Place in the order at which a row is loaded from global memory."""
        stage = self.scope.stage_of.get(source)
        known = 0.0
        if stage is not None:
            known = max(self.work.tasks[n][-1].end for n in self.scope.of_stage[stage.index])
        first = min(ring.first_use[row:]) if row + 1 < ring.n_rows else ring.first_use[row]
        return max(known, min(first, ring.first_use[row]) - self.scope.options.lead_cycles) + 1e-9 * row

    def _has_whole_rows(self, stage: int) -> bool:
        return all(self.scope.clusters[n].row_class[1] == 1 for n in self.scope.of_stage[stage])

    def bytes_by_layer(self) -> dict[int, float]:
        """Bytes of local memory per stage with weights, with what the stages need that followed it to its cores."""
        anchor: dict[str, int] = {}
        found: dict[int, float] = defaultdict(float)
        readers: Counter[int] = Counter(id(ring) for ring in self.ring_of.values())
        by_cluster: dict[int, float] = defaultdict(float)
        for (number, _, _), ring in self.ring_of.items():
            by_cluster[number] += ring.size_bytes / readers[id(ring)]
        for stage in self.scope.flow.stages:
            if stage.kind is Kind.MATRIX:
                anchor[stage.output] = stage.index
            elif stage.kind is not Kind.GENERAL:
                sources = [anchor[p.source] for p in self.scope.flow.sources(stage.inputs[0].value) if p.source in anchor]
                # Windows that were cut by columns have cores of their own.
                follows = not is_windowed(stage) or self.scope.clusters[self.scope.of_stage[stage.index][0]].row_class[1] > 1
                if not sources or not (follows or self._has_whole_rows(sources[0])):
                    continue
                anchor[stage.output] = sources[0]
            else:
                continue
            for number in self.scope.of_stage[stage.index]:
                found[anchor[stage.output]] += by_cluster[number] + self.buffer_bytes[number]
        return found
