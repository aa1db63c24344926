"""Lowering: from placed stages to the instruction table.

Steps: cut every cluster's rows into tasks (`tasks`); time them (`timetable`); give each operand of each core a ring (`rings`); lay
out the local memories (`memory`); emit each task's instructions (`compute`) and each row's transfers (`transfers`) with their place
in the global order, and what they wait for (`links`); sort each core's instructions by that place; number them (`emission`).
"""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import final

import numpy as np

from pimloom.errors import CapacityError
from pimloom.hardware import CrossbarHardware
from pimloom.program import Groups, Matrix, Program, Region, ragged
from pimloom.targets.crossbar.compute import Compute
from pimloom.targets.crossbar.emission import Emission
from pimloom.targets.crossbar.links import Links
from pimloom.targets.crossbar.memory import Memory
from pimloom.targets.crossbar.placement import Placement
from pimloom.targets.crossbar.scope import Options as Options
from pimloom.targets.crossbar.scope import Scope
from pimloom.targets.crossbar.stages import Dataflow, Kind, Stage
from pimloom.targets.crossbar.tasks import Work
from pimloom.targets.crossbar.transfers import Transfers
from pimloom.targets.crossbar.unfold import Unfolded, matrix_of


@contextmanager
def uncollected() -> Iterator[None]:
    """Keeps the garbage collector from going through millions of small objects again and again, none of which it would free.

    It starts again with all that was made meanwhile: what is not needed any more should be gone by then.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


Held = dict[tuple[str, int, int, int, int], Matrix]
"""Matrices by the name of their weights, their first input channel, input channels, first output channel and output channels."""


@final
@dataclass(frozen=True, slots=True)
class Rows:
    """What a lowering emits.

    Attributes:
        emitted: instructions.
        compute: what tasks compute, and the gather patterns.
        transfers: what moves.
    """

    emitted: Emission
    compute: Compute
    transfers: Transfers


@final
class Lowering:
    """Lowers one placed network: `plan`, then `emit` if everything has room."""

    def __init__(
        self, flow: Dataflow, hardware: CrossbarHardware, unfolded: Mapping[int, Unfolded], placement: Placement, options: Options,
        shares: Mapping[int, float] | None = None, windowed: Collection[int] = (), kept: Collection[str] = (),
    ) -> None:  # fmt: skip
        """See `Scope`."""
        self.scope = Scope(flow, hardware, unfolded, placement, options, shares, windowed, kept)
        self.work = Work(self.scope)
        self.memory = Memory(self.scope, self.work)
        self.regions: dict[str, Region] = {}

    def plan(self) -> dict[int, int]:
        """Times and lays out everything; returns the cores whose memory is too small, with the bytes they need."""
        with uncollected():
            self.work.cut()
            self.work.schedule(self.memory.rings)
            full = self.memory.lay_out()
        self._layout_global()
        return full

    def emit(self, held: Held | None = None) -> Program:
        """The program; `plan` must have found room for everything.

        Args:
            held: see `weights`.
        """
        with uncollected():
            rows = self.emit_rows({value: i for i, value in enumerate(self.regions)})
            return self._assemble(rows.emitted, list(rows.compute.patterns), {} if held is None else held)

    def emit_rows(self, region_index: Mapping[str, int]) -> Rows:
        """The instructions, given the number of each value's region; `plan` must have found room for everything."""
        scope, work, memory, emitted = self.scope, self.work, self.memory, Emission()
        compute = Compute(scope, work, memory, emitted)
        compute.emit()
        transfers = Transfers(scope, work, memory, compute, emitted, region_index)
        transfers.emit()
        Links(scope, work, memory, compute, transfers, emitted).emit()
        return Rows(emitted, compute, transfers)

    def _layout_global(self) -> None:
        address = [0] * self.scope.hardware.chips
        for value in sorted(self.scope.in_memory, key=list(self.scope.graph.types).index):
            value_type, stage = self.scope.graph.types[value], self.scope.stage_of.get(value)
            chip = 0
            if stage is not None and self.scope.of_stage[stage.index]:
                chip = self.scope.clusters[self.scope.of_stage[stage.index][0]].core // self.scope.hardware.chip.cores
            size = -(-value_type.size_bytes // 64) * 64
            copies = 1 if value in self.scope.graph.constants else self.scope.options.samples
            self.regions[value] = Region(value, address[chip], size, chip, self.scope.flow.layouts[value])
            address[chip] += size * copies
        for chip, used in enumerate(address):
            if used > self.scope.hardware.global_memory.size_bytes:
                raise CapacityError(
                    f"global memory of chip {chip} (bytes)", used, self.scope.hardware.global_memory.size_bytes, self.scope.hardware.name,
                    "use a smaller batch or a machine with more global memory",
                )  # fmt: skip

    def _assemble(self, emitted: Emission, segments: list[tuple[tuple[int, int], ...]], held: Held) -> Program:
        table = emitted.table(self.scope.hardware.total_cores, self.memory.period)
        pattern_ptr, pattern_offset = ragged([[o for o, _ in s] for s in segments])
        groups, matrices = self.weights(held)
        scope = self.scope
        return Program(
            name=scope.graph.name, target="crossbar", mode=scope.options.mode, samples=scope.options.samples, hardware=scope.hardware,
            graph=scope.graph, rows=table.rows, stream_ptr=table.stream_ptr, partner=table.partner, dep_ptr=table.dep_ptr,
            dep_row=table.dep_row, dep_distance=table.dep_distance,
            pattern_ptr=pattern_ptr, pattern_offset=pattern_offset, pattern_length=ragged([[n for _, n in s] for s in segments])[1],
            groups=groups, matrices=matrices, regions=tuple(self.regions.values()), blocks=tuple(self.memory.blocks),
        )  # fmt: skip

    def weights(self, held: Held) -> tuple[Groups, tuple[Matrix, ...]]:
        """The array groups, and the matrices that they hold parts of.

        Args:
            held: matrices of other lowerings of the network, which need not be made again; those made here are added.
        """
        owner: dict[str, Stage] = {}
        for stage in self.scope.flow.stages:
            if stage.kind is Kind.MATRIX:
                owner.setdefault(self.scope.graph.nodes[stage.node].inputs[1], stage)
        index: dict[tuple[str, int], int] = {}
        matrices: list[Matrix] = []
        for key, stage in owner.items():
            for b, block in enumerate(self.scope.unfolded[stage.index].blocks):
                index[key, b] = len(matrices)
                place = (key, block.in_start, block.in_channels, block.out_start, block.out_channels)
                if place not in held:
                    held[place] = Matrix(key, matrix_of(stage, self.scope.graph, block))
                matrices.append(held[place])
        fields: list[tuple[int, ...]] = []
        for group in self.scope.placement.groups:
            band = self.scope.unfolded[owner[group.key].index].blocks[group.block].bands[group.band]
            fields.append((
                group.core, group.crossbars, index[group.key, group.block], band.start, band.stop, group.column_start, group.column_stop,
            ))  # fmt: skip
        columns = np.array(fields, np.int32).reshape(-1, 7).T
        return Groups(*(np.ascontiguousarray(c) for c in columns)), tuple(matrices)
