"""Turns QuantizeLinear and DequantizeLinear nodes of a model quantised elsewhere into types.

    q = QuantizeLinear(x, 0.1, 3); y = DequantizeLinear(q, 0.1, 3); z = Conv(y, w)   becomes   z = Conv(x, w)

with x of type int8{scale=0.1, zero=3}. The scales and zero points are kept exactly; a value that is quantised in two
ways gets a Rescale node between them. Constants under a DequantizeLinear become constants of codes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import Rule, full_attributes, op_of
from pimloom.ir.types import Quant
from pimloom.passes.draft import Draft
from pimloom.passes.lazy_constants import QuantisedConstant, RetypedConstant


@final
@dataclass(frozen=True, slots=True)
class AbsorbQuantiseNodes:
    """QuantizeLinear and DequantizeLinear become types of values."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph without such nodes.

        Raises:
            ModelError: a scale is not a constant, or zero points differ along an axis.
        """
        draft = Draft(graph)
        for node in graph.nodes:
            if node.op == "QuantizeLinear":
                _absorb_quantise(draft, node)
            elif node.op == "DequantizeLinear":
                _absorb_dequantise(draft, node)
            else:
                draft.keep(node)
                _pass_on(draft, node)
        return draft.finish()


def _absorb_quantise(draft: Draft, node: Node) -> None:
    value, codes = draft.source(node.inputs[0]), node.outputs[0]
    target = replace(draft.types[codes], quant=_quant(draft, node))
    found = draft.types[value]
    if value in draft.constants:
        draft.alias(codes, draft.constant(f"{value}_codes", QuantisedConstant(draft.constants[value], target)))
    elif found.quant is None:
        draft.retype(value, replace(target, shape=found.shape))
        draft.alias(codes, value)
    elif (found.dtype, found.quant) == (target.dtype, target.quant):
        draft.alias(codes, value)
    else:
        draft.emit(Node("Rescale", (value,), (codes,), {}, node.name, node.phase), {codes: target})


def _absorb_dequantise(draft: Draft, node: Node) -> None:
    codes, real = draft.source(node.inputs[0]), node.outputs[0]
    quant = _quant(draft, node)
    found = draft.types[codes]
    if codes in draft.constants:
        if found.quant != quant:
            codes = draft.constant(f"{codes}_codes", RetypedConstant(draft.constants[codes], quant))
    elif found.quant is None:
        draft.retype(codes, replace(found, quant=quant))
    elif found.quant != quant:
        raise ModelError(
            f"node '{node.name}' (DequantizeLinear): '{codes}' has scale {found.quant.scale[0]!r}, "
            f"read with scale {quant.scale[0]!r}; quantise and dequantise with the same scale"
        )
    draft.alias(real, codes)


def _pass_on(draft: Draft, node: Node) -> None:
    """Codes that an op moves keep their quantisation."""
    if not node.inputs or op_of(node).rule is not Rule.MOVE:
        return
    source = draft.type_of(node.inputs[0])
    for value in node.outputs:
        if source.quant is not None and draft.types[value].dtype == source.dtype:
            draft.retype(value, replace(draft.types[value], quant=source.quant))


def _quant(draft: Draft, node: Node) -> Quant:
    value, scale_name, *zero_names = node.inputs
    given = [v for v in zero_names if v]
    scale = draft.constant_of(scale_name)
    zero = draft.constant_of(given[0]) if given else None
    if scale is None or (zero is None and given):
        raise ModelError(
            f"node '{node.name}' ({node.op}): scale or zero point is computed at run time, a constant expected; "
            "quantise the model statically"
        )
    attributes = full_attributes(node)
    if attributes["block_size"]:
        raise ModelError(f"node '{node.name}' ({node.op}): scales per block found, one per tensor or axis expected")
    zeros: set[int] = {0} if zero is None else set(zero.array().astype(np.int64).ravel().tolist())
    if len(zeros) != 1:
        raise ModelError(f"node '{node.name}' ({node.op}): zero points vary along an axis, a single one expected")
    scales = tuple(float(s) for s in scale.array().reshape(-1))
    rank = draft.type_of(value).rank
    axis = int(attributes["axis"]) % rank if len(scales) > 1 else None
    return Quant(scales, zeros.pop(), axis)
