"""Constant values of a graph: weights, tables, shapes. They are loaded only when their numbers are needed."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from pimloom.errors import ModelError
from pimloom.ir.recent import Recent
from pimloom.ir.types import TensorType

Array = np.ndarray[Any, np.dtype[Any]]


class Constant(abc.ABC):
    """A constant of known type whose elements are made or read on demand."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def type(self) -> TensorType:
        """Element type and shape."""

    @abc.abstractmethod
    def array(self) -> Array:
        """The elements, read-only, of shape and dtype `type`."""

    @property
    def fill_value(self) -> float | None:
        """The one value that all elements share, where that is known without loading them."""
        return None


def _frozen(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


@final
class ArrayConstant(Constant):
    """Elements held in memory (or in a memory map, which the system loads page by page)."""

    __slots__ = ("_array", "_type")

    def __init__(self, array: Array, type: TensorType | None = None) -> None:
        """Takes the elements; `type` adds a quantisation where the elements are codes."""
        self._array = _frozen(np.asarray(array))
        self._type = type or TensorType(str(self._array.dtype), self._array.shape)
        if self._type.shape != self._array.shape or self._type.dtype != str(self._array.dtype):
            raise ModelError(f"constant: elements are {self._array.dtype}{list(self._array.shape)}, expected {self._type}")

    @property
    def type(self) -> TensorType:
        """Element type and shape."""
        return self._type

    def array(self) -> Array:
        """The elements, read-only."""
        return self._array


@final
@dataclass(frozen=True, slots=True)
class FillConstant(Constant):
    """All elements are one value; ONNX's ConstantOfShape without the memory."""

    value_type: TensorType
    value: float

    @property
    def type(self) -> TensorType:
        """Element type and shape."""
        return self.value_type

    def array(self) -> Array:
        """The elements as a broadcast view of one element."""
        return np.broadcast_to(np.array(self.value, dtype=self.type.dtype), self.type.shape)

    @property
    def fill_value(self) -> float | None:
        """The one value."""
        return self.value


@final
@dataclass(frozen=True, slots=True)
class SeededConstant(Constant):
    """Random elements that depend on nothing but a seed: the weights of the zoo.

    The elements are `mean + std * n` with n standard normal, clipped at three standard deviations,
    drawn from Philox(seed); the same seed gives the same bytes on every machine.
    """

    value_type: TensorType
    seed: int
    mean: float = 0.0
    std: float = 1.0

    @property
    def type(self) -> TensorType:
        """Element type and shape."""
        return self.value_type

    def array(self) -> Array:
        """The elements, made anew at each call (but for the last ones of all constants, which are kept)."""
        given = (self.type, self.seed, self.mean, self.std)
        return _RECENT.get(given, lambda: _seeded(*given))


_RECENT = Recent(1 << 27)


def _seeded(type_: TensorType, seed: int, mean: float, std: float) -> Array:
    generator = np.random.Generator(np.random.Philox(seed))
    normal = generator.standard_normal(type_.size, dtype=np.float32)
    np.clip(normal, -3.0, 3.0, out=normal)
    values = (normal * np.float32(std) + np.float32(mean)).astype(type_.dtype).reshape(type_.shape)
    return _frozen(values)


@final
@dataclass(frozen=True, slots=True)
class FileConstant(Constant):
    """Elements at an offset of a file, mapped into memory when asked for."""

    value_type: TensorType
    path: Path
    offset_bytes: int

    @property
    def type(self) -> TensorType:
        """Element type and shape."""
        return self.value_type

    def array(self) -> Array:
        """A read-only memory map of the elements; ModelError if the file is too short."""
        try:
            held_bytes = self.path.stat().st_size
        except OSError as error:
            raise ModelError(f"external data '{self.path}': cannot be read ({error.strerror}); put the file back") from error
        if held_bytes < self.offset_bytes + self.type.size_bytes:
            raise ModelError(
                f"external data '{self.path}': {self.type.size_bytes} bytes wanted at offset {self.offset_bytes}, "
                f"the file holds {held_bytes}; the file is truncated or belongs to another model"
            )
        if self.type.size == 0:
            return np.zeros(self.type.shape, self.type.dtype)
        return np.memmap(self.path, dtype=self.type.dtype, mode="r", offset=self.offset_bytes, shape=self.type.shape)
