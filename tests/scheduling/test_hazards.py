"""Orders that memories ask for, against sets of bytes."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import pytest
from oracles.memory_hazards import Touch, clashing_pairs, direct_edges, implied, unrolled
from oracles.timed_order import TimedOrder
from targets.conformance import compiled, machine, with_stages
from targets.crossbar.networks import codes, quantised

from pimloom.hardware import CrossbarHardware
from pimloom.kernels import hazards as kernel
from pimloom.program import Program
from pimloom.program.accesses import local_accesses
from pimloom.scheduling import local_hazards, split_rows
from pimloom.simulate import cost, engine
from pimloom.targets import Mode

Array = np.ndarray[Any, np.dtype[Any]]
Edges = list[tuple[int, int, int]]
CHUNK = 100


@final
@dataclass(frozen=True)
class Memory:
    """Streams of rows and what each reads and writes: (row, first byte, one past the last, whether it writes)."""

    streams: list[list[int]]
    accesses: list[tuple[int, int, int, bool]]
    n_bytes: int

    def touches(self) -> dict[int, Touch]:
        rows = [row for stream in self.streams for row in stream]
        return {
            row: Touch(*(frozenset(b for r, low, high, w in self.accesses if r == row and w == how for b in range(low, high))
                         for how in (False, True)))
            for row in rows
        }  # fmt: skip


def random_memory(seed: int) -> Memory:
    """Up to three processors; rows of no to three accesses, some of which overlap within the row."""
    rng = np.random.default_rng(seed)
    n_bytes, rows = int(rng.choice([3, 10, 40])), int(rng.integers(1, 14))
    bounds = np.sort(np.concatenate([[0, rows], rng.integers(0, rows + 1, int(rng.integers(0, 3)))])).tolist()
    accesses = list[tuple[int, int, int, bool]]()
    for row in range(rows):
        kinds = sorted(rng.random(int(rng.integers(0, 4))) < rng.choice([0.2, 0.5, 0.8]))  # reads before writes
        for is_write in kinds:
            low, high = sorted(rng.integers(0, n_bytes + 1, 2).tolist())
            accesses.append((row, low, max(high, low + 1) if low < n_bytes else high, bool(is_write)))
    accesses = [one for one in accesses if one[1] < one[2]]
    return Memory([list(range(a, b)) for a, b in itertools.pairwise(bounds)], accesses, n_bytes)


def conflicts(memory: Memory, room: int = 4096) -> tuple[int, Edges]:
    """What the kernel answers, and the pairs that it found; every byte is a cell."""
    processor = {row: p for p, stream in enumerate(memory.streams) for row in stream}
    cells = len(memory.streams) * memory.n_bytes
    base = [processor[row] * memory.n_bytes for row, *_ in memory.accesses]
    row, low, high = (np.array([one[i] for one in memory.accesses], np.int64) for i in range(3))
    is_write = np.array([one[3] for one in memory.accesses], np.int8)
    bounds = np.searchsorted(np.array([processor[r] for r in row.tolist()], np.int64), np.arange(len(memory.streams) + 1))
    following = np.arange(1, room + 1)
    following[-1] = -1
    source, target, distance = (np.empty(room, np.int64) for _ in range(3))
    report = np.zeros(1, np.int64)
    status = kernel.conflicts(
        row, low + np.array(base, np.int64), high + np.array(base, np.int64), is_write, bounds, cells, np.full(cells, -1, np.int64),
        np.zeros(cells, np.int8), np.full(cells, -1, np.int64), np.empty(room, np.int64), np.empty(room, np.int8), following,
        np.full(int(row.max(initial=0)) + 1, -1, np.int64), source, target, distance, report,
    )  # fmt: skip
    n = int(report[0])
    return status, list(zip(source[:n].tolist(), target[:n].tolist(), distance[:n].tolist(), strict=True))


@pytest.mark.parametrize("first", range(0, 1000, CHUNK))
def test_conflicts_are_the_direct_clashes_and_imply_all(first: int) -> None:
    """None is found twice, and what follows from them is what follows from all clashes of two rounds."""
    for seed in range(first, first + CHUNK):
        memory = random_memory(seed)
        status, edges = conflicts(memory)
        touches = memory.touches()
        clashing = clashing_pairs(memory.streams, touches)
        rows = [row for stream in memory.streams for row in stream]
        assert status == kernel.OK
        assert len(edges) == len(set(edges)), seed
        assert set(edges) == direct_edges(memory.streams, touches), seed
        assert implied(unrolled(edges), rows) == implied(clashing, rows), seed


def test_too_little_room_is_said() -> None:
    """For every size that is too small; and the same pairs come out with the first that is not."""
    memory = next(m for m in map(random_memory, range(100)) if len(m.accesses) > 8)
    _, edges = conflicts(memory)
    answers = [conflicts(memory, room) for room in range(1, 200)]
    enough = next(i for i, (status, _) in enumerate(answers) if status == kernel.OK)
    assert enough >= len(edges) - 1 > 0
    assert all(status == kernel.FULL for status, _ in answers[:enough])
    assert all(answer == (kernel.OK, edges) for answer in answers[enough:])


# -- programs -------------------------------------------------------------------------------------------------------

PROGRAMS = [
    (name, where, mode)
    for name in ("squeeze excite", "residual", "concat split slice", "tiny_transformer")
    for where, mode in (("one at a time", Mode.LATENCY), ("one at a time", Mode.THROUGHPUT))
]  # fmt: skip


def program(name: str, where: str, mode: Mode) -> Program:
    hardware = machine(where)
    if mode is Mode.LATENCY:
        return split_rows(compiled(quantised(name), hardware, mode))
    assert isinstance(hardware, CrossbarHardware)
    return split_rows(with_stages(quantised(name), hardware, 3))


def touched(program: Program) -> dict[int, Touch]:
    """The bytes that each row really touches in its own core's memory, noted while the program is carried out."""
    times = engine.run(cost(program).timing)
    machine = TimedOrder(program, times, [codes(program.graph, s) for s in range(program.samples)])
    found = dict[int, Touch]()
    for row in np.argsort(times.done[:, 0], kind="stable").tolist():
        core = int(program.rows["processor"][row])
        sides: dict[bool, set[int]] = {False: set(), True: set()}
        for memory, how, at in machine._accesses(row, 0):
            if memory == ("core", core):
                sides[how != "read"] |= set(at.tolist())
        found[row] = Touch(frozenset(sides[False]), frozenset(sides[True]))
    return found


def reached(program: Program) -> dict[int, Touch]:
    """From the first to the last byte that the operands of each row name."""
    sides = {row: (set[int](), set[int]()) for row in range(program.n_rows)}
    for row, low, high, is_write in zip(*(a.tolist() for a in local_accesses(program)), strict=True):
        sides[row][is_write].update(range(low, high))
    return {row: Touch(frozenset(reads), frozenset(writes)) for row, (reads, writes) in sides.items()}


@pytest.mark.parametrize(("name", "where", "mode"), PROGRAMS)
def test_accesses_cover_what_the_interpreter_touches(name: str, where: str, mode: Mode) -> None:
    made = program(name, where, mode)
    reach = reached(made)
    for row, touch in touched(made).items():
        assert touch.writes <= reach[row].writes, row
        assert touch.reads <= reach[row].reads | reach[row].writes, row


@pytest.mark.parametrize(("name", "where", "mode"), PROGRAMS)
def test_hazards_of_programs_are_direct_clashes_and_imply_every_clash_of_bytes(name: str, where: str, mode: Mode) -> None:
    """In the stream, round it of a row is sample it - stage: so are the distances counted."""
    made = program(name, where, mode)
    stage = made.rows["stage"].astype(int)
    source, target, distance = local_hazards(made)
    edges = list(zip(source.tolist(), target.tolist(), (distance - stage[source] + stage[target]).tolist(), strict=True))
    streams = [range(a, b) for a, b in itertools.pairwise(made.stream_ptr.tolist())]
    assert len(edges) == len(set(edges))
    assert set(edges) == direct_edges(streams, reached(made))
    rows = range(made.n_rows)
    assert clashing_pairs(streams, touched(made)) <= implied(unrolled(edges), rows)


def test_programs_with_stages_are_among_them() -> None:
    assert any(program(*case).rows["stage"].max() > 0 for case in PROGRAMS)
