"""What cores wait for in one pass: legal programs pass, deadlocks name their circle, events are counted as they come in time."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles.pimsim_machine import run
from program.pimsim.pimsim_files import write_architecture, write_program

from pimloom.errors import ProgramError, SimulationError
from pimloom.program import Program
from pimloom.program.pimsim import PimsimProgram, Quirks, pair_messages, read_architecture, read_program
from pimloom.program.pimsim.convert import to_program
from pimloom.program.pimsim.early import early_events
from pimloom.program.pimsim.machine import arrivals
from pimloom.program.pimsim.opcodes import CODE
from pimloom.program.pimsim.order import passage
from pimloom.simulate import cost, engine, reference, simulate

SETBW = {"op": "setbw", "ibiw": 8, "obiw": 8}
WORK = {"op": "vrelu", "len": 16}
LOAD = {"op": "sldi", "rd": 0, "imm": 0}
SERIAL = {"chip_config.core_config.rob_size": 1}
Lists = Mapping[int, Sequence[dict[str, Any]]]


def sync(core: int, register: int = 0) -> dict[str, Any]:
    return {"op": "sync", "core": core, "event_register": register}


def wait(value: int = 1, register: int = 0) -> dict[str, Any]:
    return {"op": "wait", "event_register": register, "wait_value": value}


def send(core: int) -> dict[str, Any]:
    return {"op": "send", "core": core, "size": 4}


def recv(core: int) -> dict[str, Any]:
    return {"op": "recv", "core": core, "size": 4}


def read(folder: Path, lists: Lists) -> PimsimProgram:
    return read_program(write_program(folder, {k: [SETBW, *one, WORK] for k, one in lists.items()}))


def imported(folder: Path, lists: Lists) -> Program:
    return to_program(read(folder, lists), read_architecture(write_architecture(folder, SERIAL)), name="p", machine="m")


def events(program: Program) -> list[tuple[int, int, int, int]]:
    """(core, row of its list) of each wait, and of the sync that it takes; rows without `setbw`."""
    target = np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))
    core = program.rows["processor"]
    pairs = [(t, s) for t, s in zip(target.tolist(), program.dep_row.tolist(), strict=True) if core[t] != core[s]]
    place = np.arange(program.n_rows) - program.stream_ptr[core]
    return sorted((int(core[t]), int(place[t]), int(core[s]), int(place[s])) for t, s in pairs)


@pytest.mark.parametrize("turn", range(3))
def test_events_of_several_cores_count_whichever_they_are(turn: int, tmp_path: Path) -> None:
    """Core a gives its event early though late in its list, b after a message that c sends behind its first wait."""
    a, b, c = ((k + turn) % 3 for k in range(3))
    lists: Lists = {a: [*[LOAD] * 50, sync(c)], b: [recv(c), sync(c)], c: [wait(), send(b), wait()]}
    program = imported(tmp_path, lists)
    assert events(program) == [(c, 0, a, 0), (c, 2, b, 1)]
    oracle = run(read(tmp_path, lists), read_architecture(write_architecture(tmp_path, SERIAL)), sim_mode=1)
    assert abs(simulate(program).latency_cycles - oracle.latency_ns) <= 20  # the flits of two events, which take no time here


@pytest.mark.parametrize("turn", range(3))
def test_events_count_in_the_order_of_time(turn: int, tmp_path: Path) -> None:
    """Core a is at place 61 of its list in cycle 62; b at place 2, after some hundred."""
    a, b, c = ((k + turn) % 3 for k in range(3))
    long = {"op": "vrelu", "len": 2000}
    lists: Lists = {a: [*[LOAD] * 60, sync(c)], b: [long, sync(c)], c: [wait(), long, wait()]}
    program = imported(tmp_path, lists)
    assert events(program) == [(c, 0, a, 0), (c, 2, b, 1)]
    oracle = run(read(tmp_path, lists), read_architecture(write_architecture(tmp_path, SERIAL)), sim_mode=1)
    assert abs(simulate(program).latency_cycles / oracle.latency_ns - 1) < 0.01


def test_what_cores_wait_for_delays_their_events(tmp_path: Path) -> None:
    """Core 1 gives its event right behind a message that core 3 sends late, so that of core 0 is the first."""
    lists: Lists = {
        0: [{"op": "vrelu", "len": 400}, sync(2)],
        1: [recv(3), sync(2)],
        2: [wait(), WORK, wait()],
        3: [{"op": "vrelu", "len": 2000}, send(1)],
    }
    assert events(imported(tmp_path, lists)) == [(2, 0, 0, 1), (2, 2, 1, 1)]
    long = {"op": "vrelu", "len": 2000}
    later: Lists = {**lists, 0: [{"op": "vrelu", "len": 2800}, sync(2)], 1: [recv(3), long, sync(2)]}
    assert events(imported(tmp_path, later)) == [(2, 0, 0, 1), (2, 2, 1, 2)]
    later = {**later, 3: [long, sync(0, 7), send(1)]}  # now core 1 is there first
    assert events(imported(tmp_path, later)) == [(2, 0, 0, 1), (2, 2, 1, 2)]
    later = {**later, 1: [wait(register=5), long, sync(2)], 3: [long, sync(1, 5)]}
    assert events(imported(tmp_path, later)) == [(1, 0, 3, 1), (2, 0, 0, 1), (2, 2, 1, 2)]
    lists = {**lists, 1: [wait(register=5), sync(2)], 3: [{"op": "vrelu", "len": 2000}, sync(1, 5)]}
    assert events(imported(tmp_path, lists)) == [(1, 0, 3, 1), (2, 0, 0, 1), (2, 2, 1, 1)]


def test_a_wait_takes_as_much_as_its_value_says(tmp_path: Path) -> None:
    lists: Lists = {0: [sync(1), sync(1), sync(1), sync(1, 3)], 1: [wait(2), wait(0), wait(1), wait(1, 3)]}
    assert events(imported(tmp_path, lists)) == [(1, 0, 0, 0), (1, 0, 0, 1), (1, 2, 0, 2), (1, 3, 0, 3)]


@pytest.mark.parametrize(
    ("lists", "sentence"),
    [
        ({0: [sync(1)], 1: [wait(2)]}, r"core 1, instruction 1 \(wait\): event register 0 gets 1 sync in all, 2 are waited for; it would"),
        ({0: [WORK], 1: [wait(1, 9)]}, r"core 1, instruction 1 \(wait\): event register 9 gets 0 sync in all, 1 is waited for; it would"),
        ({0: [sync(1), sync(1)], 1: [wait(2), WORK, wait(1)]},
         r"core 1, instruction 3 \(wait\): event register 0 gets 2 sync in all, 3 are waited for"),
        # There are too few for a smaller register, too, but later in the list.
        ({0: [sync(1, 7), sync(1, 1)], 1: [wait(1, 7), wait(1, 7), wait(2, 1)]},
         r"core 1, instruction 2 \(wait\): event register 7 gets 1 sync in all, 2 are waited for"),
        ({0: [wait(1, 2), sync(1, 9)], 1: [WORK, wait(1, 9), sync(0, 2)]},
         r"deadlock: core 0, instruction 1 \(wait\) waits for core 1, instruction 3 \(sync\); "
         r"core 1, instruction 2 \(wait\) waits for core 0, instruction 2 \(sync\)$"),
        # The first event was given, the second is what is missing.
        ({0: [sync(1), recv(1), sync(1)], 1: [wait(2), send(0)]},
         r"deadlock: core 0, instruction 2 \(recv\) waits for core 1, instruction 2 \(send\); "
         r"core 1, instruction 1 \(wait\) waits for core 0, instruction 3 \(sync\)$"),
        # Cores 0 and 1 wait, but not in a circle.
        ({0: [recv(1)], 1: [recv(2), send(0)], 2: [recv(3), send(1), send(3)], 3: [recv(2), send(2)]},
         r"deadlock: core 2, instruction 1 \(recv\) waits for core 3, instruction 2 \(send\); "
         r"core 3, instruction 1 \(recv\) waits for core 2, instruction 3 \(send\)$"),
        ({k: [send((k + 1) % 4), recv((k - 1) % 4)] for k in range(4)},
         "deadlock: " + "; ".join(rf"core {k}, instruction 1 \(send\) waits for core {(k + 1) % 4}, instruction 2 \(recv\)"
                                  for k in range(4)) + "$"),
    ],
)  # fmt: skip
def test_who_waits_forever_is_named(lists: Lists, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ProgramError, match=rf"program\.json: {sentence}"):
        imported(tmp_path, lists)


def test_a_long_circle_is_shortened_in_its_middle(tmp_path: Path) -> None:
    n = 7
    lists = {k: [SETBW, send((k + 1) % n), recv((k - 1) % n), WORK] for k in range(n)}
    table = read_program(write_program(tmp_path, lists, cores=n))
    said = [f"core {k}, instruction 1 (send) waits for core {(k + 1) % n}, instruction 2 (recv)" for k in range(n)]
    with pytest.raises(ProgramError) as caught:
        passage(table, pair_messages(table))
    assert str(caught.value).endswith(f"program.json: deadlock: {'; '.join([*said[:3], 'and 3 more', said[-1]])}")


def random_events(rng: random.Random, *, is_shared: bool) -> dict[int, list[dict[str, Any]]]:
    """Lists that pass in at least one way: each step is added to all cores that it is about at once."""
    n = 4
    lists: dict[int, list[dict[str, Any]]] = {k: [] for k in range(n)}
    for _ in range(rng.randrange(6, 20)):
        one, other = rng.sample(range(n), 2)
        kind = rng.random()
        if kind < 0.3:
            lists[one] += [{"op": "vrelu", "len": rng.choice([4, 100, 1000])}, *[LOAD] * rng.choice([0, 0, 30])]
        elif kind < 0.5:
            lists[one].append(send(other))
            lists[other].append(recv(one))
        else:
            register = 0 if is_shared else one
            times = rng.choice([1, 1, 2])
            lists[one] += [sync(other, register)] * times
            lists[other].append(wait(times, register))
    return lists


def jumbled(lists: Lists, rng: random.Random) -> Lists:
    """The same with other times between what cores wait for."""
    return {k: [i for one in part for i in (*[LOAD] * rng.choice([0, 0, 5, 200]), one)] for k, part in lists.items()}


@pytest.mark.parametrize("is_shared", [False, True])
def test_random_programs_with_events_pass_and_doubts_are_told(is_shared: bool, tmp_path: Path) -> None:
    """What passes where a `wait` takes enough is taken; what hangs where it needs equality is doubted, at any speed of cores."""
    architecture, doubts, hangs, passes = read_architecture(write_architecture(tmp_path, SERIAL)), 0, 0, 0
    for seed in range(60):
        rng = random.Random(seed)
        lists = random_events(rng, is_shared=is_shared)
        is_doubted = bool(early_events(read(tmp_path, lists)))
        doubts += is_doubted
        found: set[tuple[tuple[int, int, int, int], ...]] = set()
        for times in (lists, jumbled(lists, rng), jumbled(lists, rng)):
            table = read(tmp_path, times)
            program = to_program(table, architecture, name="p", machine="m")
            found.add(tuple(events(program)))
            counted = run(table, architecture, quirks=replace(Quirks(), wait_needs_equality=False))
            passes += abs(simulate(program).latency_cycles / counted.latency_ns - 1) < 0.1
            try:
                run(table, architecture)
            except SimulationError:
                assert is_doubted
                hangs += 1
        assert len(found) == 1 or is_doubted  # without doubt nobody else can take an event
    assert 10 < doubts < 55
    assert hangs > 10
    assert passes > 0.9 * 180


def test_engines_agree_on_events(tmp_path: Path) -> None:
    for seed in range(10):
        timing = cost(imported(tmp_path, random_events(random.Random(seed), is_shared=True))).timing
        assert np.array_equal(engine.run(timing).done, reference.run(timing).done)


def test_arrivals_are_when_units_begin_on_an_idle_core(tmp_path: Path) -> None:
    """16 elements take 2 + 8 + 3 cycles, and two until the next one is dispatched."""
    program = imported(tmp_path, {0: [WORK, LOAD, LOAD], 2: [LOAD]})
    oracle = run(read(tmp_path, {0: [WORK, LOAD, LOAD], 2: [LOAD]}), read_architecture(write_architecture(tmp_path, SERIAL)))
    assert arrivals(program).tolist() == [int(t) + 1 for t in oracle.dispatch_ns]


def test_lists_pass_in_an_order_that_all_agree_with(tmp_path: Path) -> None:
    """What a row waits for comes before it in the order of a passage."""
    for seed in range(30):
        table = read(tmp_path, random_events(random.Random(seed), is_shared=True))
        partner = pair_messages(table)
        found = passage(table, partner)
        place = {row: at for at, row in enumerate(found.order.tolist())}
        place |= {int(partner[row]): at for row, at in place.items() if partner[row] >= 0}
        assert len(place) == int((partner >= 0).sum() + np.isin(table.opcode, [CODE["sync"], CODE["wait"]]).sum())
        for core in range(table.n_cores):
            at = [place[row] for row in range(table.core_ptr[core], table.core_ptr[core + 1]) if row in place]
            assert at == sorted(at)
        assert all(place[s] < place[w] for s, w in zip(found.syncs.tolist(), found.waits.tolist(), strict=True))
