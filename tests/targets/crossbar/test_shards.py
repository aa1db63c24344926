"""Layers cut by rows: who holds which channels, that nothing else changes, and what travels for it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import pytest
from targets.conformance import assert_conforms
from targets.crossbar.networks import conv, image, quantise

from pimloom.hardware import CrossbarHardware, load_hardware
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.graph import Graph
from pimloom.program import OPCODES
from pimloom.targets import Mode
from pimloom.targets.crossbar.bundles import Estimator
from pimloom.targets.crossbar.compile import lower
from pimloom.targets.crossbar.cores import Policy
from pimloom.targets.crossbar.lower import Options
from pimloom.targets.crossbar.mapper import Mapped, Mapper
from pimloom.targets.crossbar.placement import Cluster
from pimloom.targets.crossbar.shards import channels_read, cut_by_channels, shards_of
from pimloom.targets.crossbar.stages import Kind, analyse
from pimloom.targets.crossbar.traffic import traffic
from pimloom.targets.crossbar.unfold import unfold


@cache
def deep(channels: int, group: int = 1) -> Graph:
    """A convolution whose windows take many channels, behind one that makes them."""
    b = GraphBuilder(f"deep_{channels}", seed=3)
    h = b.add("Relu", conv(b, image(b, 4, 8, 8), channels, (1, 1)))
    return quantise(b.finish(conv(b, conv(b, h, 40, group=group), 4, (1, 1))))


def machine(local_bytes: int = 16384, crossbars: int = 64) -> CrossbarHardware:
    """A toy with arrays of 32 rows and such memories."""
    hardware = load_hardware("toy", [f"core.crossbars={crossbars}", f"core.local_memory.size_bytes={local_bytes}", "chip.core_rows=4"])
    assert isinstance(hardware, CrossbarHardware)
    return hardware


def clusters_of(mapped: Mapped, kernel: int) -> list[Cluster]:
    """Clusters of the stages with weights whose windows are so high."""
    stages = [s for s in mapped.flow.stages if s.kind is Kind.MATRIX and s.window.kernel[0] == kernel]
    return [cluster for stage in stages for cluster in mapped.placement.clusters[stage.index]]


def ranges_of(mapped: Mapped, cluster: Cluster) -> list[tuple[int, int]]:
    """Input channels that each core of a cluster reads."""
    groups, unfolded = mapped.placement.groups, mapped.unfolded[cluster.stage]
    held = (cluster.copies, *(copies for _, copies in cluster.peers))
    return [channels_read(unfolded, [groups[g] for copy in copies for g in copy]) for copies in held]


@pytest.mark.parametrize(("channels", "height", "expected"), [
    (96, 27, [(0, 96)]),  # 27 arrays in a column: nothing to cut
    (96, 18, [(0, 32), (32, 96)]),  # a tap takes three arrays, of 32 channels each: pieces of 9 and of 18
    (96, 9, [(0, 32), (32, 64), (64, 96)]),
    (96, 8, [(0, 96)] * 4),  # 9 taps do not fit into a piece: pieces of 7 in order, which go on over taps
    (40, 9, [(0, 40)] * 2),  # arrays of 32 rows go on over taps of 40 channels: 12 arrays in order
])  # fmt: skip
def test_pieces_have_channels_of_their_own_where_arrays_end_at_taps(
    channels: int, height: int, expected: list[tuple[int, int]]
) -> None:
    graph, hardware = deep(channels), machine()
    (stage,) = (s for s in analyse(graph).stages if s.kind is Kind.MATRIX and s.window.kernel == (3, 3))
    unfolded = unfold(stage, graph, hardware, "window")
    (block,) = unfolded.blocks
    for shard in shards_of(unfolded, 64, height):
        found: list[tuple[int, int]] = []
        for piece in shard.pieces:
            firsts = [block.bands[band].start % channels for _, band in piece]
            lasts = [first + block.bands[band].stop - block.bands[band].start for first, (_, band) in zip(firsts, piece, strict=True)]
            found.append((0, channels) if max(lasts) > channels else (min(firsts), max(lasts)))
        assert found == expected


def test_a_core_holds_the_same_rows_of_several_columns() -> None:
    """They share their inputs: 3 pieces of 9 arrays, 7 columns of which fit 64 arrays; 40 channels are 3 columns."""
    graph = deep(96)
    (stage,) = (s for s in analyse(graph).stages if s.kind is Kind.MATRIX and s.window.kernel == (3, 3))
    unfolded = unfold(stage, graph, machine(), "window")
    (shard,) = shards_of(unfolded, 64, 9)
    assert shard.sizes == (27, 27, 27)
    assert [len(one.pieces) for one in shards_of(unfolded, 20, 9)] == [3, 3]


@pytest.mark.parametrize(("channels", "most", "bands", "close"), [
    (96, 96.0, 0, 0), (96, 95.9, 18, 18), (96, 64.0, 18, 18), (96, 63.9, 9, 18), (96, 1.0, 9, 9), (160, 130.0, 36, 27), (32, 16.0, 0, 0),
    (40, 16.0, 0, 0),
])  # fmt: skip
def test_no_piece_takes_more_channels_than_it_may(channels: int, most: float, bands: int, close: int) -> None:
    """Arrays have 32 rows: 9 taps times so many of them; where it is close, two pieces do for 96 channels of which 63.9 have room."""
    graph = deep(channels)
    (stage,) = (s for s in analyse(graph).stages if s.kind is Kind.MATRIX and s.window.kernel == (3, 3))
    (block,) = unfold(stage, graph, machine(), "window").blocks
    assert cut_by_channels(block, most) == bands
    assert cut_by_channels(block, most, is_close=True) == close


@pytest.mark.parametrize("policy", [Policy.BALANCED, Policy.TIGHTEST, Policy.CUT])
def test_windows_that_a_memory_cannot_hold_are_cut_by_channels(policy: Policy) -> None:
    graph = deep(96)
    whole, little = (Mapper(graph, machine(size)).map(0.0, (policy,)) for size in (16384, 3072))
    assert whole is not None and little is not None
    assert all(ranges_of(whole, cluster) == [(0, 96)] for cluster in clusters_of(whole, 3))
    for cluster in clusters_of(little, 3):
        found = ranges_of(little, cluster)
        assert len(found) > 1
        assert found[0][0] == 0 and found[-1][1] == 96
        assert all(before[1] == after[0] for before, after in itertools.pairwise(found))


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("policy", [Policy.TIGHTEST, Policy.CUT_BALANCED])
@pytest.mark.parametrize(("group", "local_bytes"), [(1, 4096), (2, 2500)])
def test_what_is_cut_by_channels_computes_the_same(mode: Mode, policy: Policy, group: int, local_bytes: int) -> None:
    graph, hardware = deep(128, group), machine(local_bytes)
    mapper = Mapper(graph, hardware, mode)
    mapped = mapper.map(0.0, (policy,))
    assert mapped is not None
    assert all(len(set(ranges_of(mapped, cluster))) > 1 for cluster in clusters_of(mapped, 3))
    program = lower(mapper, mapped, Options(mode=mode.value, samples=1 if mode is Mode.LATENCY else 3))
    assert (program.rows["opcode"] == OPCODES["add_partial"]).any()
    assert_conforms(graph, program)


def test_pieces_ask_cores_for_room_for_their_own_channels_only() -> None:
    graph, hardware = deep(96), machine(3072)
    (stage,) = (s for s in analyse(graph).stages if s.kind is Kind.MATRIX and s.window.kernel == (3, 3))
    mapped = Mapper(graph, hardware).map(0.0, (Policy.CUT_BALANCED,))
    assert mapped is not None
    (cluster,) = clusters_of(mapped, 3)
    assert ranges_of(mapped, cluster) == [(0, 32), (32, 64), (64, 96)]
    estimator = Estimator(mapped.flow, hardware, mapped.unfolded)
    whole, third = (estimator.wish(stage, (1, 1), mapped.splits[stage.index], 40, 27, 1, reads) for reads in (0, 32))
    assert third.in_bytes == whole.in_bytes / 3
    assert mapped.placement.wished_bytes[stage.index] == pytest.approx(3 * third.memory_bytes)
    assert third.memory_bytes < whole.memory_bytes / 2


def test_partial_sums_count_as_traffic_and_inputs_once() -> None:
    """Cores of a cut layer get their channels only, together as much as one core that takes all, and send 8 x 8 x 40 sums of 4 bytes."""
    graph, hardware = deep(96), machine(3072, 96)
    mapped = Mapper(graph, hardware, arranges=False).map(0.0, (Policy.TIGHTEST,))
    assert mapped is not None
    (cluster,) = clusters_of(mapped, 3)
    assert cluster.peers
    whole = [[replace(one, peers=()) for one in line] for line in mapped.placement.clusters]
    table, bare = (
        traffic(mapped.flow, replace(mapped.placement, clusters=clusters), hardware, mapped.unfolded)
        for clusters in (mapped.placement.clusters, whole)
    )
    assert (table - bare).sum() == len(cluster.peers) * 64 * 40 * 4
    made = sum(table[maker.core, core] for maker in mapped.placement.clusters[0] for core, _ in cluster.peers)
    assert made == sum(64 * (high - low) for low, high in ranges_of(mapped, cluster)[1:])
