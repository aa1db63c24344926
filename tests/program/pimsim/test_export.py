"""Programs for crossbars in pimsim-nn's language: what it asks of a file, what comes back, and what is refused."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.pimsim_machine import run
from program.pimsim.file_rules import violations
from program.pimsim.pimsim_files import write_program as write_json
from program.pimsim.random_programs import random_lists
from targets.crossbar.networks import MADE, quantised

import pimloom
import pimloom.api
from pimloom.errors import ProgramError
from pimloom.hardware import load_hardware
from pimloom.hardware.pimsim import PimsimHardware
from pimloom.program import OPCODES, Program
from pimloom.program.pimsim import PimsimProgram, check_addresses, check_widths, read_architecture, read_program
from pimloom.program.pimsim.convert import architecture_of, to_program, to_table
from pimloom.program.pimsim.export import export_program, export_with_cycles, machine_of, write_configuration
from pimloom.program.pimsim.lower import CoreLowering, Lowering, Sums, lower_rows, runs
from pimloom.program.pimsim.opcodes import BY_CODE, CODE
from pimloom.program.pimsim.table import COLUMNS
from pimloom.program.pimsim.tokens import find_tokens
from pimloom.program.pimsim.widths import bytes_of
from pimloom.program.pimsim.writer import write_program
from pimloom.simulate import simulate
from pimloom.targets import TARGETS, Request

CASES = [
    ("tiny_cnn", "pimcomp-default", "latency"), ("tiny_cnn", "pimcomp-default", "throughput"), ("tiny_mlp", "toy", "latency"),
    ("tiny_cnn", "toy", "throughput"), ("lenet", "pimcomp-default", "latency"),
]  # fmt: skip
case = pytest.mark.parametrize(("network", "machine", "mode"), CASES)


@cache
def compiled(network: str, machine: str, mode: str) -> Program:
    return pimloom.compile(network, machine, mode=mode).program


@cache
def lowered(network: str, machine: str, mode: str) -> PimsimProgram:
    return lower_rows(compiled(network, machine, mode))[0]


def assert_same(first: PimsimProgram, second: PimsimProgram) -> None:
    for name in (*COLUMNS, "core_ptr", "length_of_core", "is_present", "group_ptr", "group_crossbars"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name


@case
def test_what_is_written_is_read(network: str, machine: str, mode: str, tmp_path: Path) -> None:
    table = lowered(network, machine, mode)
    write_program(table, tmp_path / "p.gz")
    read = read_program(tmp_path / "p.gz")
    assert_same(read, table)
    write_program(read, tmp_path / "again.gz")
    assert (tmp_path / "again.gz").read_bytes() == (tmp_path / "p.gz").read_bytes()


@case
def test_export_import_export_is_the_same_table(network: str, machine: str, mode: str, tmp_path: Path) -> None:
    first = export_program(compiled(network, machine, mode))
    write_program(to_table(first), tmp_path / "p.gz")
    hardware = first.hardware
    assert isinstance(hardware, PimsimHardware)
    write_configuration(hardware, tmp_path / "c.json", tmp_path / "n.json", sim_mode=int(mode == "latency"))
    architecture = read_architecture(tmp_path / "c.json")
    second = to_program(read_program(tmp_path / "p.gz"), architecture, name=first.name, machine=hardware.name)
    assert np.array_equal(second.rows, first.rows)
    assert (second.mode, second.notes) == (first.mode, first.notes)
    assert export_program(second) is second
    results = [simulate(one, until_cycles=0 if mode == "latency" else 10**6) for one in (first, second)]
    assert results[0].latency_cycles == results[1].latency_cycles
    assert results[0].period_cycles == results[1].period_cycles


@case
def test_files_keep_the_rules_of_pimsim(network: str, machine: str, mode: str, tmp_path: Path) -> None:
    program = export_program(compiled(network, machine, mode))
    files = written(program, tmp_path)
    assert violations(*files) == []


def written(program: Program, folder: Path) -> tuple[Path, Path]:
    """The program and the architecture file of an exported program."""
    hardware = program.hardware
    assert isinstance(hardware, PimsimHardware)
    write_program(to_table(program), folder / "p.gz")
    write_configuration(hardware, folder / "c.json", folder / "n.json", sim_mode=int(program.mode == "latency"))
    return folder / "p.gz", folder / "c.json"


SOUND = b"""{"config":{"core_cnt":2,"array_group_map":{"core0":[2],"core1":[1]}},
"core0":[{"op":"setbw","ibiw":8,"obiw":16},
{"op":"sldi","rd":0,"imm":0},
{"op":"sldi","rd":1,"imm":96},
{"op":"ld","rd":1,"rs1":0,"size":16},
{"op":"mvmul","rd":1,"rs1":1,"group":0,"mbiw":8},
{"op":"vrelu","rd":1,"rs1":1,"len":16},
{"op":"send","rd":1,"rs1":1,"size":16,"core":1},
{"op":"recv","rd":1,"size":8,"core":1}],
"core1":[{"op":"setbw","ibiw":8,"obiw":8},
{"op":"sldi","rd":2,"imm":64},
{"op":"recv","rd":2,"size":16,"core":0},
{"op":"lmv","rd":2,"rs1":2,"len":8,"size":8},
{"op":"send","rd":2,"rs1":2,"size":8,"core":0}]}
"""


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("", "", ""),
        ('{"op":"setbw","ibiw":8,"obiw":16},\n', "", "sldi: first in its list, where setbw has to be"),
        ('"op":"vrelu"', '"op":"nop"', "nop: unknown"),
        ('"group":0', '"group":1', "mvmul: array group that the core has not"),
        ('"group":0', '"offset":{}', "mvmul: field offset is not read"),
        ('"mbiw":8', '"mbiw":0', "mvmul: mbiw is not above 0"),
        ('"rd":1,"rs1":0,"size"', '"rd":1,"rs1":1,"size"', "ld: an odd register begins a pair"),
        ('"rd":1,"rs1":1,"len"', '"rd":1,"rs1":9,"len"', "vrelu: register that was not loaded in this list"),
        ('"imm":96', '"imm":113', "vrelu: rs1 leaves the local memory"),
        ('"imm":96', '"imm":2147483648', "sldi: imm is no number of 32 bits"),
        ('"rd":1,"rs1":1,"size":16,"core":1', '"rd":1,"rs1":0,"size":16,"core":1', "send: rd is read and rs1 is checked, but they differ"),
        ('"len":8,"size":8', '"len":8,"size":4', "lmv: len is copied and size is checked, but they differ"),
        ('"len":8,"size":8', '"len":0,"size":0', "lmv: len is not above 0"),
        (',\n{"op":"send","rd":2,"rs1":2,"size":8,"core":0}', "", "cores [0, 1] wait for messages forever"),
        ('"size":8,"core":1', '"size":4,"core":1', "core 0 and core 1 disagree on the bytes of a message"),
        ('{"op":"recv","rd":1,"size":8,"core":1}]', '{"op":"recv","rd":1,"size":8,"core":1},\n{"op":"sldi","rd":1,"imm":1}]',
         "a list ends with a scalar instruction, or is empty"),
        ('"core0":[2]', '"core0":[9]', "core 0: 9 crossbars of 8"),
        ('"core_cnt":2', '"core_cnt":3', "core_cnt, array_group_map and the lists name different cores"),
    ],
)  # fmt: skip
def test_the_rules_notice_what_breaks_them(old: str, new: str, rule: str, tmp_path: Path) -> None:
    text = SOUND.decode()
    assert not old or text.count(old) == 1
    (tmp_path / "p.gz").write_bytes(gzip.compress((text.replace(old, new) if old else text).encode()))
    toy: Any = load_hardware("toy")
    machine: Any = machine_of(toy, 0)
    machine = replace(
        machine, cores=2, matrix=replace(machine.matrix, crossbars=8), local_memory=replace(machine.local_memory, memory_bytes=128),
        network=replace(machine.network, latency_ns=("- 1 1", "1 - 1", "1 1 -"), energy_pj=("- 1 1", "1 - 1", "1 1 -")),
    )  # fmt: skip
    write_configuration(machine, tmp_path / "c.json", tmp_path / "n.json", sim_mode=1)
    found = [one.rsplit(" (", 1)[0] for one in violations(tmp_path / "p.gz", tmp_path / "c.json")]
    assert rule in found if rule else not found


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), cores=st.integers(1, 4))
def test_any_table_is_read_back_as_it_was_written(seed: int, cores: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    rng, folder = random.Random(seed), tmp_path_factory.mktemp("table")
    lists = random_lists(rng, cores, rng.randrange(150))
    if cores > 1:
        lists[0].append({"op": "sync", "core": 1, "event_register": 3})
        lists[1].append({"op": "wait", "event_register": 3, "wait_value": rng.choice([1, 0])})
    first = read_program(write_json(folder, lists))
    write_program(first, folder / "p.gz")
    second = read_program(folder / "p.gz")
    # A list may need more issue slots than before, as registers are chosen anew; there are never fewer.
    for name in (*COLUMNS, "core_ptr", "is_present", "group_ptr", "group_crossbars"):
        assert name == "position" or np.array_equal(getattr(first, name), getattr(second, name)), name
    assert (second.scalars_before() >= first.scalars_before()).all()
    write_program(second, folder / "again.gz")
    assert (folder / "again.gz").read_bytes() == (folder / "p.gz").read_bytes()


@case
def test_the_oracle_comes_to_the_end(network: str, machine: str, mode: str) -> None:
    """One pass ends, and our engine says when."""
    program = export_program(compiled(network, machine, mode))
    hardware = program.hardware
    assert isinstance(hardware, PimsimHardware)
    table, architecture = to_table(program), architecture_of(hardware)
    check_addresses(table, architecture)
    oracle = run(table, architecture, sim_mode=1)
    result = simulate(program, until_cycles=0)
    tolerance = 0.01 if hardware.rob_size == 1 else 0.1
    assert result.latency_cycles * hardware.period_ns == pytest.approx(oracle.latency_ns, rel=tolerance)


def test_repeated_lists_do_not_block(tmp_path: Path) -> None:
    program = export_program(compiled("tiny_cnn", "pimcomp-default", "throughput"))
    hardware: Any = program.hardware
    once = simulate(program, until_cycles=0).latency_cycles
    oracle = run(to_table(program), architecture_of(hardware), sim_mode=0, sim_time_ms=once * 20e-6)
    ours = simulate(program, until_cycles=once * 20)
    assert min(r for r in oracle.rounds if r) >= 15
    assert 1e9 / ours.period_cycles == pytest.approx(oracle.throughput_per_s, rel=0.02)


def test_every_product_is_there() -> None:
    program, table = compiled("tiny_cnn", "pimcomp-default", "latency"), lowered("tiny_cnn", "pimcomp-default", "latency")
    rows = program.rows[program.rows["opcode"] == OPCODES["mvm"]]
    assert np.count_nonzero(table.opcode == CODE["mvmul"]) == rows["count"].sum()
    wanted = Counter(np.repeat(rows["arg"], rows["count"]).tolist())
    core = table.core()[table.group >= 0].astype(np.int64)
    order = np.argsort(program.groups.processor, kind="stable")
    found = Counter(order[table.group_ptr[core] + table.group[table.group >= 0]].tolist())
    assert found == wanted


def test_what_instructions_write_is_read_and_fits() -> None:
    """No instruction writes over another value of its own step, and none beyond the memory that is stated."""
    program = export_program(compiled("lenet", "pimcomp-default", "latency"))
    hardware: Any = program.hardware
    check_addresses(to_table(program), architecture_of(hardware))
    widths = {(int(a), int(b)) for a, b in zip(to_table(program).input_bits, to_table(program).output_bits, strict=True)}
    assert all(0 < a <= 64 and 0 < b <= 64 and a % 8 == b % 8 == 0 for a, b in widths)


def test_a_machine_says_the_same_times() -> None:
    """A matrix-vector product costs what our own machine says, in time and energy."""
    for name in ("pimcomp-default", "isaac", "puma", "toy"):
        ours: Any = load_hardware(name)
        theirs = machine_of(ours, 0)
        from pimloom.program.pimsim.machine import mvm_costs

        cycles, energy = mvm_costs(theirs, np.array([8]))
        if ours.crossbar.cols % ours.crossbar.adc_count == 0 and ours.crossbar.rows % ours.crossbar.dac_count == 0:
            assert cycles[0] == ours.crossbar.mvm_cycles(8)
            assert energy[0] == pytest.approx(ours.crossbar.mvm_energy_pj(8))
        assert theirs.local_memory.read_ns * ours.clock_ghz == pytest.approx(ours.core.local_memory.read_beat_cycles)


def test_softmax_is_refused_by_name() -> None:
    with pytest.raises(
        ProgramError, match=r"node '.*' \((LayerNormalization|Softmax|Gelu|MatMul)\): pimsim-nn cannot run it, as .*; export a network"
    ):
        lower_rows(compiled("tiny_transformer", "isaac", "latency"))


def test_sums_begin_with_their_bias() -> None:
    sums = Sums(base=100, size_bytes=80, unit=4, width=3, length=5, bias=7, is_set=bytearray(20))
    sums.mark(3, 8)
    assert list(runs(sums.is_set, 0, 20, 5)) == [(0, 3, False), (3, 8, True), (8, 10, False), (10, 15, False), (15, 20, False)]
    assert list(runs(None, 2, 9, 5)) == [(2, 9, True)]
    assert not sums.can_take(10, 4)
    sums.bias = -1
    assert sums.can_take(10, 4)
    assert not sums.can_take(6, 4)
    assert not sums.can_take(18, 9)
    assert (sums.place(112), sums.address(3)) == (3, 109)


@pytest.mark.parametrize(("magnitude", "size"), [(0, 1), (127, 1), (128, 2), (32767, 2), (32768, 3), ((1 << 31) - 1, 4), (1 << 31, 5)])
def test_bytes_of_a_number(magnitude: int, size: int) -> None:
    assert bytes_of(magnitude) == size


def refused(name: str) -> bool:
    """Whether a network needs exponentials or roots."""
    return name in ("softmax norm", "attention")


LARGE = {"wide": ["core.crossbars=64"], "wide conv": ["core.crossbars=64"]}
SHORT: dict[str, Any] = {"effort": 0, "progress": str}


@pytest.mark.parametrize("name", sorted(MADE))
def test_every_kind_of_layer_comes_to_the_end(name: str) -> None:
    """Or is refused by name. That no list blocks is checked where a program is made."""
    hardware = load_hardware("toy", LARGE.get(name, []))
    program = TARGETS["crossbar"].compile(quantised(name), hardware, Request(**SHORT))
    if refused(name):
        with pytest.raises(ProgramError, match=r"node '.*' \(\w+\): pimsim-nn cannot run it, as "):
            export_program(program)
        return
    exported = export_program(program)
    table = to_table(exported)
    check_widths(table)
    assert simulate(exported).latency_cycles > 0


def test_tokens_order_what_goes_through_global_memory() -> None:
    """A node computed in global memory is read only after it was written, and no token blocks a list."""
    program = TARGETS["crossbar"].compile(quantised("shuffle"), load_hardware("toy"), Request(**SHORT))
    tokens = find_tokens(program)
    sent = sum(sends for line in tokens.values() for sends, _ in line)
    assert sent
    assert sent == sum(not sends for line in tokens.values() for sends, _ in line)
    owner = program.rows["processor"]
    target = np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))
    across = (owner[target] != owner[program.dep_row]) & (program.dep_distance == 0)
    waiting = set(target[across].tolist())
    assert waiting
    assert waiting & {row for row, line in tokens.items() if any(not sends for sends, _ in line)}
    table = lower_rows(program)[0]
    assert np.count_nonzero(table.size == 1) == 2 * sent


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_lists_are_ordered_so_that_cores_wait_less(mode: str) -> None:
    program = compiled("tiny_cnn", "pimcomp-default", mode)
    table, made = lower_rows(program)
    plain, cycles = export_with_cycles(program)
    assert cycles.size == made.size == program.n_rows
    assert made.sum() == table.n_instructions
    assert (cycles[made == 0] == 0).all()
    assert (cycles[made > 0] > 0).all()
    assert np.array_equal(plain.rows, export_program(program).rows)
    better = pimloom.api.to_pimsim(program)
    counts = [Counter(BY_CODE[c].name for c in to_table(one).opcode.tolist())["mvmul"] for one in (plain, better)]
    assert counts[0] == counts[1]
    assert simulate(better, until_cycles=0).latency_cycles <= simulate(plain, until_cycles=0).latency_cycles


def test_sums_that_begin_at_the_end_of_a_list_are_written_at_once() -> None:
    """Where a list is repeated, products may come before the row that sets their sums."""
    program = compiled("tiny_cnn", "pimcomp-default", "latency")
    core = int(program.rows["processor"][program.rows["opcode"] == OPCODES["mvm"]][0])
    facts = Lowering(program)
    plain = CoreLowering(facts, core, frozenset()).run()
    presets = [row for row in range(*program.stream_ptr[core : core + 2]) if program.rows["opcode"][row] == OPCODES["preset"]]
    written = CoreLowering(facts, core, frozenset(presets)).run()
    assert not plain.begun()
    assert len(written.out.rows) > len(plain.out.rows)
    assert sum(r[0] == CODE["lmv"] for r in written.out.rows) > sum(r[0] == CODE["lmv"] for r in plain.out.rows)
