"""Folds what scales and shifts the channels of a product into its weights and bias.

    h = Conv(x, w); y = BatchNormalization(h, scale, bias, mean, variance)
        becomes    y = Conv(x, w * f, bias - mean * f),  f = scale / sqrt(variance + epsilon)
    h = Conv(x, w, b); y = Mul(h, c)    becomes    y = Conv(x, w * c, b * c)   with one constant per channel in c

The weights are scaled lazily. A BatchNormalization that follows no product becomes Mul and Add with constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.ir.constants import ArrayConstant, Constant
from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import full_attributes
from pimloom.passes.draft import Draft
from pimloom.passes.lazy_constants import scaled

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True, slots=True)
class FoldBatchNorm:
    """BatchNormalization goes into the product before it, or becomes Mul and Add."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph without BatchNormalization nodes of constant parameters."""
        draft = Draft(graph)
        for node in graph.nodes:
            factors = _batch_norm_factors(draft, node) if node.op == "BatchNormalization" else None
            if factors is None:
                draft.keep(node)
            elif not _fold(draft, node, node.inputs[0], *factors):
                _emit_scale_and_shift(draft, node, *factors)
        return draft.finish()


@final
@dataclass(frozen=True, slots=True)
class FoldChannelFactors:
    """Mul, Div, Add and Sub by one constant per channel go into the product before them."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph with folded factors and offsets."""
        draft = Draft(graph)
        for node in graph.nodes:
            if node.op not in _FACTORS or not _fold_elementwise(draft, node):
                draft.keep(node)
        return draft.finish()


_FACTORS = frozenset({"Mul", "Div", "Add", "Sub"})


def _batch_norm_factors(draft: Draft, node: Node) -> tuple[Array, Array] | None:
    """float64[C] factor and offset, or None where a parameter is computed."""
    held = [draft.constant_of(v) for v in node.inputs[1:5]]
    constants = [c for c in held if c is not None]
    if len(constants) < 4 or any(c.type.quant is not None for c in constants):
        return None
    scale, bias, mean, variance = (c.array().astype(np.float64) for c in constants)
    factor = scale / np.sqrt(variance + float(full_attributes(node)["epsilon"]))
    return factor, bias - mean * factor


def _fold_elementwise(draft: Draft, node: Node) -> bool:
    value, other = node.inputs
    if draft.constant_of(value) is not None and node.op in ("Mul", "Add"):
        value, other = other, value
    held, product = draft.constant_of(other), draft.producer(value)
    if held is None or product is None or held.type.quant is not None or draft.type_of(value).rank == 0:
        return False
    vector = _per_channel(held, _channel_axis(product, draft), draft.type_of(value).shape)
    if vector is None:
        return False
    one, zero = np.ones_like(vector), np.zeros_like(vector)
    factor, offset = {
        "Mul": (vector, zero),
        "Div": (1.0 / np.where(vector == 0.0, np.nan, vector), zero),
        "Add": (one, vector),
        "Sub": (one, -vector),
    }[node.op]
    return bool(np.isfinite(factor).all()) and _fold(draft, node, value, factor, offset)


def _per_channel(held: Constant, axis: int, shape: tuple[int, ...]) -> Array | None:
    """float64[C], the constant's element for each index of `axis`; None where it varies along another one, or widens `axis`."""
    padded = (1,) * (len(shape) - held.type.rank) + held.type.shape
    if len(padded) != len(shape) or axis >= len(shape) or any(d != 1 for i, d in enumerate(padded) if i != axis):
        return None
    if held.type.size not in (1, shape[axis]):
        return None
    return np.broadcast_to(held.array().astype(np.float64).reshape(-1), (shape[axis],)).copy()


def _channel_axis(product: Node, draft: Draft) -> int:
    return draft.types[product.outputs[0]].rank - 1 if product.op == "Linear" else 1


def _weight_axis(product: Node) -> int | None:
    """The weights' axis of output channels; None where the op is no product or has no such axis."""
    if product.op == "ConvTranspose":
        return 1 if full_attributes(product)["group"] == 1 else None
    return {"Conv": 0, "Linear": 1}.get(product.op)


def _fold(draft: Draft, node: Node, value: str, factor: Array, offset: Array) -> bool:
    """Replaces `node`, which scales and shifts the channels of `value`, by a change of the product that makes it."""
    product = draft.producer(value)
    axis = None if product is None else _weight_axis(product)
    if product is None or axis is None or not draft.is_read_once(value):
        return False
    output = draft.types[node.outputs[0]]
    channel_axis = 1 if node.op == "BatchNormalization" else _channel_axis(product, draft)
    if _channel_axis(product, draft) != channel_axis or output.shape != draft.type_of(value).shape:
        return False
    weight, bias = draft.constant_of(product.inputs[1]), _bias(draft, product, factor.size)
    if weight is None or bias is None or weight.type.quant is not None or output.quant is not None:
        return False
    x, w, *rest = product.inputs
    b = rest[0] if rest else ""
    if not np.all(factor == 1.0):
        w = draft.constant(f"{w}_scaled", scaled(weight, factor, axis))
    moved = (bias * factor + offset).astype(weight.type.dtype)
    if b or moved.any():
        b = draft.constant(f"{b}_folded" if b else f"{product.name}_bias", ArrayConstant(moved))
    draft.drop(product)
    inputs = (x, w, b) if b else (x, w)
    fused = Node(product.op, inputs, node.outputs, product.attributes, product.name, node.phase)
    draft.emit(fused, {node.outputs[0]: output})
    return True


def _bias(draft: Draft, product: Node, channels: int) -> Array | None:
    """float64[C] bias of a product, zeros where it has none; None where it is computed or holds codes."""
    if len(product.inputs) < 3 or not product.inputs[2]:
        return np.zeros(channels)
    held = draft.constant_of(product.inputs[2])
    if held is None or held.type.quant is not None or held.type.shape != (channels,):
        return None
    return held.array().astype(np.float64)


def _emit_scale_and_shift(draft: Draft, node: Node, factor: Array, offset: Array) -> None:
    found = draft.type_of(node.inputs[0])
    shape = (-1, *(1,) * (found.rank - 2))
    names = [
        draft.constant(f"{node.name}_{what}", ArrayConstant(values.astype(found.dtype).reshape(shape)))
        for what, values in (("factor", factor), ("offset", offset))
    ]
    product = draft.fresh(f"{node.name}_product")
    draft.emit(Node("Mul", (node.inputs[0], names[0]), (product,), {}, product, node.phase))
    draft.emit(Node("Add", (product, names[1]), node.outputs, {}, node.name, node.phase))
