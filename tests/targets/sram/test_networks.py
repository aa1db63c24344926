"""Whole networks: what is compiled computes what the graph means, bit for bit, under every strategy."""

from __future__ import annotations

import numpy as np
import pytest
from targets.conformance import assert_conforms
from targets.crossbar.networks import codes, quantised
from targets.sram.jobs import heads_graph, machine, plan, product_graph, program, request

import pimloom
from pimloom import api
from pimloom.errors import CapacityError, InternalError, ModelError, ProgramError, UsageError
from pimloom.execute import Interpreter
from pimloom.ir.evaluate import evaluate
from pimloom.ir.ops import full_attributes
from pimloom.program import OPCODES, Program
from pimloom.program.save import load_program, save_program
from pimloom.program.text import parse_program, print_program, weights_by_digest
from pimloom.program.verify import verify_program
from pimloom.targets import Mode, Request
from pimloom.targets.sram.compile import build, compile_network
from pimloom.targets.sram.predict import candidates
from pimloom.targets.sram.products import General, Product, analyse, matrix_of
from pimloom.targets.sram.strategies import FAMILIES

SMALL = ("tiny_cnn", "tiny_transformer", "tiny_llama")


def compiled(name: str, hardware: str = "gpp-256", strategy: str = "auto", samples: int = 1) -> Program:
    mode = Mode.LATENCY if samples == 1 else Mode.THROUGHPUT
    return compile_network(quantised(name), machine(hardware), Request(mode, samples, 0, 0, None, lambda _: None, strategy))


@pytest.mark.parametrize("strategy", FAMILIES)
@pytest.mark.parametrize("name", SMALL)
def test_every_strategy_computes_the_same(name: str, strategy: str) -> None:
    assert_conforms(quantised(name), compiled(name, strategy=strategy))


@pytest.mark.parametrize("name", ["lenet", "squeezenet", "resnet18", "mobilenet_v2", "shufflenet"])
def test_convolutional_networks_conform(name: str) -> None:
    assert_conforms(quantised(name), compiled(name), (0,))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet", "resnet50", "densenet121", "efficientnet_b0", "vit_tiny", "llama_small"])
def test_large_networks_conform(name: str) -> None:
    assert_conforms(quantised(name), compiled(name), (0,))


def test_simulation_chooses_and_notes_its_plans() -> None:
    run = pimloom.compile("tiny_transformer", "gpp-256", effort=1)
    plans = run.program.notes["plans"]
    assert set(plans) == {n.name for n in run.program.graph.nodes if n.op in ("Linear", "MatMul")}
    assert run.verify(reference="none").is_bit_exact
    (compute,) = (bound for bound in run.simulate(trace=False).bounds if bound.name == "compute")
    assert compute.explanation == "all products, spread evenly over all macros"
    slow = pimloom.compile("tiny_transformer", "gpp-256", effort=1, strategy="in_situ")
    assert run.simulate().cycles <= slow.simulate().cycles
    assert {p["strategy"] for p in slow.program.notes["plans"].values()} == {"in_situ"}


@pytest.mark.parametrize("bandwidth", [8, 64])
def test_auto_is_never_slower_on_a_network_and_more_effort_never_worse(bandwidth: int) -> None:
    graph, hardware = quantised("lenet"), machine("gpp-256", f"link.bytes_per_cycle={bandwidth}")

    def found(effort: int, strategy: str) -> float:
        return api.cycles(compile_network(graph, hardware, Request(Mode.LATENCY, 1, effort, 0, api.cycles, lambda _: None, strategy)))[0]

    for effort in (0, 1):
        by_family = {name: found(effort, name) for name in FAMILIES}
        assert by_family["auto"] == min(by_family.values()), effort
        assert by_family["naive_ping_pong"] <= min(by_family["naive_pairwise"], by_family["naive_lock_step"])
    by_effort = [found(effort, "auto") for effort in (0, 1, 2)]
    assert by_effort == sorted(by_effort, reverse=True)


def test_the_way_back_and_swaps_do_not_go_together() -> None:
    with pytest.raises(InternalError, match="a way back was planned for halves that swap"):
        program(machine(), product_graph(40, 64, 64), plan("naive_lock_step", 2, 8, 8, is_serpentine=True))


def test_attention_writes_activations_into_macros() -> None:
    graph = quantised("tiny_transformer")
    steps = [step for step in analyse(graph, machine().macro).steps if isinstance(step, Product) and step.is_dynamic]
    assert len(steps) == 2
    assert all(step.work.parts == 2 for step in steps)  # heads
    made = compiled("tiny_transformer")
    is_dynamic = made.groups.matrix < 0
    assert is_dynamic.any()
    assert not is_dynamic.all()
    writes = made.rows[made.rows["opcode"] == OPCODES["write_weights"]]
    assert ((writes["src2"] > 0) == (made.groups.matrix[writes["arg"]] < 0)).all()


def test_what_macros_cannot_take_is_left_to_the_sfu() -> None:
    steps = analyse(quantised("tiny_cnn"), machine().macro).steps
    kinds = {quantised("tiny_cnn").nodes[step.node].op: isinstance(step, General) for step in steps}
    assert not kinds["Conv"]
    assert all(is_general for op, is_general in kinds.items() if op not in ("Conv", "Linear"))


@pytest.mark.parametrize("strategy", ["in_situ", "naive_pairwise", "naive_lock_step", "generalized", "auto"])
@pytest.mark.parametrize("name", ["grouped", "depthwise", "multiplier"])
def test_groups_lie_on_the_diagonal_of_macros(name: str, strategy: str) -> None:
    """Every convolution on macros, whatever it costs: the numbers are those of the graph."""
    graph, hardware = quantised(name), machine()
    network = analyse(graph, hardware.macro)
    steps = [step for step in network.steps if isinstance(step, Product)]
    grouped = [step for step in steps if step.groups > 1]
    assert len(steps) == sum(node.op == "Conv" for node in graph.nodes)
    assert grouped
    for pick in (0, -1):  # the fastest of all candidates, and the slowest
        plans = [(step, candidates(hardware, step.work, strategy)[pick] if isinstance(step, Product) else None) for step in network.steps]
        made = build(network, hardware, plans, request(strategy), {})
        assert_conforms(graph, made, (0,))
    for step in grouped:
        rows, cols = step.work.rows // (step.groups // step.work.parts), step.work.cols // (step.groups // step.work.parts)
        weights, codes = graph.constants[step.weight].array(), matrix_of(graph, step)
        assert np.count_nonzero(codes) == np.count_nonzero(weights)
        assert weights.size == step.groups * rows * cols


def test_groups_go_where_they_cost_less() -> None:
    """Depthwise convolutions are faster on macros than on 64 lanes, and slower than on 4096 that cost no latency."""
    graph = quantised("depthwise")
    (depthwise,) = (node.name for node in graph.nodes if node.op == "Conv" and full_attributes(node)["group"] > 1)
    for effort in (0, 1):
        found = {}
        for lanes in (1, 4096):
            hardware = machine("gpp-256", f"sfu.lanes={lanes}", f"sfu.latency_cycles={0 if lanes > 1 else 4}")
            made = compile_network(graph, hardware, Request(Mode.LATENCY, 1, effort, 0, api.cycles, lambda _: None, "auto"))
            found[lanes] = made.notes["kinds"][depthwise]
            assert_conforms(graph, made, (0,))
        assert found == {1: "macros", 4096: "general"}, effort


def test_groups_that_no_memory_holds_are_left_to_the_sfu() -> None:
    hardware = machine("gpp-256", "memories.activation_bytes=64", "memories.input_area_bytes=64")
    made = compile_network(quantised("depthwise"), hardware, request())
    assert set(made.notes["kinds"].values()) == {"macros", "general"}


@pytest.mark.parametrize("name", ["in_situ", "naive_pairwise", "naive_lock_step", "generalized", "auto"])
def test_inputs_of_all_heads_that_are_held_fit_at_once(name: str) -> None:
    """Where weights stay while inputs of several heads pass, none may be laid over one that is still to be read."""
    rng = np.random.Generator(np.random.Philox(5))
    for heads, vectors, rows, cols in ((12, 40, 16, 24), (3, 17, 40, 8), (5, 9, 8, 70), (7, 64, 8, 8)):
        for memory in (640, 1000, 4096):
            graph = heads_graph(heads, vectors, rows, cols)
            hardware = machine("gpp-256", f"memories.activation_bytes={memory}", "macro.rows=8", "macro.cols=8", "cores=3",
                               "memories.input_area_bytes=128", "macro.line_bytes=8")  # fmt: skip
            codes = {v: rng.integers(-128, 128, graph.types[v].shape).astype(np.int8) for v in ("x", "w")}
            network = analyse(graph, hardware.macro)
            for chosen in candidates(hardware, network.steps[0].work, name):  # type: ignore[union-attr]
                made = build(network, hardware, [(network.steps[0], chosen)], request(), {})
                verify_program(made)
                assert np.array_equal(Interpreter(made).run(codes)["y"], evaluate(graph, codes)["y"]), chosen


def test_programs_survive_files_and_text(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = compiled("tiny_transformer", samples=2)
    save_program(made, tmp_path / "p.npz")
    loaded = load_program(tmp_path / "p.npz")
    assert np.array_equal(loaded.rows, made.rows)
    text = print_program(made)
    parsed = parse_program(text, made.graph, made.hardware, weights_by_digest(made))
    assert np.array_equal(parsed.rows, made.rows)
    assert print_program(parsed) == text


def test_truncated_results_are_sums_modulo_256() -> None:
    """The compat machine keeps the low 8 bits of every sum: the whole is the low 8 bits of the exact sum and bias."""
    graph = product_graph(5, 100, 70)
    made = program(machine("gpp-256-compat"), graph, plan("generalized", 8, 5, 8, 4))
    x = np.random.Generator(np.random.Philox(3)).integers(-128, 128, (5, 100)).astype(np.int8)
    exact = x.astype(np.int64) @ graph.constants["w"].array().astype(np.int64) + graph.constants["b"].array()
    kept = (exact + 128) % 256 - 128
    scale = 0.02 * 0.01 / graph.types["y"].quant.scale[0]  # type: ignore[union-attr]
    found = Interpreter(made).run({"x": x})["y"]
    assert np.abs(found - kept * scale).max() <= 0.5 + 1e-6
    assert not np.array_equal(found, evaluate(graph, {"x": x})["y"])
    whole = program(machine("gpp-256-compat", "result_bits=32"), graph, plan("generalized", 8, 5, 8, 4))
    assert np.array_equal(Interpreter(whole).run({"x": x})["y"], evaluate(graph, {"x": x})["y"])


def test_inputs_in_many_samples() -> None:
    made = compiled("tiny_cnn", samples=3)
    graph = quantised("tiny_cnn")
    for seed in range(3):
        inputs = codes(graph, seed)
        executed, meaning = Interpreter(made).run(inputs), evaluate(graph, inputs)
        assert all(np.array_equal(executed[v], meaning[v]) for v in graph.outputs)


# -- what is refused --------------------------------------------------------------------------------------------------


def test_a_product_with_weights_that_are_not_there_is_found() -> None:
    graph = product_graph(4, 64, 64)
    made = program(machine("gpp-256"), graph, plan("in_situ", 2, 4, 8))
    rows = made.rows.copy()
    at = np.flatnonzero(rows["opcode"] == OPCODES["mvm"])
    rows["arg"][at[0]], rows["arg"][at[1]] = rows["arg"][at[1]], rows["arg"][at[0]]
    broken = _with_rows(made, rows)
    with pytest.raises(ProgramError, match=r"array group \d+ found, group \d+, which its array holds, expected"):
        verify_program(broken)
    with pytest.raises(ProgramError, match=r"execute: row \d+ uses array group \d+, but the arrays? of core \d+ holds? \d+"):
        Interpreter(broken).run({"x": np.zeros((4, 64), np.int8)})


def test_weights_from_outside_their_region_are_found() -> None:
    made = compiled("tiny_transformer")
    rows = made.rows.copy()
    at = int(np.flatnonzero((rows["opcode"] == OPCODES["write_weights"]) & (rows["src2"] > 0))[0])
    rows["src1"][at] += 10**6
    with pytest.raises(ProgramError, match=r"weights up to byte \d+ of region \d+ found, a range inside its \d+ bytes expected"):
        verify_program(_with_rows(made, rows))
    rows = rows.copy()
    rows["src2"][at] = 0
    with pytest.raises(ProgramError, match=r"region -1 found for array group \d+ of matrix -1, one of the two expected"):
        verify_program(_with_rows(made, rows))


def _with_rows(made: Program, rows: np.ndarray) -> Program:
    from dataclasses import replace

    return replace(made, rows=rows)


def test_faults_of_users_are_one_sentence() -> None:
    with pytest.raises(UsageError, match=r"strategy: 'fast' found, one of in_situ, naive_ping_pong, generalized, auto, .* expected"):
        pimloom.compile("tiny_mlp", "gpp-256", strategy="fast")
    with pytest.raises(UsageError, match="strategy: 'auto' found, none expected on 'toy': "):
        pimloom.compile("tiny_mlp", "toy", strategy="auto")
    with pytest.raises(ModelError, match=r"codes of 16 bits found, 8 expected: macros of 'gpp-256' multiply bytes; compile with 8 bits"):
        pimloom.compile("tiny_mlp", "gpp-256", weight_bits=16)
    small = machine("gpp-256", "link.outside_bytes=1024")
    with pytest.raises(CapacityError, match=r"memory outside the chip \(bytes\): \d+ needed, 1024 available on 'gpp-256'; use a smaller"):
        pimloom.compile("tiny_cnn", small)
