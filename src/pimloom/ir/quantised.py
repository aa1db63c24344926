"""The integer meaning of a node whose values carry codes: the specification of every compiled program.

`quantised_meaning` turns arrays of codes into arrays of codes, by the rule of the op's row (`pimloom.ir.ops.Rule`)
and the types of the node's values. Each rule is a step record of `pimloom.ir.steps`; `make_step` builds it, and a
program that applies the same record to pieces gets the same bits. What a rule asks of the types:

| rule | inputs | falls back to FLOAT when |
|---|---|---|
| LINEAR | two operands of codes, bias int32 or int64 codes of scale `sx * sw` | an operand holds no codes |
| LOOKUP | one operand of codes, the others real numbers of one element | another operand has more elements |
| SUM, PRODUCT | operands of codes, one scale each | an operand holds real numbers (of one element: LOOKUP) |
| MOVE | data operands and output with one and the same quantisation | an operand holds real numbers |
| MEAN | codes, one scale | |
| ROW | codes, one scale; gain and offset real numbers or codes | |
| FLOAT | anything | |

FLOAT decodes to float64, applies the row's meaning and encodes. It is exact for single operations, but a sum of
floats depends on how it is cut: `is_slice_safe` tells which ops may be computed in pieces.

Values without a quantisation (token ids, masks, indices, real parameters) pass as they are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.graph import Graph, Node
from pimloom.ir.integer import Rescaler, decode, encode, make_rescaler
from pimloom.ir.ops import (
    Attributes,
    InputTypes,
    Op,
    Rule,
    add_rows,
    average_counts,
    find_op,
    full_attributes,
    op_of,
    window_of,
)
from pimloom.ir.steps import (
    INTERPOLATION_BITS,
    Array,
    Bounds,
    InterpolateStep,
    LinearStep,
    LookupStep,
    MeanStep,
    MoveStep,
    NormStep,
    ProductStep,
    SoftmaxStep,
    SumStep,
    centred,
    clamp_range,
    exact_dtype,
    make_softmax_step,
    make_sum_step,
    quant_of,
)
from pimloom.ir.types import TensorType

Step = LinearStep | LookupStep | SumStep | ProductStep | MeanStep | SoftmaxStep | NormStep | InterpolateStep | MoveStep
OutputTypes = tuple[TensorType, ...]

ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Mod", "Min", "Max", "Mean", "Sum", "PRelu"})
"""Ops of several operands that give each output element from one element of each operand."""

_EXACT_FLOAT = frozenset({
    "ArgMax", "ArgMin", "Cast", "DequantizeLinear", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
    "Max", "Min", "OneHot", "PRelu", "QuantizeLinear", "ScatterElements", "ScatterND", "TopK", "Trilu", "Where",
})  # fmt: skip
_CHANNEL_AXIS = {"Conv": 1, "ConvTranspose": 1}
_SUM_FACTORS = {"Add": (1.0, 1.0), "Sub": (1.0, -1.0)}
_SUMS = frozenset({"ReduceSum"})


# -- ops that only canonical graphs contain -------------------------------------------------------------------------


def _infer_linear(attributes: Attributes, types: InputTypes) -> OutputTypes:
    x, w, b = types[0], types[1], types[2] if len(types) > 2 else None
    assert x is not None and w is not None
    if x.rank < 1 or w.rank != 2 or x.shape[-1] != w.shape[0]:
        raise ModelError(f"weight found {w}, expected [{x.shape[-1] if x.rank else '?'}, outputs] to multiply {x}")
    if b is not None and b.shape != (w.shape[1],):
        raise ModelError(f"bias found {b}, expected one element per output [{w.shape[1]}]")
    return (TensorType(x.dtype, (*x.shape[:-1], w.shape[1])),)


def _linear_meaning(attributes: Attributes, x: Array, w: Array, b: Array | None = None) -> tuple[Array]:
    rows = x.reshape(-1, x.shape[-1]) @ w
    return ((rows if b is None else rows + b).reshape(*x.shape[:-1], w.shape[1]),)


def _linear_macs(attributes: Attributes, inputs: InputTypes, outputs: OutputTypes) -> int:
    weight = inputs[1]
    assert weight is not None
    return outputs[0].size * weight.shape[0]


def _infer_same(attributes: Attributes, types: InputTypes) -> OutputTypes:
    assert types[0] is not None
    return (replace(types[0], quant=None),)


def _same_meaning(attributes: Attributes, x: Array) -> tuple[Array]:
    return (x,)


add_rows(
    # x @ w + b over the last axis of x: the canonical form of Gemm and of MatMul with constant weights.
    Op("Linear", 2, 3, 1, _infer_linear, _linear_meaning, Rule.LINEAR, macs=_linear_macs),
    # The same real numbers as other codes; the identity on floats.
    Op("Rescale", 1, 1, 1, _infer_same, _same_meaning, Rule.SUM),
)


# -- which rule and which step --------------------------------------------------------------------------------------


def rule_of(node: Node, input_types: InputTypes, output_types: OutputTypes) -> Rule:
    """The rule that a node follows, given the types of its values (see the table of this module)."""
    rule = op_of(node).rule
    coded = [t for t in input_types if t is not None and t.quant is not None]
    real = [t for t in input_types if t is not None and t.quant is None and t.dtype.startswith("float")]
    if not coded or output_types[0].quant is None:
        return Rule.FLOAT
    if rule is Rule.LINEAR:
        return rule if _is_coded(input_types[:2]) and len(input_types) >= 2 and _linear_inputs(node) else Rule.FLOAT
    if rule is Rule.ROW:
        return rule if _is_plain(input_types[0]) else Rule.FLOAT
    if any(not _is_plain(t) for t in coded):
        return Rule.FLOAT
    if _is_table(node, rule, coded, real, output_types[0]):
        return Rule.LOOKUP
    if real or rule is Rule.LOOKUP or (rule is Rule.MOVE and not only_moves(node)):
        return Rule.FLOAT
    if rule is Rule.MOVE:
        _check_move(node, coded, output_types)
    return rule


def only_moves(node: Node) -> bool:
    """Whether a node whose row says MOVE does nothing else (Resize may interpolate)."""
    attributes = full_attributes(node)
    cropped = attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    return node.op != "Resize" or (attributes["mode"] == "nearest" and not cropped)


def _linear_inputs(node: Node) -> bool:
    return node.op != "Einsum" or len(node.inputs) == 2


def _is_coded(types: InputTypes) -> bool:
    return all(t is not None and t.quant is not None for t in types)


def _is_plain(value_type: TensorType | None) -> bool:
    return value_type is not None and value_type.quant is not None and value_type.quant.axis is None


def _is_table(node: Node, rule: Rule, coded: list[TensorType], real: list[TensorType], output: TensorType) -> bool:
    if rule is not Rule.LOOKUP and node.op not in ELEMENTWISE:
        return False
    others = len([v for v in node.inputs if v]) - 1
    if rule is Rule.LOOKUP and not others:
        return True
    only_one_varies = len(coded) == 1 and len(real) == others > 0 and all(t.size == 1 for t in real)
    return only_one_varies and coded[0].shape == output.shape


def _check_move(node: Node, coded: list[TensorType], outputs: OutputTypes) -> None:
    wanted = outputs[0]
    for found in (*coded, *(t for t in outputs if t.quant is not None)):
        if (found.dtype, found.quant) != (wanted.dtype, wanted.quant):
            raise ModelError(
                f"node '{node.name}' ({node.op}): moves codes of {_spell(found)} to {_spell(wanted)}; "
                "both sides must share one quantisation, insert a Rescale node"
            )


def _spell(value_type: TensorType) -> str:
    quant = quant_of(value_type)
    return f"{value_type.dtype}{{scale={quant.scale[0]!r}, zero={quant.zero_point}}}"


def is_slice_safe(op: str) -> bool:
    """Whether pieces of the output, computed alone, have the bits they have in the whole.

    True for every rule but FLOAT (rows must be whole for ROW), and for FLOAT ops that do at most one float operation
    per element. The others must be computed on whole values.
    """
    return find_op(op, "is_slice_safe").rule is not Rule.FLOAT or op in _EXACT_FLOAT


def code_bounds(node: Node) -> Bounds:
    """The bounds that a fused activation puts on the output codes."""
    low, high = node.attributes.get("code_low"), node.attributes.get("code_high")
    return (low if isinstance(low, int) else None, high if isinstance(high, int) else None)


def step_of(graph: Graph, node: Node) -> Step | None:
    """The step of a node of a quantised graph (see `make_step`), with the single constants among its operands built in."""
    constants = {i: graph.constants[v].array() for i, v in enumerate(node.inputs) if v in graph.constants and graph.types[v].size == 1}
    return make_step(node, graph.input_types(node), graph.output_types(node), constants)


def make_step(
    node: Node, input_types: InputTypes, output_types: OutputTypes, constants: Mapping[int, Array] | None = None
) -> Step | None:
    """The step record of a node, or None where the rule is FLOAT and the whole node must be computed at once.

    Args:
        node: the node.
        input_types: its input types, None where absent.
        output_types: its output types.
        constants: arrays of constant inputs by position; needed where a table depends on a real operand (`x ** 2`).

    Raises:
        ModelError: the types don't fit the rule, or a real operand of a table is not among the constants.
    """
    rule = rule_of(node, input_types, output_types)
    source, target, bounds = _first(input_types), output_types[0], code_bounds(node)
    if rule is Rule.LINEAR:
        return linear_step(node, input_types, output_types)
    if rule is Rule.LOOKUP:
        return lookup_step(node, input_types, output_types, constants or {})
    if rule is Rule.SUM:
        operands = tuple(t for t in input_types if t is not None)
        factors = _SUM_FACTORS.get(node.op, ((1.0 / len(operands) if node.op == "Mean" else 1.0),) * len(operands))
        return make_sum_step(factors, operands, target, bounds)
    if rule is Rule.PRODUCT:
        return _product_step(input_types, target, bounds)
    if rule is Rule.MEAN:
        ratio = quant_of(source).scale[0] / quant_of(target).scale[0]
        return MeanStep(quant_of(source).zero_point, ratio, target, bounds, node.op not in _SUMS)
    if rule is Rule.ROW:
        return _row_step(node, source, target, bounds)
    if rule is Rule.MOVE:
        return MoveStep(_fill_code(node, source))
    return interpolate_step(node, input_types, output_types) if _interpolates(node, input_types, output_types) else None


def _first(types: InputTypes) -> TensorType:
    return next(t for t in types if t is not None)


def linear_step(node: Node, input_types: InputTypes, output_types: OutputTypes) -> LinearStep:
    """The step of a LINEAR node."""
    x, w = _operands(input_types)
    return LinearStep(quant_of(x).zero_point, quant_of(w).zero_point, linear_rescaler(node, input_types, output_types))


def linear_rescaler(node: Node, input_types: InputTypes, output_types: OutputTypes) -> Rescaler:
    """From exact sums (channel last) to the output codes of a LINEAR node, with its fused activation."""
    scales = np.asarray(sum_scales(node, input_types))
    return make_rescaler(scales / quant_of(output_types[0]).scale[0], output_types[0], *code_bounds(node))


def sum_scales(node: Node, input_types: InputTypes) -> tuple[float, ...]:
    """What one unit of a LINEAR node's exact sum stands for: `sx * sw`, one number or one per output channel.

    Raises:
        ModelError: scales vary along an axis that is summed over.
    """
    x, w = _operands(input_types)
    allowed = weight_axis(node, w)
    for operand, axis in ((x, None), (w, allowed)):
        found = quant_of(operand).axis
        if found is not None and found not in (axis, axis - operand.rank if axis is not None else None):
            raise ModelError(
                f"node '{node.name}' ({node.op}): scales vary along axis {found} of {operand}, "
                f"{'one scale is' if axis is None else f'one scale or scales along axis {axis} are'} expected"
            )
    alpha = float(node.attributes.get("alpha", 1.0)) if node.op == "Gemm" else 1.0  # type: ignore[arg-type]
    return tuple(alpha * quant_of(x).scale[0] * s for s in quant_of(w).scale)


def _operands(input_types: InputTypes) -> tuple[TensorType, TensorType]:
    x, w = input_types[:2]
    assert x is not None and w is not None
    return x, w


def weight_axis(node: Node, weight: TensorType) -> int | None:
    """The axis of the weights along which scales may vary."""
    if node.op == "Conv":
        return 0
    if node.op == "ConvTranspose":
        return 1 if full_attributes(node)["group"] == 1 else None
    if node.op == "Gemm":
        return 0 if full_attributes(node)["transB"] else 1
    return weight.rank - 1 if node.op in ("Linear", "MatMul") and weight.rank == 2 else None


def lookup_step(
    node: Node, input_types: InputTypes, output_types: OutputTypes, constants: Mapping[int, Array]
) -> LookupStep:
    """The table of a LOOKUP node; `constants` holds its real operands by position."""
    place = next(i for i, t in enumerate(input_types) if t is not None and t.quant is not None)
    source = input_types[place]
    assert source is not None
    codes = np.arange(np.iinfo(source.dtype).min, np.iinfo(source.dtype).max + 1)
    arguments: list[Array | None] = []
    for i, value_type in enumerate(input_types):
        if i == place:
            arguments.append(decode(codes, source))
        elif value_type is None:
            arguments.append(None)
        elif i in constants:
            arguments.append(np.asarray(constants[i], np.float64).reshape(()))
        else:
            raise ModelError(f"node '{node.name}' ({node.op}): operand {i} must be a constant to make a table")
    table = encode(_float_meaning(node, *arguments)[0], _scalar(output_types[0]))
    return LookupStep(_clamped(table, node, output_types[0]), int(codes[0]))


def lookup_table(node: Node, input_type: TensorType, output_type: TensorType) -> Array:
    """Output codes of all input codes, from the lowest up, of an element-wise op of one value."""
    return lookup_step(node, (input_type,), (output_type,), {}).table


def _scalar(value_type: TensorType) -> TensorType:
    return replace(value_type, shape=())


def _float_meaning(node: Node, *arrays: Array | None) -> tuple[Array, ...]:
    with np.errstate(all="ignore"):
        return op_of(node).meaning(full_attributes(node), *arrays)


def _clamped(codes: Array, node: Node, target: TensorType) -> Array:
    bounds = code_bounds(node)
    return codes if bounds == (None, None) else np.clip(codes, *clamp_range(target, bounds)).astype(target.dtype)


def _product_step(input_types: InputTypes, target: TensorType, bounds: Bounds) -> ProductStep:
    left, right = (quant_of(t) for t in _operands(input_types))
    ratio = left.scale[0] * right.scale[0] / quant_of(target).scale[0]
    return ProductStep(left.zero_point, right.zero_point, make_rescaler(ratio, target, *bounds))


def _row_step(node: Node, source: TensorType, target: TensorType, bounds: Bounds) -> SoftmaxStep | NormStep:
    if node.op in ("Softmax", "LogSoftmax"):
        return make_softmax_step(source, target, bounds, logarithm=node.op == "LogSoftmax")
    quant = quant_of(source)
    epsilon = float(full_attributes(node)["epsilon"]) / quant.scale[0] ** 2
    return NormStep(quant.zero_point, epsilon, node.op != "RMSNormalization", target, bounds)


def _fill_code(node: Node, source: TensorType) -> int:
    """The code that Pad writes, or the lowest one, with which MaxPool pads."""
    if node.op == "Pad":
        return int(encode(np.array(full_attributes(node).get("value", 0.0)), _scalar(source)))
    return int(np.iinfo(source.dtype).min)


def _interpolates(node: Node, input_types: InputTypes, output_types: OutputTypes) -> bool:
    if node.op != "Resize" or not _is_plain(input_types[0]) or not _is_plain(output_types[0]):
        return False
    return full_attributes(node)["coordinate_transformation_mode"] != "tf_crop_and_resize"


def interpolate_step(node: Node, input_types: InputTypes, output_types: OutputTypes) -> InterpolateStep:
    """The step of a linear or cubic Resize: its weights along each axis, in fixed point."""
    source, target = _first(input_types), output_types[0]
    scales: Any = full_attributes(node)["scales"] or (1.0,) * source.rank
    axes = tuple(i for i in range(source.rank) if source.shape[i] != target.shape[i] or scales[i] != 1.0)
    bits = INTERPOLATION_BITS // max(1, len(axes))
    matrices = tuple(_axis_weights(node, axis, source.shape[axis], bits) for axis in axes)
    ratio = quant_of(source).scale[0] / quant_of(target).scale[0] * 2.0 ** (-bits * len(axes))
    rescaler = make_rescaler(ratio, target, *code_bounds(node))
    return InterpolateStep(quant_of(source).zero_point, axes, matrices, rescaler)


def _axis_weights(node: Node, axis: int, size: int, bits: int) -> Array:
    """int64[out, in]: what Resize does along one axis, found by resizing the columns of the identity."""
    attributes = full_attributes(node)
    attributes["sizes"] = (int(attributes["sizes"][axis]), size)
    if attributes["scales"]:
        attributes["scales"] = (float(attributes["scales"][axis]), 1.0)
    weights = op_of(node).meaning(attributes, np.eye(size))[0]
    fixed = np.rint(weights * 2.0**bits).astype(np.int64)
    rows = np.arange(len(fixed))
    # Rounding must not change a constant image: the largest weight of a row takes up the difference.
    fixed[rows, fixed.argmax(axis=1)] += np.rint(weights.sum(axis=1) * 2.0**bits).astype(np.int64) - fixed.sum(axis=1)
    return fixed


# -- the meaning of whole values ------------------------------------------------------------------------------------


def quantised_meaning(
    node: Node, arrays: tuple[Array | None, ...], input_types: InputTypes, output_types: OutputTypes
) -> tuple[Array, ...]:
    """The outputs of a node of which some value holds codes.

    Args:
        node: the node; its attributes may hold `code_low` and `code_high`.
        arrays: input arrays, codes where the type has a quantisation; None where absent.
        input_types: types of the inputs, None where absent.
        output_types: types of the outputs.

    Returns:
        Arrays of the output types' dtypes and shapes.

    Raises:
        ModelError: the types do not fit the op's rule.
    """
    constants = {i: a for i, a in enumerate(arrays) if a is not None and a.size == 1}
    step = make_step(node, input_types, output_types, constants)
    present = tuple(a for a in arrays if a is not None)
    match step:
        case LinearStep():
            outputs = (_linear(node, step, arrays, input_types),)
        case LookupStep():
            place = next(i for i, t in enumerate(input_types) if t is not None and t.quant is not None)
            outputs = (step(_given(arrays, place)),)
        case SumStep():
            outputs = (step(*present),)
        case ProductStep():
            outputs = (step(present[0], present[1]),)
        case MeanStep():
            outputs = (_mean(node, step, present[0], output_types[0]),)
        case SoftmaxStep():
            axis = int(full_attributes(node)["axis"])
            outputs = (np.moveaxis(step(np.moveaxis(present[0], axis, -1)), -1, axis),)
        case NormStep():
            outputs = (_norm(node, step, arrays, input_types),)
        case InterpolateStep():
            outputs = (step(present[0]),)
        case MoveStep():
            outputs = _move(node, step, arrays, output_types)
        case None:
            outputs = _decoded_meaning(node, arrays, input_types, output_types)
    # Types are given for named outputs only.
    types = iter(output_types)
    return tuple(_finished(o, next(types)) if v else o for o, v in zip(outputs, node.outputs, strict=True))


def _finished(array: Array, target: TensorType) -> Array:
    return np.ascontiguousarray(array).reshape(target.shape).astype(target.dtype, copy=False)


def _given(arrays: tuple[Array | None, ...], place: int) -> Array:
    array = arrays[place]
    assert array is not None
    return array


def _linear(node: Node, step: LinearStep, arrays: tuple[Array | None, ...], input_types: InputTypes) -> Array:
    x = centred(_given(arrays, 0), step.input_zero)
    w = centred(_given(arrays, 1), step.weight_zero)
    dtype = exact_dtype(_n_terms(node, x, w), x, w)
    attributes = full_attributes(node)
    if node.op == "Gemm":
        attributes = {**attributes, "alpha": 1.0, "beta": 1.0}
    (sums,) = op_of(node).meaning(attributes, x.astype(dtype), w.astype(dtype))
    axis = _CHANNEL_AXIS.get(node.op, -1)
    exact = np.moveaxis(np.atleast_1d(sums), axis, -1).astype(np.int64)  # vector times vector has no axis
    codes = step.finish(exact, _bias(node, arrays, input_types))
    return np.moveaxis(codes, -1, axis)


def _n_terms(node: Node, x: Array, w: Array) -> int:
    """An upper bound of the number of products in one sum of a LINEAR node."""
    if node.op == "Conv":
        return w.size // max(1, w.shape[0])
    if node.op == "ConvTranspose":
        return w.size // max(1, w.shape[1])
    if node.op == "Gemm":
        return x.shape[0] if full_attributes(node)["transA"] else x.shape[1]
    return min(x.size, w.size) if node.op == "Einsum" else x.shape[-1]


def _bias(node: Node, arrays: tuple[Array | None, ...], input_types: InputTypes) -> Array | None:
    if len(arrays) < 3 or arrays[2] is None:
        return None
    found = input_types[2]
    assert found is not None
    if not found.dtype.startswith("int"):
        raise ModelError(
            f"node '{node.name}' ({node.op}): bias found {found}, expected int32 or int64 codes; "
            "quantise the graph as a whole"
        )
    wanted = bias_scales(node, input_types)
    if found.quant is not None and not _scales_agree(found.quant.scale, wanted):
        raise ModelError(
            f"node '{node.name}' ({node.op}): bias has scale {found.quant.scale[0]!r}, expected {wanted[0]!r}, "
            "the product of the scales of input and weight"
        )
    return arrays[2]


def bias_scales(node: Node, input_types: InputTypes) -> tuple[float, ...]:
    """The scales that the bias of a LINEAR node must have (for Gemm, beta is part of them)."""
    beta = float(full_attributes(node)["beta"]) if node.op == "Gemm" else 1.0
    return tuple(s / beta for s in sum_scales(node, input_types)) if beta else (1.0,)


def _scales_agree(found: tuple[float, ...], wanted: tuple[float, ...]) -> bool:
    # Models quantised elsewhere store float32 scales, whose product is off by a rounding.
    return bool(np.allclose(np.asarray(found), np.asarray(wanted), rtol=1e-5, atol=0.0))


def _mean(node: Node, step: MeanStep, codes: Array, output: TensorType) -> Array:
    c = centred(codes, step.input_zero)
    attributes = full_attributes(node)
    if node.op == "AveragePool":
        return step(window_sums(c, attributes, output.shape[2:]), average_counts(attributes, codes.shape[2:]))
    axes = tuple(range(2, c.ndim)) if node.op == "GlobalAveragePool" else _reduced_axes(attributes, c.ndim)
    count = math.prod(c.shape[a] for a in axes)
    return step(c.sum(axis=axes), count).reshape(output.shape)


def _reduced_axes(attributes: Attributes, rank: int) -> tuple[int, ...]:
    axes: Any = attributes["axes"]
    return tuple(a % rank for a in axes) if axes else tuple(range(rank))


def window_sums(values: Array, attributes: Attributes, output_shape: tuple[int, ...]) -> Array:
    """Exact sums of int64[N, C, ...] over pooling windows, padding counted as 0: int64[N, C, *output_shape]."""
    window = window_of(attributes, values.ndim - 2)
    values = window.padded(values, output_shape, 0)
    for i, (n_out, kernel) in enumerate(zip(output_shape, window.kernel, strict=True)):
        along = np.moveaxis(values, i + 2, -1)
        reach = (n_out - 1) * window.strides[i] + 1
        starts = [k * window.dilations[i] for k in range(kernel)]
        taps = [along[..., start : start + reach : window.strides[i]] for start in starts]
        values = np.moveaxis(sum(taps[1:], taps[0]), -1, i + 2)
    return values


def _norm(node: Node, step: NormStep, arrays: tuple[Array | None, ...], input_types: InputTypes) -> Array:
    codes = _given(arrays, 0)
    shape = norm_rows(node, codes.shape)
    parameters = [
        None if i >= len(arrays) else _parameter(node, arrays[i], input_types[i], codes.shape) for i in (1, 2)
    ]
    return step(codes.reshape(shape), *parameters).reshape(codes.shape)


def norm_rows(node: Node, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape [..., n] in which each row is normalised by itself; a reshape of the value's own shape."""
    attributes = full_attributes(node)
    if node.op in ("LayerNormalization", "RMSNormalization"):
        axis = int(attributes["axis"]) % len(shape)
        return (*shape[:axis], math.prod(shape[axis:]))
    if node.op == "InstanceNormalization":
        return (shape[0], shape[1], math.prod(shape[2:]))
    groups = int(attributes["num_groups"])
    return (shape[0], groups, math.prod(shape[1:]) // groups)


def _parameter(node: Node, array: Array | None, value_type: TensorType | None, shape: tuple[int, ...]) -> Array | None:
    """Gain or offset as real numbers that broadcast against the rows."""
    if array is None or value_type is None:
        return None
    return norm_parameter(node, decode(array, value_type), shape)


def norm_parameter(node: Node, real: Array, shape: tuple[int, ...]) -> Array:
    """A real gain or offset, brought to a shape that broadcasts against the rows of `norm_rows`."""
    if node.op in ("LayerNormalization", "RMSNormalization"):
        axis = int(full_attributes(node)["axis"]) % len(shape)
        return np.broadcast_to(real, shape[axis:]).reshape(-1)
    if node.op == "InstanceNormalization":
        return real.reshape(1, shape[1], 1)
    groups = int(full_attributes(node)["num_groups"])
    return np.repeat(real, math.prod(shape[2:])).reshape(1, groups, -1)


def _move(node: Node, step: MoveStep, arrays: tuple[Array | None, ...], output_types: OutputTypes) -> tuple[Array, ...]:
    attributes = full_attributes(node)
    if node.op == "Pad":
        attributes["value"] = step.fill
    return op_of(node).meaning(attributes, *arrays)


def _decoded_meaning(
    node: Node, arrays: tuple[Array | None, ...], input_types: InputTypes, output_types: OutputTypes
) -> tuple[Array, ...]:
    real = [None if a is None or t is None else _real(a, t) for a, t in zip(arrays, input_types, strict=True)]
    outputs = _float_meaning(node, *real)
    types = iter(output_types)
    named = (next(types) if v else None for v in node.outputs)
    return tuple(o if t is None else _clamped(_coded(o, t), node, t) for o, t in zip(outputs, named, strict=True))


def _real(array: Array, value_type: TensorType) -> Array:
    if value_type.quant is not None:
        return decode(array, value_type)
    return array.astype(np.float64) if value_type.dtype.startswith("float") else array


def _coded(values: Array, target: TensorType) -> Array:
    if target.quant is not None:
        return encode(values, target)
    with np.errstate(all="ignore"):
        return np.asarray(values).astype(target.dtype)
