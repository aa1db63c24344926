"""The growing graph of a model that is being read: values, constants and nodes, with constant folding on the way.

Nodes are typed as they are added, by their rows of the op table. A node whose inputs are all known is not added but
computed, if it is small; a data movement of a large constant becomes a lazy constant. So shape arithmetic disappears
while reading and weights stay in their file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from pimloom.errors import ModelError
from pimloom.frontends.onnx_tensors import DerivedConstant, check_shape
from pimloom.ir.constants import ArrayConstant, Constant, FillConstant
from pimloom.ir.graph import AttributeValue, Graph, Node
from pimloom.ir.ops import full_attributes, infer_types, op_of
from pimloom.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]

MAX_FOLDED_ELEMENTS = 1_000_000
"""Nodes on constants are computed while reading up to this many elements of inputs and outputs."""

MAX_FOLDED_MACS = 100_000_000
"""... and up to this many multiply-accumulates."""

FOLDING_BUDGET_ELEMENTS = 100_000_000
"""Elements that folding may make in one model; then only small shape arithmetic is folded."""

SHAPE_SIZED_ELEMENTS = 1024
"""Shape arithmetic: folded even when the budget is used up."""

MAX_NODES = 200_000
"""Nodes of one graph, after unrolling."""

MAX_DERIVATIONS = 32
"""Data movements stacked on one lazy constant."""

LAZY_MOVES = frozenset(
    {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice", "Expand", "Tile", "Identity", "Split"}
)
"""Data movements of one value: on a large constant they stay lazy, on a filled constant they only change its shape."""

KEPT = frozenset({"QuantizeLinear", "DequantizeLinear"})
"""Never folded: the quantiser reads scales and zero points off these nodes."""


@final
@dataclass(slots=True)
class _Names:
    """Names in use; counts per wanted name keep thousands of unrolled steps fast."""

    taken: set[str] = field(default_factory=set[str])
    counts: dict[str, int] = field(default_factory=dict[str, int])

    def take(self, wanted: str) -> str:
        """The wanted name, or the first of `wanted_1, wanted_2, ...` that is free; takes it."""
        name, count = wanted, self.counts.get(wanted, 0)
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.counts[wanted] = count
        self.taken.add(name)
        return name


@final
@dataclass(slots=True)
class Assembly:
    """Values, constants and nodes gathered so far.

    Attributes:
        inputs: names of the graph's inputs.
        types: type of every value.
        constants: the known values.
        nodes: operations in order.
        four_bit: constants that were stored as 4-bit integers.
        node_name: name of the ONNX node that is being read; nodes added now work for it.
    """

    inputs: list[str] = field(default_factory=list[str])
    types: dict[str, TensorType] = field(default_factory=dict[str, TensorType])
    constants: dict[str, Constant] = field(default_factory=dict[str, Constant])
    nodes: list[Node] = field(default_factory=list[Node])
    four_bit: set[str] = field(default_factory=set[str])
    node_name: str = ""
    _public: dict[str, str] = field(default_factory=dict[str, str])
    _depths: dict[str, int] = field(default_factory=dict[str, int])
    _value_names: _Names = field(default_factory=_Names)
    _node_names: _Names = field(default_factory=_Names)
    _frames: list[list[int]] = field(default_factory=lambda: [[]])
    _scalars: dict[tuple[float, str], str] = field(default_factory=dict[tuple[float, str], str])
    _folded_elements: int = 0
    _n_values: int = 0

    def input(self, name: str, type_: TensorType) -> str:
        """Adds a graph input."""
        value = self._define(type_, f"input '{name}'")
        self.inputs.append(value)
        self.publish(value, name)
        return value

    def constant(self, held: Constant | Array) -> str:
        """Adds a constant."""
        constant = held if isinstance(held, Constant) else ArrayConstant(held)
        value = self._define(constant.type, f"node '{self.node_name}'")
        self.constants[value] = constant
        return value

    def scalar(self, number: float, dtype: str) -> str:
        """Adds a constant of one element and no dimensions; equal ones are shared."""
        if (number, dtype) not in self._scalars:
            self._scalars[number, dtype] = self.constant(np.array(number, dtype))
        return self._scalars[number, dtype]

    def fill(self, shape: tuple[int, ...], number: float, dtype: str = "float32") -> str:
        """Adds a constant of one repeated number."""
        check_shape(f"node '{self.node_name}'", shape)
        return self.constant(FillConstant(TensorType(dtype, shape), number))

    def known(self, value: str) -> Array | None:
        """The numbers of a constant of at most `MAX_FOLDED_ELEMENTS` elements; None for anything else."""
        constant = self.constants.get(value)
        if constant is None or constant.type.size > MAX_FOLDED_ELEMENTS:
            return None
        return constant.array()

    def emit(
        self,
        op: str,
        inputs: Sequence[str],
        attributes: Mapping[str, AttributeValue],
        n_outputs: int = 1,
        fold: bool = True,
    ) -> tuple[str, ...]:
        """Adds a node in normal form, or the constants that it makes; returns its outputs."""
        place = f"node '{self.node_name}' ({op})"
        outputs = tuple(f"%{self._n_values + i}" for i in range(n_outputs))
        node = Node(op, tuple(inputs), outputs, attributes, self.node_name)
        input_types = tuple(self.types[v] if v else None for v in inputs)
        types = infer_types(node, input_types)
        for type_ in types:
            check_shape(place, type_.shape)
        folded = self._folded(node, input_types, types) if fold else None
        for type_ in types[:n_outputs]:
            self._define(type_, place)
        if folded is not None:
            self.constants.update(zip(outputs, folded, strict=False))
            return outputs
        if len(self.nodes) >= MAX_NODES:
            raise ModelError(
                f"{place}: the unrolled network has more than {MAX_NODES} nodes; shorten its loops or sequences"
            )
        self._frames[-1].append(len(self.nodes))
        self.nodes.append(node)
        return outputs

    def begin(self, name: str) -> str:
        """Starts the nodes of one ONNX node; returns the name that was current, for `end`."""
        self._frames.append([])
        former, self.node_name = self.node_name, name
        return former

    def end(self, former: str) -> None:
        """Ends the nodes of one ONNX node and names them: after it if there is one, `name/op` if there are several."""
        own = self._frames.pop()
        for place in own:
            node = self.nodes[place]
            wanted = self.node_name if len(own) == 1 else f"{self.node_name}/{node.op.lower()}"
            self.nodes[place] = replace(node, name=self._node_names.take(wanted))
        self.node_name = former

    def publish(self, value: str, name: str, depth: int = 0) -> None:
        """Gives a value its name in the model; one from further outside wins (`depth` counts the bodies around)."""
        if name and (value not in self._public or depth < self._depths[value]):
            self._value_names.taken.discard(self._public.get(value, ""))
            self._public[value] = self._value_names.take(name)
            self._depths[value] = depth

    def finish(self, name: str, outputs: Mapping[str, str]) -> Graph:
        """The Graph; `outputs` maps the wanted names to values. What serves no output is dropped."""
        wanted = [self._as_output(output, value) for output, value in outputs.items()]
        nodes, used = _needed(self.nodes, wanted)
        used.update(self.inputs)
        for node in nodes:
            self._name_values(node)
        public = {value: self._public[value] for value in self.types if value in used}
        return Graph(
            name,
            tuple(public[v] for v in self.inputs),
            tuple(public[v] for v in wanted),
            tuple(_renamed(node, public) for node in nodes),
            {public[v]: t for v, t in self.types.items() if v in used},
            {public[v]: c for v, c in self.constants.items() if v in used},
        )

    def _as_output(self, name: str, value: str) -> str:
        """The value that carries an output's name: itself, or a copy where it is known by another name."""
        if self._public.get(value) == name:
            return value
        if value not in self._public and name not in self._value_names.taken:
            self.publish(value, name)
            return value
        former = self.begin(name)
        copy = self.emit("Identity", (value,), {}, fold=False)[0]
        self.end(former)
        self._value_names.taken.discard(name)
        displaced = [v for v, held in self._public.items() if held == name]
        for other in displaced:
            del self._public[other]
        self.publish(copy, name)
        return copy

    def _name_values(self, node: Node) -> None:
        """Names the values that the model does not name after the node that makes or reads them."""
        for place, value in enumerate(node.outputs):
            self.publish(value, node.name if len(node.outputs) == 1 else f"{node.name}:{place}")
        for place, value in enumerate(node.inputs):
            if value:
                self.publish(value, f"{node.name}.{place}")

    def _define(self, type_: TensorType, place: str) -> str:
        check_shape(place, type_.shape)
        value = f"%{self._n_values}"
        self._n_values += 1
        self.types[value] = type_
        return value

    def _folded(
        self, node: Node, input_types: tuple[TensorType | None, ...], types: tuple[TensorType, ...]
    ) -> Sequence[Constant] | None:
        """The constants that a node makes; None if it must stay a node."""
        present = [v for v in node.inputs if v]
        is_kept = node.op in KEPT or "kernel_shape" in node.attributes  # windows may pad to far more than they return
        if not present or is_kept or any(v not in self.constants for v in present):
            return None
        if node.op in LAZY_MOVES:
            fill = self.constants[present[0]].fill_value
            if fill is not None:
                return [FillConstant(type_, fill) for type_ in types]
        n_elements = sum(t.size for t in types) + sum(t.size for t in input_types if t)
        macs = op_of(node).macs(full_attributes(node), input_types, types)
        if n_elements <= MAX_FOLDED_ELEMENTS and macs <= MAX_FOLDED_MACS and self._within_budget(n_elements):
            return self._computed(node, types)
        if node.op in LAZY_MOVES:
            return self._derived(node, self.constants[present[0]], types)
        return None

    def spend(self, n_elements: int) -> None:
        """Counts elements that a node makes while loading; ModelError when the model makes too many."""
        self._folded_elements += n_elements
        if self._folded_elements > FOLDING_BUDGET_ELEMENTS:
            raise ModelError(
                f"node '{self.node_name}': the model computes more than {FOLDING_BUDGET_ELEMENTS} constant elements "
                "while loading; store them as weights"
            )

    def _within_budget(self, n_elements: int) -> bool:
        if n_elements <= SHAPE_SIZED_ELEMENTS:
            return True
        self._folded_elements += n_elements
        return self._folded_elements <= FOLDING_BUDGET_ELEMENTS

    def _computed(self, node: Node, types: tuple[TensorType, ...]) -> Sequence[Constant]:
        arrays = [self.constants[v].array() if v else None for v in node.inputs]
        with np.errstate(all="ignore"):
            results = op_of(node).meaning(full_attributes(node), *arrays)
        return [
            ArrayConstant(np.asarray(r, dtype=t.dtype).reshape(t.shape)) for r, t in zip(results, types, strict=True)
        ]

    def _derived(self, node: Node, base: Constant, types: tuple[TensorType, ...]) -> Sequence[Constant] | None:
        depth = base.depth + 1 if isinstance(base, DerivedConstant) else 1
        if depth > MAX_DERIVATIONS:
            return None
        return [DerivedConstant(base, node, i, type_, depth) for i, type_ in enumerate(types)]


def _needed(nodes: Sequence[Node], outputs: Iterable[str]) -> tuple[list[Node], set[str]]:
    """The nodes that the outputs depend on, in order, and all values these read or make."""
    used = set(outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if used.intersection(node.outputs):
            used.update(v for v in (*node.inputs, *node.outputs) if v)
            kept.append(node)
    kept.reverse()
    return kept, used


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    return replace(
        node,
        inputs=tuple(names[v] if v else "" for v in node.inputs),
        outputs=tuple(names[v] for v in node.outputs),
    )
