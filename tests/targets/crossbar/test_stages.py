"""What each node of a network becomes: a kind of stage or a view."""

from __future__ import annotations

import pytest
from targets.crossbar.networks import MADE, TINY, quantised

from pimloom.targets.crossbar.stages import Dataflow, Kind, Piece, Window, analyse


def kinds(flow: Dataflow) -> list[str]:
    return [stage.kind.value for stage in flow.stages]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny_mlp", ["matrix"] * 3),
        ("dilated", ["matrix"]),
        ("depthwise", ["matrix", "stencil", "matrix"]),
        ("multiplier", ["matrix"]),
        ("ceil-mode pools", ["matrix", "pool", "pool"]),
        ("squeeze excite", ["matrix", "mean", "matrix", "matrix", "vector", "vector", "matrix"]),
        ("three-way sum", ["matrix", "matrix", "general"]),
        ("dense block", ["matrix"] * 3),
        ("softmax norm", ["matrix", "vector", "vector", "matrix", "vector"]),
    ],
)
def test_kinds(name: str, expected: list[str]) -> None:
    found = kinds(analyse(quantised(name)))
    assert sorted(found) == sorted(expected)


def test_views_cost_nothing_and_resolve_to_their_sources() -> None:
    graph = quantised("concat split slice")
    flow = analyse(graph)
    assert {graph.nodes[s.node].op for s in flow.stages} == {"Conv"}
    sliced = next(n for n in graph.nodes if n.op == "Slice").outputs[0]
    first = flow.stages[0].output
    middle = flow.stages[1].output
    # Concat is 5 channels of the first, 4 of the convolution, 2 of the first; the slice keeps [2, 9).
    assert flow.sources(sliced) == (Piece(first, 5, 0, 3), Piece(middle, 0, 3, 4))


@pytest.mark.parametrize("name", [*MADE, *TINY])
def test_sources_cover_every_channel_once(name: str) -> None:
    flow = analyse(quantised(name))
    computed = {v for s in flow.stages for v in flow.graph.nodes[s.node].outputs} | set(flow.graph.inputs)
    for value in flow.views:
        pieces = sorted(flow.sources(value), key=lambda p: p.dst)
        ends = [0]
        for piece in pieces:
            assert piece.dst == ends[-1]
            assert piece.source in computed
            assert piece.src >= 0 and piece.src + piece.n <= flow.shapes[piece.source].channels
            ends.append(piece.dst + piece.n)
        assert ends[-1] == flow.shapes[value].channels


@pytest.mark.parametrize("name", [*MADE, *TINY])
def test_every_node_is_a_stage_or_a_view_and_comes_after_its_inputs(name: str) -> None:
    graph = quantised(name)
    flow = analyse(graph)
    staged = [s.node for s in flow.stages]
    assert staged == sorted(staged) and [s.index for s in flow.stages] == list(range(len(staged)))
    for index, node in enumerate(graph.nodes):
        assert (index in staged) != any(v in flow.views for v in node.outputs)
    for value, shape in flow.shapes.items():
        size = graph.types[value].size
        assert shape.rows * shape.width * shape.channels == size == flow.layouts[value].rows * flow.layouts[value].channels


def test_windows_have_two_axes() -> None:
    one_d = analyse(quantised("1d")).stages[0]
    assert one_d.window == Window((1, 5), (1, 2), (1, 1), (0, 2))
    assert analyse(quantised("dilated")).stages[0].window == Window((3, 3), (1, 1), (2, 2), (2, 2))
    assert analyse(quantised("dilated")).stages[0].window.reach(0) == 5
    assert analyse(quantised("asymmetric pads")).stages[0].window.padding == (1, 0)


def test_broadcast_operand_is_one_vector() -> None:
    flow = analyse(quantised("squeeze excite"))
    gate = next(s for s in flow.stages if s.kind is Kind.VECTOR)
    assert [operand.is_broadcast for operand in gate.inputs] in ([False, True], [False])  # the product or the sigmoid
    products = [s for s in flow.stages if len(s.inputs) == 2]
    assert [o.is_broadcast for s in products for o in s.inputs] == [False, True]
