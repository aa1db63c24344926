"""Every target, on every machine: what is compiled runs, is well formed, and computes what the graph means, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from oracles.timed_order import TimedOrder
from targets.conformance import MACHINES, assert_conforms, compiled, machine
from targets.crossbar.networks import MADE, TINY, codes, conv, image, linear, quantise, quantised

from pimloom.errors import CapacityError
from pimloom.hardware import load_hardware
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.evaluate import evaluate
from pimloom.ir.graph import Graph
from pimloom.program import OPCODES
from pimloom.simulate import Times, cost, engine
from pimloom.targets import TARGETS, Mode

NETWORKS = (*MADE, *TINY, "lenet")
EVERYWHERE = ("tiny_cnn", "tiny_mlp", "tiny_transformer", "squeeze excite", "concat split slice", "wide conv", "grouped")
"""What runs on every machine; the rest runs on the small ones."""
SMALL = ("toy", "many small cores", "little memory", "one at a time")
TOO_SMALL = {("wide", "little memory"), ("tiny_gpt", "little memory"), ("tiny_llama", "little memory")}

def _cases() -> list[object]:
    pairs = [(n, m) for m in MACHINES for n in (NETWORKS if m in SMALL else EVERYWHERE)]
    return [pytest.param(n, m, id=f"{n}-{m}") for n, m in pairs if (n, m) not in TOO_SMALL]


def test_every_target_has_machines() -> None:
    assert {machine(name).kind for name in MACHINES} == set(TARGETS)


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize(("name", "where"), _cases())
def test_network_conforms(name: str, where: str, mode: Mode) -> None:
    hardware = machine(where)
    graph = quantised(name, hardware.precision.weight_bits, hardware.precision.activation_bits)
    assert_conforms(graph, compiled(graph, hardware, mode, 1 if mode is Mode.LATENCY else 2))


@pytest.mark.parametrize(("name", "where"), sorted(TOO_SMALL))
def test_too_small_a_memory_is_said_in_numbers(name: str, where: str) -> None:
    try:
        program = compiled(quantised(name), machine(where))
    except CapacityError as error:
        assert error.needed > error.available == 1536
        assert f"(bytes): {error.needed} needed, {error.available} available on 'toy'" in str(error)
    else:
        assert_conforms(quantised(name), program)


@pytest.mark.parametrize(("weight_bits", "activation_bits"), [(8, 16), (16, 8), (16, 16)])
@pytest.mark.parametrize("name", ["tiny_cnn", "average pools", "residual", "depthwise", "softmax norm", "wide"])
def test_wider_codes_conform(name: str, weight_bits: int, activation_bits: int) -> None:
    graph = quantised(name, weight_bits, activation_bits)
    assert_conforms(graph, compiled(graph, machine("roomy")))


# -- the order of the machine, not of the stream ----------------------------------------------------------------------


def timed(name: str, where: str, mode: Mode, samples: int) -> tuple[Graph, TimedOrder]:
    hardware = machine(where)
    graph = quantised(name, hardware.precision.weight_bits, hardware.precision.activation_bits)
    program = compiled(graph, hardware, mode, samples)
    inputs = [codes(graph, seed) for seed in range(samples)]
    return graph, TimedOrder(program, engine.run(cost(program).timing), inputs)


ORDERED = [n for n in NETWORKS if n != "lenet"]
ORDER_CASES = [
    *((n, w, m) for n in ORDERED for w, m in (("toy", Mode.THROUGHPUT), ("little memory", Mode.THROUGHPUT)) if (n, w) not in TOO_SMALL),
    *((n, "many small cores", Mode.LATENCY) for n in ORDERED),
    *((n, "few macros", Mode.THROUGHPUT) for n in ORDERED),
    *((n, "gpp-256", Mode.THROUGHPUT) for n in ("tiny_cnn", "tiny_transformer", "wide conv")),
    *((n, w, Mode.THROUGHPUT) for n in ("tiny_cnn", "squeeze excite", "wide conv") for w in ("isaac", "one at a time", "in order")),
]


@pytest.mark.parametrize(("name", "where", "mode"), ORDER_CASES)
def test_dependencies_suffice_in_time_order(name: str, where: str, mode: Mode) -> None:
    """Three samples in flight at once, each row carried out when it is done, give the numbers of one after another."""
    graph, order = timed(name, where, mode, 3)
    meaning = [evaluate(graph, codes(graph, seed)) for seed in range(3)]
    for sample, outputs in enumerate(order.run(by="done")):
        for value in graph.outputs:
            assert np.array_equal(outputs[value], meaning[sample][value]), (sample, value)


@pytest.mark.parametrize(("name", "where", "mode"), ORDER_CASES)
def test_no_two_rows_race(name: str, where: str, mode: Mode) -> None:
    """No bytes are touched by two rows at the same time if one of them writes."""
    assert timed(name, where, mode, 3)[1].races() == []


def test_a_slot_is_not_free_while_a_task_that_was_overtaken_reads_it() -> None:
    """A row is read by a task of many vectors and then by one of few, which is done first: they have buffers of their own."""
    b = GraphBuilder("overtaken", seed=1)
    graph = quantise(b.finish(conv(b, image(b, 2, 3, 7), 64, (1, 3), strides=(2, 1))))
    hardware = load_hardware("toy", {"core.crossbars": 2, "chip.core_rows": 3, "chip.core_cols": 1, "core.local_memory.size_bytes": 4096})
    inputs = [codes(graph, seed) for seed in range(3)]
    program = compiled(graph, hardware, Mode.THROUGHPUT, 3)
    order = TimedOrder(program, engine.run(cost(program).timing), inputs)
    assert order.races() == []
    for outputs, sample in zip(order.run(by="done"), inputs, strict=True):
        meaning = evaluate(graph, sample)
        assert all(np.array_equal(outputs[value], meaning[value]) for value in graph.outputs)


@pytest.mark.parametrize("forgotten", ["copy", "mvm", "finish"])
def test_a_row_that_runs_late_is_a_race(forgotten: str) -> None:
    graph, order = timed("tiny_cnn", "toy", Mode.THROUGHPUT, 2)
    rows = np.flatnonzero(order.program.rows["opcode"] == OPCODES[forgotten])
    done = order.times.done.copy()
    done[rows[rows.size // 2]] += 4000
    slow = TimedOrder(order.program, Times(order.times.start, done, order.times.waits), [codes(graph, s) for s in range(2)])
    assert any(forgotten in race for race in slow.races())


# -- random networks ---------------------------------------------------------------------------------------------------


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """A small network of random layers and shapes, as quantised."""
    b = GraphBuilder("random", seed=draw(st.integers(0, 50)))
    x = b.input("x", (draw(st.sampled_from([1, 1, 2])), draw(st.integers(1, 5)), draw(st.integers(2, 8)), draw(st.integers(2, 8))))
    values = [x]
    for _ in range(draw(st.integers(1, 6))):
        values.append(draw(_layer(b, values)))
    return quantise(b.finish(*dict.fromkeys((values[-1], *draw(st.lists(st.sampled_from(values[1:]), max_size=1))))))


def _sides(b: GraphBuilder, x: str) -> tuple[int, int]:
    return b.type_of(x).shape[2:]  # pyright: ignore[reportReturnType]


@st.composite
def _layer(draw: st.DrawFn, b: GraphBuilder, values: list[str]) -> str:
    x = draw(st.sampled_from(values[-2:]))
    kind = draw(st.sampled_from(("conv", "conv", "pool", "unary", "join", "binary", "gate", "view", "channel", "softmax")))
    channels, (height, width) = b.type_of(x).shape[1], _sides(b, x)
    same = [v for v in values if b.type_of(v).shape == b.type_of(x).shape]
    if kind == "conv":
        kernel = draw(st.integers(1, min(3, height + 1))), draw(st.integers(1, min(3, width + 1)))
        groups = [g for g in (1, 1, 2, channels) if channels % g == 0]
        group = draw(st.sampled_from(groups))
        pads = tuple(draw(st.integers(0, k - 1)) for k in (*kernel, *kernel))
        pads = (max(pads[0], kernel[0] - height), max(pads[1], kernel[1] - width), *pads[2:])
        outputs = group * draw(st.integers(1, 3))
        return conv(b, x, outputs, kernel, group=group, pads=pads, strides=(draw(st.integers(1, 2)), draw(st.integers(1, 2))))
    if kind == "pool":
        kernel = min(2, height), min(2, width)
        op = draw(st.sampled_from(("MaxPool", "AveragePool")))
        strides = draw(st.integers(1, 2)), draw(st.integers(1, 2))
        return b.add(op, x, kernel_shape=kernel, strides=strides, pads=(0, 0, draw(st.integers(0, kernel[0] - 1)), 0))
    if kind == "unary":
        return b.add(draw(st.sampled_from(("Relu", "Sigmoid", "Tanh", "Neg", "HardSwish"))), x)
    if kind == "join":
        others = [v for v in values if b.type_of(v).shape[0] == b.type_of(x).shape[0] and _sides(b, v) == (height, width)]
        return b.add("Concat", x, draw(st.sampled_from(others)), axis=1)
    if kind == "binary":
        return b.add(draw(st.sampled_from(("Add", "Mul", "Sub"))), x, draw(st.sampled_from(same)))
    if kind == "gate":
        mean = b.add("GlobalAveragePool", x)
        return b.add("Mul", x, b.add("Sigmoid", mean))
    if kind == "view" and channels > 1:
        start = draw(st.integers(0, channels - 2))
        return b.add("Slice", x, starts=(start,), ends=(draw(st.integers(start + 1, channels)),), axes=(1,), steps=(1,))
    if kind == "channel":
        return b.add(draw(st.sampled_from(("Add", "Mul"))), b.add("Relu", x), b.seeded("c", (1, channels, 1, 1)))
    return b.add("Softmax", x, axis=draw(st.sampled_from((1, 1, 3))))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(networks(), st.sampled_from(SMALL), st.sampled_from(list(Mode)))
def test_random_networks_conform(graph: Graph, where: str, mode: Mode) -> None:
    if not graph.nodes:
        return
    try:
        program = compiled(graph, machine(where), mode, 2)
    except CapacityError:
        assert where == "little memory"
        return
    assert_conforms(graph, program, (3,))
    inputs = [codes(graph, seed) for seed in range(2)]
    order = TimedOrder(program, engine.run(cost(program).timing), inputs)
    assert order.races() == []


def test_long_rows_of_vectors_conform() -> None:
    """Values that are not images: prime numbers of vectors, one vector, one element."""
    for shape in ((1, 17, 6), (23, 5), (1, 1), (2, 3, 5, 4)):
        b = GraphBuilder("rows")
        h = b.add("Relu", linear(b, b.input("x", shape), 7))
        graph = quantise(b.finish(b.add("Softmax", linear(b, h, 3), axis=-1)))
        assert_conforms(graph, compiled(graph, machine("toy")))
