"""Makes one Mul and one Add of a chain of element-wise operations with constants.

    a = Mul(x, c); b = Add(a, d); h = Mul(b, e); y = Add(h, f)    becomes    h = Mul(x, c * e); y = Add(h, d * e + f)

Networks that came from Caffe have such chains: a normalisation, then a layer that scales and shifts. Each operation would be
rounded to codes, and be work of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from pimloom.ir.constants import ArrayConstant
from pimloom.ir.graph import Graph, Node
from pimloom.passes.draft import Draft

Array = np.ndarray[Any, np.dtype[Any]]


@final
@dataclass(frozen=True, slots=True)
class ComposeAffine:
    """Chains of Mul, Div, Add and Sub with constants become one Mul and one Add, or one of them, where that is shorter."""

    def __call__(self, graph: Graph) -> Graph:
        """The graph with short chains."""
        draft = Draft(graph)
        for node in graph.nodes:
            if not _compose(draft, node):
                draft.keep(node)
        return draft.finish()


@final
@dataclass(frozen=True, slots=True)
class _Step:
    """`value * factor + offset`, made by a node; factor and offset are float64 of a shape that `value` has room for."""

    node: Node
    value: str
    factor: Array
    offset: Array


def _compose(draft: Draft, node: Node) -> bool:
    """Emits what a node and those before it make together, if these are fewer nodes."""
    step = _step(draft, node)
    if step is None:
        return False
    factor, offset, value, before = step.factor, step.offset, step.value, list[Node]()
    while (step := _step_before(draft, value)) is not None:
        parts = (step.factor, step.offset, factor, offset)
        if np.broadcast(*parts).size > max(part.size for part in parts):
            break  # along different axes: together they are larger than any of them
        value, offset, factor = step.value, step.offset * factor + offset, step.factor * factor
        before.append(step.node)
    is_scaled, is_shifted = bool((factor != 1.0).any()), bool((offset != 0.0).any())
    if not 0 < is_scaled + is_shifted < 1 + len(before) or not (np.isfinite(factor).all() and np.isfinite(offset).all()):
        return False
    for gone in before:
        draft.drop(gone)
    dtype = draft.type_of(value).dtype
    for what, op, constant in (("factor", "Mul", factor), ("offset", "Add", offset)):
        if not (is_scaled if op == "Mul" else is_shifted):
            continue
        held = draft.constant(f"{node.name}_{what}", ArrayConstant(constant.astype(dtype)))
        is_last = op == "Add" or not is_shifted
        output = node.outputs[0] if is_last else draft.fresh(f"{node.name}_product")
        value = draft.emit(Node(op, (value, held), (output,), {}, node.name if is_last else output, node.phase))
    return True


def _step_before(draft: Draft, value: str) -> _Step | None:
    producer = draft.producer(value)
    return None if producer is None or not draft.is_read_once(value) else _step(draft, producer)


def _step(draft: Draft, node: Node) -> _Step | None:
    """What a node does, if that is to multiply by a constant or to add one, without making its operand larger."""
    if node.op not in ("Mul", "Div", "Add", "Sub"):
        return None
    value, other = node.inputs
    if draft.constant_of(value) is not None and node.op in ("Mul", "Add"):
        value, other = other, value
    held, found, output = draft.constant_of(other), draft.type_of(value), draft.types[node.outputs[0]]
    if held is None or draft.constant_of(value) is not None or found.shape != output.shape or not found.dtype.startswith("float"):
        return None
    if any(one.quant is not None for one in (held.type, found, output)):
        return None
    constant = held.array().astype(np.float64)
    one, zero = np.ones((1,) * constant.ndim), np.zeros((1,) * constant.ndim)
    if node.op in ("Mul", "Div"):
        if node.op == "Div" and not constant.all():
            return None
        return _Step(node, value, constant if node.op == "Mul" else 1.0 / constant, zero)
    return _Step(node, value, one, constant if node.op == "Add" else -constant)


__all__ = ["ComposeAffine"]
