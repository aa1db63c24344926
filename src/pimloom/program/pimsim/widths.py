"""Widths of numbers in an exported program: how many bytes sums, products and multipliers of a node need.

pimsim-nn charges memory by the byte, so sums are as narrow as the weights allow: the bound is the largest sum that the codes
of a column can make with any input. Rounding constants, zero points and biases are one constant per channel, added once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.ir.graph import Node
from pimloom.ir.integer import Rescaler
from pimloom.ir.quantised import step_of
from pimloom.ir.steps import LinearStep, MeanStep, MoveStep
from pimloom.program.program import Program
from pimloom.program.widths import sum_bytes

MOST_BYTES: Final = 8
"""Of an element: what an integer of the executed program has."""


@final
@dataclass(frozen=True, slots=True)
class Scaling:
    """How a sum becomes a code: times a multiplier, shifted right, kept within bounds.

    Attributes:
        sum_bytes: of a sum, and of a multiplier.
        product_bytes: of their product, and of a shift.
        low: smallest code.
        high: largest code.
        code_bytes: of a code.
    """

    sum_bytes: int
    product_bytes: int
    low: int
    high: int
    code_bytes: int

    @property
    def sum_bits(self) -> int:
        """Width of a sum as `setbw` states it."""
        return 8 * self.sum_bytes

    @property
    def product_bits(self) -> int:
        """Width of a product."""
        return 8 * self.product_bytes

    @property
    def clamp_bytes(self) -> int:
        """Bytes of what is clamped: codes of twice their width, so that what overshoots is still seen."""
        return 2 * self.code_bytes


def bytes_of(magnitude: int) -> int:
    """Bytes of a signed integer up to `magnitude`."""
    return max(1, (magnitude.bit_length() + 1 + 7) // 8)


def scaling_of(rescaler: Rescaler, largest_sum: int, least_bytes: int = 1) -> Scaling:
    """The widths that a rescaler needs for sums up to `largest_sum`."""
    multiplier = int(np.abs(rescaler.multiplier).max(initial=1))
    width = max(bytes_of(largest_sum), bytes_of(multiplier), least_bytes)
    product = min(max(bytes_of(largest_sum * multiplier), width), MOST_BYTES)
    return Scaling(width, product, rescaler.low, rescaler.high, np.dtype(rescaler.dtype).itemsize)


@final
class NodeWidths:
    """Steps and widths of the nodes of a program, worked out when they are asked for."""

    def __init__(self, program: Program) -> None:
        """Takes the program."""
        self.program, self.graph = program, program.graph
        self._steps: dict[int, Any] = {}
        self._scalings: dict[int, Scaling] = {}
        self._largest: dict[str, int] | None = None

    def node(self, index: int) -> Node:
        """A node by number."""
        return self.graph.nodes[index]

    def step(self, index: int) -> Any:
        """The integer meaning of a node; None where it has none that works on pieces."""
        if index not in self._steps:
            self._steps[index] = step_of(self.graph, self.graph.nodes[index])
        return self._steps[index]

    def moves(self, index: int) -> bool:
        """Whether a node only moves codes."""
        return isinstance(self.step(index), MoveStep)

    def input_bytes(self, index: int, operand: int = 0) -> int:
        """Bytes of a code of an operand."""
        return self.graph.types[self.graph.nodes[index].inputs[operand]].itemsize_bytes

    def output_bytes(self, index: int) -> int:
        """Bytes of a code of the result."""
        return self.graph.types[self.graph.nodes[index].outputs[0]].itemsize_bytes

    def scaling(self, index: int) -> Scaling:
        """How complete sums of a node become codes. ProgramError for a node without sums."""
        if index not in self._scalings:
            self._scalings[index] = self._scaling(index)
        return self._scalings[index]

    def _scaling(self, index: int) -> Scaling:
        node, step = self.graph.nodes[index], self.step(index)
        if isinstance(step, LinearStep):
            return scaling_of(step.rescaler, self._largest_sum(node))
        if isinstance(step, MeanStep):
            shape = self.graph.types[node.inputs[0]].shape
            count = int(np.prod(shape[2:]))
            return scaling_of(step.rescaler(count), count << (8 * self.input_bytes(index)))
        raise ProgramError(f"node '{node.name}' ({node.op}): sums found, which only products with weights and means have")

    def _largest_sum(self, node: Node) -> int:
        """The largest sum that the weights of a node can make, its bias included; at most what the program has room for."""
        weights = node.inputs[1]
        most = 1 << (8 * sum_bytes(self.graph, node) - 1)
        source = self.graph.types[node.inputs[0]]
        # An operand's zero point is taken off in the bias, which grows by it.
        code = (1 << (8 * source.itemsize_bytes - (not source.dtype.startswith("u")))) + abs(self.step_zero(node))
        bias = node.inputs[2] if len(node.inputs) > 2 else ""
        extra = int(np.abs(self.graph.constants[bias].array().astype(np.int64)).max(initial=0)) if bias else 0
        return min(self._column_sums(weights) * code + extra, most - 1)

    def step_zero(self, node: Node) -> int:
        """Zero point of a node's first operand."""
        quant = self.graph.types[node.inputs[0]].quant
        return quant.zero_point if quant is not None else 0

    def _column_sums(self, name: str) -> int:
        """The largest sum of magnitudes in a column of a weight matrix, over all its matrices."""
        if self._largest is None:
            self._largest = {}
            for matrix in self.program.matrices:
                largest = int(np.abs(matrix.codes.astype(np.int64)).sum(axis=0).max(initial=0))
                self._largest[matrix.name] = self._largest.get(matrix.name, 0) + largest
        if name not in self._largest:  # weights of a stencil: channels first, then its taps
            codes = self.graph.constants[name].array().astype(np.int64)
            quant = self.graph.types[name].quant
            centred = codes.reshape(codes.shape[0], -1) - (quant.zero_point if quant is not None else 0)
            self._largest[name] = int(np.abs(centred).sum(axis=1).max(initial=0))
        return self._largest[name]
