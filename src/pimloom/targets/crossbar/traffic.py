"""Traffic between cores of a placed network, and its arrangement on the chip."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from pimloom.hardware import CrossbarHardware
from pimloom.mapping.arrange import arrange
from pimloom.mapping.relieve import Mesh, relieve
from pimloom.program.rows import Array
from pimloom.program.widths import sum_bytes
from pimloom.targets.crossbar.placement import Cluster, Placement
from pimloom.targets.crossbar.shards import channels_read
from pimloom.targets.crossbar.stages import Dataflow, Kind, Piece, Stage
from pimloom.targets.crossbar.unfold import Unfolded

LINK_SHARE = 0.6  # of the time of a sample that a link of the network should be busy


def traffic(flow: Dataflow, placement: Placement, hardware: CrossbarHardware, unfolded: Mapping[int, Unfolded]) -> Array:
    """float64[n + chips, n + chips]: bytes per sample from core to core; the last indices are the global memories.

    Args:
        flow: the stages.
        placement: where they are.
        hardware: the machine.
        unfolded: by MATRIX stage.
    """
    cores = hardware.total_cores
    table = np.zeros((cores + hardware.chips, cores + hardware.chips))
    made: dict[str, Stage] = {v: s for s in flow.stages for v in flow.graph.nodes[s.node].outputs if v}
    for stage in flow.stages:
        for operand in stage.inputs:
            item = flow.graph.types[operand.value].itemsize_bytes
            for piece in flow.sources(operand.value):
                source = made.get(piece.source)
                if source is None or source.kind is Kind.GENERAL or stage.kind is Kind.GENERAL:
                    _to_memory(table, flow, placement, stage, source, piece, item, hardware)
                else:
                    _between(table, placement, stage, source, piece, item, unfolded)
        if stage.kind is Kind.MATRIX:
            _partial_sums(table, placement, stage, sum_bytes(flow.graph, flow.graph.nodes[stage.node]))
    return table


def _to_memory(
    table: Array, flow: Dataflow, placement: Placement, stage: Stage, source: Stage | None, piece: Piece, item: int,
    hardware: CrossbarHardware,
) -> None:  # fmt: skip
    per_chip, base = hardware.chip.cores, hardware.total_cores
    shape = flow.shapes[piece.source]
    size = shape.rows * shape.width * piece.n * item
    for one in (stage, source):
        if one is not None:
            clusters = placement.clusters[one.index]
            for cluster in clusters:
                table[base + cluster.core // per_chip, cluster.core] += size / len(clusters)


def _between(
    table: Array, placement: Placement, stage: Stage, source: Stage, piece: Piece, item: int, unfolded: Mapping[int, Unfolded]
) -> None:  # fmt: skip
    shift = piece.dst - piece.src
    for target in placement.clusters[stage.index]:
        low, high = _columns(stage, target, source.shape.width)
        rows = _row_share(stage, target)
        readers = _channels(placement, stage, target, unfolded)
        for cluster in placement.clusters[source.index]:
            vectors = min(high, cluster.x_stop) - max(low, cluster.x_start)
            if vectors <= 0:
                continue
            made = rows * len(cluster.rows(source.shape.rows)) * vectors * item
            for core, c_low, c_high in readers:
                channels = min(c_high, cluster.c_stop + shift) - max(c_low, cluster.c_start + shift, piece.dst)
                if channels > 0:
                    table[cluster.core, core] += made * channels


def _channels(placement: Placement, stage: Stage, cluster: Cluster, unfolded: Mapping[int, Unfolded]) -> list[tuple[int, int, int]]:
    """(core, first channel, one past the last) of what each core of a cluster reads."""
    if stage.kind is not Kind.MATRIX:
        return [(cluster.core, cluster.c_start, cluster.c_stop)]
    if not cluster.peers:
        return [(cluster.core, 0, stage.inputs[0].shape.channels)]
    held = ((cluster.core, cluster.copies), *cluster.peers)
    return [
        (core, *channels_read(unfolded[stage.index], [placement.groups[g] for copy in copies for g in copy])) for core, copies in held
    ]


def _partial_sums(table: Array, placement: Placement, stage: Stage, unit: int) -> None:
    """What the cores of a layer that is cut by rows send to the first of them."""
    for cluster in placement.clusters[stage.index]:
        size = len(cluster.rows(stage.shape.rows)) * (cluster.x_stop - cluster.x_start) * (cluster.c_stop - cluster.c_start) * unit
        for core, _ in cluster.peers:
            table[core, cluster.core] += size


def _columns(stage: Stage, cluster: Cluster, width: int) -> tuple[int, int]:
    if stage.kind in (Kind.VECTOR, Kind.MEAN):
        return (cluster.x_start, cluster.x_stop) if stage.kind is Kind.VECTOR else (0, width)
    window = stage.window
    first = cluster.x_start * window.stride[1] - window.padding[1]
    return first, (cluster.x_stop - 1) * window.stride[1] - window.padding[1] + window.reach(1)


def _row_share(stage: Stage, cluster: Cluster) -> float:
    """Share of the input rows that a cluster with a class of rows needs."""
    if stage.kind is Kind.MEAN:
        return 1.0
    return min(1.0, stage.window.reach(0) / (cluster.row_class[1] * stage.window.stride[0]))


def distances(hardware: CrossbarHardware) -> Array:
    """float64[n + chips, n + chips]: hops between positions; leaving a chip costs as much as its link is slower than a hop."""
    shape, per_chip = hardware.chip, hardware.chip.cores
    n = hardware.total_cores
    core = np.arange(n)
    row = np.concatenate([core % per_chip // shape.core_cols, np.zeros(hardware.chips, np.int64)])
    col = np.concatenate([core % per_chip % shape.core_cols, np.full(hardware.chips, shape.core_cols // 2)])
    chip = np.concatenate([core // per_chip, np.arange(hardware.chips)])
    table = np.abs(row[:, None] - row[None, :]) + np.abs(col[:, None] - col[None, :]).astype(np.float64)
    # The memory spans the first row: only the way down the column counts.
    table[n:, :n] = row[None, :n]
    table[:n, n:] = row[:n, None]
    far = chip[:, None] != chip[None, :]
    link = hardware.chip_link
    if link is not None and far.any():
        slower = hardware.noc.flit_bytes / max(hardware.noc.flit_cycles, 1) / link.bytes_per_cycle
        to_edge = row[:, None] + col[:, None] + row[None, :] + col[None, :]
        table[far] = to_edge[far] + max(4.0 * slower, 8.0)
    return table


def arranged(
    flow: Dataflow, placement: Placement, hardware: CrossbarHardware, unfolded: Mapping[int, Unfolded], period_cycles: float = 0.0
) -> Placement:  # fmt: skip
    """The placement with its cores moved so that traffic travels short ways.

    Where the time of a sample is given, cores on the mesh of one chip are moved on until no link is busy for more than
    `LINK_SHARE` of it, as far as that leads.
    """
    table = traffic(flow, placement, hardware, unfolded)
    fixed = np.zeros(table.shape[0], bool)
    fixed[hardware.total_cores :] = True
    position = arrange(table, distances(hardware), fixed)
    if period_cycles and hardware.chips == 1 and hardware.noc.topology == "mesh":
        position = _relieved(table, position, hardware, period_cycles)
    return relabelled(placement, position)


def _relieved(table: Array, position: Array, hardware: CrossbarHardware, period_cycles: float) -> Array:
    """Positions with fewer messages on the worst link."""
    n = hardware.total_cores
    cycles = table * (hardware.noc.flit_cycles / hardware.noc.flit_bytes)
    held = np.argsort(position[:n])  # the core at each position
    mesh = Mesh.of(cycles[np.ix_(held, held)], cycles[n, held], hardware.chip.core_rows, hardware.chip.core_cols)
    moved = relieve(mesh, LINK_SHARE * period_cycles)
    return np.concatenate([moved[position[:n]], position[n:]])


def relabelled(placement: Placement, position: Array) -> Placement:
    """The placement with core c moved to position[c]."""
    moved: defaultdict[int, int] = defaultdict(int, {i: int(p) for i, p in enumerate(position)})
    return Placement(
        [replace(g, core=moved[g.core]) for g in placement.groups],
        [
            [replace(c, core=moved[c.core], peers=tuple((moved[core], copies) for core, copies in c.peers)) for c in line]
            for line in placement.clusters
        ],
        list(placement.copies),
        dict(placement.wished_bytes),
    )
