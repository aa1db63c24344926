"""Shards and placement: every column and band once, no core over its capacity, every output made once."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from targets.conformance import MACHINES, machine
from targets.crossbar.networks import MADE, TINY, quantised

from pimloom.errors import CapacityError
from pimloom.hardware import load_hardware
from pimloom.targets.crossbar.bundles import Shelf, Wish
from pimloom.targets.crossbar.cores import Policy
from pimloom.targets.crossbar.mapper import Mapper, map_network
from pimloom.targets.crossbar.placement import Placement
from pimloom.targets.crossbar.shards import CLOSE_FILL, GOOD_FILL, fitting_height, shards_of
from pimloom.targets.crossbar.stages import Dataflow, Kind, analyse
from pimloom.targets.crossbar.traffic import distances, relabelled, traffic
from pimloom.targets.crossbar.unfold import unfold

TOY = load_hardware("toy")
MAPPED = [n for n in (*MADE, *TINY) if n != "full constant"]


@pytest.mark.parametrize(("capacity", "height"), [(1, 0), (2, 0), (3, 0), (8, 0), (10, 0), (64, 0), (8, 1), (10, 4), (64, 3), (64, 9)])
@pytest.mark.parametrize("name", ["wide", "wide conv", "grouped", "tiny_cnn", "multiplier"])
def test_shards_hold_every_array_once(name: str, capacity: int, height: int) -> None:
    graph = quantised(name)
    for stage in (s for s in analyse(graph).stages if s.kind is Kind.MATRIX):
        unfolded = unfold(stage, graph, TOY)
        shards = shards_of(unfolded, capacity, height)
        held: Counter[tuple[int, int, int]] = Counter()
        for shard in shards:
            assert all(0 < size <= capacity for size in shard.sizes)
            total = 0
            for block, low, high in shard.units:
                for owner, band in (pair for piece in shard.pieces for pair in piece if pair[0] == block):
                    held.update((owner, band, tile) for tile in range(low, high))
                    total += high - low
            assert total == sum(shard.sizes)
        everything = {
            (b, band, tile)
            for b, block in enumerate(unfolded.blocks) for band in range(len(block.bands)) for tile in range(block.n_tiles)
        }  # fmt: skip
        assert held == Counter(everything)
        ends = [0, *(s.out_stop for s in shards)]
        assert [s.out_start for s in shards] == ends[:-1] and ends[-1] == stage.shape.channels


def outputs_made(flow: Dataflow, placement: Placement) -> dict[int, np.ndarray]:
    """Per stage, how many clusters make each output element: [rows, width, channels]."""
    made: dict[int, np.ndarray] = {}
    for stage in flow.stages:
        if stage.kind is Kind.GENERAL:
            continue
        count = np.zeros((stage.shape.rows, stage.shape.width, stage.shape.channels), int)
        for cluster in placement.clusters[stage.index]:
            rows = list(cluster.rows(stage.shape.rows)) if stage.kind is not Kind.MEAN else [0]
            for row in rows:
                count[row, cluster.x_start : cluster.x_stop, cluster.c_start : cluster.c_stop] += 1
        made[stage.index] = count
    return made


@pytest.mark.parametrize("where", ["toy", "many small cores", "one at a time", "puma"])
@pytest.mark.parametrize("name", MAPPED)
def test_clusters_make_every_output_once_within_capacity(name: str, where: str) -> None:
    hardware = machine(where)
    graph = quantised(name, hardware.precision.weight_bits, hardware.precision.activation_bits)
    mapped = map_network(graph, hardware)
    used: Counter[int] = Counter()
    for group in mapped.placement.groups:
        used[group.core] += group.crossbars
    assert max(used.values(), default=0) <= hardware.core.crossbars
    assert all(0 <= core < hardware.total_cores for core in used)
    for count in outputs_made(mapped.flow, mapped.placement).values():
        assert (count == 1).all()
    groups = mapped.placement.groups
    for line in mapped.placement.clusters:
        for cluster in line:
            assert all(groups[g].core == cluster.core for copy in cluster.copies for g in copy)
            assert all(groups[g].core == core for core, copies in cluster.peers for copy in copies for g in copy)


def test_rows_are_split_over_cores_with_peers() -> None:
    """A column of arrays that is taller than a core is spread over several, which add their sums."""
    mapped = map_network(quantised("wide"), machine("many small cores"))
    first = mapped.placement.clusters[0]
    assert all(len(cluster.peers) == 2 for cluster in first)  # 700 rows are 22 arrays; a core has 10
    assert len({c.core for c in first} | {core for c in first for core, _ in c.peers}) >= 3


def test_copies_share_the_weights_of_repeated_layers() -> None:
    graph = quantised("shared weight")
    mapped = map_network(graph, machine("toy"))
    keys = Counter((g.key, g.block, g.band, g.column_start) for g in mapped.placement.groups)
    copies = {mapped.copies[s.index] for s in mapped.flow.stages if s.kind is Kind.MATRIX}
    assert len(copies) == 1 and set(keys.values()) == copies


def test_relabelling_moves_groups_and_clusters_alike() -> None:
    hardware = machine("many small cores")
    mapped = map_network(quantised("wide"), hardware)
    turned = np.roll(np.arange(hardware.total_cores), 7)
    moved = relabelled(mapped.placement, turned)
    for before, after in zip(mapped.placement.groups, moved.groups, strict=True):
        assert after.core == turned[before.core]
    for old, new in zip(mapped.placement.clusters, moved.clusters, strict=True):
        assert [c.core for c in new] == [turned[c.core] for c in old]
        assert [core for c in new for core, _ in c.peers] == [turned[core] for c in old for core, _ in c.peers]


def test_distances_are_symmetric_and_count_hops() -> None:
    table = distances(TOY)
    assert np.array_equal(table, table.T)
    assert table[0, 3] == 2 and table[0, 1] == 1 and table[4, 0] == 0 and table[4, 2] == 1
    far = distances(load_hardware("isscc23-16"))
    assert np.array_equal(far, far.T) and far[0, 4] >= 8 > far[0, 3]


def test_traffic_is_what_the_readers_need() -> None:
    """Two linear layers on two cores: the second reads every element that the first makes."""
    hardware = machine("toy")
    mapped = map_network(quantised("tiny_mlp"), hardware)
    table = traffic(mapped.flow, mapped.placement, hardware, mapped.unfolded)
    assert table.shape == (hardware.total_cores + 1,) * 2 and (table >= 0).all()
    memory = hardware.total_cores
    assert table[memory].sum() == 16  # input bytes, in; only inputs are loaded
    assert mapped.flow.stages[0].inputs[0].value == "x"


def test_too_few_crossbars_are_said_in_numbers() -> None:
    hardware = load_hardware("toy", ["core.crossbars=1"])
    advice = r"use (at least \d+ chips \(--chips \d+\)|more cores \(--set .*\d+ chips together), fewer weight bits, or a larger machine"
    with pytest.raises(CapacityError, match=rf"^crossbars: \d+ needed, 4 available on 'toy'; {advice}$") as caught:
        map_network(quantised("wide"), hardware)
    graph = quantised("wide")
    needed = sum(unfold(s, graph, hardware).crossbars for s in analyse(graph).stages if s.kind is Kind.MATRIX)
    assert (caught.value.needed, caught.value.available) == (needed, 4)


def test_mapping_is_deterministic() -> None:
    for name in (n for n in MACHINES if machine(n).kind == "crossbar"):
        hardware = machine(name)
        graph = quantised("tiny_cnn", hardware.precision.weight_bits, hardware.precision.activation_bits)
        one, two = map_network(graph, hardware), map_network(graph, hardware)
        assert one.placement == two.placement and one.copies == two.copies


# -- packing --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tallest", "room", "height"), [
    (72, 96, 24), (196, 96, 40), (32, 96, 96), (27, 96, 96), (50, 96, 17), (5, 4, 2), (3, 4, 2), (4, 4, 4), (9, 4, 2),
])  # fmt: skip
def test_tall_columns_are_cut_to_fill_cores(tallest: int, room: int, height: int) -> None:
    unfolded = SimpleNamespace(blocks=[SimpleNamespace(bands=range(tallest))])
    found = fitting_height(unfolded, room)  # pyright: ignore[reportArgumentType]
    assert found == height
    held = min(found, tallest)
    assert held * (room // held) / room >= min(GOOD_FILL, max(h * (room // h) / room for h in range(1, min(tallest, room) + 1)))
    close = min(fitting_height(unfolded, room, CLOSE_FILL), tallest)  # pyright: ignore[reportArgumentType]
    assert close <= held and close * (room // close) >= held * (room // held)


def test_what_does_not_pack_whole_is_cut() -> None:
    graph, hardware = quantised("wide"), machine("many small cores")
    mapper = Mapper(graph, hardware)
    copies = dict.fromkeys(mapper.unfolded, 1)
    mapped = mapper.place(copies, Policy.CUT)
    assert mapped is not None
    for line in mapped.placement.clusters:
        for cluster in line:
            cores = [cluster.core, *(core for core, _ in cluster.peers)]
            assert len(set(cores)) == len(cores)


def test_a_bundle_goes_where_it_strains_least() -> None:
    shelf = Shelf(machine("toy"), Wish(8.0, 100.0, 50.0, 50.0, 50.0, 50.0))
    first = shelf.take(Wish(1.0, 60.0, 0.0, 0.0))
    assert first == 0
    assert shelf.take(Wish(1.0, 60.0, 0.0, 0.0)) == 1
    assert shelf.take(Wish(1.0, 0.0, 40.0, 0.0), besides=(0, 1, 2)) == 3
    assert shelf.take(Wish(9.0, 0.0, 0.0, 0.0)) is None
    assert max(shelf.strains()) == 0.8
