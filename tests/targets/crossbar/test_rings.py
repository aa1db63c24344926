"""Rings keep the order of work; the timetable keeps needs, servers and buffers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from targets.conformance import compiled, machine
from targets.crossbar.networks import quantised

from pimloom.errors import CapacityError, InternalError
from pimloom.hardware import load_hardware
from pimloom.program import OPCODES
from pimloom.simulate import cycles
from pimloom.targets import Mode
from pimloom.targets.crossbar.compile import lower
from pimloom.targets.crossbar.lower import Lowering, Options
from pimloom.targets.crossbar.mapper import Mapper
from pimloom.targets.crossbar.rings import Ring
from pimloom.targets.crossbar.timetable import Task, fill


def random_ring(seed: int) -> Ring:
    """A ring whose rows arrive in order and are read in windows, in order, some rows not at all."""
    rng = np.random.default_rng(seed)
    n, reach, stride = int(rng.integers(1, 20)), int(rng.integers(1, 4)), int(rng.integers(1, 4))
    ring = Ring(0, "x", 0, 1, -1, 5, 0, 3, n)
    clock = 0.0
    for task, first in enumerate(range(0, max(n - reach + 1, 1), stride)):
        clock += float(rng.integers(1, 9))
        ring.note_reader(first, min(first + reach - 1, n - 1), 0, task, clock, clock + float(rng.integers(1, 25)))
    for row in ring.needed():
        ring.arrival[row] = ring.first_use[row] - float(rng.random())
    return ring


@pytest.mark.parametrize("slack", [0, 2, 9])
def test_no_row_arrives_before_its_slot_is_free(slack: int) -> None:
    for seed in range(200):
        ring = random_ring(seed)
        ring.choose_depth(slack)
        assert ring.depth >= ring.span
        for row in ring.needed():
            before = ring.before(row)
            assert before is not None
            if before[1] == 0:
                assert before[0] < row and before[0] % ring.depth == row % ring.depth
                assert ring.last_use[before[0]] < ring.arrival[row], seed
        rows = ring.needed()
        assert sorted(r for slot in ring.occupants for r in slot) == rows


def test_least_depth_is_the_least() -> None:
    for seed in range(200):
        ring = random_ring(seed)
        ring.choose_depth(0)
        rows = ring.needed()
        for depth in range(ring.span, min(ring.depth, rows[-1] - rows[0] + 1)):
            clashes = [r for r in rows if r - depth in rows and ring.last_use[r - depth] >= ring.arrival[r]]
            if not clashes:
                # Rows further apart may share a slot only through a chain that is in order too.
                assert any(
                    max(ring.last_use[q] for q in rows if q < r and q % depth == r % depth) >= ring.arrival[r]
                    for r in rows if any(q < r and q % depth == r % depth for q in rows)
                ), seed  # fmt: skip


def test_the_first_row_of_a_sample_follows_the_last_of_the_one_before() -> None:
    ring = random_ring(3)
    ring.set_depth(2)
    first, slot = ring.needed()[0], ring.needed()[0] % 2
    assert ring.before(first) == (ring.occupants[slot][-1], 1)


def test_offsets_stay_inside_and_apart() -> None:
    ring = random_ring(1)
    ring.set_depth(3)
    offsets = {ring.offset(row, x) for row in range(3) for x in range(-1, 5)}
    assert len(offsets) == 18 and min(offsets) == 0 and max(offsets) + ring.vector_bytes == ring.size_bytes


def test_windowed_slots_hold_one_task_each() -> None:
    ring = Ring(0, "x", 0, 2, 0, 8, 0, 4, 10, is_windowed=True, window_columns=5, span=3)
    ring.set_depth(2)
    assert ring.window_bytes == 3 * 5 * 8 and ring.size_bytes == 2 * ring.window_bytes
    ring.focus(3, 4, 2)
    offsets = [ring.offset(row, x) for row in (4, 5, 6) for x in range(2, 7)]
    assert offsets == list(range(ring.window_bytes, 2 * ring.window_bytes, 8))


# -- tight memories -----------------------------------------------------------------------------------------------------


def loads(name: str, where: str) -> int:
    program = compiled(quantised(name), machine(where))
    return int((program.rows["opcode"] == OPCODES["load"]).sum())


def test_tight_memories_load_rows_again() -> None:
    assert loads("tiny_cnn", "little memory") > 2 * loads("tiny_cnn", "toy")


@pytest.mark.parametrize("size_bytes", [512, 768, 1024, 1536])
def test_nothing_is_known_of_rings_that_were_not_taken(size_bytes: int) -> None:
    """A ring that gains nothing as a window is dropped; what was noted under its identity would be taken for another's."""
    hardware = load_hardware("toy", ["core.crossbars=64", f"core.local_memory.size_bytes={size_bytes}"])
    mapper = Mapper(quantised("tiny_cnn"), hardware)
    mapped = mapper.first()
    lowering = Lowering(mapped.flow, hardware, mapped.unfolded, mapped.placement, Options(), {}, range(hardware.total_cores))
    lowering.plan()
    windowed = {id(ring) for ring in lowering.memory.rings if ring.is_windowed}
    assert windowed == lowering.memory.windows.keys() and lowering.memory.padding.keys() <= windowed


def test_memory_that_cannot_do_is_said_in_numbers() -> None:
    hardware = load_hardware("toy", ["core.crossbars=64", "core.local_memory.size_bytes=256"])
    text = r"^local memory of core \d+ \(bytes\): \d+ needed, 256 available on 'toy'; use a machine with more local memory per core"
    with pytest.raises(CapacityError, match=text) as caught:
        compiled(quantised("wide"), hardware)
    assert caught.value.needed > 256


def test_what_no_single_vector_fits_is_refused_before_anything_is_timed() -> None:
    """What a core needs at least is below what any plan takes of it, and enough to refuse a core that is far too small."""
    small = load_hardware("toy", ["core.crossbars=64", "core.local_memory.size_bytes=256"])
    mapper = Mapper(quantised("wide"), small)
    mapped = mapper.first()
    windowed = range(small.total_cores)
    with pytest.raises(CapacityError, match=r"local memory of core \d+ \(bytes\): \d+ needed, 256 available") as caught:
        Lowering(mapped.flow, small, mapped.unfolded, mapped.placement, Options(), {}, windowed)
    full = Lowering(mapped.flow, small, mapped.unfolded, mapped.placement, Options()).plan()
    assert 256 < caught.value.needed <= max(full.values())


def test_global_memory_that_cannot_do_is_said_in_numbers() -> None:
    hardware = load_hardware("toy", ["core.crossbars=64", "global_memory.size_bytes=1024"])
    text = r"^global memory of chip 0 \(bytes\): \d+ needed, 1024 available on 'toy'; use a smaller batch"
    with pytest.raises(CapacityError, match=text):
        compiled(quantised("tiny_cnn"), hardware, samples=9)


# -- timetable ------------------------------------------------------------------------------------------------------------


def random_tasks(seed: int) -> list[list[Task]]:
    """Layers in a chain: row y of one needs rows y and y + 1 of the one before."""
    rng = np.random.default_rng(seed)
    rows, layers = int(rng.integers(1, 9)), int(rng.integers(1, 5))
    lines: list[list[Task]] = []
    for layer in range(layers):
        parts = int(rng.integers(1, 3))
        for part in range(parts):
            line = []
            for row in range(rows):
                needs = ((f"v{layer}", row, min(row + 1, rows - 1)),)
                busy, tail = float(rng.integers(1, 20)), float(rng.integers(0, 9))
                line.append(Task(len(lines), row, part, part + 1, needs, (f"v{layer + 1}", row), busy, tail))
            lines.append(line)
    return lines


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("buffers", [1, 2])
def test_timetable_keeps_needs_servers_and_buffers(serial: bool, buffers: int) -> None:
    for seed in range(60):
        lines = random_tasks(seed)
        arrival = [10.0 * y for y in range(len(lines[0]))]
        delays = {f"v{layer}": float(layer % 3) for layer in range(1, 9)}
        servers = [cluster % 2 for cluster in range(len(lines))] if serial else None
        fill(lines, servers, {"v0": arrival}, delays, [buffers] * len(lines))
        ends: dict[tuple[str, int], float] = {}
        for task in (t for line in lines for t in line):
            assert task.makes is not None
            ends[task.makes] = max(ends.get(task.makes, 0.0), task.end)
            assert task.end == pytest.approx(task.start + task.busy + task.tail)
        for line in lines:
            for index, task in enumerate(line):
                for value, first, last in task.needs:
                    rows = range(first, last + 1)
                    assert task.start >= max(arrival[y] if value == "v0" else ends[value, y] + delays[value] for y in rows)
                if index >= buffers:
                    assert task.start > line[index - buffers].end
        by_server: dict[int, list[Task]] = {}
        for cluster, line in enumerate(lines):
            by_server.setdefault(servers[cluster] if servers else cluster, []).extend(line)
        for tasks in by_server.values():
            tasks.sort(key=lambda t: t.start)
            assert all(b.start >= a.start + a.busy for a, b in itertools.pairwise(tasks))


def test_a_circle_of_needs_is_a_fault_of_ours() -> None:
    lines = [
        [Task(0, 0, 0, 1, (("b", 0, 0),), ("a", 0), 1.0, 0.0)],
        [Task(1, 0, 0, 1, (("a", 0, 0),), ("b", 0), 1.0, 0.0)],
    ]
    with pytest.raises(InternalError, match="the timetable placed 0 of 2 tasks"):
        fill(lines, None, {}, {}, [1] * len(lines))


# -- periods --------------------------------------------------------------------------------------------------------------


def test_samples_overlap_by_a_period() -> None:
    """With stages, early layers of one sample run between late layers of others: the period falls, the numbers stay."""
    graph, hardware = quantised("tiny_cnn"), machine("toy")
    mapper = Mapper(graph, hardware, Mode.THROUGHPUT)
    mapped = mapper.first()
    periods = {}
    for has_periods in (False, True):
        program = lower(mapper, mapped, Options(mode="throughput", samples=6, has_periods=has_periods))
        assert (program.rows["stage"].max() > 0) == has_periods
        periods[has_periods] = cycles(program)[1]
    assert periods[True] < 0.97 * periods[False]
