"""The analog model of crossbars: cells with varying conductance, sums of columns, ADCs of few bits.

One array group multiplies a window of codes by its part of a matrix (`slices.py` says how both become levels):

    cell       = level * exp(cell_noise * g)                          g normal, drawn once for each cell
    sum[k, c]  = sum over the rows driven at once of slice[k] * cell[c]     for each input slice k and column c
    code[k, c] = clip(round(sum / step + read_noise_lsb * g), 0, top)       g normal, drawn for each conversion
    result     = round(step * sum over k, c of weight[k] * weight[c] * code[k, c]) + exact terms

Where signs are stored `flipped`, a column whose cells add up to more than half of what they can is stored as its complement
and its sums are taken off the sum of the inputs, which halves the largest sum (ISAAC, section V).

Conductances are rounded to a power of two that is fine enough to be of no effect and coarse enough for every sum to be exact
in the floats that BLAS adds: the same seed gives the same bits on any computer, whatever the order of additions.

Lognormal conductances: "Device quantization policy in variation-aware in-memory computing design", Scientific Reports 2022.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.errors import UsageError
from pimloom.execute.slices import CellPlanes, InputSlices, cell_planes, input_slices
from pimloom.hardware import Crossbar, CrossbarHardware
from pimloom.program import Program
from pimloom.program.rows import Array

MOST_ADC_BITS = 32
MOST_CELL_NOISE = 2.0
MOST_READ_NOISE_LSB = 1e6
MOST_SEED = 2**32 - 1

_CELLS, _READS = 0, 1  # which stream of random numbers
_FLOAT32_BITS, _FLOAT64_BITS = 23, 52
_LEAST_GRAIN_BITS, _MOST_GRAIN_BITS = 6, 24
_CHUNK = 1 << 18  # conversions held at once: their arrays stay in the cache


@final
@dataclass(frozen=True, slots=True)
class Analog:
    """The conditions of an analog execution.

    Attributes:
        adc_bits: resolution of the ADCs; 0 for the machine's own.
        adc_range: full scale of the ADCs, as a share of the largest sum that a column can give. Less than 1 gives a finer
            step, and sums beyond it are clipped.
        cell_noise: standard deviation of the natural logarithm of a cell's conductance over its nominal one.
        read_noise_lsb: standard deviation of the noise of each conversion, in steps of the ADC.
        seed: of both noises.
    """

    adc_bits: int = 0
    adc_range: float = 1.0
    cell_noise: float = 0.0
    read_noise_lsb: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses values out of range."""
        for name, most in (("adc_bits", MOST_ADC_BITS), ("seed", MOST_SEED)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
                raise UsageError(f"analog: {name}: {value!r} found, a whole number from 0 to {most} expected")
        for name, most in (("adc_range", 1.0), ("cell_noise", MOST_CELL_NOISE), ("read_noise_lsb", MOST_READ_NOISE_LSB)):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= most:
                raise UsageError(f"analog: {name}: {value!r} found, a number from 0 to {most:g} expected")
        if self.adc_range == 0:
            raise UsageError("analog: adc_range: 0 found, a share above 0 expected; 1 converts every sum without clipping")


@final
@dataclass(frozen=True, slots=True)
class Converter:
    """An ADC: `code = clip(round(sum / step), 0, top)`.

    A step is never finer than one unit (one input level times one cell level): beyond that more bits tell nothing, and with
    enough of them every sum without noise is converted to itself.

    Attributes:
        bits: resolution.
        full_scale: largest sum that is told apart from larger ones, in units.
        step: units per code.
        top: largest code.
    """

    bits: int
    full_scale: float
    step: float
    top: int


def converter(crossbar: Crossbar, analog: Analog) -> Converter:
    """The ADC of a machine's arrays under given conditions."""
    bits = analog.adc_bits or crossbar.adc_bits
    full_scale, most = analog.adc_range * crossbar.largest_column_sum, (1 << bits) - 1
    if full_scale <= most:
        top = max(1, math.ceil(full_scale))
        return Converter(bits, float(top), 1.0, top)
    return Converter(bits, full_scale, full_scale / most, most)


@final
@dataclass(frozen=True, slots=True)
class Load:
    """What the ADCs saw of one node.

    Attributes:
        node: its name.
        conversions: how many they made.
        clipped: how many sums were beyond the full scale.
        peak: largest sum over the full scale, before noise of the conversion.
    """

    node: str
    conversions: int
    clipped: int
    peak: float

    @property
    def clipped_share(self) -> float:
        """Share of the conversions that were clipped."""
        return self.clipped / self.conversions if self.conversions else 0.0


@final
@dataclass(frozen=True, slots=True)
class _Columns:
    """One array group as it is stored; c = columns of the matrix times planes, q = sets of rows driven at once.

    Attributes:
        cells: float32 or float64[rows, c], conductances in units of one level.
        weights: float64[q, c], what a code counts in the sum; its sign is turned where a column is flipped.
        flip_gain: int64[q, columns], what the sum of the inputs counts for the flipped columns.
        sums: int64[columns], sums of the weights.
    """

    cells: Array
    weights: Array
    flip_gain: Array
    sums: Array


@final
class AnalogArrays:
    """The crossbars of a program under given conditions; they keep count of what their ADCs saw."""

    def __init__(self, program: Program, analog: Analog) -> None:
        """Takes the program's machine and matrices.

        Raises:
            UsageError: the machine has no analog arrays.
        """
        machine = program.hardware
        if not isinstance(machine, CrossbarHardware):
            found = f"machine '{machine.name}' of kind '{machine.kind}'"
            raise UsageError(f"analog: {found} found, one of kind 'crossbar' expected; only crossbars compute with currents")
        self.analog, self.crossbar = analog, machine.crossbar
        self.converter = converter(self.crossbar, analog)
        self._program = program
        self._planes = [cell_planes(program.graph.types[matrix.name], self.crossbar) for matrix in program.matrices]
        self._held: dict[tuple[int, ...], _Columns] = {}
        self._reads: dict[int, np.random.Generator] = {}
        self._seen: dict[int, tuple[int, int, float]] = {}

    def loads(self) -> tuple[Load, ...]:
        """What was converted so far, in the order of the graph's nodes."""
        nodes, full_scale = self._program.graph.nodes, self.converter.full_scale
        return tuple(Load(nodes[i].name, n, clipped, peak / full_scale) for i, (n, clipped, peak) in sorted(self._seen.items()))

    def multiply(self, group: int, node: int, codes: Array, input_zero: int) -> Array:
        """Sums int64[windows, columns] of a group for the codes[windows, rows] of a node's input.

        Args:
            group: index of the array group.
            node: index of the node, for the count.
            codes: as gathered.
            input_zero: their zero point.
        """
        slices = input_slices(str(codes.dtype), self.crossbar.dac_bits)
        columns, planes = self._columns(group), self._planes[int(self._program.groups.matrix[group])]
        wide = codes.astype(np.int64)
        levels = slices.cut(wide)
        applied = wide + slices.offset
        exact = -planes.bias * applied.sum(axis=1, keepdims=True) - (slices.offset + input_zero) * columns.sums
        total = np.zeros(exact.shape, np.float64)
        for q, rows in enumerate(self._row_sets(wide.shape[1])):
            exact += applied[:, rows].sum(axis=1, keepdims=True) * columns.flip_gain[q]
            total += self._shift_and_add(group, node, levels[:, :, rows], columns.cells[rows], columns.weights[q], slices)
        return np.rint(self.converter.step * total).astype(np.int64) + exact

    def _row_sets(self, height: int) -> list[slice]:
        at_once = self.crossbar.dac_count
        return [slice(start, min(start + at_once, height)) for start in range(0, height, at_once)]

    def _shift_and_add(self, group: int, node: int, levels: Array, cells: Array, weights: Array, slices: InputSlices) -> Array:
        """Converted sums of one set of rows: float64[windows, columns], whole numbers of steps."""
        n_slices, windows, height = levels.shape
        driven = levels.reshape(n_slices * windows, height).astype(cells.dtype)
        matrix = int(self._program.groups.matrix[group])
        n_planes = len(self._planes[matrix].shifts)
        slice_weights = slices.weights.astype(np.float64)
        width = cells.shape[1]
        result = np.empty((windows, width // n_planes), np.float64)
        chunk = max(1, _CHUNK // (n_slices * windows * n_planes)) * n_planes
        for start in range(0, width, chunk):
            part = slice(start, min(start + chunk, width))
            codes = self._convert(driven @ cells[:, part], group, node)
            by_column = (slice_weights @ codes.reshape(n_slices, -1)).reshape(windows, -1) * weights[part]
            result[:, part.start // n_planes : part.stop // n_planes] = by_column.reshape(windows, -1, n_planes).sum(axis=2)
        return result

    def _convert(self, sums: Array, group: int, node: int) -> Array:
        """Codes as float64 of sums in units."""
        adc, noise = self.converter, self.analog.read_noise_lsb
        peak = float(sums.max(initial=0.0))
        codes = sums.astype(np.float64)
        if adc.step != 1.0:
            codes /= adc.step
        if noise:
            codes += noise * self._read_generator(group).standard_normal(codes.shape, np.float32)
        if noise or adc.step != 1.0 or self.analog.cell_noise:
            np.rint(codes, out=codes)
        is_inside = not noise and peak / adc.step <= adc.top
        clipped = 0 if is_inside else int(np.count_nonzero(codes > adc.top))
        if not is_inside:
            np.clip(codes, 0.0, adc.top, out=codes)
        count, beyond, largest = self._seen.get(node, (0, 0, 0.0))
        self._seen[node] = (count + codes.size, beyond + clipped, max(largest, peak))
        return codes

    def _read_generator(self, group: int) -> np.random.Generator:
        if group not in self._reads:
            self._reads[group] = np.random.default_rng((self.analog.seed, _READS, group))
        return self._reads[group]

    # Cells -------------------------------------------------------------------------------------------------

    def _columns(self, group: int) -> _Columns:
        """The stored group; without noise, copies of the same weights share it."""
        groups = self._program.groups
        ranges = (groups.matrix, groups.row_start, groups.row_stop, groups.column_start, groups.column_stop)
        key = (group,) if self.analog.cell_noise else tuple(int(a[group]) for a in ranges)
        if key not in self._held:
            matrix, row, row_stop, column, column_stop = (int(a[group]) for a in ranges)
            weights = self._program.matrices[matrix].codes[row:row_stop, column:column_stop].astype(np.int64)
            self._held[key] = self._store(weights, self._planes[matrix], group)
        return self._held[key]

    def _store(self, weights: Array, planes: CellPlanes, group: int) -> _Columns:
        cells = planes.cut(weights)
        height, n_columns, n_planes = cells.shape
        row_sets = self._row_sets(height)
        flips = np.zeros((len(row_sets), n_columns, n_planes), np.bool_)
        full = (1 << self.crossbar.cell_bits) - 1
        if self.crossbar.flips_columns:
            for q, rows in enumerate(row_sets):
                flips[q] = 2 * cells[rows].sum(axis=0) > full * cells[rows].shape[0]
                cells[rows] = np.where(flips[q], full - cells[rows], cells[rows])
        flip_gain = (flips * full * planes.weights).sum(axis=2)
        counted = np.where(flips, -planes.weights, planes.weights).astype(np.float64)
        stored = self._conductances(cells.reshape(height, -1), group)
        return _Columns(stored, counted.reshape(len(row_sets), -1), flip_gain, weights.sum(axis=0))

    def _conductances(self, levels: Array, group: int) -> Array:
        """Cells[rows, c] as floats in which every sum of a column is exact."""
        sigma, most_input = self.analog.cell_noise, (1 << self.crossbar.dac_bits) - 1
        if not sigma:
            bits = _bits_of(float(levels.sum(axis=0).max(initial=0)) * most_input)
            return levels.astype(np.float32 if bits <= _FLOAT32_BITS else np.float64)
        drawn = np.random.default_rng((self.analog.seed, _CELLS, group)).standard_normal(levels.shape, np.float32)
        cells = levels * np.exp(np.float32(sigma) * drawn)
        bits = _bits_of(float(cells.sum(axis=0).max(initial=0.0)) * most_input)
        dtype = np.float32 if bits + _LEAST_GRAIN_BITS <= _FLOAT32_BITS else np.float64
        grain = 2.0 ** min((_FLOAT32_BITS if dtype is np.float32 else _FLOAT64_BITS) - bits, _MOST_GRAIN_BITS)
        return (np.rint(cells * grain) / grain).astype(dtype)


def _bits_of(largest: float) -> int:
    """Bits before the point of sums up to `largest`, with room for the rounding of each term."""
    return math.frexp(largest + 1.0)[1]


__all__ = ["Analog", "AnalogArrays", "Converter", "Load", "converter"]
