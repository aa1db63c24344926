"""A product to be done on macros: input vectors times a matrix that is cut into tiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from pimloom.errors import UsageError
from pimloom.hardware import SramHardware


def ceil_div(a: int, b: int) -> int:
    """`a / b`, rounded up."""
    return -(-a // b)


@final
@dataclass(frozen=True, slots=True)
class Windows:
    """Where input vectors come from: windows of an image, (y, x) each. The input lies in memory with channels last.

    Attributes:
        shape: rows and columns of windows, of one image.
        source: rows and columns of the image.
        channels: elements of a pixel.
        kernel: taps.
        stride: from window to window.
        dilation: from tap to tap.
        padding: before the first pixel.
    """

    shape: tuple[int, int]
    source: tuple[int, int]
    channels: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def part(self, most: int) -> tuple[int, int]:
        """Rows and columns of windows that one chunk of at most `most` windows has: whole rows, or a piece of one."""
        rows, cols = self.shape
        if most >= cols:
            n_parts = ceil_div(rows, most // cols)
            return ceil_div(rows, n_parts), cols
        return 1, ceil_div(cols, ceil_div(cols, most))

    def span(self, axis: int, first: int, count: int) -> tuple[int, int]:
        """First pixel, and one past the last, that `count` windows from `first` on touch along an axis."""
        start = first * self.stride[axis] - self.padding[axis]
        reach = (count - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1
        return max(start, 0), max(min(start + reach, self.source[axis]), max(start, 0) + 1)

    def chunk_bytes(self, most: int) -> int:
        """Bytes of the pixels that a chunk in the middle of the image needs."""
        sizes = [
            min(self.source[axis], (count - 1) * self.stride[axis] + (self.kernel[axis] - 1) * self.dilation[axis] + 1)
            for axis, count in enumerate(self.part(most))
        ]
        return math.prod(sizes) * self.channels

    def chunks(self, most: int) -> int:
        """Chunks of one image."""
        rows, cols = self.part(most)
        return ceil_div(self.shape[0], rows) * ceil_div(self.shape[1], cols)


@final
@dataclass(frozen=True, slots=True)
class Work:
    """`vectors` input vectors times a matrix of `rows` x `cols` weights of one byte.

    A strip is the tiles of `macro.cols` columns; its row tiles add up to the same sums. Vectors are taken in chunks.

    Attributes:
        vectors: input vectors, each of `rows` bytes.
        rows: length of an input vector.
        cols: outputs per vector.
        windows: where the vectors come from, None where they lie one behind the other.
    """

    vectors: int
    rows: int
    cols: int
    windows: Windows | None = None

    def __post_init__(self) -> None:
        """Refuses empty products."""
        for name in ("vectors", "rows", "cols"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: {getattr(self, name)} found, at least 1 expected")

    def row_tiles(self, hardware: SramHardware) -> int:
        """Tiles of a strip."""
        return ceil_div(self.rows, hardware.macro.rows)

    def strips(self, hardware: SramHardware) -> int:
        """Strips of the matrix."""
        return ceil_div(self.cols, hardware.macro.cols)

    def tiles(self, hardware: SramHardware) -> int:
        """Tiles of the matrix."""
        return self.row_tiles(hardware) * self.strips(hardware)

    @property
    def weight_bytes(self) -> int:
        """Bytes of the matrix."""
        return self.rows * self.cols

    def chunks(self, most: int) -> int:
        """Chunks of at most `most` vectors."""
        if self.windows is None:
            return ceil_div(self.vectors, most)
        return self.windows.chunks(most) * ceil_div(self.vectors, math.prod(self.windows.shape))

    def chunk_vectors(self, most: int) -> int:
        """Vectors of the largest chunk, where chunks of at most `most` are made as even as they can be."""
        return ceil_div(self.vectors, self.chunks(most)) if self.windows is None else math.prod(self.windows.part(most))

    def chunk_bytes(self, most: int) -> int:
        """Input bytes of one chunk."""
        return self.chunk_vectors(most) * self.rows if self.windows is None else self.windows.chunk_bytes(most)


__all__ = ["Windows", "Work", "ceil_div"]
