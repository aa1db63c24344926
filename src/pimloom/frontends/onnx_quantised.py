"""Quantised ONNX ops. Quantise and dequantise nodes stay; fused integer ops become dequantise, float op, quantise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pimloom.frontends.onnx_attention import packed_attention
from pimloom.frontends.onnx_blocks import blocked
from pimloom.frontends.onnx_call import Call, Normaliser, Value
from pimloom.frontends.onnx_recurrent import recurrent
from pimloom.frontends.onnx_shapes import concat, reshape_to, transpose
from pimloom.frontends.onnx_spatial import ROWS as SPATIAL_ROWS
from pimloom.frontends.onnx_tensors import FOUR_BITS, graph_dtype

Run = Callable[[Call, tuple[str, ...], Mapping[str, Any]], str]
"""Puts a float op into normal form on given values."""


def _axis(call: Call, value: str, scale: str) -> int:
    """The axis of the scales; irrelevant, hence 0, where there is but one."""
    rank = call.type_of(value).rank
    if call.type_of(scale).size == 1:
        return 0
    return call.axis(call.attribute("axis", 1), rank)


def _quantize(call: Call) -> tuple[Value, ...]:
    output = call.attribute("output_dtype", 0)
    attributes: dict[str, Any] = {"axis": _axis(call, call.value(0), call.value(1))}
    if output in FOUR_BITS or (call.has(2) and call.value(2) in call.assembly.four_bit):
        raise call.fault("4-bit activations are not supported; quantise activations to 8 or 16 bits")
    if output and not call.has(2):
        attributes["output_dtype"] = graph_dtype(output, call.where)
    if call.attribute("block_size", 0):
        attributes["block_size"] = call.attribute("block_size")
    elif not _are_constant(call, 1):
        return (_computed_codes(call, attributes["axis"], attributes.get("output_dtype", "uint8")),)
    return (call.emit("QuantizeLinear", call.value(0), *_parameters(call, 1), **attributes),)


def _are_constant(call: Call, place: int) -> bool:
    """Whether the scale at `place` and the zero point behind it, if there is one, are constants."""
    return all(call.value(i) in call.assembly.constants for i in (place, place + 1) if call.has(i))


def _computed_codes(call: Call, axis: int, dtype: str) -> str:
    """Codes whose scale or zero point is computed by the network: arithmetic like any other."""
    scaled = call.emit("Round", call.emit("Div", call.value(0), _along(call, call.value(1), axis)))
    dtype = call.type(2).dtype if call.has(2) else dtype
    info = np.iinfo(np.dtype(dtype))
    shifted = call.emit("Add", scaled, _along(call, call.value(2), axis)) if call.has(2) else scaled
    return call.emit("Cast", call.emit("Clip", shifted, min=float(info.min), max=float(info.max)), to=dtype)


def _along(call: Call, value: str, axis: int) -> str:
    """A scale or zero point as float32, shaped to go along an axis of input 0."""
    held = call.type_of(value)
    value = value if held.dtype == "float32" else call.emit("Cast", value, to="float32")
    if held.size == 1:
        return reshape_to(call, value, ())
    return reshape_to(call, value, tuple(held.size if i == axis else 1 for i in range(call.type(0).rank)))


def _parameters(call: Call, place: int) -> tuple[str, ...]:
    """Scale and, where given, zero point in the same shape: writers mix no dimensions with one of size 1."""
    scale = call.value(place)
    if not call.has(place + 1):
        return (scale,)
    zero, shape = call.value(place + 1), call.type_of(scale).shape
    if call.type_of(zero).size == call.type_of(scale).size == 1:
        zero = reshape_to(call, zero, shape)
    return scale, zero


def _dequantize(call: Call) -> tuple[Value, ...]:
    attributes = {"block_size": call.attribute("block_size")} if call.attribute("block_size", 0) else {}
    axis = _axis(call, call.value(0), call.value(1))
    real = blocked(call, call.value(0), axis) if attributes else None
    if real is not None:
        return (real,)
    if not attributes and not _are_constant(call, 1):
        codes = call.emit("Cast", call.value(0), to="float32")
        centred = call.emit("Sub", codes, _along(call, call.value(2), axis)) if call.has(2) else codes
        return (call.emit("Mul", centred, _along(call, call.value(1), axis)),)
    return (call.emit("DequantizeLinear", call.value(0), *_parameters(call, 1), axis=axis, **attributes),)


def _real(call: Call, place: int, axis: int = 0) -> str:
    """The dequantised value of the inputs (codes, scale, zero point) that start at `place`."""
    codes, axis = call.value(place), axis % max(call.type(place).rank, 1)
    return call.emit("DequantizeLinear", codes, *_parameters(call, place + 1), axis=axis)


def _codes(call: Call, value: str, place: int) -> str:
    """The value quantised by the inputs (scale, zero point) that start at `place`."""
    return call.emit("QuantizeLinear", value, *_parameters(call, place), axis=0)


def _inner(call: Call, op: str, values: tuple[str, ...]) -> str:
    """The float op `op` in normal form, with this call's attributes, on given values."""
    float_call = Call(call.assembly, op, "", call.name, 21, values, call.attributes, ("y",))
    result = SPATIAL_ROWS[op](float_call)[0]
    if isinstance(result, tuple):
        raise call.fault("a tensor is expected")
    return result


def _qlinear_conv(call: Call) -> tuple[Value, ...]:
    """Inputs: x, scale, zero, w, scale, zero, y scale, y zero, bias (int32 at scale x * w)."""
    operands = (_channels_second(call, _real(call, 0)), _real(call, 3, 0), *_real_bias(call, 8))
    return (_codes(call, _channels_back(call, _inner(call, "Conv", operands)), 6),)


def _channels_second(call: Call, value: str) -> str:
    """The value with its channels behind the batch, where the node (of com.microsoft) has them last."""
    rank = call.type_of(value).rank
    if not call.attribute("channels_last", 0) or rank < 3:
        return value
    return transpose(call, value, (0, rank - 1, *range(1, rank - 1)))


def _channels_back(call: Call, value: str) -> str:
    """Undoes `_channels_second`."""
    rank = call.type_of(value).rank
    if not call.attribute("channels_last", 0) or rank < 3:
        return value
    return transpose(call, value, (0, *range(2, rank), 1))


def _nhwc_max_pool(call: Call) -> tuple[Value, ...]:
    """com.microsoft NhwcMaxPool: a MaxPool of codes with their channels last."""
    rank = call.type(0).rank
    if rank < 3:
        raise call.fault(f"input is {call.type(0)}, expected batch, 1 or more spatial dimensions and channels")
    x = transpose(call, call.value(0), (0, rank - 1, *range(1, rank - 1)))
    return (transpose(call, _inner(call, "MaxPool", (x,)), (0, *range(2, rank), 1)),)


def _real_bias(call: Call, place: int) -> tuple[str, ...]:
    if not call.has(place):
        return ()
    scale = call.emit("Mul", call.value(1), call.value(4))
    return (call.emit("DequantizeLinear", call.value(place), scale, axis=0),)


def _qlinear_matmul(call: Call) -> tuple[Value, ...]:
    """Scales per column of the second operand lie along its last axis, scales per row of the first before it."""
    a, b = _real(call, 0, call.type(0).rank - 2), _real(call, 3, call.type(3).rank - 1)
    return (_codes(call, call.emit("MatMul", a, b), 6),)


def _qgemm(call: Call) -> tuple[Value, ...]:
    """com.microsoft QGemm: a, scale, zero, b, scale, zero, c (int32), y scale, y zero."""
    trans_b = int(call.attribute("transB", 0))
    operands = (_real(call, 0), _real(call, 3, 0 if trans_b else 1), *_real_bias(call, 6))
    names = {"alpha": 1.0, "transA": 0, "transB": 0}
    y = call.emit("Gemm", *operands, **{name: call.attribute(name, default) for name, default in names.items()})
    return (_codes(call, y, 7) if call.has(7) else y,)


def _qlinear_binary(call: Call) -> tuple[Value, ...]:
    """com.microsoft QLinearAdd and QLinearMul: a, scale, zero, b, scale, zero, y scale, y zero."""
    return (_codes(call, call.emit(call.op.removeprefix("QLinear"), _real(call, 0), _real(call, 3)), 6),)


def _qlinear_unary(call: Call) -> tuple[Value, ...]:
    """com.microsoft QLinearSigmoid and others: x, scale, zero, y scale, y zero."""
    op = call.op.removeprefix("QLinear")
    attributes = {"alpha": call.attribute("alpha", 0.01)} if op == "LeakyRelu" else {}
    return (_codes(call, call.emit(op, _real(call, 0), **attributes), 3),)


def _qlinear_softmax(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.attribute("axis", -1), call.type(0).rank)
    if call.attribute("opset", 13) < 13 and axis != call.type(0).rank - 1:
        raise call.fault("the meaning before opset 13 is supported on the last axis only; quantise a newer model")
    return (_codes(call, call.emit("Softmax", _real(call, 0), axis=axis), 3),)


def _qlinear_pool(call: Call) -> tuple[Value, ...]:
    op = call.op.removeprefix("QLinear")
    x = _channels_second(call, _real(call, 0))
    y = _inner(call, op, (x,)) if op in SPATIAL_ROWS else call.emit(op, x)
    return (_codes(call, _channels_back(call, y), 3),)


def _qlinear_where(call: Call) -> tuple[Value, ...]:
    """com.microsoft QLinearWhere: condition, x, scale, zero, y, scale, zero, z scale, z zero."""
    return (_codes(call, call.emit("Where", call.value(0), _real(call, 1), _real(call, 4)), 7),)


def _qlinear_concat(call: Call) -> tuple[Value, ...]:
    """Inputs: y scale, y zero, then (x, scale, zero) of each operand."""
    operands = tuple(_real(call, place) for place in range(2, call.n_inputs - 2, 3))
    if not operands:
        raise call.fault("it has no operands; the file is damaged")
    axis = call.axis(call.required("axis"), call.type_of(operands[0]).rank)
    return (_codes(call, concat(call, operands, axis), 0),)


def _centred(call: Call, place: int, zero_place: int, axis: int | None) -> str:
    """Codes minus their zero point, as floats; `axis` is where a list of zero points lies."""
    codes = call.emit("Cast", call.value(place), to="float32")
    if not call.has(zero_place):
        return codes
    zero = call.emit("Cast", call.value(zero_place), to="float32")
    size = call.type_of(zero).size
    if axis is not None and call.type_of(zero).rank == 1 and size > 1:
        rank = call.type(place).rank
        zero = call.emit("Reshape", zero, shape=tuple(size if i == axis % rank else 1 for i in range(rank)))
    elif size == 1:
        zero = call.emit("Reshape", zero, shape=())
    return call.emit("Sub", codes, zero)


def _matmul_integer(call: Call) -> tuple[Value, ...]:
    """Exact in float32 up to 2**24, as 8-bit products of up to 256 terms are; the result is cast back to int32."""
    y = call.emit("MatMul", _centred(call, 0, 2, -2), _centred(call, 1, 3, -1))
    return (call.emit("Cast", y, to="int32"),)


def _conv_integer(call: Call) -> tuple[Value, ...]:
    y = _inner(call, "Conv", (_centred(call, 0, 2, None), _centred(call, 1, 3, 0)))
    return (call.emit("Cast", y, to="int32"),)


def _matmul_integer_to_float(call: Call) -> tuple[Value, ...]:
    """com.microsoft MatMulIntegerToFloat: a, b, a scale, b scale, a zero, b zero, bias."""
    y = call.emit("MatMul", _centred(call, 0, 4, -2), _centred(call, 1, 5, -1))
    y = call.emit("Mul", y, call.emit("Mul", call.value(2), call.value(3)))
    return (call.emit("Add", y, call.value(6)) if call.has(6) else y,)


def _dynamic_codes(call: Call, x: str) -> tuple[str, str, str]:
    """Codes over the range of the value (0 included): codes from 0 to 255, scale, zero point, all float32."""
    zero, axes = call.numbers(0.0), tuple(range(call.type_of(x).rank))
    high = call.emit("Max", call.emit("ReduceMax", x, axes=axes, keepdims=0), zero)
    low = call.emit("Min", call.emit("ReduceMin", x, axes=axes, keepdims=0), zero)
    reach = call.emit("Sub", high, low)
    # A value of nothing but zeros has the scale 1.
    scale = call.emit("Where", call.emit("Greater", reach, zero), call.emit("Div", reach, call.numbers(255.0)), call.numbers(1.0))
    shift = call.emit("Clip", call.emit("Round", call.emit("Div", call.emit("Neg", low), scale)), min=0.0, max=255.0)
    codes = call.emit("Add", call.emit("Round", call.emit("Div", x, scale)), shift)
    return call.emit("Clip", codes, min=0.0, max=255.0), scale, shift


def _dynamic_quantize(call: Call) -> tuple[Value, ...]:
    """uint8 codes, scale, zero point."""
    codes, scale, shift = _dynamic_codes(call, call.value(0))
    return (call.emit("Cast", codes, to="uint8"), scale, call.emit("Cast", shift, to="uint8"))


def _rounded(call: Call, x: str) -> str:
    """The value rounded to the codes that a dynamic quantisation finds for it."""
    codes, scale, shift = _dynamic_codes(call, x)
    return call.emit("Mul", call.emit("Sub", codes, shift), scale)


def _dynamic_matmul(call: Call) -> tuple[Value, ...]:
    """com.microsoft DynamicQuantizeMatMul: a, b, b scale, b zero, bias."""
    b = _real(call, 1, call.type(1).rank - 1)
    y = call.emit("MatMul", _rounded(call, call.value(0)), b)
    return (call.emit("Add", y, call.value(4)) if call.has(4) else y,)


def _dynamic_lstm(call: Call) -> tuple[Value, ...]:
    """com.microsoft DynamicQuantizeLSTM: an LSTM on codes of `W` and `R`, `[directions, width in, gates]`, behind its inputs.

    The sequence is rounded to codes at once, the hidden state at each step.
    """
    weights = (_lstm_weights(call, place, scales) for place, scales in ((1, 8), (2, 10)))
    lstm = Call(call.assembly, "LSTM", "", call.name, 14, (call.value(0), *weights, *call.values[3:8]), call.attributes, call.outputs)
    return recurrent(lstm, lambda value: _rounded(call, value))


def _lstm_weights(call: Call, place: int, scales: int) -> str:
    """Real weights as an LSTM has them; scales are one per direction, or one per direction and column."""
    codes = call.emit("Cast", call.value(place), to="float32")
    factor, zero = (_per_direction(call, call.emit("Cast", call.value(i), to="float32")) for i in (scales, scales + 1))
    return transpose(call, call.emit("Mul", call.emit("Sub", codes, zero), factor), (0, 2, 1))


def _per_direction(call: Call, value: str) -> str:
    shape = call.type_of(value).shape
    return value if len(shape) == 0 else reshape_to(call, value, (shape[0], 1, shape[1] if len(shape) > 1 else 1))


def _qattention(call: Call) -> tuple[Value, ...]:
    """com.microsoft QAttention: x, weights, bias, x scale, weight scale, mask, x zero, weight zero, past."""
    if call.has(8):
        raise call.fault("its input 8 is not supported; export the model without key-value caches")
    x, weights = (_scaled_back(call, place, axis) for place, axis in ((0, 0), (1, 1)))
    values = (x, weights, call.optional(2), call.optional(5))
    return packed_attention(Call(call.assembly, "Attention", call.domain, call.name, 1, values, call.attributes, call.outputs))


def _scaled_back(call: Call, place: int, axis: int) -> str:
    """The real value of an operand (0 or 1) of QAttention."""
    zero = (call.value(6 + place),) if call.has(6 + place) else ()
    scale = call.value(3 + place)
    zero = tuple(reshape_to(call, v, call.type_of(scale).shape) for v in zero if call.type_of(v).size == call.type_of(scale).size)
    return call.emit("DequantizeLinear", call.value(place), scale, *zero, axis=axis)


ROWS: Mapping[str, Normaliser] = {
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize, "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul, "MatMulInteger": _matmul_integer, "ConvInteger": _conv_integer,
    "DynamicQuantizeLinear": _dynamic_quantize,
}  # fmt: skip

FUSED_ROWS: Mapping[str, Normaliser] = {
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize, "QGemm": _qgemm, "QLinearConv": _qlinear_conv,
    "NhwcMaxPool": _nhwc_max_pool, "QLinearWhere": _qlinear_where, "QAttention": _qattention,
    "DynamicQuantizeMatMul": _dynamic_matmul, "DynamicQuantizeLSTM": _dynamic_lstm,
    "QLinearAdd": _qlinear_binary, "QLinearMul": _qlinear_binary, "QLinearSigmoid": _qlinear_unary,
    "QLinearLeakyRelu": _qlinear_unary, "QLinearSoftmax": _qlinear_softmax, "QLinearConcat": _qlinear_concat,
    "QLinearGlobalAveragePool": _qlinear_pool, "QLinearAveragePool": _qlinear_pool,
    "MatMulIntegerToFloat": _matmul_integer_to_float,
}  # fmt: skip
"""Ops of the domain com.microsoft, which ONNX Runtime's quantiser writes."""
