"""The Program: one instruction table for every target, with its instruction set and the resources it holds."""

from pimloom.program.isa import INSTRUCTIONS, OPCODES, CostContext, Costs, Instruction, fill_costs, opcode
from pimloom.program.program import Block, Groups, Layout, Matrix, Program, Region
from pimloom.program.resources import COMPONENTS, CoreResources
from pimloom.program.rows import DEFAULTS, FIELDS, MASKED, ROW, ragged

__all__ = [
    "COMPONENTS", "DEFAULTS", "FIELDS", "INSTRUCTIONS", "MASKED", "OPCODES", "ROW",
    "Block", "CoreResources", "CostContext", "Costs", "Groups", "Instruction", "Layout", "Matrix", "Program", "Region",
    "fill_costs", "opcode", "ragged",
]  # fmt: skip
