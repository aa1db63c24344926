"""Unfolding: how the weights of a layer become a matrix on arrays.

The five unfoldings of a convolution with I input and O output channels and a K x K kernel (Sun et al., TCAD 2024,
Table IV), told apart by what happens to each kernel axis: its taps are gathered into the input vector (`row`), kept
apart as parallel matrices (`parallel`), or spread over the columns so that one input vector gives partial outputs
of several positions (`column`).

| name | y axis | x axis | matrix (rows, columns, count) |
|---|---|---|---|
| `window` | row | row | (I K K, O, 1) |
| `line` | parallel | row | (I K, O, K) |
| `pixel` | parallel | parallel | (I, O, K K) |
| `line-scatter` | column | row | (I K, O K, 1) |
| `pixel-scatter` | column | column | (I, O K K, 1) |

`window`, `line` and `pixel` take one MVM burst per output window and differ in where the rows are cut into array groups:
anywhere, at kernel rows, at taps. The scatter forms are costed for comparison but not chosen: they add K or K*K
partial sums per output in the vector unit, which never paid on the machines we have (docs/targets/crossbar.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.hardware import CrossbarHardware
from pimloom.ir.graph import Graph
from pimloom.program.rows import Array
from pimloom.targets.crossbar.stages import Stage


@final
@dataclass(frozen=True, slots=True)
class Unfolding:
    """A row of the table: what happens to the taps of each kernel axis."""

    name: str
    y_axis: str
    x_axis: str

    @property
    def is_lowered(self) -> bool:
        """Whether the lowering can emit it."""
        return "column" not in (self.y_axis, self.x_axis)


UNFOLDINGS: tuple[Unfolding, ...] = (
    Unfolding("window", "row", "row"),
    Unfolding("line", "parallel", "row"),
    Unfolding("pixel", "parallel", "parallel"),
    Unfolding("line-scatter", "column", "row"),
    Unfolding("pixel-scatter", "column", "column"),
)


@final
@dataclass(frozen=True, slots=True)
class Band:
    """Rows of a block that one array group holds: matrix rows [start, stop), taps in (y, x, channel) order."""

    start: int
    stop: int


@final
@dataclass(frozen=True, slots=True)
class BlockShape:
    """A dense matrix of a layer: all of it, or a bundle of channel groups laid block-diagonally.

    Attributes:
        in_start: first input channel.
        in_channels: input channels; the rows are taps x in_channels.
        out_start: first output channel.
        out_channels: output channels; the columns.
        bands: row cuts.
        n_tiles: crossbars side by side that the columns need.
    """

    in_start: int
    in_channels: int
    out_start: int
    out_channels: int
    bands: tuple[Band, ...]
    n_tiles: int


@final
@dataclass(frozen=True, slots=True)
class Costs:
    """What an unfolding costs, per copy and output window.

    Attributes:
        crossbars: arrays that one copy takes.
        mvms: MVM instructions per window.
        gather_beats: beats of the local memory to read the inputs.
        scatter_adds: element additions beyond one per column and group.
    """

    crossbars: int
    mvms: int
    gather_beats: int
    scatter_adds: int


@final
@dataclass(frozen=True, slots=True)
class Unfolded:
    """A layer ready to be mapped: blocks of rows and columns."""

    unfolding: Unfolding
    blocks: tuple[BlockShape, ...]
    costs: Costs
    columns_per_tile: int

    @property
    def crossbars(self) -> int:
        """Arrays of one copy."""
        return self.costs.crossbars


def weight_bits(graph: Graph, weight: str) -> int:
    """Bits of a weight code; a centred unsigned code needs one more and is laid out as the next wider type."""
    value_type = graph.types[weight]
    bits = 8 * value_type.itemsize_bytes
    return 16 if bits == 8 and value_type.quant is not None and value_type.quant.zero_point != 0 else bits


def unfold(stage: Stage, graph: Graph, hardware: CrossbarHardware, only: str = "") -> Unfolded:
    """The cheapest lowered unfolding of a layer: fewest crossbars, then fewest memory beats.

    Args:
        stage: a MATRIX stage.
        graph: its graph.
        hardware: the machine.
        only: name of the one unfolding to consider, for ablations.
    """
    candidates = [u for u in UNFOLDINGS if u.is_lowered and only in ("", u.name)]
    made = [_unfold_as(stage, graph, hardware, u) for u in candidates]
    return min(made, key=lambda m: (m.costs.crossbars, m.costs.gather_beats, m.costs.mvms))


def _unfold_as(stage: Stage, graph: Graph, hardware: CrossbarHardware, unfolding: Unfolding) -> Unfolded:
    node = graph.nodes[stage.node]
    per_tile = hardware.crossbar.logical_cols(weight_bits(graph, node.inputs[1]))
    channels, outputs = stage.inputs[0].shape.channels, stage.shape.channels
    taps = math.prod(stage.window.kernel)
    bundle = _groups_per_block(stage.groups, channels // stage.groups, outputs // stage.groups, taps, hardware.crossbar.rows, per_tile)
    blocks = tuple(
        BlockShape(
            first * channels // stage.groups,
            count * channels // stage.groups,
            first * outputs // stage.groups,
            count * outputs // stage.groups,
            _bands(stage, count * channels // stage.groups, hardware.crossbar.rows, unfolding),
            -(-(count * outputs // stage.groups) // per_tile),
        )
        for first in range(0, stage.groups, bundle)
        for count in (min(bundle, stage.groups - first),)
    )
    item = graph.types[stage.inputs[0].value].itemsize_bytes
    width = hardware.core.local_memory.width_bytes
    beats = sum(_band_beats(stage, b.in_channels, band, item, width) for b in blocks for band in b.bands)
    crossbars = sum(b.n_tiles * len(b.bands) for b in blocks)
    return Unfolded(unfolding, blocks, Costs(crossbars, sum(len(b.bands) for b in blocks), beats, 0), per_tile)


def scatter_costs(stage: Stage, graph: Graph, hardware: CrossbarHardware, unfolding: Unfolding) -> Costs:
    """Costs of a scatter unfolding of an ungrouped layer, for comparison (per input vector, which it needs one pass for)."""
    node = graph.nodes[stage.node]
    per_tile = hardware.crossbar.logical_cols(weight_bits(graph, node.inputs[1]))
    ky, kx = stage.window.kernel
    rows = stage.inputs[0].shape.channels * (kx if unfolding.x_axis == "row" else 1)
    spread = ky * (kx if unfolding.x_axis == "column" else 1)
    bands = -(-rows // hardware.crossbar.rows)
    item = graph.types[stage.inputs[0].value].itemsize_bytes
    beats = -(-rows * item // hardware.core.local_memory.width_bytes)
    tiles = -(-stage.shape.channels * spread // per_tile)
    return Costs(bands * tiles, bands, beats, (spread - 1) * stage.shape.channels)


def _groups_per_block(groups: int, inputs: int, outputs: int, taps: int, array_rows: int, per_tile: int) -> int:
    """Channel groups bundled into one block: as many as share one crossbar without waste."""
    if groups == 1:
        return 1
    by_rows = array_rows // max(inputs * taps, 1)
    by_columns = per_tile // max(outputs, 1)
    return max(1, min(groups, by_rows, by_columns))


def _bands(stage: Stage, channels: int, array_rows: int, unfolding: Unfolding) -> tuple[Band, ...]:
    ky, kx = stage.window.kernel
    total = ky * kx * channels
    unit = total
    if unfolding.y_axis == "parallel":
        unit = channels if unfolding.x_axis == "parallel" else kx * channels
    return tuple(
        Band(start, min(start + array_rows, first + unit))
        for first in range(0, total, unit)
        for start in range(first, first + unit, array_rows)
    )


def band_segments(stage: Stage, channels: int, band: Band) -> list[tuple[int, int, int, int]]:
    """Runs of contiguous input that a band gathers: (kernel row, kernel column, channel, elements).

    Taps of one kernel row are contiguous if the layer is not dilated and takes all channels of its input.
    """
    kx = stage.window.kernel[1]
    whole = channels == stage.inputs[0].shape.channels and stage.window.dilation[1] == 1
    run = kx * channels if whole else channels
    segments: list[tuple[int, int, int, int]] = []
    position = band.start
    while position < band.stop:
        end = min(band.stop, (position // run + 1) * run)
        tap, channel = divmod(position, channels)
        segments.append((tap // kx, tap % kx, channel, end - position))
        position = end
    return segments


def _band_beats(stage: Stage, channels: int, band: Band, item: int, width: int) -> int:
    return sum(-(-n * item // width) for _, _, _, n in band_segments(stage, channels, band))


def matrix_of(stage: Stage, graph: Graph, block: BlockShape) -> Array:
    """Centred weight codes of a block: int[rows, columns], rows in (kernel row, kernel column, channel) order."""
    node = graph.nodes[stage.node]
    value_type = graph.types[node.inputs[1]]
    codes = graph.constants[node.inputs[1]].array()
    zero = value_type.quant.zero_point if value_type.quant else 0
    if node.op == "Linear":
        return _centred(codes, zero)
    weights = codes if codes.ndim == 4 else codes[:, :, None, :]
    ky, kx = stage.window.kernel
    inputs, outputs = stage.inputs[0].shape.channels // stage.groups, stage.shape.channels // stage.groups
    chosen = _centred(weights[block.out_start : block.out_start + block.out_channels], zero)
    if block.out_channels == outputs or stage.groups == 1:
        return np.ascontiguousarray(chosen.transpose(2, 3, 1, 0)).reshape(-1, block.out_channels)
    matrix = np.zeros((ky, kx, block.in_channels, block.out_channels), chosen.dtype)
    for g in range(block.out_channels // outputs):
        part = chosen[g * outputs : (g + 1) * outputs].transpose(2, 3, 1, 0)
        matrix[:, :, g * inputs : (g + 1) * inputs, g * outputs : (g + 1) * outputs] = part
    return matrix.reshape(-1, block.out_channels)


def _centred(codes: Array, zero: int) -> Array:
    return codes if zero == 0 else codes.astype(np.int32) - zero
