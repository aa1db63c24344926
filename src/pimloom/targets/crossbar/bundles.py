"""Bundles: what neighbouring copies of a layer ask of the core that they share, and cores that balance it.

A core has four things to give: arrays, local memory, and the bandwidth of its port in each direction. Copies that take
neighbouring parts of a row share most of their input, so they travel as a bundle; a layer is cut into as many bundles as keep each
of them well below what a core can give.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import final

from pimloom.hardware import CrossbarHardware
from pimloom.mapping.replicate import Split, grid
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage

MOST_SHARE = 0.5  # of a core's port or memory that one bundle may ask for, where there are copies enough to cut it
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
    """

    crossbars: float = 0.0
    memory_bytes: float = 0.0
    in_bytes: float = 0.0
    out_bytes: float = 0.0

    def plus(self, other: Wish) -> Wish:
        """Both together."""
        return Wish(
            self.crossbars + other.crossbars, self.memory_bytes + other.memory_bytes,
            self.in_bytes + other.in_bytes, self.out_bytes + other.out_bytes,
        )  # fmt: skip

    def part(self, share: float) -> Wish:
        """A share of it."""
        return Wish(self.crossbars * share, self.memory_bytes * share, self.in_bytes * share, self.out_bytes * share)

    def strain(self, most: Wish) -> float:
        """The largest share of anything that a core has to give."""
        return max(
            self.crossbars / most.crossbars, self.memory_bytes / most.memory_bytes,
            self.in_bytes / most.in_bytes, self.out_bytes / most.out_bytes,
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
    return Wish(float(hardware.core.crossbars), float(hardware.core.local_memory.size_bytes), port, port)


@final
class Estimator:
    """Estimates what bundles ask for, from shapes alone."""

    def __init__(self, flow: Dataflow, hardware: CrossbarHardware) -> None:
        """Collects which stages follow which to their cores."""
        self._flow, self._hardware = flow, hardware
        self._followers: dict[str, list[Stage]] = {}
        for stage in flow.stages:
            if stage.kind in (Kind.VECTOR, Kind.POOL, Kind.STENCIL) and not stage.whole_vectors:
                for piece in flow.sources(stage.inputs[0].value):
                    self._followers.setdefault(piece.source, []).append(stage)

    def wish(
        self, stage: Stage, shape: tuple[int, int], split: Split, channels: int, crossbars: int, count: int
    ) -> Wish:  # fmt: skip
        """What `count` copies of one shard ask for.

        Args:
            stage: the layer.
            shape: classes of rows and parts of a row of all copies.
            split: how the grid is ordered.
            channels: outputs of the shard.
            crossbars: arrays of one copy of the shard.
            count: copies of the bundle.
        """
        ry, rx = shape
        classes = min(ry, split.free_classes, count)
        part = min(1.0, math.ceil(count / classes) / rx)
        window, out, source = stage.window, stage.shape, stage.inputs[0]
        item = self._flow.graph.types[source.value].itemsize_bytes
        columns = min(float(source.shape.width), part * out.width * window.stride[1] + window.reach(1) - window.stride[1])
        rows = source.shape.rows * min(1.0, window.reach(0) * classes / (ry * window.stride[0]))
        held = min(float(source.shape.rows), window.reach(0) + window.stride[0] * (classes + SLACK_ROWS))
        vector = source.shape.channels * item
        made = out.rows * classes / ry * part * out.width * channels * item
        width = part * out.width
        buffers = 2.0 * classes * min(width * channels * (8.0 + item), 0.1 * self._hardware.core.local_memory.size_bytes)
        wish = Wish(float(crossbars * count), held * columns * vector + buffers, rows * columns * vector, made)
        for follower in self._followers.get(stage.output, ()):
            wish = wish.plus(self._following(follower, part, classes / ry, channels))
        return wish

    def _following(self, stage: Stage, part: float, rows: float, channels: int) -> Wish:
        """What a stage asks for that follows a bundle to its core."""
        memory = incoming = 0.0
        for place, operand in enumerate(stage.inputs):
            item = self._flow.graph.types[operand.value].itemsize_bytes
            row = part * operand.shape.width * min(channels, operand.shape.channels) * item
            memory += row * (stage.window.reach(0) + SLACK_ROWS if place == 0 else SKIP_ROWS)
            incoming += row * operand.shape.rows * rows if place else 0.0
        return Wish(0.0, memory, incoming, 0.0)


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
    return [
        Bundle(stage.index, shard, low, high - low, wish(high - low)) for low, high in itertools.pairwise(cuts)
    ]


@final
class Shelf:
    """Cores and what is still free on them; gives each bundle the core that it strains least."""

    def __init__(self, hardware: CrossbarHardware, most: Wish) -> None:
        """All cores empty."""
        self._most = most
        self._held = [Wish() for _ in range(hardware.total_cores)]

    def take(self, wish: Wish, besides: Collection[int] = ()) -> int | None:
        """The core that is strained least with `wish` added, None if no core but those in `besides` has the arrays."""
        best, least = None, math.inf
        for core, held in enumerate(self._held):
            if core in besides or held.crossbars + wish.crossbars > self._most.crossbars:
                continue
            strain = held.plus(wish).strain(self._most)
            if strain < least:
                best, least = core, strain
        if best is not None:
            self._held[best] = self._held[best].plus(wish)
        return best

    def strains(self) -> Sequence[float]:
        """How much is asked of each core."""
        return [held.strain(self._most) for held in self._held]
