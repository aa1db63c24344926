"""Removes nodes that yield their input unchanged.

y = Dropout(x); z = Relu(y)    becomes    z = Relu(x)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import CODE_CLAMPS, Attributes, full_attributes
from pimloom.ir.types import TensorType
from pimloom.passes.draft import Draft

Test = Callable[[Attributes, TensorType, TensorType], bool]


def _always(attributes: Attributes, source: TensorType, target: TensorType) -> bool:
    return True


def _same_shape(attributes: Attributes, source: TensorType, target: TensorType) -> bool:
    return source.shape == target.shape


def _same_order(attributes: Attributes, source: TensorType, target: TensorType) -> bool:
    perm: Any = attributes["perm"] or tuple(reversed(range(source.rank)))
    return tuple(perm) == tuple(range(source.rank))


def _no_pads(attributes: Attributes, source: TensorType, target: TensorType) -> bool:
    pads: Any = attributes["pads"]
    return not any(pads)


def _all_forward(attributes: Attributes, source: TensorType, target: TensorType) -> bool:
    steps: Any = attributes["steps"] or (1,)
    axes: Any = attributes["axes"] or range(len(steps))
    turned = [axis for step, axis in zip(steps, axes, strict=False) if step < 0 and source.shape[axis] > 1]
    return source.shape == target.shape and not turned


def _all_there(attributes: Attributes, source: TensorType, target: TensorType) -> bool:
    scales: Any = attributes["scales"]
    return source.shape == target.shape and all(s == 1.0 for s in scales) and not attributes["roi"]


_IDENTITIES: dict[str, Test] = {
    "Identity": _always,
    "Dropout": _always,
    "Cast": _always,  # only where the types are equal, which is asked for all
    "Rescale": _always,
    "Reshape": _same_shape,
    "Flatten": _same_shape,
    "Expand": _same_shape,
    "Tile": _same_shape,
    "Concat": _same_shape,
    "Sum": _same_shape,
    "Max": _same_shape,
    "Min": _same_shape,
    "Mean": _same_shape,
    "Split": _same_shape,
    "Transpose": _same_order,
    "Pad": _no_pads,
    "Slice": _all_forward,
    "Resize": _all_there,
}


@final
@dataclass(frozen=True, slots=True)
class RemoveIdentities:
    """Removes nodes of one input that yield it unchanged."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph without such nodes; an output keeps its name."""
        draft = Draft(graph)
        for node in graph.nodes:
            if _is_identity(draft, node) and draft.can_alias(node.outputs[0], node.inputs[0]):
                draft.alias(node.outputs[0], node.inputs[0])
            else:
                draft.keep(node)
        return draft.finish()


def _is_identity(draft: Draft, node: Node) -> bool:
    test = _IDENTITIES.get(node.op)
    if test is None or len(node.inputs) != 1 or len(node.outputs) != 1 or node.attributes.keys() & CODE_CLAMPS:
        return False
    source, target = draft.type_of(node.inputs[0]), draft.types[node.outputs[0]]
    if (source.dtype, source.quant) != (target.dtype, target.quant):
        return False
    return test(full_attributes(node), source, target)
