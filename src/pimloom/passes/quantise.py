"""Quantises a float graph: every real value gets integer codes and a scale, found by running samples through it.

    x: float32[1,3,8,8] -> y = Conv(x, w, b)    becomes    x: int8{scale=0.031}, w: int8{scales along axis 0},
                                                           b: int32{scales sx * sw}, y: int8{scale=0.018}

Activations are symmetric with one scale; weights have one scale per output channel. Ops that move codes share the
scale of what they move (a Rescale node is inserted where a model quantised elsewhere forbids it). Models with
QuantizeLinear nodes keep their scales and zero points; what they leave real is calibrated. Wider than the rest are:

* values with attention masks in them, and the sums they enter: int16, so that masked scores stay far below others;
* constant vectors that are added or multiplied: int16, they cost nothing;
* a product by constants that only a sum reads (scale and shift): int16, so that it is rounded once, not twice;
* sums that only sums and normalisations read (the residual stream of a transformer): int16, since every block's
  rounding stays in them, and no crossbar reads them.

Parameters of normalisations and constants of FLOAT ops stay real: they are read by a unit that computes in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from pimloom.errors import UsageError
from pimloom.ir.constants import ArrayConstant, Constant
from pimloom.ir.graph import Graph, Node
from pimloom.ir.integer import decode
from pimloom.ir.ops import Rule, op_of
from pimloom.ir.quantised import bias_scales, only_moves, weight_axis
from pimloom.ir.types import Quant, TensorType
from pimloom.passes.absorb_quantise_nodes import AbsorbQuantiseNodes
from pimloom.passes.calibrate import Range, Sample, calibrate, random_sample, range_of
from pimloom.passes.canonicalise_linear import CanonicaliseLinear
from pimloom.passes.draft import Draft
from pimloom.passes.lazy_constants import QuantisedConstant

Array = np.ndarray[Any, np.dtype[Any]]
DTYPES = {8: "int8", 16: "int16"}
BIAS_LIMITS = {8: 2.0**30, 16: 2.0**38}
"""Largest bias code by weight bits: what int32, or the input of a Rescaler, takes with room for the sums."""
WIDE_INPUTS = frozenset({("GridSample", 1)})
"""(op, input) that hold places rather than amounts: 16 bits."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class Quantise:
    """Float graph to quantised graph.

    Attributes:
        weight_bits: 8 or 16.
        activation_bits: 8 or 16.
        samples: what to calibrate with, one mapping of arrays per sample; one random sample if empty.
        percentile: the part of a value's magnitudes that its range covers; 100 takes the largest.
        seed: of the random sample.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    samples: tuple[Sample, ...] = ()
    percentile: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Rejects widths that no code has."""
        for name, bits in (("weight_bits", self.weight_bits), ("activation_bits", self.activation_bits)):
            if bits not in DTYPES:
                raise UsageError(f"quantise: {name} found {bits}, expected 8 or 16")
        if not 0.0 < self.percentile <= 100.0:
            raise UsageError(f"quantise: percentile found {self.percentile}, expected above 0 and at most 100")

    def __call__(self, graph: Graph) -> Graph:
        """The quantised graph; the same object if the graph holds no real values.

        Raises:
            ModelError: a sample does not fit, or the graph's own quantisation is not static.
        """
        if not any(_is_real(graph.types[v]) for v in _values(graph)):
            return graph
        graph = CanonicaliseLinear()(graph)
        ranges = calibrate(graph, self.samples or (random_sample(graph, self.seed),), self.percentile)
        typed = CanonicaliseLinear()(AbsorbQuantiseNodes()(graph))  # weights are constants only now
        return _write(typed, _activation_types(typed, ranges, self), self)


def _values(graph: Graph) -> Iterable[str]:
    return (*graph.inputs, *(v for node in graph.nodes for v in node.outputs if v))


def _is_real(value_type: TensorType) -> bool:
    return value_type.dtype.startswith("float")


def _moves(node: Node) -> bool:
    return op_of(node).rule is Rule.MOVE and only_moves(node)


def _data_inputs(graph: Graph, node: Node) -> list[str]:
    """The inputs whose codes a MOVE node passes on."""
    places = node.inputs if node.op == "Concat" else node.inputs[:1]
    return [v for v in places if _is_real(graph.types[v]) or graph.types[v].quant is not None]


# -- types of activations -------------------------------------------------------------------------------------------


@final
class _Groups:
    """Values that share one quantisation (union-find), with the range of all and the quantisation of one, if given."""

    def __init__(self, graph: Graph, ranges: dict[str, Range]) -> None:
        self._parent = {v: v for v in _values(graph)}
        self.ranges = {v: ranges.get(v, Range()) for v in self._parent}
        self.given = {v: replace(graph.types[v], shape=()) for v in self._parent if graph.types[v].quant is not None}
        self.is_wide: set[str] = set()

    def root(self, value: str) -> str:
        while self._parent[value] != value:
            self._parent[value] = self._parent[self._parent[value]]
            value = self._parent[value]
        return value

    def join(self, a: str, b: str) -> None:
        a, b = self.root(a), self.root(b)
        if a == b or (a in self.given and b in self.given and self.given[a] != self.given[b]):
            return
        self._parent[b] = a
        self.ranges[a] = self.ranges[a].union(self.ranges[b])
        if b in self.given:
            self.given[a] = self.given[b]


def _activation_types(graph: Graph, ranges: dict[str, Range], options: Quantise) -> dict[str, TensorType]:
    """The new type of every real value that is no constant."""
    groups = _Groups(graph, ranges)
    for node in graph.nodes:
        if _moves(node):
            _join_moved(graph, node, groups)
        places = [v for i, v in enumerate(node.inputs) if (node.op, i) in WIDE_INPUTS and v not in graph.constants]
        groups.is_wide.update(groups.root(v) for v in places)
    groups.is_wide.update(groups.root(v) for v in (*_inner_products(graph), *_residual_sums(graph)))
    _spread_masks(graph, groups)
    types: dict[str, TensorType] = {}
    for value in _values(graph):
        if _is_real(graph.types[value]):
            root = groups.root(value)
            held = groups.given.get(root) or _symmetric(groups.ranges[root], root in groups.is_wide, options)
            types[value] = replace(held, shape=graph.types[value].shape)
    return types


def _join_moved(graph: Graph, node: Node, groups: _Groups) -> None:
    output = node.outputs[0]
    if not (_is_real(graph.types[output]) or graph.types[output].quant is not None):
        return
    for value in (*_data_inputs(graph, node), *node.outputs[1:]):
        if value not in graph.constants:
            groups.join(output, value)
        elif graph.types[value].quant is None:
            root = groups.root(output)
            groups.ranges[root] = groups.ranges[root].union(range_of(graph.constants[value].array()))


def _inner_products(graph: Graph) -> Iterable[str]:
    """Outputs of Mul by a constant that one Add or Sub alone reads."""
    readers = graph.consumers()
    for node in graph.nodes:
        value = node.outputs[0]
        if node.op == "Mul" and value not in graph.outputs and any(v in graph.constants for v in node.inputs):
            found = readers.get(value, [])
            if len(found) == 1 and found[0].op in ("Add", "Sub"):
                yield value


def _residual_sums(graph: Graph) -> Iterable[str]:
    """Outputs of SUM nodes that only SUM and ROW nodes read."""
    readers = graph.consumers()
    for node in graph.nodes:
        found = readers.get(node.outputs[0], [])
        if op_of(node).rule is Rule.SUM and all(op_of(n).rule in (Rule.SUM, Rule.ROW) for n in found) and found:
            yield node.outputs[0]


def _spread_masks(graph: Graph, groups: _Groups) -> None:
    """A mask that is added to scores must reach below the lowest score: it takes the range of the sum."""
    for node in reversed(graph.nodes):
        if op_of(node).rule is not Rule.SUM or node.outputs[0] in graph.constants:
            continue
        total = groups.ranges[groups.root(node.outputs[0])]
        for value in node.inputs:
            if total.is_masked and value not in graph.constants and groups.ranges[groups.root(value)].is_masked:
                root = groups.root(value)
                groups.ranges[root] = groups.ranges[root].union(total)


def _symmetric(seen: Range, is_wide: bool, options: Quantise) -> TensorType:
    bits = 16 if seen.is_masked or is_wide else options.activation_bits
    # A masked score must lie so far below the lowest ordinary one (-max_abs) that its weight, at most
    # exp(-max_abs - 16) of the largest one's even where a score of max_abs is masked, does not count.
    largest = 3.0 * seen.max_abs + 16.0 if seen.is_masked else seen.max_abs
    return TensorType(DTYPES[bits], (), Quant((_scale(largest, bits),)))


def _scale(largest: float, bits: int) -> float:
    top = 2 ** (bits - 1) - 1
    return max(largest, 1e-30) / top if largest else 1.0 / top


# -- constants and nodes --------------------------------------------------------------------------------------------


@final
class _Writer:
    """Emits the quantised nodes; constants are quantised as each reader needs them and shared where equal."""

    def __init__(self, draft: Draft, options: Quantise) -> None:
        self.draft = draft
        self.options = options
        self._made: dict[tuple[str, TensorType], str] = {}
        self._peaks: dict[tuple[str, int | None], Array] = {}

    def codes(self, value: str, target: TensorType) -> str:
        """The name of the constant `value` as codes of type `target`."""
        key = (value, target)
        if key not in self._made:
            held = QuantisedConstant(self.draft.constants[value], target)
            self._made[key] = self.draft.constant(f"{value}_codes", held)
        return self._made[key]

    def rescaled(self, value: str, target: TensorType) -> str:
        """The name of `value` brought to the quantisation of `target`."""
        key = (value, target)
        if key not in self._made:
            name = self.draft.fresh(f"{value}_rescaled")
            self._made[key] = self.draft.emit(Node("Rescale", (value,), (name,)), {name: target})
        return self._made[key]

    def peaks(self, value: str, axis: int | None) -> Array:
        """float64[n]: largest magnitude of a constant for each index of `axis`, or overall."""
        key = (value, axis)
        if key not in self._peaks:
            self._peaks[key] = largest_magnitudes(self.draft.constants[value].array(), axis)
        return self._peaks[key]


def largest_magnitudes(values: Array, axis: int | None) -> Array:
    """float64[n]: largest magnitude for each index of `axis`; one element overall where it is None."""
    if values.size == 0:
        return np.zeros(1 if axis is None else values.shape[axis])
    others = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
    return np.atleast_1d(np.maximum(values.max(axis=others), -values.min(axis=others)).astype(np.float64))


def _write(graph: Graph, types: dict[str, TensorType], options: Quantise) -> Graph:
    draft = Draft(graph)
    for value, value_type in types.items():
        draft.retype(value, value_type)
    writer = _Writer(draft, options)
    for node in graph.nodes:
        inputs = list(node.inputs)
        if any(draft.types[v].quant is not None for v in node.outputs):
            _RULES.get(op_of(node).rule, _keep_real)(writer, node, inputs)
        draft.keep(node.with_inputs(inputs) if tuple(inputs) != node.inputs else node)
    return draft.finish()


def _is_real_constant(writer: _Writer, value: str) -> bool:
    held = writer.draft.constants.get(value)
    return held is not None and _is_real(held.type)


def _keep_real(writer: _Writer, node: Node, inputs: list[str]) -> None:
    """ROW, FLOAT, LOOKUP: constants stay as they are."""


def _write_linear(writer: _Writer, node: Node, inputs: list[str]) -> None:
    if len(inputs) < 2 or (node.op == "Einsum" and len(inputs) != 2):
        return
    bias = inputs[2] if len(inputs) > 2 else ""
    for place in (0, 1):
        if _is_real_constant(writer, inputs[place]):
            axis = weight_axis(node, writer.draft.types[inputs[1]]) if place == 1 else None
            inputs[place] = writer.codes(inputs[place], _weight_type(writer, inputs, place, axis, bias))
    if bias and bias in writer.draft.constants:
        inputs[2] = _bias(writer, node, inputs)


def _weight_type(writer: _Writer, inputs: list[str], place: int, axis: int | None, bias: str) -> TensorType:
    """The type of a weight: one scale per output channel where the op allows."""
    held, bits = writer.draft.types[inputs[place]], writer.options.weight_bits
    top = 2 ** (bits - 1) - 1
    scales = writer.peaks(inputs[place], axis) / top
    if axis is not None and bias and _is_real_constant(writer, bias):
        source = writer.draft.types[inputs[0]].quant
        reach = np.abs(writer.draft.constants[bias].array().astype(np.float64)).reshape(-1)
        if source is not None and reach.size in (1, scales.size):
            # A channel of tiny weights must not make its bias code overflow.
            scales = np.maximum(scales, reach / (source.scale[0] * BIAS_LIMITS[bits]))
    floor = scales.max(initial=0.0) * 2.0**-20 or 1.0 / top  # channels of zeros
    scales = np.maximum(scales, floor)
    return TensorType(DTYPES[bits], held.shape, Quant(tuple(scales.tolist()), 0, axis))


def _bias(writer: _Writer, node: Node, inputs: list[str]) -> str:
    """The bias as integer codes of scale `sx * sw`."""
    draft, value = writer.draft, inputs[2]
    held = draft.constants[value]
    scales = bias_scales(node, tuple(draft.types[v] for v in inputs))
    if held.type.quant is not None and np.allclose(held.type.quant.scale, scales, rtol=1e-5, atol=0.0):
        return value
    real = decode(held.array(), held.type)
    if len(scales) > 1:
        real = np.broadcast_to(real, (*real.shape[:-1], len(scales)))
    codes = np.rint(real / np.asarray(scales))
    dtype = "int32" if np.abs(codes).max(initial=0.0) < 2.0**31 else "int64"
    quant = Quant(scales, 0, real.ndim - 1 if len(scales) > 1 else None)
    return draft.constant(f"{value}_codes", _code_constant(codes.astype(dtype), quant))


def _code_constant(codes: Array, quant: Quant) -> Constant:
    return ArrayConstant(codes, TensorType(str(codes.dtype), codes.shape, quant))


def _write_elementwise(writer: _Writer, node: Node, inputs: list[str]) -> None:
    """SUM, PRODUCT: constants become codes; a single number beside one value stays real and makes a table."""
    output = writer.draft.types[node.outputs[0]]
    real = [i for i, v in enumerate(inputs) if _is_real_constant(writer, v)]
    others = [v for i, v in enumerate(inputs) if i not in real]
    for place in real:
        held = writer.draft.types[inputs[place]]
        if held.size == 1 and len(others) == 1 and writer.draft.types[others[0]].shape == output.shape:
            continue
        seen = range_of(writer.draft.constants[inputs[place]].array())
        quant = output.quant if seen.is_masked else Quant((_scale(seen.max_abs, 16),))
        dtype = output.dtype if seen.is_masked else "int16"
        inputs[place] = writer.codes(inputs[place], TensorType(dtype, held.shape, quant))


def _write_move(writer: _Writer, node: Node, inputs: list[str]) -> None:
    """MOVE: all data operands get the quantisation of the output."""
    if not only_moves(node):
        return
    draft, output = writer.draft, writer.draft.types[node.outputs[0]]
    for place in range(len(inputs) if node.op == "Concat" else 1):
        held = draft.types[inputs[place]]
        target = replace(output, shape=held.shape)
        if _is_real_constant(writer, inputs[place]):
            inputs[place] = writer.codes(inputs[place], target)
        elif held.quant is not None and (held.dtype, held.quant) != (output.dtype, output.quant):
            inputs[place] = writer.rescaled(inputs[place], target)


_RULES = {
    Rule.LINEAR: _write_linear,
    Rule.SUM: _write_elementwise,
    Rule.PRODUCT: _write_elementwise,
    Rule.MOVE: _write_move,
}
