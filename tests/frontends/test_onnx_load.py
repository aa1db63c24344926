"""Loading ONNX models: names, shapes, folding, lazy weights, control flow, error texts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import pimloom.frontends.onnx_assembly as assembly_module
import pimloom.frontends.onnx_file as file_module
from pimloom.errors import ModelError
from pimloom.frontends import load_onnx
from pimloom.frontends.onnx_tensors import CheckedConstant, ConvertedConstant, DerivedConstant
from pimloom.ir.constants import FileConstant, FillConstant
from pimloom.ir.evaluate import evaluate
from pimloom.passes import EliminateCommonSubexpressions

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
LIGHT_NODES = {
    "light_bvlc_alexnet": 22,
    "light_densenet121": 668,
    "light_inception_v1": 142,
    "light_inception_v2": 371,
    "light_resnet50": 176,
    "light_shufflenet": 203,
    "light_squeezenet": 65,
    "light_vgg19": 44,
    "light_zfnet512": 22,
}


def info(name: str, shape: Any, dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def model(
    nodes: list[onnx.NodeProto], inputs: Any, outputs: Any, constants: Any = None, **kwargs: Any
) -> onnx.ModelProto:
    """A model; inputs and outputs by name and shape, constants by name and array."""
    opset = kwargs.pop("opset", 20)
    graph = helper.make_graph(
        nodes,
        "g",
        [v if isinstance(v, onnx.ValueInfoProto) else info(*v) for v in inputs],
        [info(o, None) if isinstance(o, str) else o for o in outputs],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )
    imports = [helper.make_opsetid("", opset), *kwargs.pop("imports", [])]
    return helper.make_model(graph, opset_imports=imports, ir_version=10, **kwargs)


def relu(shape: Any) -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], [("x", shape)], ["y"])


@pytest.mark.parametrize("name", sorted(LIGHT_NODES))
def test_the_models_in_the_onnx_package_load(name: str) -> None:
    graph = load_onnx(LIGHT / f"{name}.onnx")
    assert graph.name == name
    assert len(graph.nodes) == LIGHT_NODES[name]
    assert graph.types[graph.inputs[0]].shape == (1, 3, 224, 224)
    assert graph.types[graph.outputs[0]].shape[:2] == (1, 1000)
    weights = [c for c in graph.constants.values() if c.type.size > 1024]
    assert weights
    assert all(isinstance(c, FillConstant) for c in weights), "weights of one value must stay lazy"


@pytest.mark.parametrize("name", ["light_squeezenet", "light_shufflenet"])
def test_light_models_with_random_weights_give_what_onnx_runtime_gives(name: str) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle of this test")
    proto = onnx.load(LIGHT / f"{name}.onnx")
    generator = np.random.default_rng(5)
    shapes = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    for node in [n for n in proto.graph.node if n.op_type == "ConstantOfShape"]:
        shape = tuple(shapes[node.input[0]])
        spread = np.sqrt(2 / max(1, np.prod(shape[1:]))) if len(shape) > 1 else 0.1
        weights = generator.normal(0.0 if len(shape) > 1 else 1.0, spread, shape).astype(np.float32)
        proto.graph.initializer.append(
            numpy_helper.from_array(np.abs(weights) if len(shape) == 1 else weights, node.output[0])
        )
        proto.graph.node.remove(node)
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    session = runtime.InferenceSession(proto.SerializeToString(), options)
    graph = load_onnx(proto)
    x = {graph.inputs[0]: generator.normal(size=(1, 3, 224, 224)).astype(np.float32)}
    expected = session.run(None, x)[0]
    assert expected.std() > 1e-5
    np.testing.assert_allclose(evaluate(graph, x)[graph.outputs[0]], expected, rtol=1e-4, atol=1e-6)


def test_names_of_inputs_outputs_nodes_and_weights_are_kept() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="dense"),
        helper.make_node("Identity", ["h"], ["y"]),
        helper.make_node("Identity", ["h"], ["z"]),
        helper.make_node("Identity", ["x"], ["copy"]),
    ]
    graph = load_onnx(model(nodes, [("x", (2, 3))], ["y", "z", "copy"], {"w": np.ones((3, 4), np.float32)}), name="net")
    assert (graph.name, graph.inputs, graph.outputs) == ("net", ("x",), ("y", "z", "copy"))
    assert graph.nodes[0].name == "dense"
    assert set(graph.constants) == {"w"}
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    out = evaluate(graph, {"x": x})
    np.testing.assert_array_equal(out["y"], out["z"])
    np.testing.assert_array_equal(out["copy"], x)


def test_the_batch_defaults_to_one_and_symbols_are_shared() -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    graph = load_onnx(model(nodes, [("a", ("batch", 3)), ("b", ("batch", 3))], ["y"]))
    assert graph.types["y"].shape == (1, 3)
    graph = load_onnx(model(nodes, [("a", ("batch", "n")), ("b", ("batch", "n"))], ["y"]), {"a": (4, 5)})
    assert graph.types["b"].shape == (4, 5)
    graph = load_onnx(model(nodes, [("a", ("batch", "n")), ("b", ("batch", "n"))], ["y"]), {"n": 7})
    assert graph.types["y"].shape == (1, 7)
    assert load_onnx(relu((0, 3))).types["y"].shape == (1, 3)


SHAPE_FAULTS = [
    ((1, 3, "h", "w"), None, "input 'x': dimension 'h' is symbolic; bind it with --shape x=1,3,N,N"),
    (("batch", 3), {"z": (1, 3)}, "shape for 'z': there is no such input or dimension; inputs: x"),
    (("batch", 3), {"x": (1, 3, 1)}, "input 'x': 3 dimensions are given, the model has 2: [batch, 3]"),
    (
        ("batch", 3),
        {"x": (1, 4)},
        "input 'x': dimension 1 is 3 in the model, 4 is given; only symbolic dimensions can be bound",
    ),
    (("batch", 3), {"x": (0, 3)}, "input 'x': shape [0, 3] is given; every size must be 1 or more"),
    (("n", "n"), {"x": (2, 3)}, "input 'x': dimension 'n' is 3 here and 2 elsewhere; give equal sizes"),
    (None, None, "input 'x': its shape is not stated; bind it with --shape x=1,3,224,224"),
    ((1, 2**40), None, "input 'x': shape [1, 1099511627776] is too large, at most 8589934592 elements are allowed"),
]


@pytest.mark.parametrize(("shape", "given", "text"), SHAPE_FAULTS)
def test_wrong_shapes_are_explained(shape: Any, given: Any, text: str) -> None:
    with pytest.raises(ModelError, match=re.escape(text)):
        load_onnx(relu(shape), given)


def test_an_unstated_shape_can_be_given() -> None:
    assert load_onnx(relu(None), {"x": (2, 5)}).types["y"].shape == (2, 5)


def test_shape_arithmetic_disappears() -> None:
    """The pattern of x.view(x.size(0), -1): Shape, Gather, Unsqueeze, Concat, Reshape."""
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1"]),
        helper.make_node("Concat", ["n1", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    constants = {"zero": np.array(0), "axes": np.array([0]), "rest": np.array([-1])}
    graph = load_onnx(model(nodes, [("x", ("b", 3, 4))], ["y"], constants), {"x": (5, 3, 4)})
    assert [n.op for n in graph.nodes] == ["Reshape"]
    assert graph.nodes[0].attributes["shape"] == (5, 12)
    assert not graph.constants


def test_nodes_out_of_order_are_sorted_and_cycles_named() -> None:
    nodes = [helper.make_node("Relu", ["h"], ["y"]), helper.make_node("Abs", ["x"], ["h"])]
    assert [n.op for n in load_onnx(model(nodes, [("x", (2,))], ["y"])).nodes] == ["Abs", "Relu"]
    nodes = [helper.make_node("Add", ["x", "y"], ["h"], name="a"), helper.make_node("Relu", ["h"], ["y"], name="b")]
    with pytest.raises(ModelError, match="graph: 2 nodes form a cycle or follow one: 'a', 'b'; a network must be free"):
        load_onnx(model(nodes, [("x", (2,))], ["y"]))


GRAPH_FAULTS: list[tuple[list[onnx.NodeProto], str]] = [
    ([helper.make_node("Relu", ["q"], ["y"], name="r")], "node 'r' (Relu): input 0 'q' is not defined"),
    ([helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["y"])], "output 'y' is defined twice"),
    ([helper.make_node("Relu", [], ["y"], name="r")], "node 'r' (Relu): 0 inputs found, 1 to 1 expected"),
    (
        [helper.make_node("Foo", ["x"], ["y"], name="f")],
        "node 'f' (Foo): op 'Foo' of domain 'ai.onnx' (opset 20) is not known",
    ),
    ([helper.make_node("Foo", ["x"], ["y"], domain="acme")], "op 'Foo' of domain 'acme' (opset 0) is not known"),
    ([helper.make_node("Relu", ["x"], ["z"])], "output 'y': it is never defined; a tensor is expected"),
    ([helper.make_node("SequenceConstruct", ["x"], ["y"])], "output 'y': it is a sequence; a tensor is expected"),
    ([helper.make_node("Relu", ["x"], ["y"], beta=1)], "attribute 'beta' is not supported; known: none"),
    ([helper.make_node("Reshape", ["x", "x"], ["y"])], "the shape (input 1) must be known when loading"),
    (
        [helper.make_node("Softmax", ["x"], ["y"], axis=9)],
        "axis 9 is out of range for a value of 4 dimensions; expected -4..3",
    ),
    ([helper.make_node("Cast", ["x"], ["y"], to=TensorProto.STRING)], "element type STRING is not supported"),
    (
        [helper.make_node("Cast", ["x"], ["y"], to=TensorProto.INT4)],
        "4-bit integers are supported as stored weights only",
    ),
    (
        [helper.make_node("MaxUnpool", ["x", "x"], ["y"], kernel_shape=[2])],
        "x is float32[1,2,4,4], indices float32[1,2,4,4], kernel_shape [2], pads [0, 0, 0, 0]; they must agree",
    ),
    ([helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2])], "kernel_shape [2] does not fit float32[1,2,4,4]"),
    (
        [helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], auto_pad="ODD")],
        "auto_pad is 'ODD', expected NOTSET",
    ),
    ([helper.make_node("Transpose", ["x"], ["y"], perm=[0, 0, 1, 2])], "perm [0, 0, 1, 2] is not a permutation"),
    (
        [helper.make_node("Constant", [], ["y"], value_string="a")],
        "its value is given by ['value_string']; use a dense",
    ),
    ([helper.make_node("If", ["x"], ["y"])], "attribute 'then_branch' is missing"),
    ([helper.make_node("NonZero", ["x"], ["y"])], "depends on the data (input 0), and so on the network's inputs; a program has"),
    ([helper.make_node("Unique", ["x"], ["y"])], "the size of its result depends on the data (input 0)"),
    ([helper.make_node("Compress", ["x", "x"], ["y"])], "the size of its result depends on the condition (input 1)"),
    ([helper.make_node("NonMaxSuppression", ["x", "x"], ["y"])], "how many boxes it keeps depends on the numbers"),
    ([helper.make_node("RandomNormalLike", ["x"], ["y"])], "it is not supported: it draws random numbers"),
    ([helper.make_node("Bernoulli", ["x"], ["y"], name="b")], "node 'b' (Bernoulli): it is not supported: it draws random numbers"),
    ([helper.make_node("Det", ["x"], ["y"])], "this op of ONNX is not supported; write it with other ops"),
    ([helper.make_node("Dropout", ["x", "", "t"], ["y"])], "it is in training mode, which draws random numbers"),
    (
        [helper.make_node("BatchNormalization", ["x", "s", "s", "s", "s"], ["y"], training_mode=1)],
        "it is in training mode, which uses",
    ),
    ([helper.make_node("Tile", ["x", "big"], ["y"])], "is too large, at most 8589934592 elements are allowed"),
    ([helper.make_node("Expand", ["one", "big"], ["y"])], "is too large, at most 8589934592 elements are allowed"),
    ([helper.make_node("Expand", ["x", "s3"], ["y"])], "float32[1,2,4,4] cannot be expanded to shape [3]"),
    ([helper.make_node("ConstantOfShape", ["big"], ["y"])], "is too large, at most 8589934592 elements are allowed"),
    (
        [helper.make_node("Range", ["zero", "far", "one"], ["y"])],
        "the model computes more than 100000000 constant elements",
    ),
    (
        [helper.make_node("LSTM", ["x", "s", "s"], ["y"])],
        "x, W, R are float32[1,2,4,4], float32[2], float32[2]; three dimensions",
    ),
    (
        [helper.make_node("QuantizeLinear", ["x", "k"], ["y"], output_dtype=TensorProto.INT4)],
        "4-bit activations are not supported",
    ),
]
CONSTANTS = {
    "big": np.array([2**20, 2**10, 2**10, 2**10]),
    "t": np.array(True),
    "s": np.ones(2, np.float32),
    "zero": np.array(0),
    "one": np.array(1),
    "far": np.array(2**40),
    "k": np.array(1, np.float32),
    "s3": np.array([3]),
}


@pytest.mark.parametrize("opset", [9, 13, 15])
def test_weights_standardised_by_a_batch_normalization_are_constants(opset: int) -> None:
    """As PyTorch writes BiT and the normaliser-free networks: the statistics are those of the weights."""
    weights = np.random.default_rng(2).normal(0.3, 2.0, (1, 3, 4)).astype(np.float32)
    held = {"k": weights, "ones": np.ones(3, np.float32), "half": np.full(3, 0.5, np.float32)}
    outputs, training = (["h", "m", "v"], {"training_mode": 1}) if opset > 13 else (["h", "m", "v", "sm", "sv"], {})
    nodes = [
        helper.make_node("BatchNormalization", ["k", "ones", "half", "half", "ones"], outputs, epsilon=0.25, momentum=0.75, **training),
        helper.make_node("Mul", ["x", "h"], ["y"]),
        helper.make_node("Identity", ["m"], ["z"]),
    ]
    graph = load_onnx(model(nodes, [("x", (1, 3, 4))], ["y", "z"], held, opset=opset))
    assert [node.op for node in graph.nodes if node.op != "Identity"] == ["Mul"]
    mean, variance = weights.mean((0, 2)), weights.var((0, 2))
    found = evaluate(graph, {"x": np.ones((1, 3, 4), np.float32)})
    np.testing.assert_allclose(found["y"][0], (weights[0] - mean[:, None]) / np.sqrt(variance[:, None] + 0.25) + 0.5, rtol=1e-5)
    np.testing.assert_allclose(found["z"], 0.5 * 0.75 + mean * 0.25, rtol=1e-5)


@pytest.mark.parametrize(("op", "gates"), [("LSTM", 4), ("GRU", 3)])
def test_initial_states_of_another_width_are_explained(op: str, gates: int) -> None:
    """As PyTorch 2.13 writes an LSTM with projections."""
    weights = {"w": np.ones((1, 4 * gates, 8), np.float32), "r": np.ones((1, 4 * gates, 4), np.float32)}
    state = {"h": np.zeros((1, 1, 6), np.float32)}
    node = helper.make_node(op, ["x", "w", "r", "", "", "h"], ["y"], "cell", hidden_size=4)
    with pytest.raises(ModelError, match=r"\w+\): initial state \(input 5\) is float32\[1,1,6\], expected a last dimension of 4"):
        load_onnx(model([node], [("x", (5, 1, 8))], ["y"], weights | state))


@pytest.mark.parametrize(
    ("nodes", "text"), GRAPH_FAULTS, ids=[f"{i}-{n[0].op_type}" for i, (n, _) in enumerate(GRAPH_FAULTS)]
)
def test_faults_of_nodes_are_explained(nodes: list[onnx.NodeProto], text: str) -> None:
    opset = 21 if nodes[0].op_type == "QuantizeLinear" else 20
    with pytest.raises(ModelError, match=re.escape(text)):
        load_onnx(model(nodes, [("x", (1, 2, 4, 4))], ["y"], CONSTANTS, opset=opset))


def test_faults_of_models_are_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model: opset 6 found, 7 to \d+ expected; export it with another opset"):
        load_onnx(model([helper.make_node("Relu", ["x"], ["y"])], [("x", (1,))], ["y"], opset=6))
    with pytest.raises(ModelError, match="model 'g': it has no nodes; there is nothing to compile"):
        load_onnx(model([], [("x", (1,))], ["x"]))
    with pytest.raises(
        ModelError, match="input 'x': it is no tensor; sequences, maps and optional values cannot be inputs"
    ):
        sequence = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, (1,))
        load_onnx(model([helper.make_node("Relu", ["x"], ["y"])], [sequence], ["y"]))
    with pytest.raises(ModelError, match=r"there is no such file; give the path of an \.onnx file"):
        load_onnx(tmp_path / "absent.onnx")
    with pytest.raises(ModelError, match=r"it is a directory; give the path of an \.onnx file"):
        load_onnx(tmp_path)
    with pytest.raises(ModelError, match=r"model: found int, expected a path, bytes or an onnx\.ModelProto"):
        load_onnx(3)  # pyright: ignore[reportArgumentType]
    (tmp_path / "empty.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match="it is empty; export the model again"):
        load_onnx(tmp_path / "empty.onnx")
    (tmp_path / "text.onnx").write_text("this is no model at all")
    with pytest.raises(ModelError, match="it is not an ONNX model or is damaged"):
        load_onnx(tmp_path / "text.onnx")


def test_unforeseen_faults_name_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(assembly_module.Assembly, "emit", broken)
    text = "node 'y' (Relu): it cannot be read (ZeroDivisionError: boom); the model is damaged or not valid ONNX"
    with pytest.raises(ModelError, match=re.escape(text)):
        load_onnx(relu((1,)))


# -- weights -----------------------------------------------------------------------------------------------------------


def dense(weights: np.ndarray[Any, Any]) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    return model(nodes, [("x", (1, weights.shape[0]))], ["y"], {"w": weights})


@pytest.mark.parametrize("dtype", ["float16", "float64", "float32"])
def test_weights_of_other_float_types_become_float32(dtype: str) -> None:
    weights = np.linspace(-2, 2, 12).reshape(3, 4).astype(dtype)
    constant = load_onnx(dense(weights)).constants["w"]
    assert constant.type.dtype == "float32"
    assert isinstance(constant, ConvertedConstant) == (dtype != "float32")
    np.testing.assert_array_equal(constant.array(), weights.astype(np.float32))


def test_bfloat16_and_4_bit_weights() -> None:
    proto = dense(np.zeros((2, 2), np.float32))
    values = [1.0, -2.5, 0.15625, 3.0]
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.BFLOAT16, (2, 2), values))
    np.testing.assert_array_equal(load_onnx(proto).constants["w"].array(), np.reshape(np.float32(values), (2, 2)))
    proto.graph.initializer[0].CopyFrom(helper.make_tensor("w", TensorProto.INT4, (2, 2), [-8, 7, 0, 3]))
    proto.graph.node.insert(0, helper.make_node("DequantizeLinear", ["w", "k"], ["v"]))
    proto.graph.node[1].input[1] = "v"
    proto.graph.initializer.append(numpy_helper.from_array(np.array(0.5, np.float32), "k"))
    proto.opset_import[0].version = 21
    graph = load_onnx(proto)
    out = evaluate(graph, {"x": np.array([[1, 10]], np.float32)})["y"]
    np.testing.assert_allclose(out, [[-4.0, 3.5 + 15.0]])


def test_the_lowest_double_stays_finite_and_masks_may_be_infinite() -> None:
    mask = np.array([[0, np.finfo(np.float64).min]])
    np.testing.assert_array_equal(load_onnx(dense(mask)).constants["w"].array(), [[0, np.finfo(np.float32).min]])
    load_onnx(dense(np.array([[0, -np.inf]], np.float32)))


@pytest.mark.parametrize(
    ("value", "text"), [(np.nan, "1 of 4 elements are NaN"), (np.inf, "1 of 4 elements are infinite")]
)
def test_nan_and_infinite_weights_are_refused(value: float, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    proto = dense(np.array([[1, 2, value, 4]], np.float32))
    with pytest.raises(ModelError, match=f"tensor 'w': {text}; weights must be"):
        load_onnx(proto)
    monkeypatch.setattr("pimloom.frontends.onnx_tensors.CHECKED_AT_LOAD", 2)
    constant = load_onnx(proto).constants["w"]
    assert isinstance(constant, CheckedConstant)
    with pytest.raises(ModelError, match=f"tensor 'w': {text}"):
        constant.array()


def test_large_weights_stay_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "MAPPED_BYTES", 64)
    weights = np.arange(40, dtype=np.float32).reshape(5, 8)
    onnx.save(dense(weights), tmp_path / "m.onnx")
    constant = load_onnx(tmp_path / "m.onnx").constants["w"]
    assert isinstance(constant, FileConstant)
    np.testing.assert_array_equal(constant.array(), weights)
    held = load_onnx((tmp_path / "m.onnx").read_bytes()).constants["w"].array()
    np.testing.assert_array_equal(held, weights)
    assert not held.flags.owndata


def test_moved_large_constants_stay_lazy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembly_module, "MAX_FOLDED_ELEMENTS", 4)
    weights = np.arange(12, dtype=np.float32).reshape(4, 3)
    nodes = [helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    graph = load_onnx(model(nodes, [("x", (1, 3))], ["y"], {"w": weights}))
    assert [n.op for n in graph.nodes] == ["MatMul"]
    assert isinstance(graph.constants["t"], DerivedConstant)
    np.testing.assert_array_equal(graph.constants["t"].array(), weights.T)


def test_filled_constants_stay_filled() -> None:
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["s"], ["f"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.25])
        ),
        helper.make_node("Reshape", ["f", "s2"], ["w"]),
        helper.make_node("MatMul", ["x", "w"], ["y"]),
    ]
    constants = {"s": np.array([3000, 2000]), "s2": np.array([2000, 3000])}
    graph = load_onnx(model(nodes, [("x", (1, 2000))], ["y"], constants))
    assert graph.constants["w"].fill_value == 0.25
    assert graph.constants["w"].type.shape == (2000, 3000)


def external(folder: Path, weights: np.ndarray[Any, Any]) -> Path:
    path = folder / "m.onnx"
    onnx.save(dense(weights), path, save_as_external_data=True, location="m.data", size_threshold=0)
    return path


def test_external_data_is_mapped(tmp_path: Path) -> None:
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    constant = load_onnx(external(tmp_path, weights)).constants["w"]
    assert isinstance(constant, FileConstant)
    np.testing.assert_array_equal(constant.array(), weights)


LOCATION_FAULTS = [
    ("location", "/etc/passwd", "must be a file name inside the model's folder"),
    ("location", "../secret", "must be a file name inside the model's folder"),
    ("location", "", "must be a file name inside the model's folder"),
    ("location", "link", "leads out of the model's folder; replace the link by the file"),
    ("location", "absent", "is not a file in"),
    ("offset", "-4", "external data offset is '-4', expected a whole number of bytes"),
    ("offset", "8", "external data 'm.data' holds 48 bytes, 48 are wanted at offset 8"),
    ("length", "x", "external data length is 'x', expected a whole number of bytes"),
    ("length", "12", r"float32\[3,4\] needs 48 B \(48 bytes\), 12 bytes found"),
]


@pytest.mark.parametrize(("key", "value", "text"), LOCATION_FAULTS)
def test_external_data_is_confined(tmp_path: Path, key: str, value: str, text: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(bytes(100))
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    path = external(tmp_path / "in", np.zeros((3, 4), np.float32))
    proto = onnx.load(path, load_external_data=False)
    entries = proto.graph.initializer[0].external_data
    for entry in [e for e in entries if e.key == key]:
        entries.remove(entry)
    entries.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(ModelError, match=f"tensor 'w': .*{text}"):
        load_onnx(path)
    with pytest.raises(ModelError, match="the model was not given as a path"):
        load_onnx(proto)


TENSOR_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"dims": [2, -1]}, r"negative size in shape \[2, -1\]; every dimension must be 0 or more"),
    ({"dims": [2**40]}, r"shape \[1099511627776\] is too large, at most 8589934592 elements are allowed"),
    ({"dims": [5]}, r"float32\[5\] needs 20 B \(20 bytes\), 16 bytes found; the file is damaged"),
    ({"dims": [5], "typed": True}, r"float32\[5\] needs 5 elements, 4 found; the file is damaged"),
    ({"data_type": TensorProto.STRING}, "element type STRING is not supported"),
    ({"data_type": 99}, "element type number 99 is not supported"),
    ({"name": ""}, "tensor '': the name is missing; the file is damaged"),
]


@pytest.mark.parametrize(("change", "text"), TENSOR_FAULTS)
def test_broken_tensors_are_explained(change: dict[str, Any], text: str) -> None:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], [("x", (4,))], ["y"], {"w": np.ones(4, np.float32)})
    tensor = proto.graph.initializer[0]
    if change.get("typed"):
        tensor.ClearField("raw_data")
        tensor.float_data.extend([1.0] * 4)
    if "dims" in change:
        del tensor.dims[:]
        tensor.dims.extend(change["dims"])
    for name in ("data_type", "name"):
        if name in change:
            setattr(tensor, name, change[name])
    with pytest.raises(ModelError, match=text):
        load_onnx(proto)


def test_sparse_weights_become_dense() -> None:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], [("x", (2, 3))], ["y"])
    values = numpy_helper.from_array(np.array([5.0, 7.0], np.float32), "w")
    proto.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 5]), "i"), [2, 3])
    )
    np.testing.assert_array_equal(load_onnx(proto).constants["w"].array(), [[0, 5, 0], [0, 0, 7]])
    proto.graph.sparse_initializer[0].dims[0] = 1
    with pytest.raises(ModelError, match="sparse tensor 'w': 2 indices for 2 values in 3 places; the file is damaged"):
        load_onnx(proto)


# -- functions, branches, loops ----------------------------------------------------------------------------------------


def test_local_functions_are_inlined_with_their_attributes() -> None:
    body = [helper.make_node("LeakyRelu", ["a"], ["t"]), helper.make_node("Add", ["t", "a"], ["b"])]
    body[0].attribute.append(onnx.AttributeProto(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope"))
    function = helper.make_function("own", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 20)], ["slope"])
    nodes = [
        helper.make_node("Twice", ["x"], ["h"], domain="own", slope=0.5),
        helper.make_node("Twice", ["h"], ["y"], domain="own", slope=0.0),
    ]
    graph = load_onnx(model(nodes, [("x", (2,))], ["y"], functions=[function], imports=[helper.make_opsetid("own", 1)]))
    np.testing.assert_allclose(evaluate(graph, {"x": np.array([-2, 3], np.float32)})["y"], [-3, 12])
    assert [n.op for n in graph.nodes] == ["LeakyRelu", "Add"] * 2


def branch(op: str, name: str) -> onnx.GraphProto:
    return helper.make_graph([helper.make_node(op, ["x"], [name])], name, [], [info(name, None)])


@pytest.mark.parametrize(("rank", "op"), [(2, "Abs"), (3, "Neg")])
def test_branches_with_a_known_condition_are_inlined(rank: int, op: str) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Size", ["s"], ["r"]),
        helper.make_node("Equal", ["r", "two"], ["c"]),
        helper.make_node("If", ["c"], ["y"], then_branch=branch("Abs", "a"), else_branch=branch("Neg", "b")),
    ]
    graph = load_onnx(model(nodes, [("x", (1,) * rank)], ["y"], {"two": np.array(2)}))
    assert [n.op for n in graph.nodes] == [op]


def loop(trips: int, *, stops_at: int | None = None) -> onnx.ModelProto:
    """y = x + 0 + 1 + ... and all partial sums."""
    body_nodes = [
        helper.make_node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["v", "f"], ["w"]),
        helper.make_node("Identity", ["w"], ["scan"]),
        helper.make_node("Less", ["i", "last"], ["go"]),
    ]
    inputs = [info("i", (), TensorProto.INT64), info("c", (), TensorProto.BOOL), info("v", (2,))]
    outputs = [info("go", (), TensorProto.BOOL), info("w", (2,)), info("scan", (2,))]
    body = helper.make_graph(body_nodes, "body", inputs, outputs)
    last = trips + 1 if stops_at is None else stops_at
    nodes = [helper.make_node("Loop", ["n", "", "x"], ["y", "all"], body=body)]
    return model(nodes, [("x", (2,))], ["y", "all"], {"n": np.array(trips), "last": np.array(last)})


def test_loops_of_known_length_are_unrolled() -> None:
    graph = load_onnx(loop(4))
    out = evaluate(graph, {"x": np.array([1, 2], np.float32)})
    np.testing.assert_array_equal(out["y"], [7, 8])
    np.testing.assert_array_equal(out["all"], [[1, 2], [2, 3], [4, 5], [7, 8]])
    stopped = evaluate(load_onnx(loop(9, stops_at=1)), {"x": np.array([1, 2], np.float32)})
    np.testing.assert_array_equal(stopped["all"], [[1, 2], [2, 3]])
    with pytest.raises(ModelError, match=r"\(Loop\): more than 1000 steps; loops are unrolled, shorten it"):
        load_onnx(loop(1001))


def test_nested_blow_up_is_refused_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions that call the former one ten times each: 10**8 nodes when inlined."""
    opset = [helper.make_opsetid("", 20), helper.make_opsetid("own", 1)]
    functions = []
    for level in range(8):
        op, domain = ("Relu", "") if level == 0 else (f"F{level - 1}", "own")
        names = ["a", *(f"t{i}" for i in range(9)), "b"]
        body = [helper.make_node(op, [names[i]], [names[i + 1]], domain=domain) for i in range(10)]
        functions.append(helper.make_function("own", f"F{level}", ["a"], ["b"], body, opset))
    nodes = [helper.make_node("F7", ["x"], ["y"], domain="own")]
    proto = model(nodes, [("x", (2,))], ["y"], functions=functions, imports=opset[1:])
    monkeypatch.setattr(assembly_module, "MAX_NODES", 20_000)
    with pytest.raises(ModelError, match="the unrolled network has more than 20000 nodes; shorten its loops"):
        load_onnx(proto)
    functions[0].node[0].op_type, functions[0].node[0].domain = "F7", "own"
    with pytest.raises(ModelError, match="too large or too deeply nested when unrolled; simplify its loops"):
        load_onnx(model(nodes, [("x", (2,))], ["y"], functions=functions, imports=opset[1:]))


def test_a_large_tied_weight_that_is_transposed_twice_is_kept_once() -> None:
    """As an embedding that also makes the scores, in a model that transposes it itself."""
    nodes = [
        helper.make_node("Transpose", ["w"], ["t"], "first", perm=[1, 0]),
        helper.make_node("Transpose", ["w"], ["u"], "second", perm=[1, 0]),
        helper.make_node("MatMul", ["x", "t"], ["y"]),
        helper.make_node("MatMul", ["x", "u"], ["z"]),
    ]
    weight = np.random.default_rng(3).standard_normal((130_000, 8)).astype(np.float32)
    graph = load_onnx(model(nodes, [("x", (2, 8))], ["y", "z"], {"w": weight}))
    t, u = graph.constants["t"], graph.constants["u"]
    assert isinstance(t, DerivedConstant)
    assert t == u
    assert hash(t) == hash(u)
    assert t != load_onnx(model(nodes, [("x", (2, 8))], ["y", "z"], {"w": weight})).constants["t"]
    once = EliminateCommonSubexpressions()(graph)
    assert [len(once.constants), len(once.nodes)] == [1, 2]
    np.testing.assert_allclose(evaluate(once, {"x": weight[:2]})["z"], weight[:2] @ weight.T, rtol=1e-4, atol=1e-5)
