"""The text form of graphs: what it looks like, that it parses back, and what the parser says."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pimloom.errors import ModelError
from pimloom.ir import Graph, GraphBuilder, Node, Phase, Quant, TensorType, digest, parse_graph, print_graph
from pimloom.ir.constants import ArrayConstant, Constant, FileConstant, FillConstant, SeededConstant

TEXT = """graph tiny {
  input x: float32[1,4]
  input "odd name": int64[]
  const w: float32[4,3] = seeded(seed=3, mean=0.0, std=0.1)
  const b: float32[3] = [1.0, -inf, 0.1]
  const f: float32[1000,1000] = fill(0.5)
  const mask: bool[2] = [true, false]
  const far: int8[4]{scale=[0.1, 0.2, 0.3, 0.4], zero=0, axis=0} = external("dir/weights.bin", 128)
  h: float32[1,3] = Gemm(x, w, b) {alpha=2.0, transB=0}
  top:0: float32[1,2], "": int64[1,2] = TopK(h, "") {k=2} as top
  q: int8[1,2]{scale=0.02, zero=-3} = Clip(top:0) {min=-inf, max=1e-05} @backward
  output q, h
}
"""


def test_text_parses_back_to_itself() -> None:
    text = TEXT.replace('"": int64[1,2]', '""')
    graph = parse_graph(text)
    assert print_graph(graph) == text
    assert graph.inputs == ("x", "odd name")
    assert graph.outputs == ("q", "h")
    assert graph.constants["w"] == SeededConstant(TensorType("float32", (4, 3)), 3, 0.0, 0.1)
    assert graph.constants["f"] == FillConstant(TensorType("float32", (1000, 1000)), 0.5)
    assert graph.constants["far"] == FileConstant(graph.types["far"], Path("dir/weights.bin"), 128)
    assert graph.types["far"].quant == Quant((0.1, 0.2, 0.3, 0.4), 0, 0)
    np.testing.assert_array_equal(graph.constants["b"].array(), np.array([1, -np.inf, 0.1], np.float32))
    assert graph.constants["mask"].array().tolist() == [True, False]
    gemm, top, clip = graph.nodes
    assert gemm == Node("Gemm", ("x", "w", "b"), ("h",), {"alpha": 2.0, "transB": 0})
    assert isinstance(gemm.attributes["alpha"], float)
    assert isinstance(gemm.attributes["transB"], int)
    assert top == Node("TopK", ("h", ""), ("top:0", ""), {"k": 2}, "top")
    assert clip.phase is Phase.BACKWARD
    assert clip.attributes == {"min": -math.inf, "max": 1e-5}
    assert graph.types["q"] == TensorType("int8", (1, 2), Quant((0.02,), -3))


def test_line_ends_and_comments_mean_nothing() -> None:
    text = print_graph(parse_graph("graph g {\n input x: float32[2] # two\n y: float32[2] = Relu(x)\n output y }"))
    assert print_graph(parse_graph(text.replace("\n", " "))) == text


def test_long_arrays_need_the_array_at_hand() -> None:
    b = GraphBuilder("g")
    x, array = b.input("x", (100,)), np.arange(100, dtype=np.float32)
    graph = b.finish(b.add("Add", x, b.constant("c", array)))
    text = print_graph(graph)
    assert f'const c: float32[100] = data("{digest(array)}")' in text
    with pytest.raises(ModelError, match=r"line 3: constant 'c' was too long to print; give its array in parse_graph"):
        parse_graph(text)
    again = parse_graph(text, {"c": array})
    assert print_graph(again) == text
    assert print_graph(parse_graph(text, {"c": graph.constants["c"]})) == text
    with pytest.raises(ModelError, match=r"line 3: constant 'c': the given array has digest"):
        parse_graph(text, {"c": array + 1})
    with pytest.raises(ModelError, match=r"float32\[50\] was given, float32\[100\] expected"):
        parse_graph(text, {"c": FillConstant(TensorType("float32", (50,)), 1.0)})


names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=8) | st.sampled_from(
    [
        "input",
        "const",
        "output",
        "as",
        "graph",
        "inf",
        "nan",
        "nano",
        "/a/b-c:0",
        "a:0:1",
        "1x",
        "fill",
        '"',
        "\\",
        "a b",
        "x:",
        ".5",
    ]
)
floats = st.floats(allow_nan=False)
values: Any = st.one_of(
    st.integers(-(2**63), 2**63),
    floats,
    st.text(max_size=6),
    st.lists(st.integers(-99, 99), max_size=4).map(tuple),
    st.lists(floats, min_size=1, max_size=3).map(tuple),
    st.lists(st.text(max_size=3), min_size=1, max_size=3).map(tuple),
)
scales = st.floats(1e-30, 1e30)


@st.composite
def types(draw: st.DrawFn) -> TensorType:
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    dtype = draw(st.sampled_from(["float16", "float32", "float64", "int8", "uint8", "int64", "bool"]))
    quant = None
    if dtype in ("int8", "uint8") and draw(st.booleans()):
        axis = draw(st.none() | st.integers(0, len(shape) - 1)) if shape and shape[0] else None
        count = 1 if axis is None else max(1, shape[axis])
        quant = Quant(tuple(draw(st.lists(scales, min_size=count, max_size=count))), draw(st.integers(-128, 127)), axis)
    return TensorType(dtype, shape, quant)


@st.composite
def constants(draw: st.DrawFn) -> Constant:
    value_type = draw(types())
    kind = draw(st.sampled_from(["fill", "seeded", "array", "file"]))
    if kind == "fill":
        return FillConstant(value_type, draw(floats | st.integers(0, 9)))
    if kind == "seeded":
        return SeededConstant(value_type, draw(st.integers(0, 2**40)), draw(floats), draw(floats))
    if kind == "file":
        return FileConstant(value_type, Path(draw(st.sampled_from(["w.bin", "a b/ü.bin"]))), draw(st.integers(0, 99)))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    raw = np.frombuffer(rng.bytes(value_type.size_bytes), np.uint8)
    elements = (raw & 1).astype(bool) if value_type.dtype == "bool" else raw.view(value_type.dtype)
    return ArrayConstant(elements.reshape(value_type.shape), value_type)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    pool = draw(st.lists(names, min_size=4, max_size=10, unique=True))
    table: dict[str, TensorType] = {}
    n_inputs, n_constants = draw(st.integers(1, 2)), draw(st.integers(0, 2))
    inputs, held = pool[:n_inputs], pool[n_inputs : n_inputs + n_constants]
    table.update({name: draw(types()) for name in inputs})
    fixed = {name: draw(constants()) for name in held}
    table.update({name: constant.type for name, constant in fixed.items()})
    nodes: list[Node] = []
    for name in pool[n_inputs + n_constants :]:
        sources = tuple(draw(st.lists(st.sampled_from([*table, ""]), max_size=3)))
        attributes = draw(st.dictionaries(names, values, max_size=3))
        table[name] = draw(types())
        label = draw(st.just("") | names)
        nodes.append(
            Node(
                draw(st.sampled_from(["Relu", "Odd op", "X.y"])),
                sources,
                (name,),
                attributes,
                label,
                draw(st.sampled_from(Phase)),
            )
        )
    outputs = tuple(draw(st.lists(st.sampled_from(list(table)), max_size=3)))
    return Graph(draw(names), tuple(inputs), outputs, tuple(nodes), table, fixed)


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_round_trip(graph: Graph) -> None:
    text = print_graph(graph)
    again = parse_graph(text)
    assert print_graph(again) == text
    assert (again.name, again.inputs, again.outputs, again.nodes) == (
        graph.name,
        graph.inputs,
        graph.outputs,
        graph.nodes,
    )
    assert again.types == graph.types
    for name, constant in graph.constants.items():
        if not isinstance(constant, ArrayConstant):
            assert again.constants[name] == constant
        else:
            np.testing.assert_array_equal(again.constants[name].array(), constant.array())


FAULTS = (
    ("net x {}", r"line 1: 'net' found, 'graph' expected"),
    ("graph g {\n input x: float32[2]\n", r"line 3: 'end of text' found, the name of a value expected"),
    ("graph g {\n input x float32[2] }", r"line 2: 'float32' found, ':' expected"),
    ("graph g {\n input x: float33[2] }", r"line 2: unknown element type 'float33'; known: float16"),
    ("graph g {\n input x: float32 }", r"line 2: '}' found, '\[' and the shape expected"),
    ("graph g {\n input x: float32[-1] }", r"line 2: negative size in shape \[-1\]"),
    ("graph g {\n input x: float32[n] }", r"line 2: 'n' found, an integer expected"),
    ("graph g {\n input x: float32[2 3] }", r"line 2: '3' found, ',' or '\]' expected"),
    ("graph g {\n input x: int8[2]{scale=0.0} }", r"line 2: quantisation scale must be positive"),
    (
        "graph g {\n input x: int8[2]{zero=1} }",
        r"line 2: '}' found, '\{scale=..., zero=..., axis=...\}' before this expected",
    ),
    ("graph g {\n input x: int8[2]{scale=0.1, zero=0.5} }", r"line 2: .*integers as zero and axis"),
    ('graph g {\n input x: int8[2]{scale=["a"]} }', r"line 2: .*a number as scale"),
    (
        "graph g {\n input x: float32[2]\n input x: float32[2] }",
        r"line 3: value 'x' is defined twice; give each value its own name",
    ),
    ("graph g {\n const w: float32[2] = [1.0] }", r"line 2: constant 'w' has 1 elements, 2 expected for float32\[2\]"),
    ("graph g {\n const w: int8[1] = [300] }", r"line 2: constant 'w': an element does not fit int8"),
    ("graph g {\n const w: int8[1] = rand(3) }", r"line 2: 'rand' found, a list, fill\(...\), seeded\(...\)"),
    ("graph g {\n const w: float32[1] = seeded(sed=1) }", r"line 2: 'sed' found, seed, mean or std expected"),
    ("graph g {\n y: float32[2] = Relu(x }", r"line 2: '}' found, ',' or '\)' expected"),
    (
        "graph g {\n input x: float32[2]\n y: float32[2] = Relu(x) {alpha=[1,} }",
        r"line 3: '}' found, a number expected",
    ),
    ("graph g {\n input x: float32[2]\n y: float32[2] = Relu(x) {a=1, a=2} }", r"line 3: 'a' is given twice"),
    (
        "graph g {\n input x: float32[2]\n y: float32[2] = Relu(x) @sideways }",
        r"line 3: 'sideways' found, one of forward, backward, update",
    ),
    ("graph g {\n y: float32[2] = Relu(x) }", r"graph 'g': node 'y' \(Relu\): input 'x' is not defined before it"),
    (
        "graph g {\n input x: float32[2]\n ! }",
        r"line 3: '!' found, which begins no name, number or sign; quote odd names",
    ),
    ("graph g { } }", r"line 1: '}' found, the end of the text after '}' expected"),
    ('graph g {\n input "a\\q": float32[2] }', r"line 2: .*a string with JSON escapes expected"),
)


@pytest.mark.parametrize(("text", "message"), FAULTS)
def test_faults_name_the_line(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse_graph(text)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(TEXT) - 1), st.integers(0, 12), st.text('{}[]()=,:@"x1.-# \n', max_size=4))
def test_mutilated_text_raises_nothing_but_model_errors(place: int, cut: int, put: str) -> None:
    try:
        parse_graph(TEXT[:place] + put + TEXT[place + cut :])
    except ModelError as error:
        assert str(error)
