"""Estimates for machines that do one thing at a time: near pimsim-nn's instructions, and by them the work is shared out."""

from __future__ import annotations

import numpy as np
import pytest
from targets.conformance import compiled, machine
from targets.crossbar.networks import quantised

from pimloom.hardware import CrossbarHardware
from pimloom.program import INSTRUCTIONS, OPCODES, Program
from pimloom.program.pimsim.export import export_with_cycles
from pimloom.scheduling import split_rows
from pimloom.targets import Mode
from pimloom.targets.crossbar.mapper import Mapper
from pimloom.targets.crossbar.serial import SerialWork


def pieces_of(name: str, mode: Mode = Mode.LATENCY) -> tuple[Program, SerialWork]:
    graph, hardware = quantised(name), machine("pimcomp-default")
    assert isinstance(hardware, CrossbarHardware)
    mapper = Mapper(graph, hardware, mode)
    return split_rows(compiled(graph, hardware, mode)), SerialWork(mapper.flow, hardware, mapper.unfolded)


@pytest.mark.parametrize("name", ["tiny_cnn", "residual", "squeeze excite", "wide conv"])
def test_rows_take_about_what_their_instructions_take(name: str) -> None:
    pieces, work = pieces_of(name)
    estimated, taken = work.row_cycles(pieces), export_with_cycles(pieces)[1]
    names = np.array([row.name for row in INSTRUCTIONS])[pieces.rows["opcode"]]
    assert 0.75 < estimated.sum() / taken.sum() < 1.25
    for kind in set(names.tolist()) & {"mvm", "finish", "vector", "stencil", "pool"}:
        assert 0.5 < estimated[names == kind].sum() / taken[names == kind].sum() < 1.7, kind


def test_the_global_memory_is_busy_for_its_beats() -> None:
    pieces, work = pieces_of("tiny_cnn")
    memory = work._hardware.global_memory
    expected = 0
    for row in pieces.rows:
        if row["opcode"] in (OPCODES["load"], OPCODES["store"]):
            beat = memory.read_beat_cycles if row["opcode"] == OPCODES["load"] else memory.write_beat_cycles
            expected += -(-int(row["length"]) * int(row["count"]) // memory.width_bytes) * beat
    assert work.memory_cycles(pieces) == expected > 0


def test_a_window_has_its_products_its_codes_and_what_follows() -> None:
    """1 x 1 convolution on one array with an addition behind it: both kinds of vector instructions are part of a window."""
    graph, hardware = quantised("residual"), machine("pimcomp-default")
    assert isinstance(hardware, CrossbarHardware)
    mapper = Mapper(graph, hardware, Mode.LATENCY)
    work = SerialWork(mapper.flow, hardware, mapper.unfolded)
    stages = [s for s in mapper.flow.stages if s.index in mapper.unfolded]
    plain = {s.index: work.window_cycles(s.index) - work._following[s.index] / (s.shape.rows * s.shape.width) for s in stages}
    assert any(work._following[s.index] > 0 for s in stages)
    assert all(cycles > hardware.crossbar.mvm_cycles(8) for cycles in plain.values())
    assert sum(work._following.values()) == pytest.approx(
        sum(
            s.shape.rows * s.shape.width * work._vector_cycles(s, s.shape.channels)
            for s in mapper.flow.stages
            if s.index not in mapper.unfolded and s.inputs[0].value not in graph.inputs
        )
    )


def test_copies_are_dealt_out_by_these_estimates_and_the_bound_is_not_made_of_them() -> None:
    graph, hardware = quantised("residual"), machine("pimcomp-default")
    assert isinstance(hardware, CrossbarHardware)
    mapper = Mapper(graph, hardware, Mode.LATENCY)
    work = SerialWork(mapper.flow, hardware, mapper.unfolded)
    assert {i: d.window_time for i, d in mapper._wanted.items()} == {i: work.window_cycles(i) for i in mapper._wanted}
    assert sum(d.rows * d.width * d.window_time for d in mapper._wanted.values()) / hardware.total_cores > mapper.bottleneck_cycles
