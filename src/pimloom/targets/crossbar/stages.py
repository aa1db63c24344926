"""From a quantised graph to stages: what a chip of crossbar cores streams, views, or computes in global memory.

A value is a sequence of vectors: the pixels of an image in raster order (channels last), the rows of anything else. Rows of
vectors are the unit of streaming: y counts rows, x vectors within a row, c elements of a vector.

    matrix   products with constant weights, on crossbars        (Conv, Linear)
    stencil  depthwise convolution on the vector unit: a crossbar would hold one channel in kernel-size rows of one column
    pool     windows on the vector unit                           (MaxPool, AveragePool)
    vector   element by element, or vector by vector              (Relu, Add, Softmax, LayerNormalization, ...)
    mean     one vector from all                                  (GlobalAveragePool)
    general  everything else: operands in global memory, computed as a whole by the vector units of several cores

A view (Concat, Split, Slice of channels; reshapes that keep the vectors) costs nothing: its readers read its sources.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from pimloom.ir.graph import Graph, Node
from pimloom.ir.ops import Rule, full_attributes
from pimloom.ir.quantised import rule_of
from pimloom.ir.types import TensorType
from pimloom.program import Layout

ROW_VECTORS = 16  # vectors per row of values that are not images
_IMAGE_OPS = frozenset({
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "Resize",
    "BatchNormalization", "InstanceNormalization", "GroupNormalization", "DepthToSpace", "SpaceToDepth", "LRN",
})  # fmt: skip
_STREAMED_RULES = frozenset({Rule.LOOKUP, Rule.SUM, Rule.PRODUCT})


class Kind(enum.Enum):
    """How a node is computed."""

    MATRIX = "matrix"
    STENCIL = "stencil"
    POOL = "pool"
    VECTOR = "vector"
    MEAN = "mean"
    GENERAL = "general"
    VIEW = "view"


@final
@dataclass(frozen=True, slots=True)
class Shape:
    """A value as rows of vectors.

    Attributes:
        rows: number of rows, over all images.
        width: vectors per row.
        channels: elements per vector.
        images: rows of one image are `rows // images`; windows do not cross images.
    """

    rows: int
    width: int
    channels: int
    images: int = 1


@final
@dataclass(frozen=True, slots=True)
class Window:
    """Which input vectors an output vector needs: kernel, stride, dilation and leading padding, as (y, x)."""

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def reach(self, axis: int) -> int:
        """Input positions from the first to the last tap, inclusive."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1


@final
@dataclass(frozen=True, slots=True)
class Piece:
    """Channels of a value that come from another value: `value[dst : dst + n] = source[src : src + n]`."""

    source: str
    src: int
    dst: int
    n: int


@final
@dataclass(frozen=True, slots=True)
class Input:
    """A streamed operand of a stage.

    Attributes:
        value: name in the graph.
        shape: as rows of vectors.
        fill: code that stands where there is no input.
        is_broadcast: one vector for all outputs.
    """

    value: str
    shape: Shape
    fill: int = 0
    is_broadcast: bool = False


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """One node to compute.

    Attributes:
        index: place among the stages, in topological order.
        node: index of the graph node.
        kind: how.
        output: name of the (first) output.
        shape: the output as rows of vectors.
        inputs: streamed operands; for GENERAL all operands that are not constants.
        window: reach of a window; the identity for vectors.
        groups: channel groups of a MATRIX stage.
        whole_vectors: whether a vector must not be cut (softmax, normalisation).
    """

    index: int
    node: int
    kind: Kind
    output: str
    shape: Shape
    inputs: tuple[Input, ...]
    window: Window = field(default_factory=Window)
    groups: int = 1
    whole_vectors: bool = False


@final
@dataclass(frozen=True, slots=True)
class Dataflow:
    """A graph as stages and views.

    Attributes:
        graph: the quantised graph.
        stages: in topological order.
        layouts: how every value lies in memory.
        shapes: every value as rows of vectors.
        views: value to its pieces.
        view_nodes: nodes that are views, by their outputs.
        constants: values streamed from global memory although they are constants (one vector per output vector).
        resolved: what `sources` found so far.
    """

    graph: Graph
    stages: tuple[Stage, ...]
    layouts: Mapping[str, Layout]
    shapes: Mapping[str, Shape]
    views: Mapping[str, tuple[Piece, ...]]
    constants: tuple[str, ...]
    resolved: dict[str, tuple[Piece, ...]] = field(default_factory=dict[str, tuple["Piece", ...]], compare=False)

    def sources(self, value: str) -> tuple[Piece, ...]:
        """The computed values, inputs or constants that a value is made of."""
        if value not in self.resolved:
            self.resolved[value] = self._resolve(value)
        return self.resolved[value]

    def _resolve(self, value: str) -> tuple[Piece, ...]:
        if value not in self.views:
            return (Piece(value, 0, 0, self.shapes[value].channels),)
        found: list[Piece] = []
        for piece in self.views[value]:
            for deeper in self.sources(piece.source):
                low, high = max(piece.src, deeper.dst), min(piece.src + piece.n, deeper.dst + deeper.n)
                if low < high:
                    found.append(Piece(deeper.source, deeper.src + low - deeper.dst, piece.dst + low - piece.src, high - low))
        return tuple(found)


def _image_values(graph: Graph) -> set[str]:
    """Values that hold images: channels on axis 1. Spreads from ops with images to element-wise neighbours."""
    parent: dict[str, str] = {}

    def find(value: str) -> str:
        while parent.setdefault(value, value) != value:
            parent[value] = parent[parent[value]]
            value = parent[value]
        return value

    marked: set[str] = set()
    for node in graph.nodes:
        rank = graph.types[node.outputs[0]].rank
        if node.op in _IMAGE_OPS and rank >= 3:
            marked.add(node.inputs[0])
            marked.update(v for v in node.outputs if v)
            parent[find(node.inputs[0])] = find(node.outputs[0])
        elif _means_pixels(graph, node):
            parent[find(node.inputs[0])] = find(node.outputs[0])
        elif node.op in ("Concat", "Split", "Slice", "Pad") or _keeps_shape(graph, node):
            shape = graph.types[node.outputs[0]].shape
            for value in (*node.inputs, *node.outputs):
                # A constant takes part only if it is a whole operand: it then streams beside the image.
                whole = value not in graph.constants or graph.types[value].shape == shape
                if value and whole and graph.types[value].rank == rank:
                    parent[find(value)] = find(node.outputs[0])
    roots = {find(v) for v in marked}
    return {v for v in graph.types if find(v) in roots and graph.types[v].rank >= 3}


def _means_pixels(graph: Graph, node: Node) -> bool:
    """Whether a node takes the mean of what would be all pixels and keeps their axes: of an image it leaves an image."""
    if node.op != "ReduceMean" or not full_attributes(node)["keepdims"]:
        return False
    rank = graph.types[node.inputs[0]].rank
    return rank >= 3 and sorted(a % rank for a in full_attributes(node)["axes"] or ()) == list(range(2, rank))


def _keeps_shape(graph: Graph, node: Node) -> bool:
    shape = graph.types[node.outputs[0]].shape
    streamed = [v for v in node.inputs if v and v not in graph.constants]
    return bool(streamed) and graph.types[streamed[0]].shape == shape and node.op not in ("MatMul", "Linear", "Transpose")


def _layout(value_type: TensorType, *, is_image: bool) -> Layout:
    shape = value_type.shape
    if is_image:
        order = (0, *range(2, len(shape)), 1)
        return Layout(order, math.prod(shape) // max(shape[1], 1), shape[1])
    channels = shape[-1] if shape else 1
    return Layout(tuple(range(len(shape))), value_type.size // max(channels, 1), channels)


def _shape(value_type: TensorType, layout: Layout, row_vectors: int) -> Shape:
    """The shape of an image (`row_vectors` is 0), or of anything else in rows of at most `row_vectors`."""
    if not row_vectors:
        width = value_type.shape[-1]
        return Shape(layout.rows // max(width, 1), width, layout.channels, value_type.shape[0])
    width = next(w for w in range(min(row_vectors, max(layout.rows, 1)), 0, -1) if layout.rows % w == 0)
    return Shape(layout.rows // width, width, layout.channels)


def _row_vectors(graph: Graph, layouts: Mapping[str, Layout], images: set[str], row_bytes: int) -> dict[int, int]:
    """Most vectors per row, by the number of vectors of a value: values with as many vectors are cut alike."""
    most: dict[int, int] = {}
    for value in {v for node in graph.nodes for v in node.inputs if v and v not in graph.constants} - images:
        layout = layouts[value]
        fitting = max(1, row_bytes // max(layout.channels * graph.types[value].itemsize_bytes, 1))
        most[layout.rows] = min(most.get(layout.rows, ROW_VECTORS), fitting)
    return most


def analyse(graph: Graph, row_bytes: int = 1 << 16) -> Dataflow:
    """Sorts the nodes of a quantised graph into stages and views.

    Args:
        graph: the graph.
        row_bytes: most bytes that a row of what is no image should have.
    """
    images = _image_values(graph)
    layouts = {v: _layout(t, is_image=v in images) for v, t in graph.types.items()}
    most = _row_vectors(graph, layouts, images, row_bytes)
    shapes = {v: _shape(t, layouts[v], 0 if v in images else most.get(layouts[v].rows, ROW_VECTORS)) for v, t in graph.types.items()}
    maker = _StageMaker(graph, images, layouts, shapes)
    for index, node in enumerate(graph.nodes):
        maker.add(index, node)
    return Dataflow(graph, tuple(maker.stages), layouts, shapes, maker.views, tuple(dict.fromkeys(maker.streamed_constants)))


class _StageMaker:
    """Collects stages and views node by node."""

    def __init__(self, graph: Graph, images: set[str], layouts: dict[str, Layout], shapes: dict[str, Shape]) -> None:
        self.graph, self.images, self.layouts, self.shapes = graph, images, layouts, shapes
        self.stages: list[Stage] = []
        self.views: dict[str, tuple[Piece, ...]] = {}
        self.streamed_constants: list[str] = []

    def add(self, index: int, node: Node) -> None:
        """Sorts one node in."""
        if self._add_view(node):
            return
        for attempt in (self._matrix, self._pool, self._mean, self._vector):
            stage = attempt(index, node)
            if stage is not None:
                self.stages.append(stage)
                return
        inputs = tuple(Input(v, self.shapes[v]) for v in dict.fromkeys(node.inputs) if v and v not in self.graph.constants)
        self.stages.append(self._stage(index, node, Kind.GENERAL, inputs))

    def _stage(self, index: int, node: Node, kind: Kind, inputs: tuple[Input, ...], **more: Any) -> Stage:
        output = node.outputs[0]
        return Stage(len(self.stages), index, kind, output, self.shapes[output], inputs, **more)

    def _zero(self, value: str) -> int:
        quant = self.graph.types[value].quant
        return quant.zero_point if quant else 0

    def _is_streamed(self, value: str) -> bool:
        return bool(value) and value not in self.graph.constants and self.graph.types[value].quant is not None

    # Views -------------------------------------------------------------------------------------------------

    def _add_view(self, node: Node) -> bool:
        data = node.inputs[0] if node.inputs else ""
        if not data or data in self.graph.constants:
            return False
        pieces = self._view_pieces(node, data)
        if pieces is None:
            return False
        self.views.update(pieces)
        return True

    def _view_pieces(self, node: Node, data: str) -> dict[str, tuple[Piece, ...]] | None:
        attributes = full_attributes(node)
        out = node.outputs[0]
        if node.op in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"):
            same = self.shapes[data].channels == self.shapes[out].channels and self._raster(data) and self._raster(out)
            same = same and (self.shapes[data].rows, self.shapes[data].width) == (self.shapes[out].rows, self.shapes[out].width)
            return {out: (Piece(data, 0, 0, self.shapes[out].channels),)} if same else None
        if node.op == "Concat" and self._channel_axis(out) == attributes["axis"] % self._rank(out):
            if any(v in self.graph.constants for v in node.inputs):
                return None
            start = np.cumsum([0] + [self.shapes[v].channels for v in node.inputs])
            return {out: tuple(Piece(v, 0, int(s), self.shapes[v].channels) for v, s in zip(node.inputs, start, strict=False))}
        if node.op == "Split" and self._channel_axis(data) == attributes["axis"] % self._rank(data):
            start = np.cumsum([0, *attributes["sizes"]])
            return {v: (Piece(data, int(s), 0, self.shapes[v].channels),) for v, s in zip(node.outputs, start, strict=False) if v}
        if node.op == "Slice":
            return self._slice_pieces(attributes, data, out)
        return None

    def _slice_pieces(self, attributes: Mapping[str, Any], data: str, out: str) -> dict[str, tuple[Piece, ...]] | None:
        axis = self._channel_axis(data)
        axes = [a % self._rank(data) for a in attributes["axes"]]
        if axes != [axis] or tuple(attributes["steps"]) != (1,):
            return None
        size = self.graph.types[data].shape[axis]
        start = int(attributes["starts"][0])
        start = min(max(start + size if start < 0 else start, 0), size)
        return {out: (Piece(data, start, 0, self.shapes[out].channels),)}

    def _rank(self, value: str) -> int:
        return max(self.graph.types[value].rank, 1)

    def _channel_axis(self, value: str) -> int:
        return 1 if value in self.images else self._rank(value) - 1

    def _raster(self, value: str) -> bool:
        """Whether the vectors of a value come in the order of its elements (an image of one channel or one pixel does)."""
        if value not in self.images:
            return True
        shape = self.graph.types[value].shape
        return math.prod(shape[2:]) == 1

    # Streamed kinds ----------------------------------------------------------------------------------------

    def _matrix(self, index: int, node: Node) -> Stage | None:
        if node.op not in ("Conv", "Linear") or node.inputs[1] not in self.graph.constants or not self._is_streamed(node.inputs[0]):
            return None
        data = node.inputs[0]
        shape = self.shapes[data]
        if node.op == "Linear":
            return self._stage(index, node, Kind.MATRIX, (Input(data, shape, self._zero(data)),)) if data not in self.images else None
        window = self._window(node)
        if window is None:
            return None
        groups = int(full_attributes(node)["group"])
        kind = Kind.STENCIL if groups == shape.channels == self.shapes[node.outputs[0]].channels and groups > 1 else Kind.MATRIX
        return self._stage(index, node, kind, (Input(data, shape, self._zero(data)),), window=window, groups=groups)

    def _window(self, node: Node) -> Window | None:
        """The window of a 1-d or 2-d op; None for 3-d ones."""
        a = full_attributes(node)
        spatial = self.graph.types[node.inputs[0]].rank - 2
        if spatial not in (1, 2):
            return None
        kernel = a["kernel_shape"] or self.graph.types[node.inputs[1]].shape[2:]
        pads, strides, dilations = a["pads"] or (0,) * (2 * spatial), a["strides"] or (1,) * spatial, a["dilations"] or (1,) * spatial

        def both(values: Any, default: int) -> tuple[int, int]:
            found = tuple(int(v) for v in values[:spatial])
            return (default, found[0]) if spatial == 1 else (found[0], found[1])

        return Window(both(kernel, 1), both(strides, 1), both(dilations, 1), both(pads, 0))

    def _pool(self, index: int, node: Node) -> Stage | None:
        if node.op not in ("MaxPool", "AveragePool") or len([v for v in node.outputs if v]) > 1 or not self._is_streamed(node.inputs[0]):
            return None
        window = self._window(node)
        if window is None:
            return None
        data = node.inputs[0]
        lowest = int(np.iinfo(self.graph.types[data].dtype).min)
        fill = lowest if node.op == "MaxPool" else self._zero(data)
        return self._stage(index, node, Kind.POOL, (Input(data, self.shapes[data], fill),), window=window)

    def _mean(self, index: int, node: Node) -> Stage | None:
        data = node.inputs[0] if node.inputs else ""
        if not self._is_streamed(data) or data not in self.images or self.graph.types[data].shape[0] != 1:
            return None
        if node.op == "ReduceMean":
            rank = self._rank(data)
            axes = sorted(a % rank for a in full_attributes(node)["axes"] or ())
            if axes != list(range(2, rank)):
                return None
        elif node.op != "GlobalAveragePool":
            return None
        out = self.layouts[node.outputs[0]]
        if (out.rows, out.channels) != (1, self.shapes[data].channels):
            return None
        return self._stage(index, node, Kind.MEAN, (Input(data, self.shapes[data], self._zero(data)),))

    def _vector(self, index: int, node: Node) -> Stage | None:
        types, out = self.graph.input_types(node), node.outputs[0]
        if len([v for v in node.outputs if v]) != 1 or self.graph.types[out].quant is None:
            return None
        rule = rule_of(node, types, self.graph.output_types(node))
        if rule is Rule.ROW:
            return self._row_op(index, node)
        if rule not in _STREAMED_RULES or not 1 <= len([v for v in node.inputs if v]) <= 2:
            return None
        inputs: list[Input] = []
        for value in node.inputs:
            operand = self._operand(value, out)
            if operand is None:
                return None
            if operand.value:
                inputs.append(operand)
        return self._stage(index, node, Kind.VECTOR, tuple(inputs)) if inputs and not inputs[0].is_broadcast else None

    def _operand(self, value: str, out: str) -> Input | None:
        """A streamed operand, an Input without a value for a constant vector, or None if it does not fit."""
        shape, target = self.shapes[value], self.shapes[out]
        full = self.graph.types[value].shape == self.graph.types[out].shape
        if value in self.graph.constants:
            if not full and self.is_constant_vector(value, out):
                return Input("", shape)
            if full and self.graph.types[value].quant is not None and (value in self.images) == (out in self.images):
                self.streamed_constants.append(value)
                return Input(value, target)
            return None
        if not self._is_streamed(value):
            return None
        if full and (value in self.images) == (out in self.images):
            return Input(value, target)
        one_vector = self.layouts[value].rows == 1 and self.layouts[value].channels == self.layouts[out].channels
        same_kind = (value in self.images) == (out in self.images) and self._rank(value) == self._rank(out)
        return Input(value, shape, is_broadcast=True) if one_vector and same_kind else None

    def is_constant_vector(self, value: str, out: str) -> bool:
        """Whether a constant broadcasts to the output as one vector for all rows."""
        shape, target = self.graph.types[value].shape, self.graph.types[out].shape
        aligned = (1,) * (len(target) - len(shape)) + shape
        axis = self._channel_axis(out)
        return len(aligned) == len(target) and all(d == 1 or i == axis for i, d in enumerate(aligned))

    def _row_op(self, index: int, node: Node) -> Stage | None:
        data, attributes = node.inputs[0], full_attributes(node)
        if not self._is_streamed(data) or node.op not in ("Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization"):
            return None
        if attributes["axis"] % self._rank(data) != self._channel_axis(data):
            return None
        if data in self.images and node.op in ("LayerNormalization", "RMSNormalization"):
            return None  # their gain runs along all axes behind `axis`
        if any(v and v not in self.graph.constants for v in node.inputs[1:]):
            return None
        return self._stage(index, node, Kind.VECTOR, (Input(data, self.shapes[data]),), whole_vectors=True)
