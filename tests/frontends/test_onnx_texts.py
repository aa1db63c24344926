"""What the loader says about single nodes that do not fit, and sequences that it resolves."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pimloom.errors import ModelError
from pimloom.frontends import load_onnx
from pimloom.ir.evaluate import evaluate

X = "x"
"""Stands for the network's input in a row's list of inputs; arrays are constants."""


def ints(*values: int) -> Any:
    return np.array(values, np.int64)


def real(*shape: int) -> Any:
    return np.ones(shape, np.float32)


def node_model(
    op: str,
    values: list[Any],
    attributes: dict[str, Any],
    opset: int = 20,
    shape: Any = (1, 4, 4, 4),
    n_outputs: int = 1,
) -> onnx.ModelProto:
    """A model of one node named `n` with the input x."""
    names = [v if isinstance(v, str) else f"c{i}" for i, v in enumerate(values)]
    held = [numpy_helper.from_array(v, n) for v, n in zip(values, names, strict=True) if not isinstance(v, str)]
    outputs = ["y", *(f"y{i}" for i in range(1, n_outputs))]
    domain = attributes.pop("domain", "") if "domain" in attributes else ""
    graph = helper.make_graph(
        [helper.make_node(op, names, outputs, name="n", domain=domain, **attributes)],
        "g",
        [helper.make_tensor_value_info(X, TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info(o) for o in outputs],
        held,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


MS = {"domain": "com.microsoft"}

# rows of: op, inputs, attributes, opset, text
ROWS: list[tuple[str, list[Any], dict[str, Any], int, str]] = [
    (
        "ConstantOfShape",
        [ints(2)],
        {"value": numpy_helper.from_array(real(2))},
        20,
        "'value' has 2 elements, expected one",
    ),
    ("Range", [ints(1)[0], ints(5)[0], ints(0)[0]], {}, 20, "delta is 0, expected a step"),
    (
        "Range",
        [real(1)[0], np.float32(np.inf), real(1)[0]],
        {},
        20,
        "it counts from 1.0 to inf, finite bounds are expected",
    ),
    ("EyeLike", [X], {}, 20, "input has shape [1, 4, 4, 4], expected a matrix"),
    (
        "Reshape",
        [X, ints(1, 4, 4, 4, 0)],
        {},
        20,
        "shape [1, 4, 4, 4, 0] copies a dimension that float32[1,4,4,4] does not have",
    ),
    ("Reshape", [X, ints(-1, -1)], {}, 20, "shape [-1, -1] is not valid; at most one -1"),
    ("Reshape", [X, ints(5, -1)], {}, 20, "float32[1,4,4,4] has 64 elements and cannot take shape [5, -1]"),
    ("Flatten", [X], {"axis": 5}, 20, "axis 5 is out of range for a value of 4 dimensions"),
    ("Expand", [X, ints(-3)], {}, 20, "shape [-3] has a negative size"),
    ("Squeeze", [X, ints(0, 0)], {}, 20, "axes [0, 0] name a dimension twice"),
    ("Squeeze", [X, ints(1)], {}, 20, "axis 1 of float32[1,4,4,4] has size 4, 1 expected"),
    ("Tile", [X, ints(2, 2)], {}, 20, "repeats [2, 2] do not fit float32[1,4,4,4]"),
    ("Slice", [X, ints(0), ints(1), ints(0), ints(0)], {}, 20, "steps [0] do not fit together"),
    ("Slice", [X, real(1), ints(1)], {}, 20, "starts is float32[1], expected a list of integers"),
    ("Pad", [X, ints(1, 1)], {}, 20, "2 pads for float32[1,4,4,4], expected 8"),
    ("Pad", [X, ints(1), real(1)[0], ints(2)], {}, 20, "1 pads for 1 axes, expected two per axis"),
    (
        "Pad",
        [X, ints(0, 0, -3, 0, 0, 0, -3, 0)],
        {},
        20,
        "pads [0, 0, -3, 0, 0, 0, -3, 0] cut more than dimension 2 has (4)",
    ),
    (
        "Split",
        [X, ints(1, 2)],
        {"axis": 1},
        20,
        "sizes [1, 2] do not split dimension 1 of float32[1,4,4,4] into 1 parts",
    ),
    ("Split", [X], {"axis": 1, "num_outputs": 0}, 20, "num_outputs is 0, expected 1 or more"),
    ("TopK", [X, ints(9)], {}, 20, "k is 9, dimension 3 of float32[1,4,4,4] has 4 elements"),
    ("TopK", [X, ints(1, 2)], {}, 20, "k has 2 elements, expected one"),
    ("TopK", [X, real(1)], {}, 20, "k is 1.0, expected an integer"),
    (
        "Compress",
        [X, np.array([0, 0, 0, 0, 0, 1], bool)],
        {"axis": 1},
        20,
        "the condition selects index 5, the axis has 4",
    ),
    ("ReverseSequence", [X, ints(1, 2)], {}, 20, "2 lengths and time axis 0 do not fit float32[1,4,4,4]"),
    ("ReverseSequence", [X, ints(9)], {"time_axis": 1, "batch_axis": 0}, 20, "sequence lengths [9] leave the 4 steps"),
    ("CenterCropPad", [X, ints(2, 2)], {}, 20, "shape [2, 2] does not fit the 4 axes"),
    ("SplitToSequence", [X, ints(0)[0]], {}, 20, "the split is 0, expected 1 or more"),
    ("SplitToSequence", [X, ints(3, 3)], {"axis": 1}, 20, "sizes [3, 3] do not split dimension 1"),
    ("SequenceAt", [X, ints(0)[0]], {}, 20, "input 0 is not a sequence"),
    ("Transpose", [X], {"perm": "no"}, 20, "attribute 'perm' is 'no', expected a list of integers"),
    ("Concat", [X, X], {}, 20, "attribute 'axis' is missing; the file is damaged or not valid ONNX"),
    ("Conv", [X, real(2, 4, 3, 3)], {"pads": [1, 1]}, 20, "pads [1, 1] do not fit; expected 4 numbers of 0 or more"),
    ("Conv", [X, real(2, 4, 3, 3)], {"strides": [0, 1]}, 20, "strides [0, 1], dilations [1, 1] do not fit"),
    (
        "Conv",
        [X, real(2, 4, 3, 3)],
        {"kernel_shape": [2, 2]},
        20,
        "weights are float32[2,4,3,3] and kernel_shape [2, 2]",
    ),
    (
        "ConvTranspose",
        [X, real(4, 2, 3, 3)],
        {"output_padding": [1]},
        20,
        "output_padding [1] does not fit; expected 2 numbers",
    ),
    (
        "ConvTranspose",
        [X, real(4, 2, 3, 3)],
        {"output_shape": [9]},
        20,
        "output_shape [9] does not fit; expected 2 sizes",
    ),
    (
        "BatchNormalization",
        [X, *[real(4)] * 4],
        {"spatial": 0},
        8,
        "spatial=0 is not supported; export the model with opset 9",
    ),
    (
        "GroupNormalization",
        [X, real(3), real(3)],
        {"num_groups": 3},
        18,
        "num_groups is 3, expected a divisor of the 4 channels",
    ),
    (
        "GroupNormalization",
        [X, real(4), real(4)],
        {"num_groups": 2},
        18,
        "float32[4], expected 2 elements, one per group, before",
    ),
    (
        "Upsample",
        [X, real(3)],
        {},
        9,
        "scales [1.0, 1.0, 1.0] do not fit float32[1,4,4,4]; expected one positive number",
    ),
    (
        "Resize",
        [X, "", "", ints(1, 4, 0, 8)],
        {},
        20,
        "sizes [1, 4, 0, 8] do not fit float32[1,4,4,4]; expected 4 sizes of 1 or more",
    ),
    ("Resize", [X, "", real(2)], {}, 20, "scales [1.0, 1.0] do not fit float32[1,4,4,4]; expected 4 positive numbers"),
    ("Resize", [X, "", real(4)], {"mode": "odd"}, 20, "mode is 'odd', expected nearest, linear or cubic"),
    (
        "Resize",
        [X, real(2), real(4)],
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        20,
        "the region has 2 numbers, expected 8",
    ),
    ("SpaceToDepth", [X], {"blocksize": 3, "mode": "CRD"}, 20, "blocksize 3 does not fit float32[1,4,4,4]"),
    (
        "MaxPool",
        [real(2, 2)],
        {"kernel_shape": [1]},
        20,
        "input is float32[2,2], expected batch, channels and 1 or more spatial",
    ),
    (
        "Scan",
        [X],
        {"num_scan_inputs": 2, "body": helper.make_graph([], "b", [], [])},
        20,
        "num_scan_inputs is 2, expected 1 to 1",
    ),
    ("Scan", [X], {"num_scan_inputs": 1}, 20, "attribute 'body' is missing"),
    (
        "Loop",
        [ints(2)[0], "", X],
        {"body": helper.make_graph([], "b", [], [])},
        20,
        "its body takes 0 inputs, 3 are given",
    ),
    ("Loop", [ints(2)[0], "", X], {"body": 3}, 20, "attribute 'body' is no graph; the file is damaged"),
    ("SkipLayerNormalization", [X, X, real(4)], MS, 20, "its outputs mean and inverse deviation are not supported"),
    ("EmbedLayerNormalization", [X], MS, 20, "required input 2 is absent"),
    ("QLinearConcat", [real(1)[0], np.uint8(0)], {**MS, "axis": 0}, 20, "it has no operands; the file is damaged"),
    (
        "QLinearSoftmax",
        [np.ones((2, 3, 4), np.uint8), real(1)[0], np.uint8(0), real(1)[0], np.uint8(0)],
        {**MS, "opset": 11, "axis": 1},
        20,
        "the meaning before opset 13 is supported on the last axis only",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[f"{i}-{row[0]}" for i, row in enumerate(ROWS)])
def test_a_node_that_does_not_fit_is_explained(row: Any) -> None:
    op, values, attributes, opset, text = row
    n_outputs = 2 if op == "SkipLayerNormalization" else 1
    with pytest.raises(ModelError, match=re.escape(f"node 'n' ({op}): ") + ".*" + re.escape(text)):
        load_onnx(node_model(op, values, dict(attributes), opset, n_outputs=n_outputs))


@pytest.mark.parametrize(
    ("op", "values", "attributes", "text"),
    [
        (
            "AveragePool",
            [real(1, 1, 4, 4)],
            {"kernel_shape": [2, 2], "pads": [2**40] * 4, "strides": [2**40] * 2},
            "padded",
        ),
        ("Conv", [X, real(2, 4, 1, 1)], {"pads": [2**30] * 4, "strides": [2**30] * 2}, "padded input"),
        (
            "ConvTranspose",
            [X, real(4, 2, 1, 1)],
            {"pads": [2**32] * 4, "strides": [2**32] * 2},
            "output before its pads",
        ),
    ],
)
def test_giants_between_input_and_output_are_refused(op: str, values: Any, attributes: Any, text: str) -> None:
    with pytest.raises(ModelError, match=rf"node 'n' \({op}\): {text}.* is too large, at most 8589934592 elements"):
        load_onnx(node_model(op, values, attributes))


def attention(q: Any, k: Any, mask: Any = None, **attributes: Any) -> onnx.ModelProto:
    values = [X, real(*k), real(*k), *([] if mask is None else [mask])]
    return node_model("Attention", values, attributes, 23, q)


def test_shared_heads_of_attention_must_divide() -> None:
    with pytest.raises(ModelError, match="4 query heads cannot share 3 key heads; expected a multiple"):
        load_onnx(attention((1, 4, 5, 2), (1, 3, 5, 2)))


def test_queries_that_see_nothing_answer_zero() -> None:
    mask = np.array([[True, False], [False, False]])
    graph = load_onnx(attention((1, 1, 2, 3), (1, 1, 2, 3), mask))
    y = evaluate(graph, {X: real(1, 1, 2, 3)})["y"]
    np.testing.assert_allclose(y[0, 0], [[1, 1, 1], [0, 0, 0]], atol=1e-6)


def test_models_without_outputs_or_with_repeated_names_are_refused() -> None:
    proto = node_model("Relu", [X], {})
    del proto.graph.output[:]
    with pytest.raises(ModelError, match="model 'g': it has no outputs; export it again"):
        load_onnx(proto)
    proto = node_model("Relu", [X], {})
    proto.graph.output.append(proto.graph.output[0])
    with pytest.raises(ModelError, match="output 'y': it is listed twice; the file is damaged"):
        load_onnx(proto)
    proto = node_model("Relu", [X], {})
    proto.graph.input.append(proto.graph.input[0])
    with pytest.raises(ModelError, match="graph: an input is listed twice or has no name: "):
        load_onnx(proto)
    proto = node_model("Add", [X, real(4)], {})
    proto.graph.initializer.append(proto.graph.initializer[0])
    with pytest.raises(ModelError, match="tensor 'c1': the name is used twice; the file is damaged"):
        load_onnx(proto)


def test_constants_of_nodes_are_checked_like_weights() -> None:
    tensor = numpy_helper.from_array(real(3), "t")
    tensor.dims[0] = 4
    with pytest.raises(ModelError, match=r"tensor 'n': float32\[4\] needs 16 B \(16 bytes\), 12 bytes found"):
        load_onnx(node_model("Constant", [], {"value": tensor}))
    tensor.data_location = TensorProto.EXTERNAL
    with pytest.raises(ModelError, match=r"node 'n' \(Constant\): only initializers may lie in external files"):
        load_onnx(node_model("Constant", [], {"value": tensor}))


def test_packed_4_bit_weights_must_have_their_length() -> None:
    proto = node_model("Cast", [real(4)], {"to": TensorProto.FLOAT}, 21)
    proto.graph.initializer[0].CopyFrom(TensorProto(name="c0", data_type=TensorProto.INT4, dims=[4], raw_data=b"\x01"))
    with pytest.raises(
        ModelError, match="tensor 'c0': 4 packed 4-bit elements need 2 bytes, 1 found; the file is damaged"
    ):
        load_onnx(proto)


def test_a_loop_whose_condition_depends_on_the_input_is_refused() -> None:
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("ReduceMax", ["v"], ["m"], keepdims=0),
            helper.make_node("Cast", ["m"], ["go"], to=TensorProto.BOOL),
        ],
        "body",
        [info("i", TensorProto.INT64, ()), info("c", TensorProto.BOOL, ()), info("v", TensorProto.FLOAT, (2,))],
        [info("go", TensorProto.BOOL, ()), info("v", TensorProto.FLOAT, (2,))],
    )
    with pytest.raises(
        ModelError, match=r"node 'n' \(Loop\): its condition depends on the network's inputs; only loops of"
    ):
        load_onnx(node_model("Loop", [ints(3)[0], "", X], {"body": body}, shape=(2,)))


def _mapped(lengths: tuple[int, int]) -> onnx.ModelProto:
    """Two sequences of `lengths` parts of x, mapped together with a tensor that all steps share."""
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Mul", ["a", "b"], ["ab"]), helper.make_node("Add", ["ab", "c"], ["r"])],
        "b",
        [info(n, TensorProto.FLOAT, None) for n in "abc"],
        [info("r", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("SplitToSequence", ["x", "n0"], ["s"], axis=0),
        helper.make_node("SplitToSequence", ["x", "n1"], ["t"], axis=0),
        helper.make_node("SequenceMap", ["s", "t", "k"], ["u"], name="n", body=body),
        helper.make_node("ConcatFromSequence", ["u"], ["y"], axis=0),
    ]
    chunks = [numpy_helper.from_array(np.array(6 // n), f"n{i}") for i, n in enumerate(lengths)]
    held = [*chunks, numpy_helper.from_array(np.array(2.0, np.float32), "k")]
    graph = helper.make_graph(nodes, "g", [info("x", TensorProto.FLOAT, (6, 2))], [info("y", TensorProto.FLOAT, None)], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_sequences_are_mapped() -> None:
    loaded = load_onnx(_mapped((3, 3)))
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.testing.assert_array_equal(evaluate(loaded, {"x": x})["y"], x * x + 2.0)
    with pytest.raises(ModelError, match=r"node 'n' \(SequenceMap\): its sequences have 3, 2, 3 elements; equal lengths expected"):
        load_onnx(_mapped((3, 2)))


def test_sequences_are_resolved() -> None:
    """Split, insert, erase, length and join: all disappear but the moves of data."""
    nodes = [
        helper.make_node("SplitToSequence", ["x"], ["s"], axis=0, keepdims=0),
        helper.make_node("SequenceAt", ["s", "last"], ["z"]),
        helper.make_node("SequenceInsert", ["s", "z", "first"], ["t"]),
        helper.make_node("SequenceErase", ["t", "last"], ["u"]),
        helper.make_node("SequenceErase", ["u"], ["v"]),
        helper.make_node("SequenceInsert", ["v", "z"], ["w"]),
        helper.make_node("ConcatFromSequence", ["w"], ["y"], axis=0, new_axis=1),
        helper.make_node("SequenceLength", ["w"], ["n"]),
        helper.make_node("SplitToSequence", ["x", "two"], ["p"], axis=0),
        helper.make_node("ConcatFromSequence", ["p"], ["joined"], axis=0),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [info("x", TensorProto.FLOAT, (3, 2))],
        [info(o, TensorProto.FLOAT, None) for o in ("y", "n", "joined")],
        [numpy_helper.from_array(np.array(v), n) for n, v in (("last", -1), ("first", 0), ("two", 2))],
    )
    loaded = load_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = evaluate(loaded, {"x": x})
    np.testing.assert_array_equal(found["y"], x[[2, 0, 2]])
    assert found["n"] == 3
    np.testing.assert_array_equal(found["joined"], x)


def test_reductions_of_scalars_and_empty_slices() -> None:
    graph = load_onnx(node_model("ReduceSum", [X], {}, shape=()))
    assert evaluate(graph, {X: np.array(3, np.float32)})["y"] == 3
    graph = load_onnx(node_model("Slice", [X, ints(0), ints(2), ints(1), ints(-1)], {}))
    assert graph.types["y"].shape == (1, 0, 4, 4)
