"""Interpolation: Resize and GridSample, axis by axis, as sums over a few taps."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import (
    FLOATS,
    NUMBERS,
    Attributes,
    expect_dtype,
    expect_rank,
    present,
    widened,
)
from pimloom.ir.ops.table import REQUIRED, Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.types import TensorType

COORDINATE_MODES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize",
)  # fmt: skip
NEAREST_MODES = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
RESIZE_MODES = ("nearest", "linear", "cubic")
SAMPLE_MODES = ("linear", "nearest", "cubic")
PADDING_MODES = ("zeros", "border", "reflection")


def _expect_one_of(attributes: Attributes, name: str, known: tuple[str, ...]) -> None:
    if attributes[name] not in known:
        raise ModelError(f"attribute '{name}' is '{attributes[name]}'; known: {', '.join(known)}")


def _resize_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x = present(types, 0)
    expect_dtype(x, 0, NUMBERS)
    _expect_one_of(attributes, "mode", RESIZE_MODES)
    _expect_one_of(attributes, "coordinate_transformation_mode", COORDINATE_MODES)
    _expect_one_of(attributes, "nearest_mode", NEAREST_MODES)
    sizes: Any = attributes["sizes"]
    scales: Any = attributes["scales"]
    roi: Any = attributes["roi"]
    if len(sizes) != x.rank or min(sizes, default=0) < 0:
        raise ModelError(f"attribute 'sizes' is {list(sizes)}, {x.rank} sizes expected (input is {x})")
    if scales and (len(scales) != x.rank or min(scales) <= 0):
        raise ModelError(f"attribute 'scales' is {list(scales)}, {x.rank} positive numbers expected (input is {x})")
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize" and len(roi) != 2 * x.rank:
        raise ModelError(f"attribute 'roi' has {len(roi)} entries, {2 * x.rank} expected for tf_crop_and_resize")
    if x.size == 0 and math.prod(sizes):
        raise ModelError(f"input {x} is empty: there is nothing to resize to {list(sizes)}")
    return (TensorType(x.dtype, tuple(sizes)),)


def source_coordinates(attributes: Attributes, axis: int, size: int, wanted: int) -> Array:
    """Where on an axis of `size` elements each of `wanted` output elements lies: float32[wanted].

    float32 arithmetic in this order, as ONNX Runtime does it: a nearest neighbour at a tie depends on it.
    """
    scales: Any = attributes["scales"]
    scale = np.float32(scales[axis]) if scales else np.float32(wanted) / np.float32(size)
    place = np.arange(wanted, dtype=np.float32)
    half = np.float32(0.5)
    match attributes["coordinate_transformation_mode"]:
        case "asymmetric":
            return place / scale
        case "align_corners":
            return place * np.float32(size - 1) / np.float32(max(1, wanted - 1))
        case "pytorch_half_pixel" if wanted <= 1:
            return np.zeros(wanted, np.float32)
        case "half_pixel_symmetric":
            adjustment = np.float32(wanted) / (scale * np.float32(size))
            centre = np.float32(size) / 2
            return centre * (1 - adjustment) + (place + half) / scale - half
        case "tf_crop_and_resize":
            return _cropped_coordinates(attributes, axis, size, wanted)
        case _:
            return (place + half) / scale - half


def _cropped_coordinates(attributes: Attributes, axis: int, size: int, wanted: int) -> Array:
    roi: Any = attributes["roi"]
    start, end = np.float32(roi[axis]), np.float32(roi[axis + len(roi) // 2])
    reach = np.float32(size - 1)
    if wanted <= 1:
        return np.full(wanted, np.float32(0.5) * (start + end) * reach)
    return start * reach + np.arange(wanted, dtype=np.float32) * (end - start) * reach / np.float32(wanted - 1)


def nearest_index(attributes: Attributes, coordinates: Array, size: int) -> Array:
    """The source element that each coordinate takes, clamped to 0..size-1: int64[n]."""
    match attributes["nearest_mode"]:
        case "round_prefer_floor":
            chosen = np.ceil(coordinates - np.float32(0.5))
        case "round_prefer_ceil":
            chosen = np.floor(coordinates + np.float32(0.5))
        case "floor":
            chosen = np.floor(coordinates)
        case _:
            chosen = np.ceil(coordinates)
    return np.clip(chosen.astype(np.int64), 0, size - 1)


def _cubic_weights(fraction: Array, a: float) -> list[Array]:
    """Weights of the four elements at -1, 0, 1, 2 around a place (Keys' kernel with parameter a)."""
    near = [((a + 2) * t - (a + 3)) * t * t + 1 for t in (fraction, 1 - fraction)]
    far = [((a * t - 5 * a) * t + 8 * a) * t - 4 * a for t in (1 + fraction, 2 - fraction)]
    return [far[0], near[0], near[1], far[1]]


def _taps(attributes: Attributes, coordinates: Array, size: int) -> list[tuple[Array, Array]]:
    """(index, weight) of each tap along one axis."""
    if attributes["mode"] == "nearest":
        return [(nearest_index(attributes, coordinates, size), np.ones(len(coordinates), np.float32))]
    if attributes["mode"] == "linear":
        inside = np.clip(coordinates, 0, size - 1)
        base = np.floor(inside)
        fraction = inside - base
        index = base.astype(np.int64)
        return [(index, 1 - fraction), (np.minimum(index + 1, size - 1), fraction)]
    base = np.floor(coordinates)
    weights = _cubic_weights(coordinates - base, attributes["cubic_coeff_a"])
    indices = [base.astype(np.int64) + offset for offset in (-1, 0, 1, 2)]
    if attributes["exclude_outside"]:
        weights = [w * ((i >= 0) & (i < size)) for i, w in zip(indices, weights, strict=True)]
        total = sum(weights)
        weights = [w / total for w in weights]
    return [(np.clip(i, 0, size - 1), w) for i, w in zip(indices, weights, strict=True)]


def _resize(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    sizes: Any = attributes["sizes"]
    y = widened(x) if attributes["mode"] == "nearest" or x.dtype.kind == "f" else x.astype(np.float64)
    cropped = attributes["coordinate_transformation_mode"] == "tf_crop_and_resize"
    outside = np.zeros(tuple(sizes), np.bool_)
    for axis, (size, wanted) in enumerate(zip(x.shape, sizes, strict=True)):
        coordinates = source_coordinates(attributes, axis, size, wanted)
        if size == wanted and np.array_equal(coordinates, np.arange(int(size))):
            continue
        if cropped:
            beyond = (coordinates < 0) | (coordinates > size - 1)
            outside |= beyond.reshape(-1, *(1,) * (x.ndim - 1 - axis))
        y = _along_axis(attributes, y, axis, _taps(attributes, coordinates, size))
    if outside.any():
        y = np.where(outside, np.asarray(attributes["extrapolation_value"], y.dtype), y)
    return (y.astype(x.dtype, copy=False),)


def _along_axis(attributes: Attributes, x: Array, axis: int, taps: list[tuple[Array, Array]]) -> Array:
    if attributes["mode"] == "nearest":
        return np.take(x, taps[0][0], axis=axis)
    shape = (-1, *(1,) * (x.ndim - 1 - axis))
    return sum(np.take(x, i, axis=axis) * w.astype(x.dtype).reshape(shape) for i, w in taps)  # pyright: ignore[reportReturnType]


def _grid_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x, grid = present(types, 0), present(types, 1)
    expect_dtype(x, 0, NUMBERS)
    expect_dtype(grid, 1, FLOATS)
    expect_rank(x, 0, 4, 5)
    expect_rank(grid, 1, x.rank, x.rank)
    _expect_one_of(attributes, "mode", SAMPLE_MODES)
    _expect_one_of(attributes, "padding_mode", PADDING_MODES)
    if grid.shape[0] != x.shape[0] or grid.shape[-1] != x.rank - 2:
        raise ModelError(
            f"input 1 (grid) is {grid}: {x.shape[0]} first and {x.rank - 2} last expected (input 0 is {x})"
        )
    return (TensorType(x.dtype, (*x.shape[:2], *grid.shape[1:-1])),)


def _reflected(place: Array, size: int, *, corners: bool) -> Array:
    """Folds places back into an axis at its first and last element (corners) or at their outer edges."""
    low, span = (0.0, size - 1.0) if corners else (-0.5, float(size))
    if span == 0:
        return np.zeros_like(place)
    offset = np.abs(place - low) % (2 * span)
    return low + np.where(offset > span, 2 * span - offset, offset)


def _sample_places(attributes: Attributes, place: Array, size: int) -> Array:
    """Places brought inside as the padding mode says; zeros leaves them outside."""
    match attributes["padding_mode"]:
        case "border":
            return np.clip(place, 0, size - 1)
        case "reflection":
            return np.clip(_reflected(place, size, corners=bool(attributes["align_corners"])), 0, size - 1)
        case _:
            return place


def _sample_taps(attributes: Attributes, place: Array, size: int) -> list[tuple[Array, Array]]:
    """(index, weight) of the taps along one axis; an index outside stays outside and counts as zero."""
    if attributes["mode"] == "nearest":
        return [(_sample_places(attributes, np.rint(place), size), np.ones_like(place))]
    if attributes["mode"] == "linear":
        place = _sample_places(attributes, place, size)
        base = np.floor(place)
        return [(base, 1 - (place - base)), (base + 1, place - base)]
    base = np.floor(place)
    weights = _cubic_weights(place - base, -0.75)
    return [(_sample_places(attributes, base + i - 1, size), w) for i, w in enumerate(weights)]


def _grid_sample(attributes: Attributes, x: Array, grid: Array) -> tuple[Array, ...]:
    spatial = x.shape[2:]
    wide = np.moveaxis(widened(x) if x.dtype.kind == "f" else x.astype(np.float64), 1, -1)
    by_axis: list[list[tuple[Array, Array]]] = []
    for axis, size in enumerate(spatial):
        place = widened(grid)[..., len(spatial) - 1 - axis]  # the grid names the last axis first
        place = (place + 1) / 2 * (size - 1) if attributes["align_corners"] else ((place + 1) * size - 1) / 2
        by_axis.append(_sample_taps(attributes, place, size))
    images: Array = np.arange(int(x.shape[0])).reshape(-1, *(1,) * len(spatial))
    y = np.zeros((*grid.shape[:-1], x.shape[1]), wide.dtype)
    for taps in itertools.product(*by_axis):
        y += _one_tap(wide, images, spatial, taps)
    return (np.ascontiguousarray(np.moveaxis(y, -1, 1)).astype(x.dtype, copy=False),)


def _one_tap(x: Array, images: Array, spatial: tuple[int, ...], taps: tuple[tuple[Array, Array], ...]) -> Array:
    weight = np.ones((), x.dtype)
    places: list[Array] = []
    for (index, factor), size in zip(taps, spatial, strict=True):
        inside = (index >= 0) & (index <= size - 1)
        weight = weight * np.where(inside, factor, 0)
        places.append(np.where(inside, index, 0).astype(np.int64))
    return x[(images, *places)] * weight[..., None].astype(x.dtype)


_RESIZE: dict[str, Any] = {
    "sizes": REQUIRED,
    "scales": (),
    "mode": "nearest",
    "coordinate_transformation_mode": "half_pixel",
    "nearest_mode": "round_prefer_floor",
    "cubic_coeff_a": -0.75,
    "exclude_outside": 0,
    "roi": (),
    "extrapolation_value": 0.0,
}

add_rows(
    Op("Resize", 1, 1, 1, _resize_types, _resize, Rule.MOVE, _RESIZE, work=6.0),
    Op(
        "GridSample", 2, 2, 1, _grid_types, _grid_sample, Rule.FLOAT,
        {"mode": "linear", "padding_mode": "zeros", "align_corners": 0}, work=16.0,
    ),
)  # fmt: skip
