"""The record that describes an op, and the table that holds all of them.

An op is one row: signature, shape rule, NumPy meaning, integer rule and cost facts. Everything that needs to
know an op (frontends, passes, targets, the evaluator, docs, tests) reads its row.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from pimloom.errors import InternalError, ModelError
from pimloom.ir.graph import AttributeValue, Node
from pimloom.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]
Attributes = Mapping[str, AttributeValue]
InputTypes = tuple[TensorType | None, ...]


class Rule(enum.Enum):
    """How an op computes on integer codes (see `pimloom.ir.integer`)."""

    LINEAR = "linear"  # exact integer products and sums, one rescale at the end
    LOOKUP = "lookup"  # element-wise of one value: a table indexed by the code
    SUM = "sum"  # Add, Sub, Sum: operands rescaled to the output, added
    PRODUCT = "product"  # Mul: product of centred codes, rescaled
    MOVE = "move"  # codes pass unchanged: reshapes, max pooling, slices
    MEAN = "mean"  # integer sum over a window or axes, rescaled by scale and count
    ROW = "row"  # softmax and normalisations: integer sums, exact IEEE float64 steps
    FLOAT = "float"  # decode to float64, the op's meaning, encode


REQUIRED = object()


@final
@dataclass(frozen=True, slots=True)
class Op:
    """One row of the op table.

    Attributes:
        name: ONNX's name.
        min_inputs: inputs that must be present.
        max_inputs: inputs that may be present; -1 for any number.
        n_outputs: number of outputs; -1 where the attributes decide.
        attributes: name to default, `REQUIRED` where there is none.
        infer: shape rule: (attributes, input types) to output types; raises ModelError with what was expected.
        meaning: (attributes, *input arrays) to a tuple of output arrays, in the arrays' own float type.
        rule: how codes are computed.
        macs: multiply-accumulates, from (attributes, input types, output types).
        work: element operations of a vector unit per output element.
    """

    name: str
    min_inputs: int
    max_inputs: int
    n_outputs: int
    infer: Callable[[Attributes, InputTypes], tuple[TensorType, ...]]
    meaning: Callable[..., tuple[Array, ...]]
    rule: Rule
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    macs: Callable[[Attributes, InputTypes, tuple[TensorType, ...]], int] = field(default=lambda a, i, o: 0)
    work: float = 1.0


CODE_CLAMPS = frozenset({"code_low", "code_high"})
"""Attributes that any node of a quantised graph may carry: a fused Relu or Clip, as bounds on the output codes."""

_TABLE: dict[str, Op] = {}


def add_rows(*rows: Op) -> None:
    """Puts rows into the table; each name once."""
    for row in rows:
        if row.name in _TABLE:
            raise InternalError(f"op '{row.name}' is defined twice")
        _TABLE[row.name] = row


def op_names() -> tuple[str, ...]:
    """All known ops, sorted."""
    return tuple(sorted(_TABLE))


def find_op(name: str, where: str) -> Op:
    """The row of an op; ModelError naming the place if there is none."""
    try:
        return _TABLE[name]
    except KeyError:
        raise ModelError(
            f"{where}: op '{name}' is not known; `pimloom show ops` lists the {len(_TABLE)} known ones; "
            "replace it in the model or add a row (docs/extending.md)"
        ) from None


def op_of(node: Node) -> Op:
    """The row of a node's op."""
    return find_op(node.op, f"node '{node.name}'")


def full_attributes(node: Node) -> dict[str, Any]:
    """The node's attributes completed by the defaults of its op; ModelError for unknown or missing ones."""
    row = op_of(node)
    unknown = set(node.attributes) - set(row.attributes) - CODE_CLAMPS
    if unknown:
        raise ModelError(
            f"node '{node.name}' ({node.op}): unknown attribute '{min(unknown)}'; known: {', '.join(row.attributes) or 'none'}"
        )
    values = {**row.attributes, **node.attributes}
    for name, value in values.items():
        if value is REQUIRED:
            raise ModelError(f"node '{node.name}' ({node.op}): attribute '{name}' is missing; it has no default")
    return values


def infer_types(node: Node, input_types: InputTypes) -> tuple[TensorType, ...]:
    """Output types of a node (float meaning, no quantisation); ModelError naming the node if they don't fit."""
    row = op_of(node)
    present = len(node.inputs)
    if present < row.min_inputs or (row.max_inputs >= 0 and present > row.max_inputs):
        bound = f"{row.min_inputs} or more" if row.max_inputs < 0 else f"{row.min_inputs} to {row.max_inputs}"
        raise ModelError(f"node '{node.name}' ({node.op}): {present} inputs found, {bound} expected")
    for place, value_type in enumerate(input_types[: row.min_inputs]):
        if value_type is None:
            raise ModelError(f"node '{node.name}' ({node.op}): required input {place} is absent")
    try:
        return row.infer(full_attributes(node), input_types)
    except ModelError as error:
        text = str(error)
        if text.startswith("node '"):
            raise
        raise ModelError(f"node '{node.name}' ({node.op}): {text}") from error
