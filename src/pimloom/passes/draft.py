"""Draft: a graph under change. Passes emit nodes into it, in order, and finish it into a new Graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import final

from pimloom.ir.constants import Constant
from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import infer_types
from pimloom.ir.types import TensorType


@final
class Draft:
    """Collects the nodes of the graph to be; values keep their names, graph outputs always do.

    A pass goes through `graph.nodes` and for each either keeps it or emits others and says, with `alias`, which value
    stands for the one that is gone.
    """

    def __init__(self, graph: Graph) -> None:
        """Starts empty, with the types and constants of `graph`."""
        self.graph = graph
        self.types: dict[str, TensorType] = dict(graph.types)
        self.constants: dict[str, Constant] = dict(graph.constants)
        self._nodes: dict[int, Node] = {}
        self._position: dict[str, int] = {}
        self._alias: dict[str, str] = {}
        self._changed = False
        self._n_emitted = 0
        self._n_readers = _count_readers(graph)

    def source(self, value: str) -> str:
        """The value that now stands for `value`."""
        while value in self._alias:
            value = self._alias[value]
        return value

    def producer(self, value: str) -> Node | None:
        """The emitted node that yields the value; None for inputs and constants."""
        place = self._position.get(self.source(value))
        return None if place is None else self._nodes[place]

    def is_read_once(self, value: str) -> bool:
        """Whether one node, and no graph output, reads the value in the original graph."""
        return self._n_readers.get(value, 0) == 1

    def constant_of(self, value: str) -> Constant | None:
        """The constant behind a value, if it is one."""
        return self.constants.get(self.source(value))

    def type_of(self, value: str) -> TensorType:
        """The type of a value."""
        return self.types[self.source(value)]

    def can_alias(self, gone: str, standing: str) -> bool:
        """Whether `alias` would save a node: not where a graph output needs a name of its own."""
        standing = self.source(standing)
        if gone not in self.graph.outputs or standing in self.constants:
            return True
        return standing in self._position and standing not in self.graph.outputs

    def keep(self, node: Node) -> None:
        """Emits a node as it is (its inputs follow the aliases)."""
        inputs = tuple(self.source(v) for v in node.inputs)
        self._append(node if inputs == node.inputs else node.with_inputs(inputs))

    def emit(self, node: Node, types: Mapping[str, TensorType] | None = None) -> str:
        """Emits a new node, inferring its output types unless given; returns its first output."""
        self._changed = True
        node = node.with_inputs(self.source(v) for v in node.inputs)
        if types is None:
            found = infer_types(node, tuple(self.types[v] if v else None for v in node.inputs))
            types = dict(zip(node.outputs, found, strict=True))
        self.types.update(types)
        self._append(node)
        return node.outputs[0]

    def drop(self, node: Node) -> None:
        """Takes back an emitted node, whose outputs nobody reads any more."""
        self._changed = True
        del self._nodes[self._position.pop(node.outputs[0])]

    def alias(self, gone: str, standing: str) -> None:
        """Lets `standing` be read wherever `gone` was."""
        self._changed = True
        standing = self.source(standing)
        if standing != gone:
            self._alias[gone] = standing

    def constant(self, name: str, value: Constant) -> str:
        """Adds a constant under a new name like `name` and returns it."""
        self._changed = True
        name = self.fresh(name)
        self.constants[name] = value
        self.types[name] = value.type
        return name

    def become_constant(self, value: str, constant: Constant) -> None:
        """Makes a node output a constant of the same name."""
        self._changed = True
        self.constants[value] = constant
        self.types[value] = constant.type

    def forget(self, values: Iterable[str]) -> None:
        """Notes that constants are no longer wanted; unread ones go when the draft is finished."""
        self._changed = self._changed or bool(list(values))

    def retype(self, value: str, value_type: TensorType) -> None:
        """Gives a value another type."""
        if self.types[value] != value_type:
            self._changed = True
            self.types[value] = value_type

    def fresh(self, name: str) -> str:
        """`name`, or with a number behind it where it is taken."""
        if name not in self.types:
            return name
        count = 1
        while f"{name}_{count}" in self.types:
            count += 1
        return f"{name}_{count}"

    def finish(self) -> Graph:
        """The new graph, without the constants and types that nothing uses; the original if nothing changed."""
        if not self._changed:
            return self.graph
        renamed = self._name_outputs()
        nodes = tuple(_renamed(self._nodes[place], renamed) for place in sorted(self._nodes))
        used = {v for node in nodes for v in (*node.inputs, *node.outputs)} | set(self.graph.outputs)
        inputs = set(self.graph.inputs)
        types = {v: t for v, t in self.types.items() if v in used or v in inputs}
        constants = {v: c for v, c in self.constants.items() if v in used}
        return Graph(self.graph.name, self.graph.inputs, self.graph.outputs, nodes, types, constants)

    def _append(self, node: Node) -> None:
        self._nodes[self._n_emitted] = node
        for value in node.outputs:
            self._position[value] = self._n_emitted
        self._n_emitted += 1

    def _name_outputs(self) -> dict[str, str]:
        """Values that stand for graph outputs take over their names; where they can't, an Identity keeps the name."""
        renamed: dict[str, str] = {}
        for output in self.graph.outputs:
            standing = self.source(output)
            if standing == output or output in renamed.values():
                continue
            self.types[output] = self.types[standing]
            if standing in self.constants:
                self.constants[output] = self.constants[standing]
            elif standing in self._position and standing not in self.graph.outputs and standing not in renamed:
                renamed[standing] = output
            else:
                self._append(Node("Identity", (renamed.get(standing, standing),), (output,)))
        return renamed


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    if not any(v in names for v in (*node.inputs, *node.outputs)):
        return node
    inputs = tuple(names.get(v, v) for v in node.inputs)
    outputs = tuple(names.get(v, v) for v in node.outputs)
    return Node(node.op, inputs, outputs, node.attributes, node.name, node.phase)


def _count_readers(graph: Graph) -> dict[str, int]:
    counts: dict[str, int] = {}
    for node in graph.nodes:
        for value in node.inputs:
            counts[value] = counts.get(value, 0) + 1
    # A graph output is never read by one node only.
    return {**counts, **{value: counts.get(value, 0) + 2 for value in graph.outputs}}
