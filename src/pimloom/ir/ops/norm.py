"""Normalisations and softmax. Statistics are summed in float64, results are in the input's type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import (
    FLOATS,
    Attributes,
    expect_broadcast_to,
    expect_dtype,
    expect_one_dtype,
    expect_rank,
    expect_shape,
    given,
    normal_axes,
    normal_axis,
    present,
)
from pimloom.ir.ops.table import REQUIRED, Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.types import TensorType

Types = tuple[TensorType, ...]


def _axis(attributes: Attributes, rank: int) -> int:
    return normal_axis(attributes["axis"], rank)


def _along_axis_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    expect_dtype(x, 0, FLOATS)
    _axis(attributes, x.rank)
    return (TensorType(x.dtype, x.shape),)


def _shifted(x: Array, axis: int) -> Array:
    wide = x.astype(np.float32) if x.dtype == np.float16 else x
    return wide - np.max(wide, axis=axis, keepdims=True, initial=-np.inf)


def _softmax(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    axis = _axis(attributes, x.ndim)
    with np.errstate(all="ignore"):
        powers = np.exp(_shifted(x, axis))
        return ((powers / np.sum(powers, axis=axis, keepdims=True)).astype(x.dtype, copy=False),)


def _log_softmax(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    axis = _axis(attributes, x.ndim)
    with np.errstate(all="ignore"):
        shifted = _shifted(x, axis)
        y = shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))
    return (y.astype(x.dtype, copy=False),)


def _hardmax(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    axis = _axis(attributes, x.ndim)
    y = np.zeros_like(x)
    if x.size:
        np.put_along_axis(y, np.expand_dims(np.argmax(x, axis=axis), axis), 1, axis)
    return (y,)


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    """The mean over `axes` in float64; of no elements, nan without a warning."""
    count = math.prod(x.shape[axis] for axis in axes)
    return np.asarray(np.sum(x, axis=axes, keepdims=True, dtype=np.float64)) / np.float64(count)


def _normalised(x: Array, axes: tuple[int, ...], epsilon: Any) -> Array:
    """(x - mean) / sqrt(variance + epsilon) over `axes`, in float64."""
    centred = x - _mean(x, axes)
    variance = _mean(centred * centred, axes)
    return centred / np.sqrt(variance + epsilon)


def _tail_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    expect_dtype(x, 0, FLOATS)
    dtype = expect_one_dtype(types)
    tail = x.shape[_axis(attributes, x.rank) :]
    expect_broadcast_to(present(types, 1), 1, "scale", tail)
    expect_broadcast_to(given(types, 2), 2, "bias", tail)
    return (TensorType(dtype, x.shape),)


def _layer_norm(attributes: Attributes, x: Array, scale: Array, bias: Array | None = None) -> tuple[Array, ...]:
    axes = tuple(range(_axis(attributes, x.ndim), x.ndim))
    with np.errstate(all="ignore"):
        y = _normalised(x, axes, attributes["epsilon"]) * scale
    return ((y if bias is None else y + bias).astype(x.dtype),)


def _rms_norm(attributes: Attributes, x: Array, scale: Array) -> tuple[Array, ...]:
    axes = tuple(range(_axis(attributes, x.ndim), x.ndim))
    wide = x.astype(np.float64)
    with np.errstate(all="ignore"):
        mean_square = _mean(wide * wide, axes)
        y = wide / np.sqrt(mean_square + attributes["epsilon"]) * scale
    return (y.astype(x.dtype),)


def _channel_types(attributes: Attributes, types: InputTypes) -> Types:
    """Scale, bias and further inputs hold one element per channel (axis 1)."""
    x = present(types, 0)
    expect_dtype(x, 0, FLOATS)
    expect_rank(x, 0, 2)
    dtype = expect_one_dtype(types)
    for place, what in enumerate(("scale", "bias", "mean", "variance")[: len(types) - 1], 1):
        expect_shape(present(types, place), place, what, x.shape[1:2])
    return (TensorType(dtype, x.shape),)


def _per_channel(values: Array, rank: int) -> Array:
    return values.reshape(-1, *(1,) * (rank - 2))


def _batch_norm(
    attributes: Attributes, x: Array, scale: Array, bias: Array, mean: Array, variance: Array
) -> tuple[Array, ...]:
    epsilon: Any = attributes["epsilon"]
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance.astype(np.float64) + epsilon)
        shift = bias - mean * factor
        kind = np.float32 if x.dtype == np.float16 else x.dtype
        y = x * _per_channel(factor.astype(kind), x.ndim) + _per_channel(shift.astype(kind), x.ndim)
    return (y.astype(x.dtype, copy=False),)


def _instance_types(attributes: Attributes, types: InputTypes) -> Types:
    expect_rank(present(types, 0), 0, 3)
    return _channel_types(attributes, types)


def _instance_norm(attributes: Attributes, x: Array, scale: Array, bias: Array) -> tuple[Array, ...]:
    with np.errstate(all="ignore"):
        y = _normalised(x, tuple(range(2, x.ndim)), attributes["epsilon"])
    return ((y * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)).astype(x.dtype),)


def _group_types(attributes: Attributes, types: InputTypes) -> Types:
    outputs = _channel_types(attributes, types)
    groups: Any = attributes["num_groups"]
    channels = outputs[0].shape[1]
    if groups < 1 or channels % groups:
        raise ModelError(f"{channels} channels cannot be divided into {groups} groups; a divisor expected")
    return outputs


def _group_norm(attributes: Attributes, x: Array, scale: Array, bias: Array) -> tuple[Array, ...]:
    groups: Any = attributes["num_groups"]
    with np.errstate(all="ignore"):
        rows = x.reshape(x.shape[0], groups, math.prod(x.shape[1:]) // groups)
        y = _normalised(rows, (2,), attributes["epsilon"]).reshape(x.shape)
    return ((y * _per_channel(scale, x.ndim) + _per_channel(bias, x.ndim)).astype(x.dtype),)


def _lp_types(attributes: Attributes, types: InputTypes) -> Types:
    if attributes["p"] not in (1, 2):
        raise ModelError(f"attribute 'p' is {attributes['p']}, 1 or 2 expected")
    return _along_axis_types(attributes, types)


def _lp_norm(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    axis, wide = _axis(attributes, x.ndim), x.astype(np.float64)
    sums = np.sum(np.abs(wide) if attributes["p"] == 1 else wide * wide, axis=axis, keepdims=True)
    length = sums if attributes["p"] == 1 else np.sqrt(sums)
    return ((wide / np.where(length == 0, 1.0, length)).astype(x.dtype),)


def _mvn_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    expect_dtype(x, 0, FLOATS)
    normal_axes(attributes["axes"], x.rank)
    return (TensorType(x.dtype, x.shape),)


def _mvn(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    axes = normal_axes(attributes["axes"], x.ndim)
    with np.errstate(all="ignore"):
        centred = x - _mean(x, axes)
        deviation = np.sqrt(_mean(centred * centred, axes))
    return ((centred / (deviation + 1e-9)).astype(x.dtype),)


def _lrn_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    expect_dtype(x, 0, FLOATS)
    expect_rank(x, 0, 3)
    return (TensorType(x.dtype, x.shape),)


def _lrn(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    size: Any = attributes["size"]
    alpha: Any = attributes["alpha"]
    before = (size - 1) // 2
    channels = x.shape[1]
    squares = np.zeros((x.shape[0], channels + size - 1, *x.shape[2:]))
    squares[:, before : before + channels] = x.astype(np.float64) ** 2
    sums = np.zeros(x.shape)
    for offset in range(size):
        sums += squares[:, offset : offset + channels]
    return ((x / (attributes["bias"] + alpha / size * sums) ** attributes["beta"]).astype(x.dtype),)


add_rows(
    Op("Softmax", 1, 1, 1, _along_axis_types, _softmax, Rule.ROW, {"axis": -1}, work=7.0),
    Op("LogSoftmax", 1, 1, 1, _along_axis_types, _log_softmax, Rule.ROW, {"axis": -1}, work=7.0),
    Op("Hardmax", 1, 1, 1, _along_axis_types, _hardmax, Rule.FLOAT, {"axis": -1}),
    Op("LayerNormalization", 2, 3, 1, _tail_types, _layer_norm, Rule.ROW, {"axis": -1, "epsilon": 1e-5}, work=7.0),
    Op("RMSNormalization", 2, 2, 1, _tail_types, _rms_norm, Rule.ROW, {"axis": -1, "epsilon": 1e-5}, work=4.0),
    Op("BatchNormalization", 5, 5, 1, _channel_types, _batch_norm, Rule.FLOAT, {"epsilon": 1e-5}, work=2.0),
    Op("InstanceNormalization", 3, 3, 1, _instance_types, _instance_norm, Rule.ROW, {"epsilon": 1e-5}, work=7.0),
    Op(
        "GroupNormalization", 3, 3, 1, _group_types, _group_norm, Rule.ROW,
        {"num_groups": REQUIRED, "epsilon": 1e-5}, work=7.0,
    ),
    Op("LpNormalization", 1, 1, 1, _lp_types, _lp_norm, Rule.FLOAT, {"axis": -1, "p": 2}, work=3.0),
    Op("MeanVarianceNormalization", 1, 1, 1, _mvn_types, _mvn, Rule.FLOAT, {"axes": (0, 2, 3)}, work=5.0),
    Op(
        "LRN", 1, 1, 1, _lrn_types, _lrn, Rule.FLOAT,
        {"size": REQUIRED, "alpha": 0.0001, "beta": 0.75, "bias": 1.0}, work=12.0,
    ),
)  # fmt: skip
