"""Layers cut over output channels: a layer that a machine cannot hold becomes several nodes whose results are put together.

Each piece has its columns of the weight, the bias and the scales, so its codes are those of the whole layer; Concat is a view
and costs nothing:

    y = Conv(x, w)    becomes    y.0 = Conv(x, w.0)    y.1 = Conv(x, w.1)    y = Concat(y.0, y.1)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, final

import numpy as np

from pimloom.ir.constants import Constant
from pimloom.ir.graph import Graph, Node
from pimloom.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True, slots=True)
class Portion(Constant):
    """A range of another constant along one axis.

    Attributes:
        whole: the other constant.
        axis: the axis.
        start: first index.
        stop: one past the last.
    """

    whole: Constant
    axis: int
    start: int
    stop: int

    @property
    def type(self) -> TensorType:
        """Element type and shape."""
        return part_type(self.whole.type, self.axis, self.start, self.stop)

    def array(self) -> Array:
        """The elements, a view of the whole."""
        return self.whole.array()[(slice(None),) * self.axis + (slice(self.start, self.stop),)]


def part_type(whole: TensorType, axis: int, start: int, stop: int) -> TensorType:
    """The type of a range along an axis, with the scales of that range."""
    quant = whole.quant
    if quant is not None and quant.axis == axis and len(quant.scale) > 1:
        quant = replace(quant, scale=quant.scale[start:stop])
    shape = (*whole.shape[:axis], stop - start, *whole.shape[axis + 1 :])
    return TensorType(whole.dtype, shape, quant)


def cut_layers(graph: Graph, cuts: Mapping[int, tuple[int, ...]]) -> Graph:
    """The graph with some layers cut over their output channels.

    Args:
        graph: the quantised graph.
        cuts: index of a Conv of one group, or of a Linear, to where its pieces begin and end: 0, ..., its output channels.

    Returns:
        The same graph if there is nothing to cut.
    """
    if not cuts:
        return graph
    types, constants = dict(graph.types), dict(graph.constants)
    nodes: list[Node] = []
    for index, node in enumerate(graph.nodes):
        if index in cuts:
            nodes += _pieces(node, cuts[index], types, constants)
        else:
            nodes.append(node)
    used = {v for node in nodes for v in node.inputs} | set(graph.outputs)
    kept = {v: c for v, c in constants.items() if v in used or v not in _weights(graph, cuts)}
    types = {v: t for v, t in types.items() if v in kept or v not in constants}
    return Graph(graph.name, graph.inputs, graph.outputs, tuple(nodes), types, kept)


def _weights(graph: Graph, cuts: Mapping[int, tuple[int, ...]]) -> set[str]:
    """Constants of the layers that are cut."""
    return {v for index in cuts for v in graph.nodes[index].inputs[1:] if v}


def _pieces(node: Node, cuts: tuple[int, ...], types: dict[str, TensorType], constants: dict[str, Constant]) -> list[Node]:
    """The pieces of a layer and what puts them together; their types and constants are added."""
    output = node.outputs[0]
    axis = 1 if node.op == "Conv" else types[output].rank - 1
    weight_axis = 0 if node.op == "Conv" else 1
    made: list[Node] = []
    for number, (start, stop) in enumerate(pairwise(cuts)):
        inputs = [node.inputs[0]]
        for value, along in zip(node.inputs[1:], (weight_axis, 0), strict=False):
            inputs.append(_named(f"{value}.{number}", types) if value else "")
            if value:
                constants[inputs[-1]] = Portion(constants[value], along, start, stop)
                types[inputs[-1]] = constants[inputs[-1]].type
        piece = _named(f"{output}.{number}", types)
        types[piece] = part_type(types[output], axis, start, stop)
        made.append(Node(node.op, tuple(inputs), (piece,), node.attributes, f"{node.name}.{number}", node.phase))
    joined = Node("Concat", tuple(n.outputs[0] for n in made), (output,), {"axis": axis}, f"{node.name}.joined", node.phase)
    return [*made, joined]


def _named(name: str, types: Mapping[str, TensorType]) -> str:
    """The name, or one like it that no value has."""
    while name in types:
        name += "_"
    return name


__all__ = ["Portion", "cut_layers", "part_type"]
