"""What shape rules share: finding inputs, normalising axes, broadcasting, and saying what does not fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.ops.table import Array, InputTypes
from pimloom.ir.types import TensorType

Attributes = Mapping[str, Any]
"""Completed attributes of a node; their kinds are known by name (`pimloom.ir.ops.attributes`)."""

FLOATS = frozenset({"float16", "float32", "float64"})
SIGNED = frozenset({"int8", "int16", "int32", "int64"})
INTEGERS = SIGNED | {"uint8", "uint16", "uint32", "uint64"}
INDICES = frozenset({"int32", "int64"})
NUMBERS = FLOATS | INTEGERS
BOOLEAN = frozenset({"bool"})
ANYTHING = NUMBERS | BOOLEAN

_KIND_NAMES = {
    FLOATS: "a float type",
    SIGNED: "a signed integer type",
    INTEGERS: "an integer type",
    INDICES: "int32 or int64",
    NUMBERS: "a number type",
    BOOLEAN: "bool",
    SIGNED | FLOATS: "a signed number type",
}


def given(types: InputTypes, place: int) -> TensorType | None:
    """The type of input `place`, None where an optional input is absent."""
    return types[place] if place < len(types) else None


def present(types: InputTypes, place: int) -> TensorType:
    """The type of input `place`; ModelError if it is absent."""
    value_type = given(types, place)
    if value_type is None:
        raise ModelError(f"required input {place} is absent")
    return value_type


def all_present(types: InputTypes) -> tuple[TensorType, ...]:
    """All input types of an op without optional inputs."""
    return tuple(present(types, place) for place in range(len(types)))


def expect_dtype(value_type: TensorType, place: int, kinds: frozenset[str]) -> None:
    """ModelError unless the element type of input `place` is one of `kinds`."""
    if value_type.dtype not in kinds:
        expected = _KIND_NAMES.get(kinds) or " or ".join(sorted(kinds))
        raise ModelError(f"input {place} is {value_type}: {expected} expected; insert a Cast")


def expect_one_dtype(types: Iterable[TensorType | None]) -> str:
    """The element type that all present inputs share; ModelError if they differ."""
    found = list(dict.fromkeys(t.dtype for t in types if t is not None))
    if len(found) > 1:
        raise ModelError(f"inputs have element types {' and '.join(found)}, one type expected; insert a Cast")
    return found[0]


def expect_rank(value_type: TensorType, place: int, at_least: int, at_most: int | None = None) -> None:
    """ModelError unless the rank of input `place` lies in the range."""
    if value_type.rank < at_least or (at_most is not None and value_type.rank > at_most):
        bound = f"{at_least}" if at_most == at_least else f"{at_least} or more"
        if at_most is not None and at_most != at_least:
            bound = f"{at_least} to {at_most}"
        raise ModelError(f"input {place} is {value_type}: rank {value_type.rank} found, {bound} expected")


def expect_shape(value_type: TensorType | None, place: int, what: str, shape: tuple[int, ...]) -> None:
    """ModelError unless the input, where present, has exactly this shape."""
    if value_type is not None and value_type.shape != shape:
        raise ModelError(f"input {place} ({what}) is {value_type}: shape {list(shape)} expected")


def normal_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front, 0..rank-1; ModelError if out of range."""
    if not -rank <= axis < rank:
        bound = f"{-rank}..{rank - 1} expected" if rank else "a value of rank 0 has no axis"
        raise ModelError(f"axis {axis} is out of range: {bound}")
    return axis + rank if axis < 0 else axis


def normal_axes(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """Sorted axes counted from the front; ModelError if out of range or repeated."""
    found = sorted(normal_axis(axis, rank) for axis in axes)
    if len(set(found)) != len(found):
        raise ModelError(f"axes {found} repeat; each axis once expected")
    return tuple(found)


def broadcast_shapes(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape under NumPy's broadcasting; ModelError if there is none."""
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        listed = " and ".join(str(list(shape)) for shape in shapes)
        raise ModelError(f"shapes {listed} do not broadcast; equal sizes or 1 expected on each axis") from None


def expect_broadcast_to(value_type: TensorType | None, place: int, what: str, shape: tuple[int, ...]) -> None:
    """ModelError unless the input, where present, broadcasts to `shape` without enlarging it."""
    if value_type is None:
        return
    try:
        fits = np.broadcast_shapes(value_type.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ModelError(f"input {place} ({what}) is {value_type}: a shape that broadcasts to {list(shape)} expected")


def widened(array: Array) -> Array:
    """The array in a type to compute in: float16 becomes float32, all others stay."""
    return array.astype(np.float32) if array.dtype == np.float16 else array


def accumulator(array: Array) -> type[np.float64] | None:
    """The type to sum in: float64 for floats, NumPy's own choice for integers."""
    return np.float64 if array.dtype.kind == "f" else None
