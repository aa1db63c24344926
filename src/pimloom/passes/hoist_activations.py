"""Puts Relu and Clip before moves that follow a product, so that they can be part of it.

h = Conv(x, w); m = DepthToSpace(h); y = Relu(m)    becomes    r = Relu(h); y = DepthToSpace(r)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, final

from pimloom.ir.graph import Graph, Node
from pimloom.passes.draft import Draft

_ACTIVATIONS: Final = frozenset({"Relu", "Clip"})
_MOVES: Final = frozenset({"DepthToSpace", "Flatten", "Reshape", "Slice", "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze"})
_PRODUCTS: Final = frozenset({"Conv", "ConvTranspose", "Linear", "MatMul"})


@final
@dataclass(frozen=True, slots=True)
class HoistActivations:
    """Relu and Clip change places with what only moves elements, where a product comes before it."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph with activations next to products."""
        draft = Draft(graph)
        for node in graph.nodes:
            moves = _moves_before(draft, node) if node.op in _ACTIVATIONS else []
            if not moves:
                draft.keep(node)
                continue
            value = moves[-1].inputs[0]
            for move in moves:
                draft.drop(move)
            first = draft.fresh(f"{node.name}_first")
            value = draft.emit(Node(node.op, (value,), (first,), node.attributes, node.name, node.phase))
            for move in reversed(moves):
                output = node.outputs[0] if move is moves[0] else draft.fresh(f"{move.name}_after")
                value = draft.emit(Node(move.op, (value,), (output,), move.attributes, move.name, move.phase))
        return draft.finish()


def _moves_before(draft: Draft, node: Node) -> list[Node]:
    """What moves the elements between a product and a node, last first; empty where there is no product, or others read one of them."""
    found: list[Node] = []
    value = node.inputs[0]
    while draft.is_read_once(value) and (before := draft.producer(value)) is not None and draft.types[value].quant is None:
        if before.op not in _MOVES:
            return found if before.op in _PRODUCTS else []
        found.append(before)
        value = before.inputs[0]
    return []


__all__ = ["HoistActivations"]
