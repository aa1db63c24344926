"""Choosing elements by index or condition: Gather, Scatter, Where, TopK, Trilu, OneHot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import (
    ANYTHING,
    BOOLEAN,
    INDICES,
    NUMBERS,
    Attributes,
    broadcast_shapes,
    expect_dtype,
    expect_one_dtype,
    expect_rank,
    normal_axis,
    present,
)
from pimloom.ir.ops.table import REQUIRED, Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.types import TensorType

Types = tuple[TensorType, ...]

_REDUCTIONS: dict[str, Callable[..., None]] = {
    "add": np.add.at,
    "mul": np.multiply.at,
    "max": np.maximum.at,
    "min": np.minimum.at,
}


def _axis(attributes: Attributes, rank: int) -> int:
    return normal_axis(attributes["axis"], rank)


def counted_from_front(indices: Array, size: int, axis: int) -> Array:
    """Indices as int64 in 0..size-1, negative ones counted from the end; ModelError if one is out of range."""
    wide = indices.astype(np.int64)
    if wide.size and (int(wide.min()) < -size or int(wide.max()) >= size):
        worst = wide.min() if int(wide.min()) < -size else wide.max()
        raise ModelError(f"index {worst} is out of range: {-size}..{size - 1} expected on axis {axis}")
    return np.where(wide < 0, wide + size, wide)


def _gather_types(attributes: Attributes, types: InputTypes) -> Types:
    x, indices = present(types, 0), present(types, 1)
    expect_dtype(indices, 1, INDICES)
    axis = _axis(attributes, x.rank)
    return (TensorType(x.dtype, x.shape[:axis] + indices.shape + x.shape[axis + 1 :]),)


def _gather(attributes: Attributes, x: Array, indices: Array) -> tuple[Array, ...]:
    axis = _axis(attributes, x.ndim)
    return (np.asarray(np.take(x, counted_from_front(indices, x.shape[axis], axis), axis=axis)),)


def _gather_elements_types(attributes: Attributes, types: InputTypes) -> Types:
    x, indices = present(types, 0), present(types, 1)
    expect_dtype(indices, 1, INDICES)
    _expect_within(x, indices, _axis(attributes, x.rank))
    return (TensorType(x.dtype, indices.shape),)


def _expect_within(x: TensorType, indices: TensorType, axis: int) -> None:
    """Indices must have x's rank and be no larger than x on every axis but `axis`."""
    expect_rank(indices, 1, x.rank, x.rank)
    for place, (n, size) in enumerate(zip(indices.shape, x.shape, strict=True)):
        if place != axis and n > size:
            raise ModelError(
                f"input 1 (indices) is {indices}: at most {size} elements expected on axis {place} (input 0 is {x})"
            )


def _places(indices: Array, axis: int, size: int) -> tuple[Array, ...]:
    grid: list[Array] = list(np.ix_(*(np.arange(n) for n in indices.shape)))
    grid[axis] = counted_from_front(indices, size, axis)
    return tuple(grid)


def _gather_elements(attributes: Attributes, x: Array, indices: Array) -> tuple[Array, ...]:
    axis = _axis(attributes, x.ndim)
    return (x[_places(indices, axis, x.shape[axis])],)


def _gather_nd_types(attributes: Attributes, types: InputTypes) -> Types:
    x, indices = present(types, 0), present(types, 1)
    expect_dtype(indices, 1, INDICES)
    expect_rank(indices, 1, 1)
    expect_rank(x, 0, 1)
    batch: Any = attributes["batch_dims"]
    depth = indices.shape[-1]
    if not 0 <= batch < min(x.rank, indices.rank) or x.shape[:batch] != indices.shape[:batch]:
        raise ModelError(f"inputs {x} and {indices} do not share their first {batch} axes (batch_dims)")
    if not 1 <= depth <= x.rank - batch:
        raise ModelError(
            f"input 1 (indices) is {indices}: a last axis of 1 to {x.rank - batch} expected (input 0 is {x})"
        )
    return (TensorType(x.dtype, indices.shape[:-1] + x.shape[batch + depth :]),)


def _gather_nd(attributes: Attributes, x: Array, indices: Array) -> tuple[Array, ...]:
    batch: Any = attributes["batch_dims"]
    lead: tuple[Array, ...] = ()
    if batch:
        grid: tuple[Array, ...] = np.ix_(*(np.arange(n) for n in indices.shape[:batch]))
        lead = tuple(g.reshape(*g.shape, *(1,) * (indices.ndim - 1 - batch)) for g in grid)
    found = tuple(counted_from_front(indices[..., i], x.shape[batch + i], batch + i) for i in range(indices.shape[-1]))
    return (np.asarray(x[lead + found]),)


def _expect_reduction(attributes: Attributes) -> None:
    if attributes["reduction"] not in ("none", *_REDUCTIONS):
        raise ModelError(f"attribute 'reduction' is '{attributes['reduction']}'; known: none, {', '.join(_REDUCTIONS)}")


def _scatter(attributes: Attributes, x: Array, places: tuple[Array, ...], updates: Array) -> tuple[Array, ...]:
    y = x.copy()
    if attributes["reduction"] == "none":
        y[places] = updates
    else:
        _REDUCTIONS[str(attributes["reduction"])](y, places, updates)
    return (y,)


def _scatter_elements_types(attributes: Attributes, types: InputTypes) -> Types:
    x, indices, updates = present(types, 0), present(types, 1), present(types, 2)
    expect_dtype(indices, 1, INDICES)
    expect_one_dtype((x, updates))
    _expect_reduction(attributes)
    _expect_within(x, indices, _axis(attributes, x.rank))
    if updates.shape != indices.shape:
        raise ModelError(f"input 2 (updates) is {updates}: shape {list(indices.shape)} expected, as the indices have")
    return (TensorType(x.dtype, x.shape),)


def _scatter_elements(attributes: Attributes, x: Array, indices: Array, updates: Array) -> tuple[Array, ...]:
    axis = _axis(attributes, x.ndim)
    return _scatter(attributes, x, _places(indices, axis, x.shape[axis]), updates)


def _scatter_nd_types(attributes: Attributes, types: InputTypes) -> Types:
    x, indices, updates = present(types, 0), present(types, 1), present(types, 2)
    expect_dtype(indices, 1, INDICES)
    expect_one_dtype((x, updates))
    expect_rank(indices, 1, 1)
    _expect_reduction(attributes)
    depth = indices.shape[-1]
    if not 1 <= depth <= x.rank:
        raise ModelError(f"input 1 (indices) is {indices}: a last axis of 1 to {x.rank} expected (input 0 is {x})")
    expected = indices.shape[:-1] + x.shape[depth:]
    if updates.shape != expected:
        raise ModelError(f"input 2 (updates) is {updates}: shape {list(expected)} expected")
    return (TensorType(x.dtype, x.shape),)


def _scatter_nd(attributes: Attributes, x: Array, indices: Array, updates: Array) -> tuple[Array, ...]:
    places = tuple(counted_from_front(indices[..., i], x.shape[i], i) for i in range(indices.shape[-1]))
    return _scatter(attributes, x, places, updates)


def _where_types(attributes: Attributes, types: InputTypes) -> Types:
    condition, a, b = present(types, 0), present(types, 1), present(types, 2)
    expect_dtype(condition, 0, BOOLEAN)
    return (TensorType(expect_one_dtype((a, b)), broadcast_shapes(condition.shape, a.shape, b.shape)),)


def _where(attributes: Attributes, condition: Array, a: Array, b: Array) -> tuple[Array, ...]:
    return (np.where(condition, a, b),)


def _top_k_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    expect_dtype(x, 0, NUMBERS)
    axis = _axis(attributes, x.rank)
    k: Any = attributes["k"]
    if not 0 <= k <= x.shape[axis]:
        raise ModelError(f"attribute 'k' is {k}: 0 to {x.shape[axis]} expected (axis {axis} of {x})")
    shape = (*x.shape[:axis], k, *x.shape[axis + 1 :])
    return TensorType(x.dtype, shape), TensorType("int64", shape)


def _top_k(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    """Of equal elements the one with the lower index comes first, whichever end is wanted."""
    axis = _axis(attributes, x.ndim)
    if attributes["largest"]:
        order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    k: Any = attributes["k"]
    chosen = np.take(order, np.arange(int(k)), axis=axis).astype(np.int64)
    return np.take_along_axis(x, chosen, axis), chosen


def _trilu_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    expect_rank(x, 0, 2)
    return (TensorType(x.dtype, x.shape),)


def _trilu(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    k: Any = attributes["k"]
    return (np.triu(x, k) if attributes["upper"] else np.tril(x, k),)


def _one_hot_types(attributes: Attributes, types: InputTypes) -> Types:
    indices, values = present(types, 0), present(types, 1)
    expect_dtype(indices, 0, NUMBERS)
    expect_dtype(values, 1, ANYTHING)
    depth: Any = attributes["depth"]
    if values.shape != (2,) or depth < 1:
        raise ModelError(
            f"input 1 (off, on) is {values} and depth {depth}: shape [2] and a depth of 1 or more expected"
        )
    axis = _axis(attributes, indices.rank + 1)
    return (TensorType(values.dtype, (*indices.shape[:axis], depth, *indices.shape[axis:])),)


def _one_hot(attributes: Attributes, indices: Array, values: Array) -> tuple[Array, ...]:
    """An index outside -depth..depth-1 turns no element on."""
    depth: Any = attributes["depth"]
    axis = _axis(attributes, indices.ndim + 1)
    wide = indices.astype(np.int64)
    wide = np.where(wide < 0, wide + depth, wide)
    steps: Array = np.arange(int(depth)).reshape(-1, *(1,) * (indices.ndim - axis))
    is_on: Array = np.expand_dims(wide, axis) == steps
    return (values[is_on.astype(np.int64)],)


_SCATTER: dict[str, Any] = {"reduction": "none"}

add_rows(
    Op("Gather", 2, 2, 1, _gather_types, _gather, Rule.MOVE, {"axis": 0}),
    Op("GatherElements", 2, 2, 1, _gather_elements_types, _gather_elements, Rule.MOVE, {"axis": 0}),
    Op("GatherND", 2, 2, 1, _gather_nd_types, _gather_nd, Rule.MOVE, {"batch_dims": 0}),
    Op("ScatterElements", 3, 3, 1, _scatter_elements_types, _scatter_elements, Rule.FLOAT, {**_SCATTER, "axis": 0}),
    Op("ScatterND", 3, 3, 1, _scatter_nd_types, _scatter_nd, Rule.FLOAT, _SCATTER),
    Op("Where", 3, 3, 1, _where_types, _where, Rule.FLOAT),
    Op(
        "TopK",
        1,
        1,
        2,
        _top_k_types,
        _top_k,
        Rule.FLOAT,
        {"k": REQUIRED, "axis": -1, "largest": 1, "sorted": 1},
        work=8.0,
    ),
    Op("Trilu", 1, 1, 1, _trilu_types, _trilu, Rule.FLOAT, {"upper": 1, "k": 0}),
    Op("OneHot", 2, 2, 1, _one_hot_types, _one_hot, Rule.FLOAT, {"axis": -1, "depth": REQUIRED}),
)
