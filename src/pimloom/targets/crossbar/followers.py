"""Clusters of stages without weights: most follow their operand, so that nothing travels."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import final

from pimloom.hardware import CrossbarHardware
from pimloom.targets.crossbar.bundles import Estimator, Shelf, is_windowed
from pimloom.targets.crossbar.cores import CorePool
from pimloom.targets.crossbar.placement import Cluster
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage

WINDOW_SHARE = 0.05  # of a local memory that one window of a stage on the vector unit may take
MOST_CLUSTERS = 12  # stages that follow their operand to one core before others are used
MOST_HOMES = 12  # cores that share a stage which has no operand to follow


@final
class Followers:
    """Gives stages without weights their clusters, one stage after the other in the order of the graph."""

    def __init__(
        self, flow: Dataflow, hardware: CrossbarHardware, pool: CorePool, shelf: Shelf, estimator: Estimator, *, period_cycles: float,
        cuts_by_columns: bool,
    ) -> None:  # fmt: skip
        """Nothing has clusters yet; cores have what `pool` and `shelf` say.

        Args:
            flow: all stages.
            hardware: the machine.
            pool: cores by load.
            shelf: cores by what is left of them, for windows that are cut by columns.
            estimator: what stages want of a core.
            period_cycles: time in which one sample is expected to pass each core.
            cuts_by_columns: whether windows are cut by columns where they would follow classes of rows.
        """
        self._flow, self._hardware, self._pool, self._shelf, self._estimator = flow, hardware, pool, shelf, estimator
        self._period, self._cuts_by_columns = period_cycles, cuts_by_columns
        self._made: dict[str, tuple[Stage, list[Cluster]]] = {}
        self._resident: Counter[int] = Counter()

    def note(self, stage: Stage, clusters: list[Cluster]) -> None:
        """Tells where a stage is computed, which others may follow."""
        self._resident.update({c.core for c in clusters})
        self._made[stage.output] = stage, clusters

    def clusters(self, stage: Stage) -> list[Cluster]:
        """Where a stage without weights is computed."""
        return self._general(stage) if stage.kind is Kind.GENERAL else self._follow(stage)

    def _general(self, stage: Stage) -> list[Cluster]:
        out = self._flow.graph.types[self._flow.graph.nodes[stage.node].outputs[0]]
        count = max(1, min(16, self._hardware.total_cores, out.size // 4096))
        cores = self._pool.least_loaded(count, float(out.size))
        return [Cluster(stage.index, core, (i, count), 0, 1, 0, 1) for i, core in enumerate(sorted(cores))]

    def _follow(self, stage: Stage) -> list[Cluster]:
        """Clusters where the first operand is made, with its cut scaled to the output."""
        made: list[Cluster] = []
        for piece in self._flow.sources(stage.inputs[0].value):
            source, clusters = self._made.get(piece.source, (None, ()))
            if source is None or source.kind is Kind.GENERAL:
                return self._spread(stage)
            for cluster in clusters:
                low, high = max(cluster.c_start, piece.src), min(cluster.c_stop, piece.src + piece.n)
                if low < high:
                    shift = piece.dst - piece.src
                    made.append(_scaled(cluster, stage, source.shape.width, low + shift, high + shift))
        if stage.kind is Kind.MEAN:
            made = _one_per_channels(made)
        elif any(self._resident[c.core] >= MOST_CLUSTERS for c in made):
            return self._spread(stage)
        elif stage.whole_vectors or not _covers(made, stage):
            return self._spread(stage, [c.core for c in made])
        elif self._cuts_by_columns and is_windowed(stage):
            made = self._by_columns(made, stage)
        return self._thinned([c for c in made if c.x_start < c.x_stop and c.row_class[0] < stage.shape.rows], stage)

    def _by_columns(self, clusters: list[Cluster], stage: Stage) -> list[Cluster]:
        """Windows cut by columns where they would follow classes of rows: a class of windows needs rows of several classes."""
        ranges: dict[tuple[int, int], list[Cluster]] = {}
        for cluster in clusters:
            ranges.setdefault((cluster.c_start, cluster.c_stop), []).append(cluster)
        made: list[Cluster] = []
        for (c_start, c_stop), group in ranges.items():
            classes = group[0].row_class[1]
            if classes == 1:
                made += group
                continue
            width, channels = stage.shape.width, c_stop - c_start
            count = min(self._estimator.parts(stage, channels, self._period), self._hardware.total_cores)
            slices = self._estimator.slices(stage, channels, count)
            columns = min(-(-count // slices), self._hardware.total_cores // slices)  # every part has a core of its own
            cores: list[int] = []
            for low, high in itertools.pairwise(width * i // columns for i in range(columns + 1)):
                for first, last in itertools.pairwise(c_start + channels * i // slices for i in range(slices + 1)):
                    wish = self._estimator.window_wish(stage, classes, high - low, last - first)
                    core = self._shelf.take(wish, cores)
                    assert core is not None
                    cores.append(core)
                    made.append(Cluster(stage.index, core, (0, 1), low, high, first, last))
        return made

    def _thinned(self, clusters: list[Cluster], stage: Stage) -> list[Cluster]:
        """Clusters whose windows take too much of a local memory, cut by channels; the further parts go to idle cores."""
        if stage.kind not in (Kind.POOL, Kind.STENCIL, Kind.MEAN):
            return clusters
        window = stage.inputs[0].shape.width if stage.kind is Kind.MEAN else math.prod(stage.window.kernel)
        item = self._flow.graph.types[stage.inputs[0].value].itemsize_bytes
        most = max(1, int(WINDOW_SHARE * self._hardware.core.local_memory.size_bytes) // (window * item))
        thin: list[Cluster] = []
        for cluster in clusters:
            count = -(-(cluster.c_stop - cluster.c_start) // most)
            cuts = [cluster.c_start + (cluster.c_stop - cluster.c_start) * i // count for i in range(count + 1)]
            cores = [cluster.core, *self._pool.emptiest(count - 1)]
            thin += [
                replace(cluster, core=core, c_start=low, c_stop=high)
                for core, (low, high) in zip(itertools.cycle(cores), itertools.pairwise(cuts), strict=False)  # again, where cores run out
            ]
        return thin

    def _spread(self, stage: Stage, cores: Sequence[int] = ()) -> list[Cluster]:
        """Rows dealt to the given cores, or to some with little load."""
        shape = stage.shape
        if stage.kind is Kind.MEAN:
            core = cores[0] if cores else self._pool.least_loaded(1, float(shape.channels))[0]
            return [Cluster(stage.index, core, (0, 1), 0, shape.width, 0, shape.channels)]
        homes = list(dict.fromkeys(cores))[: shape.rows]
        if not homes:
            work = shape.rows * shape.width * shape.channels
            count = max(1, min(MOST_HOMES, self._hardware.total_cores, shape.rows))
            homes = self._pool.least_loaded(count, float(work), self._resident)
        return [Cluster(stage.index, core, (i, len(homes)), 0, shape.width, 0, shape.channels) for i, core in enumerate(homes)]


def _scaled(cluster: Cluster, stage: Stage, source_width: int, low: int, high: int) -> Cluster:
    width = stage.shape.width
    x_start = cluster.x_start * width // max(source_width, 1)
    x_stop = width if cluster.x_stop == source_width else cluster.x_stop * width // max(source_width, 1)
    return Cluster(stage.index, cluster.core, cluster.row_class, x_start, x_stop, low, high)


def _one_per_channels(clusters: list[Cluster]) -> list[Cluster]:
    chosen: dict[tuple[int, int], Cluster] = {}
    for c in clusters:
        chosen.setdefault((c.c_start, c.c_stop), replace(c, row_class=(0, 1), x_start=0, x_stop=1))
    return list(chosen.values())


def _covers(clusters: list[Cluster], stage: Stage) -> bool:
    """Whether the clusters compute every output exactly once (row classes of different sources may not match)."""
    area = sum(len(c.rows(stage.shape.rows)) * (c.x_stop - c.x_start) * (c.c_stop - c.c_start) for c in clusters)
    return area == stage.shape.rows * stage.shape.width * stage.shape.channels


__all__ = ["Followers"]
