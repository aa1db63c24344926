"""Programs of pimsim-nn on our engine, compared with the oracle, instruction by instruction."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.pimsim_machine import Outcome, run
from program.pimsim.pimsim_files import write_architecture, write_program
from program.pimsim.random_programs import random_lists

from pimloom.errors import HardwareError, ProgramError
from pimloom.execute import Interpreter
from pimloom.hardware import describe, parse_hardware, to_yaml
from pimloom.hardware.pimsim import PimsimHardware
from pimloom.kernels import surroundings
from pimloom.program import Program, load_program, save_program
from pimloom.program.pimsim import Architecture, PimsimProgram, Quirks, read_architecture, read_program
from pimloom.program.pimsim.convert import architecture_of, hardware_of, to_program, to_table
from pimloom.program.pimsim.table import COLUMNS
from pimloom.simulate import cost, engine, reference, simulate

CORE = "chip_config.core_config"
SETBW = {"op": "setbw", "ibiw": 8, "obiw": 8}
WAIT = {"op": "wait", "event_register": 3, "wait_value": 1}
SERIAL = {f"{CORE}.rob_size": 1}
LARGE = 1 << 44
USED = [name for name in COLUMNS if name not in ("value", "low", "rs2")]
"""Columns that no instruction leaves unused."""


def random_table(folder: Path, seed: int, cores: int, change: Mapping[str, Any]) -> tuple[PimsimProgram, Architecture]:
    """A random program and its machine, with a local memory in which every address lies."""
    rng = random.Random(seed)
    architecture = read_architecture(write_architecture(folder, change))
    table = read_program(write_program(folder, random_lists(rng, cores, rng.choice([20, 60])), cores=cores))
    return table, replace(architecture, local_memory=replace(architecture.local_memory, memory_bytes=LARGE))


def imported(table: PimsimProgram, architecture: Architecture, quirks: Quirks | None = None) -> Program | None:
    """The program; None where a register holds no address at all."""
    try:
        return to_program(table, architecture, name="random", machine="small", quirks=quirks)
    except ProgramError as error:
        assert "of local memory found" in str(error)
        return None


def both(folder: Path, seed: int, cores: int, change: Mapping[str, Any], **options: Any) -> tuple[np.ndarray, Outcome] | None:
    """When our engine and the oracle retire each instruction."""
    table, architecture = random_table(folder, seed, cores, change)
    quirks: Quirks | None = options.get("quirks")
    program = imported(table, architecture, quirks)
    if program is None:
        return None
    return engine.run(cost(program).timing).done[:, 0], run(table, architecture, sim_mode=1, **options)


@pytest.mark.parametrize("cores", [1, 4])
@pytest.mark.parametrize("quirks", [Quirks(), replace(Quirks.none(), bit_width_resets_to_zero=True, load_writes_register_zero=True)])
def test_one_in_flight_is_exact_up_to_ties(cores: int, quirks: Quirks, tmp_path: Path) -> None:
    """A store of no bytes takes a cycle here and none there; other cores may come first at equal times."""
    found = [both(tmp_path, seed, cores, SERIAL, quirks=quirks) for seed in range(40)]
    differences = [np.abs(ours - np.array(oracle.retire_ns)) for ours, oracle in (one for one in found if one is not None)]
    assert len(differences) >= 10
    assert max(d.max() for d in differences) <= 2
    assert np.mean([d.max() == 0 for d in differences]) >= 0.8


@pytest.mark.parametrize("cores", [1, 4])
def test_several_in_flight_are_near(cores: int, tmp_path: Path) -> None:
    found = [both(tmp_path, seed, cores, {f"{CORE}.rob_size": 4}) for seed in range(30)]
    errors = [abs(ours.max() / oracle.latency_ns - 1) for ours, oracle in (one for one in found if one is not None)]
    assert len(errors) >= 8
    assert np.mean(errors) < 0.02
    assert max(errors) < 0.08


def test_energy_is_that_of_the_oracle(tmp_path: Path) -> None:
    powers = {
        f"{CORE}.rob_size": 1, f"{CORE}.vector_alu_dynamic_energy": 3, f"{CORE}.inst_fetch_dynamic_power": 2,
        f"{CORE}.local_memory_config.read_dynamic_energy": 5, "chip_config.global_memory_config.write_dynamic_energy": 7,
        f"{CORE}.scalar_static_power": 4, f"{CORE}.matrix_config.adc_dynamic_power": 6,
    }  # fmt: skip
    compared = 0
    for seed in range(20):
        table, architecture = random_table(tmp_path, seed, 4, powers)
        program = imported(table, architecture)
        if program is None:
            continue
        oracle, ours = run(table, architecture, sim_mode=1), simulate(program)
        static = ours.energy_pj["static"] - (ours.latency_cycles - oracle.latency_ns) * program.hardware.static_mw_total
        assert sum(ours.energy_pj.values()) - ours.energy_pj["static"] + static == pytest.approx(oracle.energy_pj)
        compared += 1
    assert compared >= 5


def test_the_reference_machine_agrees(tmp_path: Path) -> None:
    table, architecture = random_table(tmp_path, 1, 4, SERIAL)
    program = imported(table, architecture)
    assert program is not None
    timing = cost(program).timing
    assert np.array_equal(engine.run(timing).done, reference.run(timing).done)
    assert simulate(program, reference.run).latency_cycles == simulate(program).latency_cycles


def test_periods_that_are_no_whole_nanoseconds(tmp_path: Path) -> None:
    lists = {0: [SETBW, *[{"op": "vrelu", "len": 40}, {"op": "mvmul", "mbiw": 8, "group": 1}, {"op": "lmv", "len": 100}] * 5]}
    change = SERIAL | {f"{CORE}.matrix_config.period": 0.78125, f"{CORE}.local_memory_config.period": 0.5}
    architecture = read_architecture(write_architecture(tmp_path, change))
    table = read_program(write_program(tmp_path, lists))
    program = to_program(table, architecture, name="p", machine="m")
    assert simulate(program).latency_cycles == run(table, architecture).latency_ns


def test_steady_state_counts_rounds_as_the_oracle_does(tmp_path: Path) -> None:
    worker = [SETBW, {"op": "vrelu", "len": 16}, {"op": "sldi"}, {"op": "send", "core": 1, "size": 8}]
    reader = [SETBW, {"op": "recv", "core": 0, "size": 8}, *[{"op": "vrelu", "len": 40}] * 3]
    free = [SETBW, {"op": "lmv", "len": 20}, {"op": "sldi"}]
    architecture = read_architecture(write_architecture(tmp_path, SERIAL | {"sim_config.sim_mode": 0, "sim_config.sim_time": 0.01}))
    table = read_program(write_program(tmp_path, {0: worker, 1: reader, 2: free}))
    oracle = run(table, architecture, sim_mode=0, sim_time_ms=0.01)
    result = simulate(to_program(table, architecture, name="p", machine="m"))
    assert 1e9 / result.period_cycles == pytest.approx(oracle.throughput_per_s, rel=0.01)
    assert sum(result.energy_pj.values()) * 1e4 / result.period_cycles == pytest.approx(oracle.energy_pj, rel=0.01)


def test_events_order_cores(tmp_path: Path) -> None:
    lists = {
        0: [SETBW, *[{"op": "vrelu", "len": 40}] * 4, {"op": "sync", "core": 1, "event_register": 3}],
        1: [SETBW, {"op": "wait", "event_register": 3, "wait_value": 1}, {"op": "vrelu", "len": 16}],
    }
    architecture = read_architecture(write_architecture(tmp_path, SERIAL))
    table = read_program(write_program(tmp_path, lists))
    ours = simulate(to_program(table, architecture, name="p", machine="m")).latency_cycles
    assert abs(ours - run(table, architecture).latency_ns) <= 5  # the flit's way is left out


@pytest.mark.parametrize("value", [0, 1, 2])
def test_cores_that_wait_for_events_do_not_repeat(value: int, tmp_path: Path) -> None:
    """What is waited for would have to be of some round; one of value 0 hangs in the second."""
    lists = {
        0: [SETBW, {"op": "sync", "core": 1, "event_register": 3}, {"op": "vrelu", "len": 16}],
        1: [SETBW, WAIT | {"event_register": 4, "wait_value": 0}, WAIT | {"wait_value": value}, WAIT, {"op": "vrelu", "len": 16}],
    }
    architecture = read_architecture(write_architecture(tmp_path, SERIAL | {"sim_config.sim_mode": 0}))
    table = read_program(write_program(tmp_path, lists))
    with pytest.raises(
        ProgramError, match=r"core 1, instruction 2 \(wait\): cores cannot wait for events while lists repeat; take one pass"
    ):
        to_program(table, architecture, name="p", machine="m")


def test_a_wait_without_any_event_is_told_where_lists_repeat_too(tmp_path: Path) -> None:
    architecture = read_architecture(write_architecture(tmp_path, SERIAL | {"sim_config.sim_mode": 0}))
    table = read_program(write_program(tmp_path, {0: [SETBW, WAIT, {"op": "vrelu", "len": 16}]}))
    with pytest.raises(
        ProgramError, match=r"core 0, instruction 1 \(wait\): event register 3 gets 0 sync in all, 1 is waited for; it would"
    ):
        to_program(table, architecture, name="p", machine="m")


def test_events_that_nobody_waits_for_may_repeat(tmp_path: Path) -> None:
    lists = {
        0: [SETBW, {"op": "sync", "core": 1, "event_register": 3}, {"op": "vrelu", "len": 16}],
        1: [SETBW, WAIT | {"event_register": 4, "wait_value": 0}, {"op": "vrelu", "len": 16}],
    }
    architecture = read_architecture(write_architecture(tmp_path, SERIAL | {"sim_config.sim_mode": 0, "sim_config.sim_time": 0.01}))
    table = read_program(write_program(tmp_path, lists))
    result = simulate(to_program(table, architecture, name="p", machine="m"))
    oracle = run(table, architecture, sim_mode=0, sim_time_ms=0.01)
    assert 1e9 / result.period_cycles == pytest.approx(oracle.throughput_per_s, rel=0.01)
    once = replace(architecture, sim_mode=1)
    latency = simulate(to_program(table, once, name="p", machine="m")).latency_cycles
    assert abs(latency - run(table, once).latency_ns) <= 1


def test_rows_hold_the_whole_table(tmp_path: Path) -> None:
    for seed in range(10):
        table, architecture = random_table(tmp_path, seed, 4, SERIAL)
        program = imported(table, architecture)
        if program is None:
            continue
        again = to_table(program)
        for name in USED:
            assert np.array_equal(getattr(again, name), getattr(table, name)), name
        for name in ("core_ptr", "length_of_core", "is_present", "group_ptr", "group_crossbars"):
            assert np.array_equal(getattr(again, name), getattr(table, name)), name


def test_a_saved_program_is_the_same(tmp_path: Path) -> None:
    table, architecture = random_table(tmp_path, 1, 4, SERIAL)
    program = imported(table, architecture)
    assert program is not None
    save_program(program, tmp_path / "p.npz")
    again = load_program(tmp_path / "p.npz")
    assert np.array_equal(again.rows, program.rows)
    assert again.hardware == program.hardware
    assert simulate(again).latency_cycles == simulate(program).latency_cycles


def test_it_is_not_executed(tmp_path: Path) -> None:
    table, architecture = random_table(tmp_path, 1, 4, SERIAL)
    program = imported(table, architecture)
    assert program is not None
    with pytest.raises(ProgramError, match=r"it holds no data \(pimsim\.\w+ only takes time\), so it can be simulated but not executed"):
        Interpreter(program)


# The machine -------------------------------------------------------------------------------------------------------


def machine(folder: Path, quirks: Quirks | None = None) -> PimsimHardware:
    architecture = read_architecture(write_architecture(folder))
    return hardware_of(architecture, "small", 4, quirks if quirks is not None else Quirks())


def test_a_machine_is_its_yaml(tmp_path: Path) -> None:
    one = machine(tmp_path, replace(Quirks(), reads_input_eightfold=False))
    assert parse_hardware(to_yaml(one)) == one
    assert "left out: reads_input_eightfold" in describe(one)


def test_a_machine_keeps_what_the_architecture_says(tmp_path: Path) -> None:
    architecture = read_architecture(write_architecture(tmp_path))
    again = architecture_of(hardware_of(architecture, "small", 4, Quirks()))
    same = {spec.name for spec in fields(Architecture)} - {"source", "network", "without_effect"}
    assert all(getattr(again, name) == getattr(architecture, name) for name in same)
    for name in ("switch", "latency_ns", "energy_pj", "is_known"):
        assert np.array_equal(getattr(again.network, name), getattr(architecture.network, name))


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("cores: 4", "cores: 5", "found a list of 5, expected network.latency_ns with 6 lines"),
        ("rob_size: 4", "rob_size: 0", "rob_size: found 0, expected a positive integer of instructions"),
        ("reads_input_eightfold: true", "reads_input_eightfold: 1", "quirks.reads_input_eightfold: found 1, expected true or false"),
        ("latency_ns:\n  - '- 4 5 6 7'", "latency_ns:\n  - '- 4 5 x 7'", "found 'x' .text., expected a number, a number.times or -"),
        ("latency_ns:\n  - '- 4 5 6 7'", "latency_ns:\n  - '- 4*9'", "found '4.9' .text., expected numbers of at least 0 for 5 switches"),
    ],
)
def test_a_wrong_machine_is_told(before: str, after: str, sentence: str, tmp_path: Path) -> None:
    text = to_yaml(machine(tmp_path))
    assert before in text
    with pytest.raises(HardwareError, match=sentence):
        parse_hardware(text.replace(before, after))


def test_a_missing_path_is_told_where_it_costs(tmp_path: Path) -> None:
    path = write_architecture(tmp_path, SERIAL)
    (tmp_path / "network.json").write_text("{}")
    table = read_program(write_program(tmp_path, {0: [SETBW, {"op": "ld", "size": 40}]}))
    quirks = replace(Quirks(), missing_path_is_free=False)
    program = to_program(table, read_architecture(path), name="p", machine="m", quirks=quirks)
    with pytest.raises(ProgramError, match="program 'p': core 0, instruction 1: no path from core 0 to the global memory"):
        simulate(program)


def test_a_path_of_one_direction_is_that_of_both(tmp_path: Path) -> None:
    path = write_architecture(tmp_path, SERIAL)
    table = read_program(write_program(tmp_path, {0: [SETBW, {"op": "ld", "size": 40}]}))
    quirks = replace(Quirks.none(), bit_width_resets_to_zero=True)
    both = simulate(to_program(table, read_architecture(path), name="p", machine="m", quirks=quirks)).latency_cycles
    network = json.loads((tmp_path / "network.json").read_text())
    for kind in network.values():
        del kind["-10"]
    (tmp_path / "network.json").write_text(json.dumps(network))
    architecture = read_architecture(path)
    one = simulate(to_program(table, architecture, name="p", machine="m", quirks=quirks)).latency_cycles
    assert one == both == run(table, architecture, quirks=quirks).latency_ns


@settings(deadline=None)  # the first example compiles a kernel
@given(st.data())
def test_what_stands_around_rows(data: st.DataObject) -> None:
    """The kernel against a loop over lists."""
    sizes = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=5))
    ptr = np.concatenate(([0], np.cumsum(sizes))).astype(np.int64)
    gaps = np.array(data.draw(st.lists(st.integers(0, 3), min_size=int(ptr[-1]), max_size=int(ptr[-1]))), np.int32)
    length = np.array(data.draw(st.lists(st.integers(0, 2**31 - 1), min_size=gaps.size, max_size=gaps.size)), np.int32)
    partner = np.array(data.draw(st.lists(st.integers(-1, gaps.size - 1), min_size=gaps.size, max_size=gaps.size)), np.int32)
    position = np.concatenate([np.cumsum(gaps[a:b] + 1) - 1 for a, b in itertools.pairwise(ptr)]).astype(np.int32)
    found = np.empty(gaps.size, np.int64)
    assert surroundings.pack(ptr, position, length, partner, found) == gaps.max(initial=0)
    for a, b in itertools.pairwise(ptr.tolist()):
        for row in range(a, b):
            is_first, is_last, other = found[row] & 1, found[row] >> surroundings.LAST & 1, found[row] >> surroundings.OTHER_LENGTH
            assert (is_first, is_last) == (row == a, row == b - 1)
            assert other == (length[partner[row]] if partner[row] >= 0 else 0)
            assert found[row] >> surroundings.GAP & surroundings.MOST_GAP == gaps[row]
