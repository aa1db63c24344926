"""pimloom compiles neural networks to processing-in-memory hardware, simulates, executes and verifies the result."""

from pimloom.api import Compiled, compile, hardware, load, load_compiled, run  # noqa: A004
from pimloom.errors import (
    CapacityError,
    HardwareError,
    ModelError,
    PimloomError,
    ProgramError,
    SimulationError,
    UsageError,
    VerificationError,
)

__version__ = "0.1.0"

__all__ = [
    "CapacityError", "Compiled", "HardwareError", "ModelError", "PimloomError", "ProgramError", "SimulationError", "UsageError",
    "VerificationError",
    "compile", "hardware", "load", "load_compiled", "run",
]  # fmt: skip
