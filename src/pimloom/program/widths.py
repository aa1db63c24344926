"""Widths of what instructions work on, as the nodes they work for decide them: compiler, costs, interpreter and checks agree."""

from __future__ import annotations

from collections.abc import Container

from pimloom.ir.graph import Graph, Node


def sum_bytes(graph: Graph, node: Node) -> int:
    """Bytes of a partial sum of a node: 4 where 32 bits hold any sum of products, else 8."""
    coded = [t for t in graph.input_types(node)[:2] if t is not None and t.quant is not None]
    return 4 if sum(8 * t.itemsize_bytes for t in coded) <= 16 else 8


def code_bytes(graph: Graph, node: Node, held: Container[str]) -> tuple[int, int, int]:
    """Bytes of a code of a node's output, and of the first and second operand that is not built into the instruction.

    Args:
        graph: the quantised graph.
        node: one of its nodes.
        held: values that lie in global memory; a constant among them is an operand like any other.
    """
    streamed = [
        graph.types[v].itemsize_bytes
        for i, v in enumerate(node.inputs)
        if v and (v not in graph.constants or (i > 0 and v in held))
    ]
    first, second, *_ = [*streamed, 1, 1]
    return graph.types[next(v for v in node.outputs if v)].itemsize_bytes, first, second
