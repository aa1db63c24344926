"""Pools: maximum, average and p-norm over a sliding window or over all spatial axes."""

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
    expect_rank,
    present,
    widened,
)
from pimloom.ir.ops.table import REQUIRED, Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.ops.windows import Window, entries_of, window_of
from pimloom.ir.types import TensorType

_ALL = slice(None)


def _pool_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x = present(types, 0)
    expect_dtype(x, 0, NUMBERS)
    expect_rank(x, 0, 3, 5)
    _, sizes = _geometry(attributes, x.shape[2:])
    return (TensorType(x.dtype, (*x.shape[:2], *sizes)),)


def _geometry(attributes: Attributes, spatial: tuple[int, ...]) -> tuple[Window, tuple[int, ...]]:
    kernel = entries_of(attributes, "kernel_shape", len(spatial))
    if not kernel:
        raise ModelError(f"attribute 'kernel_shape' is empty, {len(spatial)} entries expected")
    window = window_of(attributes, len(spatial), kernel)
    return window, window.output_sizes(spatial, ceil=bool(attributes["ceil_mode"]))


def lowest(dtype: np.dtype[Any]) -> Any:
    """The smallest value of an element type: what a maximum starts from."""
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def _max_pool(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    window, sizes = _geometry(attributes, x.shape[2:])
    padded = window.padded(x, sizes, lowest(x.dtype))
    y = np.full((*x.shape[:2], *sizes), lowest(x.dtype), x.dtype)
    for position in window.positions():
        np.maximum(y, padded[(_ALL, _ALL, *window.seen_by(position, sizes))], out=y)
    return (y,)


def average_counts(attributes: Attributes, spatial: tuple[int, ...]) -> Array:
    """How many elements each window of an AveragePool counts.

    Args:
        attributes: completed attributes of the pool.
        spatial: spatial sizes of the input.

    Returns:
        int64[*output spatial sizes], at least 1. Without `count_include_pad` padding does not count; what
        hangs over the padded input (ceil_mode) never counts.
    """
    window, sizes = _geometry(attributes, spatial)
    counts = np.ones((), np.int64)
    for axis, size in enumerate(spatial):
        places = np.arange(sizes[axis])[:, None] * window.strides[axis]
        places = places + np.arange(window.kernel[axis]) * window.dilations[axis] - window.before[axis]
        low, high = (-window.before[axis], size + window.after[axis]) if attributes["count_include_pad"] else (0, size)
        counts = counts[..., None] * np.sum((places >= low) & (places < high), axis=1)
    return np.maximum(counts, 1)


def _window_sum(x: Array, window: Window, sizes: tuple[int, ...]) -> Array:
    padded = window.padded(x, sizes, 0)
    y = np.zeros((*x.shape[:2], *sizes), x.dtype)
    for position in window.positions():
        y += padded[(_ALL, _ALL, *window.seen_by(position, sizes))]
    return y


def _average_pool(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    window, sizes = _geometry(attributes, x.shape[2:])
    sums = _window_sum(widened(x), window, sizes)
    return ((sums / average_counts(attributes, x.shape[2:])).astype(x.dtype, copy=False),)


def _lp_pool(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    window, sizes = _geometry(attributes, x.shape[2:])
    p: Any = attributes["p"]
    sums = _window_sum(np.abs(widened(x)) ** p, window, sizes)
    return ((sums ** (1.0 / p)).astype(x.dtype, copy=False),)


def _global_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x = present(types, 0)
    expect_dtype(x, 0, NUMBERS)
    expect_rank(x, 0, 3)
    return (TensorType(x.dtype, (*x.shape[:2], *(1,) * (x.rank - 2))),)


def _global(function: Callable[[Attributes, Array, tuple[int, ...]], Array]) -> Callable[..., tuple[Array, ...]]:
    def meaning(attributes: Attributes, x: Array) -> tuple[Array, ...]:
        return (function(attributes, x, tuple(range(2, x.ndim))).astype(x.dtype, copy=False),)

    return meaning


def _global_average(attributes: Attributes, x: Array, axes: tuple[int, ...]) -> Array:
    sums = np.sum(x, axis=axes, keepdims=True, dtype=accumulator(x))
    return sums / max(1, math.prod(x.shape[2:]))


def _global_max(attributes: Attributes, x: Array, axes: tuple[int, ...]) -> Array:
    return np.max(x, axis=axes, keepdims=True, initial=lowest(x.dtype))


def _global_lp(attributes: Attributes, x: Array, axes: tuple[int, ...]) -> Array:
    p: Any = attributes["p"]
    return np.sum(np.abs(x).astype(np.float64) ** p, axis=axes, keepdims=True) ** (1.0 / p)


_WINDOW: dict[str, Any] = {"kernel_shape": REQUIRED, "strides": (), "pads": (), "dilations": (), "ceil_mode": 0}

add_rows(
    Op("MaxPool", 1, 1, 1, _pool_types, _max_pool, Rule.MOVE, _WINDOW),
    Op("AveragePool", 1, 1, 1, _pool_types, _average_pool, Rule.MEAN, {**_WINDOW, "count_include_pad": 0}),
    Op("LpPool", 1, 1, 1, _pool_types, _lp_pool, Rule.FLOAT, {**_WINDOW, "p": 2}, work=2.0),
    Op("GlobalMaxPool", 1, 1, 1, _global_types, _global(_global_max), Rule.MOVE),
    Op("GlobalAveragePool", 1, 1, 1, _global_types, _global(_global_average), Rule.MEAN),
    Op("GlobalLpPool", 1, 1, 1, _global_types, _global(_global_lp), Rule.FLOAT, {"p": 2}, work=2.0),
)
