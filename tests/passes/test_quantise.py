"""Quantised graphs compute what their float graphs do, within the stated bound, in valid types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pimloom.errors import ModelError, UsageError, VerificationError
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.evaluate import evaluate
from pimloom.ir.graph import Graph, Node
from pimloom.ir.integer import decode, encode
from pimloom.ir.ops import Rule
from pimloom.ir.quantised import rule_of
from pimloom.ir.verify import verify
from pimloom.passes import (
    AbsorbQuantiseNodes,
    FuseActivations,
    Quantise,
    default_pipeline,
    error_bound,
    random_sample,
    simplify_pipeline,
)
from pimloom.passes.error_bound import rms

Array = np.ndarray[Any, np.dtype[Any]]


def quantised_outputs(graph: Graph, sample: dict[str, Array]) -> dict[str, Array]:
    """Decoded outputs of a quantised graph on real inputs."""
    codes = {v: encode(a, graph.types[v]) if graph.types[v].quant else a for v, a in sample.items()}
    return {v: decode(a, graph.types[v]) for v, a in evaluate(graph, codes).items()}


def cnn() -> Graph:
    b = GraphBuilder("cnn")
    x = b.input("x", (2, 3, 8, 8))
    h = b.add("Conv", x, b.seeded("w0", (8, 3, 3, 3), std=0.3), b.seeded("b0", (8,), std=0.2), pads=(1, 1, 1, 1))
    h = b.add("Relu", h)
    left = b.add("Conv", h, b.seeded("w1", (8, 1, 3, 3), std=0.4), pads=(1, 1, 1, 1), group=8)
    left = b.add("Clip", left, min=0.0, max=6.0)
    right = b.add("MaxPool", h, kernel_shape=(3, 3), pads=(1, 1, 1, 1), strides=(1, 1))
    h = b.add("Concat", left, right, axis=1)
    h = b.add("AveragePool", h, kernel_shape=(3, 3), strides=(2, 2), ceil_mode=1)
    gate = b.add("Sigmoid", b.add("GlobalAveragePool", h))
    h = b.add("Mul", h, gate)
    h = b.add("Flatten", h)
    y = b.add("Gemm", h, b.seeded("w2", (10, 256), std=0.1), b.seeded("b2", (10,)), transB=1, alpha=0.5, beta=2.0)
    return b.finish(y)


def attention(mask: str) -> Graph:
    """One head of masked attention; the mask is added or chosen."""
    b = GraphBuilder(f"attention_{mask}")
    ids = b.input("ids", (1, 6), "int64")
    h = b.add("Gather", b.seeded("table", (20, 8)), ids)
    h = b.add("Add", h, b.seeded("places", (6, 8), std=0.3))
    n = b.add("LayerNormalization", h, b.seeded("g", (8,), mean=1.0, std=0.1), b.seeded("o", (8,), std=0.1))
    q, k, v = (b.add("MatMul", n, b.seeded(f"w{i}", (8, 8), std=0.5)) for i in "qkv")
    scores = b.add("MatMul", q, b.add("Transpose", k, perm=(0, 2, 1)))
    scores = b.add("Div", scores, b.constant("root", np.array(8**0.5, np.float32)))
    above = np.triu(np.ones((1, 6, 6)), 1).astype(bool)
    if mask == "chosen":
        low = b.constant("low", np.array(-np.inf, np.float32))
        scores = b.add("Where", b.constant("seen", ~above), scores, low)
    else:
        values = np.where(above, np.finfo(np.float32).min, 0).astype(np.float32)
        scores = b.add("Add", scores, b.constant("mask", values))
    h = b.add("Add", h, b.add("MatMul", b.add("Softmax", scores), v))
    return b.finish(b.add("LayerNormalization", h, b.seeded("g2", (8,), mean=1.0, std=0.1)))


def odd_ops() -> Graph:
    """Ops of all rules, with awkward constants."""
    b = GraphBuilder("odd")
    x = b.input("x", (1, 4, 6, 6))
    h = b.add("BatchNormalization", x, *(b.seeded(n, (4,), mean=1.0, std=0.2) for n in "sbmv"))
    h = b.add("Resize", h, sizes=(1, 4, 9, 9), mode="linear")
    h = b.add("PRelu", h, b.seeded("slope", (4, 1, 1), mean=0.2, std=0.05))
    h = b.add("InstanceNormalization", h, b.seeded("ig", (4,), mean=1.0, std=0.1), b.seeded("ib", (4,)))
    h = b.add("ConvTranspose", h, b.seeded("wt", (4, 2, 2, 2), std=0.5), strides=(2, 2), group=2)
    h = b.add("Sub", b.constant("one", np.array([1.0], np.float32)), h)
    h = b.add("Pow", h, b.constant("two", np.array(2.0, np.float32)))
    a, c = b.add_many("Split", h, outputs=2, axis=1, sizes=(1, 3))
    h = b.add("Sub", c, a)
    h = b.add("Pad", h, pads=(0, 0, 1, 1, 0, 0, 1, 1), value=0.5)
    return b.finish(b.add("ReduceMean", h, axes=(2, 3)), b.add("ReduceMax", h, axes=(1,)))


GRAPHS = [cnn(), attention("added"), attention("chosen"), odd_ops()]


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda g: g.name)
@pytest.mark.parametrize("bits", [8, 16])
def test_integer_outputs_keep_the_bound(graph: Graph, bits: int) -> None:
    samples = tuple(random_sample(graph, seed) for seed in range(3))
    simple = simplify_pipeline()(graph)
    quantised = FuseActivations()(Quantise(bits, bits, samples)(simple))
    verify(quantised)
    bounds = error_bound(simple, quantised, samples)
    found = [quantised_outputs(quantised, sample) for sample in samples]
    assert set(bounds) == set(graph.outputs)
    for value, bound in bounds.items():
        bound.check(np.stack([f[value] for f in found]))
        assert bound.signal_to_noise_db > (19.0 if bits == 8 else 65.0)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda g: g.name)
def test_simplified_graphs_compute_the_same(graph: Graph) -> None:
    sample = random_sample(graph)
    simple = simplify_pipeline()(graph)
    wanted, found = evaluate(graph, sample), evaluate(simple, sample)
    for value in graph.outputs:
        np.testing.assert_allclose(found[value], wanted[value], rtol=1e-4, atol=1e-5)
    assert simplify_pipeline()(simple) is simple


def test_no_real_value_is_left_between_nodes_and_a_second_run_changes_nothing() -> None:
    graph = default_pipeline()(cnn())
    assert all(graph.types[v].quant for node in graph.nodes for v in node.outputs)
    assert Quantise()(graph) is graph
    assert FuseActivations()(graph) is graph


def test_relu_and_clip_are_fused_and_gemm_is_linear() -> None:
    graph = default_pipeline()(cnn())
    ops = [node.op for node in graph.nodes]
    assert {"Relu", "Clip", "Gemm"}.isdisjoint(ops)
    assert [n.attributes.get("code_low") for n in graph.nodes if n.op == "Conv"] == [0, 0]
    assert "Linear" in ops


def test_weights_have_a_scale_per_channel_and_biases_that_of_the_sums() -> None:
    graph = Quantise()(simplify_pipeline()(cnn()))
    conv = graph.nodes[0]
    x, w, b = (graph.types[v].quant for v in conv.inputs)
    assert x is not None and w is not None and b is not None
    assert (len(w.scale), w.axis, x.zero_point, w.zero_point) == (8, 0, 0, 0)
    np.testing.assert_allclose(b.scale, x.scale[0] * np.array(w.scale))
    codes = graph.constants[conv.inputs[1]].array()
    np.testing.assert_array_equal(np.abs(codes).reshape(8, -1).max(axis=1), np.full(8, 127))


def test_ops_that_move_codes_share_one_scale() -> None:
    graph = Quantise()(simplify_pipeline()(cnn()))
    concat = next(n for n in graph.nodes if n.op == "Concat")
    assert len({graph.types[v].quant for v in (*concat.inputs, *concat.outputs)}) == 1
    assert not any(n.op == "Rescale" for n in graph.nodes)


@pytest.mark.parametrize("mask", ["added", "chosen"])
def test_masked_scores_are_wide_and_get_no_weight(mask: str) -> None:
    graph = simplify_pipeline()(attention(mask))
    sample = random_sample(graph)
    quantised = Quantise(samples=(sample,))(graph)
    softmax = next(n for n in quantised.nodes if n.op == "Softmax")
    assert quantised.types[softmax.inputs[0]].dtype == "int16"
    seen: dict[str, Array] = {}
    evaluate(quantised, sample, seen.__setitem__)
    assert not np.triu(seen[softmax.outputs[0]], 1).any()
    assert seen[softmax.outputs[0]].any()


def test_a_channel_of_tiny_weights_keeps_its_bias() -> None:
    b = GraphBuilder("tiny_channel")
    weights = np.array([[1.0, 1e-14, 0.0]], np.float32)
    y = b.add(
        "Linear",
        b.input("x", (4, 1)),
        b.constant("w", weights),
        b.constant("b", np.array([0.1, 0.5, -0.3], np.float32)),
    )
    graph = b.finish(y)
    for bits in (8, 16):
        sample = random_sample(graph)
        quantised = Quantise(bits, bits, (sample,))(graph)
        found = quantised_outputs(quantised, sample)[y]
        code = quantised.types[y].quant.scale[0]  # type: ignore[union-attr]
        np.testing.assert_allclose(found[:, 1:], np.broadcast_to([0.5, -0.3], (4, 2)), atol=code)


def test_shared_weights_stay_shared() -> None:
    b = GraphBuilder("shared")
    w = b.seeded("w", (4, 4))
    h = b.add("Tanh", b.add("MatMul", b.input("x", (1, 4)), w))
    graph = Quantise()(simplify_pipeline()(b.finish(b.add("MatMul", h, w))))
    first, second = (n.inputs[1] for n in graph.nodes if n.op == "Linear")
    assert first == second


def test_percentile_cuts_outliers() -> None:
    b = GraphBuilder("outlier")
    graph = b.finish(b.add("Relu", b.input("x", (1000,))))
    values = np.linspace(-1, 1, 1000).astype(np.float32)
    values[0] = 100.0
    wide, narrow = (Quantise(samples=({"x": values},), percentile=p)(graph).types["x"].quant for p in (100.0, 99.0))
    assert wide is not None and narrow is not None
    assert wide.scale[0] == pytest.approx(100 / 127)
    assert narrow.scale[0] == pytest.approx(1 / 127, rel=0.02)


def test_a_value_of_zeros_is_quantised() -> None:
    b = GraphBuilder("zeros")
    x = b.input("x", (3,))
    graph = b.finish(b.add("Mul", x, b.constant("c", np.zeros(3, np.float32))))
    sample = {"x": np.ones(3, np.float32)}
    assert quantised_outputs(Quantise(samples=(sample,))(graph), sample)["mul"].tolist() == [0.0] * 3


def test_wrong_options_are_refused() -> None:
    with pytest.raises(UsageError, match="quantise: weight_bits found 4, expected 8 or 16"):
        Quantise(weight_bits=4)
    with pytest.raises(UsageError, match=r"quantise: percentile found 0\.0, expected above 0 and at most 100"):
        Quantise(percentile=0.0)


def test_a_sample_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ModelError, match=r"graph 'cnn': input 'x' is float32\[2\], float32\[2,3,8,8\] expected"):
        Quantise(samples=({"x": np.zeros(2, np.float32)},))(cnn())


# -- models quantised elsewhere -------------------------------------------------------------------------------------


def quantised_elsewhere() -> Graph:
    """x and y with uint8 codes, int8 weights, float bias, a Concat of two scales."""
    b = GraphBuilder("qdq")
    number = lambda name, value, dtype: b.constant(name, np.array(value, dtype))  # noqa: E731
    sx, zx = number("sx", 0.04, np.float32), number("zx", 128, np.uint8)
    sw, sy, zy = number("sw", 0.01, np.float32), number("sy", 0.05, np.float32), number("zy", 100, np.uint8)
    x = b.input("x", (1, 2, 5, 5))
    real = b.add("DequantizeLinear", b.add("QuantizeLinear", x, sx, zx), sx, zx)
    codes = np.random.default_rng(0).integers(-127, 128, (2, 2, 3, 3)).astype(np.int8)
    w = b.add("DequantizeLinear", b.constant("w", codes), sw)
    h = b.add("Relu", b.add("Conv", real, w, b.seeded("bias", (2,), std=0.3), pads=(1, 1, 1, 1)))
    h = b.add("DequantizeLinear", b.add("QuantizeLinear", h, sy, zy), sy, zy)
    return b.finish(b.add("Concat", h, real, axis=1))


def test_given_scales_and_zero_points_are_kept() -> None:
    graph = quantised_elsewhere()
    sample = random_sample(graph)
    quantised = FuseActivations()(Quantise(samples=(sample,))(graph))
    verify(quantised)
    assert [n.op for n in quantised.nodes] == ["Conv", "Rescale", "Concat"]
    conv, rescale, _ = quantised.nodes
    x, w, y = (quantised.types[v] for v in (*conv.inputs[:2], conv.outputs[0]))
    assert (x.dtype, x.quant.zero_point, w.quant.scale) == ("uint8", 128, (pytest.approx(0.01),))  # type: ignore[union-attr]
    assert (y.dtype, y.quant.zero_point, conv.attributes["code_low"]) == ("uint8", 100, 100)  # type: ignore[union-attr]
    assert rescale.inputs == ("x",)
    found, wanted = quantised_outputs(quantised, sample)["concat"], evaluate(graph, sample)["concat"]
    assert np.abs(found - wanted).max() <= 0.05 * 1.01
    assert rms(wanted) > 0.5


def dynamic(scale_is_input: bool, **attributes: Any) -> Graph:
    b = GraphBuilder("dynamic")
    scale = b.input("s", ()) if scale_is_input else b.constant("s", np.array([0.1, 0.2], np.float32))
    zero = b.constant("z", np.array(0, np.int8) if scale_is_input else np.array([0, 1], np.int8))
    return b.finish(b.add("QuantizeLinear", b.input("x", (2, 4)), scale, zero, axis=0, name="q", **attributes))


def test_scales_found_at_run_time_are_refused() -> None:
    with pytest.raises(ModelError, match=r"node 'q' \(QuantizeLinear\): scale or zero point is computed at run time"):
        AbsorbQuantiseNodes()(dynamic(scale_is_input=True))


def test_zero_points_that_vary_are_refused() -> None:
    with pytest.raises(ModelError, match=r"node 'q' \(QuantizeLinear\): zero points vary along an axis"):
        AbsorbQuantiseNodes()(dynamic(scale_is_input=False))


def test_scales_per_block_are_refused() -> None:
    b = GraphBuilder("blocks")
    scale = b.constant("s", np.full((1, 4), 0.1, np.float32))
    graph = b.finish(b.add("QuantizeLinear", b.input("x", (2, 4)), scale, axis=0, block_size=2, name="q"))
    with pytest.raises(ModelError, match=r"node 'q' \(QuantizeLinear\): scales per block found"):
        AbsorbQuantiseNodes()(graph)


def test_reading_codes_with_another_scale_is_refused() -> None:
    b = GraphBuilder("mismatch")
    q = b.add("QuantizeLinear", b.input("x", (4,)), b.constant("s", np.array(0.5, np.float32)))
    graph = b.finish(b.add("DequantizeLinear", q, b.constant("t", np.array(0.25, np.float32)), name="d"))
    with pytest.raises(ModelError, match=r"node 'd' \(DequantizeLinear\): .* has scale 0.5, read with scale 0.25"):
        AbsorbQuantiseNodes()(graph)


# -- the bound ------------------------------------------------------------------------------------------------------


def test_outputs_that_are_no_numbers_have_no_bound() -> None:
    b = GraphBuilder("roots")
    graph = b.finish(b.add("Sqrt", b.input("x", (4,)), name="y"))
    samples = ({"x": np.array([1.0, -1.0, 4.0, -2.0], np.float32)},)
    with pytest.raises(ModelError, match=r"2 of 4 elements of the float network are NaN for these inputs, so nothing can be compared"):
        error_bound(graph, Quantise(samples=samples)(graph), samples)


def test_a_wrong_integer_program_breaks_the_bound() -> None:
    graph = simplify_pipeline()(cnn())
    samples = (random_sample(graph),)
    quantised = Quantise(samples=samples)(graph)
    (bound,) = error_bound(graph, quantised, samples).values()
    found = quantised_outputs(quantised, dict(samples[0]))[graph.outputs[0]][None]
    bound.check(found)
    for wrong in (found * 1.2, found + 4 * bound.code_size, np.roll(found, 1, axis=-1)):
        with pytest.raises(VerificationError, match=r"output '.*': rms difference from the rounded model found .* exp"):
            bound.check(wrong)


def test_a_useless_quantisation_shows_in_the_loss() -> None:
    graph = simplify_pipeline()(cnn())
    samples = (random_sample(graph),)
    bounds = [error_bound(graph, Quantise(b, b, samples)(graph), samples)[graph.outputs[0]] for b in (8, 16)]
    assert bounds[1].loss < bounds[0].loss / 50
    clipped = Quantise(samples=samples, percentile=30.0)(graph)
    assert error_bound(graph, clipped, samples)[graph.outputs[0]].loss > 5 * bounds[0].loss


def test_every_node_of_a_quantised_cnn_has_an_integer_rule() -> None:
    graph = default_pipeline()(cnn())
    rules = {n.op: rule_of(n, graph.input_types(n), graph.output_types(n)) for n in graph.nodes}
    assert Rule.FLOAT not in rules.values(), rules
    assert isinstance(graph.nodes[0], Node)
