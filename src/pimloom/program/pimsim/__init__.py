"""Reading pimsim-nn's files: programs, architectures, networks."""

from pimloom.hardware.pimsim import MatrixPart, MemoryPart, Quirks
from pimloom.program.pimsim.architecture import Architecture, NetworkTable, read_architecture, read_network
from pimloom.program.pimsim.check import check_addresses, check_widths
from pimloom.program.pimsim.hazards import Dependencies, element_bytes, hazards, output_elements
from pimloom.program.pimsim.messages import check_messages, pair_messages
from pimloom.program.pimsim.reader import read_program
from pimloom.program.pimsim.table import PimsimProgram

__all__ = [
    "Architecture", "Dependencies", "MatrixPart", "MemoryPart", "NetworkTable", "PimsimProgram", "Quirks",
    "check_addresses", "check_messages", "check_widths", "element_bytes", "hazards", "output_elements", "pair_messages",
    "read_architecture", "read_network", "read_program",
]  # fmt: skip
