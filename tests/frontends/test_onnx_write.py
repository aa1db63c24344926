"""Graphs written as ONNX: equal after reading back, equal in ONNX Runtime, files complete or absent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import pimloom.frontends.onnx_write as write_module
from pimloom.errors import ModelError
from pimloom.frontends import load_onnx, save_onnx, to_onnx
from pimloom.ir.builder import GraphBuilder
from pimloom.ir.constants import Constant, FileConstant, FillConstant
from pimloom.ir.evaluate import evaluate
from pimloom.ir.graph import Graph
from pimloom.ir.types import Quant, TensorType

CONV = {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "dilations": (1, 1), "group": 1}


def example() -> Graph:
    """A graph in which many attributes become inputs again."""
    b = GraphBuilder("example")
    x = b.input("x", (1, 3, 9, 9))
    h = b.add("Conv", x, b.seeded("w", (4, 3, 3, 3), std=0.3), **CONV)
    h = b.add("Clip", h, min=-0.5, max=1.0)
    h = b.add("Resize", h, sizes=(1, 4, 11, 7), scales=(1.0, 1.0, 11 / 5, 7 / 5), mode="linear")
    h = b.add("Pad", h, pads=(0, 0, 1, 0, 0, 0, 0, 2), mode="constant", value=0.25)
    h = b.add("Slice", h, starts=(10, 0), ends=(-13, 9), axes=(2, 3), steps=(-1, 2))
    left, right = b.add_many("Split", h, outputs=2, axis=1, sizes=(1, 3))
    h = b.add("Concat", right, left, axis=1)
    h = b.add("Add", h, b.constant("fill", FillConstant(TensorType("float32", (1, 4, 11, 5)), 0.5)))
    h = b.add("ReduceMean", h, axes=(3,), keepdims=0)
    values, places = b.add_many("TopK", h, outputs=2, k=3, axis=-1)
    flat = b.add("Reshape", values, shape=(2, 6))
    flat = b.add("Unsqueeze", flat, axes=(0,))
    flat = b.add("Tile", flat, repeats=(1, 1, 2))
    flat = b.add("CumSum", flat, axis=2)
    return b.finish(flat, b.add("Cast", places, to="int32"), b.add("Expand", left, shape=(2, 4, 11, 5)))


def same(first: dict[str, Any], second: dict[str, Any]) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])


def test_a_graph_survives_the_round_trip() -> None:
    graph = example()
    again = load_onnx(to_onnx(graph))
    x = {"x": np.random.default_rng(0).normal(size=(1, 3, 9, 9)).astype(np.float32)}
    same(evaluate(graph, x), evaluate(again, x))
    assert again.inputs == graph.inputs
    assert again.outputs == graph.outputs
    assert [n.op for n in again.nodes] == [n.op for n in graph.nodes]
    assert [n.name for n in again.nodes] == [n.name for n in graph.nodes]


def test_onnx_runtime_accepts_and_agrees() -> None:
    runtime = pytest.importorskip("onnxruntime", reason="ONNX Runtime is the oracle of this test")
    graph, proto = example(), to_onnx(example())
    onnx.checker.check_model(proto)
    x = {"x": np.random.default_rng(0).normal(size=(1, 3, 9, 9)).astype(np.float32)}
    found = evaluate(graph, x)
    for name, array in zip(
        graph.outputs, runtime.InferenceSession(proto.SerializeToString()).run(None, x), strict=True
    ):
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)


def test_the_opset_rises_only_where_an_op_needs_it() -> None:
    b = GraphBuilder("g")
    x = b.input("x", (1, 4))
    y = b.add("RMSNormalization", x, b.seeded("s", (4,)))
    assert to_onnx(b.finish(y)).opset_import[0].version == 23
    assert to_onnx(example()).opset_import[0].version == 20


def test_filled_weights_take_no_room() -> None:
    b = GraphBuilder("g")
    x = b.input("x", (1, 2000))
    w = b.constant("w", FillConstant(TensorType("float32", (2000, 3000)), 0.001))
    graph = b.finish(b.add("MatMul", x, w))
    assert to_onnx(graph).ByteSize() < 2000
    again = load_onnx(to_onnx(graph)).constants["w"]
    assert again.fill_value == pytest.approx(0.001)


def test_outputs_that_are_inputs_or_constants() -> None:
    b = GraphBuilder("g")
    x = b.input("x", (2,))
    c = b.constant("c", np.array([1, 2], np.float32))
    graph = b.finish(b.add("Add", x, c), x, c)
    again = load_onnx(to_onnx(graph))
    same(evaluate(graph, {"x": np.ones(2, np.float32)}), evaluate(again, {"x": np.ones(2, np.float32)}))


def test_large_models_keep_their_weights_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(write_module, "INLINE_BYTES", 100)
    path = tmp_path / "m.onnx"
    save_onnx(example(), path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    again = load_onnx(path)
    assert isinstance(again.constants["w"], FileConstant)
    x = {"x": np.random.default_rng(0).normal(size=(1, 3, 9, 9)).astype(np.float32)}
    same(evaluate(example(), x), evaluate(again, x))
    onnx.checker.check_model(str(path))


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    save_onnx(example(), tmp_path / "a.onnx")
    save_onnx(example(), tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_a_failed_save_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"former")

    def broken(self: Constant) -> Any:
        raise ModelError("tensor 'w': cannot be read")

    monkeypatch.setattr(write_module, "INLINE_BYTES", 100)
    graph = example()
    monkeypatch.setattr(type(graph.constants["w"]), "array", broken)
    with pytest.raises(ModelError, match="tensor 'w': cannot be read"):
        save_onnx(graph, path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]
    assert path.read_bytes() == b"former"
    with pytest.raises(
        ModelError, match=r"absent/m.onnx': it cannot be written \(No such file or directory\); check the folder"
    ):
        save_onnx(example(), tmp_path / "absent" / "m.onnx")


def test_quantised_graphs_and_foreign_ops_are_refused() -> None:
    b = GraphBuilder("g")
    x = b.input("x", (2,))
    y = b.add("Relu", x)
    graph = b.finish(y)
    types = {**graph.types, "x": TensorType("int8", (2,), Quant((0.5,)))}
    quantised = Graph("g", graph.inputs, graph.outputs, graph.nodes, types, {})
    with pytest.raises(ModelError, match=re.escape("value 'x': it is quantised (int8[2]); export the float graph")):
        to_onnx(quantised)
    foreign = list(graph.nodes)
    object.__setattr__(foreign[0], "op", "Rescale")
    from pimloom.ir.ops import op_names

    if "Rescale" in op_names():
        with pytest.raises(
            ModelError, match=r"node 'relu' \(Rescale\): ONNX has no such op; export the graph as it was before"
        ):
            to_onnx(Graph("g", graph.inputs, graph.outputs, tuple(foreign), graph.types, {}))
