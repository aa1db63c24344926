"""Convolutions over 1, 2 or 3 spatial axes: Conv and ConvTranspose.

Letters: N batch, C input channels, O output channels, G groups, K kernel elements, P output places.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import (
    Attributes,
    expect_one_dtype,
    expect_rank,
    expect_shape,
    given,
    present,
    widened,
)
from pimloom.ir.ops.table import Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.ops.windows import Window, entries_of, window_of
from pimloom.ir.types import TensorType

COLUMN_LIMIT = 1 << 18
"""Elements of one block of unfolded input: what stays in a cache (blocks of 2**24 are nine times slower)."""


def _group(attributes: Attributes, channels: int, what: str) -> int:
    group = int(attributes["group"])
    if group < 1 or channels % group:
        raise ModelError(f"{channels} {what} cannot be divided into {group} groups; a divisor expected")
    return group


def _conv_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x, w = present(types, 0), present(types, 1)
    expect_rank(x, 0, 3, 5)
    expect_rank(w, 1, x.rank, x.rank)
    dtype = expect_one_dtype(types)
    group = _group(attributes, x.shape[1], "input channels")
    _group(attributes, w.shape[0], "output channels")
    if w.shape[1] * group != x.shape[1]:
        raise ModelError(
            f"input 1 (weights) is {w}: {w.shape[1]} input channels per group found, "
            f"{x.shape[1] // group} expected (input 0 is {x}, group {group})"
        )
    expect_shape(given(types, 2), 2, "bias", (w.shape[0],))
    sizes = window_of(attributes, x.rank - 2, w.shape[2:]).output_sizes(x.shape[2:])
    return (TensorType(dtype, (x.shape[0], w.shape[0], *sizes)),)


def _conv(attributes: Attributes, x: Array, w: Array, b: Array | None = None) -> tuple[Array, ...]:
    dtype = x.dtype
    x, w = widened(x), widened(w)
    window = window_of(attributes, x.ndim - 2, w.shape[2:])
    sizes = window.output_sizes(x.shape[2:])
    group = _group(attributes, x.shape[1], "input channels")
    padded = window.padded(x, sizes, 0)
    if w.shape[1] == 1 and group > 1:
        y = _depthwise(padded, w, window, sizes)
    elif window.is_pointwise:
        y = _pointwise(padded, w, group)
    else:
        y = _unfolded(padded, w, window, sizes, group)
    y = y.reshape(x.shape[0], w.shape[0], *sizes)
    if b is not None:
        y += b.reshape(-1, *(1,) * len(sizes))
    return (y.astype(dtype, copy=False),)


def _pointwise(x: Array, w: Array, group: int) -> Array:
    """A 1x1 convolution: one matrix product per image and group, without unfolding."""
    columns = x.reshape(x.shape[0], group, w.shape[1], math.prod(x.shape[2:]))
    return np.matmul(w.reshape(group, w.shape[0] // group, w.shape[1]), columns)


def _depthwise(x: Array, w: Array, window: Window, sizes: tuple[int, ...]) -> Array:
    """One input channel per group: a multiply-add of whole images per kernel element."""
    channels = x.shape[1]
    factors = w.reshape(channels, w.shape[0] // channels, *window.kernel)
    y = np.zeros((x.shape[0], *factors.shape[:2], *sizes), np.result_type(x, w))
    for position in window.positions():
        seen = x[(slice(None), slice(None), *window.seen_by(position, sizes))]
        y += (
            factors[(slice(None), slice(None), *position)].reshape(*factors.shape[:2], *(1,) * len(sizes))
            * seen[:, :, None]
        )
    return y


def _unfolded(x: Array, w: Array, window: Window, sizes: tuple[int, ...], group: int) -> Array:
    """The general case: windows are copied side by side, block by block, and multiplied as matrices."""
    n, channels = x.shape[:2]
    weights = w.reshape(group, w.shape[0] // group, math.prod(w.shape[1:]))
    y = np.empty((n, group, weights.shape[1], *sizes), np.result_type(x, w))
    windows = _window_view(x, window, sizes)
    row_elements = n * channels * math.prod(window.kernel) * math.prod(sizes[1:])
    rows = max(1, COLUMN_LIMIT // max(1, row_elements))
    first = 2 + len(sizes)
    for start in range(0, sizes[0], rows):
        block = windows[(*(slice(None),) * first, slice(start, start + rows))]
        places = block.shape[first:]
        columns = block.reshape(n, group, weights.shape[2], math.prod(places))
        y[:, :, :, start : start + rows] = np.matmul(weights, columns).reshape(n, group, -1, *places)
    return y


def _window_view(x: Array, window: Window, sizes: tuple[int, ...]) -> Array:
    """A view of padded x[N, C, ...] as [N, C, *kernel, *sizes]."""
    steps = x.strides[2:]
    by_kernel = tuple(s * d for s, d in zip(steps, window.dilations, strict=True))
    by_place = tuple(s * t for s, t in zip(steps, window.strides, strict=True))
    shape = (*x.shape[:2], *window.kernel, *sizes)
    return np.lib.stride_tricks.as_strided(x, shape, (*x.strides[:2], *by_kernel, *by_place), writeable=False)


def _conv_macs(attributes: Attributes, types: InputTypes, outputs: tuple[TensorType, ...]) -> int:
    return outputs[0].size * math.prod(present(types, 1).shape[1:])


def _transposed_sizes(attributes: Attributes, window: Window, spatial: tuple[int, ...]) -> tuple[int, ...]:
    """Spatial sizes of ConvTranspose before the pads are cut off."""
    extra = entries_of(attributes, "output_padding", len(spatial)) or (0,) * len(spatial)
    return tuple(
        stride * (size - 1) + reach + int(more)
        for size, stride, reach, more in zip(spatial, window.strides, window.reach, extra, strict=True)
    )


def _transpose_types(attributes: Attributes, types: InputTypes) -> tuple[TensorType, ...]:
    x, w = present(types, 0), present(types, 1)
    expect_rank(x, 0, 3, 5)
    expect_rank(w, 1, x.rank, x.rank)
    dtype = expect_one_dtype(types)
    group = _group(attributes, x.shape[1], "input channels")
    if w.shape[0] != x.shape[1]:
        raise ModelError(
            f"input 1 (weights) is {w}: {w.shape[0]} input channels found, {x.shape[1]} expected (input 0 is {x})"
        )
    window = window_of(attributes, x.rank - 2, w.shape[2:])
    full = _transposed_sizes(attributes, window, x.shape[2:])
    sizes = tuple(n - low - high for n, low, high in zip(full, window.before, window.after, strict=True))
    if min(sizes) < 0:
        raise ModelError(f"pads {list(window.before + window.after)} cut more than the output's {list(full)} elements")
    expect_shape(given(types, 2), 2, "bias", (w.shape[1] * group,))
    return (TensorType(dtype, (x.shape[0], w.shape[1] * group, *sizes)),)


def _conv_transpose(attributes: Attributes, x: Array, w: Array, b: Array | None = None) -> tuple[Array, ...]:
    dtype = x.dtype
    x, w = widened(x), widened(w)
    n, channels, *spatial = x.shape
    window = window_of(attributes, len(spatial), w.shape[2:])
    group = _group(attributes, channels, "input channels")
    full = _transposed_sizes(attributes, window, tuple(spatial))
    weights = w.reshape(group, channels // group, math.prod(w.shape[1:])).swapaxes(1, 2)
    columns = np.matmul(weights, x.reshape(n, group, channels // group, math.prod(spatial)))
    columns = columns.reshape(n, group * w.shape[1], *window.kernel, *spatial)
    y = np.zeros((n, group * w.shape[1], *full), columns.dtype)
    for position in window.positions():
        place = (slice(None), slice(None), *window.seen_by(position, tuple(spatial)))
        y[place] += columns[(slice(None), slice(None), *position)]
    kept = tuple(slice(low, size - high) for low, size, high in zip(window.before, full, window.after, strict=True))
    y = y[(slice(None), slice(None), *kept)]
    if b is not None:
        y = y + b.reshape(-1, *(1,) * len(spatial))
    return (y.astype(dtype, copy=False),)


def _transpose_macs(attributes: Attributes, types: InputTypes, outputs: tuple[TensorType, ...]) -> int:
    return present(types, 0).size * math.prod(present(types, 1).shape[1:])


_WINDOW: dict[str, Any] = {"kernel_shape": (), "strides": (), "pads": (), "dilations": (), "group": 1}

add_rows(
    Op("Conv", 2, 3, 1, _conv_types, _conv, Rule.LINEAR, _WINDOW, _conv_macs),
    Op(
        "ConvTranspose", 2, 3, 1, _transpose_types, _conv_transpose, Rule.LINEAR,
        {**_WINDOW, "output_padding": ()}, _transpose_macs,
    ),
)  # fmt: skip
