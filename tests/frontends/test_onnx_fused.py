"""Fused and quantised ops against ONNX Runtime, older opsets, recurrent options."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pimloom.errors import ModelError
from pimloom.frontends import load_onnx
from pimloom.ir.evaluate import evaluate

runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle of these tests")
MS = "com.microsoft"
RANDOM = np.random.default_rng(0)
Array = np.ndarray[Any, np.dtype[Any]]


def real(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def u8(*shape: int) -> Array:
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


def i8(*shape: int) -> Array:
    return RANDOM.integers(-128, 128, shape).astype(np.int8)


def f(value: Any) -> Array:
    return np.array(value, np.float32)


def z(value: int) -> Array:
    return np.array(value, np.uint8)


def one_node(
    op: str,
    values: list[Array | None],
    domain: str,
    constants: tuple[int, ...],
    n_outputs: int,
    version: int,
    **attributes: Any,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of one node; the values at `constants` are initializers, the others inputs."""
    names = ["" if value is None else f"i{place}" for place, value in enumerate(values)]
    held = {name: value for name, value in zip(names, values, strict=True) if value is not None}
    fixed = {f"i{place}" for place in constants}
    feeds = {name: value for name, value in held.items() if name not in fixed}
    outputs = [f"o{i}" for i in range(n_outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, name="n", domain=domain, **attributes)],
        "g",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()],
        [helper.make_empty_tensor_value_info(o) for o in outputs],
        [numpy_helper.from_array(held[name], name) for name in sorted(fixed)],
    )
    imports = [helper.make_opsetid("", version), helper.make_opsetid(MS, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10), feeds


def run(model: onnx.ModelProto, feeds: dict[str, Array]) -> list[Array]:
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return runtime.InferenceSession(model.SerializeToString(), options).run(None, feeds)


X = real(2, 5, 8)
H = {"num_heads": 2}
KEYS = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
IDS, SEGMENTS = np.array([[1, 2, 3]], np.int32), np.array([[0, 1, 0]], np.int32)
Q = (1, 2, 3, 4)
EMBEDDING = [IDS, SEGMENTS, real(9, 8), real(4, 8), real(2, 8), real(8), real(8)]
CUBIC = {"antialias": 1, "mode": "cubic", "coordinate_transformation_mode": "align_corners"}
STEPS = np.round(real(2, 3, 7, 5))  # many windows hold their maximum more than once
PLACES = RANDOM.permutation(32)[:8].reshape(1, 2, 2, 2)
LSTM = [real(4, 1, 3), i8(1, 3, 20), i8(1, 5, 20), real(1, 40), None, None, None, None]
PER_GATE = [np.abs(real(1, 20)) / 50, np.zeros((1, 20), np.int8)]
LSTM_CONSTANTS, HIDDEN = (1, 2, 3, 8, 9, 10, 11), {"hidden_size": 5}
NBITS = {"N": 6, "K": 40, "block_size": 16}
BINARY = [u8(2, 8), f(0.1), z(100), u8(2, 8), f(0.05), z(120), f(0.3), z(110)]

# (op, domain, inputs, places of constants, number of outputs, attributes, largest difference)
FUSED: list[tuple[str, str, list[Array | None], tuple[int, ...], int, dict[str, Any], float]] = [
    ("Gelu", MS, [X], (), 1, {}, 1e-5),
    ("FastGelu", MS, [X, real(8)], (1,), 1, {}, 1e-5),
    ("BiasGelu", MS, [X, real(8)], (1,), 1, {}, 1e-5),
    ("QuickGelu", MS, [X], (), 1, {"alpha": 1.5}, 1e-5),
    (
        "SkipLayerNormalization",
        MS,
        [X, real(2, 5, 8), real(8), real(8), real(8)],
        (2, 3, 4),
        1,
        {"epsilon": 1e-5},
        1e-5,
    ),
    ("SkipSimplifiedLayerNormalization", MS, [X, real(2, 5, 8), real(8)], (2,), 1, {"epsilon": 1e-5}, 1e-5),
    ("FusedMatMul", MS, [real(2, 5, 3), real(2, 5, 4)], (), 1, {"transA": 1, "alpha": 0.5}, 1e-5),
    (
        "FusedGemm",
        MS,
        [real(3, 4), real(4, 5), real(5)],
        (1, 2),
        1,
        {"activation": "LeakyRelu", "activation_alpha": 0.2},
        1e-5,
    ),
    ("Attention", MS, [X, real(8, 24), real(24)], (1, 2), 1, H, 1e-5),
    ("Attention", MS, [X, real(8, 24), real(24)], (1, 2), 1, {**H, "unidirectional": 1}, 1e-5),
    ("Attention", MS, [X, real(8, 24), real(24), KEYS], (1, 2, 3), 1, H, 1e-5),
    ("Attention", MS, [X, real(8, 24), real(24), None, None, real(1, 2, 5, 5)], (1, 2), 1, H, 1e-5),
    ("MultiHeadAttention", MS, [X, real(2, 6, 8), real(2, 6, 8), real(24)], (3,), 1, H, 1e-5),
    ("MultiHeadAttention", MS, [X, real(2, 6, 8), real(2, 6, 8), None, None, real(2, 2, 5, 6)], (), 1, H, 1e-5),
    ("MultiHeadAttention", MS, [X, real(2, 2, 6, 4), real(2, 2, 6, 4)], (), 1, H, 1e-5),
    ("EmbedLayerNormalization", MS, [np.array(v) for v in EMBEDDING], (2, 3, 4, 5, 6), 2, {}, 1e-5),
    ("QLinearAdd", MS, [np.array(v) for v in BINARY], (1, 2, 4, 5, 6, 7), 1, {}, 0),
    ("QLinearMul", MS, [np.array(v) for v in BINARY], (1, 2, 4, 5, 6, 7), 1, {}, 1),
    ("QLinearSigmoid", MS, [u8(2, 8), f(0.05), z(100), f(1 / 256), z(0)], Q, 1, {}, 0),
    ("QLinearLeakyRelu", MS, [u8(2, 8), f(0.05), z(100), f(0.05), z(20)], Q, 1, {"alpha": 0.1}, 0),
    ("QLinearSoftmax", MS, [u8(2, 8), f(0.05), z(100), f(1 / 256), z(0)], Q, 1, {"opset": 13, "axis": -1}, 0),
    (
        "QLinearConcat",
        MS,
        [f(0.1), z(90), u8(2, 8), f(0.05), z(100), u8(2, 3), f(0.07), z(3)],
        (0, 1, 3, 4, 6, 7),
        1,
        {"axis": 1},
        0,
    ),
    ("QLinearGlobalAveragePool", MS, [u8(1, 3, 4, 4), f(0.1), z(100), f(0.05), z(110)], Q, 1, {}, 1),
    ("QLinearAveragePool", MS, [u8(1, 3, 5, 5), f(0.1), z(100), f(0.1), z(110)], Q, 1, {"kernel_shape": [3, 3]}, 1),
    (
        "QGemm",
        MS,
        [
            u8(3, 4),
            f(0.1),
            z(100),
            i8(4, 5),
            f([0.02, 0.03, 0.01, 0.05, 0.02]),
            np.zeros(5, np.int8),
            np.arange(-200, 300, 100, np.int32),
            f(0.9),
            z(100),
        ],
        tuple(range(1, 9)),
        1,
        {},
        0,
    ),
    (
        "MatMulIntegerToFloat",
        MS,
        [u8(3, 4), i8(4, 5), f(0.1), f(0.02), z(100), np.array(0, np.int8), real(5)],
        (2, 3, 4, 5),
        1,
        {},
        1e-5,
    ),
    ("FusedConv", MS, [real(1, 2, 5, 5), real(3, 2, 3, 3), real(3)], (1, 2), 1, {"activation": "Relu", "pads": [1] * 4}, 1e-5),
    (
        "FusedConv",
        MS,
        [real(1, 2, 5), real(3, 2, 3), None, real(1, 3, 3)],
        (1,),
        1,
        {"activation": "Clip", "activation_params": [-0.5, 0.5]},
        1e-5,
    ),
    ("QLinearWhere", MS, [X[0] > 0, u8(5, 8), f(0.1), z(90), u8(5, 8), f(0.05), z(100), f(0.1), z(95)], (2, 3, 5, 6, 7, 8), 1, {}, 1),
    ("QAttention", MS, [u8(2, 5, 8), i8(8, 24), real(24), f(0.02), f(0.01), None, z(120), i8(1)[0]], (1, 2, 3, 4, 6, 7), 1, H, 1e-4),
    ("QAttention", MS, [u8(2, 5, 8), u8(8, 24), real(24), f(0.02), f(0.01), KEYS], (1, 2, 3, 4), 1, H, 1e-4),
    ("DynamicQuantizeMatMul", MS, [X, i8(8, 3), np.abs(real(3)), None, real(3)], (1, 2, 4), 1, {}, 1e-3),
    ("DynamicQuantizeMatMul", MS, [X, u8(8, 3), np.abs(real(3)), u8(3)], (1, 2, 3), 1, {}, 1e-3),
    ("DynamicQuantizeLSTM", MS, [*LSTM, f([0.01]), np.zeros(1, np.int8), f([0.02]), np.zeros(1, np.int8)], LSTM_CONSTANTS, 3, HIDDEN, 1e-5),
    ("DynamicQuantizeLSTM", MS, [*LSTM, *PER_GATE, *PER_GATE], LSTM_CONSTANTS, 3, {**HIDDEN, "direction": "reverse"}, 1e-5),
    ("MatMulNBits", MS, [real(3, 40), u8(6, 3, 8), real(6, 3)], (1, 2), 1, {**NBITS, "bits": 4}, 1e-4),
    ("MatMulNBits", MS, [real(3, 40), u8(6, 3, 8), real(18), u8(12), None, real(6)], (1, 2, 3, 5), 1, {**NBITS, "bits": 4}, 1e-4),
    ("MatMulNBits", MS, [real(3, 40), u8(6, 3, 8), real(6, 3), real(6, 3)], (1, 2, 3), 1, {**NBITS, "bits": 4}, 1e-4),
    ("MatMulNBits", MS, [real(3, 40), u8(6, 3, 16), real(6, 3), u8(6, 3)], (1, 2, 3), 1, {**NBITS, "bits": 8}, 1e-2),
    (
        "GatherBlockQuantized",
        MS,
        [u8(7, 16), np.array([[3, 0], [6, 3]]), real(7, 2), u8(7, 1)],
        (0, 2, 3),
        1,
        {"bits": 4, "block_size": 16, "gather_axis": 0, "quantize_axis": 1},
        1e-5,
    ),
    ("Resize", "", [real(1, 2, 11, 13), None, None, np.array([1, 2, 5, 4])], (3,), 1, {"antialias": 1, "mode": "linear"}, 1e-5),
    ("Resize", "", [real(1, 2, 9, 8), None, None, np.array([1, 2, 3, 12])], (3,), 1, {**CUBIC, "exclude_outside": 1}, 1e-5),
    ("Resize", "", [real(1, 2, 9, 8), None, f([1, 1, 0.6, 0.5])], (2,), 1, {**CUBIC, "cubic_coeff_a": -0.5}, 1e-5),
    ("MaxPool", "", [STEPS], (), 2, {"kernel_shape": [2, 2], "strides": [2, 2]}, 0),
    ("MaxPool", "", [STEPS], (), 2, {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}, 0),
    ("MaxPool", "", [STEPS], (), 2, {"kernel_shape": [3, 3], "dilations": [2, 1], "storage_order": 1}, 0),
    ("MaxPool", "", [STEPS], (), 2, {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, 0),
    ("MaxPool", "", [STEPS], (), 2, {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, 0),
    ("MaxPool", "", [i8(1, 2, 7, 5)], (), 2, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}, 0),
    ("MaxPool", "", [real(1, 2, 9)], (), 2, {"kernel_shape": [3], "strides": [2]}, 0),
    ("MaxUnpool", "", [real(1, 2, 2, 2), PLACES], (1,), 1, {"kernel_shape": [2, 2], "strides": [2, 2]}, 0),
    ("MaxUnpool", "", [real(1, 2, 2, 2), PLACES], (1,), 1, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 0, 1]}, 0),
    ("DynamicQuantizeLinear", "", [real(3, 4)], (), 3, {}, 0),
    ("DynamicQuantizeLinear", "", [np.zeros((3, 4), np.float32)], (), 3, {}, 0),
    ("MatMulInteger", "", [u8(3, 4), u8(4, 5), z(10), z(20)], (1, 2, 3), 1, {}, 0),
    ("ConvInteger", "", [u8(1, 2, 5, 5), u8(3, 2, 3, 3), z(10)], (1, 2), 1, {"pads": [1, 1, 1, 1]}, 0),
    (
        "QLinearConv",
        "",
        [
            u8(1, 2, 5, 5),
            f(0.1),
            z(100),
            i8(3, 2, 3, 3),
            f([0.01, 0.02, 0.03]),
            np.zeros(3, np.int8),
            f(0.7123),  # no sum lies half-way between two codes
            z(100),
            np.array([100, -300, 20], np.int32),
        ],
        tuple(range(1, 9)),
        1,
        {"pads": [1, 1, 1, 1]},
        0,
    ),
    (
        "QLinearMatMul",
        "",
        [u8(3, 4), f(0.1), z(100), u8(4, 5), f(0.1), z(100), f(2), z(100)],
        tuple(range(1, 8)),
        1,
        {},
        0,
    ),
]


@pytest.mark.parametrize("row", FUSED, ids=[f"{i}-{row[0]}" for i, row in enumerate(FUSED)])
def test_fused_ops_give_what_onnx_runtime_gives(row: Any) -> None:
    op, domain, values, constants, n_outputs, attributes, tolerance = row
    model, feeds = one_node(op, values, domain, constants, n_outputs, 20, **attributes)
    expected = run(model, feeds)
    graph = load_onnx(model)
    found = evaluate(graph, feeds)
    for name, array in zip(graph.outputs, expected, strict=True):
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name].astype(float), array.astype(float), rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("axis", [0, 1])
def test_weights_with_blocks_become_real(axis: int) -> None:
    codes = i8(40, 6)
    shape = (3, 6) if axis == 0 else (40, 1)
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["w", "s", "z"], ["r"], axis=axis, block_size=16),
            helper.make_node("MatMul", ["x", "r"], ["y"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 40])],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(a, n) for n, a in (("w", codes), ("s", real(*shape)), ("z", i8(*shape)))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    loaded, feeds = load_onnx(model), {"x": real(2, 40)}
    assert [node.op for node in loaded.nodes] == ["MatMul"]
    np.testing.assert_allclose(evaluate(loaded, feeds)["y"], run(model, feeds)[0], rtol=1e-4, atol=1e-3)


CROPPED = {"antialias": 1, "mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}


def test_antialiasing_of_a_region_is_explained() -> None:
    values = [real(1, 1, 8, 8), f([0, 0, 0.1, 0.1, 1, 1, 0.9, 0.9]), None, np.array([1, 1, 4, 4])]
    model, _ = one_node("Resize", values, "", (1, 3), 1, 20, **CROPPED)
    with pytest.raises(ModelError, match=r"node 'n' \(Resize\): antialias=1 with tf_crop_and_resize is not supported; export with"):
        load_onnx(model)


REFUSALS: list[tuple[str, list[Array | None], dict[str, Any], int, str]] = [
    (
        "FusedGemm",
        [real(3, 4), real(4, 5)],
        {"activation": "Odd"},
        1,
        "activation 'Odd' is not known; expected one of Relu",
    ),
    ("FusedMatMul", [real(3, 4), real(4, 5)], {"transBatchA": 1}, 1, "transBatchA and transBatchB are not supported"),
    ("Attention", [X, real(8, 24)], {**H, "do_rotary": 1}, 1, "do_rotary=1 is not supported"),
    ("Attention", [X, real(8, 24)], H, 2, "its output 1 is not supported; export the model without key-value caches"),
    ("Attention", [X, real(8, 20)], H, 1, "weights give 20 columns, expected queries, keys and values of 2 heads"),
    ("MultiHeadAttention", [X], H, 1, "query, key and value have 3, 0 and 0 dimensions; three each are expected"),
    ("MultiHeadAttention", [X, real(2, 6, 2, 3, 4)], H, 1, "input 1 is float32[2,6,2,3,4], expected 2 packed parts"),
    ("GroupQueryAttention", [X], {}, 1, "op 'GroupQueryAttention' of domain 'com.microsoft' (opset 1) is not known"),
    ("NhwcConv", [X, real(2, 3)], {}, 1, "x is float32[2,5,8], weights float32[2,3]"),
    ("GroupNorm", [X, real(8), real(8)], {"groups": 3, "activation": 0}, 1, "groups is 3, expected a divisor of the 8 channels"),
    ("MatMulNBits", [X, u8(6, 1, 8), real(6, 1), None, IDS], {**NBITS, "K": 8}, 1, "its input 4, the group indices, is not supported"),
    ("MatMulNBits", [X, u8(6, 1, 8), real(6, 1)], {**NBITS, "bits": 3}, 1, "codes of 3 bits in blocks of 16 found; 2, 4 or 8 bits"),
    ("MatMulNBits", [X, u8(6, 1, 8), real(6, 1)], {**NBITS, "K": 8}, 1, "the scales (input 2) is computed at run time"),
]


@pytest.mark.parametrize("n_scales", [1, 5])
def test_scales_may_be_computed_by_the_network(n_scales: int) -> None:
    """Rounding to the range of the value at hand, or of each column: how networks with dynamic quantisation are written."""
    nodes = [
        helper.make_node("Abs", ["x"], ["a"]),
        helper.make_node("ReduceMax", ["a", "axes"], ["m"], keepdims=0),
        helper.make_node("Div", ["m", "top"], ["s"]),
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=1),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"], axis=1),
    ]
    zero = np.zeros(n_scales, np.int8) if n_scales > 1 else np.int8(0)
    axes = np.array([0, 2] if n_scales > 1 else [0, 1, 2])
    held = [numpy_helper.from_array(np.asarray(a), n) for n, a in (("z", zero), ("axes", axes), ("top", f(127)))]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, [2, 5, 8])], [helper.make_empty_tensor_value_info("y")], held
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    loaded = load_onnx(model)
    np.testing.assert_allclose(evaluate(loaded, {"x": X})["y"], run(model, {"x": X})[0], rtol=1e-5, atol=1e-6)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op for node in loaded.nodes}


def outputs_of(op: str, values: list[Array | None], n_outputs: int = 1, **attributes: Any) -> list[Array]:
    """The outputs of a node that ONNX Runtime has for other processors only."""
    model, feeds = one_node(op, values, MS, (), n_outputs, 20, **attributes)
    return list(evaluate(load_onnx(model), feeds).values())


def test_packed_operands_of_attention_are_unpacked() -> None:
    q, k, v = real(2, 6, 8), real(2, 6, 8), real(2, 6, 8)
    (wanted,) = outputs_of("MultiHeadAttention", [q, k, v], **H)
    heads = [a.reshape(2, 6, 2, 1, 4) for a in (q, k, v)]
    for packed in ([np.concatenate(heads, 3)], [q, np.concatenate(heads[1:], 3)]):
        np.testing.assert_allclose(outputs_of("MultiHeadAttention", list(packed), **H)[0], wanted, rtol=1e-6)


def test_convolutions_and_norms_with_channels_last() -> None:
    x, w, b = real(1, 5, 6, 4), real(8, 3, 3, 2), real(8)
    plain = one_node("Conv", [x.transpose(0, 3, 1, 2), w.transpose(0, 3, 1, 2), b], "", (1, 2), 1, 20, group=2, pads=[1] * 4)
    (wanted,) = run(*plain)
    (found,) = outputs_of("NhwcConv", [x, w, b], group=2, pads=[1] * 4)
    np.testing.assert_allclose(found, wanted.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5)
    scale, offset, skip, bias = real(4), real(4), real(1, 4), real(4)
    for last in (0, 1):
        given = x if last else x.transpose(0, 3, 1, 2)
        total = x + skip[:, None, None] + bias
        wide = total.reshape(1, 30, 2, 2)
        normal = (wide - wide.mean((1, 3), keepdims=True)) / np.sqrt(wide.var((1, 3), keepdims=True) + 1e-5)
        normal = normal.reshape(x.shape) * scale + offset
        normal = normal / (1 + np.exp(-normal))
        y, held = outputs_of("SkipGroupNorm", [given, scale, offset, skip, bias], 2, groups=2, activation=1, channels_last=last)
        order = (0, 1, 2, 3) if last else (0, 3, 1, 2)
        np.testing.assert_allclose(y, normal.transpose(order), rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(held, total.transpose(order), rtol=1e-6)


def test_sums_before_an_activation_by_halves() -> None:
    bias, skip = real(8), real(2, 5, 8)
    (total,) = outputs_of("BiasAdd", [X, bias, skip])
    np.testing.assert_allclose(total, X + bias + skip, rtol=1e-6)
    (found,) = outputs_of("BiasSplitGelu", [X, bias])
    hidden, gate = np.split(X + bias, 2, -1)
    (gelu,) = run(*one_node("Gelu", [gate], MS, (), 1, 20))
    np.testing.assert_allclose(found, hidden * gelu, rtol=1e-4, atol=1e-6)


def test_weights_laid_out_for_a_processor_are_explained() -> None:
    model, _ = one_node("ReorderInput", [X], "com.microsoft.nchwc", (), 1, 20)
    with pytest.raises(ModelError, match=r"node 'n' \(ReorderInput\): ONNX Runtime laid the weights out for the processor it ran on; use"):
        load_onnx(model)


@pytest.mark.parametrize(("op", "values", "attributes", "n_outputs", "text"), REFUSALS)
def test_unsupported_forms_of_fused_ops_are_explained(op: str, values: Any, attributes: Any, n_outputs: int, text: str) -> None:
    model, _ = one_node(op, values, MS, (), n_outputs, 20, **attributes)
    with pytest.raises(ModelError, match=re.escape(f"node 'n' ({op}): {text}")):
        load_onnx(model)


OLDER: list[tuple[str, int, list[Array | None], dict[str, Any]]] = [
    ("Softmax", 9, [real(2, 3, 4)], {}),
    ("Softmax", 11, [real(2, 3, 4)], {"axis": -1}),
    ("LogSoftmax", 11, [real(2, 3, 4)], {"axis": 0}),
    ("Hardmax", 11, [real(2, 3, 4)], {}),
    ("Clip", 9, [real(4)], {"min": -0.5, "max": 0.5}),
    ("Clip", 9, [real(4)], {"max": 0.5}),
    ("Slice", 9, [real(4, 5)], {"starts": [1, -3], "ends": [9, -1], "axes": [0, 1]}),
    ("Pad", 9, [real(2, 3)], {"pads": [1, 0, 0, 2], "value": 3.0}),
    ("Squeeze", 9, [real(1, 3, 1)], {"axes": [0]}),
    ("Unsqueeze", 9, [real(3)], {"axes": [0, 2]}),
    ("Split", 9, [real(6, 2)], {"split": [1, 5]}),
    ("ReduceSum", 9, [real(2, 3)], {"axes": [1], "keepdims": 0}),
    ("TopK", 9, [real(2, 5)], {"k": 2}),
    ("Upsample", 7, [real(1, 2, 3, 3)], {"scales": [1.0, 1.0, 2.0, 3.0], "mode": "nearest"}),
    ("Upsample", 9, [real(1, 2, 3, 3), f([1, 1, 2, 2])], {"mode": "linear"}),
    ("Resize", 10, [real(1, 2, 4, 4), f([1, 1, 1.5, 0.5])], {"mode": "nearest"}),
    ("DepthToSpace", 9, [real(1, 8, 2, 3)], {"blocksize": 2}),
    ("BatchNormalization", 9, [real(2, 3, 4), real(3), real(3), real(3), np.abs(real(3))], {}),
    ("Dropout", 9, [real(2, 3)], {"ratio": 0.9}),
    ("Flatten", 9, [real(2, 3, 4)], {"axis": 2}),
    ("GridSample", 16, [real(1, 2, 4, 4), np.tanh(real(1, 3, 3, 2))], {"mode": "bilinear"}),
    ("GroupNormalization", 18, [real(2, 6, 3), real(2), real(2)], {"num_groups": 2}),
]


@pytest.mark.parametrize(("op", "opset", "values", "attributes"), OLDER, ids=[f"{i}-{r[0]}-{r[1]}" for i, r in enumerate(OLDER)])
def test_older_opsets_keep_their_meaning(op: str, opset: int, values: Any, attributes: Any) -> None:
    n_outputs = 2 if op in ("Split", "TopK") else 1
    model, feeds = one_node(op, values, "", tuple(range(1, len(values))), n_outputs, opset, **attributes)
    graph = load_onnx(model)
    found = evaluate(graph, feeds)
    for name, array in zip(graph.outputs, run(model, feeds), strict=True):
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


def recurrent(op: str, *, direction: str, bias: bool, state: bool, **attributes: Any) -> tuple[onnx.ModelProto, dict[str, Array]]:
    gates, n = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 2 if direction == "bidirectional" else 1
    steps, batch, width, hidden = 4, 2, 3, 5
    values: list[Array | None] = [
        real(steps, batch, width),
        real(n, gates * hidden, width),
        real(n, gates * hidden, hidden),
    ]
    values.append(real(n, 2 * gates * hidden) if bias else None)
    values.append(np.full(batch, steps, np.int32))
    values.append(real(n, batch, hidden) if state else None)
    if op == "LSTM":
        values.append(real(n, batch, hidden) if state else None)
        values.append(real(n, 3 * hidden) if state else None)
    constants = tuple(i for i in (1, 2, 3, 4, 7) if i < len(values) and values[i] is not None)
    n_outputs = 3 if op == "LSTM" else 2
    return one_node(op, values, "", constants, n_outputs, 20, hidden_size=hidden, direction=direction, **attributes)


RECURRENT: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("LSTM", {"clip": 0.4}),
    ("LSTM", {"input_forget": 1}),
    ("LSTM", {"activations": ["HardSigmoid", "Relu", "Softsign"], "activation_alpha": [0.3], "activation_beta": [0.4]}),
    ("GRU", {}),
    ("GRU", {"linear_before_reset": 1}),
    ("GRU", {"activations": ["HardSigmoid", "LeakyRelu"], "activation_alpha": [0.3, 0.2]}),
    ("RNN", {}),
    ("RNN", {"activations": ["ScaledTanh"], "activation_alpha": [1.5], "activation_beta": [0.5]}),
    ("RNN", {"activations": ["Affine"], "activation_alpha": [0.5], "activation_beta": [0.1]}),
]


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize(("op", "attributes"), RECURRENT)
def test_recurrent_ops_are_unrolled_rightly(op: str, attributes: dict[str, Any], full: bool, direction: str) -> None:
    attributes = dict(attributes)
    if direction == "bidirectional":
        for name in ("activations", "activation_alpha", "activation_beta"):
            if name in attributes:
                attributes[name] = attributes[name] * 2
    model, feeds = recurrent(op, direction=direction, bias=full, state=full, **attributes)
    graph = load_onnx(model)
    found = evaluate(graph, feeds)
    for name, array in zip(graph.outputs, run(model, feeds), strict=True):
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


def test_unrolled_steps_share_their_weights() -> None:
    model, _ = recurrent("LSTM", direction="forward", bias=True, state=False)
    graph = load_onnx(model)
    products = [node.inputs[1] for node in graph.nodes if node.op == "MatMul"]
    assert len(products) == 4, "one product for all inputs and one per later step"
    assert len(set(products[1:])) == 1


RECURRENT_FAULTS: list[tuple[dict[str, Any], dict[int, Array], str]] = [
    ({"direction": "sideways"}, {}, "direction is 'sideways', expected forward, reverse or bidirectional"),
    ({"activations": ["Tanh", "Sigmoid"]}, {}, "2 activations, expected 1"),
    ({"activations": ["Odd"]}, {}, "activation 'Odd' is not known; expected Relu"),
    ({}, {4: np.array([4, 2], np.int32)}, "sequence lengths differ from the 4 steps; pad or bucket the sequences"),
    ({}, {1: real(1, 5, 4)}, "W and R are float32[1,5,4] and float32[1,5,5], expected shapes [1, 5, 3] and [1, 5, 5]"),
]


@pytest.mark.parametrize(("attributes", "changed", "text"), RECURRENT_FAULTS)
def test_faults_of_recurrent_ops_are_explained(attributes: dict[str, Any], changed: dict[int, Array], text: str) -> None:
    model, _ = recurrent("RNN", direction="forward", bias=False, state=False)
    for name, value in attributes.items():
        node = model.graph.node[0]
        for old in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(old)
        node.attribute.append(helper.make_attribute(name, value))
    for place, array in changed.items():
        tensor = next(t for t in model.graph.initializer if t.name == f"i{place}")
        tensor.CopyFrom(numpy_helper.from_array(array, f"i{place}"))
    with pytest.raises(ModelError, match=re.escape(f"node 'n' (RNN): {text}")):
        load_onnx(model)


@pytest.mark.parametrize("axes", [[0, 1], [1, 0]])
def test_scans_are_unrolled(axes: list[int]) -> None:
    """Running sums along one axis; the outputs are stacked along another."""
    body = helper.make_graph(
        [helper.make_node("Add", ["s", "v"], ["t"]), helper.make_node("Identity", ["t"], ["u"])],
        "body",
        [helper.make_tensor_value_info(n, 1, (3,)) for n in ("s", "v")],
        [helper.make_tensor_value_info(n, 1, (3,)) for n in ("t", "u")],
    )
    x = real(4, 3) if axes[0] == 0 else real(3, 4)
    attributes = {"scan_input_axes": [axes[0]], "scan_output_axes": [axes[1]], "scan_input_directions": [1]}
    model, feeds = one_node("Scan", [real(3), x], "", (), 2, 20, body=body, num_scan_inputs=1, **attributes)
    found = evaluate(load_onnx(model), feeds)
    for name, array in zip(("o0", "o1"), run(model, feeds), strict=True):
        np.testing.assert_allclose(found[name], array, rtol=1e-5)
