"""Fuses Relu and Clip of a quantised graph into the op before them, as bounds on its output codes.

    h = Conv(x, w, b); y = Relu(h)    becomes    y = Conv(x, w, b) {code_low=0}

The op then rescales straight to the scale of y: one rounding, and no vector instruction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.ir.graph import Graph, Node
from pimloom.ir.integer import encode
from pimloom.ir.ops import CODE_CLAMPS, Rule, full_attributes
from pimloom.ir.quantised import rule_of
from pimloom.ir.types import TensorType
from pimloom.passes.draft import Draft

RESCALING = frozenset({Rule.LINEAR, Rule.SUM, Rule.PRODUCT, Rule.MEAN})


@final
@dataclass(frozen=True, slots=True)
class FuseActivations:
    """Relu and Clip become bounds on the codes of the op before them."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph with fused activations; real values are left alone."""
        draft = Draft(graph)
        for node in graph.nodes:
            if node.op not in ("Relu", "Clip") or not _fuse(draft, node):
                draft.keep(node)
        return draft.finish()


def _fuse(draft: Draft, node: Node) -> bool:
    before = draft.producer(node.inputs[0])
    target = draft.types[node.outputs[0]]
    if before is None or target.quant is None or not draft.is_read_once(node.inputs[0]):
        return False
    if before.attributes.keys() & CODE_CLAMPS or not _rescales(draft, before):
        return False
    attributes = {**before.attributes, **activation_bounds(node, target)}
    draft.drop(before)
    fused = Node(before.op, before.inputs, node.outputs, attributes, before.name, before.phase)
    draft.emit(fused, {node.outputs[0]: target})
    return True


def _rescales(draft: Draft, node: Node) -> bool:
    inputs = tuple(draft.types[v] if v else None for v in node.inputs)
    return rule_of(node, inputs, tuple(draft.types[v] for v in node.outputs)) in RESCALING


def activation_bounds(node: Node, target: TensorType) -> dict[str, int]:
    """The bounds on codes of type `target` that a Relu or Clip sets."""
    limits = (0.0, math.inf)
    if node.op == "Clip":
        attributes = full_attributes(node)
        limits = (float(attributes["min"]), float(attributes["max"]))
    scalar = TensorType(target.dtype, (), target.quant)
    found: dict[str, int] = {}
    for name, limit in zip(("code_low", "code_high"), limits, strict=True):
        if math.isfinite(limit):
            found[name] = int(encode(np.array(limit), scalar))
    return found
