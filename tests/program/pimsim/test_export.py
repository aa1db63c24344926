"""Programs for crossbars in pimsim-nn's language: what it asks of a file, what comes back, and what is refused."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from oracles.pimsim_machine import run
from targets.crossbar.networks import MADE, quantised

import pimloom
import pimloom.api
from pimloom.errors import ProgramError
from pimloom.hardware import load_hardware
from pimloom.hardware.pimsim import PimsimHardware
from pimloom.program import OPCODES, Program
from pimloom.program.pimsim import PimsimProgram, check_addresses, check_messages, check_widths, read_architecture, read_program
from pimloom.program.pimsim.convert import architecture_of, to_program, to_table
from pimloom.program.pimsim.export import export_program, machine_of, row_cycles, write_configuration
from pimloom.program.pimsim.lower import CoreLowering, Lowering, Sums, lower_program, lower_rows, runs
from pimloom.program.pimsim.opcodes import BY_CODE, CODE, UNIT_OF_CODE, Unit
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
    return lower_program(compiled(network, machine, mode))


def lists(path: Path) -> tuple[dict[str, Any], dict[int, list[dict[str, Any]]]]:
    """The configuration and the lists of a file."""
    document: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return document["config"], {int(key[4:]): value for key, value in document.items() if key != "config"}


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
def test_lists_are_as_pimsim_wants_them(network: str, machine: str, mode: str, tmp_path: Path) -> None:
    table = lowered(network, machine, mode)
    write_program(table, tmp_path / "p.gz")
    config, cores = lists(tmp_path / "p.gz")
    hardware: Any = compiled(network, machine, mode).hardware
    assert config["core_cnt"] == hardware.total_cores
    assert set(config["array_group_map"]) == {f"core{k}" for k in range(hardware.total_cores)}
    assert cores
    for core, instructions in cores.items():
        assert instructions[0]["op"] == "setbw"
        assert UNIT_OF_CODE[CODE[instructions[-1]["op"]]] not in (Unit.SCALAR, Unit.DECODE)
        groups = config["array_group_map"][f"core{core}"]
        assert sum(groups) <= hardware.core.crossbars
        for one in instructions:
            assert one["op"] != "nop"
            assert one["op"] in ("sldi", "setbw", "mvmul") or one.get("len", one.get("size", 0)) > 0
            assert all(-(1 << 31) <= value < 1 << 31 for value in one.values() if isinstance(value, int))
            assert all(one.get(register, 0) < 32 for register in ("rd", "rs1", "rs2"))
            assert one["op"] != "mvmul" or (one.get("group", 0) < len(groups) and one["mbiw"] > 0)
            assert "offset" not in one
            if one["op"] in ("ld", "st"):
                assert one["rs1" if one["op"] == "ld" else "rd"] % 2 == 0
            if one["op"] == "send":
                assert one["rd"] == one["rs1"]


@case
def test_both_ends_of_a_message_agree(network: str, machine: str, mode: str) -> None:
    table = lowered(network, machine, mode)
    check_messages(table)
    check_widths(table)
    core = table.core()
    for source, target in {
        (int(a), int(b)) for a, b in zip(core[table.opcode == CODE["send"]], table.peer[table.opcode == CODE["send"]], strict=True)
    }:
        sent = table.size[(core == source) & (table.opcode == CODE["send"]) & (table.peer == target)]
        taken = table.size[(core == target) & (table.opcode == CODE["recv"]) & (table.peer == source)]
        assert np.array_equal(sent, taken)


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
        lower_program(compiled("tiny_transformer", "isaac", "latency"))


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
    table = lower_program(program)
    assert np.count_nonzero(table.size == 1) == 2 * sent


@pytest.mark.parametrize("mode", ["latency", "throughput"])
def test_lists_are_ordered_so_that_cores_wait_less(mode: str) -> None:
    program = compiled("tiny_cnn", "pimcomp-default", mode)
    table, made = lower_rows(program)
    cycles = row_cycles(program)
    assert cycles.size == made.size == program.n_rows
    assert made.sum() == table.n_instructions
    assert (cycles[made == 0] == 0).all()
    assert (cycles[made > 0] > 0).all()
    plain, better = export_program(program), pimloom.api.to_pimsim(program)
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
