"""Segments: where a network is cut that a machine cannot hold at once, and which cores hold which segment.

The cores of a machine are divided into parts; segments are consecutive stages and take the parts in turn. A segment has its
part's arrays to itself until a later one is written into them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, final

from pimloom.hardware import CrossbarHardware
from pimloom.ir.graph import Graph
from pimloom.mapping.replicate import PLAIN, Demand, balance, bottleneck
from pimloom.targets.crossbar.layer_cuts import cut_layers
from pimloom.targets.crossbar.mapper import demands
from pimloom.targets.crossbar.scope import leaves
from pimloom.targets.crossbar.stages import Dataflow, Kind
from pimloom.targets.crossbar.unfold import Unfolded, unfold

PACKED: Final = 0.9  # of the arrays of a part, which whole columns of weights can be expected to fill


@final
@dataclass(frozen=True, slots=True)
class Part:
    """Some cores of every chip, as a machine of its own.

    Attributes:
        machine: with these cores only.
        cores: their numbers on the whole machine, in the order of the part's own.
    """

    machine: CrossbarHardware
    cores: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive stages.

    Attributes:
        first: position of the first stage.
        stop: one past the last.
        part: number of the part that holds it.
    """

    first: int
    stop: int
    part: int


def parts_of(hardware: CrossbarHardware, count: int) -> tuple[Part, ...]:
    """Divides the cores of every chip into parts, as evenly as they go.

    Args:
        hardware: the machine.
        count: parts, at most the cores of a chip.
    """
    cores = hardware.chip.cores
    edges = [cores * i // count for i in range(count + 1)]
    return tuple(
        Part(
            replace(hardware, chip=replace(hardware.chip, cores=stop - start)),
            tuple(chip * cores + core for chip in range(hardware.chips) for core in range(start, stop)),
        )
        for start, stop in itertools.pairwise(edges)
    )


def with_fitting_layers(graph: Graph, flow: Dataflow, hardware: CrossbarHardware, crossbars: int) -> Graph:
    """The graph with layers cut into pieces of at most so many crossbars, as far as their columns allow that.

    A column of weights is never cut here, and layers of several groups are not; where these are larger, their arrays take turns.
    """
    cuts: dict[int, tuple[int, ...]] = {}
    for stage in flow.stages:
        if stage.kind is not Kind.MATRIX:
            continue
        unfolded = unfold(stage, graph, hardware)
        if unfolded.crossbars > crossbars and len(unfolded.blocks) == 1 and unfolded.blocks[0].n_tiles > 1:
            cuts[stage.node] = _cuts(unfolded, crossbars)
    return cut_layers(graph, cuts)


def _cuts(unfolded: Unfolded, crossbars: int) -> tuple[int, ...]:
    """Where to cut a layer, at whole columns of crossbars and as evenly as they go."""
    block = unfolded.blocks[0]
    count = math.ceil(block.n_tiles / max(crossbars // len(block.bands), 1))
    tiles = [block.n_tiles * i // count for i in range(count + 1)]
    return tuple(min(tile * unfolded.columns_per_tile, block.out_channels) for tile in tiles)


def restricted(flow: Dataflow, segment: Segment) -> Dataflow:
    """The stages of a segment as a network of their own; all else is as in the whole."""
    stages = tuple(replace(stage, index=i) for i, stage in enumerate(flow.stages[segment.first : segment.stop]))
    return replace(flow, stages=stages)


def crossing(flow: Dataflow, segment: Segment) -> frozenset[str]:
    """Values that a segment makes and another one reads."""
    made = {v for s in flow.stages[segment.first : segment.stop] for v in flow.graph.nodes[s.node].outputs if v}
    others = (*flow.stages[: segment.first], *flow.stages[segment.stop :])
    read = {piece.source for s in others for operand in s.inputs for piece in flow.sources(operand.value)}
    read |= {leaf for s in others if s.kind is Kind.GENERAL for operand in s.inputs for leaf in leaves(flow, operand.value)}
    return frozenset(made & read)


@final
@dataclass(slots=True)
class Cutter:
    """Chooses where to cut a network, by cost.

    A segment costs the time of its slowest layer, with as many copies as its part holds, and the time to write them all, less
    what of the shorter of the two is hidden behind the longer; and the transfer of what crosses its end. The first segments may
    stay: each has a part to itself and is not written.

    Attributes:
        flow: the network.
        hardware: the machine.
        parts: its parts.
        fill: share of a part's arrays for copies.
        overlap: share of the shorter of writing and computing that is hidden behind the other.
        stay: segments that stay; fewer than the parts.
        samples: that pass a segment before the next is written.
    """

    flow: Dataflow
    hardware: CrossbarHardware
    parts: tuple[Part, ...]
    fill: float
    overlap: float
    stay: int = 0
    samples: int = 1
    unfolded: dict[int, Unfolded] = field(default_factory=dict[int, Unfolded])
    _known: dict[tuple[int, int], tuple[float, float, float]] = field(default_factory=dict[tuple[int, int], tuple[float, float, float]])

    def __post_init__(self) -> None:
        """Unfolds all layers."""
        self.unfolded = {s.index: unfold(s, self.flow.graph, self.hardware) for s in self.flow.stages if s.kind is Kind.MATRIX}

    @property
    def capacity(self) -> int:
        """Arrays of the smallest part that a segment may want for one copy of each layer."""
        return max(1, int(PACKED * min(part.machine.total_crossbars for part in self.parts)))

    def cut(self, capacity: int) -> tuple[Segment, ...]:
        """The cheapest way to cut into segments of at most so many crossbars, or of one layer."""
        ends = self._possible_cuts()
        # By end, and by how many segments there are that stay: (cost, end before, how many stayed before).
        best: list[list[tuple[float, int, int]]] = [[(0.0, 0, 0)] + [(math.inf, 0, 0)] * self.stay]
        for j in range(1, len(ends)):
            options: list[list[tuple[float, int, int]]] = [[(math.inf, 0, 0)] for _ in range(self.stay + 1)]
            for i in range(j - 1, -1, -1):
                if i < j - 1 and self._needed(ends[i], ends[j]) > capacity:
                    break
                for k in range(self.stay + 1):
                    cost = best[i][k][0] + self._cost(ends[i], ends[j], stays=k < self.stay)
                    options[min(k + 1, self.stay)].append((cost, i, k))
            best.append([min(line) for line in options])
        j, k = len(ends) - 1, min(range(self.stay + 1), key=lambda k: best[-1][k][0])
        cuts = [j]
        while j:
            _, j, k = best[j][k]
            cuts.append(j)
        edges = [ends[c] for c in reversed(cuts)]
        return tuple(Segment(a, b, self._part(n)) for n, (a, b) in enumerate(itertools.pairwise(edges)))

    def _part(self, number: int) -> int:
        """The part of a segment: one of its own for those that stay, the others in turn."""
        return number if number < self.stay else self.stay + (number - self.stay) % (len(self.parts) - self.stay)

    def predicted(self, segments: Sequence[Segment]) -> float:
        """Cycles of all segments, one after the other."""
        return sum(self._cost(s.first, s.stop, stays=n < self.stay) for n, s in enumerate(segments))

    def layers(self, segment: Segment) -> int:
        """Layers with weights."""
        return sum(stage.kind is Kind.MATRIX for stage in self.flow.stages[segment.first : segment.stop])

    def machines_for(self, segment: Segment) -> list[tuple[CrossbarHardware, bool]]:
        """Machines to map a segment to, in turn, each with whether that makes it tall: its groups take turns on the arrays.

        Only a single layer may be tall. It is mapped as if every core of its part had arrays enough.
        """
        machine, needed = self.parts[segment.part].machine, self._needed(segment.first, segment.stop)
        found = [(machine, False)] if needed <= machine.total_crossbars else []
        if self.layers(segment) == 1:
            room = math.ceil(needed / machine.total_cores / PACKED)
            found += [(replace(machine, core=replace(machine.core, crossbars=n)), True) for n in (room, needed)]
        return found

    def _possible_cuts(self) -> list[int]:
        """Positions before layers with weights: what follows a layer stays with it."""
        layers = [s.index for s in self.flow.stages if s.kind is Kind.MATRIX]
        return [0, *layers[1:], len(self.flow.stages)]

    def _demands(self, first: int, stop: int) -> list[Demand]:
        stages = [s for s in self.flow.stages[first:stop] if s.kind is Kind.MATRIX]
        part = replace(self.flow, stages=tuple(stages))
        by_index = {s.index: s for s in stages}
        numbered = replace(part, stages=tuple(replace(s, index=i) for i, s in enumerate(by_index.values())))
        unfolded = {i: self.unfolded[s.index] for i, s in enumerate(by_index.values())}
        return list(demands(numbered, self.hardware, unfolded, dict.fromkeys(unfolded, PLAIN)).values())

    def _needed(self, first: int, stop: int) -> int:
        """Crossbars of one copy of each layer; layers that share a weight share its copies."""
        by_weight: dict[str, int] = {}
        for stage in self.flow.stages[first:stop]:
            if stage.kind is Kind.MATRIX:
                by_weight.setdefault(self.flow.graph.nodes[stage.node].inputs[1], self.unfolded[stage.index].crossbars)
        return sum(by_weight.values())

    def _cost(self, first: int, stop: int, *, stays: bool) -> float:
        if (first, stop) not in self._known:
            self._known[first, stop] = self._times(first, stop)
        computing, writing, crossing_cycles = self._known[first, stop]
        if stays:
            return computing + crossing_cycles
        return computing + writing - self.overlap * min(computing, writing) + crossing_cycles

    def _times(self, first: int, stop: int) -> tuple[float, float, float]:
        """Cycles to compute a segment, to write it, and to move what crosses its end."""
        wanted, machine = self._demands(first, stop), self.parts[0].machine
        if not wanted:
            return 0.0, 0.0, self._crossing_cycles(first, stop)
        room = max(sum(d.size for d in wanted), int(machine.total_crossbars * self.fill))
        copies = balance(wanted, room)
        writing = self._write_cycles(sum(d.size * n for d, n in zip(wanted, copies, strict=True)))
        return self.samples * bottleneck(wanted, copies), writing, self._crossing_cycles(first, stop)

    def _write_cycles(self, arrays: int) -> float:
        """Cycles that the global memory, or programming, takes for so many arrays."""
        machine, memory = self.parts[0].machine, self.hardware.global_memory
        bits = machine.precision.weight_bits
        size = arrays * machine.crossbar.rows * machine.crossbar.logical_cols(bits) * bits / 8
        per_core = -(-arrays // machine.total_cores)
        return max(size / (memory.read_bytes_per_cycle * machine.chips), machine.crossbar.rows * machine.row_write_cycles(per_core))

    def _crossing_cycles(self, first: int, stop: int) -> float:
        """Cycles that the global memory takes to store what crosses the end of a segment and to load it again."""
        memory, types = self.hardware.global_memory, self.flow.graph.types
        size = sum(types[v].size_bytes for v in crossing(self.flow, Segment(first, stop, 0)))
        return self.samples * (size / memory.write_bytes_per_cycle + size / memory.read_bytes_per_cycle)


def describe(flow: Dataflow, segments: Sequence[Segment]) -> list[dict[str, object]]:
    """Segments by the names of their first and last layer, for reports."""
    nodes = flow.graph.nodes
    return [
        {"first": nodes[flow.stages[s.first].node].name, "last": nodes[flow.stages[s.stop - 1].node].name, "part": s.part} for s in segments
    ]


__all__ = ["Cutter", "Part", "Segment", "crossing", "describe", "parts_of", "restricted", "with_fitting_layers"]
