"""Damaged files: whatever the bytes, loading ends in a Graph or in a ModelError, soon and in little memory."""

from __future__ import annotations

import random
import resource
import time
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from pimloom.errors import ModelError
from pimloom.frontends import load_onnx

MOST_SECONDS = 10.0
MOST_GROWTH_KIB = 2 * 1024**2


def small_models() -> list[bytes]:
    """Models of a few nodes that use all parts of the format: subgraphs, functions, tensors of several kinds."""
    rng = np.random.default_rng(0)

    def tensor(name: str, *shape: int) -> TensorProto:
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    def info(name: str, shape: Any, dtype: int = TensorProto.FLOAT) -> Any:
        return helper.make_tensor_value_info(name, dtype, shape)

    cnn = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], kernel_shape=[3, 3], auto_pad="SAME_UPPER", strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], ceil_mode=1),
        helper.make_node("Resize", ["p", "", "scales"], ["u"], mode="linear"),
        helper.make_node("Shape", ["u"], ["s"]),
        helper.make_node("Slice", ["s", "zero", "one"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["u", "to"], ["f"]),
        helper.make_node("Softmax", ["f"], ["y"], axis=-1),
    ]
    numbers = {"scales": np.float32([1, 1, 2, 2]), "zero": np.array([0]), "one": np.array([1]), "rest": np.array([-1])}
    held = [tensor("w", 4, 2, 3, 3), helper.make_tensor("b", 1, [4], [0.1, 0.2, 0.3, 0.4])]
    held += [numpy_helper.from_array(a, n) for n, a in numbers.items()]
    graphs = [helper.make_graph(cnn, "cnn", [info("x", ("n", 2, 7, 7))], [info("y", None)], held)]
    lstm = [helper.make_node("LSTM", ["x", "w", "r", "b"], ["y", "h", "c"], hidden_size=3, direction="reverse")]
    weights = [tensor("w", 1, 12, 2), tensor("r", 1, 12, 3), tensor("b", 1, 24)]
    graphs.append(helper.make_graph(lstm, "lstm", [info("x", (4, 1, 2))], [info("y", None), info("c", None)], weights))
    body = helper.make_graph(
        [helper.make_node("Mul", ["v", "two"], ["w"]), helper.make_node("Identity", ["c"], ["go"])],
        "body",
        [info("i", (), 7), info("c", (), 9), info("v", (2,))],
        [info("go", (), 9), info("w", (2,))],
    )
    loop = [helper.make_node("Loop", ["trips", "", "x"], ["y"], body=body)]
    graphs.append(
        helper.make_graph(
            loop,
            "loop",
            [info("x", (2,))],
            [info("y", None)],
            [numpy_helper.from_array(np.array(5), "trips"), numpy_helper.from_array(np.float32([2]), "two")],
        )
    )
    moves = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        helper.make_node("Pad", ["t", "pads"], ["p"], mode="reflect"),
        helper.make_node("TopK", ["p", "one"], ["v", "i"], axis=1),
        helper.make_node("Tile", ["v", "reps"], ["l"]),
        helper.make_node("Split", ["l"], ["a", "b"], axis=0, num_outputs=2),
        helper.make_node("Einsum", ["a", "b"], ["y"], equation="ijk,ljk->il"),
    ]
    graphs.append(
        helper.make_graph(
            moves,
            "moves",
            [info("x", (3, 4, 2))],
            [info("y", None)],
            [
                numpy_helper.from_array(np.array([0, 1, 0, 0, 1, 0]), "pads"),
                numpy_helper.from_array(np.array([1]), "one"),
                numpy_helper.from_array(np.array([1, 2, 3]), "reps"),
            ],
        )
    )
    models = [helper.make_model(g, opset_imports=[helper.make_opsetid("", 18)], ir_version=9) for g in graphs]
    return [model.SerializeToString() for model in models]


MODELS = small_models()
NUMBERS = (0, 1, -1, 3, 7, -2, 1000, 2**20, 2**31, 2**40, -(2**40), 2**62, -(2**63), 2**63 - 1)


def outcome(content: bytes | onnx.ModelProto) -> str:
    """`loaded` or `refused`; anything else than a ModelError is let through."""
    start = time.monotonic()
    try:
        load_onnx(content)
    except ModelError as error:
        text = str(error)
        assert "\n" not in text or len(text) < 1000
        result = "refused"
    else:
        result = "loaded"
    assert time.monotonic() - start < MOST_SECONDS
    return result


def mutated_bytes(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content)
    kind = rng.random()
    if kind < 0.2:
        return bytes(data[: rng.randrange(len(data))])
    place = rng.randrange(len(data))
    if kind < 0.8:
        data[place] = rng.randrange(256)
    elif kind < 0.9:
        del data[place : place + rng.randrange(1, 9)]
    else:
        data[place:place] = rng.randbytes(rng.randrange(1, 9))
    return bytes(data)


def mutate_attribute(node: onnx.NodeProto, rng: random.Random) -> None:
    attribute = rng.choice(node.attribute)
    if rng.random() < 0.2:
        node.attribute.remove(attribute)
    elif attribute.type == AttributeProto.INT:
        attribute.i = rng.choice(NUMBERS)
    elif attribute.type == AttributeProto.INTS:
        attribute.ints.append(rng.choice(NUMBERS))
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = rng.choice([b"", b"\xff\xfe", b"nearest", b"VALID"])
    else:
        attribute.type = rng.randrange(15)


def mutate_tensor(tensor: TensorProto, rng: random.Random) -> None:
    kind = rng.random()
    if kind < 0.4 and len(tensor.dims):
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
    elif kind < 0.5:
        tensor.data_type = rng.randrange(30)
    elif len(tensor.raw_data) >= 8:
        data = bytearray(tensor.raw_data)
        place = rng.randrange(len(data) // 8) * 8
        data[place : place + 8] = (rng.choice(NUMBERS) % 2**64).to_bytes(8, "little")
        tensor.raw_data = bytes(data)


def mutated_model(content: bytes, rng: random.Random) -> onnx.ModelProto:
    """The model with one meaning changed: it parses, but says something else."""
    model = onnx.ModelProto.FromString(content)
    graph = model.graph
    node = rng.choice(graph.node)
    kind = rng.random()
    if kind < 0.3 and node.attribute:
        mutate_attribute(node, rng)
    elif kind < 0.45 and node.input:
        names = ["", "nowhere", *(name for other in graph.node for name in other.output), "x"]
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif kind < 0.55:
        node.op_type = rng.choice(
            ["Conv", "Reshape", "Loop", "If", "GRU", "Attention", "Expand", "Range", "QLinearConv", "Scan"]
        )
    elif kind < 0.75 and graph.initializer:
        mutate_tensor(rng.choice(graph.initializer), rng)
    elif kind < 0.85:
        rng.choice(graph.input[0].type.tensor_type.shape.dim).dim_value = rng.choice(NUMBERS)
    elif kind < 0.9:
        graph.node.remove(node)
    elif kind < 0.95:
        graph.node.append(node)
    else:
        model.opset_import[0].version = rng.choice([1, 7, 9, 13, 28, 10**6, -3])
    return model


def test_the_models_load_when_they_are_whole() -> None:
    assert [outcome(content) for content in MODELS] == ["loaded"] * len(MODELS)


def test_mutated_bytes_load_or_are_refused() -> None:
    rng = random.Random(11)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = [outcome(mutated_bytes(rng.choice(MODELS), rng)) for _ in range(600)]
    assert results.count("refused") > 100
    assert results.count("loaded") > 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH_KIB


def test_mutated_meanings_load_or_are_refused() -> None:
    rng = random.Random(12)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    results = [outcome(mutated_model(rng.choice(MODELS), rng)) for _ in range(600)]
    assert results.count("refused") > 200
    assert results.count("loaded") > 50
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_GROWTH_KIB


def test_random_bytes_are_refused() -> None:
    rng = random.Random(13)
    assert {outcome(rng.randbytes(rng.randrange(1, 400))) for _ in range(100)} == {"refused"}


def test_names_that_are_no_text_are_refused() -> None:
    content = MODELS[0].replace(b"Softmax", b"Softm\xffx")
    with pytest.raises(ModelError, match="which is no text; the file is damaged"):
        load_onnx(content)


def field(number: int, body: bytes) -> bytes:
    """A length-delimited field of a protocol buffer; the library itself refuses to build what is nested this deeply."""
    size, out = len(body), bytearray([number << 3 | 2])
    while size >= 128:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out) + body


def nested(depth: int) -> bytes:
    """Nested Ifs (graph 1 node, 12 output; node 1 input, 2 output, 4 op, 5 attribute; attribute 6 graph)."""
    out = field(12, helper.make_tensor_value_info("y", 1, None).SerializeToString())
    graph = field(1, helper.make_node("Relu", ["x"], ["y"]).SerializeToString()) + out
    for _ in range(depth):
        attribute = field(1, b"then_branch") + b"\xa0\x01\x05" + field(6, graph)
        graph = field(1, field(1, b"flag") + field(2, b"y") + field(4, b"If") + field(5, attribute)) + out
    graph += field(5, numpy_helper.from_array(np.array(True), "flag").SerializeToString())
    graph += field(11, helper.make_tensor_value_info("x", 1, (2,)).SerializeToString())
    return b"\x08\x09" + field(7, graph) + field(8, b"\x10\x12")


@pytest.mark.parametrize(("depth", "expected"), [(3, "loaded"), (30, "loaded"), (60, "refused"), (400, "refused")])
def test_deep_nesting_ends_in_a_sentence(depth: int, expected: str) -> None:
    assert outcome(nested(depth)) == expected


def test_giants_are_refused_at_once() -> None:
    """A small file must not make the loader allocate what it claims."""
    giants = [
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[2**20] * 4)],
        [helper.make_node("Tile", ["x", "many"], ["y"])],
        [helper.make_node("Resize", ["x", "", "", "many"], ["y"])],
        [helper.make_node("ConstantOfShape", ["many"], ["h"]), helper.make_node("Add", ["h", "h"], ["y"])],
        [helper.make_node("Pad", ["x", "pads"], ["y"])],
        [helper.make_node("OneHot", ["one", "depth", "w2"], ["y"])],
        [helper.make_node("Range", ["one", "depth", "one"], ["y"])],
    ]
    numbers = {
        "many": np.array([2**16, 2**16, 2**16, 2**16]),
        "pads": np.array([2**31] * 8),
        "one": np.array(1),
        "depth": np.array(2**40),
    }
    held = [numpy_helper.from_array(a, n) for n, a in numbers.items()]
    held += [numpy_helper.from_array(np.ones(s, np.float32), n) for n, s in (("w", (1, 1, 1, 1)), ("w2", (2,)))]
    for nodes in giants:
        inputs = [helper.make_tensor_value_info("x", 1, (1, 1, 2, 2))]
        graph = helper.make_graph(nodes, "g", inputs, [helper.make_tensor_value_info("y", 1, None)], held)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        assert outcome(model) == "refused", nodes[0].op_type
