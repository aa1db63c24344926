"""Ops that move elements without computing: reshapes, slices, pads, concatenations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.checks import (
    Attributes,
    all_present,
    broadcast_shapes,
    expect_one_dtype,
    expect_rank,
    normal_axes,
    normal_axis,
    present,
)
from pimloom.ir.ops.table import REQUIRED, Array, InputTypes, Op, Rule, add_rows
from pimloom.ir.types import TensorType

Types = tuple[TensorType, ...]
PAD_MODES = ("constant", "reflect", "edge", "wrap")


def _ints(attributes: Attributes, name: str) -> tuple[int, ...]:
    value: Any = attributes[name]
    return tuple(int(v) for v in value)


def _reshape_types(attributes: Attributes, types: InputTypes) -> Types:
    x, shape = present(types, 0), _ints(attributes, "shape")
    if min(shape, default=0) < 0 or math.prod(shape) != x.size:
        raise ModelError(
            f"attribute 'shape' is {list(shape)}: {math.prod(shape)} elements found, {x.size} expected (input is {x})"
        )
    return (TensorType(x.dtype, shape),)


def _reshape(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    return (x.reshape(_ints(attributes, "shape")),)


def _flatten_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    return (TensorType(x.dtype, _flat(attributes, x.shape)),)


def _flat(attributes: Attributes, shape: tuple[int, ...]) -> tuple[int, int]:
    axis: Any = attributes["axis"]
    place = len(shape) if axis == len(shape) else normal_axis(axis, len(shape))
    return math.prod(shape[:place]), math.prod(shape[place:])


def _flatten(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    return (x.reshape(_flat(attributes, x.shape)),)


def _squeeze_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    axes = normal_axes(_ints(attributes, "axes"), x.rank)
    for axis in axes:
        if x.shape[axis] != 1:
            raise ModelError(f"axis {axis} of {x} has size {x.shape[axis]}, 1 expected")
    return (TensorType(x.dtype, tuple(d for i, d in enumerate(x.shape) if i not in axes)),)


def _squeeze(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    return (np.squeeze(x, axis=normal_axes(_ints(attributes, "axes"), x.ndim)),)


def _unsqueezed(attributes: Attributes, shape: tuple[int, ...]) -> tuple[int, ...]:
    axes = _ints(attributes, "axes")
    axes = normal_axes(axes, len(shape) + len(axes))
    sizes = iter(shape)
    return tuple(1 if i in axes else next(sizes) for i in range(len(shape) + len(axes)))


def _unsqueeze_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    return (TensorType(x.dtype, _unsqueezed(attributes, x.shape)),)


def _unsqueeze(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    return (x.reshape(_unsqueezed(attributes, x.shape)),)


def _permutation(attributes: Attributes, rank: int) -> tuple[int, ...]:
    perm = _ints(attributes, "perm") or tuple(reversed(range(rank)))
    if sorted(perm) != list(range(rank)):
        raise ModelError(f"attribute 'perm' is {list(perm)}, an order of the {rank} axes expected")
    return perm


def _transpose_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    return (TensorType(x.dtype, tuple(x.shape[i] for i in _permutation(attributes, x.rank))),)


def _transpose(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    return (np.transpose(x, _permutation(attributes, x.ndim)),)


def _expand_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    return (TensorType(x.dtype, broadcast_shapes(x.shape, _ints(attributes, "shape"))),)


def _expand(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    return (np.broadcast_to(x, np.broadcast_shapes(x.shape, _ints(attributes, "shape"))),)


def _tile_types(attributes: Attributes, types: InputTypes) -> Types:
    x, repeats = present(types, 0), _ints(attributes, "repeats")
    if len(repeats) != x.rank or min(repeats, default=0) < 0:
        raise ModelError(f"attribute 'repeats' is {list(repeats)}, {x.rank} counts expected (input is {x})")
    return (TensorType(x.dtype, tuple(d * r for d, r in zip(x.shape, repeats, strict=True))),)


def _tile(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    return (np.tile(x, _ints(attributes, "repeats")),)


def slices_of(attributes: Attributes, shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Python slices of a Slice node, one per axis, with ONNX's clamping.

    A negative start or end counts from the end of its axis; what lies outside is clamped. With a negative
    step an end of `-size - 1` or below means "down to and including element 0".
    """
    starts, ends = _ints(attributes, "starts"), _ints(attributes, "ends")
    axes = _ints(attributes, "axes") or tuple(range(len(starts)))
    steps = _ints(attributes, "steps") or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps):
        counts = f"{len(starts)}, {len(ends)}, {len(axes)}, {len(steps)}"
        raise ModelError(f"starts, ends, axes, steps have {counts} entries; equal counts expected")
    normal = [normal_axis(axis, len(shape)) for axis in axes]
    normal_axes(axes, len(shape))  # rejects repeated axes
    found = [slice(None)] * len(shape)
    for axis, start, end, step in zip(normal, starts, ends, steps, strict=True):
        found[axis] = _clamped(start, end, step, shape[axis])
    return tuple(found)


def _clamped(start: int, end: int, step: int, size: int) -> slice:
    if step == 0:
        raise ModelError("attribute 'steps' holds 0; any other step expected")
    start += size if start < 0 else 0
    end += size if end < 0 else 0
    if step > 0:
        start, end = min(max(start, 0), size), min(max(end, 0), size)
        return slice(start, end, step)
    start, end = min(max(start, -1), size - 1), min(max(end, -1), size - 1)
    if start < 0:  # an empty axis, or a start before the first element
        return slice(0, 0, step)
    return slice(start, None if end < 0 else end, step)


def _slice_types(attributes: Attributes, types: InputTypes) -> Types:
    x = present(types, 0)
    found = slices_of(attributes, x.shape)
    return (TensorType(x.dtype, tuple(len(range(d)[s]) for d, s in zip(x.shape, found, strict=True))),)


def _slice(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    return (x[slices_of(attributes, x.shape)],)


def _pad_types(attributes: Attributes, types: InputTypes) -> Types:
    x, pads = present(types, 0), _ints(attributes, "pads")
    if attributes["mode"] not in PAD_MODES:
        raise ModelError(f"attribute 'mode' is '{attributes['mode']}'; known modes: {', '.join(PAD_MODES)}")
    if len(pads) != 2 * x.rank:
        raise ModelError(f"attribute 'pads' has {len(pads)} entries, {2 * x.rank} expected (input is {x})")
    shape = tuple(d + low + high for d, low, high in zip(x.shape, pads[: x.rank], pads[x.rank :], strict=True))
    if min(shape, default=0) < 0:
        raise ModelError(f"attribute 'pads' is {list(pads)}: it cuts off more than the input {x} holds")
    if attributes["mode"] != "constant" and x.size == 0 and math.prod(shape):
        raise ModelError(f"mode '{attributes['mode']}' has no element to repeat in {x}; use mode 'constant'")
    return (TensorType(x.dtype, shape),)


def _pad(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    pads = _ints(attributes, "pads")
    low, high = pads[: x.ndim], pads[x.ndim :]
    kept = tuple(slice(max(-b, 0), d - max(-a, 0)) for b, a, d in zip(low, high, x.shape, strict=True))
    widths = [(max(b, 0), max(a, 0)) for b, a in zip(low, high, strict=True)]
    x = x[kept]
    mode: Any = attributes["mode"]
    if not any(b or a for b, a in widths):
        return (x,)
    if mode == "constant":
        value: Any = attributes["value"]
        return (np.pad(x, widths, mode, constant_values=np.asarray(value).astype(x.dtype)),)
    return (np.pad(x, widths, mode),)


def _concat_types(attributes: Attributes, types: InputTypes) -> Types:
    operands = all_present(types)
    dtype, first = expect_one_dtype(operands), operands[0]
    axis = normal_axis(attributes["axis"], first.rank)
    for place, operand in enumerate(operands):
        if operand.rank != first.rank or _without(operand.shape, axis) != _without(first.shape, axis):
            raise ModelError(
                f"input {place} is {operand}: the sizes of input 0 ({first}) expected on all axes but {axis}"
            )
    total = sum(operand.shape[axis] for operand in operands)
    return (TensorType(dtype, (*first.shape[:axis], total, *first.shape[axis + 1 :])),)


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _concat(attributes: Attributes, *operands: Array) -> tuple[Array, ...]:
    axis: Any = attributes["axis"]
    return (np.concatenate(operands, axis=axis),)


def _split_types(attributes: Attributes, types: InputTypes) -> Types:
    x, sizes = present(types, 0), _ints(attributes, "sizes")
    axis = normal_axis(attributes["axis"], x.rank)
    if sum(sizes) != x.shape[axis] or min(sizes, default=0) < 0:
        raise ModelError(f"attribute 'sizes' is {list(sizes)}: a sum of {x.shape[axis]} expected (axis {axis} of {x})")
    return tuple(TensorType(x.dtype, (*x.shape[:axis], size, *x.shape[axis + 1 :])) for size in sizes)


def _split(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    axis: Any = attributes["axis"]
    return tuple(np.split(x, np.cumsum(_ints(attributes, "sizes"))[:-1], axis=axis))


def _block(attributes: Attributes) -> int:
    size: Any = attributes["blocksize"]
    if size < 1:
        raise ModelError(f"attribute 'blocksize' is {size}, 1 or more expected")
    return size


def _depth_to_space_types(attributes: Attributes, types: InputTypes) -> Types:
    x, size = present(types, 0), _block(attributes)
    expect_rank(x, 0, 4, 4)
    if attributes["mode"] not in ("DCR", "CRD"):
        raise ModelError(f"attribute 'mode' is '{attributes['mode']}', DCR or CRD expected")
    n, c, h, w = x.shape
    if c % (size * size):
        raise ModelError(f"input 0 is {x}: {c} channels found, a multiple of {size * size} expected (blocksize {size})")
    return (TensorType(x.dtype, (n, c // (size * size), h * size, w * size)),)


def _depth_to_space(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    size = _block(attributes)
    n, c, h, w = x.shape
    depth = c // (size * size)
    if attributes["mode"] == "DCR":
        blocks = x.reshape(n, size, size, depth, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        blocks = x.reshape(n, depth, size, size, h, w).transpose(0, 1, 4, 2, 5, 3)
    return (blocks.reshape(n, depth, h * size, w * size),)


def _space_to_depth_types(attributes: Attributes, types: InputTypes) -> Types:
    x, size = present(types, 0), _block(attributes)
    expect_rank(x, 0, 4, 4)
    n, c, h, w = x.shape
    if h % size or w % size:
        raise ModelError(f"input 0 is {x}: height and width that are multiples of {size} expected")
    return (TensorType(x.dtype, (n, c * size * size, h // size, w // size)),)


def _space_to_depth(attributes: Attributes, x: Array) -> tuple[Array, ...]:
    size = _block(attributes)
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // size, size, w // size, size).transpose(0, 3, 5, 1, 2, 4)
    return (blocks.reshape(n, c * size * size, h // size, w // size),)


_SLICE: dict[str, Any] = {"starts": REQUIRED, "ends": REQUIRED, "axes": (), "steps": ()}

add_rows(
    Op("Reshape", 1, 1, 1, _reshape_types, _reshape, Rule.MOVE, {"shape": REQUIRED}, work=0.0),
    Op("Flatten", 1, 1, 1, _flatten_types, _flatten, Rule.MOVE, {"axis": 1}, work=0.0),
    Op("Squeeze", 1, 1, 1, _squeeze_types, _squeeze, Rule.MOVE, {"axes": REQUIRED}, work=0.0),
    Op("Unsqueeze", 1, 1, 1, _unsqueeze_types, _unsqueeze, Rule.MOVE, {"axes": REQUIRED}, work=0.0),
    Op("Transpose", 1, 1, 1, _transpose_types, _transpose, Rule.MOVE, {"perm": ()}),
    Op("Expand", 1, 1, 1, _expand_types, _expand, Rule.MOVE, {"shape": REQUIRED}),
    Op("Tile", 1, 1, 1, _tile_types, _tile, Rule.MOVE, {"repeats": REQUIRED}),
    Op("Slice", 1, 1, 1, _slice_types, _slice, Rule.MOVE, _SLICE),
    Op("Pad", 1, 1, 1, _pad_types, _pad, Rule.MOVE, {"pads": REQUIRED, "mode": "constant", "value": 0.0}),
    Op("Concat", 1, -1, 1, _concat_types, _concat, Rule.MOVE, {"axis": REQUIRED}),
    Op("Split", 1, 1, -1, _split_types, _split, Rule.MOVE, {"axis": 0, "sizes": REQUIRED}),
    Op(
        "DepthToSpace", 1, 1, 1, _depth_to_space_types, _depth_to_space, Rule.MOVE,
        {"blocksize": REQUIRED, "mode": "DCR"},
    ),
    Op("SpaceToDepth", 1, 1, 1, _space_to_depth_types, _space_to_depth, Rule.MOVE, {"blocksize": REQUIRED}),
)  # fmt: skip
