"""Resize with antialiasing: when an axis shrinks, an output element is a mean over all the input that it covers.

The weights of an axis are constants, so each axis is a product with a matrix:

    Resize(x[n,c,h,w], antialias=1)   ->   MatMul(MatMul(x turned, H[h, h'])  turned, W[w, w'])

    W[i, o] = k((i - place_o) * min(scale, 1)) / sum over i        k: the triangle or Keys' cubic

Elements outside of the image are those at its edge, or are left out with exclude_outside=1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pimloom.frontends.onnx_call import Array, Call
from pimloom.frontends.onnx_shapes import transpose
from pimloom.ir.ops.resample import source_coordinates


def resized(call: Call, sizes: tuple[int, ...], scales: tuple[float, ...], attributes: Mapping[str, Any]) -> str:
    """The value resized along every axis whose size changes."""
    value, rank = call.value(0), len(sizes)
    if attributes["coordinate_transformation_mode"] == "tf_crop_and_resize":
        raise call.fault("antialias=1 with tf_crop_and_resize is not supported; export with antialias=0")
    for axis, wanted in enumerate(sizes):
        size = call.type_of(value).shape[axis]
        if (wanted, scales[axis]) == (size, 1.0):
            continue
        call.assembly.spend(4 * size * wanted)
        matrix = _matrix(call, {**attributes, "scales": scales}, axis, size, wanted)
        order = (*(i for i in range(rank) if i != axis), axis)
        product = call.emit("MatMul", transpose(call, value, order), call.numbers(matrix))
        value = transpose(call, product, tuple(order.index(i) for i in range(rank)))
    return value


def _matrix(call: Call, attributes: Mapping[str, Any], axis: int, size: int, wanted: int) -> Array:
    """float64[size, wanted]: what each input element adds to each output element."""
    scale = min(float(attributes["scales"][axis]), 1.0)
    reach = int(np.ceil(2.0 / scale)) + 1
    places = source_coordinates(attributes, axis, size, wanted).astype(np.float64)
    # Columns of elements that lie far outside of the image are not made: rows reach one kernel beyond each place.
    near = np.floor(places).astype(np.int64)[:, None] + np.arange(-reach, reach + 2)
    weights = _kernel(call)((near - places[:, None]) * scale)
    if call.attribute("exclude_outside", 0):
        weights = np.where((near >= 0) & (near < size), weights, 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((size, wanted))
    np.add.at(matrix, (np.clip(near, 0, size - 1), np.arange(wanted)[:, None]), weights)
    return matrix


def _kernel(call: Call) -> Any:
    if call.attribute("mode", "nearest") == "linear":
        return lambda t: np.clip(1.0 - np.abs(t), 0.0, None)
    a = float(call.attribute("cubic_coeff_a", -0.75))

    def cubic(t: Array) -> Array:
        t = np.abs(t)
        near, far = ((a + 2) * t - (a + 3)) * t * t + 1, ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        return np.where(t <= 1, near, np.where(t < 2, far, 0.0))

    return cubic
