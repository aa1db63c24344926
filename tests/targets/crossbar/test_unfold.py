"""Unfolding: bands hold every row once, matrices are the explicit im2col, the table of unfoldings is as published."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from targets.crossbar.networks import codes, quantised

from pimloom.hardware import load_hardware
from pimloom.ir.evaluate import evaluate
from pimloom.targets.crossbar.stages import Kind, Stage, analyse
from pimloom.targets.crossbar.unfold import UNFOLDINGS, Unfolded, band_segments, matrix_of, scatter_costs, unfold

LAYERED = ["tiny_cnn", "tiny_mlp", "dilated", "grouped", "multiplier", "asymmetric pads", "1d", "wide", "wide conv", "three images"]
TOY = load_hardware("toy")
LOWERED = [u.name for u in UNFOLDINGS if u.is_lowered]


def layers(name: str, only: str = "") -> list[tuple[Stage, Unfolded]]:
    graph = quantised(name)
    return [(s, unfold(s, graph, TOY, only)) for s in analyse(graph).stages if s.kind is Kind.MATRIX]


@pytest.mark.parametrize("only", ["", *LOWERED])
@pytest.mark.parametrize("name", LAYERED)
def test_bands_and_segments_hold_every_row_once(name: str, only: str) -> None:
    for stage, unfolded in layers(name, only):
        ky, kx = stage.window.kernel
        for block in unfolded.blocks:
            rows = [row for band in block.bands for row in range(band.start, band.stop)]
            assert rows == list(range(ky * kx * block.in_channels))
            assert all(0 < band.stop - band.start <= TOY.crossbar.rows for band in block.bands)
            gathered: list[tuple[int, int, int]] = []
            for band in block.bands:
                segments = band_segments(stage, block.in_channels, band)
                assert sum(n for *_, n in segments) == band.stop - band.start
                for y, x, channel, n in segments:
                    flat = [(x * block.in_channels + channel + i) for i in range(n)]
                    gathered += [(y, f // block.in_channels, f % block.in_channels) for f in flat]
            assert gathered == list(itertools.product(range(ky), range(kx), range(block.in_channels)))


@pytest.mark.parametrize("name", LAYERED)
def test_blocks_hold_every_channel_once(name: str) -> None:
    for stage, unfolded in layers(name):
        ends = np.cumsum([0] + [b.out_channels for b in unfolded.blocks])
        assert [b.out_start for b in unfolded.blocks] == list(ends[:-1]) and ends[-1] == stage.shape.channels
        ends = np.cumsum([0] + [b.in_channels for b in unfolded.blocks])
        assert [b.in_start for b in unfolded.blocks] == list(ends[:-1]) and ends[-1] == stage.inputs[0].shape.channels
        assert unfolded.crossbars == sum(b.n_tiles * len(b.bands) for b in unfolded.blocks)
        assert all(b.n_tiles == math.ceil(b.out_channels / unfolded.columns_per_tile) for b in unfolded.blocks)


@pytest.mark.parametrize("name", ["tiny_cnn", "dilated", "grouped", "multiplier", "asymmetric pads", "1d", "three images"])
def test_matrix_times_im2col_is_the_convolution(name: str) -> None:
    """Explicit windows of the input times the matrices, plus the bias, rescaled, are the layer's codes."""
    graph = quantised(name)
    flow = analyse(graph)
    stage = next(s for s in flow.stages if s.kind is Kind.MATRIX)
    node = graph.nodes[stage.node]
    given = codes(graph)[stage.inputs[0].value]
    data = given if given.ndim == 4 else given[:, :, None, :]
    quant = graph.types[node.inputs[1]].quant
    weights = graph.constants[node.inputs[1]].array().astype(np.int64) - (quant.zero_point if quant else 0)
    weights = weights if weights.ndim == 4 else weights[:, :, None, :]
    sums = _direct(stage, data.astype(np.int64) - stage.inputs[0].fill, weights)
    for block in unfold(stage, graph, TOY).blocks:
        part = _im2col(stage, data.astype(np.int64) - stage.inputs[0].fill, block.in_start, block.in_channels)
        made = part @ matrix_of(stage, graph, block).astype(np.int64)
        assert np.array_equal(made, sums[:, block.out_start : block.out_start + block.out_channels])
    assert evaluate(graph, codes(graph))


def _tap(stage: Stage, padded: np.ndarray, y: int, x: int) -> np.ndarray:
    """[images, channels, rows, width] of the input that a tap of the kernel meets."""
    w, out = stage.window, stage.shape
    rows = out.rows // out.images
    low_y, low_x = y * w.dilation[0], x * w.dilation[1]
    return padded[:, :, low_y : low_y + rows * w.stride[0] : w.stride[0], low_x : low_x + out.width * w.stride[1] : w.stride[1]]


def _padded(stage: Stage, data: np.ndarray) -> np.ndarray:
    w, out = stage.window, stage.shape
    far = [(out.rows // out.images - 1) * w.stride[0] + w.reach(0), (out.width - 1) * w.stride[1] + w.reach(1)]
    after = [max(f - w.padding[i] - data.shape[2 + i], 0) for i, f in enumerate(far)]
    return np.pad(data, ((0, 0), (0, 0), (w.padding[0], after[0]), (w.padding[1], after[1])))


def _im2col(stage: Stage, data: np.ndarray, first: int, channels: int) -> np.ndarray:
    padded = _padded(stage, data[:, first : first + channels])
    ky, kx = stage.window.kernel
    taps = [_tap(stage, padded, y, x) for y in range(ky) for x in range(kx)]
    return np.stack(taps, axis=1).transpose(0, 3, 4, 1, 2).reshape(-1, ky * kx * channels)


def _direct(stage: Stage, data: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The convolution by its definition: int64[pixels, outputs]."""
    padded, (ky, kx) = _padded(stage, data), stage.window.kernel
    n, per_group = weights.shape[0], weights.shape[0] // stage.groups
    total = np.zeros((stage.shape.images, n, stage.shape.rows // stage.shape.images, stage.shape.width), np.int64)
    for out, y, x in itertools.product(range(n), range(ky), range(kx)):
        low = out // per_group * weights.shape[1]
        met = _tap(stage, padded, y, x)[:, low : low + weights.shape[1]]
        total[:, out] += (met * weights[out, :, y, x][None, :, None, None]).sum(axis=1)
    return total.transpose(0, 2, 3, 1).reshape(-1, n)


def test_table_of_unfoldings() -> None:
    """Array rows and MVMs of a 3 x 3 layer of 40 inputs and 70 outputs on 32 x 16 arrays, from the published formulas."""
    graph = quantised("wide conv")
    stage = next(s for s in analyse(graph).stages if s.window.kernel == (3, 3))
    tiles = math.ceil(70 / 16)
    expected = {"window": math.ceil(360 / 32), "line": 3 * math.ceil(120 / 32), "pixel": 9 * math.ceil(40 / 32)}
    for name, bands in expected.items():
        costs = unfold(stage, graph, TOY, name).costs
        assert (costs.mvms, costs.crossbars, costs.scatter_adds) == (bands, bands * tiles, 0)
    by_name = {u.name: u for u in UNFOLDINGS}
    line = scatter_costs(stage, graph, TOY, by_name["line-scatter"])
    assert (line.mvms, line.crossbars, line.scatter_adds) == (4, 4 * math.ceil(210 / 16), 2 * 70)
    pixel = scatter_costs(stage, graph, TOY, by_name["pixel-scatter"])
    assert (pixel.mvms, pixel.crossbars, pixel.scatter_adds) == (2, 2 * math.ceil(630 / 16), 8 * 70)
    assert unfold(stage, graph, TOY).crossbars == min(b * tiles for b in expected.values())
