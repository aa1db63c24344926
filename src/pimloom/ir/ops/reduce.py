"""Reductions over axes, ArgMax and ArgMin, cumulative sums. Empty `axes` means all axes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import (
    NUMBERS,
    Attributes,
    accumulator,
    expect_dtype,
    normal_axes,
    normal_axis,
    present,
)
from pimloom.ir.ops.pool import lowest
from pimloom.ir.ops.table import REQUIRED, Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.types import TensorType

Reduction = Callable[[Array, tuple[int, ...]], Array]


def _axes(attributes: Attributes, rank: int) -> tuple[int, ...]:
    axes: Any = attributes["axes"]
    return normal_axes(axes, rank) if axes else tuple(range(rank))


def _reduced(shape: tuple[int, ...], axes: tuple[int, ...], *, keep: bool) -> tuple[int, ...]:
    if keep:
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def _reduce_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x = present(types, 0)
    expect_dtype(x, 0, NUMBERS | {"bool"})
    axes = _axes(attributes, x.rank)
    return (TensorType(x.dtype, _reduced(x.shape, axes, keep=bool(attributes["keepdims"]))),)


def _meaning(function: Reduction) -> Callable[..., tuple[Array, ...]]:
    def meaning(attributes: Attributes, x: Array) -> tuple[Array, ...]:
        axes = _axes(attributes, x.ndim)
        with np.errstate(all="ignore"):
            y = np.asarray(function(x, axes)).astype(x.dtype, copy=False)
        return (y.reshape(_reduced(x.shape, axes, keep=bool(attributes["keepdims"]))),)

    return meaning


def _sum(x: Array, axes: tuple[int, ...]) -> Array:
    return np.sum(x, axis=axes, dtype=accumulator(x))


def _mean(x: Array, axes: tuple[int, ...]) -> Array:
    total, count = _sum(x, axes), math.prod(x.shape[axis] for axis in axes)
    return total / np.float64(count)


def _max(x: Array, axes: tuple[int, ...]) -> Array:
    start = False if x.dtype.kind == "b" else lowest(x.dtype)
    return np.max(x, axis=axes, initial=start)


def _min(x: Array, axes: tuple[int, ...]) -> Array:
    highest = {"b": True, "f": np.inf}.get(x.dtype.kind)
    return np.min(x, axis=axes, initial=np.iinfo(x.dtype).max if highest is None else highest)


def _l1(x: Array, axes: tuple[int, ...]) -> Array:
    return _sum(np.abs(x), axes)


def _sum_square(x: Array, axes: tuple[int, ...]) -> Array:
    wide = x.astype(np.float64) if x.dtype.kind == "f" else x
    return np.sum(wide * wide, axis=axes)


def _log_sum_exp(x: Array, axes: tuple[int, ...]) -> Array:
    peak = np.max(x, axis=axes, keepdims=True, initial=-np.inf).astype(np.float64)
    peak = np.where(np.isfinite(peak), peak, 0.0)
    total = np.sum(np.exp(x - peak), axis=axes)
    return np.log(total) + peak.reshape(total.shape)


def _prod(x: Array, axes: tuple[int, ...]) -> Array:
    return np.prod(x, axis=axes, dtype=accumulator(x))


def _reduction(name: str, function: Reduction, rule: Rule, work: float = 1.0) -> Op:
    return Op(name, 1, 1, 1, _reduce_types, _meaning(function), rule, {"axes": (), "keepdims": 1}, work=work)


def _arg_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x = present(types, 0)
    expect_dtype(x, 0, NUMBERS)
    axis = normal_axis(attributes["axis"], x.rank)
    if x.shape[axis] == 0:
        raise ModelError(f"axis {axis} of {x} is empty: there is no element to choose")
    return (TensorType("int64", _reduced(x.shape, (axis,), keep=bool(attributes["keepdims"]))),)


def _arg(choose: Callable[..., Array]) -> Callable[..., tuple[Array, ...]]:
    def meaning(attributes: Attributes, x: Array) -> tuple[Array, ...]:
        axis = normal_axis(attributes["axis"], x.ndim)
        last = attributes["select_last_index"]
        found = x.shape[axis] - 1 - choose(np.flip(x, axis), axis=axis) if last else choose(x, axis=axis)
        return (np.asarray(found, np.int64).reshape(_reduced(x.shape, (axis,), keep=bool(attributes["keepdims"]))),)

    return meaning


def _scan_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x = present(types, 0)
    expect_dtype(x, 0, NUMBERS)
    normal_axis(attributes["axis"], x.rank)
    return (TensorType(x.dtype, x.shape),)


def _scan(accumulate: Callable[..., Array], start: int) -> Callable[..., tuple[Array, ...]]:
    def meaning(attributes: Attributes, x: Array) -> tuple[Array, ...]:
        axis = normal_axis(attributes["axis"], x.ndim)
        source = np.flip(x, axis) if attributes["reverse"] else x
        y = accumulate(source, axis=axis, dtype=accumulator(x)).astype(x.dtype)
        if attributes["exclusive"]:
            head = np.full((*x.shape[:axis], min(1, x.shape[axis]), *x.shape[axis + 1 :]), start, x.dtype)
            y = np.concatenate([head, np.delete(y, [-1] if y.shape[axis] else [], axis=axis)], axis=axis)
        return (np.flip(y, axis) if attributes["reverse"] else y,)

    return meaning


_ARG: dict[str, Any] = {"axis": 0, "keepdims": 1, "select_last_index": 0}
_SCAN: dict[str, Any] = {"axis": REQUIRED, "exclusive": 0, "reverse": 0}

add_rows(
    _reduction("ReduceSum", _sum, Rule.MEAN),
    _reduction("ReduceMean", _mean, Rule.MEAN),
    _reduction("ReduceMax", _max, Rule.MOVE),
    _reduction("ReduceMin", _min, Rule.MOVE),
    _reduction("ReduceProd", _prod, Rule.FLOAT),
    _reduction("ReduceL1", _l1, Rule.FLOAT, 2),
    _reduction("ReduceL2", lambda x, axes: np.sqrt(_sum_square(x, axes)), Rule.FLOAT, 2),
    _reduction("ReduceLogSum", lambda x, axes: np.log(_sum(x, axes)), Rule.FLOAT),
    _reduction("ReduceLogSumExp", _log_sum_exp, Rule.FLOAT, 5),
    _reduction("ReduceSumSquare", _sum_square, Rule.FLOAT, 2),
    Op("ArgMax", 1, 1, 1, _arg_types, _arg(np.argmax), Rule.FLOAT, _ARG),
    Op("ArgMin", 1, 1, 1, _arg_types, _arg(np.argmin), Rule.FLOAT, _ARG),
    Op("CumSum", 1, 1, 1, _scan_types, _scan(np.cumsum, 0), Rule.FLOAT, _SCAN),
    Op("CumProd", 1, 1, 1, _scan_types, _scan(np.cumprod, 1), Rule.FLOAT, _SCAN),
)
