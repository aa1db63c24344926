"""What a pass is, and how passes run one after another.

A pass is a frozen value whose fields are its options; calling it maps a graph to a graph. It returns the same object
where there is nothing to do, so that `after is before` tells whether anything changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final, runtime_checkable

from pimloom.ir.graph import Graph


@runtime_checkable
class Pass(Protocol):
    """Graph to graph."""

    def __call__(self, graph: Graph, /) -> Graph:
        """The rewritten graph, or the same object if nothing changed."""
        ...


@final
@dataclass(frozen=True, slots=True)
class Pipeline:
    """Passes in order; itself a pass.

    Attributes:
        passes: what runs.
        rounds: how often the sequence runs at most; it stops early when a round changes nothing.
    """

    passes: tuple[Pass, ...]
    rounds: int = 1

    def __call__(self, graph: Graph) -> Graph:
        """Runs the passes until a round changes nothing or the rounds are used up."""
        for _ in range(self.rounds):
            before = graph
            for step in self.passes:
                graph = step(graph)
            if graph is before:
                break
        return graph
