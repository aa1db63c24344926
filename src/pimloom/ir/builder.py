"""Builds a Graph node by node, inferring the type of each output as it goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.constants import ArrayConstant, Constant, SeededConstant
from pimloom.ir.graph import AttributeValue, Graph, Node, Phase
from pimloom.ir.ops.table import infer_types
from pimloom.ir.types import TensorType


@final
class GraphBuilder:
    """Collects inputs, constants and nodes; `finish` makes the Graph.

    Example:
        >>> b = GraphBuilder("tiny")
        >>> x = b.input("x", (1, 4))
        >>> w = b.seeded("w", (4, 3), std=0.5)
        >>> y = b.add("MatMul", x, w)
        >>> graph = b.finish(y)
    """

    def __init__(self, name: str, seed: int = 0) -> None:
        """Starts an empty graph; `seed` decides all seeded constants."""
        self._name = name
        self._seed = seed
        self._inputs: list[str] = []
        self._nodes: list[Node] = []
        self._types: dict[str, TensorType] = {}
        self._constants: dict[str, Constant] = {}
        self._taken: dict[str, int] = {}

    def input(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> str:
        """Adds a graph input and returns its name."""
        self._define(name, TensorType(dtype, shape))
        self._inputs.append(name)
        return name

    def constant(self, name: str, value: Constant | np.ndarray[Any, Any]) -> str:
        """Adds a constant and returns its (unique) name."""
        held = value if isinstance(value, Constant) else ArrayConstant(value)
        name = self._unique(name)
        self._define(name, held.type)
        self._constants[name] = held
        return name

    def seeded(self, name: str, shape: tuple[int, ...], *, mean: float = 0.0, std: float = 1.0) -> str:
        """Adds a float32 constant of random elements that depend on the builder's seed and the order of calls."""
        seed = self._seed * 1_000_003 + len(self._constants)
        return self.constant(name, SeededConstant(TensorType("float32", shape), seed, mean, std))

    def add(self, op: str, *inputs: str, name: str = "", outputs: int = 1, **attributes: AttributeValue) -> str:
        """Adds a node with one output of interest and returns that output's name."""
        return self._append(op, inputs, name, outputs, Phase.FORWARD, attributes)[0]

    def add_many(
        self, op: str, *inputs: str, name: str = "", outputs: int = 1, phase: Phase = Phase.FORWARD, **attributes: AttributeValue
    ) -> tuple[str, ...]:
        """Adds a node and returns the names of all its outputs."""
        return self._append(op, inputs, name, outputs, phase, attributes)

    def _append(
        self, op: str, inputs: tuple[str, ...], name: str, outputs: int, phase: Phase, attributes: Mapping[str, AttributeValue]
    ) -> tuple[str, ...]:
        base = self._unique(name or op.lower())
        names = (base,) if outputs == 1 else tuple(f"{base}:{i}" for i in range(outputs))
        node = Node(op, inputs, names, attributes, base, phase)
        input_types = tuple(self._type(node, v) if v else None for v in inputs)
        types = infer_types(node, input_types)
        for value, value_type in zip(names, types, strict=True):
            self._define(value, value_type)
        self._nodes.append(node)
        return names

    def type_of(self, value: str) -> TensorType:
        """The type of a value added so far."""
        return self._types[value]

    def finish(self, *outputs: str) -> Graph:
        """The Graph with the given outputs."""
        return Graph(self._name, tuple(self._inputs), outputs, tuple(self._nodes), self._types, self._constants)

    def _type(self, node: Node, value: str) -> TensorType:
        try:
            return self._types[value]
        except KeyError:
            raise ModelError(f"node '{node.name}' ({node.op}): input '{value}' is not defined") from None

    def _define(self, name: str, value_type: TensorType) -> None:
        if name in self._types:
            raise ModelError(f"value '{name}' is defined twice")
        self._types[name] = value_type
        self._taken.setdefault(name, 0)

    def _unique(self, name: str) -> str:
        if name not in self._taken and name not in self._types:
            return name
        count = self._taken.get(name, 0) + 1
        while f"{name}_{count}" in self._types:
            count += 1
        self._taken[name] = count
        return f"{name}_{count}"
