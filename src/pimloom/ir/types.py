"""The type of a value: element type, static shape and, for integer codes, what the codes stand for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.errors import ModelError

DTYPES = (
    "float16", "float32", "float64", "bool",
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
)  # fmt: skip


@final
@dataclass(frozen=True, slots=True)
class Quant:
    """How integer codes stand for real numbers: `real = scale * (code - zero_point)`.

    Attributes:
        scale: one scale, or one per index of `axis`.
        zero_point: the code that stands for 0.
        axis: the axis along which `scale` varies; None for a single scale.
    """

    scale: tuple[float, ...]
    zero_point: int = 0
    axis: int | None = None

    def __post_init__(self) -> None:
        """Rejects scales that no code can be read with."""
        if not self.scale or any(not (math.isfinite(s) and s > 0) for s in self.scale):
            raise ModelError(f"quantisation scale must be positive and finite, found {self.scale[:4]}")
        if self.axis is None and len(self.scale) != 1:
            raise ModelError(f"{len(self.scale)} scales need an axis; give one scale or name the axis")


@final
@dataclass(frozen=True, slots=True)
class TensorType:
    """Element type and static shape of a value, with its quantisation where it holds codes."""

    dtype: str
    shape: tuple[int, ...]
    quant: Quant | None = None

    def __post_init__(self) -> None:
        """Rejects unknown element types and negative sizes."""
        if self.dtype not in DTYPES:
            raise ModelError(f"unknown element type '{self.dtype}'; known: {', '.join(DTYPES)}")
        if any(d < 0 for d in self.shape):
            raise ModelError(f"negative size in shape {list(self.shape)}; every dimension must be static")

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def rank(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def itemsize_bytes(self) -> int:
        """Bytes of one element."""
        return np.dtype(self.dtype).itemsize

    @property
    def size_bytes(self) -> int:
        """Bytes of the whole value."""
        return self.size * self.itemsize_bytes

    def __str__(self) -> str:
        """Prints as in the text form: `int8[1,16,8,8]`."""
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"
