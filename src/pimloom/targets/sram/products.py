"""From a quantised graph to products for the macros and nodes for the SFU, and where every value lies outside the chip.

| node | becomes |
|---|---|
| Linear, Conv with constant 8-bit weights | a product: weights are written from their constant |
| Conv with groups | a product with one part per block of groups: a macro holds their matrices on its diagonal |
| MatMul of two activations of 8 bits | a product with one part per batch: the second operand is written from its region |
| Reshape and its like, where no byte moves | nothing: readers read the same region |
| anything else (16-bit operands, softmax, norms, sums) | a general node: operands over the link, the SFU |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np

from pimloom.hardware.sram import Macro
from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import Rule, full_attributes
from pimloom.ir.quantised import rule_of
from pimloom.ir.types import TensorType
from pimloom.program import Layout
from pimloom.program.widths import sum_bytes
from pimloom.targets.sram.work import Windows, Work

Array = np.ndarray[Any, np.dtype[Any]]

_VIEWS: Final = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
_IMAGE_RANKS: Final = (3, 4)


@final
@dataclass(frozen=True, slots=True)
class Product:
    """A node that macros compute.

    Attributes:
        node: index in the graph.
        work: what is multiplied.
        source: value whose region holds the input vectors.
        weight: constant, or value whose region holds the weights.
        output: value that is made.
        is_dynamic: whether the weights are a value.
        groups: of a convolution.
    """

    node: int
    work: Work
    source: str
    weight: str
    output: str
    is_dynamic: bool = False
    groups: int = 1


@final
@dataclass(frozen=True, slots=True)
class General:
    """A node that the SFU computes, its operands outside the chip.

    Attributes:
        node: index in the graph.
        sources: values in regions that it reads.
    """

    node: int
    sources: tuple[str, ...]


@final
@dataclass(frozen=True, slots=True)
class Network:
    """A graph as steps in order.

    Attributes:
        graph: the quantised graph.
        steps: products and general nodes.
        layouts: of every value that has a region.
    """

    graph: Graph
    steps: tuple[Product | General, ...]
    layouts: Mapping[str, Layout]


def analyse(graph: Graph, macro: Macro) -> Network:
    """Sorts the nodes of a quantised graph; the size of a macro says how many groups of a convolution go together."""
    images = {v for node in graph.nodes if _is_image_product(graph, node) for v in (node.inputs[0], node.outputs[0])}
    roots: dict[str, str] = {}
    steps: list[Product | General] = []
    held = dict.fromkeys(graph.inputs)
    for index, node in enumerate(graph.nodes):
        if _is_view(graph, node, images):
            roots[node.outputs[0]] = roots.get(node.inputs[0], node.inputs[0])
            continue
        product = _product(graph, index, node, macro, images, roots)
        steps.append(product or General(index, tuple(dict.fromkeys(roots.get(v, v) for v in node.inputs if _is_value(graph, v)))))
        held.update(dict.fromkeys(v for v in node.outputs if v))
    return Network(graph, tuple(steps), {v: _layout(graph.types[v], is_image=v in images) for v in held})


def matrix_of(graph: Graph, product: Product) -> Array:
    """Weight codes of a product with constant weights, part beside part: int8[rows, parts * cols].

    The rows of a part of a convolution are in (tap y, tap x, channel) order; groups lie on the diagonal of their part.
    """
    codes = graph.constants[product.weight].array()
    if graph.nodes[product.node].op == "Linear":
        return codes
    taps = codes if codes.ndim == 4 else codes[:, :, None, :]
    parts, in_part = product.work.parts, product.groups // product.work.parts
    outputs, channels, height, width = taps.shape
    in_group = outputs // product.groups
    of_group = taps.reshape(parts, in_part, in_group, channels, height, width).transpose(4, 5, 1, 3, 0, 2)
    codes = np.zeros((height, width, in_part, channels, parts, in_part, in_group), taps.dtype)
    for group in range(in_part):
        codes[:, :, group, :, :, group] = of_group[:, :, group]
    return codes.reshape(product.work.rows, product.work.outputs)


def _is_value(graph: Graph, value: str) -> bool:
    return bool(value) and value not in graph.constants


def _layout(value_type: TensorType, *, is_image: bool) -> Layout:
    """Channels last for images, else as the dimensions come."""
    shape = value_type.shape
    if is_image:
        return Layout((0, *range(2, len(shape)), 1), value_type.size // max(shape[1], 1), shape[1])
    channels = shape[-1] if shape else 1
    return Layout(tuple(range(len(shape))), value_type.size // max(channels, 1), channels)


def _is_view(graph: Graph, node: Node, images: set[str]) -> bool:
    """Whether an output has the bytes of the first input, in their order."""
    if node.op not in _VIEWS or not _is_value(graph, node.inputs[0]):
        return False
    return node.inputs[0] not in images and node.outputs[0] not in images


def _is_byte(value_type: TensorType) -> bool:
    """Whether codes are of 8 bits, with one scale and nothing to take off."""
    return value_type.quant is not None and value_type.itemsize_bytes == 1


def _has_zero(value_type: TensorType) -> bool:
    return value_type.quant is not None and value_type.quant.zero_point != 0


def _is_linear(graph: Graph, node: Node) -> bool:
    """Whether a node is a product whose operands macros take."""
    types = graph.input_types(node)
    if len(types) < 2 or types[0] is None or types[1] is None or len([v for v in node.outputs if v]) != 1:
        return False
    fits = _is_byte(types[0]) and _is_byte(types[1]) and not _has_zero(types[1]) and sum_bytes(graph, node) == 4
    return fits and types[1].dtype == "int8" and rule_of(node, types, graph.output_types(node)) is Rule.LINEAR


def _is_image_product(graph: Graph, node: Node) -> bool:
    """Whether a convolution can be done on macros: windows of one or two dimensions, constant weights."""
    if node.op != "Conv" or not _is_value(graph, node.inputs[0]) or node.inputs[1] not in graph.constants:
        return False
    rank = graph.types[node.inputs[0]].rank
    return rank in _IMAGE_RANKS and _is_linear(graph, node)


def _product(graph: Graph, index: int, node: Node, macro: Macro, images: set[str], roots: Mapping[str, str]) -> Product | None:
    if not _is_linear(graph, node) or not _is_value(graph, node.inputs[0]):
        return None
    data, weight = roots.get(node.inputs[0], node.inputs[0]), node.inputs[1]
    if node.op == "Conv" and _is_image_product(graph, node):
        return _convolution(graph, index, node, macro)
    if data in images or node.outputs[0] in images:
        return None
    shape, weights = graph.types[node.inputs[0]].shape, graph.types[weight].shape
    if node.op == "Linear" and weight in graph.constants:
        return Product(index, Work(math.prod(shape[:-1]), weights[0], weights[1]), data, weight, node.outputs[0])
    if node.op == "MatMul" and weight not in graph.constants and roots.get(weight, weight) not in images:
        if len(shape) < 2 or shape[:-2] != weights[:-2]:
            return None
        root = roots.get(weight, weight)
        work = Work(shape[-2], weights[-2], weights[-1], parts=math.prod(shape[:-2]))
        return Product(index, work, data, root, node.outputs[0], is_dynamic=True)
    return None


def _convolution(graph: Graph, index: int, node: Node, macro: Macro) -> Product:
    attributes = full_attributes(node)
    source, output = graph.types[node.inputs[0]].shape, graph.types[node.outputs[0]].shape
    spatial = len(source) - 2

    def both(values: Any, default: int) -> tuple[int, int]:
        found = tuple(int(v) for v in values[:spatial]) if values else (default,) * spatial
        return (default, found[0]) if spatial == 1 else (found[0], found[1])

    kernel = both(graph.types[node.inputs[1]].shape[2:], 1)
    windows = Windows(
        both(output[2:], 1), both(source[2:], 1), source[1], kernel, both(attributes["strides"], 1),
        both(attributes["dilations"], 1), both(attributes["pads"], 0),
    )  # fmt: skip
    groups = int(attributes["group"])
    parts = _parts_of_groups(groups, math.prod(kernel) * source[1] // groups, output[1] // groups, macro)
    is_plain = kernel == (1, 1) and windows.stride == (1, 1) and windows.padding == (0, 0) and windows.shape == windows.source
    work = Work(
        source[0] * math.prod(windows.shape), source[1] * math.prod(kernel) // parts, output[1] // parts,
        None if is_plain and parts == 1 else windows, parts, parts > 1,
    )  # fmt: skip
    return Product(index, work, node.inputs[0], node.inputs[1], node.outputs[0], groups=groups)


def _parts_of_groups(groups: int, rows: int, cols: int, macro: Macro) -> int:
    """Parts that groups of `rows` x `cols` weights are put into: as few as leave each part within one macro, all alike."""
    most = max(min(macro.rows // rows, macro.cols // cols), 1)
    return min(groups // size for size in range(1, most + 1) if groups % size == 0)


__all__ = ["General", "Network", "Product", "analyse", "matrix_of"]
