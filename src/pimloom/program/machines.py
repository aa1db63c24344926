"""The kinds of machine that programs can be timed on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pimloom.program.costing import work_out
from pimloom.program.crossbar import CROSSBAR
from pimloom.program.machine import CostContext, Machine, Resources
from pimloom.program.pimsim.machine import PIMSIM
from pimloom.program.program import Program
from pimloom.program.sram import SRAM

MACHINES: Mapping[str, Machine] = MappingProxyType({machine.kind: machine for machine in (CROSSBAR, SRAM, PIMSIM)})
"""Kind of hardware -> what it tells the engines."""


def costs_of(program: Program) -> CostContext[Any, Resources]:
    """Works out what every row of a program takes and holds.

    Raises:
        ProgramError: an opcode that the kind of machine cannot run.
    """
    return work_out(program, MACHINES[program.hardware.kind])


__all__ = ["MACHINES", "costs_of"]
