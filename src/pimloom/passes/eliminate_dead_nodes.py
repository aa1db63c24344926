"""Removes nodes that no output depends on.

y = Relu(x); z = Exp(x); return y    becomes    y = Relu(x); return y
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from pimloom.ir.graph import Graph
from pimloom.passes.draft import Draft


@final
@dataclass(frozen=True, slots=True)
class EliminateDeadNodes:
    """Keeps what the outputs depend on; graph inputs stay, unread constants go."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph without dead nodes and constants."""
        live = set(graph.outputs)
        for node in reversed(graph.nodes):
            if live.intersection(node.outputs):
                live.update(v for v in node.inputs if v)
        dead = [node for node in graph.nodes if not live.intersection(node.outputs)]
        if not dead and live.issuperset(graph.constants):
            return graph
        draft = Draft(graph)
        for node in graph.nodes:
            draft.keep(node)
        for node in dead:
            draft.drop(node)
        draft.forget(value for value in graph.constants if value not in live)
        return draft.finish()
