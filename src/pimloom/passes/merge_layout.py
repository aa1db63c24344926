"""Merges chains of nodes that only change the layout.

y = Transpose(x) {perm=(0,2,1)}; z = Transpose(y) {perm=(2,0,1)}    becomes    z = Transpose(x) {perm=(1,0,2)}
y = Flatten(x); z = Unsqueeze(y) {axes=(2)}                         becomes    z = Reshape(x) {shape=(1,8,1)}
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import full_attributes
from pimloom.passes.draft import Draft

RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


@final
@dataclass(frozen=True, slots=True)
class MergeLayout:
    """A Transpose of a Transpose and a reshape of a reshape become one node."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph with merged chains; nodes that others still read stay."""
        draft = Draft(graph)
        for node in graph.nodes:
            before = draft.producer(node.inputs[0]) if node.op in RESHAPES or node.op == "Transpose" else None
            if before is None or not _merge(draft, before, node):
                draft.keep(node)
        return draft.finish()


def _merge(draft: Draft, before: Node, node: Node) -> bool:
    value = node.outputs[0]
    if node.op in RESHAPES and before.op in RESHAPES:
        op, attributes = "Reshape", {"shape": draft.types[value].shape}
    elif node.op == "Transpose" and before.op == "Transpose":
        first, second = _order(draft, before), _order(draft, node)
        op, attributes = "Transpose", {"perm": tuple(first[i] for i in second)}
    else:
        return False
    if draft.is_read_once(node.inputs[0]):
        draft.drop(before)
    merged = Node(op, before.inputs, node.outputs, attributes, node.name, node.phase)
    draft.emit(merged, {value: draft.types[value]})
    return True


def _order(draft: Draft, node: Node) -> tuple[int, ...]:
    perm: Any = full_attributes(node)["perm"]
    return tuple(perm) or tuple(reversed(range(draft.type_of(node.inputs[0]).rank)))
