"""Widths of what instructions work on, as the nodes they work for decide them: compiler, costs, interpreter and checks agree."""

from __future__ import annotations

from pimloom.ir.graph import Graph, Node


def sum_bytes(graph: Graph, node: Node) -> int:
    """Bytes of a partial sum of a node: 4 where 32 bits hold any sum of products, else 8."""
    coded = [t for t in graph.input_types(node)[:2] if t is not None and t.quant is not None]
    return 4 if sum(8 * t.itemsize_bytes for t in coded) <= 16 else 8
