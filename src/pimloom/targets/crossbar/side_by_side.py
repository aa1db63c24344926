"""A network for several samples at once: one copy of every node per sample, which share their constants.

    y = f(x)    becomes    y = f(x)    y@1 = f(x@1)    y@2 = f(x@2)

The first sample keeps the names. Node i of sample s is node `i * samples + s`.
"""

from __future__ import annotations

from dataclasses import replace

from pimloom.ir.graph import Graph


def of_sample(name: str, sample: int) -> str:
    """The name of a value or node for a sample."""
    return f"{name}@{sample}" if sample and name else name


def side_by_side(graph: Graph, samples: int) -> Graph:
    """The network for several samples; the same graph for one."""
    if samples == 1:
        return graph
    held = graph.constants

    def renamed(values: tuple[str, ...], sample: int) -> tuple[str, ...]:
        return tuple(v if v in held else of_sample(v, sample) for v in values)

    nodes = tuple(
        replace(node, inputs=renamed(node.inputs, s), outputs=renamed(node.outputs, s), name=of_sample(node.name, s))
        for node in graph.nodes for s in range(samples)
    )  # fmt: skip
    types = {
        name: kind
        for value, kind in graph.types.items()
        for name in ([value] if value in held else [of_sample(value, s) for s in range(samples)])
    }
    inputs = tuple(of_sample(v, s) for v in graph.inputs for s in range(samples))
    outputs = tuple(name for v in graph.outputs for name in dict.fromkeys(renamed((v,), s)[0] for s in range(samples)))
    return replace(graph, inputs=inputs, outputs=outputs, nodes=nodes, types=types)


__all__ = ["of_sample", "side_by_side"]
