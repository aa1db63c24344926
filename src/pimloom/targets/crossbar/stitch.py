"""Stitching: lowered segments become one program that rewrites arrays between them.

Every instruction has a place in one order: (segment, its place there, rank). Per core, what a segment does comes after what
the segment before did there: a `wait` row, the gate, ends when the core has done all of that, and what touches the local memory
waits for it. Writes come earlier: right behind a `wait` row that ends with the last product of the groups that they overwrite.
All that anything waits for has a smaller place, so decision 005's argument holds.

What a segment computes and another one needs goes through global memory; a row is loaded when it was stored.

Several samples pass a segment, as decision 008 says, before the next one is written: the program is that of a network with a
copy of each node per sample, and the instructions of sample s have the places `s * period + place`.

A schedule is more to wait for (decision 010): nothing (each group as soon as its arrays are free), all writing apart from all
computing, or computing of a segment together with the writing of the next.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, final

import numpy as np

from pimloom.errors import CapacityError
from pimloom.hardware import CrossbarHardware
from pimloom.ir.graph import Graph
from pimloom.program import OPCODES, Block, Groups, Matrix, Program, Region, ragged
from pimloom.program.rows import MASKED
from pimloom.targets.crossbar.emission import FIELDS, Emission
from pimloom.targets.crossbar.lower import Lowering, Rows
from pimloom.targets.crossbar.rings import Ring
from pimloom.targets.crossbar.side_by_side import of_sample, side_by_side
from pimloom.targets.crossbar.stages import Kind

_FIRST: Final = -math.inf  # before all that a segment computes
_LAST: Final = math.inf
ALIGNMENT_BYTES: Final = 64
LINE_BEATS: Final = 8  # of the global memory, from which a line of weights wastes little of the last
_OF_REGIONS: Final = (OPCODES["load"], OPCODES["store"])
_OPCODE, _NODE, _ARG, _PATTERN = (FIELDS.index(name) for name in ("opcode", "node", "arg", "pattern"))


class Schedule(enum.Enum):
    """What writes wait for, besides the last products of what they overwrite."""

    APART = "all write, then all compute"
    LOCK_STEP = "a segment computes while the next is written"
    FREE = "each group as soon as its arrays are free"


@final
@dataclass(frozen=True, slots=True)
class Placed:
    """A segment that was lowered on a part of the machine.

    Attributes:
        lowering: its plan.
        cores: the machine's number of each of the part's cores.
        is_tall: whether it has more groups than the part has arrays, which take turns on them.
    """

    lowering: Lowering
    cores: tuple[int, ...]
    is_tall: bool = False


@final
@dataclass(frozen=True, slots=True)
class _Group:
    """An array group of one segment.

    Attributes:
        core: on the whole machine.
        arrays: how many.
        node: that it works for.
        weight_bytes: of its part of the matrix.
        rows: of its part of the matrix.
    """

    core: int
    arrays: int
    node: int
    weight_bytes: int
    rows: int


@final
@dataclass(slots=True)
class _Stay:
    """One stay of a group in arrays, for some of its products.

    Attributes:
        group: number of the group.
        products: instructions that use it, in order.
        first_array: on its core.
        release: the `wait` row that ends with the last product; -1 where nothing is written over it.
        write: the row that writes it; -1 where it is in place from the start.
    """

    group: int
    products: list[int]
    first_array: int = 0
    release: int = -1
    write: int = -1


@final
@dataclass(slots=True)
class _Line:
    """What one core does of one segment: its instructions, and the wait for what it did before."""

    rows: list[int] = field(default_factory=list[int])
    gate: int = -1


@final
class Stitcher:
    """Makes one program of segments."""

    def __init__(
        self, graph: Graph, hardware: CrossbarHardware, segments: Sequence[Placed], schedule: Schedule, writers: int = 0,
        samples: int = 1,
    ) -> None:  # fmt: skip
        """Takes the segments in order.

        Args:
            graph: of one sample.
            hardware: the whole machine.
            segments: lowered, in topological order.
            schedule: what writes wait for.
            writers: groups that may be written at once; 0 for any number.
            samples: that pass a segment before the next is written; segments were planned for as many.
        """
        self.graph, self.hardware, self.segments, self.samples = graph, hardware, segments, samples
        self.schedule, self.writers = schedule, writers
        self.emitted = Emission()
        self._places: list[tuple[int, float, int]] = []  # (segment, place in it, rank) of every instruction
        self._groups: list[_Group] = []
        self._group_base: list[int] = []
        self._lines: list[defaultdict[int, _Line]] = []
        self._patterns: dict[tuple[tuple[int, int], ...], int] = {}
        self._stays: list[_Stay] = []
        self._writes: list[list[int]] = [[] for _ in segments]
        self._columns: list[tuple[int, ...]] = []
        self._matrices: dict[tuple[str, int], Matrix] = {}
        self._made: list[Rows] = []
        self._bases: list[list[int]] = []  # per segment and sample, the number of its first instruction
        self._sample_base = 0
        self._regions = self._lay_out_regions()
        # Per value, the numbers of its regions by sample.
        numbers = itertools.count()
        each = [1 if value in graph.constants else samples for value in self._regions]
        self._region_number = [[next(numbers) for _ in range(n)] * (samples // n) for n in each]

    def program(self, mode: str, notes: dict[str, Any]) -> Program:
        """The program.

        Raises:
            CapacityError: values and weights take more than the global memory.
        """
        index = {value: i for i, value in enumerate(self._regions)}
        for number, segment in enumerate(self.segments):
            rows = segment.lowering.emit_rows(index)
            lines = defaultdict[int, _Line](_Line)
            self._made.append(rows)
            self._bases.append([self._append(number, rows, lines, sample) for sample in range(self.samples)])
            self._lines.append(lines)
            self._add_groups(segment)
        self._bind_values()
        self._gate_cores()
        self._write_groups()
        self._apply_schedule()
        return self._assemble(mode, notes)

    # Instructions ------------------------------------------------------------------------------------------

    def _append(self, number: int, rows: Rows, lines: defaultdict[int, _Line], sample: int) -> int:
        """Takes over the instructions of a segment for one sample; returns the number of the first."""
        base, emitted, segment = len(self.emitted.deps), rows.emitted, self.segments[number]
        pattern = {i: self._patterns.setdefault(p, len(self._patterns)) for p, i in rows.compute.patterns.items()}
        ahead = sample * segment.lowering.memory.period if sample else 0.0
        groups = len(self._groups)
        if not sample:
            self._group_base.append(groups)
        for i, (core, key, fields) in enumerate(zip(emitted.cores, emitted.keys, emitted.instructions(), strict=True)):
            values, real = list(fields), segment.cores[core]
            if fields[_PATTERN] >= 0:
                values[_PATTERN] = pattern[fields[_PATTERN]]
            if fields[_NODE] >= 0:
                values[_NODE] = fields[_NODE] * self.samples + sample
            if fields[_OPCODE] == OPCODES["mvm"]:
                values[_ARG] += groups
            elif fields[_OPCODE] in _OF_REGIONS:
                values[_ARG] = self._region_number[fields[_ARG]][sample]
            self.emitted.cores.append(real)
            self.emitted.keys.append(0.0)
            self.emitted.fields += values
            self._places.append((number, ahead + key, 0))
            lines[real].rows.append(base + i)
        self.emitted.deps += [[base + d for d in deps] for deps in emitted.deps]
        self.emitted.partner.update({base + a: base + b for a, b in emitted.partner.items()})
        if sample:
            before = self._sample_base
            for row, deps in emitted.back.items():
                self.emitted.deps[base + row] += [before + d for d in deps]
        self._sample_base = base
        return base

    def _add(self, opcode: str, core: int, place: tuple[int, float, int], deps: list[int], node: int = -1, **fields: int) -> int:
        self._places.append(place)
        return self.emitted.add(core, 0.0, OPCODES[opcode], node, deps, **fields)

    def _wait(self, core: int, place: tuple[int, float, int], deps: list[int]) -> int:
        return self._add("wait", core, place, deps, length=1)

    # Values between segments -------------------------------------------------------------------------------

    def _lay_out_regions(self) -> dict[str, Region]:
        """A region for every value that any segment reads from or leaves in global memory."""
        scopes = [segment.lowering.scope for segment in self.segments]
        wanted = set[str]().union(*(scope.in_memory for scope in scopes))
        address, regions = [0] * self.hardware.chips, dict[str, Region]()
        for value in sorted(wanted, key={v: i for i, v in enumerate(self.graph.types)}.__getitem__):
            chip = 0
            for scope in scopes:
                stage = scope.stage_of.get(value)
                if stage is not None and scope.of_stage[stage.index]:
                    chip = scope.clusters[scope.of_stage[stage.index][0]].core // scope.hardware.chip.cores
            size = -(-self.graph.types[value].size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
            regions[value] = Region(value, address[chip], size, chip, scopes[0].flow.layouts[value])
            address[chip] += size * (1 if value in self.graph.constants else self.samples)
        self._global_bytes = address
        return regions

    def _all_regions(self) -> tuple[Region, ...]:
        """The regions of all samples: those of a value follow one another."""
        return tuple(
            replace(region, value=of_sample(region.value, s), address=region.address + s * region.size_bytes)
            for region in self._regions.values()
            for s in range(1 if region.value in self.graph.constants else self.samples)
        )

    def _bind_values(self) -> None:
        """What reads a value of another segment waits until it was stored."""
        maker = {v: i for i, segment in enumerate(self.segments) for v in segment.lowering.scope.stage_of}
        for rows, bases in zip(self._made, self._bases, strict=True):
            for row, value, at in rows.transfers.outside:
                if value not in maker:
                    continue
                stored = self._made[maker[value]].transfers.makers(value, at)
                for base, source in zip(bases, self._bases[maker[value]], strict=True):
                    self.emitted.deps[base + row] += [source + one for one in stored]

    # Array groups ------------------------------------------------------------------------------------------

    def _add_groups(self, segment: Placed) -> None:
        groups, matrices = segment.lowering.weights({})
        names: dict[str, int] = {}
        stages = [s for s in segment.lowering.scope.flow.stages if s.kind is Kind.MATRIX]
        node_of = {self.graph.nodes[s.node].inputs[1]: s.node for s in reversed(stages)}
        number: list[int] = []
        for matrix in matrices:
            block = names.setdefault(matrix.name, 0)
            names[matrix.name] += 1
            self._matrices.setdefault((matrix.name, block), matrix)
            number.append(list(self._matrices).index((matrix.name, block)))
        for g in range(len(groups)):
            matrix = matrices[groups.matrix[g]]
            rows, columns = int(groups.row_stop[g] - groups.row_start[g]), int(groups.column_stop[g] - groups.column_start[g])
            core = segment.cores[groups.processor[g]]
            size = rows * columns * self.graph.types[matrix.name].itemsize_bytes
            self._groups.append(_Group(core, int(groups.crossbars[g]), node_of[matrix.name], size, rows))
            self._columns.append((
                core, int(groups.crossbars[g]), number[groups.matrix[g]], int(groups.row_start[g]), int(groups.row_stop[g]),
                int(groups.column_start[g]), int(groups.column_stop[g]),
            ))  # fmt: skip

    def _products(self) -> dict[int, list[int]]:
        """The instructions that use each group, in order; those of tall segments get places of their own."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for row, fields in enumerate(self.emitted.instructions()):
            if fields[_OPCODE] == OPCODES["mvm"]:
                found[fields[_ARG]].append(row)
        for number, segment in enumerate(self.segments):
            if segment.is_tall:
                self._spread_places([row for g in self._members(number) for row in found[g]])
        return {g: sorted(rows, key=lambda row: (self._places[row], row)) for g, rows in found.items()}

    def _spread_places(self, products: Sequence[int]) -> None:
        """Leaves room before and behind each of some products for a `wait` row and a write."""
        at: defaultdict[tuple[int, float], int] = defaultdict(int)
        for row in sorted(products, key=lambda row: (self._places[row], row)):
            number, key, _ = self._places[row]
            core = self.emitted.cores[row]
            at[core, key] += 1
            self._places[row] = (number, key, 4 * at[core, key])

    def _members(self, number: int) -> list[int]:
        """Numbers of the groups of a segment."""
        stop = self._group_base[number + 1] if number + 1 < len(self.segments) else len(self._groups)
        return list(range(self._group_base[number], stop))

    def _write_groups(self) -> None:
        """Gives groups their arrays, and writes those that share arrays with others."""
        arrays = self.hardware.core.crossbars
        residents: defaultdict[int, list[_Stay | None]] = defaultdict(lambda: [None] * arrays)
        products = self._products()
        shared = self._rewritten_cores()
        for number in range(len(self.segments)):
            free: defaultdict[int, int] = defaultdict(int)
            for stay in self._stays_of(number, products):
                group = self._groups[stay.group]
                # Groups of a tall segment go round the arrays.
                stay.first_array = free[group.core] if free[group.core] + group.arrays <= arrays else 0
                free[group.core] = stay.first_array + group.arrays
                held = residents[group.core]
                span = slice(stay.first_array, free[group.core])
                if group.core in shared:
                    self._write(number, stay, list({id(h): h for h in held[span] if h is not None}.values()))
                held[span] = [stay] * group.arrays
                self._stays.append(stay)

    def _rewritten_cores(self) -> frozenset[int]:
        """Cores with groups of several segments, or of a tall one."""
        users: defaultdict[int, int] = defaultdict(int)
        for number, segment in enumerate(self.segments):
            for core in {self._groups[g].core for g in self._members(number)}:
                users[core] += 2 if segment.is_tall else 1
        return frozenset(core for core, count in users.items() if count > 1)

    def _stays_of(self, number: int, products: dict[int, list[int]]) -> list[_Stay]:
        """The stays of a segment's groups in the order of their first products: one each, or one per product if it is tall."""
        used = [(g, products.get(g, [])) for g in self._members(number)]
        if self.segments[number].is_tall:
            stays = [_Stay(g, [row]) for g, rows in used for row in rows]
        else:
            stays = [_Stay(g, rows) for g, rows in used]
        last = (number, _LAST, 0)
        return sorted(stays, key=lambda s: (self._places[s.products[0]], s.products[0]) if s.products else (last, s.group))

    def _write(self, number: int, stay: _Stay, lost: Sequence[_Stay]) -> None:
        """Writes a group over others, when they are no longer needed; its products wait for that."""
        group = self._groups[stay.group]
        place = (0, _FIRST, -2)
        releases = [row for row in map(self._release, lost) if row >= 0]
        if releases:
            segment, at, rank = max(self._places[row] for row in releases)
            place = (segment, at, rank + 1)
        stay.write = self._add(
            "write_weights", group.core, place, releases, group.node * self.samples, length=group.weight_bytes, count=self._lines_of(group),
            arg=stay.group, dst_step=stay.first_array,
        )  # fmt: skip
        self._writes[number].append(stay.write)
        for product in stay.products:
            self.emitted.deps[product].append(stay.write)

    def _lines_of(self, group: _Group) -> int:
        """Lines that a group is written in: whole rows, as evenly as they go, each worth some beats of the global memory."""
        most = max(1, group.weight_bytes // (LINE_BEATS * self.hardware.global_memory.width_bytes))
        return next(lines for lines in range(min(most, group.rows), 0, -1) if group.rows % lines == 0)

    def _release(self, stay: _Stay) -> int:
        """The row that ends with the last product of a stay."""
        if not stay.products:
            return stay.write  # a copy that nothing uses
        if stay.release < 0:
            segment, at, rank = self._places[stay.products[-1]]
            stay.release = self._wait(self._groups[stay.group].core, (segment, at, rank + 1), list(stay.products))
        return stay.release

    # Cores between segments --------------------------------------------------------------------------------

    def _gate_cores(self) -> None:
        """What a core does in a segment touches its memory only after all that it did in the segments before."""
        latest: dict[int, int] = {}
        shared = self.shared_cores()
        for number, lines in enumerate(self._lines):
            for core, line in lines.items():
                if core in latest:
                    line.gate = self._wait(core, (number, _FIRST, 0), self._ends(self._lines[latest[core]][core]))
                latest[core] = number
            padding = self._refill(number, shared)
            for core, line in lines.items():
                before = padding.get(core) or ([line.gate] if line.gate >= 0 else [])
                if before:
                    own = set(line.rows)
                    for row in line.rows:
                        if own.isdisjoint(self.emitted.deps[row]):
                            self.emitted.deps[row] += before

    def shared_cores(self) -> frozenset[int]:
        """Cores that work for several segments."""
        seen: set[int] = set()
        twice: set[int] = set()
        for lines in self._lines:
            twice |= seen & lines.keys()
            seen |= lines.keys()
        return frozenset(twice)

    def _ends(self, line: _Line) -> list[int]:
        """Instructions of a core that no other of them waits for: when these are done, all are."""
        own = set(line.rows)
        waited = {d for row in line.rows for d in self.emitted.deps[row] if d in own}
        return [row for row in line.rows if row not in waited]

    def _refill(self, number: int, shared: frozenset[int]) -> dict[int, list[int]]:
        """Writes the codes that stand for padding into rings of cores whose memory others used before."""
        segment, made = self.segments[number], defaultdict[int, list[int]](list)
        memory, scope = segment.lowering.memory, segment.lowering.scope
        readers = ((scope.stage_at(n), ring) for (n, _, _), ring in memory.ring_of.items())
        node_of = {id(ring): stage.node for stage, ring in readers if stage.kind in (Kind.MATRIX, Kind.STENCIL, Kind.POOL)}
        for ring in memory.rings:
            core = segment.cores[ring.core]
            if core not in shared or id(ring) not in node_of:
                continue
            gate = self._lines[number][core].gate
            for address, size, count, step in _padding(ring, scope.flow.shapes[ring.value].width, memory.padding.get(id(ring))):
                pattern = self._patterns.setdefault(((MASKED, size),), len(self._patterns))
                made[core].append(self._add(
                    "gather", core, (number, _FIRST, 1), [gate] if gate >= 0 else [], node_of[id(ring)] * self.samples,
                    dst=address, dst_step=step,
                    length=size, count=count, pattern=pattern,
                ))  # fmt: skip
        return made

    # Schedules ---------------------------------------------------------------------------------------------

    def _apply_schedule(self) -> None:
        if self.schedule is not Schedule.FREE:
            self._step()
        if self.writers:
            rank = sorted((self._places[row], row) for writes in self._writes for row in writes)
            for (_, row), (_, before) in zip(rank[self.writers :], rank, strict=False):
                self.emitted.deps[row].append(before)

    def _step(self) -> None:
        """Barriers: a segment begins when it is written and the one before is done; then, or before that, the next is written."""
        apart = self.schedule is Schedule.APART
        done = -1  # the end of the segment before
        step = -1  # the start of the segment before
        for number, writes in enumerate(self._writes):
            begin = done if apart else step
            home = min(self._lines[number])
            # What a tall segment writes while it computes waits for its own arrays only.
            before = [row for row in writes if self._places[row] < (number, _FIRST, -1)]
            for row in before:
                if begin >= 0:
                    self.emitted.deps[row].append(begin)
                    self._places[row] = max(self._places[row], (*self._places[begin][:2], self._places[begin][2] + 1))
            step = self._wait(home, (number, _FIRST, -1), [*before, *([done] if done >= 0 else [])])
            for line in self._lines[number].values():
                own = set(line.rows)
                for row in line.rows:
                    if own.isdisjoint(self.emitted.deps[row]):
                        self.emitted.deps[row].append(step)
            ends = [row for line in self._lines[number].values() for row in self._ends(line)]
            done = self._wait(home, (number, _LAST, 0), ends)

    # The program -------------------------------------------------------------------------------------------

    def _assemble(self, mode: str, notes: dict[str, Any]) -> Program:
        self.emitted.keys = self._ranks()
        table = self.emitted.table(self.hardware.total_cores, math.inf)
        patterns = list(self._patterns)
        pattern_ptr, pattern_offset = ragged([[offset for offset, _ in one] for one in patterns])
        columns = np.array(self._columns, np.int32).reshape(-1, 7).T
        self._check_global_memory()
        return Program(
            name=self.graph.name, target="crossbar", mode=mode, samples=1, hardware=self.hardware, rows=table.rows,
            graph=side_by_side(self.graph, self.samples),
            stream_ptr=table.stream_ptr, partner=table.partner, dep_ptr=table.dep_ptr, dep_row=table.dep_row,
            dep_distance=table.dep_distance, pattern_ptr=pattern_ptr, pattern_offset=pattern_offset,
            pattern_length=ragged([[size for _, size in one] for one in patterns])[1],
            groups=Groups(*(np.ascontiguousarray(c) for c in columns)), matrices=tuple(self._matrices.values()),
            regions=self._all_regions(), blocks=self._blocks(), notes={**notes, "rewriting": self.figures()},
        )  # fmt: skip

    def _ranks(self) -> list[float]:
        """The place of every instruction as one number; the two ends of a message have the same."""
        rank: dict[tuple[int, float, int], float] = {place: float(i) for i, place in enumerate(sorted(set(self._places)))}
        return [rank[place] for place in self._places]

    def _blocks(self) -> tuple[Block, ...]:
        """Memory maps: of cores that work for several segments, one block as large as the largest of them."""
        shared, blocks, reach = self.shared_cores(), list[Block](), defaultdict[int, int](int)
        for segment in self.segments:
            for block in segment.lowering.memory.blocks:
                core = segment.cores[block.processor]
                if core in shared:
                    reach[core] = max(reach[core], block.address + block.size_bytes)
                else:
                    blocks.append(Block(core, block.address, block.size_bytes, block.label, block.fill, block.dtype))
        return (*blocks, *(Block(core, 0, size, "segments in turn") for core, size in sorted(reach.items())))

    def _check_global_memory(self) -> None:
        """Weights that are written lie in the global memory of their chip, beside the values."""
        used = list(self._global_bytes)
        for g in {stay.group for stay in self._stays if stay.write >= 0}:
            used[self._groups[g].core // self.hardware.chip.cores] += self._groups[g].weight_bytes
        for chip, size in enumerate(used):
            if size > self.hardware.global_memory.size_bytes:
                raise CapacityError(
                    f"global memory of chip {chip} (bytes, values and weights)", size, self.hardware.global_memory.size_bytes,
                    self.hardware.name, "use a machine with more global memory, or fewer weight bits",
                )  # fmt: skip

    def figures(self) -> dict[str, Any]:
        """What rewriting amounts to per run, which is all samples."""
        rewriting = self.hardware.crossbar.rewriting
        assert rewriting is not None
        per_array = np.zeros((self.hardware.total_cores, self.hardware.core.crossbars), np.int64)
        written, stays = [s for s in self._stays if s.write >= 0], [s for s in self._stays if s.write < 0]
        for stay in written:
            group = self._groups[stay.group]
            per_array[group.core, stay.first_array : stay.first_array + group.arrays] += 1
        most = int(per_array.max(initial=0))
        return {
            "samples": self.samples,
            "segments": len(self.segments),
            "writes": len(written),
            "written_bytes": sum(self._groups[stay.group].weight_bytes for stay in written),
            "resident_bytes": sum(self._groups[stay.group].weight_bytes for stay in stays),
            "writes_per_array_max": most,
            "writes_per_array_mean": float(per_array.mean()),
            "endurance_writes": rewriting.endurance_writes,
            "inferences_until_worn": rewriting.endurance_writes * self.samples // most if most else None,
        }


def _padding(ring: Ring, width: int, vector: int | None) -> Iterator[tuple[int, int, int, int]]:
    """Bytes of a ring that hold padding, or the vector that pads a windowed one: (address, bytes, how often, step in bytes)."""
    if ring.is_windowed:
        if vector is not None:
            yield vector, ring.vector_bytes, 1, 0
        return
    if ring.x_start < 0:
        yield ring.address, -ring.x_start * ring.vector_bytes, ring.depth, ring.pitch
    if ring.x_stop > width:
        yield ring.address + (width - ring.x_start) * ring.vector_bytes, (ring.x_stop - width) * ring.vector_bytes, ring.depth, ring.pitch


__all__ = ["Placed", "Schedule", "Stitcher"]
