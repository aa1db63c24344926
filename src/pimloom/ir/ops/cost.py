"""Element operations of a node: what a vector unit has to do for it, beside the multiply-accumulates."""

from __future__ import annotations

import math

from pimloom.ir.graph import Node
from pimloom.ir.ops.table import InputTypes, Rule, full_attributes, op_of
from pimloom.ir.types import TensorType


def element_operations(node: Node, input_types: InputTypes, output_types: tuple[TensorType, ...]) -> int:
    """Operations on single elements: `work` of the row times the elements that are looked at.

    A pool looks at every element of every window; a reduction or a softmax at the elements of its input; whatever
    only moves elements, at those of its output. Nodes that are counted in multiply-accumulates have none.
    """
    row = op_of(node)
    attributes = full_attributes(node)
    if row.macs(attributes, input_types, output_types):
        return 0
    written = sum(output.size for output in output_types)
    kernel = attributes.get("kernel_shape")
    if kernel:
        return math.ceil(row.work * written * math.prod(kernel))
    first = next((t for t in input_types if t is not None), None)
    is_reducing = "keepdims" in attributes or row.rule is not Rule.MOVE or node.op.startswith("Global")
    read = first.size if first is not None and is_reducing else 0
    return math.ceil(row.work * max(written, read))
