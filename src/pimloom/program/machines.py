"""The kinds of machine that programs can be timed on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from pimloom.errors import ProgramError
from pimloom.ir.ops import op_of
from pimloom.program.crossbar import CROSSBAR
from pimloom.program.isa import INSTRUCTIONS
from pimloom.program.machine import CostContext, Costs, Machine, Resources, per_pattern
from pimloom.program.pimsim.machine import PIMSIM
from pimloom.program.program import Program
from pimloom.program.rows import MASKED
from pimloom.program.sram import SRAM
from pimloom.program.widths import code_bytes, sum_bytes

MACHINES: Mapping[str, Machine] = MappingProxyType({machine.kind: machine for machine in (CROSSBAR, SRAM, PIMSIM)})
"""Kind of hardware -> what it tells the engines."""


def costs_of(program: Program) -> CostContext[Any, Resources]:
    """Works out what every row of a program takes and holds.

    Raises:
        ProgramError: an opcode that the kind of machine cannot run.
    """
    machine = MACHINES[program.hardware.kind]
    resources = machine.resources(program)
    graph, segments = program.graph, np.where(program.pattern_offset != MASKED, program.pattern_length, 0).astype(np.int64)
    held = frozenset(region.value for region in program.regions)
    context: CostContext[Any, Resources] = CostContext(
        program=program,
        hardware=program.hardware,
        resources=resources,
        rules=machine.rules(program.hardware),
        costs=Costs.empty(program.n_rows),
        gather_bytes=per_pattern(program, segments),
        sum_bytes=np.array([sum_bytes(graph, node) for node in graph.nodes] + [4], np.int32),
        code_bytes=np.array([code_bytes(graph, node, held) for node in graph.nodes] + [(1, 1, 1)], np.int32),
        work=np.array([max(op_of(node).work, 1.0) for node in graph.nodes] + [1.0]),
    )
    opcodes = np.ascontiguousarray(program.rows["opcode"])
    for code in np.flatnonzero(np.bincount(opcodes)).tolist():
        name = INSTRUCTIONS[code].name
        if name not in machine.costs:
            expected = f"one of {', '.join(machine.costs)} expected on '{program.hardware.name}'"
            raise ProgramError(f"program '{program.name}': instruction '{name}' found, {expected}")
        machine.costs[name](context, np.flatnonzero(opcodes == code))
    return context


__all__ = ["MACHINES", "costs_of"]
