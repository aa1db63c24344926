"""Normal forms of arithmetic, reductions, matrix products and normalisations, and of the fused ops of ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pimloom.frontends.onnx_call import Call, Normaliser, Value
from pimloom.frontends.onnx_shapes import reshape_to, split_equal, transpose

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def _variadic(call: Call) -> tuple[Value, ...]:
    values = tuple(call.value(i) for i in range(call.n_inputs))
    return (call.value(0) if len(values) < 2 else call.emit(call.op, *values),)


def _power(call: Call) -> tuple[Value, ...]:
    """The exponent takes the base's element type."""
    base, exponent = call.value(0), call.value(1)
    if call.type(1).dtype != call.type(0).dtype:
        exponent = call.emit("Cast", exponent, to=call.type(0).dtype)
    return (call.emit("Pow", base, exponent),)


def _mod(call: Call) -> tuple[Value, ...]:
    return (call.emit("Mod", call.value(0), call.value(1), fmod=int(call.attribute("fmod", 0))),)


def _clip(call: Call) -> tuple[Value, ...]:
    """Bounds as attributes where they are known and the value is a float; else Max and Min."""
    low, high = (_bound(call, place, name) for place, name in ((1, "min"), (2, "max")))
    is_float = call.type(0).dtype == "float32"
    if is_float and isinstance(low, float) and isinstance(high, float):
        return (call.emit("Clip", call.value(0), min=low, max=high),)
    value = call.value(0)
    for op, place in (("Max", 1), ("Min", 2)):
        if call.has(place):
            value = call.emit(op, value, call.value(place))
    return (value,)


def _bound(call: Call, place: int, name: str) -> float | None:
    """One bound of a Clip, None if it is not known while loading."""
    default = -_FLOAT32_MAX if name == "min" else _FLOAT32_MAX
    if call.opset < 11:
        return float(call.attribute(name, default))
    if not call.has(place):
        return default
    array = call.assembly.known(call.value(place))
    return None if array is None else float(call.scalar(place, name))


def _reduce(call: Call) -> tuple[Value, ...]:
    rank = call.type(0).rank
    listed = call.ints(1, "the axes") if call.has(1) else call.listed("axes")
    if not listed and call.attribute("noop_with_empty_axes", 0):
        return (call.value(0),)
    axes = tuple(sorted(call.axes(listed, rank))) if listed else tuple(range(rank))
    if not rank:
        return (reshape_to(call, call.emit(call.op, reshape_to(call, call.value(0), (1,)), axes=(0,), keepdims=0), ()),)
    return (call.emit(call.op, call.value(0), axes=axes, keepdims=int(call.attribute("keepdims", 1))),)


def _arg(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.attribute("axis", 0), call.type(0).rank)
    keepdims, last = int(call.attribute("keepdims", 1)), int(call.attribute("select_last_index", 0))
    return (call.emit(call.op, call.value(0), axis=axis, keepdims=keepdims, select_last_index=last),)


def _cumulative_product(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.int(1, "the axis"), call.type(0).rank)
    exclusive, reverse = int(call.attribute("exclusive", 0)), int(call.attribute("reverse", 0))
    return (call.emit("CumProd", call.value(0), axis=axis, exclusive=exclusive, reverse=reverse),)


def _einsum(call: Call) -> tuple[Value, ...]:
    return (call.emit("Einsum", *call.tensors(), equation=str(call.required("equation"))),)


def _layer_normalization(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.attribute("axis", -1), call.type(0).rank)
    return (call.emit("LayerNormalization", *call.tensors(), axis=axis, epsilon=call.attribute("epsilon", 1e-5)),)


def _rms_normalization(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.attribute("axis", -1), call.type(0).rank)
    return (
        call.emit("RMSNormalization", call.value(0), call.value(1), axis=axis, epsilon=call.attribute("epsilon", 1e-5)),
    )


def _mean_variance(call: Call) -> tuple[Value, ...]:
    listed = call.listed("axes")
    axes = call.axes((0, 2, 3) if listed is None else listed, call.type(0).rank)
    return (call.emit("MeanVarianceNormalization", call.value(0), axes=axes),)


def _lp_normalization(call: Call) -> tuple[Value, ...]:
    axis = call.axis(call.attribute("axis", -1), call.type(0).rank)
    return (call.emit("LpNormalization", call.value(0), axis=axis, p=call.attribute("p", 2)),)


ROWS: Mapping[str, Normaliser] = {
    **dict.fromkeys(("Sum", "Mean", "Min", "Max"), _variadic), "Pow": _power, "Mod": _mod, "Clip": _clip,
    **dict.fromkeys(
        ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
         "ReduceLogSumExp", "ReduceSumSquare"), _reduce,
    ),
    "ArgMax": _arg, "ArgMin": _arg, "CumProd": _cumulative_product, "Einsum": _einsum,
    "LayerNormalization": _layer_normalization, "RMSNormalization": _rms_normalization,
    "SimplifiedLayerNormalization": _rms_normalization,
    "MeanVarianceNormalization": _mean_variance, "LpNormalization": _lp_normalization,
}  # fmt: skip
"""ONNX's own ops; ops without a row here or elsewhere pass as they are."""


def _with_bias(call: Call, value: str, place: int) -> str:
    return call.emit("Add", value, call.value(place)) if call.has(place) else value


def _gelu(call: Call, approximate: str) -> tuple[Value, ...]:
    return (call.emit("Gelu", _with_bias(call, call.value(0), 1), approximate=approximate),)


def _quick_gelu(call: Call) -> tuple[Value, ...]:
    """`x * sigmoid(alpha * x)`."""
    x, alpha = call.value(0), float(call.attribute("alpha", 1.702))
    scaled = x if alpha == 1.0 else call.emit("Mul", x, call.numbers(alpha))
    return (call.emit("Mul", x, call.emit("Sigmoid", scaled)),)


def _bias_split_gelu(call: Call) -> tuple[Value, ...]:
    """com.microsoft BiasSplitGelu: the sum of x and bias in two halves, the first times the Gelu of the second."""
    hidden, gate = split_equal(call, _with_bias(call, call.value(0), 1), call.type(0).rank - 1, 2)
    return (call.emit("Mul", hidden, call.emit("Gelu", gate, approximate="none")),)


def _bias_add(call: Call) -> tuple[Value, ...]:
    """com.microsoft BiasAdd: x, bias, skip."""
    return (_with_bias(call, _with_bias(call, call.value(0), 1), 2),)


def _skip_normalization(call: Call) -> tuple[Value, ...]:
    """`norm(x + skip + bias)`; the sum is the fourth output."""
    if call.has_output(1) or call.has_output(2):
        raise call.fault("its outputs mean and inverse deviation are not supported; export the model for inference")
    simplified = call.op == "SkipSimplifiedLayerNormalization"
    total = _with_bias(call, call.emit("Add", call.value(0), call.value(1)), 3 if simplified else 4)
    axis, epsilon = call.type(0).rank - 1, call.attribute("epsilon", 1e-12)
    if simplified:
        y = call.emit("RMSNormalization", total, call.value(2), axis=axis, epsilon=epsilon)
    else:
        parameters = [call.value(2), *([call.value(3)] if call.has(3) else [])]
        y = call.emit("LayerNormalization", total, *parameters, axis=axis, epsilon=epsilon)
    return (y, "", "", total)


def _fused_matmul(call: Call) -> tuple[Value, ...]:
    """Transposes the operands where asked, multiplies, scales."""
    if call.attribute("transBatchA", 0) or call.attribute("transBatchB", 0):
        raise call.fault("transBatchA and transBatchB are not supported; export the model without this fusion")
    a, b = (_swapped(call, call.value(i), bool(call.attribute(f"trans{letter}", 0))) for i, letter in enumerate("AB"))
    product, alpha = call.emit("MatMul", a, b), float(call.attribute("alpha", 1.0))
    return (product if alpha == 1.0 else call.emit("Mul", product, call.numbers(alpha)),)


def _swapped(call: Call, value: str, is_transposed: bool) -> str:
    rank = call.type_of(value).rank
    return transpose(call, value, (*range(rank - 2), rank - 1, rank - 2)) if is_transposed and rank > 1 else value


_FUSED_ACTIVATIONS: Mapping[str, Mapping[str, str]] = {
    "Relu": {}, "Sigmoid": {}, "Tanh": {}, "Softplus": {}, "LeakyRelu": {"alpha": "activation_alpha"},
    "HardSigmoid": {"alpha": "activation_alpha", "beta": "activation_beta"}, "Clip": {},
}  # fmt: skip


def activate(call: Call, value: str) -> str:
    """The activation that an `activation` attribute of ONNX Runtime names."""
    name = str(call.attribute("activation", "") or "")
    if not name:
        return value
    if name not in _FUSED_ACTIVATIONS:
        raise call.fault(f"activation '{name}' is not known; expected one of {', '.join(_FUSED_ACTIVATIONS)}")
    listed = call.attribute("activation_params") or ()
    if name == "Clip" and len(listed) == 2:
        return call.emit("Clip", value, min=float(listed[0]), max=float(listed[1]))
    attributes: dict[str, Any] = {}
    for place, (own, fused) in enumerate(_FUSED_ACTIVATIONS[name].items()):
        given = listed[place] if place < len(listed) else call.attribute(fused)
        if given is not None:
            attributes[own] = float(given)
    return call.emit(name, value, **attributes)


def _fused_gemm(call: Call) -> tuple[Value, ...]:
    names = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    attributes = {name: call.attribute(name, default) for name, default in names.items()}
    return (activate(call, call.emit("Gemm", *call.tensors(), **attributes)),)


def _embed_normalization(call: Call) -> tuple[Value, ...]:
    """com.microsoft EmbedLayerNormalization: word + position + segment embeddings, normalised."""
    if call.has_output(1) and call.has(7):
        raise call.fault("its mask index output is not supported; export the model without this fusion")
    ids, steps = call.value(0), call.shape(0)[1]
    total = call.emit("Gather", call.value(2), ids, axis=0)
    places = call.value(8) if call.has(8) else call.numbers(np.arange(steps)[None], "int64")
    total = call.emit("Add", total, call.emit("Gather", call.value(3), places, axis=0))
    if call.has(1) and call.has(4):
        total = call.emit("Add", total, call.emit("Gather", call.value(4), call.value(1), axis=0))
    y = call.emit(
        "LayerNormalization", total, call.value(5), call.value(6), axis=2, epsilon=call.attribute("epsilon", 1e-12)
    )
    return (y, call.assembly.fill((call.shape(0)[0],), 0, "int32") if call.has_output(1) else "", total)


FUSED_ROWS: Mapping[str, Normaliser] = {
    "Gelu": partial(_gelu, approximate="none"), "BiasGelu": partial(_gelu, approximate="none"),
    "FastGelu": partial(_gelu, approximate="tanh"), "QuickGelu": _quick_gelu,
    "SkipLayerNormalization": _skip_normalization, "SkipSimplifiedLayerNormalization": _skip_normalization,
    "LayerNormalization": _layer_normalization, "SimplifiedLayerNormalization": _rms_normalization,
    "BiasSplitGelu": _bias_split_gelu, "BiasAdd": _bias_add, "FusedGemm": _fused_gemm,
    "FusedMatMul": _fused_matmul, "TransposeMatMul": _fused_matmul,
    "EmbedLayerNormalization": _embed_normalization,
}  # fmt: skip
"""Ops of the domain com.microsoft, which ONNX Runtime's optimiser writes."""
