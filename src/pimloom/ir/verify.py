"""Checks a graph as a whole: every fault is found and printed beside the node it belongs to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pimloom.errors import ModelError
from pimloom.ir.graph import Graph, Node, structural_faults
from pimloom.ir.integer import code_range
from pimloom.ir.ops import CODE_CLAMPS, InputTypes, Rule, full_attributes, infer_types, op_of
from pimloom.ir.ops.attributes import attribute_faults
from pimloom.ir.text import print_node, print_type
from pimloom.ir.types import Quant, TensorType


def verify(graph: Graph) -> None:
    """Raises ModelError listing all faults of a graph; returns if there is none.

    Checked are single assignment and order; for each value, that its quantisation fits its type; for each node,
    the op, the attributes, the inferred output types (with quantised values: the shapes), and that ops which
    only move elements keep their quantisation.
    """
    faults = [*structural_faults(graph), *_value_faults(graph), *_node_faults(graph)]
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise ModelError("\n  ".join([f"graph '{graph.name}': {count}", *faults]))


def _value_faults(graph: Graph) -> Iterator[str]:
    for name, value_type in graph.types.items():
        if value_type.quant is not None:
            for fault in _quant_faults(value_type, value_type.quant):
                yield f"value '{name}' is {value_type}: {fault}"


def _quant_faults(value_type: TensorType, quant: Quant) -> Iterator[str]:
    if not value_type.dtype.startswith(("int", "uint")):
        yield "a quantisation on an element type that holds no codes; an integer type expected"
        return
    low, high = code_range(value_type.dtype)
    if not low <= quant.zero_point <= high:
        yield f"zero point {quant.zero_point} found, a code from {low} to {high} expected"
    if quant.axis is None:
        return
    if not 0 <= quant.axis < value_type.rank:
        yield f"quantisation axis {quant.axis} found, an axis of the value expected"
    elif len(quant.scale) != value_type.shape[quant.axis]:
        yield f"{len(quant.scale)} scales found, {value_type.shape[quant.axis]} expected along axis {quant.axis}"


def _node_faults(graph: Graph) -> Iterator[str]:
    for node in graph.nodes:
        try:
            faults = _faults_of(graph, node)
        except ModelError as error:
            faults = [str(error)]
        for fault in faults:
            text = fault if fault.startswith("node '") else f"node '{node.name}' ({node.op}): {fault}"
            yield f"{text}\n    in: {_shortened(print_node(graph, node))}"


def _shortened(text: str) -> str:
    return text if len(text) <= 240 else f"{text[:237]}..."


def _faults_of(graph: Graph, node: Node) -> list[str]:
    op_of(node)
    faults = attribute_faults(node)
    full_attributes(node)
    if faults:
        return faults  # shape rules may rely on the kinds of attributes
    input_types = graph.input_types(node)
    stated = tuple(graph.types[v] if v else None for v in node.outputs)
    return [
        *_clamp_faults(node, stated),
        *_type_faults(node, input_types, stated),
        *_move_faults(node, input_types, stated),
    ]


def _clamp_faults(node: Node, stated: InputTypes) -> Iterator[str]:
    """Bounds on output codes need codes, in order."""
    found = CODE_CLAMPS & set(node.attributes)
    if found and any(t is not None and t.quant is None for t in stated):
        yield f"attribute '{min(found)}' bounds codes, but the output holds none"
    low, high = node.attributes.get("code_low"), node.attributes.get("code_high")
    if isinstance(low, int) and isinstance(high, int) and low > high:
        yield f"code_low {low} is above code_high {high}"


def _type_faults(node: Node, input_types: InputTypes, stated: InputTypes) -> Iterator[str]:
    real = next((t.dtype for t in input_types if t is not None and t.dtype.startswith("float")), "float32")
    inferred = infer_types(node, tuple(_as_real(t, real) for t in input_types))
    if len(inferred) != len(stated):
        yield f"{len(stated)} outputs found, {len(inferred)} expected"
        return
    for name, found, expected in zip(node.outputs, stated, inferred, strict=True):
        if found is None:
            continue
        if found.quant is None and found != expected:
            yield f"output '{name}' is {found}, {expected} expected"
        elif found.shape != expected.shape:
            yield f"output '{name}' is {found}, shape {list(expected.shape)} expected"


def _as_real(value_type: TensorType | None, real: str) -> TensorType | None:
    """The type of the real numbers that codes stand for."""
    if value_type is None or value_type.quant is None:
        return value_type
    return replace(value_type, dtype=real, quant=None)


def _move_faults(node: Node, input_types: InputTypes, stated: InputTypes) -> Iterator[str]:
    """An op that passes codes unchanged must not change what they stand for."""
    if op_of(node).rule is not Rule.MOVE or full_attributes(node).get("mode") in ("linear", "cubic"):
        return
    sources = [(name, t) for name, t in zip(node.inputs, input_types, strict=True) if t is not None and _is_data(t)]
    for target_name, target in zip(node.outputs, stated, strict=True):
        for source_name, source in sources:
            if target is not None and _meaning_of(source) != _meaning_of(target):
                yield (
                    f"input '{source_name}' is {_shortened(print_type(source))}, output '{target_name}' is "
                    f"{_shortened(print_type(target))}; equal quantisation expected, insert a Rescale"
                )


def _is_data(value_type: TensorType) -> bool:
    return value_type.quant is not None or value_type.dtype.startswith("float")


def _meaning_of(value_type: TensorType) -> tuple[object, ...] | None:
    """What codes stand for; the axis itself may move with the elements."""
    quant = value_type.quant
    return None if quant is None else (value_type.dtype, quant.scale, quant.zero_point, quant.axis is None)
