"""Program: what a target makes of a graph and a machine; the one artefact that is simulated and executed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.hardware import Hardware
from pimloom.ir.graph import Graph
from pimloom.program.rows import ROW, Array


@final
@dataclass(frozen=True, slots=True)
class Layout:
    """How a value lies in memory: dimensions in `order`, then (rows, channels), channel last.

    Attributes:
        order: permutation of the value's dimensions; the last one is the channel.
        rows: number of vectors.
        channels: elements of one vector.
    """

    order: tuple[int, ...]
    rows: int
    channels: int

    def to_rows(self, array: Array) -> Array:
        """The value as [rows, channels]."""
        return np.ascontiguousarray(array.transpose(self.order)).reshape(self.rows, self.channels)

    def from_rows(self, rows: Array, shape: tuple[int, ...]) -> Array:
        """The value of `shape` from its [rows, channels] form."""
        moved = rows.reshape([shape[d] for d in self.order])
        return np.ascontiguousarray(moved.transpose(np.argsort(self.order))).reshape(shape)


@final
@dataclass(frozen=True, slots=True)
class Region:
    """A value in global memory, one copy per sample in flight.

    Attributes:
        value: name in the graph.
        address: first byte.
        size_bytes: of one copy; copies follow one another.
        chip: whose global memory.
        layout: how the value lies in it.
    """

    value: str
    address: int
    size_bytes: int
    chip: int
    layout: Layout


@final
@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a processor's local memory.

    Attributes:
        processor: whose memory.
        address: first byte.
        size_bytes: length.
        label: what it is for.
        fill: code it is filled with before the first sample (padding), None to leave it undefined.
        dtype: element type of the fill.
    """

    processor: int
    address: int
    size_bytes: int
    label: str
    fill: int | None = None
    dtype: str = "int8"


@final
@dataclass(frozen=True, slots=True)
class Matrix:
    """Weights as they are laid on arrays: codes[rows, columns], already centred.

    Attributes:
        name: the constant they come from.
        codes: integer weights, int8 or int16 (wider where a zero point is taken off).
    """

    name: str
    codes: Array


@final
@dataclass(frozen=True, slots=True)
class Groups:
    """Array groups: crossbars of one processor that share an input vector. Parallel arrays of length g.

    Attributes:
        processor: int32, where the group sits.
        crossbars: int32, arrays in the group.
        matrix: int32, index into `Program.matrices`.
        row_start: int32, first row of the matrix.
        row_stop: int32.
        column_start: int32, first column.
        column_stop: int32.
    """

    processor: Array
    crossbars: Array
    matrix: Array
    row_start: Array
    row_stop: Array
    column_start: Array
    column_stop: Array

    def __len__(self) -> int:
        """Number of groups."""
        return int(self.processor.size)


@final
@dataclass(frozen=True, slots=True, repr=False)
class Program:
    """One compiled network on one machine.

    Attributes:
        name: of the network.
        target: name of the target that made it.
        mode: "latency" or "throughput".
        samples: inputs that one run processes.
        hardware: the machine it was made for.
        graph: the quantised graph; rows name its nodes.
        rows: ROW[n], grouped by processor in issue order.
        stream_ptr: int64[P + 1].
        partner: int32[n], other end of a message or -1.
        dep_ptr: int32[n + 1], dependencies in CSR form.
        dep_row: int32[m].
        dep_distance: int32[m], samples back.
        pattern_ptr: int32[k + 1], gather patterns: segments relative to src1, MASKED ones are not read.
        pattern_offset: int32[s], bytes.
        pattern_length: int32[s], bytes.
        groups: the array groups.
        matrices: the weights.
        regions: global memory map.
        blocks: local memory map.
        notes: figures that the compiler wants reported (replication, bounds, times), by name.
    """

    name: str
    target: str
    mode: str
    samples: int
    hardware: Hardware
    graph: Graph
    rows: Array
    stream_ptr: Array
    partner: Array
    dep_ptr: Array
    dep_row: Array
    dep_distance: Array
    pattern_ptr: Array
    pattern_offset: Array
    pattern_length: Array
    groups: Groups
    matrices: tuple[Matrix, ...]
    regions: tuple[Region, ...]
    blocks: tuple[Block, ...]
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        """Checks shapes and makes the arrays read-only."""
        if self.rows.dtype != ROW:
            raise ProgramError(f"program '{self.name}': rows have dtype {self.rows.dtype}, expected {ROW}")
        for name in ("rows", "stream_ptr", "partner", "dep_ptr", "dep_row", "dep_distance"):
            getattr(self, name).flags.writeable = False
        if self.samples < 1:
            raise ProgramError(f"program '{self.name}': {self.samples} samples found, at least 1 expected")

    def __repr__(self) -> str:
        """A line; `pimloom.program.text.print_program` says all of it."""
        how = f"{self.target}, {self.mode}, {self.samples} sample{'' if self.samples == 1 else 's'}"
        return f"<Program '{self.name}' for '{self.hardware.name}' ({how}): {self.n_rows} rows on {self.n_processors} processors>"

    @property
    def n_processors(self) -> int:
        """Number of streams."""
        return int(self.stream_ptr.size) - 1

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return int(self.rows.size)

    def instructions(self) -> int:
        """Instructions carried out per sample: repetitions of all rows."""
        return int(self.rows["count"].sum())
