"""The placer: gives copies of layers their cores, and stages their clusters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

from pimloom.hardware import CrossbarHardware
from pimloom.mapping.replicate import Split, grid
from pimloom.targets.crossbar.bundles import Bundle, Estimator, Shelf, capacity_of, cut
from pimloom.targets.crossbar.cores import BALANCING, CorePool, Policy
from pimloom.targets.crossbar.followers import Followers
from pimloom.targets.crossbar.placement import Cluster, Group, Placement
from pimloom.targets.crossbar.shards import (
    CLOSE_FILL,
    GOOD_FILL,
    Shard,
    channels_of,
    cut_by_channels,
    fitting_height,
    shards_of,
    tile_columns,
)
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage
from pimloom.targets.crossbar.unfold import Unfolded

ROW_COST = 0.6  # of the steps, for a further class of rows where windows reach over rows; what effort 0 takes
CLASSES_PER_CORE = 2  # classes of rows that copies on one core take; more make what follows hold more rows (throughput mode)
CLASSES_WITHOUT_WINDOWS = 4  # the same of layers without windows in latency mode; both by experiment with few CNNs on isaac
HELD_SHARE = 0.8  # of a local memory that the rows under one window may take; a core that would hold more is given fewer channels
SPREAD_ROOM = 1.1  # room above the even share, so that pieces of different size fit


def split_of(stage: Stage, unfolded: Unfolded, hardware: CrossbarHardware, *, shares_cores: bool, row_cost: float = ROW_COST) -> Split:
    """What it costs to give copies of a layer different rows.

    With `shares_cores`, copies that fit one core together may take different rows of the same vectors at no cost: what they
    need arrives once. A row then takes longer, which is why latency mode does without, but for layers without windows: there
    the stages that follow them would have to gather their windows from many cores. `row_cost` is that of a further class of rows
    where windows reach over rows.
    """
    most = CLASSES_PER_CORE if shares_cores else CLASSES_WITHOUT_WINDOWS
    fitting = min(max(1, hardware.core.crossbars // unfolded.crossbars), most)
    if stage.window.reach(0) == 1:
        return Split(0.0, fitting)
    return Split(row_cost, fitting if shares_cores else 1)


@final
class Placer:
    """Places all stages of a network, given how many copies each layer gets."""

    def __init__(
        self, flow: Dataflow, hardware: CrossbarHardware, unfolded: dict[int, Unfolded], copies: dict[int, int], load: dict[int, float],
        splits: dict[int, Split], policy: Policy, period_cycles: float = 0.0, memory_factors: Mapping[int, float] | None = None,
    ) -> None:  # fmt: skip
        """Takes the stages; per MATRIX stage its unfolding, its copies, the work of one copy (any unit), how copies split it.

        `period_cycles` is the time in which BALANCED expects one sample to pass each core; `memory_factors` say per stage how
        much more local memory than estimated it turned out to need.
        """
        self._flow, self._hardware, self._unfolded, self._copies, self._work = flow, hardware, unfolded, copies, load
        self._splits, self._period, self._factors = splits, period_cycles, memory_factors or {}
        self._policy = policy
        self._pool = CorePool(hardware, policy, self._most_per_core())
        self._placed: dict[str, tuple[tuple[Shard, ...], list[list[list[tuple[int, tuple[int, ...]]]]]]] = {}
        self.result = Placement()
        self._estimator = Estimator(flow, hardware, unfolded)
        self._most = capacity_of(hardware, period_cycles or math.inf)
        self._shelf = Shelf(hardware, self._most)

    def _most_per_core(self) -> int:
        """Crossbars of a core that may be used."""
        whole = self._hardware.core.crossbars
        if self._policy is not Policy.SPREAD:
            return whole
        stages = {self._flow.graph.nodes[s.node].inputs[1]: s for s in self._flow.stages if s.kind is Kind.MATRIX}
        total = sum(self._unfolded[s.index].crossbars * self._copies[s.index] for s in stages.values())
        largest = max((max(shard.sizes) for s in stages.values() for shard in self._shards(s)), default=1)
        return min(whole, max(largest, math.ceil(SPREAD_ROOM * total / self._hardware.total_cores)))

    def place(self) -> Placement | None:
        """The placement, or None if the copies do not fit core by core."""
        if not self._place_all_copies():
            return None
        followers = Followers(
            self._flow, self._hardware, self._pool, self._shelf, self._estimator, period_cycles=self._period,
            cuts_by_columns=self._policy in BALANCING,
        )  # fmt: skip
        for stage in self._flow.stages:
            clusters = self._matrix(stage) if stage.kind is Kind.MATRIX else followers.clusters(stage)
            followers.note(stage, clusters)
            self.result.clusters.append(clusters)
            self.result.copies.append(self._copies.get(stage.index, 0))
        return self.result

    def _place_all_copies(self) -> bool:
        if self._policy in BALANCING:
            return self._place_bundles()
        stages = [s for s in self._flow.stages if s.kind is Kind.MATRIX]
        if self._policy is Policy.LEAST_LOADED:
            # What takes longest goes first, so that loads come out even; what is widest, if nothing else fits.
            by_work = sorted(stages, key=lambda s: -self._work_of(s, max(max(shard.sizes) for shard in self._shards(s))))
            if self._place_in_order(by_work):
                return True
            self.result.groups.clear()
            self._placed.clear()
            self._pool = CorePool(self._hardware, self._policy, self._most_per_core())
        if self._policy not in (Policy.NEXT, Policy.SPREAD):
            stages.sort(key=lambda s: -max(self._shards(s)[0].sizes))
        return self._place_in_order(stages)

    def _place_in_order(self, stages: Sequence[Stage]) -> bool:
        for stage in stages:
            key = self._flow.graph.nodes[stage.node].inputs[1]
            if key not in self._placed:
                placed = self._place_copies(stage, key)
                if placed is None:
                    return False
                self._placed[key] = placed
        return True

    def _place_bundles(self) -> bool:
        """Cuts all layers into bundles and gives each the core that it strains least, the largest first."""
        most, estimator = self._most, self._estimator
        keys: dict[str, Stage] = {}
        for stage in self._flow.stages:
            if stage.kind is Kind.MATRIX:
                keys.setdefault(self._flow.graph.nodes[stage.node].inputs[1], stage)
        bundles: list[Bundle] = []
        for key, stage in keys.items():
            copies, shards = self._copies[stage.index], self._shards(stage)
            self._placed[key] = (shards, [[[] for _ in range(copies)] for _ in shards])
            for number, shard in enumerate(shards):
                split = self._splits[stage.index]
                channels = shard.out_stop - shard.out_start
                if len(shard.pieces) > 1:
                    shape = grid(stage.shape.rows, stage.shape.width, copies, split)
                    wish = estimator.wish(stage, shape, split, channels, max(shard.sizes), 1, self._channels_of(stage, shard))
                    bundles += [Bundle(stage.index, number, first, 1, wish) for first in range(copies)]
                else:
                    bundles += cut(estimator, stage, number, copies, split, channels, shard.sizes[0], most)
        for bundle in bundles:
            wished = self.result.wished_bytes
            wished[bundle.stage] = wished.get(bundle.stage, 0.0) + bundle.wish.memory_bytes * len(self._shards_of(bundle).pieces)
        bundles = [replace(b, wish=replace(b.wish, memory_bytes=b.wish.memory_bytes * self._factors.get(b.stage, 1.0))) for b in bundles]
        bundles.sort(key=lambda b: (-b.wish.strain(most), -b.wish.crossbars, b.stage, b.shard, b.first))
        if all(self._place_or_halve(bundle) for bundle in bundles):
            return True
        # Cores are too fragmented: what takes most arrays of one core goes first.
        self._clear(bundles)
        self._shelf = Shelf(self._hardware, most)
        bundles.sort(key=lambda b: -max(self._shards_of(b).sizes))
        return all(self._place_or_halve(bundle) for bundle in bundles)

    def _channels_of(self, stage: Stage, shard: Shard) -> int:
        """The most input channels that a piece of a shard reads."""
        ranges = (channels_of(self._unfolded[stage.index], piece) for piece in shard.pieces)
        return max(high - low for low, high in ranges)

    def _clear(self, bundles: Sequence[Bundle]) -> None:
        """Takes all bundles off their cores again."""
        self.result.groups.clear()
        for bundle in bundles:
            homes = self._placed[self._key(bundle)][1]
            for number in range(bundle.first, bundle.first + bundle.count):
                homes[bundle.shard][number].clear()

    def _key(self, bundle: Bundle) -> str:
        return self._flow.graph.nodes[self._flow.stages[bundle.stage].node].inputs[1]

    def _place_or_halve(self, bundle: Bundle) -> bool:
        """Places a bundle, or its halves where no core has the arrays for all of it."""
        if self._place_bundle(bundle):
            return True
        if bundle.count == 1:
            return False
        first = bundle.count // 2
        halves = (replace(bundle, count=first), replace(bundle, first=bundle.first + first, count=bundle.count - first))
        return all(self._place_or_halve(replace(half, wish=bundle.wish.part(half.count / bundle.count))) for half in halves)

    def _shards_of(self, bundle: Bundle) -> Shard:
        return self._placed[self._key(bundle)][0][bundle.shard]

    def _place_bundle(self, bundle: Bundle) -> bool:
        key = self._key(bundle)
        shards, homes = self._placed[key]
        shard = shards[bundle.shard]
        cores: list[int] = []
        for size in shard.sizes:
            core = self._shelf.take(replace(bundle.wish, crossbars=float(size * bundle.count)), cores)
            if core is None:
                return False
            cores.append(core)
        for number in range(bundle.first, bundle.first + bundle.count):
            for core, piece in zip(cores, shard.pieces, strict=True):
                groups = self._make_groups(self._unfolded[bundle.stage], key, shard, piece, core)
                homes[bundle.shard][number].append((core, groups))
        return True

    def _shards(self, stage: Stage) -> tuple[Shard, ...]:
        most, unfolded = self._hardware.core.crossbars, self._unfolded[stage.index]
        if self._policy is Policy.CUT_FINELY:
            return shards_of(unfolded, most, fitting_height(unfolded, most, 1.0), is_fine=True)
        fill = {Policy.CUT: GOOD_FILL, Policy.CUT_CLOSELY: CLOSE_FILL, Policy.CUT_BALANCED: CLOSE_FILL}.get(self._policy)
        height = fitting_height(unfolded, most, fill) if fill else most
        return shards_of(unfolded, most, min(height, self._height_held(stage)))

    def _height_held(self, stage: Stage) -> int:
        """The most arrays of a column that a core may hold, so that its local memory has room for the rows that windows take."""
        hardware, window, source = self._hardware, stage.window, stage.inputs[0]
        if self._policy is Policy.LEAST_LOADED or window.reach(0) == 1:
            return hardware.core.crossbars
        _, parts = grid(stage.shape.rows, stage.shape.width, self._copies[stage.index], self._splits[stage.index])
        columns = min(source.shape.width, -(-stage.shape.width // parts) * window.stride[1] + window.reach(1) - window.stride[1])
        item, blocks = self._flow.graph.types[source.value].itemsize_bytes, self._unfolded[stage.index].blocks
        held = (window.reach(0) + window.stride[0]) * columns * item  # of one channel
        most, is_close = HELD_SHARE * hardware.core.local_memory.size_bytes / held, self._policy is Policy.CUT_CLOSELY
        return max(cut_by_channels(block, most, is_close=is_close) for block in blocks) or hardware.core.crossbars

    def _matrix(self, stage: Stage) -> list[Cluster]:
        shards, homes = self._placed[self._flow.graph.nodes[stage.node].inputs[1]]
        clusters: list[Cluster] = []
        for shard, copies in zip(shards, homes, strict=True):
            clusters += self._clusters(stage, shard, copies)
        return clusters

    def _place_copies(self, stage: Stage, key: str) -> tuple[tuple[Shard, ...], list[list[list[tuple[int, tuple[int, ...]]]]]] | None:
        """Per shard, per copy, per piece: (core, groups)."""
        unfolded, shards = self._unfolded[stage.index], self._shards(stage)
        homes: list[list[list[tuple[int, tuple[int, ...]]]]] = []
        for shard in shards:
            copies: list[list[tuple[int, tuple[int, ...]]]] = []
            for _ in range(self._copies[stage.index]):
                copy: list[tuple[int, tuple[int, ...]]] = []
                for piece, size in zip(shard.pieces, shard.sizes, strict=True):
                    core = self._pool.take(size, self._work_of(stage, size), [core for core, _ in copy])
                    if core is None:
                        return None
                    copy.append((core, self._make_groups(unfolded, key, shard, piece, core)))
                copies.append(copy)
            homes.append(sorted(copies, key=lambda c: c[0][0]))
        return shards, homes

    def _work_of(self, stage: Stage, crossbars: int) -> float:
        """Cycles per sample of a piece of a copy that takes so many crossbars."""
        # Of stages that share a weight, the first has the work of all.
        return self._work.get(stage.index, 0.0) * crossbars / self._unfolded[stage.index].crossbars

    def _make_groups(self, unfolded: Unfolded, key: str, shard: Shard, piece: tuple[tuple[int, int], ...], core: int) -> tuple[int, ...]:
        made: list[int] = []
        for block, tile_start, tile_stop in shard.units:
            low, high = tile_columns(unfolded, block, tile_start, tile_stop)
            for owner, band in piece:
                if owner == block:
                    made.append(len(self.result.groups))
                    self.result.groups.append(Group(core, key, block, band, low, high, tile_stop - tile_start))
        return tuple(made)

    def _clusters(self, stage: Stage, shard: Shard, copies: list[list[tuple[int, tuple[int, ...]]]]) -> list[Cluster]:
        """Copies in a grid over rows and vectors; neighbours on one core make one cluster."""
        shape, split = stage.shape, self._splits[stage.index]
        ry, rx = grid(shape.rows, shape.width, len(copies), split)
        step = -(-shape.width // rx)
        clusters: list[Cluster] = []
        latest: dict[int, int] = {}  # class of rows to its newest cluster
        for q, (row, place) in enumerate(_grid_order(ry, rx, split.free_classes)):
            low, high = place * step, min((place + 1) * step, shape.width)
            if low >= high:
                continue
            head, *others = copies[q]
            made = Cluster(
                stage.index, head[0], (row, ry), low, high, shard.out_start, shard.out_stop,
                (head[1],), tuple((core, (groups,)) for core, groups in others),
            )  # fmt: skip
            last = clusters[latest[row]] if row in latest else None
            if last and _joinable(last, made):
                peers = tuple((core, (*mine, *theirs)) for (core, mine), (_, theirs) in zip(last.peers, made.peers, strict=True))
                clusters[latest[row]] = replace(last, x_stop=high, copies=last.copies + made.copies, peers=peers)
            else:
                latest[row] = len(clusters)
                clusters.append(made)
        return clusters


def _grid_order(ry: int, rx: int, bundle: int) -> list[tuple[int, int]]:
    """(class of rows, part of a row) of each copy in turn: a bundle of classes for one part, then for the next."""
    return [
        (row, place)
        for first in range(0, ry, bundle)
        for place in range(rx)
        for row in range(first, min(first + bundle, ry))
    ]  # fmt: skip


def _joinable(last: Cluster, made: Cluster) -> bool:
    return (
        last.core == made.core
        and last.row_class == made.row_class
        and last.x_stop == made.x_start
        and [core for core, _ in last.peers] == [core for core, _ in made.peers]
    )
