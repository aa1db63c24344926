"""The Program: one instruction table for every target, with its instruction set and the resources it holds."""

from pimloom.program.isa import INSTRUCTIONS, OPCODES, CostContext, Costs, Instruction, fill_costs, opcode
from pimloom.program.program import Block, Groups, Layout, Matrix, Program, Region
from pimloom.program.resources import COMPONENTS, CoreResources
from pimloom.program.rows import DEFAULTS, FIELDS, MASKED, ROW, ragged
from pimloom.program.save import load_program, save_program
from pimloom.program.text import parse_program, print_instruction_set, print_program, weights_by_digest
from pimloom.program.verify import verify_program

__all__ = [
    "COMPONENTS", "DEFAULTS", "FIELDS", "INSTRUCTIONS", "MASKED", "OPCODES", "ROW",
    "Block", "CoreResources", "CostContext", "Costs", "Groups", "Instruction", "Layout", "Matrix", "Program", "Region",
    "fill_costs", "load_program", "opcode", "parse_program", "print_instruction_set", "print_program", "ragged", "save_program",
    "verify_program", "weights_by_digest",
]  # fmt: skip
