"""pimloom compiles neural networks to processing-in-memory hardware, simulates, executes and verifies the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from pimloom.api import Analog, Compiled, compile, hardware, load, load_compiled, quantise, run

__version__ = "0.1.0"

_FROM_API = ("Analog", "Compiled", "compile", "hardware", "load", "load_compiled", "quantise", "run")


def __getattr__(name: str) -> Any:
    """Loads the interface at its first use: `pimloom --help` needs neither Numba nor ONNX."""
    if name in _FROM_API:
        import pimloom.api

        return getattr(pimloom.api, name)
    raise AttributeError(f"module 'pimloom' has no attribute '{name}'")


__all__ = [
    "Analog", "CapacityError", "Compiled", "HardwareError", "ModelError", "PimloomError", "ProgramError", "SimulationError",
    "UsageError", "VerificationError",
    "compile", "hardware", "load", "load_compiled", "quantise", "run",
]  # fmt: skip
