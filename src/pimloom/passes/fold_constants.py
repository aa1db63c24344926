"""Computes what depends on constants alone.

    s = Add(c, d); y = Mul(x, s)    becomes    y = Mul(x, s) with the constant s = c + d

Large constants are left alone (their elements may not even be in memory), unless the result needs none of them: a
constant of one value stays so under element-wise ops and changes of shape, and a matrix is transposed lazily.
DequantizeLinear is left alone as well: its codes and scale are worth more than its result.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from pimloom.ir.constants import ArrayConstant, Constant, FillConstant
from pimloom.ir.evaluate import evaluate_node
from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import Rule, op_of
from pimloom.passes.draft import Draft
from pimloom.passes.lazy_constants import transposed
from pimloom.passes.merge_layout import RESHAPES

MAX_ELEMENTS = 1_000_000
_KEPT = frozenset({"QuantizeLinear", "DequantizeLinear"})
_RESHAPING = RESHAPES | {"Transpose", "Expand", "Tile", "Slice", "Identity"}


@final
@dataclass(frozen=True, slots=True)
class FoldConstants:
    """Nodes of constant inputs become constants.

    Attributes:
        max_elements: largest constant that is read or made.
    """

    max_elements: int = MAX_ELEMENTS

    def __call__(self, graph: Graph) -> Graph:
        """The graph without foldable nodes."""
        draft = Draft(graph)
        for node in graph.nodes:
            folded = None if node.op in _KEPT else self._fold(draft, node)
            if folded is None:
                draft.keep(node)
                continue
            for value, constant in zip(node.outputs, folded, strict=True):
                draft.become_constant(value, constant)
        return draft.finish()

    def _fold(self, draft: Draft, node: Node) -> tuple[Constant, ...] | None:
        held = [draft.constant_of(v) for v in node.inputs if v]
        known = [c for c in held if c is not None]
        coded = any(draft.type_of(v).quant is not None for v in (*node.inputs, *node.outputs) if v)
        if not held or len(known) < len(held) or coded:
            return None
        cheap = _without_elements(draft, node, known)
        if cheap is not None:
            return (cheap,)
        if max(t.size for t in (*(c.type for c in known), *(draft.types[v] for v in node.outputs))) > self.max_elements:
            return None
        arrays = iter(c.array() for c in known)
        types = tuple(draft.type_of(v) if v else None for v in node.inputs)
        given = tuple(next(arrays) if v else None for v in node.inputs)
        outputs = evaluate_node(node, given, types, tuple(draft.types[v] for v in node.outputs))
        return tuple(ArrayConstant(np.ascontiguousarray(o)) for o in outputs)


def _without_elements(draft: Draft, node: Node, inputs: list[Constant]) -> Constant | None:
    """The result where it takes no element by element work."""
    target, first = draft.types[node.outputs[0]], inputs[0]
    fills = [c.fill_value for c in inputs]
    if node.op in _RESHAPING and fills[0] is not None:
        return FillConstant(target, fills[0])
    if node.op == "Transpose" and first.type.rank == 2 and node.attributes.get("perm", ()) in ((1, 0), ()):
        return transposed(first)
    if op_of(node).rule is Rule.LOOKUP and len(inputs) == 1 and fills[0] is not None and target.size > 1:
        scalar = replace(first.type, shape=())
        (value,) = evaluate_node(node, (np.full((), fills[0], scalar.dtype),), (scalar,), (replace(target, shape=()),))
        return FillConstant(target, float(value))
    return None
