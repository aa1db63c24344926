"""Working out what the rows of a program take and hold on a machine."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from pimloom.errors import ProgramError
from pimloom.ir.ops import op_of
from pimloom.program.isa import INSTRUCTIONS, OPCODES
from pimloom.program.machine import CostContext, Costs, Forms, Machine, Resources, per_pattern
from pimloom.program.program import Program
from pimloom.program.rows import FIELDS, MASKED
from pimloom.program.widths import code_bytes, sum_bytes

ALWAYS_APART: Final = ("opcode", "node", "stage", "count")
"""Fields in which the rows of a form are equal on any machine: reports add up by node, and forms tell what rows do, how often."""


def work_out(program: Program, machine: Machine, *, with_forms: bool = True) -> CostContext[Any, Resources]:
    """Works out what every row of a program takes and holds.

    Args:
        program: the program.
        machine: the kind of its machine.
        with_forms: whether rows that are alike share their costs; the result is the same.

    Raises:
        ProgramError: an opcode that the kind of machine cannot run.
    """
    resources = machine.resources(program)
    graph, segments = program.graph, np.where(program.pattern_offset != MASKED, program.pattern_length, 0).astype(np.int64)
    held = frozenset(region.value for region in program.regions)
    beside = machine.beside(program) if machine.beside else np.zeros(program.n_rows, np.int64)
    shares = with_forms and machine.reads is not None
    forms = Forms.of(program, fields_read(machine), beside) if shares else Forms.single(program.n_rows)
    rows = program.rows[forms.first]
    context: CostContext[Any, Resources] = CostContext(
        program=program,
        forms=forms,
        rows=rows,
        beside=beside[forms.first],
        hardware=program.hardware,
        resources=resources,
        rules=machine.rules(program.hardware),
        costs=Costs.empty(forms.first.size),
        gather_bytes=per_pattern(program, segments),
        sum_bytes=np.array([sum_bytes(graph, node) for node in graph.nodes] + [4], np.int32),
        code_bytes=np.array([code_bytes(graph, node, held) for node in graph.nodes] + [(1, 1, 1)], np.int32),
        work=np.array([max(op_of(node).work, 1.0) for node in graph.nodes] + [1.0]),
    )
    opcodes = np.ascontiguousarray(rows["opcode"])
    for code in np.flatnonzero(np.bincount(opcodes)).tolist():
        name = INSTRUCTIONS[code].name
        if name not in machine.costs:
            expected = f"one of {', '.join(machine.costs)} expected on '{program.hardware.name}'"
            raise ProgramError(f"program '{program.name}': instruction '{name}' found, {expected}")
        machine.costs[name](context, np.flatnonzero(opcodes == code))
    return context


def fields_read(machine: Machine) -> dict[int, tuple[str, ...]]:
    """Opcode to the fields that make a form, for all opcodes that a machine runs.

    An opcode whose fields are not known has all.
    """
    reads = machine.reads or {}
    return {OPCODES[name]: (*ALWAYS_APART, *reads[name]) if name in reads else FIELDS for name in machine.costs}
