"""Arrays that are rewritten while a network runs: the numbers stay, no array computes while it is written, and all is counted."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from io import StringIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from targets.conformance import assert_conforms
from targets.crossbar.networks import MADE, TINY, codes, conv, image, linear, quantise, quantised

from pimloom import api
from pimloom.cli import main
from pimloom.errors import CapacityError, HardwareError, ProgramError, UsageError
from pimloom.execute import Interpreter
from pimloom.hardware import CrossbarHardware, load_hardware
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.evaluate import evaluate
from pimloom.ir.graph import Graph
from pimloom.program import OPCODES, Program
from pimloom.program.residency import initial_holdings, written_groups
from pimloom.program.save import load_program, save_program
from pimloom.program.verify import verify_program
from pimloom.report import summary_table
from pimloom.report.page import page_html
from pimloom.simulate import cycles, reference, simulate
from pimloom.targets import TARGETS, Mode, Request
from pimloom.targets.crossbar.layer_cuts import cut_layers
from pimloom.targets.crossbar.rewrite import STRATEGIES, Plan, compile_plan, compile_rewritten, plans
from pimloom.targets.crossbar.side_by_side import of_sample
from pimloom.targets.crossbar.stitch import Schedule

PLANS = {
    "in situ": Plan("in_situ", 1, Schedule.APART, 0.9),
    "naive ping-pong": Plan("naive_ping_pong", 2, Schedule.LOCK_STEP, 0.9),
    "generalized": Plan("generalized", 1, Schedule.FREE, 0.9),
    "generalized, few writers": Plan("generalized", 2, Schedule.FREE, 0.6, is_limited=True),
    "generalized, a part stays": Plan("generalized", 3, Schedule.FREE, 0.6, stay=1),
    "generalized, one part of four is rewritten": Plan("generalized", 4, Schedule.FREE, 0.0, stay=3),
}
TINY_ARRAYS = ("crossbar.rows=16", "crossbar.dac_count=16", "crossbar.cols=16")
SMALL = ("core.crossbars=1", *TINY_ARRAYS)
MIDDLE = ("core.crossbars=3", *TINY_ARRAYS)  # each layer of tiny_cnn fits, two do not
MACHINES = {
    "small": SMALL,
    "one at a time": ("core.crossbars=4", "core.issue.window=1", *TINY_ARRAYS),
    "in order": ("core.crossbars=4", "core.issue.order=in_order", "core.issue.window=3"),
    "little memory": ("core.crossbars=4", "core.local_memory.size_bytes=2048"),
    "drivers of the core": ("core.crossbars=3", "crossbar.rewriting.drivers=core", "chip.core_rows=3"),
}


@cache
def machine(*changes: str) -> CrossbarHardware:
    """The toy machine, smaller."""
    found = load_hardware("toy", changes)
    assert isinstance(found, CrossbarHardware)
    return found


def request(**changes: Any) -> Request:
    """A request that says nothing while it works."""
    return replace(Request(effort=0, progress=lambda _: None, rewrite=True), **changes)


def rows_of(program: Program, name: str) -> np.ndarray[Any, Any]:
    """Numbers of the rows of an opcode."""
    return np.flatnonzero(program.rows["opcode"] == OPCODES[name])


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", [*MADE, *TINY])
def test_numbers_are_those_of_the_network(name: str, plan: str) -> None:
    program = compile_plan(quantised(name), machine(*SMALL), request(), PLANS[plan])
    assert_conforms(quantised(name), program)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("name", MACHINES)
def test_numbers_do_not_depend_on_the_machine(name: str, plan: str) -> None:
    for network in ("residual", "asymmetric pads", "wide", "shared weight", "attention", "tiny_cnn"):
        program = compile_plan(quantised(network), machine(*MACHINES[name]), request(), PLANS[plan])
        assert_conforms(quantised(network), program, (3,))


def test_all_networks_need_rewriting_here() -> None:
    """The tests above would show little if networks fitted: most have several segments or arrays that take turns."""
    made = [compile_plan(quantised(name), machine(*SMALL), request(), PLANS["generalized"]) for name in [*MADE, *TINY]]
    assert sum(one.notes["rewriting"]["writes"] > 0 for one in made) > 0.7 * len(made)
    assert max(one.notes["rewriting"]["segments"] for one in made) >= 5


# -- arrays ---------------------------------------------------------------------------------------------------------


def spans(program: Program) -> list[tuple[int, int, int, int, int, str]]:
    """What happens to arrays: (core, first array, one past the last, first cycle, last cycle, what), of writes and products."""
    result = simulate(program)
    trace, rows, sizes = result.trace, program.rows, program.groups.crossbars
    assert trace is not None
    where = {p: {g: h.held.index(g) for g in h.groups()} for p, h in initial_holdings(program).items()}
    found: list[tuple[int, int, int, int, int, str]] = []
    for row in range(program.n_rows):
        group, core = int(rows["arg"][row]), int(rows["processor"][row])
        if rows["opcode"][row] == OPCODES["write_weights"]:
            where[core][group] = int(rows["dst_step"][row])
        elif rows["opcode"][row] != OPCODES["mvm"]:
            continue
        first = where[core][group]
        what = "write" if rows["opcode"][row] == OPCODES["write_weights"] else "product"
        found.append((core, first, first + int(sizes[group]), int(trace.start_cycles[row]), int(trace.end_cycles[row]), what))
    return found


def assert_no_array_computes_while_written(program: Program) -> None:
    """No write overlaps in time with anything else on the same arrays."""
    found = spans(program)
    for core in {one[0] for one in found}:
        mine = [one for one in found if one[0] == core]
        for _, first, stop, begin, end, what in mine:
            if what != "write":
                continue
            for _, low, high, start, done, other in mine:
                if (low, high, start, done, other) == (first, stop, begin, end, what) or high <= first or stop <= low:
                    continue
                assert done <= begin or end <= start, (core, (first, stop, begin, end), (low, high, start, done, other))


@pytest.mark.parametrize("plan", PLANS)
def test_no_array_computes_while_written(plan: str) -> None:
    for name in ("residual", "fork", "wide", "tiny_cnn"):
        assert_no_array_computes_while_written(compile_plan(quantised(name), machine(*SMALL), request(), PLANS[plan]))


@pytest.mark.parametrize("plan", ["in situ", "naive ping-pong", "generalized"])
def test_engines_agree(plan: str) -> None:
    program = compile_plan(quantised("residual"), machine(*SMALL), request(), PLANS[plan])
    fast, slow = simulate(program), simulate(program, reference.run)
    assert fast.latency_cycles == slow.latency_cycles
    assert fast.trace is not None and slow.trace is not None
    assert np.array_equal(fast.trace.end_cycles, slow.trace.end_cycles)


def test_in_situ_never_writes_while_it_computes() -> None:
    program = compile_plan(quantised("residual"), machine(*SMALL), request(), PLANS["in situ"])
    found = spans(program)
    for write in (one for one in found if one[5] == "write"):
        assert all(one[4] <= write[3] or write[4] <= one[3] for one in found if one[5] == "product")


def test_generalized_writes_while_others_compute() -> None:
    found = spans(compile_plan(quantised("tiny_cnn"), machine(*SMALL), request(), PLANS["generalized"]))
    products = [one for one in found if one[5] == "product"]
    assert any(w[3] < p[4] and p[3] < w[4] for w in found if w[5] == "write" for p in products)


def test_waiting_less_is_faster() -> None:
    """The same segments on the same cores: barriers only add waits."""
    apart = compile_plan(quantised("tiny_cnn"), machine(*SMALL), request(), PLANS["in situ"])
    free = compile_plan(quantised("tiny_cnn"), machine(*SMALL), request(), replace(PLANS["generalized"], fill=PLANS["in situ"].fill))
    assert cycles(free)[0] < cycles(apart)[0]


def test_writers_are_limited() -> None:
    plan = replace(PLANS["generalized"], is_limited=True)
    slow = machine(*SMALL, "crossbar.rewriting.row_cycles=1", "chip.core_rows=4")
    found = [one for one in spans(compile_plan(quantised("tiny_transformer"), slow, request(), plan)) if one[5] == "write"]
    most = max(sum(a[3] <= b[3] < a[4] for a in found) for b in found)
    free = spans(compile_plan(quantised("tiny_transformer"), slow, request(), PLANS["generalized"]))
    writes = [one for one in free if one[5] == "write"]
    assert most == 2  # a row of 8 weights is half a beat of the memory, and takes one cycle
    assert max(sum(a[3] <= b[3] < a[4] for a in writes) for b in writes) > most


# -- what is counted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", PLANS)
def test_all_weights_are_written_or_stay(plan: str) -> None:
    for name in ("residual", "tiny_cnn", "wide"):
        program = compile_plan(quantised(name), machine(*SMALL), request(), PLANS[plan])
        figures, graph = program.notes["rewriting"], program.graph
        weights = {graph.nodes[n].inputs[1] for n in set(program.rows["node"][rows_of(program, "mvm")].tolist())}
        needed = sum(graph.types[weight].size_bytes for weight in weights)
        assert figures["written_bytes"] + figures["resident_bytes"] >= needed
        writes = program.rows[rows_of(program, "write_weights")]
        assert figures["written_bytes"] == int(writes["length"].sum()) == simulate_bytes(program)
        assert figures["writes"] == writes.size
        is_written = written_groups(program)
        groups = program.groups
        sizes = (groups.row_stop - groups.row_start) * (groups.column_stop - groups.column_start)
        assert figures["resident_bytes"] == int(sizes[~is_written].sum())


def simulate_bytes(program: Program) -> int:
    """Bytes that the write drivers of a simulated program took."""
    return round(sum(node.moved_bytes.get("array writing", 0.0) for node in simulate(program).nodes))


def test_writes_are_counted_per_array() -> None:
    program = compile_plan(quantised("tiny_cnn"), machine(*SMALL), request(), PLANS["generalized, a part stays"])
    figures, rows = program.notes["rewriting"], program.rows
    count = np.zeros((machine(*SMALL).total_cores, 1), np.int64)
    for row in rows_of(program, "write_weights"):
        first, size = int(rows["dst_step"][row]), int(program.groups.crossbars[rows["arg"][row]])
        count[rows["processor"][row], first : first + size] += 1
    assert figures["writes_per_array_max"] == count.max() > 0
    assert figures["writes_per_array_mean"] == count.mean()
    assert figures["inferences_until_worn"] == 1_000_000 // count.max()


def test_energy_of_writing_is_that_of_the_cells() -> None:
    program = compile_plan(quantised("residual"), machine(*SMALL), request(), PLANS["in situ"])
    groups, arg = program.groups, program.rows["arg"][rows_of(program, "write_weights")]
    cells = 2 * (groups.row_stop - groups.row_start) * (groups.column_stop - groups.column_start)  # 8 bits in cells of 4
    assert simulate(program).energy_pj["array writing"] == pytest.approx(10.0 * cells[arg].sum())


def test_dearer_cells_cost_more_and_slower_rows_take_longer() -> None:
    plain = compile_plan(quantised("residual"), machine(*SMALL), request(), PLANS["in situ"])
    slow = compile_plan(quantised("residual"), machine(*SMALL, "crossbar.rewriting.row_cycles=500"), request(), PLANS["in situ"])
    dear = compile_plan(quantised("residual"), machine(*SMALL, "crossbar.rewriting.cell_energy_pj=30.0"), request(), PLANS["in situ"])
    assert cycles(slow)[0] > cycles(plain)[0]
    assert simulate(dear).energy_pj["array writing"] == pytest.approx(3 * simulate(plain).energy_pj["array writing"])


def test_a_core_with_one_set_of_drivers_writes_in_turn() -> None:
    own = compile_plan(quantised("wide"), machine("core.crossbars=4"), request(), PLANS["in situ"])
    shared = compile_plan(quantised("wide"), machine("core.crossbars=4", "crossbar.rewriting.drivers=core"), request(), PLANS["in situ"])
    assert cycles(shared)[0] > cycles(own)[0]
    assert simulate(shared).resources["array writing"] == 4
    assert simulate(own).resources["array writing"] == 16


# -- programs that are wrong ----------------------------------------------------------------------------------------


@pytest.fixture
def sound() -> Program:
    """A program that rewrites arrays."""
    return compile_plan(quantised("residual"), machine(*SMALL), request(), PLANS["generalized"])


def without_edges(program: Program, opcode: str) -> Program:
    """The program in which rows of an opcode wait for nothing."""
    target = np.repeat(np.arange(program.n_rows), np.diff(program.dep_ptr))
    kept = ~np.isin(target, rows_of(program, opcode))
    pointer = np.concatenate([[0], np.cumsum(np.bincount(target[kept], minlength=program.n_rows))]).astype(np.int32)
    return replace(program, dep_ptr=pointer, dep_row=program.dep_row[kept], dep_distance=program.dep_distance[kept])


@pytest.mark.parametrize("opcode", ["write_weights", "mvm"])
def test_a_missing_wait_is_found(sound: Program, opcode: str) -> None:
    with pytest.raises(ProgramError, match=r"no wait for row .* its arrays are written and used at once"):
        verify_program(without_edges(sound, opcode))


def changed(program: Program, at: int, **fields: int) -> Program:
    """The program with one row changed."""
    rows = program.rows.copy()
    for name, value in fields.items():
        rows[name][at] = value
    return replace(program, rows=rows)


def test_arrays_that_do_not_exist_are_refused(sound: Program) -> None:
    at = int(rows_of(sound, "write_weights")[0])
    with pytest.raises(ProgramError, match="arrays 1 to 2 written, arrays 0 to 1 expected, which no group keeps"):
        verify_program(changed(sound, at, dst_step=1))


def test_a_product_needs_its_weights(sound: Program) -> None:
    at, products = int(rows_of(sound, "write_weights")[-1]), rows_of(sound, "mvm")
    group = int(sound.rows["arg"][at])
    other = next(
        int(g)
        for g in sound.rows["arg"][rows_of(sound, "write_weights")]
        if g != group and sound.groups.processor[g] == sound.groups.processor[group]
    )
    assert group in sound.rows["arg"][products]
    wrong = changed(sound, at, arg=other)
    with pytest.raises(ProgramError, match=f"array group {group} found, one that its arrays hold at this place expected"):
        verify_program(wrong)
    with pytest.raises(ProgramError, match=f"uses array group {group}, but the arrays of core"):
        Interpreter(wrong).run({"x": np.zeros(wrong.graph.types["x"].shape, np.int8)})


def test_groups_that_stay_need_room(sound: Program) -> None:
    crowded = replace(sound, groups=replace(sound.groups, processor=np.zeros_like(sound.groups.processor)))
    with pytest.raises(ProgramError):
        verify_program(crowded)


def test_a_program_file_keeps_it(sound: Program, tmp_path: Any) -> None:
    save_program(sound, tmp_path / "p.npz")
    again = load_program(tmp_path / "p.npz")
    verify_program(again)
    assert again.notes["rewriting"] == sound.notes["rewriting"]
    assert simulate(again).latency_cycles == simulate(sound).latency_cycles


# -- the search -----------------------------------------------------------------------------------------------------


def test_auto_is_no_slower_than_any_strategy() -> None:
    found = {
        name: cycles(compile_rewritten(quantised("tiny_cnn"), machine(*SMALL), request(effort=1, cost=cycles, strategy=name)))[0]
        for name in STRATEGIES
    }
    assert found["auto"] == min(found.values())
    assert len(set(found.values())) > 1


def test_what_was_tried_is_told() -> None:
    program = compile_rewritten(quantised("tiny_cnn"), machine(*SMALL), request(effort=1, cost=cycles))
    best = min(one["cycles"] for one in program.notes["tried"] if one["fits"])
    assert best == cycles(program)[0]
    assert {one["what"].split(",")[0] for one in program.notes["tried"]} == {"in_situ", "naive_ping_pong", "generalized"}


def test_a_strategy_has_its_own_plans() -> None:
    assert {plan.schedule for plan in plans("in_situ", 4)} == {Schedule.APART}
    assert {plan.schedule for plan in plans("naive_ping_pong", 4)} == {Schedule.LOCK_STEP}
    assert {plan.schedule for plan in plans("generalized", 4)} == {Schedule.FREE}
    assert max(plan.parts for plan in plans("auto", 4)) <= 4
    assert all(plan.parts == 1 for plan in plans("auto", 1))


def test_what_fits_is_not_rewritten() -> None:
    roomy = machine("core.crossbars=64")
    graph, target = quantised("tiny_cnn"), TARGETS["crossbar"]
    usual, switched = (target.compile(graph, roomy, request(rewrite=switch)) for switch in (False, True))
    assert np.array_equal(usual.rows, switched.rows)
    assert np.array_equal(usual.dep_row, switched.dep_row)
    assert not rows_of(switched, "write_weights").size
    with pytest.raises(UsageError, match=r"strategy: 'in_situ' found, none expected: 'tiny_cnn' fits 'toy'"):
        target.compile(graph, roomy, request(strategy="in_situ"))


@pytest.mark.parametrize(("changes", "asked", "error", "message"), [
    (SMALL, {"rewrite": False}, CapacityError, r"crossbars: \d+ needed, 4 available on 'toy'; .*--rewrite\)$"),
    ((*SMALL, "crossbar.rewriting=null"), {}, HardwareError, "rewrite: 'toy' has no crossbar.rewriting, so its arrays are written once"),
    ((*SMALL, "crossbar.rewriting=null"), {"rewrite": False}, CapacityError, r"crossbars: \d+ needed, 4 .*; [^-]*--set[^-]*$"),
    (SMALL, {"strategy": "best"}, UsageError, "strategy: 'best' found, one of in_situ, naive_ping_pong, generalized, auto expected"),
    (SMALL, {"rewrite": False, "strategy": "auto"}, UsageError, "strategy: 'auto' found, none expected on 'toy': .*add --rewrite"),
    ((*SMALL, "global_memory.size_bytes=2048"), {}, CapacityError, "global memory of chip 0"),
])  # fmt: skip
def test_what_cannot_be_is_told(changes: tuple[str, ...], asked: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message) as found:
        TARGETS["crossbar"].compile(quantised("tiny_cnn"), machine(*changes), request(**asked))
    assert "\n" not in str(found.value)


# -- layers in pieces -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wide", "asymmetric pads", "1d", "tiny_mlp"])
def test_layers_in_pieces_have_the_same_codes(name: str) -> None:
    graph = quantised(name)
    layers = [i for i, n in enumerate(graph.nodes) if n.op in ("Conv", "Linear") and n.attributes.get("group", 1) == 1]
    widths = {i: graph.types[graph.nodes[i].outputs[0]].shape[1 if graph.nodes[i].op == "Conv" else -1] for i in layers}
    cut = cut_layers(graph, {i: (0, 1, width) for i, width in widths.items() if width > 1})
    assert len(cut.nodes) > len(graph.nodes)
    rng = np.random.default_rng(5)
    inputs = {v: rng.integers(-100, 100, graph.types[v].shape).astype(graph.types[v].dtype) for v in graph.inputs}
    whole, pieces = evaluate(graph, inputs), evaluate(cut, inputs)
    assert all(np.array_equal(whole[v], pieces[v]) for v in graph.outputs)


def test_nothing_to_cut_is_the_same_graph() -> None:
    assert cut_layers(quantised("wide"), {}) is quantised("wide")


# -- random networks and machines -----------------------------------------------------------------------------------


def random_network(seed: int) -> Graph:
    """A chain of convolutions with a skip, pooling and products, all of random sizes."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder(f"random_{seed}", seed=seed)
    h = image(b, int(rng.integers(1, 9)), int(rng.integers(4, 9)), int(rng.integers(4, 9)))
    for _ in range(int(rng.integers(1, 5))):
        before, channels = h, int(rng.integers(2, 40))
        h = conv(b, h, channels, (int(rng.integers(1, 4)),) * 2)
        h = b.add("Relu", h) if rng.random() < 0.5 else h
        if b.type_of(before).shape == b.type_of(h).shape and rng.random() < 0.7:
            h = b.add("Add", h, before)
        if rng.random() < 0.3:
            h = b.add("MaxPool", h, kernel_shape=(2, 2), strides=(2, 2)) if min(b.type_of(h).shape[2:]) > 2 else h
    h = b.add("Flatten", b.add("GlobalAveragePool", h), axis=1)
    return quantise(b.finish(linear(b, linear(b, h, int(rng.integers(2, 60))), int(rng.integers(2, 20)))))


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 10_000), crossbars=st.integers(1, 6), rows=st.integers(1, 3), window=st.sampled_from([1, 4, 16]),
    plan=st.sampled_from(sorted(PLANS)), drivers=st.sampled_from(["array", "core"]),
)  # fmt: skip
def test_random_networks_on_random_machines(seed: int, crossbars: int, rows: int, window: int, plan: str, drivers: str) -> None:
    small = machine(
        f"core.crossbars={crossbars}", f"chip.core_rows={rows}", f"core.issue.window={window}", f"crossbar.rewriting.drivers={drivers}"
    )
    graph, chosen = random_network(seed), PLANS[plan]
    if chosen.parts > small.chip.cores:
        chosen = replace(chosen, parts=1, stay=0)
    program = compile_plan(graph, small, request(), chosen)
    assert_conforms(graph, program, (seed,))
    assert_no_array_computes_while_written(program)
    weights = {
        graph.nodes[i].inputs[1]: graph.types[graph.nodes[i].inputs[1]].size_bytes
        for i, n in enumerate(graph.nodes)
        if n.op in ("Conv", "Linear")
    }
    figures = program.notes["rewriting"]
    assert figures["written_bytes"] + figures["resident_bytes"] >= sum(weights.values())


# -- several samples ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("plan", PLANS)
def test_every_sample_has_its_own_numbers(plan: str, mode: Mode) -> None:
    for name in ("residual", "asymmetric pads", "shared weight", "attention", "two inputs", "wide"):
        graph = quantised(name)
        program = compile_plan(graph, machine(*SMALL), request(samples=3, mode=mode), PLANS[plan])
        verify_program(program)
        assert program.graph.inputs == tuple(of_sample(v, s) for v in graph.inputs for s in range(3))
        inputs = codes(program.graph, 4)
        found = Interpreter(program).run(inputs)
        for sample in range(3):
            meaning = evaluate(graph, {v: inputs[of_sample(v, sample)] for v in graph.inputs})
            assert all(np.array_equal(found[of_sample(v, sample)], meaning[v]) for v in graph.outputs)


def test_one_write_serves_all_samples() -> None:
    one, many = (compile_plan(quantised("tiny_cnn"), machine(*MIDDLE), request(samples=n), PLANS["in situ"]) for n in (1, 5))
    assert rows_of(many, "mvm").size == 5 * rows_of(one, "mvm").size
    assert rows_of(many, "write_weights").size == rows_of(one, "write_weights").size > 0
    assert many.notes["rewriting"]["inferences_until_worn"] == pytest.approx(5 * one.notes["rewriting"]["inferences_until_worn"], abs=5)
    assert cycles(many)[0] < 5 * cycles(one)[0]
    assert_no_array_computes_while_written(many)


def test_figures_are_per_sample() -> None:
    compiled = [api.compile("tiny_cnn", machine(*MIDDLE), rewrite=True, batch=n, strategy="in_situ", effort=0) for n in (1, 4)]
    one, many = (c.simulate() for c in compiled)
    assert (one.samples, many.samples) == (1, 4)
    assert many.period_cycles == many.cycles / 4 < one.period_cycles
    assert many.energy_pj["array writing"] == pytest.approx(one.energy_pj["array writing"] / 4)
    assert many.energy_pj["crossbars"] == pytest.approx(one.energy_pj["crossbars"])
    assert [n.name for n in many.nodes] == [n.name for n in one.nodes]
    assert [n.macs for n in many.nodes] == [n.macs for n in one.nodes]
    assert all(many.achieved(bound) <= 1 for bound in many.bounds)
    assert compiled[1].verify(reference="graph").ok


# -- the machine and the reports ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "message"), [
    ("crossbar.rewriting.row_cycles=0", "found 0, expected a positive integer of cycles"),
    ("crossbar.rewriting.cell_energy_pj=-1", "found -1, expected a non-negative number of picojoules"),
    ("crossbar.rewriting.drivers=chip", "found 'chip'"),
    ("crossbar.rewriting.endurance_writes=1.5", "found 1.5, expected a positive integer of writes"),
    ("crossbar.rewriting.rows=3", "unknown key"),
])  # fmt: skip
def test_a_wrong_section_is_answered_with_one_sentence(change: str, message: str) -> None:
    with pytest.raises(HardwareError, match=r"crossbar\.rewriting") as found:
        load_hardware("toy", (change,))
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def test_machines_say_whether_arrays_are_rewritten() -> None:
    assert machine().are_arrays_rewritten
    assert not machine("crossbar.rewriting=null").are_arrays_rewritten
    assert machine("crossbar.rewriting.drivers=core").row_write_cycles(5) == 100
    assert machine().row_write_cycles(5) == 20
    assert machine("crossbar.rewriting=null").row_write_cycles(5) == 0


def test_a_program_cannot_write_what_the_machine_does_not_let(sound: Program) -> None:
    with pytest.raises(ProgramError, match=r"a row writes weights, but 'toy' has no crossbar.rewriting"):
        simulate(replace(sound, hardware=machine(*SMALL, "crossbar.rewriting=null")))


def test_pimsim_cannot_say_it(sound: Program) -> None:
    with pytest.raises(ProgramError, match="arrays are rewritten while it runs, which pimsim-nn cannot say; compile it without --rewrite"):
        api.to_pimsim(sound)


def test_reports_tell_what_is_written() -> None:
    result = api.compile("tiny_cnn", machine(*MIDDLE), rewrite=True, batch=2, effort=0).simulate()
    found = result.rewriting
    assert found is not None and found.samples == 2 and found.inferences_until_worn == 2_000_000 // found.writes_per_array_max
    assert result.to_dict()["notes"]["rewriting"]["writes"] == found.writes
    printed = StringIO()
    summary_table(result, Console(width=80, file=printed, force_terminal=False))
    text = " ".join(printed.getvalue().split())
    assert f"rewritten {found.writes} groups in {found.segments} segments per 2 samples" in text
    assert "all samples, which end together" in text
    page = page_html(result)
    assert "Groups written" in page and "Samples until worn" in page
    plain = api.compile("tiny_cnn", "toy", effort=0).simulate()
    assert plain.rewriting is None
    assert "Groups written" not in page_html(plain)


def test_the_command_line_has_the_switch(capsys: pytest.CaptureFixture[str]) -> None:
    small = [word for change in SMALL for word in ("--set", change)]
    assert main(["run", "tiny_mlp", "--hardware", "toy", *small, "--effort", "0", "--no-verify"]) == 2
    assert capsys.readouterr().err.rstrip().endswith("(--rewrite)")
    assert main(["run", "tiny_mlp", "--hardware", "toy", *small, "--effort", "0", "--rewrite", "--strategy", "in_situ"]) == 0
    assert "numbers agree" in capsys.readouterr().out
    assert main(["run", "tiny_mlp", "--hardware", "gpp-256", "--rewrite"]) == 2
    assert "a machine of kind 'crossbar' expected" in capsys.readouterr().err
