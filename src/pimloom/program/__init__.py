"""The Program: one instruction table for every target, with its instruction set and the resources it holds."""

from pimloom.program.crossbar import crossbar_of
from pimloom.program.isa import INSTRUCTIONS, OPCODES, Instruction, opcode
from pimloom.program.machine import Costs, Forms, IssueRules, Machine, Resources
from pimloom.program.machines import MACHINES, costs_of
from pimloom.program.program import Block, Groups, Layout, Matrix, Program, Region
from pimloom.program.rows import DEFAULTS, FIELDS, MASKED, ROW, ragged
from pimloom.program.save import load_program, save_program
from pimloom.program.text import parse_program, print_instruction_set, print_program, weights_by_digest
from pimloom.program.verify import verify_program

__all__ = [
    "DEFAULTS", "FIELDS", "INSTRUCTIONS", "MACHINES", "MASKED", "OPCODES", "ROW",
    "Block", "Costs", "Forms", "Groups", "Instruction", "IssueRules", "Layout", "Machine", "Matrix", "Program", "Region", "Resources",
    "costs_of", "crossbar_of", "load_program", "opcode", "parse_program", "print_instruction_set", "print_program", "ragged",
    "save_program", "verify_program", "weights_by_digest",
]  # fmt: skip
