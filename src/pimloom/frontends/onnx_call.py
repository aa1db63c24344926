"""One node of an ONNX model as the normalisers see it: named inputs resolved, attributes read, opset known."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.errors import ModelError
from pimloom.frontends.onnx_assembly import Assembly
from pimloom.ir.graph import AttributeValue
from pimloom.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]
Value = str | tuple[str, ...]
"""A tensor by its name in the assembly, or an ONNX sequence of tensors."""

MAX_LISTED = 100_000
"""Longest shape, axes or repeats list that is believed."""


@final
@dataclass(frozen=True, slots=True)
class Call:
    """A node to be put into normal form.

    Attributes:
        assembly: the graph that receives the nodes.
        op: operator name.
        domain: operator domain, empty for ONNX's own.
        name: the node's name, for messages.
        opset: version of the domain that the model imports.
        values: inputs; the empty name for absent ones.
        attributes: attribute values as Python objects.
        outputs: names of the outputs in the model; the empty name for unwanted ones.
    """

    assembly: Assembly
    op: str
    domain: str
    name: str
    opset: int
    values: tuple[Value, ...]
    attributes: Mapping[str, Any]
    outputs: tuple[str, ...]

    @property
    def where(self) -> str:
        """Place for messages."""
        return f"node '{self.name}' ({self.op})"

    def fault(self, text: str) -> ModelError:
        """A ModelError that names this node."""
        return ModelError(f"{self.where}: {text}")

    @property
    def n_inputs(self) -> int:
        """Number of listed inputs."""
        return len(self.values)

    def has(self, place: int) -> bool:
        """Whether an optional input is given."""
        return place < len(self.values) and self.values[place] != ""

    def has_output(self, place: int) -> bool:
        """Whether an optional output is wanted."""
        return place < len(self.outputs) and bool(self.outputs[place])

    def value(self, place: int) -> str:
        """The tensor given as an input; ModelError if it is absent or a sequence."""
        if not self.has(place):
            raise self.fault(f"required input {place} is absent; the file is damaged or not valid ONNX")
        value = self.values[place]
        if isinstance(value, tuple):
            raise self.fault(f"input {place} is a sequence, a tensor is expected")
        return value

    def optional(self, place: int) -> str:
        """The tensor given as an optional input, or the empty name."""
        return self.value(place) if self.has(place) else ""

    def tensors(self) -> tuple[str, ...]:
        """All inputs as tensors, empty names for absent ones, trailing absences cut."""
        values = tuple(self.optional(i) for i in range(self.n_inputs))
        while values and not values[-1]:
            values = values[:-1]
        return values

    def sequence(self, place: int) -> tuple[str, ...]:
        """The sequence given as an input."""
        value = self.values[place] if self.has(place) else ""
        if not isinstance(value, tuple):
            raise self.fault(f"input {place} is not a sequence")
        return value

    def type(self, place: int) -> TensorType:
        """Type of an input."""
        return self.assembly.types[self.value(place)]

    def shape(self, place: int) -> tuple[int, ...]:
        """Shape of an input."""
        return self.type(place).shape

    def type_of(self, value: str) -> TensorType:
        """Type of a value of the assembly."""
        return self.assembly.types[value]

    def known(self, place: int, what: str) -> Array:
        """The numbers of an input that must be known; ModelError naming it otherwise."""
        return self.numbers_of(
            place,
            f"{what} (input {place}) must be known when loading, but depends on the network's inputs; export the model with static shapes",
        )

    def numbers_of(self, place: int, otherwise: str) -> Array:
        """The numbers of an input; ModelError with the sentence `otherwise` if the network's inputs decide them."""
        array = self.assembly.known(self.value(place))
        if array is None:
            raise self.fault(otherwise)
        return array

    def ints(self, place: int, what: str) -> tuple[int, ...]:
        """A known input as a list of integers."""
        array = self.known(place, what)
        if array.dtype.kind not in "iub" or array.ndim > 1 or array.size > MAX_LISTED:
            raise self.fault(f"{what} is {array.dtype}{list(array.shape)}, expected a list of integers")
        return tuple(int(v) for v in array.reshape(-1))

    def scalar(self, place: int, what: str) -> Any:
        """A known input of one element."""
        array = self.known(place, what)
        if array.size != 1:
            raise self.fault(f"{what} has {array.size} elements, expected one")
        return array.reshape(-1)[0].item()

    def int(self, place: int, what: str) -> int:
        """A known input of one integer."""
        value = self.scalar(place, what)
        if not isinstance(value, int):
            raise self.fault(f"{what} is {value}, expected an integer")
        return int(value)

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or its default."""
        return self.attributes.get(name, default)

    def required(self, name: str) -> Any:
        """An attribute that has no default."""
        if name not in self.attributes:
            raise self.fault(f"attribute '{name}' is missing; the file is damaged or not valid ONNX")
        return self.attributes[name]

    def listed(self, name: str) -> tuple[int, ...] | None:
        """A list attribute as a tuple of integers; None if absent."""
        value = self.attributes.get(name)
        if value is None:
            return None
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
            raise self.fault(f"attribute '{name}' is {value!r:.60}, expected a list of integers")
        return value

    def axis(self, axis: Any, rank: int) -> int:
        """A non-negative axis; ModelError if it is out of range."""
        if not isinstance(axis, int) or not -rank <= axis < rank:
            raise self.fault(
                f"axis {axis} is out of range for a value of {rank} dimensions; expected {-rank}..{rank - 1}"
            )
        return axis % rank

    def axes(self, axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
        """Non-negative axes in the order given; ModelError if one is out of range or repeated."""
        normal = tuple(self.axis(a, rank) for a in axes)
        if len(set(normal)) != len(normal):
            raise self.fault(f"axes {list(axes)} name a dimension twice")
        return normal

    def emit(self, op: str, *inputs: str, **attributes: AttributeValue) -> str:
        """Adds a node with one output and returns it."""
        return self.assembly.emit(op, inputs, attributes)[0]

    def emit_many(self, n_outputs: int, op: str, *inputs: str, **attributes: AttributeValue) -> tuple[str, ...]:
        """Adds a node with several outputs and returns them."""
        return self.assembly.emit(op, inputs, attributes, n_outputs)

    def numbers(self, array: Any, dtype: str = "float32") -> str:
        """Adds a constant of the given numbers."""
        if isinstance(array, int | float):
            return self.assembly.scalar(array, dtype)
        return self.assembly.constant(np.asarray(array, dtype=dtype))


Normaliser = Callable[[Call], tuple[Value, ...]]
"""Puts one node into normal form: adds nodes to the assembly, returns the values of the outputs."""
