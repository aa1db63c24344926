"""Who writes when: what holds for every program of every strategy, and what the closed forms say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from targets.crossbar.networks import quantised
from targets.sram.jobs import cycles, machine, macro_cycles, plan, product_graph, program, request

from pimloom.execute import Interpreter
from pimloom.hardware import SramHardware
from pimloom.ir.evaluate import evaluate
from pimloom.program import OPCODES, Program
from pimloom.program.verify import verify_program
from pimloom.simulate import engine
from pimloom.simulate.costs import cost
from pimloom.targets.sram.compile import compile_network
from pimloom.targets.sram.plan import Dataflow, Plan, streams
from pimloom.targets.sram.predict import candidates
from pimloom.targets.sram.strategies import STRATEGIES, Job
from pimloom.targets.sram.work import Work

SLOW = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@st.composite
def machines(draw: st.DrawFn) -> SramHardware:
    """Small machines with odd sizes."""
    side = draw(st.sampled_from([4, 8, 12]))
    changes = [
        f"cores={draw(st.integers(1, 3))}", f"macros_per_core={draw(st.integers(2, 5))}", f"macro.rows={side}",
        f"macro.cols={draw(st.sampled_from([4, 6, 8]))}", f"macro.line_bytes={draw(st.sampled_from([4, 8]))}",
        f"link.bytes_per_cycle={draw(st.sampled_from([1, 2, 3, 5, 8, 16]))}", f"link.latency_cycles={draw(st.integers(0, 20))}",
        f"memories.activation_bytes={draw(st.sampled_from([512, 2048]))}", f"memories.result_bytes={draw(st.sampled_from([4096, 16384]))}",
        f"memories.input_area_bytes={side * draw(st.integers(1, 9))}",
        f"link.carries_activations={draw(st.sampled_from(['true', 'false']))}",
        f"link.transfers={draw(st.sampled_from([1, 4]))}",
    ]  # fmt: skip
    if draw(st.booleans()):
        changes += ["link.dram.banks=3", "link.dram.activate_cycles=3", "link.dram.precharge_cycles=2", "link.dram.activate_gap_cycles=1",
                    "link.dram.refresh_interval_cycles=100", "link.dram.refresh_cycles=7"]  # fmt: skip
    return machine("gpp-256", *changes)


works = st.builds(Work, st.integers(1, 30), st.integers(1, 40), st.integers(1, 40))


@st.composite
def cases(draw: st.DrawFn) -> tuple[SramHardware, Work, Plan]:
    hardware, work = draw(machines()), draw(works)
    wanted = draw(st.sampled_from(["in_situ", "naive_pairwise", "naive_lock_step", "generalized", "auto"]))
    return hardware, work, draw(st.sampled_from(candidates(hardware, work, wanted)))


def spans(made: Program) -> tuple[np.ndarray, np.ndarray, int]:
    """Starts and ends of all rows in ticks, and ticks per cycle."""
    costed = cost(made)
    times = engine.run(costed.timing)
    return times.start[:, 0], times.done[:, 0], costed.ticks_per_cycle


@SLOW
@given(cases())
def test_every_plan_gives_a_sound_program_with_the_right_numbers(case: tuple[SramHardware, Work, Plan]) -> None:
    hardware, work, chosen = case
    graph = product_graph(work.vectors, work.rows, work.cols)
    made = program(hardware, graph, chosen)
    verify_program(made)
    codes = {"x": np.random.Generator(np.random.Philox(1)).integers(-128, 128, (work.vectors, work.rows)).astype(np.int8)}
    assert np.array_equal(Interpreter(made).run(codes)["y"], evaluate(graph, codes)["y"])


@SLOW
@given(cases())
def test_the_link_brings_all_weights_and_never_more_than_it_can(case: tuple[SramHardware, Work, Plan]) -> None:
    hardware, work, chosen = case
    made = program(hardware, product_graph(work.vectors, work.rows, work.cols), chosen)
    costed = cost(made)
    moved = float(costed.costs.moved_bytes["off-chip link"] @ costed.forms.rows)
    assert moved >= work.weight_bytes
    if hardware.link.carries_activations:
        assert moved >= work.weight_bytes + work.vectors * (work.rows + work.cols)
    end = int(engine.run(costed.timing).done.max()) / costed.ticks_per_cycle
    assert moved <= end * hardware.link.bytes_per_cycle * (hardware.link.dram.available if hardware.link.dram else 1.0) + 1e-6


@SLOW
@given(cases())
def test_no_macro_computes_while_it_is_written(case: tuple[SramHardware, Work, Plan]) -> None:
    hardware, work, chosen = case
    made = program(hardware, product_graph(work.vectors, work.rows, work.cols), chosen)
    start, done, _ = spans(made)
    rows = made.rows
    busy = np.isin(rows["opcode"], (OPCODES["write_weights"], OPCODES["mvm"]))
    for macro in range(hardware.arrays):
        at = np.flatnonzero(busy & (rows["processor"] == macro))
        at = at[np.argsort(start[at], kind="stable")]
        assert (start[at[1:]] >= done[at[:-1]]).all()


@SLOW
@given(cases())
def test_no_window_of_time_has_more_bytes_than_the_link_carries(case: tuple[SramHardware, Work, Plan]) -> None:
    hardware, work, chosen = case
    assert_link_is_kept(program(hardware, product_graph(work.vectors, work.rows, work.cols), chosen))


@pytest.mark.parametrize("hardware", ["gpp-256", "gpp-256-b8", "gpp-256-dram", "gpp-256-compat"])
@pytest.mark.parametrize("name", ["tiny_cnn", "tiny_transformer", "lenet"])
def test_no_window_of_a_network_has_more_bytes_than_the_link_carries(name: str, hardware: str) -> None:
    assert_link_is_kept(compile_network(quantised(name), machine(hardware), request()))


def assert_link_is_kept(made: Program) -> None:
    """No window of time moves more bytes than the link carries, refreshes taken off.

    Of a row that begins before a window or ends behind it, what cannot have crossed outside the window has crossed inside.
    """
    hardware = made.hardware
    assert isinstance(hardware, SramHardware)
    start, done, ticks = spans(made)
    rows, link = made.rows, hardware.link
    rate = link.bytes_per_cycle * (link.dram.available if link.dram else 1.0) / ticks
    size = rows["length"].astype(np.float64) * rows["count"]
    is_general = rows["opcode"] == OPCODES["general"]
    size[is_general] = ((rows["src1"] + rows["dst"]) * rows["count"].astype(np.int64))[is_general]
    users = ("write_weights", "load", "store", "general") if link.carries_activations else ("write_weights",)
    at = np.flatnonzero(np.isin(rows["opcode"], [OPCODES[name] for name in users]))
    start, done, size = start[at], done[at], size[at]
    assert (size <= (done - start) * rate + 1e-6).all()
    edges = np.unique(np.concatenate([start, done]))
    for first in edges[:: max(edges.size // 12, 1)]:
        for last in edges[edges > first][:: max(edges.size // 12, 1)]:
            outside = np.clip(first - start, 0, None) + np.clip(done - last, 0, None)
            inside = np.where((start < last) & (done > first), np.clip(size - outside * rate, 0, None), 0.0).sum()
            assert inside <= (last - first) * rate + 1e-6


@SLOW
@given(cases())
def test_strategies_are_what_they_are_called(case: tuple[SramHardware, Work, Plan]) -> None:
    hardware, work, chosen = case
    made = program(hardware, product_graph(work.vectors, work.rows, work.cols), chosen)
    start, done, _ = spans(made)
    at = np.flatnonzero(made.rows["opcode"] == OPCODES["write_weights"])
    macro = made.rows["processor"][at]
    assert np.unique(macro).size <= chosen.macros
    overlap = (start[at][:, None] < done[at]) & (start[at] < done[at][:, None])
    if chosen.strategy == "generalized":
        at_starts = (start[at][:, None] >= start[at]) & (start[at][:, None] < done[at])
        assert at_starts.sum(axis=1).max() <= chosen.writers
    if chosen.strategy == "naive_pairwise":
        partners = (macro[:, None] ^ 1) == macro
        assert not (overlap & partners).any()
    if chosen.strategy == "naive_lock_step":
        half = chosen.macros // 2
        other = (macro[:, None] < half) != (macro < half)
        assert not (overlap & other).any()


@pytest.mark.parametrize(("strategy", "macros", "expected"), [
    ("in_situ", 8, 3 * (8 * 64 + 500)),
    ("naive_pairwise", 8, 3 * max(2 * 4 * 64, 4 * 64 + 500) - max(2 * 4 * 64, 4 * 64 + 500) + 2 * 4 * 64 + 500),
    ("naive_lock_step", 8, 4 * 64 + 5 * (500 + 1) + 500),
    ("generalized", 8, 2 * (128 + 500) + 7 * 64 + 128 + 500),
])  # fmt: skip
def test_closed_forms(strategy: str, macros: int, expected: int) -> None:
    """24 loads of 64 cycles of link, 128 cycles at the macro's own speed, 500 cycles of computing."""
    job = Job(loads=24, macros=macros, write=128.0, compute=500.0, share=64.0, setup=0.0, writers=2)
    assert STRATEGIES[strategy].cycles(job) == expected


@pytest.mark.parametrize(("strategy", "macros", "vectors", "speed", "writers"), [
    ("in_situ", 32, 16, 4, 0), ("in_situ", 96, 16, 1, 0), ("naive_pairwise", 64, 16, 4, 0), ("naive_lock_step", 64, 16, 4, 0),
    ("generalized", 100, 16, 8, 16), ("generalized", 40, 16, 8, 18), ("generalized", 256, 56, 4, 33),
])  # fmt: skip
def test_closed_forms_predict_the_simulator(strategy: str, macros: int, vectors: int, speed: int, writers: int) -> None:
    """Only weights on the link: long jobs take what the closed form says, within 2 %."""
    hardware = machine("gpp-256", "link.carries_activations=false", "link.latency_cycles=0", "memories.activation_bytes=1048576")
    work = Work(vectors, 1024, 1024)
    handshake = 1 if strategy == "naive_pairwise" else 0
    job = Job(
        loads=1024, macros=macros, write=4 + 2 * handshake + 1024 / speed, compute=9 + handshake + vectors * (41 + 2 * handshake),
        share=8.0,
        setup=4 + 2 * handshake, writers=writers or macros,
    )  # fmt: skip
    made = program(hardware, product_graph(work.vectors, work.rows, work.cols), plan(strategy, macros, vectors, speed, writers))
    assert macro_cycles(made) == pytest.approx(float(STRATEGIES[strategy].cycles(job)), rel=0.02)


def test_a_schedule_with_unequal_passes_keeps_the_link_busy() -> None:
    """A ragged last row of tiles makes every 9th write short; the closed loop does not mind."""
    hardware = machine("gpp-256", "link.carries_activations=false")
    work = Work(16, 32 * 8 + 5, 4096)
    found = cycles(program(hardware, product_graph(work.vectors, work.rows, work.cols), plan("generalized", 128, 16, 8, 20)))
    assert work.weight_bytes / hardware.link.bytes_per_cycle / found > 0.9


def test_what_stays_is_not_written_again() -> None:
    hardware = machine("gpp-256")
    graph = product_graph(48, 512, 512)
    resident = Plan("generalized", Dataflow.ACTIVATIONS, 256, 24, 8, 20, 0.0, 0.0)
    there_and_back = plan("generalized", 200, 24, 8, 20, is_serpentine=True)
    writes = {
        name: int((program(hardware, graph, chosen).rows["opcode"] == OPCODES["write_weights"]).sum())
        for name, chosen in (("resident", resident), ("back", there_and_back), ("forth", plan("generalized", 200, 24, 8, 20)))
    }
    assert writes == {"resident": 256, "back": 512 - 200, "forth": 512}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_copies_of_a_matrix_are_written_once_and_share_the_vectors(strategy: str) -> None:
    """On a multiple of its tiles a matrix has copies that take turns at the chunks."""
    hardware, work = machine("gpp-256"), Work(60, 64, 64)
    graph = product_graph(work.vectors, work.rows, work.cols)
    copies = plan(strategy, 12, 5, 8, 4 if strategy == "generalized" else 0)
    made = program(hardware, graph, copies)
    assert streams(hardware, work, copies) == "resident"
    rows = made.rows
    assert (rows["opcode"] == OPCODES["write_weights"]).sum() == 12
    used = np.bincount(rows["processor"][rows["opcode"] == OPCODES["mvm"]], minlength=13)
    assert used.tolist() == [4] * 12 + [0]
    codes = {"x": np.random.Generator(np.random.Philox(1)).integers(-128, 128, (60, 64)).astype(np.int8)}
    assert np.array_equal(Interpreter(made).run(codes)["y"], evaluate(graph, codes)["y"])
    assert cycles(made) < cycles(program(hardware, graph, plan(strategy, 10, 5, 8, 4 if strategy == "generalized" else 0)))
