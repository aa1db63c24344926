"""Placement: copies of layers become array groups on cores, and every stage becomes clusters.

A cluster is what one core computes of one stage: some rows, a range of vectors, a range of channels. A copy of a layer that
is larger than a core is cut into shards by columns (each core then finishes its own channels); if even one
column of crossbars is larger than a core, its rows are spread over several cores, whose partial sums are added at the first.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import final

from pimloom.errors import CapacityError
from pimloom.hardware import CrossbarHardware
from pimloom.mapping.replicate import Split, grid
from pimloom.targets.crossbar.bundles import Bundle, Estimator, Shelf, capacity_of, cut, is_windowed
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage
from pimloom.targets.crossbar.unfold import Unfolded

ROW_COST = 0.6  # of the steps, for a further class of rows where windows reach over rows; what effort 0 takes
CLASSES_PER_CORE = 2  # classes of rows that copies on one core take; more make what follows hold more rows (throughput mode)
CLASSES_WITHOUT_WINDOWS = 4  # the same of layers without windows in latency mode; both by experiment with few CNNs on isaac
SPREAD_ROOM = 1.1  # room above the even share, so that pieces of different size fit
WINDOW_SHARE = 0.05  # of a local memory that one window of a stage on the vector unit may take
MOST_CLUSTERS = 12  # stages that follow their operand to one core before others are used
MOST_HOMES = 12  # cores that share a stage which has no operand to follow


@final
@dataclass(frozen=True, slots=True)
class Group:
    """An array group.

    Attributes:
        core: where it sits.
        key: the matrix it belongs to: (weight name, block).
        block: index of the block in its unfolding.
        band: index of the band of rows.
        column_start: first column of the block.
        column_stop: one past the last.
        crossbars: arrays.
    """

    core: int
    key: str
    block: int
    band: int
    column_start: int
    column_stop: int
    crossbars: int


@final
@dataclass(frozen=True, slots=True)
class Shard:
    """The part of a copy that one core (or, if `pieces` > 1, a row of cores) holds.

    Attributes:
        units: (block, first tile, one past the last tile).
        out_start: first output channel.
        out_stop: one past the last.
        pieces: per core, the (block, band) pairs it holds.
        sizes: crossbars per piece.
    """

    units: tuple[tuple[int, int, int], ...]
    out_start: int
    out_stop: int
    pieces: tuple[tuple[tuple[int, int], ...], ...]
    sizes: tuple[int, ...]


@final
@dataclass(frozen=True, slots=True)
class Cluster:
    """What one core computes of one stage.

    Attributes:
        stage: index of the stage.
        core: where.
        row_class: (r, n): output rows y with y % n == r.
        x_start: first output vector of a row.
        x_stop: one past the last.
        c_start: first output channel.
        c_stop: one past the last.
        copies: groups of each copy, which share the vectors of a row among them.
        peers: groups on other cores whose partial sums are added here: (core, groups of each copy).
    """

    stage: int
    core: int
    row_class: tuple[int, int]
    x_start: int
    x_stop: int
    c_start: int
    c_stop: int
    copies: tuple[tuple[int, ...], ...] = ()
    peers: tuple[tuple[int, tuple[tuple[int, ...], ...]], ...] = ()

    def rows(self, n_rows: int) -> range:
        """Output rows of the cluster."""
        return range(self.row_class[0], n_rows, self.row_class[1])


@final
@dataclass(slots=True)
class Placement:
    """Groups and clusters of a whole network.

    Attributes:
        groups: all array groups.
        clusters: per stage.
        copies: per stage, 0 where it has no weights.
        wished_bytes: per stage with weights, local memory that BALANCED took it and its followers to need.
    """

    groups: list[Group] = field(default_factory=list[Group])
    clusters: list[list[Cluster]] = field(default_factory=list[list[Cluster]])
    copies: list[int] = field(default_factory=list[int])
    wished_bytes: dict[int, float] = field(default_factory=dict[int, float])


def shards_of(unfolded: Unfolded, core_crossbars: int) -> tuple[Shard, ...]:
    """Cuts a copy by columns into as few shards as fit cores, of even size."""
    units = [(b, t, len(block.bands)) for b, block in enumerate(unfolded.blocks) for t in range(block.n_tiles)]
    tallest = max(size for _, _, size in units)
    if tallest > core_crossbars:
        return tuple(_tall_shard(unfolded, b, t, core_crossbars) for b, t, _ in units)
    total = sum(size for _, _, size in units)
    count = -(-total // (core_crossbars // tallest * tallest))
    shards: list[list[tuple[int, int, int]]] = [[]]
    filled = 0
    for unit in units:
        full = sum(u[2] for u in shards[-1]) + unit[2] > core_crossbars
        if shards[-1] and (full or filled >= len(shards) * total / count):
            shards.append([])
        shards[-1].append(unit)
        filled += unit[2]
    return tuple(_flat_shard(unfolded, shard) for shard in shards)


def fitting_height(unfolded: Unfolded, core_crossbars: int) -> int:
    """The most arrays of one column that a core should hold, so that columns cut into such pieces fill cores best."""
    tallest = max(len(block.bands) for block in unfolded.blocks)
    options = sorted({-(-tallest // pieces) for pieces in range(1, tallest + 1)} & set(range(1, core_crossbars + 1)), reverse=True)
    height = max(options, key=lambda h: (core_crossbars // h * h, h))
    return core_crossbars if height >= tallest else height


def _columns(unfolded: Unfolded, block: int, start: int, stop: int) -> tuple[int, int]:
    per_tile, shape = unfolded.columns_per_tile, unfolded.blocks[block]
    return start * per_tile, min(stop * per_tile, shape.out_channels)


def _flat_shard(unfolded: Unfolded, units: Sequence[tuple[int, int, int]]) -> Shard:
    runs: list[list[int]] = []
    for block, tile, _ in units:
        if runs and runs[-1][0] == block and runs[-1][2] == tile:
            runs[-1][2] = tile + 1
        else:
            runs.append([block, tile, tile + 1])
    first, last = runs[0], runs[-1]
    out_start = unfolded.blocks[first[0]].out_start + _columns(unfolded, first[0], first[1], first[2])[0]
    out_stop = unfolded.blocks[last[0]].out_start + _columns(unfolded, last[0], last[1], last[2])[1]
    bands = tuple((block, band) for block, _, _ in runs for band in range(len(unfolded.blocks[block].bands)))
    return Shard(tuple((r[0], r[1], r[2]) for r in runs), out_start, out_stop, (bands,), (sum(u[2] for u in units),))


def _tall_shard(unfolded: Unfolded, block: int, tile: int, core_crossbars: int) -> Shard:
    shape = unfolded.blocks[block]
    count = -(-len(shape.bands) // core_crossbars)
    cuts = [len(shape.bands) * i // count for i in range(count + 1)]
    pieces = tuple(tuple((block, band) for band in range(a, b)) for a, b in itertools.pairwise(cuts))
    low, high = _columns(unfolded, block, tile, tile + 1)
    return Shard(((block, tile, tile + 1),), shape.out_start + low, shape.out_start + high, pieces, tuple(len(p) for p in pieces))


class Policy(enum.Enum):
    """Which core takes the next piece of a copy."""

    BALANCED = "balanced"  # the core that it strains least, in arrays, memory or traffic, largest pieces first
    SPREAD = "spread"  # as NEXT, but no core takes more than its even share: each piece of work has more memory and links
    NEXT = "next"  # the next core with room, in graph order: neighbours in the network are neighbours on the chip
    TIGHTEST = "tightest"  # the core with the least room that suffices, largest layers first: packs best
    CUT = "cut"  # as TIGHTEST, with tall layers cut by rows into pieces that fill cores; their partial sums travel
    LEAST_LOADED = "least loaded"  # where cores work on one instruction at a time, work counts more than room


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
class CorePool:
    """Free crossbars and load of every core, in snake order so that neighbours in the list are neighbours on the chip."""

    def __init__(self, hardware: CrossbarHardware, policy: Policy, most: int) -> None:
        """All cores empty; at most `most` crossbars of each are used."""
        self._free = [most] * (hardware.chips * hardware.chip.cores)
        self._load = [0.0] * len(self._free)
        self._policy = policy
        self._guests: Counter[int] = Counter()
        self._order = _snake(hardware)
        self._rank = {core: i for i, core in enumerate(self._order)}
        self._next = 0

    def take(self, size: int, load: float, besides: Collection[int] = ()) -> int | None:
        """A core with `size` free crossbars that is not in `besides`, or None."""
        fitting = [core for core in self._order if self._free[core] >= size and core not in besides]
        if not fitting:
            return None
        if self._policy is Policy.LEAST_LOADED:
            return self._use(min(fitting, key=self._load.__getitem__), size, load)
        if self._policy in (Policy.TIGHTEST, Policy.CUT):
            return self._use(min(fitting, key=self._free.__getitem__), size, load)
        return self._use(next((core for core in fitting if self._rank[core] >= self._next), fitting[0]), size, load)

    def _use(self, core: int, size: int, load: float) -> int:
        self._free[core] -= size
        self._load[core] += load
        if self._policy in (Policy.NEXT, Policy.SPREAD) and self._free[core] < size:
            self._next = max(self._next, self._rank[core])
        return core

    def least_loaded(self, count: int, load: float, residents: Mapping[int, int] | None = None) -> list[int]:
        """The `count` cores with fewest residents, of those the ones with least load; each is charged with a share of `load`."""
        lodged = residents or {}
        cores = sorted(self._order, key=lambda core: (lodged.get(core, 0), self._load[core]))[:count]
        for core in cores:
            self._load[core] += load / len(cores)
        return cores

    def emptiest(self, count: int) -> list[int]:
        """The `count` cores that were given least work besides weights so far, each of which now has some."""
        cores = sorted(self._order, key=lambda core: (self._guests[core], self._load[core]))[:count]
        self._guests.update(cores)
        return cores


def _snake(hardware: CrossbarHardware) -> list[int]:
    cols, per_chip = hardware.chip.core_cols, hardware.chip.cores
    order: list[int] = []
    for chip in range(hardware.chips):
        for row in range(hardware.chip.core_rows):
            line = range(cols) if row % 2 == 0 else range(cols - 1, -1, -1)
            order += [chip * per_chip + row * cols + col for col in line if row * cols + col < per_chip]
    return order


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
        self._by_value: dict[str, Stage] = {}
        self._resident: Counter[int] = Counter()
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
        for stage in self._flow.stages:
            if stage.kind is Kind.MATRIX:
                clusters = self._matrix(stage)
            elif stage.kind is Kind.GENERAL:
                clusters = self._general(stage)
            else:
                clusters = self._follow(stage)
            self.result.clusters.append(clusters)
            self._resident.update({c.core for c in clusters})
            self.result.copies.append(self._copies.get(stage.index, 0))
            self._by_value[stage.output] = stage
        return self.result

    # Layers with weights -----------------------------------------------------------------------------------

    def _place_all_copies(self) -> bool:
        if self._policy is Policy.BALANCED:
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
                    wish = estimator.wish(stage, (1, copies), split, channels, max(shard.sizes), 1)
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
        most = self._hardware.core.crossbars
        unfolded = self._unfolded[stage.index]
        return shards_of(unfolded, fitting_height(unfolded, most) if self._policy is Policy.CUT else most)

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
            low, high = _columns(unfolded, block, tile_start, tile_stop)
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

    # Stages without weights --------------------------------------------------------------------------------

    def _general(self, stage: Stage) -> list[Cluster]:
        out = self._flow.graph.types[self._flow.graph.nodes[stage.node].outputs[0]]
        count = max(1, min(16, self._hardware.total_cores, out.size // 4096))
        cores = self._pool.least_loaded(count, float(out.size))
        return [Cluster(stage.index, core, (i, count), 0, 1, 0, 1) for i, core in enumerate(sorted(cores))]

    def _follow(self, stage: Stage) -> list[Cluster]:
        """Clusters where the first operand is made, with its cut scaled to the output."""
        made: list[Cluster] = []
        for piece in self._flow.sources(stage.inputs[0].value):
            source = self._by_value.get(piece.source)
            if source is None or source.kind is Kind.GENERAL:
                return self._spread(stage)
            for cluster in self.result.clusters[source.index]:
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
        elif self._policy is Policy.BALANCED and is_windowed(stage):
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
            width = stage.shape.width
            count = min(self._estimator.parts(stage, c_stop - c_start, self._period), self._hardware.total_cores)
            cores: list[int] = []
            for low, high in itertools.pairwise(width * i // count for i in range(count + 1)):
                wish = self._estimator.window_wish(stage, classes, high - low, c_stop - c_start)
                core = self._shelf.take(wish, cores)
                assert core is not None
                cores.append(core)
                made.append(Cluster(stage.index, core, (0, 1), low, high, c_start, c_stop))
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
                for core, (low, high) in zip(cores, itertools.pairwise(cuts), strict=True)
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


def capacity_error(needed: int, hardware: CrossbarHardware) -> CapacityError:
    """The network has more weights than the machine has crossbars."""
    chips = -(-needed // (hardware.total_crossbars // hardware.chips))
    more = f"use at least {chips} chips (--chips {chips})"
    if hardware.chip_link is None:
        more = f"use more cores (--set chip.core_rows=...), as this machine has no chip_link to put {chips} chips together"
    return CapacityError(
        "crossbars", needed, hardware.total_crossbars, hardware.name,
        f"{more}, fewer weight bits, or a larger machine",
    )  # fmt: skip


def packing_error(needed: int, hardware: CrossbarHardware) -> CapacityError:
    """There are crossbars enough, but columns of weights do not pack into cores."""
    more = f"use more chips (--chips {hardware.chips + 1}), fewer weight bits, or cores with more crossbars"
    if hardware.chip_link is None:
        more = "use more cores (--set chip.core_rows=...), fewer weight bits, or cores with more crossbars"
    return CapacityError(
        f"crossbars in pieces that fit cores of {hardware.core.crossbars}", needed, hardware.total_crossbars, hardware.name, more
    )
