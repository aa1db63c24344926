"""Graph and Node: a static-shaped network in single-assignment form, in ONNX's vocabulary.

Where ONNX passes a shape, axes or paddings as an input tensor, the Graph holds them as attributes: whatever
decides a shape is static. Values are named; each is a graph input, a constant, or an output of one node.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, final

from pimloom.errors import ModelError
from pimloom.ir.constants import Constant
from pimloom.ir.types import TensorType

AttributeValue = int | float | str | tuple[int, ...] | tuple[float, ...] | tuple[str, ...]


class Phase(enum.Enum):
    """Which part of a training step a node belongs to; inference is all FORWARD."""

    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"


@final
@dataclass(frozen=True, slots=True)
class Node:
    """One operation. An absent optional input is the empty name."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])
    name: str = ""
    phase: Phase = Phase.FORWARD

    def __post_init__(self) -> None:
        """Freezes the attributes and names the node after its first output."""
        object.__setattr__(self, "attributes", MappingProxyType(dict(self.attributes)))
        if not self.name:
            object.__setattr__(self, "name", self.outputs[0] if self.outputs else self.op)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles without the mapping proxy."""
        return (Node, (self.op, self.inputs, self.outputs, dict(self.attributes), self.name, self.phase))

    def with_inputs(self, inputs: Iterable[str]) -> Node:
        """The same operation on other values."""
        return replace(self, inputs=tuple(inputs))


@final
@dataclass(frozen=True, slots=True, repr=False)
class Graph:
    """A network: nodes in topological order, the type of every value, and the constants.

    Attributes:
        name: what reports call the network.
        inputs: names of the values given from outside.
        outputs: names of the values wanted.
        nodes: operations; each uses only values defined before it.
        types: the type of every value: inputs, constants and node outputs.
        constants: values known at compile time.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, Constant]

    def __post_init__(self) -> None:
        """Freezes the mappings and checks single assignment, order of definition and types."""
        object.__setattr__(self, "types", MappingProxyType(dict(self.types)))
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))
        faults = list(structural_faults(self))
        if faults:
            more = f" (and {len(faults) - 1} more faults)" if len(faults) > 1 else ""
            raise ModelError(f"graph '{self.name}': {faults[0]}{more}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles without the mapping proxies."""
        return (Graph, (self.name, self.inputs, self.outputs, self.nodes, dict(self.types), dict(self.constants)))

    def __repr__(self) -> str:
        """A line; `pimloom.ir.text.print_graph` says all of it."""
        given, wanted = (", ".join(f"{v}: {self.types[v]}" for v in values) for values in (self.inputs, self.outputs))
        return f"<Graph '{self.name}': {len(self.nodes)} nodes, {given} -> {wanted}>"

    def producers(self) -> dict[str, Node]:
        """Maps each node output to its node."""
        return {value: node for node in self.nodes for value in node.outputs if value}

    def consumers(self) -> dict[str, list[Node]]:
        """Maps each value to the nodes that read it, in order (graph outputs are not nodes)."""
        table: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                if value:
                    table.setdefault(value, []).append(node)
        return table

    def input_types(self, node: Node) -> tuple[TensorType | None, ...]:
        """Types of a node's inputs; None where an optional input is absent."""
        return tuple(self.types[v] if v else None for v in node.inputs)

    def output_types(self, node: Node) -> tuple[TensorType, ...]:
        """Types of a node's outputs."""
        return tuple(self.types[v] for v in node.outputs if v)


def structural_faults(graph: Graph) -> Iterable[str]:
    """Yields what breaks single assignment, the order of definition or the type table."""
    defined = set(graph.inputs) | set(graph.constants)
    if len(set(graph.inputs)) != len(graph.inputs):
        yield f"an input is listed twice: {list(graph.inputs)}"
    for value in graph.inputs:
        if value in graph.constants:
            yield f"'{value}' is both an input and a constant"
    for node in graph.nodes:
        for value in node.inputs:
            if value and value not in defined:
                yield f"node '{node.name}' ({node.op}): input '{value}' is not defined before it"
        for value in node.outputs:
            if value in defined:
                yield f"node '{node.name}' ({node.op}): output '{value}' is defined twice"
            if value:
                defined.add(value)
    for value in graph.outputs:
        if value not in defined:
            yield f"output '{value}' is never defined"
    for value in defined:
        if value not in graph.types:
            yield f"value '{value}' has no type"
    for value, constant in graph.constants.items():
        if value in graph.types and graph.types[value] != constant.type:
            yield f"constant '{value}' holds {constant.type}, the graph says {graph.types[value]}"
