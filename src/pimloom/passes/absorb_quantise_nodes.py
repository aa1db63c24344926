"""Turns QuantizeLinear and DequantizeLinear nodes of a model quantised elsewhere into types.

    q = QuantizeLinear(x, 0.1, 3); y = DequantizeLinear(q, 0.1, 3); z = Conv(y, w)   becomes   z = Conv(x, w)

with x of type int8{scale=0.1, zero=3}. The scales and zero points are kept exactly; a value that is quantised in two
ways gets a Rescale node between them. Constants under a DequantizeLinear become constants of codes; those whose zero
points differ along an axis are centred, since a type has but one.

Outputs of the graph that are codes stay plain integers: the last QuantizeLinear remains, and is given the codes it makes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.constants import ArrayConstant
from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import Rule, full_attributes, op_of
from pimloom.ir.types import Quant
from pimloom.passes.draft import Draft
from pimloom.passes.lazy_constants import CentredConstant, QuantisedConstant, RetypedConstant


@final
@dataclass(frozen=True, slots=True)
class AbsorbQuantiseNodes:
    """QuantizeLinear and DequantizeLinear become types of values."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph without such nodes.

        Raises:
            ModelError: a scale is not a constant, or zero points of what is no constant differ along an axis.
        """
        graph = _with_codes_last(graph)
        draft = Draft(graph)
        for node in graph.nodes:
            if node.op == "QuantizeLinear" and node.outputs[0] in graph.outputs:
                _keep_last(draft, node)
            elif node.op == "QuantizeLinear":
                _absorb_quantise(draft, node)
            elif node.op == "DequantizeLinear":
                _absorb_dequantise(draft, node)
            else:
                draft.keep(node)
                _pass_on(draft, node)
        return draft.finish()


def _with_codes_last(graph: Graph) -> Graph:
    """The graph with each output of moved or further read codes as a QuantizeLinear of its own."""
    makers = {value: node for node in graph.nodes for value in node.outputs}
    read = {value for node in graph.nodes for value in node.inputs}
    last: dict[str, Node] = {}
    for output in graph.outputs:
        source = _quantiser(makers, output)
        if source is not None and (source.outputs[0] != output or output in read):
            last[output] = source
    if not last:
        return graph
    names = {output: _fresh(graph, f"{output}_codes") for output in last}
    nodes = [_renamed(node, names) for node in graph.nodes]
    types = {**graph.types, **{names[v]: graph.types[v] for v in last}}
    for output, source in last.items():
        real = _fresh(graph, f"{output}_real")
        types[real] = replace(graph.types[output], dtype=graph.types[source.inputs[1]].dtype)
        attributes = {k: v for k, v in source.attributes.items() if k != "output_dtype"}
        nodes.append(Node("DequantizeLinear", (names[output], *source.inputs[1:]), (real,), attributes, source.name, source.phase))
        nodes.append(Node("QuantizeLinear", (real, *source.inputs[1:]), (output,), source.attributes, source.name, source.phase))
    return Graph(graph.name, graph.inputs, graph.outputs, tuple(nodes), types, graph.constants)


def _quantiser(makers: Mapping[str, Node], value: str) -> Node | None:
    """The QuantizeLinear whose codes a value holds, moved or as they are."""
    node = makers.get(value)
    while node is not None and node.op != "QuantizeLinear":
        node = makers.get(node.inputs[0]) if node.inputs and op_of(node).rule is Rule.MOVE else None
    return node


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    inputs, outputs = (tuple(names.get(v, v) for v in values) for values in (node.inputs, node.outputs))
    return replace(node, inputs=inputs, outputs=outputs)


def _fresh(graph: Graph, name: str) -> str:
    while name in graph.types:
        name += "_"
    return name


def _keep_last(draft: Draft, node: Node) -> None:
    """A QuantizeLinear that makes an output: it stays, and what it reads has its codes already."""
    value, codes = draft.source(node.inputs[0]), node.outputs[0]
    target = replace(draft.types[codes], quant=_quant(draft, node))
    found = draft.types[value]
    if found.quant is None and value not in draft.constants:
        draft.retype(value, target)
    elif found.quant is not None and (found.dtype, found.quant) != (target.dtype, target.quant):
        rescaled = draft.fresh(f"{codes}_rescaled")
        value = draft.emit(Node("Rescale", (value,), (rescaled,), {}, node.name, node.phase), {rescaled: target})
        draft.emit(node.with_inputs((value, *node.inputs[1:])), {codes: draft.types[codes]})
        return
    draft.keep(node)


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
    zeros = _zero_points(draft, node)
    if codes in draft.constants and len(set(zeros)) > 1:
        quant = _quant_of(draft, node, 0)
        held = CentredConstant(draft.constants[codes], ArrayConstant(np.array(zeros, np.int64)), quant)
        draft.alias(real, draft.constant(f"{codes}_codes", held))
        return
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
    zeros = set(_zero_points(draft, node))
    if len(zeros) != 1:
        raise ModelError(
            f"node '{node.name}' ({node.op}): zero points vary along an axis, a single one expected; quantise activations per tensor"
        )
    return _quant_of(draft, node, zeros.pop())


def _zero_points(draft: Draft, node: Node) -> tuple[int, ...]:
    given = [v for v in node.inputs[2:] if v]
    zero = draft.constant_of(given[0]) if given else None
    if zero is None:
        if given:
            raise _computed(node)
        return (0,)
    return tuple(zero.array().astype(np.int64).ravel().tolist())


def _computed(node: Node) -> ModelError:
    return ModelError(
        f"node '{node.name}' ({node.op}): scale or zero point is computed at run time, a constant expected; quantise the model statically"
    )


def _quant_of(draft: Draft, node: Node, zero: int) -> Quant:
    value, scale = node.inputs[0], draft.constant_of(node.inputs[1])
    if scale is None:
        raise _computed(node)
    attributes = full_attributes(node)
    if attributes["block_size"]:
        raise ModelError(
            f"node '{node.name}' ({node.op}): scales per block found, one per tensor or axis expected; quantise activations per tensor"
        )
    scales = tuple(float(s) for s in scale.array().reshape(-1))
    rank = draft.type_of(value).rank
    axis = int(attributes["axis"]) % rank if len(scales) > 1 else None
    return Quant(scales, zero, axis)
