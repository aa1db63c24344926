"""How long machines work on a network that do one thing at a time: every vector instruction goes through memory by itself.

There the port of the local memory, not the arrays, takes most of the time of layers with many channels: a sum is written, read for
the addition and for each of the steps that make a code of it, and the stages that follow a layer to its cores add their own. Copies
and cores are chosen by these estimates. They count the vector instructions of `program/pimsim`, in the widths that sums
mostly have; the machine's own costs, where several steps are one instruction, differ by less than they would without.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final, final

import numpy as np

from pimloom.hardware import CrossbarHardware
from pimloom.program import INSTRUCTIONS, OPCODES, Program
from pimloom.scheduling import idle_cycles
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage
from pimloom.targets.crossbar.unfold import Unfolded

Array = np.ndarray[Any, np.dtype[Any]]

ISSUE_CYCLES: Final = 5
"""What an instruction takes beside its work."""

MOST_BYTES: Final = 8
"""Of a number."""

_VECTOR_ROWS: Final = ("mvm", "finish", "add_partial", "accumulate", "vector", "pool", "stencil")
"""Rows that are made of several instructions."""


@final
class SerialWork:
    """Cycles that stages and rows take of cores that do one thing at a time."""

    def __init__(self, flow: Dataflow, hardware: CrossbarHardware, unfolded: Mapping[int, Unfolded]) -> None:
        """Takes the stages and, by stage with weights, how these lie on arrays."""
        self._flow, self._hardware, self._unfolded = flow, hardware, unfolded
        self._following = self._followers()

    def row_cycles(self, program: Program) -> Array:
        """int64[n]: what each row of a program takes when nothing waits and every step is an instruction of its own."""
        rows, names = program.rows, [row.name for row in INSTRUCTIONS]
        found = idle_cycles(program)
        stages = {stage.node: stage for stage in self._flow.stages}
        is_known = np.isin(rows["opcode"], [OPCODES[name] for name in _VECTOR_ROWS]) & np.isin(rows["node"], list(stages))
        at = np.flatnonzero(is_known)
        kinds, of = np.unique(np.stack([rows[field][at] for field in ("opcode", "node", "length")], axis=1), axis=0, return_inverse=True)
        cycles = np.array([self._row_cycles(names[code], stages[node], length) for code, node, length in kinds.tolist()], np.float64)
        found[at] = cycles[of.ravel()] * rows["count"][at]
        return found

    def memory_cycles(self, program: Program) -> int:
        """Cycles per sample in which the ports of the global memory are busy, shared out evenly."""
        memory, rows = self._hardware.global_memory, program.rows
        size = rows["length"].astype(np.int64) * rows["count"]
        total = 0
        for name, beat_cycles in (("load", memory.read_beat_cycles), ("store", memory.write_beat_cycles)):
            total += int((-(-size[rows["opcode"] == OPCODES[name]] // memory.width_bytes)).sum()) * beat_cycles
        return total // memory.ports

    def _row_cycles(self, name: str, stage: Stage, n: int) -> float:
        """Cycles of one repetition of a row that makes n elements."""
        item = self._item(stage)
        sums = 2 * item + 1
        if name == "mvm":
            return self._product_cycles(n, item)
        if name == "finish":
            return self._rescaled(n, item)
        if name == "add_partial":
            return self._operation(n, (sums, sums), sums)
        if name == "accumulate":
            return self._operation(n, (item,), sums) + self._operation(n, (sums, sums), sums)
        return self._vector_cycles(stage, n)

    def window_cycles(self, index: int) -> float:
        """Cycles of one window of a stage with weights on one copy, its part of the stages that follow it included."""
        stage, unfolded = self._flow.stages[index], self._unfolded[index]
        item = self._item(stage)
        groups = sum(len(block.bands) for block in unfolded.blocks)
        channels = max(1, stage.shape.channels // max(len(unfolded.blocks), 1))
        gathered = unfolded.costs.gather_beats * self._hardware.core.local_memory.read_beat_cycles
        own = groups * self._product_cycles(channels, item) + gathered + self._rescaled(stage.shape.channels, item)
        return own + self._following[index] / max(stage.shape.rows * stage.shape.width, 1)

    def _product_cycles(self, channels: int, item: int) -> float:
        """Cycles of a product with the weights of an array group, added to the sums."""
        crossbar, memory, sums = self._hardware.crossbar, self._hardware.core.local_memory, 2 * item + 1
        columns = -(-channels // crossbar.cols) * crossbar.cols
        product = crossbar.mvm_cycles(8 * item) + self._beats(8 * crossbar.rows) * memory.read_beat_cycles
        return product + self._operation(columns, (), sums) + self._operation(channels, (sums, sums), sums)

    def _followers(self) -> dict[int, float]:
        """Cycles per sample of the stages without weights, by the stage with weights to whose cores they follow."""
        host: dict[str, dict[int, float]] = {}
        following: defaultdict[int, float] = defaultdict(float)
        for stage in self._flow.stages:
            if stage.kind is Kind.MATRIX:
                host[stage.output] = {stage.index: 1.0}
                continue
            if stage.kind is Kind.GENERAL:
                continue
            shares: defaultdict[int, float] = defaultdict(float)
            pieces = self._flow.sources(stage.inputs[0].value)
            for piece in pieces:
                for index, share in host.get(piece.source, {}).items():
                    shares[index] += share * piece.n / sum(p.n for p in pieces)
            host[stage.output] = shares
            work = stage.shape.rows * stage.shape.width * self._vector_cycles(stage, stage.shape.channels)
            for index, share in shares.items():
                following[index] += share * work
        return following

    def _vector_cycles(self, stage: Stage, n: int) -> float:
        """Cycles of one output vector of n channels of a stage without weights."""
        item, taps = self._item(stage), math.prod(stage.window.kernel)
        sums = 2 * item + 1
        added = self._operation(n, (sums, sums), sums)
        if stage.kind is Kind.STENCIL:
            return taps * (self._operation(n, (item, item), sums) + added) + self._rescaled(n, item)
        if stage.kind is Kind.POOL and self._flow.graph.nodes[stage.node].op == "MaxPool":
            return (taps - 1) * self._operation(n, (item, item), item)
        if stage.kind in (Kind.POOL, Kind.MEAN):
            count = taps if stage.kind is Kind.POOL else stage.inputs[0].shape.rows * stage.inputs[0].shape.width
            return count * (self._operation(n, (item,), sums) + added) + self._rescaled(n, item)
        wide, total = 2 * item, 4 * item
        operand = self._operation(n, (item,), wide) + self._operation(n, (wide, wide), total) + self._operation(n, (total, total), total)
        return len(stage.inputs) * operand + self._operation(n, (total, total), wide) + self._clamped(n, item)

    def _rescaled(self, n: int, item: int) -> float:
        """Cycles for codes of sums: multiplied, shifted and clamped."""
        sums = 2 * item + 1
        product = min(MOST_BYTES, 2 * sums)
        return self._operation(n, (sums, sums), product) + self._operation(n, (product, product), 2 * item) + self._clamped(n, item)

    def _clamped(self, n: int, item: int) -> float:
        return self._operation(n, (2 * item,), 2 * item) + self._operation(n, (2 * item,), item)

    def _operation(self, n: int, read_bytes: tuple[int, ...], written_bytes: int) -> float:
        """Cycles of a vector instruction on n elements, given the bytes of an element of each operand and of the result."""
        unit, memory = self._hardware.core.vector_unit, self._hardware.core.local_memory
        read = sum(self._beats(n * size) for size in read_bytes) * memory.read_beat_cycles
        computed = -(-n // unit.lanes) * unit.beat_cycles if read_bytes else 0
        return ISSUE_CYCLES + read + computed + self._beats(n * written_bytes) * memory.write_beat_cycles

    def _beats(self, size_bytes: int) -> int:
        return -(-size_bytes // self._hardware.core.local_memory.width_bytes)

    def _item(self, stage: Stage) -> int:
        return self._flow.graph.types[stage.output].itemsize_bytes
