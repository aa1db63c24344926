"""Evaluation of whole graphs: order, lifetime, optional inputs, and what is said about wrong inputs."""

import warnings
import weakref

import numpy as np
import pytest

from pimloom.errors import ModelError
from pimloom.ir import Graph, GraphBuilder, Node, Quant, TensorType, evaluate, evaluate_node
from pimloom.ir.constants import ArrayConstant


def chain(length: int) -> Graph:
    b = GraphBuilder("chain")
    value = b.input("x", (4,))
    for _ in range(length):
        value = b.add("Neg", value)
    return b.finish(value)


def test_a_graph_with_a_shared_value_and_a_constant() -> None:
    b = GraphBuilder("g")
    x = b.input("x", (2, 3))
    w = b.constant("w", np.arange(12, dtype=np.float32).reshape(3, 4))
    h = b.add("MatMul", x, w)
    y = b.add("Add", h, b.add("Relu", h))
    given = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
    product = given @ np.arange(12, dtype=np.float32).reshape(3, 4)
    result = evaluate(b.finish(y, h), {"x": given})
    assert list(result) == [y, h]
    np.testing.assert_array_equal(result[h], product)
    np.testing.assert_array_equal(result[y], product + np.maximum(product, 0))


def test_keep_sees_every_value_and_chooses() -> None:
    graph = chain(3)
    seen: list[str] = []

    def keep(name: str, array: np.ndarray) -> bool:
        seen.append(name)
        return name == "neg_1"

    result = evaluate(graph, {"x": np.ones(4, np.float32)}, keep)
    assert seen == ["x", "neg", "neg_1", "neg_2"]
    assert set(result) == {"neg_1", "neg_2"}


def test_values_are_freed_after_their_last_reader() -> None:
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def keep(name: str, array: np.ndarray) -> None:
        nonlocal most
        if name != "x":
            alive.append(weakref.ref(array))
        most = max(most, sum(ref() is not None for ref in alive))

    evaluate(chain(20), {"x": np.ones(4, np.float32)}, keep)
    assert most <= 2


def test_inputs_and_constants_may_be_outputs() -> None:
    b = GraphBuilder("g")
    x, c = b.input("x", (2,)), b.constant("c", np.array([3.0], np.float32))
    result = evaluate(b.finish(x, c), {"x": np.ones(2, np.float32)})
    np.testing.assert_array_equal(result[x], [1, 1])
    np.testing.assert_array_equal(result[c], [3])


def test_optional_inputs_and_unused_outputs_may_be_absent() -> None:
    types = {"x": TensorType("float32", (4,)), "i": TensorType("int64", (2,))}
    graph = Graph("g", ("x",), ("i",), (Node("TopK", ("x",), ("", "i"), {"k": 2}),), types, {})
    assert evaluate(graph, {"x": np.array([1, 4, 2, 3], np.float32)})["i"].tolist() == [1, 3]
    node = Node("LayerNormalization", ("x", "s", ""), ("y",))
    t = TensorType("float32", (2,))
    y = evaluate_node(node, (np.array([1, 3], np.float32), np.ones(2, np.float32), None), (t, t, None), (t,))
    np.testing.assert_allclose(y[0], [-1, 1], rtol=1e-4)


def test_no_warning_leaks() -> None:
    b = GraphBuilder("g")
    x = b.input("x", (3,))
    y = b.add("Div", b.add("Exp", x), b.add("Sub", x, x))
    i = b.add("Cast", b.add("Log", x), to="int32")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = evaluate(b.finish(y, i), {"x": np.array([1e9, -1.0, 0.0], np.float32)})
    assert np.isinf(result[y][0])


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, r"graph 'chain': input 'x' is missing; give float32\[4\]"),
        ({"x": np.ones(4, np.float32), "z": np.ones(1)}, "graph 'chain': input 'z' is not known; its inputs: x"),
        ({"x": np.ones(4)}, r"input 'x' is float64\[4\], float32\[4\] expected"),
        ({"x": np.ones((4, 1), np.float32)}, r"input 'x' is float32\[4,1\], float32\[4\] expected"),
    ],
)
def test_wrong_inputs_are_named(inputs: dict[str, np.ndarray], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        evaluate(chain(1), inputs)


def test_faults_while_computing_name_the_node() -> None:
    b = GraphBuilder("g")
    i = b.input("i", (1,), "int64")
    y = b.add("Gather", b.constant("table", np.zeros((5, 2), np.float32)), i, name="look")
    with pytest.raises(ModelError, match=r"node 'look' \(Gather\): index 7 is out of range: -5\.\.4 expected"):
        evaluate(b.finish(y), {"i": np.array([7])})
    node = Node("Relu", ("x",), ("y",))
    wrong = TensorType("float32", (3,))
    with pytest.raises(
        ModelError, match=r"node 'y' \(Relu\): computed float32\[2\], the graph says float32\[3\]; verify"
    ):
        evaluate_node(node, (np.ones(2, np.float32),), (TensorType("float32", (2,)),), (wrong,))


def test_too_large_a_value_is_reported_as_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "tile", full)
    node, t = Node("Tile", ("x",), ("y",), {"repeats": (2,)}), TensorType("float32", (2,))
    with pytest.raises(
        ModelError, match=r"node 'y' \(Tile\): out of memory while computing float32\[4\]; use a smaller"
    ):
        evaluate_node(node, (np.ones(2, np.float32),), (t,), (TensorType("float32", (4,)),))


def test_codes_are_computed_in_integers() -> None:
    q = TensorType("int8", (3,), Quant((0.5,)))
    types = {"x": q, "c": TensorType("int8", (3,), Quant((0.25,))), "y": TensorType("int8", (3,), Quant((1.0,)))}
    constants = {"c": ArrayConstant(np.array([4, 8, 120], np.int8), types["c"])}
    graph = Graph("g", ("x",), ("y",), (Node("Add", ("x", "c"), ("y",)),), types, constants)
    y = evaluate(graph, {"x": np.array([2, 6, 127], np.int8)})["y"]
    # 0.5 * x + 0.25 * c = 2, 5, 93.5
    assert y.dtype == np.int8
    assert y[:2].tolist() == [2, 5]
    assert abs(int(y[2]) - 93.5) <= 0.5
