"""The meaning of a graph in NumPy: the specification that every target's output is compared with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import InputTypes, full_attributes, op_of
from pimloom.ir.quantised import quantised_meaning
from pimloom.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]
Keep = Callable[[str, Array], object]


def evaluate(graph: Graph, inputs: Mapping[str, Array], keep: Keep | None = None) -> dict[str, Array]:
    """Computes the outputs of a graph; a value is freed when its last reader is done.

    Args:
        graph: the network, in float or with quantised values.
        inputs: an array of the stated type for each graph input.
        keep: called with name and array of every input and node output as soon as it is known; where it
            answers True, the value is in the result as well.

    Returns:
        The graph's outputs, and what `keep` wanted, by name.

    Raises:
        ModelError: an input is missing, unknown or of the wrong type, or a node cannot be computed.
    """
    values = _checked_inputs(graph, inputs)
    readers = Counter(value for node in graph.nodes for value in node.inputs if value)
    readers.update(graph.outputs)
    result: dict[str, Array] = {}

    def show(name: str, array: Array) -> None:
        if keep is not None and keep(name, array):
            result[name] = array

    for name in graph.inputs:
        show(name, values[name])
    for node in graph.nodes:
        outputs = _evaluate_in(graph, node, values)
        _drop_read(node, readers, values)
        for name, array in zip(node.outputs, outputs, strict=True):
            if not name:
                continue
            show(name, array)
            if readers[name]:
                values[name] = array
    for name in graph.outputs:
        result[name] = values[name] if name in values else graph.constants[name].array()
    return result


def _checked_inputs(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs as arrays; ModelError naming the first that does not fit."""
    listed = ", ".join(graph.inputs) or "none"
    for name in inputs:
        if name not in graph.inputs:
            raise ModelError(f"graph '{graph.name}': input '{name}' is not known; its inputs: {listed}")
    values: dict[str, Array] = {}
    for name in graph.inputs:
        if name not in inputs:
            raise ModelError(f"graph '{graph.name}': input '{name}' is missing; give {graph.types[name]}")
        array = np.asarray(inputs[name])
        expected = graph.types[name]
        if str(array.dtype) != expected.dtype or array.shape != expected.shape:
            found = f"{array.dtype}[{','.join(map(str, array.shape))}]"
            raise ModelError(f"graph '{graph.name}': input '{name}' is {found}, {expected} expected")
        values[name] = array
    return values


def _evaluate_in(graph: Graph, node: Node, values: dict[str, Array]) -> tuple[Array, ...]:
    """Computes one node; constants join the values when first read."""
    for name in node.inputs:
        if name and name not in values:
            values[name] = graph.constants[name].array()
    arrays = tuple(values[name] if name else None for name in node.inputs)
    return evaluate_node(node, arrays, graph.input_types(node), graph.output_types(node))


def _drop_read(node: Node, readers: Counter[str], values: dict[str, Array]) -> None:
    for name in node.inputs:
        if name:
            readers[name] -= 1
            if not readers[name]:
                values.pop(name, None)


def evaluate_node(
    node: Node, arrays: Sequence[Array | None], input_types: InputTypes, output_types: tuple[TensorType, ...]
) -> tuple[Array, ...]:
    """Computes one node: in integer arithmetic where a value holds codes, else by the op's meaning.

    Args:
        node: the operation.
        arrays: its inputs, None where an optional one is absent.
        input_types: their types, None where absent.
        output_types: types of its named outputs.

    Returns:
        One array per output of the node.

    Raises:
        ModelError: the op cannot compute these numbers, or yields another type than stated.
    """
    with np.errstate(all="ignore"):
        try:
            outputs = _meaning(node, arrays, input_types, output_types)
        except ModelError as error:
            text = str(error)
            raise (
                error if text.startswith("node '") else ModelError(f"node '{node.name}' ({node.op}): {text}")
            ) from error
        except MemoryError as error:
            listed = ", ".join(str(t) for t in output_types)
            raise ModelError(
                f"node '{node.name}' ({node.op}): out of memory while computing {listed}; use a smaller input"
            ) from error
    named = (array for array, name in zip(outputs, node.outputs, strict=True) if name)
    for array, expected in zip(named, output_types, strict=True):
        if str(array.dtype) != expected.dtype or array.shape != expected.shape:
            found = f"{array.dtype}[{','.join(map(str, array.shape))}]"
            raise ModelError(
                f"node '{node.name}' ({node.op}): computed {found}, the graph says {expected}; verify the graph"
            )
    return outputs


def _meaning(
    node: Node, arrays: Sequence[Array | None], input_types: InputTypes, output_types: tuple[TensorType, ...]
) -> tuple[Array, ...]:
    types = (*input_types, *output_types)
    if any(t is not None and t.quant is not None for t in types):
        return quantised_meaning(node, tuple(arrays), input_types, output_types)  # pyright: ignore[reportArgumentType]
    outputs = op_of(node).meaning(full_attributes(node), *arrays)
    return tuple(np.asarray(array) for array in outputs)
