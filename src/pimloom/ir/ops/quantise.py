"""QuantizeLinear and DequantizeLinear as nodes of a float graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import (
    FLOATS,
    INTEGERS,
    Attributes,
    expect_dtype,
    given,
    normal_axis,
    present,
)
from pimloom.ir.ops.table import Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.types import TensorType


def _check_scale(attributes: Attributes, x: TensorType, scale: TensorType, zero: TensorType | None) -> None:
    """The scale is one number, one per index of `axis`, or one per block of `axis`."""
    expect_dtype(scale, 1, FLOATS)
    if zero is not None and zero.shape != scale.shape:
        raise ModelError(f"input 2 (zero point) is {zero}: the shape of the scale {list(scale.shape)} expected")
    if scale.shape in ((), (1,)):
        return
    axis = normal_axis(attributes["axis"], x.rank)
    block: Any = attributes["block_size"]
    blocked = (*x.shape[:axis], -(-x.shape[axis] // max(1, block)), *x.shape[axis + 1 :])
    expected = blocked if block else (x.shape[axis],)
    if scale.shape != expected:
        raise ModelError(f"input 1 (scale) is {scale}: one number or shape {list(expected)} expected (input 0 is {x})")


def _spread(attributes: Attributes, values: Array, shape: tuple[int, ...]) -> Array:
    """Scales or zero points in a shape that broadcasts against the input."""
    if values.size == 1:
        return values.reshape(())
    axis = normal_axis(attributes["axis"], len(shape))
    if attributes["block_size"]:
        repeated = np.repeat(values, attributes["block_size"], axis=axis)
        return repeated[(*(slice(None),) * axis, slice(shape[axis]))]
    return values.reshape(-1, *(1,) * (len(shape) - 1 - axis))


def _quantize_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x, scale, zero = present(types, 0), present(types, 1), given(types, 2)
    expect_dtype(x, 0, FLOATS | {"int32"})
    _check_scale(attributes, x, scale, zero)
    stated = str(attributes["output_dtype"])
    if stated and zero is not None and stated != zero.dtype:
        raise ModelError(f"attribute 'output_dtype' is '{stated}', the zero point is {zero}; equal types expected")
    dtype = zero.dtype if zero is not None else stated or "uint8"
    if dtype not in INTEGERS:
        raise ModelError(f"codes of type '{dtype}' are not supported; an integer type expected")
    return (TensorType(dtype, x.shape),)


def _quantize(attributes: Attributes, x: Array, scale: Array, zero: Array | None = None) -> tuple[Array, ...]:
    dtype = np.dtype(zero.dtype if zero is not None else str(attributes["output_dtype"]) or "uint8")
    shift = 0 if zero is None else _spread(attributes, zero, x.shape).astype(np.float64)
    info = np.iinfo(dtype)
    with np.errstate(all="ignore"):
        codes = np.rint(x / _spread(attributes, scale, x.shape)).astype(np.float64) + shift
        return (np.clip(np.nan_to_num(codes, nan=0.0), info.min, info.max).astype(dtype),)


def _dequantize_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x, scale, zero = present(types, 0), present(types, 1), given(types, 2)
    expect_dtype(x, 0, INTEGERS)
    _check_scale(attributes, x, scale, zero)
    if zero is not None and zero.dtype != x.dtype:
        raise ModelError(f"input 2 (zero point) is {zero}: the type of input 0 ({x}) expected")
    return (TensorType(scale.dtype, x.shape),)


def _dequantize(attributes: Attributes, x: Array, scale: Array, zero: Array | None = None) -> tuple[Array, ...]:
    shift = 0 if zero is None else _spread(attributes, zero, x.shape).astype(np.int64)
    centred = x.astype(np.int64) - shift
    factor = _spread(attributes, scale, x.shape)
    return ((centred.astype(np.result_type(scale.dtype, np.float32)) * factor).astype(scale.dtype),)


add_rows(
    Op(
        "QuantizeLinear", 2, 3, 1, _quantize_types, _quantize, Rule.FLOAT,
        {"axis": 1, "block_size": 0, "output_dtype": ""}, work=3.0,
    ),
    Op(
        "DequantizeLinear", 2, 3, 1, _dequantize_types, _dequantize, Rule.FLOAT,
        {"axis": 1, "block_size": 0}, work=2.0,
    ),
)  # fmt: skip
