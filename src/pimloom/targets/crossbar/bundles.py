"""Bundles: what neighbouring copies of a layer ask of the core that they share, and cores that balance it.

A core has four things to give: arrays, local memory, and the bandwidth of its port in each direction. Copies that take
neighbouring parts of a row share most of their input, so they travel as a bundle; a layer is cut into as many bundles as keep each
of them well below what a core can give.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import final

import numpy as np

from pimloom.hardware import CrossbarHardware
from pimloom.mapping.replicate import Split, grid
from pimloom.program.widths import sum_bytes
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage
from pimloom.targets.crossbar.unfold import Unfolded

MOST_SHARE = 0.5  # of a core's port or memory that one bundle may ask for, where there are copies enough to cut it
PORT_SHARE = 0.8  # of the time of a sample that a local memory's port should be busy
WINDOW_SHARE = 0.5  # of an issue window for MVMs that are under way; the rest is for what waits
SHARED_COLUMNS = 2.0  # columns of a window's reach beyond its stride, times this: the least that a part of a row should take
WINDOW_WORK = 0.15  # of the time of a sample that windows of one stage should take of a core
LEAST_SLICE = 2  # of a depthwise stage's channels, in what fills the vector unit and a beat of the local memory
SKIP_ROWS = 8.0  # rows that the second operand of an element-wise stage waits for (assumed; placing again corrects it)
SLACK_ROWS = 2.0  # rows that a ring holds beyond the least


@final
@dataclass(frozen=True, slots=True)
class Wish:
    """What something asks of a core.

    Attributes:
        crossbars: arrays.
        memory_bytes: local memory.
        in_bytes: received per sample.
        out_bytes: sent per sample.
        port_cycles: time at the port of the local memory per sample.
        places: array groups, each of which wants a place in the issue window.
    """

    crossbars: float = 0.0
    memory_bytes: float = 0.0
    in_bytes: float = 0.0
    out_bytes: float = 0.0
    port_cycles: float = 0.0
    places: float = 0.0

    def plus(self, other: Wish) -> Wish:
        """Both together."""
        return Wish(
            self.crossbars + other.crossbars, self.memory_bytes + other.memory_bytes, self.in_bytes + other.in_bytes,
            self.out_bytes + other.out_bytes, self.port_cycles + other.port_cycles, self.places + other.places,
        )  # fmt: skip

    def part(self, share: float) -> Wish:
        """A share of it."""
        return Wish(
            self.crossbars * share, self.memory_bytes * share, self.in_bytes * share, self.out_bytes * share,
            self.port_cycles * share, self.places * share,
        )  # fmt: skip

    def strain(self, most: Wish) -> float:
        """The largest share of anything that a core has to give."""
        return max(
            self.crossbars / most.crossbars, self.memory_bytes / most.memory_bytes, self.in_bytes / most.in_bytes,
            self.out_bytes / most.out_bytes, self.port_cycles / most.port_cycles, self.places / most.places,
        )  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class Bundle:
    """Neighbouring copies of one shard of a layer.

    Attributes:
        stage: index of the (first) stage with the weights.
        shard: index of the shard.
        first: number of the first copy in the order of the grid.
        count: copies.
        wish: what they ask for together.
    """

    stage: int
    shard: int
    first: int
    count: int
    wish: Wish


def capacity_of(hardware: CrossbarHardware, period_cycles: float) -> Wish:
    """What a core can give in the time of one sample."""
    port = hardware.noc.flit_bytes / hardware.noc.flit_cycles * period_cycles
    core = hardware.core
    places = WINDOW_SHARE * core.issue.window
    return Wish(float(core.crossbars), float(core.local_memory.size_bytes), port, port, PORT_SHARE * period_cycles, places)


def is_windowed(stage: Stage) -> bool:
    """Whether a stage takes windows over several rows on the vector unit."""
    return stage.kind in (Kind.POOL, Kind.STENCIL) and stage.window.reach(0) > 1


@final
class Estimator:
    """Estimates what bundles ask for, from shapes alone."""

    def __init__(self, flow: Dataflow, hardware: CrossbarHardware, unfolded: Mapping[int, Unfolded]) -> None:
        """Collects which stages follow which to their cores; `unfolded` is by stage with weights."""
        self._flow, self._hardware, self._unfolded = flow, hardware, unfolded
        self._followers: dict[str, list[Stage]] = {}
        for stage in flow.stages:
            if stage.kind in (Kind.VECTOR, Kind.POOL, Kind.STENCIL) and not stage.whole_vectors:
                for piece in flow.sources(stage.inputs[0].value):
                    self._followers.setdefault(piece.source, []).append(stage)

    def wish(
        self, stage: Stage, shape: tuple[int, int], split: Split, channels: int, crossbars: int, count: int, reads: int = 0
    ) -> Wish:  # fmt: skip
        """What `count` copies of one shard ask for.

        Args:
            stage: the layer.
            shape: classes of rows and parts of a row of all copies.
            split: how the grid is ordered.
            channels: outputs of the shard.
            crossbars: arrays of one copy of the shard.
            count: copies of the bundle.
            reads: input channels that a core holds; all if 0.
        """
        ry, rx = shape
        classes = min(ry, split.free_classes, count)
        part = min(1.0, math.ceil(count / classes) / rx)
        window, out, source = stage.window, stage.shape, stage.inputs[0]
        item = self._flow.graph.types[source.value].itemsize_bytes
        columns = min(float(source.shape.width), part * out.width * window.stride[1] + window.reach(1) - window.stride[1])
        rows = source.shape.rows * min(1.0, window.reach(0) * classes / (ry * window.stride[0]))
        held = min(float(source.shape.rows), window.reach(0) + window.stride[0] * (classes + SLACK_ROWS))
        vector = (reads or source.shape.channels) * item
        made = out.rows * classes / ry * part * out.width * channels * item
        width = part * out.width
        buffers = 2.0 * classes * min(width * channels * (8.0 + item), 0.1 * self._hardware.core.local_memory.size_bytes)
        incoming = rows * columns * vector
        port = out.rows * classes / ry * width * self._window_cycles(stage, channels)
        port += (incoming + made) / self._hardware.core.local_memory.width_bytes
        places = float(count * self._bands(stage, channels))
        wish = Wish(float(crossbars * count), held * columns * vector + buffers, incoming, made, port, places)
        for follower in self._followers.get(stage.output, ()):
            if ry > 1 and is_windowed(follower):
                continue  # these find cores of their own
            wish = wish.plus(self._following(follower, part, classes / ry, channels))
        return wish

    def window_wish(self, stage: Stage, classes: int, width: int, channels: int) -> Wish:
        """What a part of the rows of a stage with windows on the vector unit asks for.

        Args:
            stage: the stage.
            classes: of rows that arrive at the same time.
            width: vectors of the part.
            channels: of the part.
        """
        window, source = stage.window, stage.inputs[0].shape
        item = self._flow.graph.types[stage.output].itemsize_bytes
        row = min(source.width, width * window.stride[1] + window.reach(1) - window.stride[1]) * channels * item
        made = width * channels * item
        incoming, outgoing = float(row * source.rows), float(made * stage.shape.rows)
        held = min(source.rows, window.reach(0) + window.stride[0] + classes)
        port = (incoming + outgoing) / self._hardware.core.local_memory.width_bytes
        port += stage.shape.rows * width * self._window_work(stage, channels)
        return Wish(0.0, held * row + 2.0 * made, incoming, outgoing, port)

    def parts(self, stage: Stage, channels: int, period_cycles: float) -> int:
        """Parts of the rows of such a stage: neighbours share at most half of what they hold, unless there is much to compute."""
        window, width = stage.window, stage.shape.width
        least = max(1.0, SHARED_COLUMNS * (window.reach(1) - window.stride[1]) / window.stride[1])
        work = stage.shape.rows * width * self._window_work(stage, channels)
        return max(1, min(width, math.ceil(max(width / least, work / (WINDOW_WORK * period_cycles) if period_cycles else 1.0))))

    def slices(self, stage: Stage, channels: int, parts: int) -> int:
        """Slices of the channels in which so many parts of a depthwise stage are cut, and each then into columns.

        A slice has no margin that several parts receive, as columns have; narrow ones are many short messages and idle lanes.
        """
        if stage.kind is not Kind.STENCIL:
            return 1
        core, item = self._hardware.core, self._flow.graph.types[stage.output].itemsize_bytes
        narrow = max(core.vector_unit.lanes, -(-core.local_memory.width_bytes // item))
        return max(1, min(parts, channels // (LEAST_SLICE * narrow)))

    def _window_work(self, stage: Stage, channels: int) -> float:
        """Cycles that one window takes of a core: of its vector unit or the port of its local memory, whichever is more."""
        core, taps = self._hardware.core, math.prod(stage.window.kernel)
        item = self._flow.graph.types[stage.output].itemsize_bytes
        beats = -(-channels * item // core.local_memory.width_bytes)
        read = beats * taps * (2 if stage.kind is Kind.STENCIL else 1) * core.local_memory.read_beat_cycles
        return max(-(-channels // core.vector_unit.lanes) * taps * core.vector_unit.beat_cycles, read)

    def _bands(self, stage: Stage, channels: int) -> int:
        """Array groups of one copy of a shard with `channels` outputs."""
        blocks = self._unfolded[stage.index].blocks
        bands = [len(block.bands) for block in blocks]
        # The blocks of a grouped layer have channels of their own; one block's bands serve all channels of a shard.
        return max(bands) if len(bands) == 1 else max(1, sum(bands) * channels // max(stage.shape.channels, 1))

    def _window_cycles(self, stage: Stage, channels: int) -> float:
        """Cycles of a local memory's port for one window: gathering, sums of every group, the first sums and the result."""
        memory, costs = self._hardware.core.local_memory, self._unfolded[stage.index].costs
        sums = -(-channels * sum_bytes(self._flow.graph, self._flow.graph.nodes[stage.node]) // memory.width_bytes)
        groups = self._bands(stage, channels)
        share = channels / max(stage.shape.channels, 1) if len(self._unfolded[stage.index].blocks) > 1 else 1.0
        read, write = memory.read_beat_cycles, memory.write_beat_cycles
        return costs.gather_beats * share * read + groups * sums * (read + write) + sums * (read + write)

    def _following(self, stage: Stage, part: float, rows: float, channels: int) -> Wish:
        """What a stage asks for that follows a bundle to its core."""
        memory = incoming = 0.0
        for place, operand in enumerate(stage.inputs):
            item = self._flow.graph.types[operand.value].itemsize_bytes
            row = part * operand.shape.width * min(channels, operand.shape.channels) * item
            memory += row * (stage.window.reach(0) + SLACK_ROWS if place == 0 else SKIP_ROWS)
            incoming += row * operand.shape.rows * rows if place else 0.0
        return Wish(0.0, memory, incoming)


def cut(
    estimator: Estimator, stage: Stage, shard: int, copies: int, split: Split, channels: int, crossbars: int, most: Wish
) -> list[Bundle]:  # fmt: skip
    """The copies of a shard in as few bundles as ask a core for at most `MOST_SHARE` of anything."""
    shape = grid(stage.shape.rows, stage.shape.width, copies, split)
    classes = min(shape[0], split.free_classes)

    def wish(count: int) -> Wish:
        return estimator.wish(stage, shape, split, channels, crossbars, count)

    fits = max(1, int(most.crossbars) // max(crossbars, 1))
    size = min(copies, fits)
    while size > 1 and wish(size).strain(most) > MOST_SHARE:
        # Whole parts of a row as long as there are several: all their classes of rows share the input.
        size = size - classes if size > classes and size % classes == 0 else size - 1
    number = -(-copies // size)
    cuts = [copies * i // number for i in range(number + 1)]
    if classes > 1 and size >= classes:
        cuts = sorted({min(copies, -(-c // classes) * classes) for c in cuts})
    return [Bundle(stage.index, shard, low, high - low, wish(high - low)) for low, high in itertools.pairwise(cuts)]


@final
class Shelf:
    """Cores and what is still free on them; gives each bundle the core that it strains least."""

    def __init__(self, hardware: CrossbarHardware, most: Wish) -> None:
        """All cores empty."""
        self._most = np.array(astuple(most))
        self._held = np.zeros((hardware.total_cores, len(self._most)))  # a row per core, a column per field of a wish

    def take(self, wish: Wish, besides: Collection[int] = ()) -> int | None:
        """The core that is strained least with `wish` added, None if no core but those in `besides` has the arrays."""
        wanted = self._held + np.array(astuple(wish))
        strain = (wanted / self._most).max(axis=1)
        strain[wanted[:, 0] > self._most[0]] = math.inf
        strain[list(besides)] = math.inf
        best = int(strain.argmin())
        if strain[best] == math.inf:
            return None
        self._held[best] = wanted[best]
        return best

    def strains(self) -> Sequence[float]:
        """How much is asked of each core."""
        return (self._held / self._most).max(axis=1).tolist()
