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

    def loaded_bytes(self, most: int) -> int:
        """Bytes of the pixels that all chunks of one image need."""
        sizes: list[int] = []
        for axis, step in enumerate(self.part(most)):
            spans = (self.span(axis, first, min(step, self.shape[axis] - first)) for first in range(0, self.shape[axis], step))
            sizes.append(sum(stop - start for start, stop in spans))
        return math.prod(sizes) * self.channels

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
    """`vectors` input vectors times a matrix of `rows` x `cols` weights of one byte, or several such matrices.

    A strip is the tiles of `macro.cols` columns; its row tiles add up to the same sums. Vectors are taken in chunks.

    Attributes:
        vectors: input vectors of each part, each of `rows` bytes.
        rows: length of an input vector.
        cols: outputs per vector and part.
        windows: where the vectors come from, None where they lie one behind the other.
        parts: matrices beside each other: heads of an attention, blocks of groups of a convolution.
        shares_inputs: whether all parts read the same pixels, each part its own slice of their channels; else every part has
            vectors of its own.
    """

    vectors: int
    rows: int
    cols: int
    windows: Windows | None = None
    parts: int = 1
    shares_inputs: bool = False

    def __post_init__(self) -> None:
        """Refuses empty products."""
        for name in ("vectors", "rows", "cols", "parts"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}: {getattr(self, name)} found, at least 1 expected")

    def row_tiles(self, hardware: SramHardware) -> int:
        """Tiles of a strip."""
        return ceil_div(self.rows, hardware.macro.rows)

    def part_strips(self, hardware: SramHardware) -> int:
        """Strips of one part."""
        return ceil_div(self.cols, hardware.macro.cols)

    def strips(self, hardware: SramHardware) -> int:
        """Strips of all parts."""
        return self.parts * self.part_strips(hardware)

    def tiles(self, hardware: SramHardware) -> int:
        """Tiles of all parts."""
        return self.row_tiles(hardware) * self.strips(hardware)

    def vector_cycles(self, hardware: SramHardware) -> float:
        """Cycles of one input vector in one macro with its control, mean over the strips, of which the last may be narrow."""
        macro, control = hardware.macro, hardware.control
        return self.cols / self.part_strips(hardware) * macro.column_cycles + control.multiply_cycles + control.result_cycles

    @property
    def weight_bytes(self) -> int:
        """Bytes of all parts."""
        return self.parts * self.rows * self.cols

    @property
    def outputs(self) -> int:
        """Outputs of all parts per vector."""
        return self.parts * self.cols

    @property
    def slice_bytes(self) -> int:
        """Channels of a pixel that each part takes, where parts share their inputs."""
        return self.windows.channels // self.parts if self.windows is not None and self.shares_inputs else 0

    @property
    def sources(self) -> int:
        """Sets of input vectors: one, or one for each part."""
        return 1 if self.shares_inputs else self.parts

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

    def loaded_bytes(self, most: int) -> int:
        """Input bytes of all chunks of one set of input vectors."""
        if self.windows is None:
            return self.vectors * self.rows
        return self.windows.loaded_bytes(most) * (self.vectors // math.prod(self.windows.shape))


__all__ = ["Windows", "Work", "ceil_div"]
