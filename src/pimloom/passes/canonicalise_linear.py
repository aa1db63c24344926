"""Brings products with constant matrices to one form: `Linear(x, w[in, out], b)`.

    h = MatMul(x, w); y = Add(h, b)          becomes    y = Linear(x, w, b)
    y = Gemm(x, w, c) {transB=1, alpha=2.0}  becomes    y = Linear(x, transpose(2 w), c)

Weights are scaled and transposed lazily. What cannot be part of Linear becomes nodes of its own: a transposed input, a
sum that is no constant vector. A Gemm of two activations becomes MatMul with such nodes around it. A convolution whose
bias is computed becomes a convolution and an Add.
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
    x, w, *more = node.inputs
    weight = draft.constant_of(w)
    attributes = full_attributes(node)
    alpha, beta = float(attributes["alpha"]), float(attributes["beta"])
    is_coded = any(draft.type_of(v).quant is not None for v in node.inputs if v)
    if weight is None or draft.constant_of(x) is not None:
        return not is_coded and not _is_dequantised(draft, node) and _from_dynamic_gemm(draft, node)
    if is_coded and (alpha, beta) != (1.0, 1.0):
        return False
    bias = _gemm_bias(draft, node, beta)
    if bias is None and (is_coded or _is_dequantised(draft, node)):
        return False
    if attributes["transB"] or alpha != 1.0:
        weight = scaled(transposed(weight) if attributes["transB"] else weight, np.array([alpha]), 1)
        w = draft.constant(f"{w}_t" if attributes["transB"] else f"{w}_scaled", weight)
    x = _turned(draft, node, x) if attributes["transA"] else x
    if bias is None:
        product = draft.fresh(f"{node.name}_product")
        draft.emit(Node("Linear", (x, w), (product,), {}, product, node.phase))
        _emit_add(draft, node, product, more[0], beta)
    else:
        _emit(draft, node, x, w, bias)
    return True


def _is_dequantised(draft: Draft, node: Node) -> bool:
    """Whether an operand waits for `AbsorbQuantiseNodes` to become a constant of codes."""
    makers = (draft.producer(v) for v in node.inputs if v)
    return any(maker is not None and maker.op == "DequantizeLinear" for maker in makers)


def _from_dynamic_gemm(draft: Draft, node: Node) -> bool:
    """Gemm of two activations becomes MatMul with what else it does around it."""
    attributes = full_attributes(node)
    x, w, *more = node.inputs
    x = _turned(draft, node, x) if attributes["transA"] else x
    w = _turned(draft, node, w) if attributes["transB"] else w
    alpha, beta = float(attributes["alpha"]), float(attributes["beta"])
    has_sum = bool(more and more[0]) and beta != 0.0
    if alpha == 1.0 and not has_sum:
        draft.emit(Node("MatMul", (x, w), node.outputs, {}, node.name, node.phase))
        return True
    product = draft.fresh(f"{node.name}_product")
    draft.emit(Node("MatMul", (x, w), (product,), {}, product, node.phase))
    if alpha != 1.0:
        target = draft.fresh(f"{node.name}_scaled") if has_sum else node.outputs[0]
        product = _emit_scaled(draft, node, product, alpha, target)
    if has_sum:
        _emit_add(draft, node, product, more[0], beta)
    return True


def _turned(draft: Draft, node: Node, value: str) -> str:
    """The transpose of a matrix: a lazy constant, or a Transpose node."""
    held = draft.constant_of(value)
    if held is not None:
        return draft.constant(f"{value}_t", transposed(held))
    found = draft.type_of(value)
    moved = draft.fresh(f"{node.name}_input")
    swapped = TensorType(found.dtype, found.shape[::-1], found.quant)
    return draft.emit(Node("Transpose", (value,), (moved,), {"perm": (1, 0)}, phase=node.phase), {moved: swapped})


def _emit_scaled(draft: Draft, node: Node, value: str, factor: float, target: str) -> str:
    number = ArrayConstant(np.array(factor, draft.type_of(value).dtype))
    name = node.name if target in node.outputs else target
    return draft.emit(Node("Mul", (value, draft.constant(f"{name}_factor", number)), (target,), {}, name, node.phase))


def _emit_add(draft: Draft, node: Node, value: str, other: str, factor: float) -> None:
    if factor != 1.0:
        other = _emit_scaled(draft, node, other, factor, draft.fresh(f"{node.name}_addend"))
    draft.emit(Node("Add", (value, other), node.outputs, {}, node.name, node.phase))


def _split_bias(draft: Draft, node: Node) -> bool:
    """The bias of a convolution becomes an Add where it is computed, for only constants can be part of the weights."""
    bias = node.inputs[2] if len(node.inputs) > 2 else ""
    if not bias or draft.constant_of(bias) is not None or _is_dequantised(draft, node):
        return False
    if any(draft.type_of(v).quant is not None for v in node.inputs):
        return False
    product, column = draft.fresh(f"{node.name}_product"), draft.fresh(f"{node.name}_bias")
    draft.emit(Node(node.op, node.inputs[:2], (product,), node.attributes, product, node.phase))
    shape = (draft.type_of(bias).size, *(1,) * (draft.type_of(product).rank - 2))
    draft.emit(Node("Reshape", (bias,), (column,), {"shape": shape}, phase=node.phase))
    draft.emit(Node("Add", (product, column), node.outputs, {}, node.name, node.phase))
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
        if held is None or product is None or product.op != "Linear" or len(product.inputs) != 2:
            continue
        output = draft.types[node.outputs[0]]
        intermediate = draft.types[product.outputs[0]]
        fits = held.type.size == 1 or (held.type.size, held.type.shape[-1]) == (output.shape[-1],) * 2
        if not fits or intermediate.quant is not None or intermediate.shape != output.shape:
            continue
        if held.type.quant is not None or not draft.is_read_once(value):
            continue
        if held.type.shape != output.shape[-1:]:
            other = draft.constant(f"{other}_bias", _as_vector(held, output.shape[-1]))
        draft.drop(product)
        x, w = product.inputs
        _emit(draft, Node("Linear", (), node.outputs, {}, product.name, node.phase), x, w, other)
        return True
    return False


_REWRITES = {
    "MatMul": _from_matmul,
    "Gemm": _from_gemm,
    "Add": _absorb_add,
    "Conv": _split_bias,
    "ConvTranspose": _split_bias,
}
