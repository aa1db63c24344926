"""Brings products with constant matrices to one form: `Linear(x, w[in, out], b)`.

    h = MatMul(x, w); y = Add(h, b)          becomes    y = Linear(x, w, b)
    y = Gemm(x, w, c) {transB=1, alpha=2.0}  becomes    y = Linear(x, transpose(2 w), c)

Weights are scaled and transposed lazily. Gemm with a transposed input gets a Transpose node; a Gemm or MatMul of two
activations stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.ir import quantised as quantised  # the row of Linear
from pimloom.ir.constants import ArrayConstant, Constant
from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import full_attributes
from pimloom.ir.types import TensorType
from pimloom.passes.draft import Draft
from pimloom.passes.lazy_constants import scaled, transposed


@final
@dataclass(frozen=True, slots=True)
class CanonicaliseLinear:
    """MatMul, Gemm and the Add behind them become Linear."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph in which every product with a constant matrix is a Linear node."""
        draft = Draft(graph)
        for node in graph.nodes:
            rewrite = _REWRITES.get(node.op)
            if rewrite is None or not rewrite(draft, node):
                draft.keep(node)
        return draft.finish()


def _from_matmul(draft: Draft, node: Node) -> bool:
    weight = draft.constant_of(node.inputs[1])
    if weight is None or weight.type.rank != 2 or draft.constant_of(node.inputs[0]) is not None:
        return False
    _emit(draft, node, node.inputs[0], node.inputs[1], "")
    return True


def _from_gemm(draft: Draft, node: Node) -> bool:
    x, w = node.inputs[:2]
    weight = draft.constant_of(w)
    attributes = full_attributes(node)
    alpha, beta = float(attributes["alpha"]), float(attributes["beta"])
    if weight is None or draft.constant_of(x) is not None:
        return False
    if weight.type.quant is not None and (alpha, beta) != (1.0, 1.0):
        return False
    bias = _gemm_bias(draft, node, beta)
    if bias is None:
        return False
    if attributes["transB"] or alpha != 1.0:
        weight = scaled(transposed(weight) if attributes["transB"] else weight, np.array([alpha]), 1)
        w = draft.constant(f"{w}_t" if attributes["transB"] else f"{w}_scaled", weight)
    if attributes["transA"]:
        found = draft.type_of(x)
        swapped = TensorType(found.dtype, found.shape[::-1], found.quant)
        moved = draft.fresh(f"{node.name}_input")
        x = draft.emit(Node("Transpose", (x,), (moved,), {"perm": (1, 0)}, phase=node.phase), {moved: swapped})
    _emit(draft, node, x, w, bias)
    return True


def _gemm_bias(draft: Draft, node: Node, beta: float) -> str | None:
    """The bias vector's name, empty without one; None where C is no constant vector of one element per output."""
    value = node.inputs[2] if len(node.inputs) > 2 else ""
    if not value or beta == 0.0:
        return ""
    held, n_out = draft.constant_of(value), draft.type_of(node.outputs[0]).shape[1]
    if held is None or held.type.shape not in ((), (1,), (n_out,), (1, n_out), (1, 1)):
        return None
    if held.type.shape == (n_out,) and beta == 1.0:
        return value
    if held.type.quant is not None:
        return None
    return draft.constant(f"{value}_bias", _as_vector(held, n_out, beta))


def _as_vector(held: Constant, n_out: int, factor: float = 1.0) -> ArrayConstant:
    values = np.broadcast_to(held.array().reshape(-1), (n_out,)) * np.asarray(factor, held.type.dtype)
    return ArrayConstant(values.astype(held.type.dtype))


def _emit(draft: Draft, node: Node, x: str, w: str, b: str) -> None:
    inputs = (x, w, b) if b else (x, w)
    types = {node.outputs[0]: draft.types[node.outputs[0]]}
    draft.emit(Node("Linear", inputs, node.outputs, {}, node.name, node.phase), types)


def _absorb_add(draft: Draft, node: Node) -> bool:
    """`Linear(x, w) + b` becomes `Linear(x, w, b)` where b is one constant vector along the outputs."""
    for value, other in (node.inputs, node.inputs[::-1]):
        held, product = draft.constant_of(other), draft.producer(value)
        if held is None or product is None or product.op != "Linear" or len(product.inputs) > 2:
            continue
        output = draft.types[node.outputs[0]]
        intermediate = draft.types[product.outputs[0]]
        fits = held.type.size in (1, output.shape[-1]) and held.type.shape[-1:] in ((), (1,), output.shape[-1:])
        if not fits or intermediate.quant is not None or intermediate.shape != output.shape:
            continue
        if held.type.quant is not None or not draft.is_read_once(value):
            continue
        if held.type.shape != output.shape[-1:]:
            other = draft.constant(f"{other}_bias", _as_vector(held, output.shape[-1]))
        draft.drop(product)
        x, w, *_ = product.inputs
        _emit(draft, Node("Linear", (), node.outputs, {}, product.name, node.phase), x, w, other)
        return True
    return False


_REWRITES = {"MatMul": _from_matmul, "Gemm": _from_gemm, "Add": _absorb_add}
