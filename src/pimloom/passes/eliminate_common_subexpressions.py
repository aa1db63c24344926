"""Computes equal things once.

    y = Relu(x); z = Relu(x); w = Add(y, z)    becomes    y = Relu(x); w = Add(y, y)

Nodes are equal if op, inputs, attributes, phase and output types are; constants if they are made alike, small ones if
they hold the same elements. Weights that one number fills stay apart: they stand for those of a network that is passed on
without them (the CNNs inside the onnx wheel), and layers would share arrays that share none in the network itself.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import final

from pimloom.ir.constants import ArrayConstant, Constant, FillConstant
from pimloom.ir.graph import Graph, Node
from pimloom.passes.draft import Draft

COMPARED_ELEMENTS = 4096
"""Constants up to this size are compared element by element."""

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "Linear", "MatMul"})


@final
@dataclass(frozen=True, slots=True)
class EliminateCommonSubexpressions:
    """Equal constants and equal nodes become one."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph in which no two nodes compute the same."""
        draft = Draft(graph)
        seen: dict[Hashable, Node | str] = {}
        weights = {node.inputs[1] for node in graph.nodes if node.op in PRODUCTS}
        for value, constant in graph.constants.items():
            if value in weights and _is_filled(constant):
                continue
            first = seen.setdefault(_constant_key(constant), value)
            if isinstance(first, str) and first != value and value not in graph.outputs:
                draft.alias(value, first)
        for node in graph.nodes:
            first_node = seen.setdefault(_node_key(draft, node), node)
            if isinstance(first_node, Node) and first_node is not node and _can_replace(draft, node, first_node):
                for gone, standing in zip(node.outputs, first_node.outputs, strict=True):
                    draft.alias(gone, standing)
            else:
                draft.keep(node)
        return draft.finish()


def _can_replace(draft: Draft, node: Node, first: Node) -> bool:
    pairs = zip(node.outputs, first.outputs, strict=True)
    return all(draft.can_alias(gone, standing) for gone, standing in pairs)


def _is_filled(constant: Constant) -> bool:
    """Whether one number fills what a large constant is made from."""
    found: object = constant
    while isinstance(found, Constant) and not isinstance(found, FillConstant):
        found = getattr(found, "base", None)
    return found is not None and constant.type.size > COMPARED_ELEMENTS


def _constant_key(constant: Constant) -> Hashable:
    if isinstance(constant, ArrayConstant):
        if constant.type.size > COMPARED_ELEMENTS:
            return id(constant)
        return (constant.type, constant.array().tobytes())
    return constant


def _node_key(draft: Draft, node: Node) -> Hashable:
    inputs = tuple(draft.source(v) if v else "" for v in node.inputs)
    types = tuple(draft.types[v] if v else None for v in node.outputs)
    return (node.op, inputs, tuple(sorted(node.attributes.items())), node.phase, types)
